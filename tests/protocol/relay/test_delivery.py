"""Agora/1: who holds a message, what the receipt says, and in which order it comes."""

from __future__ import annotations

import pytest

from agora.codes import CloseCode, ErrorCode
from agora.envelope import Envelope
from agora.frames import Delivery, ErrorAnswer, encode_ack
from agora.mailbox import MailboxBounds, MemoryMailbox
from agora.protocol.relay.policies import EnvelopePolicy, MailboxPolicy
from agora.testing.conversation import Conversation, Speaker


def deliveries(speaker: Speaker) -> list[Delivery]:
    return [answer for answer in speaker.answers() if isinstance(answer, Delivery)]


def messages(heard: list[str]) -> list[str]:
    return [line for line in heard if ": " in line]


def full_mailbox() -> MemoryMailbox:
    return MemoryMailbox(MailboxBounds(max_messages=0, max_bytes=0))


# The live path


def test_a_message_counts_as_delivered_when_its_recipient_has_acked_it() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")

    envelope = alice.sends(bob, "hi")

    assert bob.hears() == ["alice: hi"]
    assert alice.hears() == []

    bob.acks(envelope)

    assert alice.hears() == ["delivered to bob"]


def test_the_live_path_needs_no_disk() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")

    with talk.busy_disk():
        envelope = alice.sends(bob, "hi")
        bob.acks(envelope)

        assert alice.hears() == ["delivered to bob"]
    assert talk.mailbox.count(bob.id) == (0, 0)


def test_what_is_not_acked_in_time_is_stored_and_stays_with_its_session() -> None:
    talk = Conversation(ack_timeout=5.0)
    alice, bob = talk.meet_proven("alice", "bob")
    envelope = alice.sends(bob, "think about it")
    bob.hears()

    talk.pass_time(4.9)

    assert alice.hears() == []

    talk.pass_time(0.1)

    assert alice.hears() == ["stored to bob"]
    talk.pass_time(3_600)
    assert bob.hears() == []  # it has it already

    bob.acks(envelope)

    assert talk.mailbox.count(bob.id) == (0, 0)
    assert alice.hears() == []  # stored was the last word


def test_what_a_session_leaves_behind_is_stored() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    alice.sends(bob, "1")
    alice.sends(bob, "2")

    bob.leaves()

    assert alice.hears() == ["stored to bob", "stored to bob"]
    assert messages(talk.prove("bob").hears()) == ["alice: 1", "alice: 2"]


def test_nothing_is_said_before_it_is_committed() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    bob.leaves()

    with talk.busy_disk():
        alice.sends(bob, "hi")

        assert alice.hears() == []
    assert alice.hears() == ["stored to bob"]


def test_what_is_acked_while_it_is_being_stored_is_delivered_and_does_not_wait() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    envelope = alice.sends(bob, "hi")
    with talk.busy_disk():
        talk.pass_time(5.0)
        bob.acks(envelope)

        assert alice.hears() == ["delivered to bob"]
    assert alice.hears() == []
    assert talk.mailbox.count(bob.id) == (0, 0)


def test_a_kill_of_the_relay_loses_nothing_that_had_a_receipt() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    alice.sends(bob, "stored")
    talk.pass_time(5.0)
    unsettled = alice.sends(bob, "live")
    assert alice.hears() == ["stored to bob"]

    talk.restart()
    alice, bob = talk.prove("alice"), talk.prove("bob")
    bob_heard = bob.hears()
    alice.hears()
    alice.submits(unsettled, bob)

    assert messages(bob_heard) == ["alice: stored"]
    assert messages(bob.hears()) == ["alice: live"]


def test_a_repetition_of_what_was_stored_before_a_kill_is_known() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    envelope = alice.sends(bob, "hi")
    talk.pass_time(5.0)

    talk.restart()
    alice = talk.prove("alice")
    alice.hears()
    alice.submits(envelope, bob)

    assert alice.hears() == ["duplicate to bob"]

    bob = talk.prove("bob")
    assert messages(bob.hears()) == ["alice: hi"]
    alice.submits(envelope, bob)

    assert messages(bob.hears()) == []


def test_a_repetition_that_comes_while_the_mailbox_is_being_read_is_not_delivered_twice() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    envelope = alice.sends(bob, "hi")
    bob.leaves()
    talk.restart()
    alice, bob = talk.prove("alice"), talk.connect("bob")
    alice.hears()
    bob.proves(answer=False)
    with talk.busy_disk():
        bob.authenticates(bob.keys)
        talk.disk.work_once()  # the pin; now it reads its mail
        alice.submits(envelope, bob)

    assert messages(bob.hears()) == ["alice: hi"]
    assert alice.hears()[-1] == "duplicate to bob"
    bob.acks(envelope)
    talk.pass_time(60.0)
    assert messages(bob.hears()) == []
    assert talk.mailbox.count(bob.id) == (0, 0)


def test_a_repetition_of_what_was_put_off_is_known_however_long_that_is() -> None:
    talk = Conversation(dedup_max_age=60.0)
    alice, bob = talk.meet_proven("alice", "bob")
    envelope = alice.sends(bob, "hi")
    bob.nacks(envelope, delay=3_600.0)
    talk.pass_time(120.0)
    bob.hears()
    alice.hears()

    alice.submits(envelope, bob)

    assert (bob.hears(), alice.hears()) == ([], ["duplicate to bob"])


# Without a mailbox


def test_without_a_mailbox_the_end_of_a_session_is_said() -> None:
    talk = Conversation(mailboxes=MailboxPolicy.LISTED)
    alice, bob = talk.meet_proven("alice", "bob")
    alice.sends(bob, "hi")
    talk.pass_time(60)
    assert alice.hears() == []

    bob.leaves()

    assert alice.hears() == ["error unavailable"]


def test_without_a_mailbox_nobody_who_is_away_gets_anything() -> None:
    talk = Conversation(mailboxes=MailboxPolicy.LISTED)
    alice, bob = talk.meet_proven("alice", "bob")
    bob.leaves()
    alice.hears()

    alice.sends(bob, "hi")

    assert alice.hears() == ["error unknown_recipient"]


def test_who_never_proved_itself_has_no_mailbox() -> None:
    talk = Conversation()
    [alice] = talk.meet_proven("alice")
    bob = talk.join("bob")
    alice.sends(bob, "hi")
    bob.leaves()
    alice.sends(bob, "hi again")

    assert alice.hears() == ["sent to bob", "error unknown_recipient"]


def test_a_reader_that_never_acks_and_has_no_mailbox_holds_a_windowful_and_no_more() -> None:
    talk = Conversation(mailboxes=MailboxPolicy.NONE, window_messages=2)
    alice, bob = talk.meet_proven("alice", "bob")

    first = alice.sends(bob, "1")
    alice.sends(bob, "2")
    alice.sends(bob, "3")

    assert bob.hears() == ["alice: 1", "alice: 2"]
    assert alice.hears() == ["error unavailable"]
    bob.acks(first)
    alice.sends(bob, "4")
    assert bob.hears() == ["alice: 4"]


# Several sessions


def test_each_session_gets_live_mail_and_the_first_ack_settles_it_for_all() -> None:
    talk = Conversation()
    alice, bob, other_bob = talk.meet_proven("alice", "bob", "bob")

    envelope = alice.sends(bob, "hi")

    assert (bob.hears(), other_bob.hears()) == (["alice: hi"], ["alice: hi"])
    other_bob.acks(envelope)
    assert alice.hears() == ["delivered to bob"]
    bob.leaves()
    assert alice.hears() == []
    assert talk.mailbox.count(bob.id) == (0, 0)


def test_a_new_session_first_gets_everything_that_is_unsettled_then_what_is_live() -> None:
    talk = Conversation(window_messages=2)
    alice, bob = talk.meet_proven("alice", "bob")
    for number in range(5):
        alice.sends(bob, number)  # two are live, three stored

    newcomer = talk.prove("bob")
    alice.sends(bob, 5)
    came = []
    while arrived := deliveries(newcomer):
        came += [delivery.envelope.members["payload"] for delivery in arrived]
        newcomer.says(encode_ack(str(delivery.envelope.claimed_id) for delivery in arrived))

    assert came == [0, 1, 2, 3, 4, 5]


def test_one_session_gets_no_second_copy_of_what_another_has_settled() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    envelope = alice.sends(bob, "hi")
    talk.pass_time(5.0)  # stored

    talk.disk.is_held = True
    newcomer = talk.connect("bob")
    newcomer.proves()
    bob.acks(envelope)
    talk.disk.is_held = False
    talk.settle()

    assert messages(newcomer.hears()) == []


@pytest.mark.parametrize("receives", [True, False])
def test_what_is_acked_long_after_it_was_stored_is_known_when_it_is_sent_again(
    receives: bool,
) -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    bob.leaves()
    envelope = alice.sends(bob, "hi")
    assert alice.hears() == ["stored to bob"]
    talk.pass_time(3_600.0)

    returned = talk.prove("bob", receives=receives)
    returned.acks(envelope)
    alice.submits(envelope, bob)

    assert alice.hears()[-1] == "duplicate to bob"
    assert talk.mailbox.count(bob.id) == (0, 0)


def test_an_ack_is_good_for_what_an_earlier_session_got() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    envelope = alice.sends(bob, "hi")
    bob.leaves()

    with talk.busy_disk():
        returned = talk.connect("bob")
        returned.proves()
    with talk.busy_disk():
        returned.acks(envelope)

    assert talk.mailbox.count(bob.id) == (0, 0)


def test_a_session_that_only_sends_can_ack_what_another_got() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    helper = talk.prove("bob", receives=False)
    live, stored = alice.sends(bob, "1"), alice.sends(bob, "2")
    helper.acks(live)
    bob.leaves()
    helper.acks(stored)

    assert talk.mailbox.count(bob.id) == (0, 0)
    assert messages(helper.hears()) == []


def test_nobody_acks_or_puts_off_anothers_mail() -> None:
    talk = Conversation()
    alice, bob, eve = talk.meet_proven("alice", "bob", "eve")
    envelope = alice.sends(bob, "hi")
    eve.acks(envelope)
    eve.nacks(envelope)
    assert alice.hears() == []

    bob.leaves()
    eve.acks(envelope)

    assert alice.hears() == ["stored to bob"]
    assert messages(talk.prove("bob").hears()) == ["alice: hi"]


# Order, and the window


def test_no_more_than_a_window_is_in_flight_and_the_rest_follows_the_acks() -> None:
    talk = Conversation(window_messages=3)
    alice, bob = talk.meet_proven("alice", "bob")

    sent = [alice.sends(bob, str(number)) for number in range(7)]

    assert bob.hears() == ["alice: 0", "alice: 1", "alice: 2"]
    bob.acks(sent[1])
    assert bob.hears() == ["alice: 3"]
    bob.acks(sent[0], sent[2], sent[3])
    assert bob.hears() == ["alice: 4", "alice: 5", "alice: 6"]
    bob.acks(*sent[4:])
    alice.sends(bob, "7")
    assert bob.hears() == ["alice: 7"]


def test_the_window_counts_bytes_too() -> None:
    talk = Conversation(window_bytes=1_024)
    alice, bob = talk.meet_proven("alice", "bob")

    sent = [alice.sends(bob, str(number) * 700) for number in range(3)]

    assert len(bob.hears()) == 1
    bob.acks(sent[0])
    assert bob.hears() == ["alice: " + "1" * 700]


def test_who_has_no_mail_waiting_is_there_for_live_mail_at_once() -> None:
    talk = Conversation()
    [alice] = talk.meet_proven("alice")
    bob = talk.connect("bob")
    bob.proves(answer=False)
    with talk.busy_disk():
        bob.authenticates(bob.keys)
        talk.disk.work_once()  # the pin, and nothing is read
        envelope = alice.sends(bob, "hi")

        assert messages(bob.hears()) == ["alice: hi"]
        bob.acks(envelope)
        assert alice.hears()[-1] == "delivered to bob"


def test_what_is_being_stored_when_its_recipient_comes_is_not_missed() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    bob.leaves()
    returned = talk.connect("bob")
    returned.proves(answer=False)
    with talk.busy_disk():
        returned.authenticates(returned.keys)
        alice.sends(bob, "1")  # behind the pin, which saw an empty mailbox
        talk.disk.work_once()
        alice.sends(bob, "2")

    assert messages(returned.hears()) == ["alice: 1", "alice: 2"]


def test_live_mail_does_not_overtake_what_waits_in_the_mailbox() -> None:
    talk = Conversation(window_messages=1)
    alice, bob = talk.meet_proven("alice", "bob")
    with talk.busy_disk():
        first = alice.sends(bob, "1")
        alice.sends(bob, "2")  # to the mailbox: the window is full
        bob.acks(first)  # room again, but 2 is not committed yet
        alice.sends(bob, "3")

        assert bob.hears() == ["alice: 1"]
    assert bob.hears() == ["alice: 2"]


def test_what_was_stored_late_keeps_its_place() -> None:
    talk = Conversation(window_messages=1)
    alice, bob = talk.meet_proven("alice", "bob")
    alice.sends(bob, "1")  # live
    alice.sends(bob, "2")  # stored at once
    talk.pass_time(5.0)  # and now the first

    bob.leaves()
    returned = talk.prove("bob")

    assert messages(returned.hears()) == ["alice: 1"]


# Duplicates


def test_a_repetition_of_what_is_in_flight_gets_the_first_copys_own_answer() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    envelope = alice.sends(bob, "hi")
    again = talk.prove("alice")
    again.hears()

    again.submits(envelope, bob)

    assert (bob.hears(), again.hears()) == (["alice: hi"], [])
    bob.acks(envelope)
    assert (alice.hears()[:1], again.hears()) == (["delivered to bob"], ["delivered to bob"])


def test_a_repetition_of_what_was_acked_is_a_duplicate() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    envelope = alice.sends(bob, "hi")
    bob.acks(envelope)

    alice.submits(envelope, bob)

    assert alice.hears() == ["delivered to bob", "duplicate to bob"]
    assert bob.hears() == ["alice: hi"]


def test_what_could_not_be_stored_is_no_duplicate_the_next_time() -> None:
    talk = Conversation(mailbox=full_mailbox())
    alice, bob = talk.meet_proven("alice", "bob")
    bob.leaves()
    alice.hears()

    envelope = alice.sends(bob, "hi")
    alice.submits(envelope, bob)

    assert alice.hears() == ["error mailbox_full", "error mailbox_full"]


def test_a_full_mailbox_says_where_there_is_no_room() -> None:
    talk = Conversation(mailbox_max_messages=8)
    alice, bob = talk.meet_proven("alice", "bob")
    bob.leaves()
    for number in range(3):
        alice.sends(bob, str(number))

    texts = alice.texts()

    assert sum('"status":"stored"' in text for text in texts) == 2
    assert sum('"scope":"sender"' in text for text in texts) == 1


# Nacks


def test_what_was_put_off_is_stored_and_comes_again_behind_the_rest() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    first = alice.sends(bob, "1")

    bob.nacks(first, delay=2.0)

    assert alice.hears() == ["stored to bob"]
    alice.sends(bob, "2")
    talk.pass_time(1.9)
    assert bob.hears() == ["alice: 1", "alice: 2"]
    talk.pass_time(0.1)
    assert bob.hears() == ["alice: 1"]


def test_what_is_put_off_without_delay_comes_at_once() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    envelope = alice.sends(bob, "hi")
    bob.nacks(envelope)

    assert bob.hears() == ["alice: hi", "alice: hi"]


def test_a_new_session_gets_what_was_put_off_to_another() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    bob.nacks(alice.sends(bob, "hi"), delay=3_600.0)

    assert messages(talk.prove("bob").hears()) == ["alice: hi"]


def test_what_was_put_off_too_often_is_set_aside_and_its_sender_is_told() -> None:
    talk = Conversation(max_nacks=3)
    alice, bob = talk.meet_proven("alice", "bob")
    envelope = alice.sends(bob, "poison")

    for _ in range(3):
        bob.nacks(envelope)

    assert len(messages(bob.hears())) == 3
    [bounce] = deliveries(alice)
    assert bounce.envelope.members["type"] == "error"
    assert bounce.envelope.members["inReplyTo"] == envelope.id
    assert bounce.envelope.members["payload"] == {"code": "undeliverable", "recipient": bob.id}
    assert talk.mailbox.count(bob.id) == (0, 0)
    assert [letter.mail.envelope_id for letter in talk.mailbox.dead_letters()] == [envelope.id]


def test_the_end_of_a_session_is_no_nack() -> None:
    talk = Conversation(max_nacks=2)
    alice, bob = talk.meet_proven("alice", "bob")
    alice.sends(bob, "hi")
    for _ in range(5):
        bob.leaves()
        bob = talk.prove("bob")

    assert messages(bob.hears()) == ["alice: hi"]


def test_only_the_session_that_has_a_message_can_put_it_off() -> None:
    talk = Conversation(max_nacks=1)
    alice, bob = talk.meet_proven("alice", "bob")
    bob.leaves()
    envelope = alice.sends(bob, "hi")
    with talk.busy_disk():
        returned = talk.connect("bob")
        returned.proves()
    returned.acks(envelope)
    returned.nacks(envelope)

    assert talk.mailbox.dead_letters() == ()


# Bounces


def test_mail_that_waited_too_long_bounces() -> None:
    talk = Conversation(mailbox_max_age=100.0)
    alice, bob = talk.meet_proven("alice", "bob")
    bob.leaves()
    envelope = alice.sends(bob, "hi")
    talk.pass_time(1.0)
    alice.hears()

    talk.pass_time(160.0)

    [bounce] = deliveries(alice)
    assert bounce.envelope.members["payload"] == {"code": "expired", "recipient": bob.id}
    assert bounce.envelope.members["inReplyTo"] == envelope.id
    assert talk.mailbox.count(bob.id) == (0, 0)


def test_a_bounce_waits_for_a_sender_that_is_away() -> None:
    talk = Conversation(mailbox_max_age=100.0)
    alice, bob = talk.meet_proven("alice", "bob")
    bob.leaves()
    alice.sends(bob, "hi")
    alice.leaves()
    talk.pass_time(120.0)

    [bounce] = deliveries(talk.prove("alice"))

    assert bounce.is_stored


def test_a_bounce_causes_no_bounce() -> None:
    talk = Conversation(mailbox_max_age=100.0)
    alice, bob = talk.meet_proven("alice", "bob")
    bob.leaves()
    alice.sends(bob, "hi")
    alice.leaves()
    for _ in range(5):
        talk.pass_time(120.0)

    assert talk.mailbox.summaries() == ()


def test_a_bounce_to_nobody_is_counted() -> None:
    talk = Conversation(mailbox_max_age=100.0)
    [bob] = talk.meet_proven("bob")
    alice = talk.join("alice")
    bob.leaves()
    alice.sends(bob, "hi")
    alice.leaves()

    talk.pass_time(120.0)

    assert talk.node.counts["bounce_lost"] == 1


# Between the dialects


def test_a_sender_of_the_reference_dialect_is_told_nothing_of_what_went_well() -> None:
    talk = Conversation()
    [bob] = talk.meet_proven("bob")
    alice = talk.join("alice")
    alice.hears()
    envelope = alice.sends(bob, "hi")
    alice.asks()

    assert alice.hears() == []
    bob.acks(envelope)
    assert alice.hears() == ["pong"]  # which says that it is settled


def test_a_recipient_of_the_reference_dialect_gets_what_it_always_got() -> None:
    talk = Conversation()
    [alice] = talk.meet_proven("alice")
    bob = talk.join("bob")
    bob.hears()
    talk.pass_time(1.0)
    alice.hears()

    alice.sends(bob, "hi")

    assert bob.texts()[0].startswith('{"type":"message","from":')
    assert alice.hears() == ["sent to bob"]


def test_mail_that_waited_says_so_and_asks_for_what_its_sender_asked() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    alice.submits(alice.seals(bob.id, "live"), bob, confirm=True)
    bob.leaves()
    alice.sends(bob, "stored")

    live, stored = deliveries(talk.prove("bob"))

    assert (live.is_stored, live.confirm) == (True, True)
    assert (stored.is_stored, stored.confirm) == (True, False)


def test_what_has_no_id_is_settled_by_a_pong() -> None:
    talk = Conversation(policy=EnvelopePolicy.OPEN)
    alice, bob = talk.meet_proven("alice", "bob")
    alice.says({"type": "message", "to": bob.id, "envelope": {"opaque": True}})

    assert len(messages(bob.hears())) == 1
    assert talk.mailbox.count(bob.id) == (0, 0)


# Pipelining


def test_a_message_that_follows_one_which_was_refused_is_out_of_order() -> None:
    talk = Conversation(rate_limit_max_messages=1, rate_limit_window_ms=1_000)
    alice, bob = talk.meet_proven("alice", "bob")
    first, second, third = (alice.seals(bob.id, text) for text in "123")

    alice.submits(first, bob)
    alice.submits(second, bob, after=first.id)  # over the rate
    talk.pass_time(1.0)
    alice.submits(third, bob, after=second.id)

    assert bob.hears() == ["alice: 1"]
    assert [answer.code for answer in alice.answers() if isinstance(answer, ErrorAnswer)] == [
        ErrorCode.RATE_LIMITED,
        ErrorCode.OUT_OF_ORDER,
    ]


def test_a_message_follows_one_that_is_in_flight_stored_or_acked() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    sent: list[Envelope] = []
    for number in range(3):
        envelope = alice.seals(bob.id, str(number))
        alice.submits(envelope, bob, after=sent[-1].id if sent else None)
        sent.append(envelope)
        if number == 0:
            bob.acks(envelope)
    bob.leaves()
    alice.submits(alice.seals(bob.id, "3"), bob, after=sent[-1].id)

    assert [line for line in alice.hears() if "error" in line] == []


# A slow reader


def test_a_reader_too_slow_for_a_windowful_is_closed_and_keeps_its_mail() -> None:
    talk = Conversation(max_unsent_bytes=1_024)
    alice, bob = talk.meet_proven("alice", "bob")
    bob.stops_reading()

    for number in range(5):
        alice.sends(bob, str(number) * 500)
    bob.reads_on()

    assert bob.close_code is CloseCode.SLOW_CONSUMER
    assert len(messages(talk.prove("bob").hears())) == 5


def test_what_the_disk_cannot_follow_is_refused_not_piled_up() -> None:
    talk = Conversation(storing_max_bytes=1_024)
    alice, bob = talk.meet_proven("alice", "bob")
    bob.leaves()
    talk.settle()
    alice.hears()
    with talk.busy_disk():
        for number in range(5):
            alice.sends(bob, str(number) * 400)
    heard = alice.hears()

    assert heard.count("error unavailable") == 3
    assert heard.count("stored to bob") == 2


def test_mail_that_is_owed_survives_a_disk_that_fails_for_a_while() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    envelope = alice.sends(bob, "hi")
    with talk.failing_disk():
        talk.pass_time(5.0)

    assert alice.hears() == []  # nothing is known yet
    bob.acks(envelope)
    assert alice.hears() == ["delivered to bob"]


def test_a_relay_that_stops_stores_what_was_live_and_says_so() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    alice.sends(bob, "hi")

    talk.node.take_nothing_more()
    talk.settle()

    assert alice.hears() == ["stored to bob"]
    assert talk.mailbox.count(bob.id)[0] == 1


def test_a_position_is_given_to_each_message_once() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    bob.leaves()
    alice.sends(bob, "1")
    talk.restart()
    alice = talk.prove("alice")
    alice.sends(bob, "2")
    page = talk.mailbox.page(bob.id, after=0, max_messages=10, max_bytes=10_000)
    positions = [mail.position for mail in page.mail]

    assert len(positions) == 2
    assert positions == sorted(set(positions))


# What was found from outside


def test_what_is_put_off_behind_a_live_message_is_stored_behind_it() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    first, second = (alice.seals(bob.id, text) for text in "12")
    alice.submits(first, bob)
    alice.submits(second, bob, after=first.id)
    bob.hears()

    bob.nacks(second)

    assert alice.hears() == ["stored to bob", "stored to bob"]
    assert bob.hears() == ["alice: 2"]


def test_a_bounce_finds_room_in_a_full_mailbox() -> None:
    talk = Conversation(mailbox_max_messages=4, mailbox_sender_share=1.0, max_nacks=1)
    alice, bob, carol = talk.meet_proven("alice", "bob", "carol")
    envelope = alice.sends(bob, "poison")
    alice.leaves()
    for number in range(5):
        carol.sends(alice, number)

    bob.nacks(envelope)

    payloads = [one.envelope.members["payload"] for one in deliveries(talk.prove("alice"))]
    assert payloads == [0, 1, 2, 3, {"code": "undeliverable", "recipient": bob.id}]


def test_what_bounces_is_set_aside_only_when_the_bounce_is_safe() -> None:
    talk = Conversation(max_nacks=1)
    alice, bob = talk.meet_proven("alice", "bob")
    envelope = alice.sends(bob, "poison")
    with talk.busy_disk():
        bob.nacks(envelope)
        talk.disk.work_once()  # it is stored, its nack is counted, and the bounce is on its way
        with talk.failing_disk():
            talk.disk.work_once()
    assert (talk.mailbox.count(bob.id)[0], talk.mailbox.dead_letters()) == (1, ())

    bob.leaves()
    returned = talk.prove("bob")
    returned.nacks(envelope)

    assert len(deliveries(talk.prove("alice"))) == 1
    assert len(talk.mailbox.dead_letters()) == 1


def test_what_could_not_be_set_aside_comes_again_when_it_was_wanted() -> None:
    talk = Conversation(max_nacks=1)
    alice, bob, other = talk.meet_proven("alice", "bob", "bob")
    envelope = alice.sends(bob, "poison")
    with talk.busy_disk():
        bob.nacks(envelope, delay=3.0)
        talk.disk.work_once()  # it is stored, its nack is counted, and the bounce is on its way
        with talk.failing_disk():
            talk.disk.work_once()
    alice = talk.prove("alice")  # her mail could not be read either, so she had to come back
    alice.submits(envelope, bob)

    assert "duplicate to bob" in alice.hears()
    talk.pass_time(2.9)
    assert messages(bob.hears()) == messages(other.hears()) == ["alice: poison"]
    talk.pass_time(0.1)
    assert (messages(bob.hears()), messages(other.hears())) == (["alice: poison"], [])

    bob.nacks(envelope)
    assert len(deliveries(alice)) == 1
    assert [letter.mail.envelope_id for letter in talk.mailbox.dead_letters()] == [envelope.id]


def test_what_could_not_be_set_aside_gives_the_disk_a_moment() -> None:
    talk = Conversation(max_nacks=1)
    alice, bob = talk.meet_proven("alice", "bob")
    envelope = alice.sends(bob, "poison")
    with talk.busy_disk():
        bob.nacks(envelope)
        talk.disk.work_once()
        with talk.failing_disk():
            talk.disk.work_once()
    bob.hears()

    talk.pass_time(0.9)
    assert messages(bob.hears()) == []
    talk.pass_time(0.1)
    assert messages(bob.hears()) == ["alice: poison"]


def test_what_was_given_up_and_is_sent_again_may_be_put_off_as_often_as_before() -> None:
    talk = Conversation(max_nacks=2)
    alice, bob = talk.meet_proven("alice", "bob")
    envelope = alice.sends(bob, "poison")
    for _ in range(2):
        bob.nacks(envelope)

    alice.submits(envelope, bob)
    bob.nacks(envelope)
    assert talk.mailbox.count(bob.id)[0] == 1
    bob.nacks(envelope)
    assert talk.mailbox.count(bob.id)[0] == 0


def test_what_was_given_up_can_be_sent_again() -> None:
    talk = Conversation(max_nacks=1)
    alice, bob, other = talk.meet_proven("alice", "bob", "bob")
    envelope = alice.sends(bob, "hi")
    bob.nacks(envelope)
    alice.hears()
    bob.hears()

    alice.submits(envelope, bob)
    bob.acks(envelope)

    assert bob.hears() == ["alice: hi"]
    assert [line for line in alice.hears() if "to bob" in line] == ["delivered to bob"]
    other.acks(envelope)


def test_without_a_mailbox_what_was_given_up_can_be_sent_again() -> None:
    talk = Conversation(mailboxes=MailboxPolicy.NONE, max_nacks=1)
    alice, bob, _ = talk.meet_proven("alice", "bob", "bob")
    envelope = alice.sends(bob, "hi")
    bob.nacks(envelope)
    assert alice.hears() == ["error unavailable"]

    alice.submits(envelope, bob)
    bob.acks(envelope)

    assert alice.hears() == ["delivered to bob"]


def test_an_ack_on_a_full_disk_counts_and_is_written_when_there_is_room() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    bob.leaves()
    sent = [alice.sends(bob, text) for text in "123"]
    bob = talk.prove("bob")
    bob.hears()
    with talk.failing_disk():
        bob.acks(*sent[1:])

    bob.nacks(sent[0])

    assert messages(bob.hears()) == ["alice: 1"]
    talk.pass_time(2.0)
    assert talk.mailbox.count(bob.id)[0] == 1


def test_acks_of_what_nobody_has_cost_the_disk_nothing() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    alice.sends(bob, "hi")
    with talk.busy_disk():
        for number in range(50):
            bob.says(encode_ack(f"{number:032x}{other:032x}" for other in range(1_000)))

        assert talk.disk.waiting == 0


def test_acks_of_what_may_be_on_disk_are_one_job_at_a_time() -> None:
    talk = Conversation(window_messages=1)
    alice, bob = talk.meet_proven("alice", "bob")
    for text in "123":
        alice.sends(bob, text)
    with talk.busy_disk():
        for number in range(50):
            bob.says(encode_ack(f"{number:032x}{other:032x}" for other in range(1_000)))

        assert talk.disk.waiting <= 1


def test_acks_that_follow_each_other_are_all_written_before_what_comes_next() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    bob.leaves()
    sent = [alice.sends(bob, text) for text in "123"]
    bob, returned = talk.prove("bob"), talk.connect("bob")
    returned.proves(answer=False)
    with talk.busy_disk():
        for envelope in sent:
            bob.acks(envelope)
        returned.authenticates(returned.keys)

    assert returned.hears() == ["registered with alice"]
