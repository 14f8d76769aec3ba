"""Who is online, with how many sessions, under which name."""

from __future__ import annotations

from agora.frames import ListedPeer
from agora.protocol.actions import SessionId
from agora.protocol.presence import Presence
from agora.testing.conversation import keys_of

ALICE, BOB, CAROL = (keys_of(name).peer_id for name in ("alice", "bob", "carol"))
S1, S2, S3 = SessionId("1"), SessionId("2"), SessionId("3")


def test_only_a_peers_first_session_makes_it_come() -> None:
    presence = Presence()

    assert [presence.join(S1, ALICE, None, 0.0), presence.join(S2, ALICE, None, 0.0)] == [
        True,
        False,
    ]
    assert len(presence) == 1


def test_only_a_peers_last_session_makes_it_go() -> None:
    presence = Presence()
    presence.join(S1, ALICE, None, 0.0)
    presence.join(S2, ALICE, None, 0.0)

    assert presence.leave(S1, ALICE) is None
    gone = presence.leave(S2, ALICE)
    assert gone is not None
    assert gone.public_key == ALICE
    assert ALICE not in presence


def test_the_name_is_that_of_the_latest_session_that_gave_one() -> None:
    presence = Presence()
    presence.join(S1, ALICE, "Al", 0.0)
    presence.join(S2, ALICE, "Alice", 0.0)
    presence.join(S3, ALICE, None, 0.0)

    assert presence.name_of(ALICE) == "Alice"


def test_whoever_is_away_has_no_name_and_no_sessions() -> None:
    presence = Presence()

    assert presence.name_of(ALICE) is None
    assert presence.sessions_of(ALICE) == ()
    assert presence.sessions_of("anything") == ()


def test_others_are_everyone_else_in_the_order_they_came() -> None:
    presence = Presence()
    presence.join(S1, CAROL, None, 0.0)
    presence.join(S2, ALICE, None, 0.0)
    presence.join(S3, BOB, None, 0.0)

    assert [entry.public_key for entry in presence.others(ALICE)] == [CAROL, BOB]
    assert presence.sessions_of_others(ALICE) == (S1, S3)


def test_whoever_comes_back_is_the_last_to_have_come() -> None:
    presence = Presence()
    presence.join(S1, ALICE, None, 0.0)
    presence.join(S2, BOB, None, 0.0)
    presence.leave(S1, ALICE)
    presence.join(S3, ALICE, None, 0.0)

    assert [entry.public_key for entry in presence.others(CAROL)] == [BOB, ALICE]


def test_storage_peers_are_listed_behind_those_online_while_they_are_away() -> None:
    presence = Presence([CAROL, BOB, CAROL])
    presence.join(S1, BOB, "Bob", 0.0)

    assert presence.listed_for(ALICE) == [ListedPeer(BOB, "Bob"), ListedPeer(CAROL)]


def test_nobody_is_listed_to_themselves() -> None:
    presence = Presence([CAROL])
    presence.join(S1, ALICE, None, 0.0)

    assert presence.listed_for(ALICE) == [ListedPeer(CAROL)]
    assert presence.listed_for(CAROL) == [ListedPeer(ALICE)]


def test_who_sends_something_was_seen_then() -> None:
    presence = Presence()
    presence.join(S1, ALICE, None, 1.0)

    presence.saw(ALICE, 7.0)

    assert presence.entry(ALICE).last_seen == 7.0
