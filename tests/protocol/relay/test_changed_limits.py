"""A relay that is given other limits while it runs: for who is there, and for who comes."""

from __future__ import annotations

from agora.codes import CloseCode
from agora.limits import Limits
from agora.testing.conversation import Conversation


def test_open_sessions_get_the_new_rate() -> None:
    talk = Conversation(rate_limit_max_messages=1)
    alice, bob = talk.meet("alice", "bob")
    alice.sends(bob, "one")
    alice.sends(bob, "too many")
    before = alice.hears()

    talk.node.change_limits(Limits(rate_limit_max_messages=3))
    for number in range(3):
        alice.sends(bob, number)

    assert before == ["error rate_limited"]
    assert alice.hears() == ["error rate_limited"]  # the first counts still


def test_open_sessions_get_the_new_rate_of_frames() -> None:
    talk = Conversation()
    [alice] = talk.meet("alice")

    talk.node.change_limits(Limits(rate_limit_max_frames=1))
    for _ in range(2):
        alice.says('{"type":"nonsense"}')

    assert alice.hears()[-1] == "error rate_limited"


def test_a_heart_that_did_not_beat_begins_to() -> None:
    talk = Conversation(heartbeat_interval=0.0)
    [alice] = talk.meet("alice")
    alice.answers_pings = False

    talk.node.change_limits(Limits(heartbeat_interval=5.0))
    talk.pass_time(5.0)
    talk.pass_time(5.0)

    assert alice.close_code is CloseCode.IDLE


def test_a_full_mailbox_has_room_when_it_may_hold_more() -> None:
    talk = Conversation(storage_peers=["carol"], mailbox_max_messages=1, mailbox_sender_share=1)
    [alice] = talk.meet_proven("alice")
    carol = talk.connect("carol")
    alice.sends(carol, "one")
    alice.sends(carol, "two")
    before = alice.hears()

    talk.node.change_limits(Limits(mailbox_max_messages=2, mailbox_sender_share=1))
    alice.sends(carol, "two, again")

    assert before == ["stored to carol", "error mailbox_full"]
    assert alice.hears() == ["stored to carol"]


def test_what_is_in_a_mailbox_stays_when_it_may_hold_less() -> None:
    talk = Conversation(storage_peers=["carol"])
    [alice] = talk.meet_proven("alice")
    carol = talk.connect("carol")
    for number in range(3):
        alice.sends(carol, number)

    talk.node.change_limits(Limits(mailbox_max_messages=1))
    carol.proves()

    assert carol.hears() == ["registered with alice, 3 pending", "alice: 0", "alice: 1", "alice: 2"]


def test_repeats_are_known_no_more_when_that_is_switched_off() -> None:
    talk = Conversation()
    alice, bob = talk.meet("alice", "bob")
    envelope = alice.sends(bob, "once")

    talk.node.change_limits(Limits(dedup_enabled=False))
    alice.submits(envelope, bob)

    assert len([line for line in bob.hears() if "once" in line]) == 2


def test_who_comes_is_held_to_the_new_limits_and_who_is_here_stays() -> None:
    talk = Conversation()
    [alice] = talk.meet_proven("alice")

    talk.node.change_limits(Limits(max_peers=1))
    bob = talk.join("bob")

    assert bob.hears()[-1] == "error at_capacity"
    assert alice.close_code is None
