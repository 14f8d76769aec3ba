"""What is kept of mail that was handed over: which, for how long, and what it never does."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from agora.limits import Limits
from agora.mailbox import MailboxBounds, MemoryMailbox, Page
from agora.protocol.relay.actions import Mail
from agora.protocol.relay.policies import MailboxPolicy
from agora.testing.conversation import Conversation, Speaker

HOUR = 3_600.0


def replay(talk: Conversation, peer: Speaker, since_ms: int = 0) -> list[str]:
    """Return what is told of the acked mail of *peer*, the oldest first."""
    told: list[str] = []

    def done(result: Page | Exception) -> None:
        assert isinstance(result, Page), result
        told.extend(json.loads(mail.text)["payload"] for mail in result.mail)

    talk.node.replay(
        peer.id, since_ms=since_ms, after=0, max_messages=100, max_bytes=10**6, done=done
    )
    talk.settle()
    return told


# What is handed over


def test_a_live_message_is_retained_when_it_was_acked_and_not_before() -> None:
    talk = Conversation(retain=HOUR)
    alice, bob = talk.meet_proven("alice", "bob")

    envelope = alice.sends(bob, "hi")
    before = replay(talk, bob)
    bob.acks(envelope)

    assert (before, replay(talk, bob)) == ([], ["hi"])
    assert alice.hears() == ["delivered to bob"]
    assert replay(talk, alice) == []


def test_a_stored_message_is_retained_when_it_was_acked() -> None:
    talk = Conversation(retain=HOUR)
    alice, bob = talk.meet_proven("alice", "bob")
    envelope = alice.sends(bob, "hi")
    talk.pass_time(5)

    bob.acks(envelope)

    assert alice.hears() == ["stored to bob"]
    assert (replay(talk, bob), talk.mailbox.count(bob.id)) == (["hi"], (0, 0))


def test_what_is_acked_while_it_is_being_stored_is_retained_once() -> None:
    talk = Conversation(retain=HOUR)
    alice, bob = talk.meet_proven("alice", "bob")
    envelope = alice.sends(bob, "hi")

    with talk.busy_disk():
        talk.pass_time(5)
        bob.acks(envelope)
        bob.acks(envelope)

    assert replay(talk, bob) == ["hi"]


def test_each_recipient_of_one_envelope_has_a_copy_of_its_own() -> None:
    talk = Conversation(retain=HOUR)
    alice, bob, carol = talk.meet_proven("alice", "bob", "carol")
    envelope = alice.seals([bob.id, carol.id], "both")
    alice.submits(envelope, bob)
    alice.submits(envelope, carol)

    bob.acks(envelope)

    assert (replay(talk, bob), replay(talk, carol)) == (["both"], [])


def test_without_mailboxes_what_was_acked_is_retained_all_the_same() -> None:
    talk = Conversation(retain=HOUR, mailboxes=MailboxPolicy.NONE)
    alice, bob = talk.meet_proven("alice", "bob")

    bob.acks(alice.sends(bob, "hi"))

    assert replay(talk, bob) == ["hi"]


def test_who_cannot_ack_has_what_a_pong_came_behind() -> None:
    talk = Conversation(retain=HOUR, storage_peers=["bob"])
    alice, bob = talk.join("alice"), talk.join("bob")
    bob.answers_pings = False
    alice.sends(bob, "hi")
    talk.settle()
    before = replay(talk, bob)

    bob.answers_pings = True
    alice.sends(bob, "there")
    talk.settle()

    assert (before, replay(talk, bob)) == ([], ["hi", "there"])


def test_of_who_cannot_ack_and_has_no_mailbox_nothing_is_known_and_nothing_retained() -> None:
    talk = Conversation(retain=HOUR)
    alice, bob = talk.meet("alice", "bob")

    alice.sends(bob, "hi")

    assert bob.hears() == ["alice: hi"]
    assert replay(talk, bob) == []


def test_a_broadcast_is_acked_by_nobody_and_not_retained() -> None:
    talk = Conversation(retain=HOUR)
    alice, bob = talk.meet_proven("alice", "bob")

    bob.acks(alice.broadcasts("all"))

    assert replay(talk, bob) == []


def test_what_expired_unread_is_not_retained() -> None:
    talk = Conversation(retain=HOUR, mailbox_max_age=60.0)
    alice, bob = talk.meet_proven("alice", "bob")
    alice.sends(bob, "too late")
    talk.pass_time(5)

    talk.pass_time(120)
    talk.pass_time(60)

    assert talk.mailbox.count(bob.id) == (0, 0)
    assert replay(talk, bob) == []


def test_nothing_is_retained_where_that_is_not_asked_for() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    live = alice.sends(bob, "live")
    with talk.busy_disk():
        bob.acks(live)

        assert talk.disk.waiting == 0
    stored = alice.sends(bob, "stored")
    talk.pass_time(5)
    bob.acks(stored)

    assert talk.mailbox.totals(largest=0).retained == 0


# What it never does


def test_what_is_retained_is_not_delivered_again() -> None:
    talk = Conversation(retain=HOUR)
    alice, bob = talk.meet_proven("alice", "bob")
    bob.acks(alice.sends(bob, "live"))
    stored = alice.sends(bob, "stored")
    talk.pass_time(5)
    bob.acks(stored)

    talk.restart()
    back = talk.prove("bob")

    assert replay(talk, back) == ["live", "stored"]
    assert [line for line in back.hears() if ": " in line] == []


def test_a_repeat_of_what_is_retained_is_known_after_a_restart() -> None:
    talk = Conversation(retain=HOUR)
    alice, bob = talk.meet_proven("alice", "bob")
    envelope = alice.sends(bob, "hi")
    bob.acks(envelope)
    talk.restart()
    again = talk.prove("alice")
    again.hears()

    again.submits(envelope, bob)

    assert again.hears() == ["duplicate to bob"]
    assert talk.mailbox.count(bob.id) == (0, 0)


# For how long


def test_what_is_retained_is_gone_when_its_time_is_over() -> None:
    talk = Conversation(retain=100.0)
    alice, bob = talk.meet_proven("alice", "bob")
    bob.acks(alice.sends(bob, "first"))
    talk.pass_time(50)
    bob.acks(alice.sends(bob, "second"))

    talk.pass_time(50)
    on_time = replay(talk, bob)
    talk.pass_time(1)
    late = replay(talk, bob)
    talk.pass_time(60)

    assert (on_time, late) == (["first", "second"], ["second"])
    assert talk.mailbox.totals(largest=0).retained == 0


def test_a_replay_begins_at_the_moment_that_is_asked_for_on_the_clock_of_the_relay() -> None:
    talk = Conversation(retain=HOUR)
    alice, bob = talk.meet_proven("alice", "bob")
    bob.acks(alice.sends(bob, "first"))
    talk.pass_time(10)
    since_ms = talk.clock.wall_ms()
    bob.acks(alice.sends(bob, "second"))

    assert replay(talk, bob, since_ms) == ["second"]
    assert replay(talk, bob, since_ms + 1) == []


def test_switched_off_what_was_retained_is_forgotten() -> None:
    talk = Conversation(retain=HOUR)
    alice, bob = talk.meet_proven("alice", "bob")
    bob.acks(alice.sends(bob, "hi"))

    talk.node.change_limits(Limits())
    talk.pass_time(1)

    assert talk.mailbox.totals(largest=0).retained == 0


def test_switched_on_it_begins_with_what_is_acked_from_then_on() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    bob.acks(alice.sends(bob, "before"))

    talk.node.change_limits(Limits(retain=HOUR))
    bob.acks(alice.sends(bob, "after"))

    assert replay(talk, bob) == ["after"]


# When the disk is not well


def test_a_disk_that_fails_is_told_of_and_the_receipt_is_given_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    talk = Conversation(retain=HOUR)
    alice, bob = talk.meet_proven("alice", "bob")
    envelope = alice.sends(bob, "hi")

    with talk.failing_disk():
        bob.acks(envelope)

    assert alice.hears() == ["delivered to bob"]
    assert (replay(talk, bob), talk.node.counts["not_retained"]) == ([], 1)
    assert "acked mail not retained" in caplog.text


class _NoRoom(MemoryMailbox):
    """A mailbox that has room for no copy."""

    def retain(self, mail: Iterable[Mail], *, acked_ms: int) -> None:
        raise OSError("no space left on device")


def test_mail_that_cannot_be_retained_leaves_the_mailbox_all_the_same() -> None:
    limits = Limits(retain=HOUR)
    talk = Conversation(retain=HOUR, mailbox=_NoRoom(MailboxBounds.of(limits)))
    alice, bob = talk.meet_proven("alice", "bob")
    envelope = alice.sends(bob, "hi")
    talk.pass_time(5)

    bob.acks(envelope)

    assert talk.mailbox.count(bob.id) == (0, 0)
    assert (replay(talk, bob), talk.node.counts["not_retained"]) == ([], 1)


def test_what_waits_to_be_retained_is_bounded() -> None:
    talk = Conversation(retain=HOUR, storing_max_bytes=1024)
    alice, bob = talk.meet_proven("alice", "bob")

    with talk.busy_disk():
        for number in range(10):
            bob.acks(alice.sends(bob, f"{number}" + "x" * 500))
        waiting = talk.node.storing_bytes

    kept = replay(talk, bob)
    assert 1024 < waiting < 4096
    assert len(kept) + talk.node.counts["not_retained"] == 10
    assert talk.node.storing_bytes == 0
