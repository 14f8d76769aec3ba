"""Who is online, with how many sessions, under which name."""

from __future__ import annotations

from agora.frames import WATCH_ALL, ListedPeer, Watched
from agora.keys import PeerId
from agora.protocol.relay.actions import SessionId
from agora.protocol.relay.presence import Presence
from agora.testing.conversation import keys_of

ALICE, BOB, CAROL = (keys_of(name).peer_id for name in ("alice", "bob", "carol"))
ABSENT_CAROL = ListedPeer(CAROL, is_online=False)
S1, S2, S3 = SessionId("1"), SessionId("2"), SessionId("3")


def join(
    presence: Presence,
    session: SessionId,
    peer: PeerId,
    name: str | None = None,
    now: float = 0.0,
    *,
    can_watch: bool = False,
) -> bool:
    return presence.join(session, peer, name, now, can_watch=can_watch)


def test_only_a_peers_first_session_makes_it_come() -> None:
    presence = Presence()

    assert [join(presence, S1, ALICE), join(presence, S2, ALICE)] == [
        True,
        False,
    ]
    assert len(presence) == 1


def test_only_a_peers_last_session_makes_it_go() -> None:
    presence = Presence()
    join(presence, S1, ALICE)
    join(presence, S2, ALICE)

    assert presence.leave(S1, ALICE) is None
    gone = presence.leave(S2, ALICE)
    assert gone is not None
    assert gone.public_key == ALICE
    assert ALICE not in presence


def test_the_name_is_that_of_the_latest_session_that_gave_one() -> None:
    presence = Presence()
    join(presence, S1, ALICE, "Al")
    join(presence, S2, ALICE, "Alice")
    join(presence, S3, ALICE)

    assert presence.name_of(ALICE) == "Alice"


def test_whoever_is_away_has_no_name_and_no_sessions() -> None:
    presence = Presence()

    assert presence.name_of(ALICE) is None
    assert presence.sessions_of(ALICE) == ()
    assert presence.sessions_of("anything") == ()


def test_others_are_everyone_else_in_the_order_they_came() -> None:
    presence = Presence()
    join(presence, S1, CAROL)
    join(presence, S2, ALICE)
    join(presence, S3, BOB)

    assert [entry.public_key for entry in presence.others(ALICE)] == [CAROL, BOB]
    assert presence.sessions_of_others(ALICE) == (S1, S3)


def test_whoever_comes_back_is_the_last_to_have_come() -> None:
    presence = Presence()
    join(presence, S1, ALICE)
    join(presence, S2, BOB)
    presence.leave(S1, ALICE)
    join(presence, S3, ALICE)

    assert [entry.public_key for entry in presence.others(CAROL)] == [BOB, ALICE]


def test_storage_peers_are_listed_behind_those_online_while_they_are_away() -> None:
    presence = Presence([CAROL, BOB, CAROL])
    join(presence, S1, BOB, "Bob")

    assert presence.listed_for(ALICE) == [ListedPeer(BOB, "Bob"), ABSENT_CAROL]


def test_nobody_is_listed_to_themselves() -> None:
    presence = Presence([CAROL])
    join(presence, S1, ALICE)

    assert presence.listed_for(ALICE) == [ABSENT_CAROL]
    assert presence.listed_for(CAROL) == [ListedPeer(ALICE)]


def test_who_sends_something_was_seen_then() -> None:
    presence = Presence()
    join(presence, S1, ALICE, None, 1.0)

    presence.saw(ALICE, 7.0)

    assert presence.entry(ALICE).last_seen == 7.0


def test_who_only_sends_was_seen_nowhere() -> None:
    presence = Presence()

    presence.saw(ALICE, 7.0)

    assert ALICE not in presence
    assert presence.find(ALICE) is None


def test_only_who_cannot_watch_is_told_of_everyone() -> None:
    presence = Presence()
    join(presence, S1, ALICE)
    join(presence, S2, ALICE, can_watch=True)
    join(presence, S3, BOB)

    assert presence.sessions_to_tell(CAROL) == (S1, S3)
    assert presence.sessions_to_tell(ALICE) == (S3,)


def test_who_has_left_is_told_of_nobody() -> None:
    presence = Presence()
    join(presence, S1, ALICE)

    presence.leave(S1, ALICE)

    assert presence.sessions_to_tell(BOB) == ()


def test_who_watches_everyone_is_listed_what_others_are() -> None:
    presence = Presence([CAROL])
    join(presence, S1, BOB, "Bob")

    assert presence.watched_for(ALICE, WATCH_ALL) == presence.listed_for(ALICE)


def test_who_watches_some_is_listed_these_alone() -> None:
    presence = Presence([CAROL])
    join(presence, S1, BOB)

    assert presence.watched_for(ALICE, Watched(peers=frozenset([BOB]))) == [ListedPeer(BOB)]
    assert presence.watched_for(ALICE, Watched(peers=frozenset([CAROL]))) == [ABSENT_CAROL]
    assert presence.watched_for(ALICE, Watched()) == []
