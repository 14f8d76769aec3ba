"""Who is online, with how many sessions, under which name."""

from __future__ import annotations

from agora.frames import (
    WATCH_ALL,
    WATCH_NONE,
    ListedPeer,
    Registered,
    Watched,
    decode_answer,
    peer_entries,
)
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
) -> bool:
    return presence.join(session, peer, name, now)


def listed_for(
    presence: Presence, peer: PeerId, watched: Watched = WATCH_ALL, at_most: int | None = None
) -> list[ListedPeer]:
    """Return whom *peer* is listed, read as a client reads it."""
    listing = presence.listing(peer, watched, at_most=at_most)
    entries = peer_entries(listing.online, listing.away, have_state=True)
    answer = decode_answer(f'{{"type":"registered","peers":[{entries}]}}')
    assert isinstance(answer, Registered)
    return [*answer.peers]


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

    assert listed_for(presence, ALICE) == [ListedPeer(BOB, "Bob"), ABSENT_CAROL]


def test_nobody_is_listed_to_themselves() -> None:
    presence = Presence([CAROL])
    join(presence, S1, ALICE)

    assert listed_for(presence, ALICE) == [ABSENT_CAROL]
    assert listed_for(presence, CAROL) == [ListedPeer(ALICE)]


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


def test_who_watches_everyone_is_listed_what_others_are() -> None:
    presence = Presence([CAROL])
    join(presence, S1, BOB, "Bob")

    assert listed_for(presence, ALICE, WATCH_ALL) == [ListedPeer(BOB, "Bob"), ABSENT_CAROL]


def test_who_watches_some_is_listed_these_alone() -> None:
    presence = Presence([CAROL])
    join(presence, S1, BOB)

    assert listed_for(presence, ALICE, Watched(peers=frozenset([BOB]))) == [ListedPeer(BOB)]
    assert listed_for(presence, ALICE, Watched(peers=frozenset([CAROL]))) == [ABSENT_CAROL]
    assert listed_for(presence, ALICE, WATCH_NONE) == []


def test_of_many_the_first_are_listed_and_all_are_counted() -> None:
    presence = Presence([CAROL])
    peers = [keys_of(f"peer {number}").peer_id for number in range(5)]
    for number, peer in enumerate(peers):
        join(presence, SessionId(f"{number}"), peer)

    assert listed_for(presence, ALICE, at_most=2) == [*map(ListedPeer, peers[:2])]
    assert listed_for(presence, peers[0], at_most=2) == [*map(ListedPeer, peers[1:3])]
    assert len(listed_for(presence, ALICE, at_most=6)) == 6
    totals = [presence.listing(peer, at_most=2).total for peer in (ALICE, peers[0], CAROL)]
    assert totals == [6, 5, 5]


def test_of_some_only_these_are_counted() -> None:
    presence = Presence([CAROL])
    join(presence, S1, ALICE)
    join(presence, S2, BOB)
    watched = Watched(peers=frozenset([ALICE, BOB, CAROL]))

    assert presence.listing(ALICE, watched).total == 2
    assert presence.listing(ALICE, WATCH_NONE).total == 0


def test_who_takes_another_name_is_listed_under_it() -> None:
    presence = Presence()
    join(presence, S1, BOB, "Bob")
    join(presence, S2, BOB, "Robert")
    join(presence, S3, BOB)

    assert listed_for(presence, ALICE) == [ListedPeer(BOB, "Robert")]
