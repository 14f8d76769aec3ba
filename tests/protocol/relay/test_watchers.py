"""Who hears of whose coming and going, and in how many frames."""

from __future__ import annotations

from agora.frames import (
    WATCH_ALL,
    WATCH_NONE,
    ListedPeer,
    PresenceAnswer,
    Watched,
    decode_answer,
)
from agora.keys import PeerId
from agora.protocol.relay.actions import SessionId
from agora.protocol.relay.watchers import Watchers
from agora.testing.conversation import Conversation, Speaker, keys_of

ALICE, BOB, CAROL = (keys_of(name).peer_id for name in ("alice", "bob", "carol"))
S1, S2, S3 = SessionId("1"), SessionId("2"), SessionId("3")


def only(*names: str) -> Watched:
    """Return the wish to hear of these peers."""
    return Watched(peers=frozenset(keys_of(name).peer_id for name in names))


# By itself


class Room:
    """Watchers, and who is there."""

    def __init__(self) -> None:
        self.online: dict[PeerId, ListedPeer] = {}
        self.watchers = Watchers(0.1, self.online.get)

    def comes(self, peer: PeerId, name: str | None = None, *, now: float = 0.0) -> None:
        before = self.online.get(peer)
        self.online[peer] = ListedPeer(peer, name)
        self.watchers.note(peer, before, now)

    def goes(self, peer: PeerId, *, now: float = 0.0) -> None:
        self.watchers.note(peer, self.online.pop(peer), now)

    def told(self, *, now: float = 0.1) -> list[tuple[tuple[SessionId, ...], PresenceAnswer]]:
        """Return who is told what when it is *now*."""
        found = []
        for action in self.watchers.pulse(now):
            answer = decode_answer(action.text)
            assert isinstance(answer, PresenceAnswer)
            found.append((action.to, answer))
        return found


def test_changes_are_told_when_they_were_gathered_for_long_enough() -> None:
    room = Room()
    room.watchers.watch(S1, ALICE, WATCH_ALL)
    room.comes(BOB, "Bob", now=1.0)

    assert room.told(now=1.09) == []
    assert room.told(now=1.1) == [((S1,), PresenceAnswer((ListedPeer(BOB, "Bob"),), ()))]
    assert room.told(now=9.0) == []


def test_later_changes_do_not_put_off_the_first() -> None:
    room = Room()
    room.watchers.watch(S1, ALICE, WATCH_ALL)
    room.comes(BOB, now=1.0)

    room.comes(CAROL, now=1.09)

    [(_, answer)] = room.told(now=1.1)
    assert [peer.public_key for peer in answer.online] == [BOB, CAROL]


def test_the_final_state_is_told_and_no_key_twice() -> None:
    room = Room()
    room.comes(BOB)
    room.watchers.watch(S1, ALICE, WATCH_ALL)

    room.goes(BOB)
    room.comes(CAROL)
    room.goes(CAROL)
    room.comes(CAROL, "Carol")

    [(_, answer)] = room.told()
    assert answer == PresenceAnswer((ListedPeer(CAROL, "Carol"),), (BOB,))


def test_who_came_and_went_is_not_mentioned() -> None:
    room = Room()
    room.watchers.watch(S1, ALICE, WATCH_ALL)

    room.comes(BOB)
    room.goes(BOB)

    assert room.told() == []


def test_who_went_and_came_back_is_not_mentioned() -> None:
    room = Room()
    room.comes(BOB)
    room.watchers.watch(S1, ALICE, WATCH_ALL)

    room.goes(BOB)
    room.comes(BOB)

    assert room.told() == []


def test_who_came_back_under_another_name_is_mentioned() -> None:
    room = Room()
    room.comes(BOB, "Bob")
    room.watchers.watch(S1, ALICE, WATCH_ALL)

    room.goes(BOB)
    room.comes(BOB, "Robert")

    [(_, answer)] = room.told()
    assert answer.online == (ListedPeer(BOB, "Robert"),)


def test_everyone_who_watches_everyone_shares_one_text() -> None:
    room = Room()
    room.watchers.watch(S1, ALICE, WATCH_ALL)
    room.watchers.watch(S2, ALICE, WATCH_ALL)

    room.comes(BOB)

    [(sessions, _)] = room.told()
    assert sessions == (S1, S2)


def test_who_watches_some_hears_of_these_alone() -> None:
    room = Room()
    room.watchers.watch(S1, ALICE, only("bob"))
    room.watchers.watch(S2, ALICE, only("bob", "carol"))

    room.comes(BOB)
    room.comes(CAROL)

    told = {
        session: [peer.public_key for peer in answer.online] for (session,), answer in room.told()
    }
    assert told == {S1: [BOB], S2: [BOB, CAROL]}


def test_what_nobody_watches_is_not_even_gathered() -> None:
    room = Room()
    room.watchers.watch(S1, ALICE, only("bob"))

    room.comes(CAROL)
    room.watchers.watch(S1, ALICE, WATCH_ALL)

    assert room.told() == []


def test_who_watches_others_now_hears_of_the_former_no_more() -> None:
    room = Room()
    room.watchers.watch(S1, ALICE, only("bob"))

    room.watchers.watch(S1, ALICE, only("carol"))
    room.comes(BOB)
    room.comes(CAROL)

    [(_, answer)] = room.told()
    assert [peer.public_key for peer in answer.online] == [CAROL]


def test_who_has_left_is_told_nothing() -> None:
    room = Room()
    room.watchers.watch(S1, ALICE, WATCH_ALL)
    room.watchers.watch(S2, ALICE, only("bob"))
    room.comes(BOB)

    room.watchers.unwatch(S1)
    room.watchers.unwatch(S2)
    room.watchers.unwatch(S2)  # once is enough, twice is harmless

    assert room.told() == []


def test_nobody_hears_of_their_own_peer() -> None:
    room = Room()
    room.watchers.watch(S1, ALICE, WATCH_ALL)
    room.watchers.watch(S2, ALICE, only("alice", "bob"))

    room.comes(ALICE)
    assert room.told() == []

    room.goes(ALICE, now=1.0)
    room.comes(BOB, now=1.0)
    assert [answer for _, answer in room.told(now=2.0)] == [
        PresenceAnswer((ListedPeer(BOB),), ())
    ] * 2


def test_who_begins_to_watch_in_between_hears_what_is_otherwise_than_it_was_told() -> None:
    room = Room()
    room.comes(BOB)
    room.watchers.watch(S1, ALICE, WATCH_ALL)
    room.goes(BOB)

    room.watchers.watch(S2, CAROL, WATCH_ALL)  # and is told that he is away
    room.watchers.watch(S3, CAROL, only("bob"))
    room.comes(BOB)

    here = PresenceAnswer((ListedPeer(BOB),), ())
    assert room.told() == [((S2,), here), ((S3,), here)]


def test_who_begins_to_watch_in_between_hears_nothing_of_what_was_before() -> None:
    room = Room()
    room.watchers.watch(S1, ALICE, WATCH_ALL)
    room.comes(BOB)

    room.watchers.watch(S2, CAROL, WATCH_ALL)
    room.watchers.watch(S3, CAROL, only("bob"))

    assert [sessions for sessions, _ in room.told()] == [(S1,)]


def test_who_began_to_watch_in_between_is_told_as_all_are_from_then_on() -> None:
    room = Room()
    room.watchers.watch(S1, ALICE, WATCH_ALL)
    room.comes(BOB)
    room.watchers.watch(S2, CAROL, WATCH_ALL)
    room.told()

    room.goes(BOB, now=1.0)

    assert [sessions for sessions, _ in room.told(now=2.0)] == [(S1, S2)]


def test_any_number_who_watch_the_same_share_one_text() -> None:
    room = Room()
    sessions = tuple(SessionId(f"{number}") for number in range(100))
    for session in sessions:
        room.watchers.watch(session, ALICE, only("bob", "carol"))

    room.comes(BOB)

    [(told, _)] = room.told()
    assert told == sessions


# In a conversation


def frames_to(speaker: Speaker) -> int:
    return len(speaker.texts())


def test_comings_and_goings_are_gathered_into_one_frame() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")

    talk.prove("carol")
    bob.leaves()
    assert alice.hears() == []

    talk.pass_time(0.1)
    assert alice.hears() == ["carol online, bob offline"]


def test_two_hundred_joins_make_a_few_frames() -> None:
    talk = Conversation()
    [alice] = talk.meet_proven("alice")
    others = [talk.prove(f"peer {number}") for number in range(200)]
    talk.pass_time(0.1)

    assert frames_to(alice) == 1
    # Each was registered, told of those who came after it, and of nothing else.
    *before, last = others
    assert {frames_to(other) for other in before} == {2}
    assert frames_to(last) == 1


def test_two_hundred_joins_cost_nothing_to_those_who_do_not_watch() -> None:
    talk = Conversation()
    alice = talk.prove("alice", watched=WATCH_NONE)
    bob = talk.prove("bob", watched=only("peer 7"))
    alice.hears(), bob.hears()

    for number in range(200):
        talk.prove(f"peer {number}", watched=WATCH_NONE)
    talk.pass_time(0.1)

    assert alice.hears() == []
    assert bob.hears() == ["peer 7 online, nobody offline"]


def test_who_joins_is_not_told_again_of_those_it_was_listed() -> None:
    talk = Conversation()
    talk.meet_proven("alice")

    bob = talk.prove("bob")
    talk.pass_time(0.1)

    assert bob.hears() == ["registered with alice"]


def test_a_second_session_is_no_news() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")

    talk.prove("bob")
    bob.leaves()
    talk.pass_time(0.1)

    assert alice.hears() == []


def test_a_new_name_is_news() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")

    talk.connect("bob").proves(name="Bob")
    talk.pass_time(0.1)

    assert alice.answers() == [PresenceAnswer((ListedPeer(bob.id, "Bob"),), ())]


def test_a_mailbox_makes_nobody_online() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")

    bob.leaves()
    alice.sends(bob, "waiting")
    talk.pass_time(0.1)

    assert alice.hears() == ["stored to bob", "nobody online, bob offline"]
    assert talk.prove("carol").hears() == ["registered with alice"]


def test_a_storage_peer_that_is_away_is_listed_as_away() -> None:
    talk = Conversation(storage_peers=["dave"])

    [text] = talk.prove("alice").texts()

    assert f'"peers":[{{"publicKey":"{keys_of("dave").peer_id}","online":false}}]' in text


def test_sessions_of_the_reference_hear_each_change_as_it_happens() -> None:
    talk = Conversation()
    [bob] = talk.meet("bob")

    talk.prove("alice").leaves()

    assert bob.hears() == ["alice is online", "alice is offline"]


def test_who_watches_hears_of_those_in_the_reference_dialect_too() -> None:
    talk = Conversation()
    [alice] = talk.meet_proven("alice")

    talk.join("bob")
    talk.pass_time(0.1)

    assert alice.hears() == ["bob online, nobody offline"]


# Watching others


def test_whoever_watches_is_told_of_the_present_state_at_once() -> None:
    talk = Conversation()
    talk.meet_proven("bob", "carol")
    alice = talk.prove("alice", watched=WATCH_NONE)
    alice.hears()

    alice.watches(only("bob", "dave"))

    [answer] = alice.answers()
    assert answer == PresenceAnswer((ListedPeer(BOB),), (keys_of("dave").peer_id,))


def test_whoever_watches_everyone_is_told_who_is_there() -> None:
    talk = Conversation()
    talk.meet_proven("bob", "carol")
    alice = talk.prove("alice", watched=WATCH_NONE)
    alice.hears()

    alice.watches(WATCH_ALL)

    assert alice.hears() == ["bob, carol online, nobody offline"]


def test_whoever_watches_nobody_is_told_so_and_nothing_after() -> None:
    talk = Conversation()
    [alice] = talk.meet_proven("alice")

    alice.watches(WATCH_NONE)
    talk.prove("bob")
    talk.pass_time(0.1)

    assert alice.hears() == ["nobody online, nobody offline"]


def test_what_is_watched_from_now_on_is_told_from_now_on() -> None:
    talk = Conversation()
    alice = talk.prove("alice", watched=WATCH_NONE)
    alice.watches(only("bob"))
    alice.hears()

    bob = talk.prove("bob")
    talk.prove("carol")
    talk.pass_time(0.1)
    bob.leaves()
    talk.pass_time(0.1)

    assert alice.hears() == ["bob online, nobody offline", "nobody online, bob offline"]


def test_a_wish_that_cannot_be_understood_changes_nothing() -> None:
    talk = Conversation()
    [alice] = talk.meet_proven("alice")

    alice.says({"type": "watch", "presence": ["nobody's key"]})
    talk.prove("bob")
    talk.pass_time(0.1)

    assert alice.hears() == ["error invalid_message", "bob online, nobody offline"]


def test_nobody_watches_more_than_the_bound_by_name() -> None:
    talk = Conversation(max_watched=2)
    [alice] = talk.meet_proven("alice")
    three = Watched(peers=frozenset(keys_of(name).peer_id for name in ("bob", "carol", "dave")))

    alice.watches(three)
    newcomer = talk.connect("erin")
    newcomer.proves(answer=False, watched=three)

    assert (alice.hears(), newcomer.hears()) == (["error invalid_message"],) * 2
