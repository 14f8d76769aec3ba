"""What a session of Agora/1 may ask of a message, and how it is answered; the reference beside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agora.canonical import Json, json_text
from agora.codes import ReceiptStatus
from agora.envelope import EVERYONE, Envelope, open_envelope, seal
from agora.frames import (
    Answer,
    Delivery,
    ErrorAnswer,
    ReceiptAnswer,
    encode_broadcast,
)
from agora.testing.conversation import Conversation, Speaker, keys_of

CAROL = keys_of("carol").peer_id
RELAY = keys_of("relay").peer_id
DAY = 86_400.0


def only_answer(speaker: Speaker) -> Answer:
    """Return the one frame it hears, and nothing else."""
    [answer] = speaker.answers()
    return answer


def error_of(speaker: Speaker) -> ErrorAnswer:
    answer = only_answer(speaker)
    assert isinstance(answer, ErrorAnswer), answer
    return answer


def sends_to_all(sender: Speaker, letter: Envelope, *to: Speaker | str, **more: Json) -> None:
    """Say a message frame with a list of recipients."""
    recipients: list[Json] = [one if isinstance(one, str) else one.id for one in to]
    frame: dict[str, Json] = {"type": "message", "to": recipients, "envelope": letter.to_dict()}
    sender.says(frame | more)


def told(talk: Conversation, speaker: Speaker) -> dict[str, str]:
    """Return what it was told of each recipient of its message, once each."""
    answers = speaker.answers()
    found = {}
    for answer in answers:
        assert isinstance(answer, ReceiptAnswer | ErrorAnswer), answer
        found[talk.name_of(answer.to or "")] = (
            str(answer.status) if isinstance(answer, ReceiptAnswer) else answer.code or ""
        )
    assert len(found) == len(answers)
    return found


# Several recipients


def test_each_recipient_of_a_list_gets_the_envelope() -> None:
    alice, bob, carol = Conversation().meet_proven("alice", "bob", "carol")
    letter = alice.seals([bob.id, carol.id], "hi")

    sends_to_all(alice, letter, bob, carol)

    assert bob.hears() == ["alice: hi"]
    assert carol.hears() == ["alice: hi"]


def test_each_recipient_of_a_list_is_answered_for_once() -> None:
    talk = Conversation(storage_peers=["dave"])
    alice, bob, carol = talk.meet_proven("alice", "bob", "carol")
    [reader] = talk.meet("reader")
    alice.hears()
    everyone = [bob.id, carol.id, reader.id, keys_of("dave").peer_id, keys_of("nobody").peer_id]
    letter = alice.seals(everyone, "hi")

    sends_to_all(alice, letter, *everyone)
    bob.acks(letter)
    carol.leaves()

    assert told(talk, alice) == {
        "bob": "delivered",
        "carol": "stored",
        "reader": "sent",
        "dave": "stored",
        keys_of("nobody").peer_id: "unknown_recipient",
    }


def test_a_recipient_listed_twice_counts_once() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    letter = alice.seals(bob.id, "hi")

    sends_to_all(alice, letter, bob, bob)
    bob.acks(letter)

    assert bob.hears() == ["alice: hi"]
    assert alice.hears() == ["delivered to bob"]


def test_a_list_that_the_envelope_does_not_name_in_full_reaches_nobody() -> None:
    talk = Conversation()
    alice, bob, carol = talk.meet_proven("alice", "bob", "carol")
    letter = alice.seals(bob.id, "hi")

    sends_to_all(alice, letter, bob, carol)

    assert told(talk, alice) == {"bob": "recipient_mismatch", "carol": "recipient_mismatch"}
    assert bob.hears() == []


def test_a_list_may_name_fewer_than_the_envelope() -> None:
    alice, bob, carol = Conversation().meet_proven("alice", "bob", "carol")
    letter = alice.seals([bob.id, carol.id], "hi")

    sends_to_all(alice, letter, carol)

    assert bob.hears() == []
    assert carol.hears() == ["alice: hi"]


def test_a_list_costs_as_much_as_it_has_recipients() -> None:
    talk = Conversation(rate_limit_max_messages=3, rate_limit_window_ms=10_000)
    alice, bob, carol = talk.meet_proven("alice", "bob", "carol")
    sends_to_all(alice, alice.seals([bob.id, carol.id], "1"), bob, carol)

    sends_to_all(alice, alice.seals([bob.id, carol.id], "2"), bob, carol)
    answers = alice.answers()
    alice.sends(bob, "3")

    assert [(a.code, a.to) for a in answers if isinstance(a, ErrorAnswer)] == [
        ("rate_limited", bob.id),
        ("rate_limited", carol.id),
    ]
    assert bob.hears() == ["alice: 1", "alice: 3"]


def test_who_had_it_before_costs_nothing() -> None:
    talk = Conversation(rate_limit_max_messages=3, rate_limit_window_ms=10_000)
    alice, bob, carol = talk.meet_proven("alice", "bob", "carol")
    letter = alice.seals([bob.id, carol.id], "1")
    sends_to_all(alice, letter, bob)
    bob.acks(letter)
    alice.hears()

    sends_to_all(alice, letter, bob, carol)
    alice.sends(bob, "2")

    assert alice.hears() == ["duplicate to bob"]
    assert bob.hears() == ["alice: 1", "alice: 2"]


def test_a_list_of_too_many_is_refused_as_one() -> None:
    talk = Conversation(max_recipients=2)
    alice, bob = talk.meet_proven("alice", "bob")
    everyone = [bob.id, CAROL, keys_of("dave").peer_id]
    letter = alice.seals(everyone, "hi")

    sends_to_all(alice, letter, *everyone)
    error = error_of(alice)

    assert (error.code, error.envelope_id) == ("invalid_message", letter.id)
    assert "3 recipients of at most 2" in error.message
    assert bob.hears() == []


@pytest.mark.parametrize("recipients", [[], [""], ["x", 7], [["x"]]])
def test_a_list_of_what_is_no_recipient_is_refused(recipients: Json) -> None:
    [alice] = Conversation().meet_proven("alice")
    letter = alice.seals(CAROL, "hi")

    alice.says({"type": "message", "to": recipients, "envelope": letter.to_dict()})
    error = error_of(alice)

    assert error.message == 'Invalid message: missing or invalid "to" field'
    assert error.envelope_id == letter.id


def test_the_reference_knows_no_lists() -> None:
    alice, bob = Conversation().meet("alice", "bob")
    letter = alice.seals(bob.id, "hi")

    sends_to_all(alice, letter, bob)

    assert error_of(alice).message == 'Invalid message: missing or invalid "to" field'
    assert bob.hears() == []


# Freshness


def sealed_at(talk: Conversation, sender: Speaker, to: Speaker, offset: float) -> Envelope:
    """Sign a message *offset* seconds away from the relay's clock."""
    timestamp_ms = talk.clock.wall_ms() + round(offset * 1000)
    return seal(sender.keys, type="publish", payload="hi", to=to.id, timestamp_ms=timestamp_ms)


@pytest.mark.parametrize(("offset", "code"), [(-7 * DAY - 1, "stale"), (601.0, "from_the_future")])
def test_what_was_signed_too_long_ago_or_too_far_ahead_is_refused(offset: float, code: str) -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    letter = sealed_at(talk, alice, bob, offset)

    alice.submits(letter, bob)
    error = error_of(alice)

    assert (error.code, error.envelope_id, error.to) == (code, letter.id, bob.id)
    assert error.now_ms == talk.clock.wall_ms()
    assert bob.hears() == []


@pytest.mark.parametrize("offset", [-7 * DAY, 600.0])
def test_what_was_signed_within_the_time_is_taken(offset: float) -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")

    alice.submits(sealed_at(talk, alice, bob, offset), bob)

    assert bob.hears() == ["alice: hi"]


def test_the_reference_asks_nobody_when_it_was_signed() -> None:
    talk = Conversation()
    alice, bob = talk.meet("alice", "bob")

    alice.submits(sealed_at(talk, alice, bob, -365 * DAY), bob)
    alice.submits(sealed_at(talk, alice, bob, 365 * DAY), bob)

    assert bob.hears() == ["alice: hi"] * 2


def test_the_bounds_of_freshness_can_be_switched_off() -> None:
    talk = Conversation(freshness_past=0.0, freshness_future=0.0)
    alice, bob = talk.meet_proven("alice", "bob")

    alice.submits(sealed_at(talk, alice, bob, -3650 * DAY), bob)
    alice.submits(sealed_at(talk, alice, bob, 3650 * DAY), bob)

    assert bob.hears() == ["alice: hi"] * 2


def test_a_broadcast_has_to_be_fresh_too() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")

    alice.says(encode_broadcast(sealed_at(talk, alice, bob, 601.0).wire_text))

    assert error_of(alice).code == "from_the_future"
    assert bob.hears() == []


def test_what_is_stale_costs_nothing_of_the_rate() -> None:
    talk = Conversation(rate_limit_max_messages=1)
    alice, bob = talk.meet_proven("alice", "bob")

    alice.submits(sealed_at(talk, alice, bob, 601.0), bob)
    alice.sends(bob, "fresh")

    assert bob.hears() == ["alice: fresh"]


# After another


def test_what_follows_something_that_was_taken_is_taken() -> None:
    alice, bob = Conversation().meet_proven("alice", "bob")
    first = alice.sends(bob, "1")

    alice.submits(alice.seals(bob.id, "2"), bob, after=first.id)

    assert bob.hears() == ["alice: 1", "alice: 2"]


def test_what_follows_something_that_was_refused_is_refused() -> None:
    talk = Conversation(rate_limit_max_messages=1, rate_limit_window_ms=10_000)
    alice, bob = talk.meet_proven("alice", "bob")
    alice.sends(bob, "1")
    refused = alice.sends(bob, "2")
    talk.pass_time(10.0)
    alice.hears()

    letter = alice.seals(bob.id, "3")
    alice.submits(letter, bob, after=refused.id)
    error = error_of(alice)

    assert (error.code, error.envelope_id, error.to) == ("out_of_order", letter.id, bob.id)
    assert bob.hears() == ["alice: 1"]


def test_what_was_out_of_order_is_taken_behind_what_was_missing() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    first, second = alice.seals(bob.id, "1"), alice.seals(bob.id, "2")
    alice.submits(second, bob, after=first.id)

    alice.submits(first, bob)
    alice.submits(second, bob, after=first.id)

    assert alice.hears() == ["error out_of_order"]
    assert bob.hears() == ["alice: 1", "alice: 2"]


@pytest.mark.parametrize("becomes", ["in flight", "acked", "stored", "being stored"])
def test_something_was_taken_whatever_became_of_it(becomes: str) -> None:
    talk = Conversation(ack_timeout=5.0)
    alice, bob = talk.meet_proven("alice", "bob")
    if becomes in ("stored", "being stored"):
        bob.leaves()
    talk.disk.is_held = becomes == "being stored"
    first = alice.sends(bob, "1")
    if becomes == "acked":
        bob.acks(first)

    alice.submits(alice.seals(bob.id, "2"), bob, after=first.id)
    talk.disk.is_held = False
    talk.settle()

    assert [line for line in alice.hears() if line.startswith("error")] == []


def test_what_a_duplicate_was_told_to_be_there_can_be_followed() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    bob.leaves()
    first = alice.sends(bob, "1")
    talk.restart()
    alice_again = talk.prove("alice")
    alice_again.hears()

    alice_again.submits(first, bob)
    alice_again.submits(alice_again.seals(bob.id, "2"), bob, after=first.id)

    assert alice_again.hears() == ["duplicate to bob", "stored to bob"]


def test_taken_for_one_is_not_taken_for_another() -> None:
    alice, bob, carol = Conversation().meet_proven("alice", "bob", "carol")
    first = alice.sends(bob, "1")

    alice.submits(alice.seals(carol.id, "2"), carol, after=first.id)

    assert error_of(alice).code == "out_of_order"


def test_what_another_has_sent_is_nothing_to_follow() -> None:
    alice, bob, mallory = Conversation().meet_proven("alice", "bob", "mallory")
    theirs = mallory.sends(bob, "1")
    bob.acks(theirs)

    alice.submits(alice.seals(bob.id, "2"), bob, after=theirs.id)

    assert error_of(alice).code == "out_of_order"


def test_where_nobody_remembers_what_was_taken_everything_follows() -> None:
    alice, bob = Conversation(dedup_enabled=False).meet_proven("alice", "bob")

    alice.submits(alice.seals(bob.id, "2"), bob, after="0" * 64)

    assert bob.hears() == ["alice: 2"]


# Broadcasts


def test_a_broadcast_is_answered_by_how_many_sessions_got_it() -> None:
    talk = Conversation()
    alice, _ = talk.meet_proven("alice", "alice")
    talk.meet("bob", "bob", "carol")
    alice.hears()

    letter = alice.broadcasts("hear, hear")
    answer = only_answer(alice)

    assert isinstance(answer, ReceiptAnswer)
    assert (answer.envelope_id, answer.to, answer.status) == (letter.id, EVERYONE, "sent")
    assert answer.count == 3


def test_a_broadcast_is_neither_acked_nor_stored_nor_does_it_take_room() -> None:
    talk = Conversation(window_messages=1)
    alice, bob = talk.meet_proven("alice", "bob")
    for number in range(3):
        alice.broadcasts(number)
    letter = alice.sends(bob, "hi")
    bob.acks(letter)

    assert bob.hears() == ["alice: 0", "alice: 1", "alice: 2", "alice: hi"]
    assert talk.mailbox.count(bob.id) == (0, 0)


def test_a_broadcast_twice_is_answered_as_a_duplicate() -> None:
    alice, bob = Conversation().meet_proven("alice", "bob")
    letter = alice.broadcasts("hear, hear")
    alice.says(encode_broadcast(letter.wire_text))

    assert alice.hears() == ["sent to *", "duplicate to *"]
    assert bob.hears() == ["alice: hear, hear"]


# The relay itself


def test_the_list_of_peers_is_answered_by_a_receipt_and_an_envelope() -> None:
    talk = Conversation()
    alice, _ = talk.meet_proven("alice", "bob")

    request = alice.sends(RELAY, {"query": "list_peers"}, type="peer_list_request")
    delivery, receipt = alice.answers()

    assert isinstance(receipt, ReceiptAnswer)
    assert (receipt.envelope_id, receipt.to, receipt.status) == (request.id, RELAY, "delivered")
    assert isinstance(delivery, Delivery)
    answer = open_envelope(delivery.envelope)
    assert (answer.sender, answer.to, answer.in_reply_to) == (RELAY, (alice.id,), request.id)
    assert isinstance(answer.payload, dict)
    assert answer.payload["totalPeers"] == 1


def test_the_relay_takes_nothing_else_for_itself() -> None:
    [alice] = Conversation().meet_proven("alice")

    letter = alice.sends(RELAY, "hi")
    error = error_of(alice)

    assert (error.code, error.envelope_id, error.to) == ("unknown_recipient", letter.id, RELAY)


# What came before


def test_a_duplicate_is_a_receipt_to_who_has_receipts_and_an_error_to_others() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    [carol] = talk.meet("carol")
    alice.hears()
    first, second = alice.sends(bob, "1"), carol.sends(bob, "2")
    bob.acks(first, second)
    assert (alice.hears(), carol.hears()) == (["delivered to bob"], [])

    alice.submits(first, bob)
    carol.submits(second, bob)

    assert only_answer(alice) == ReceiptAnswer(first.id, bob.id, ReceiptStatus.DUPLICATE)
    error = error_of(carol)
    assert (error.code, error.envelope_id, error.to) == ("duplicate", second.id, bob.id)
    assert bob.hears() == ["alice: 1", "carol: 2"]


def test_a_repeat_of_what_is_in_flight_is_answered_with_the_first() -> None:
    talk = Conversation()
    alice, alice_too, bob = talk.meet_proven("alice", "alice", "bob")
    letter = alice.sends(bob, "hi")

    alice_too.submits(letter, bob)
    assert alice_too.hears() == []
    bob.acks(letter)

    assert alice.hears() == ["delivered to bob"]
    assert alice_too.hears() == ["delivered to bob"]
    assert bob.hears() == ["alice: hi"]


def test_a_repeat_in_the_reference_dialect_is_a_duplicate_when_the_first_is_settled() -> None:
    talk = Conversation()
    [bob] = talk.meet_proven("bob")
    [carol] = talk.meet("carol")
    letter = carol.sends(bob, "hi")

    carol.submits(letter, bob)
    carol.asks()
    assert carol.hears() == []
    bob.acks(letter)

    assert carol.hears() == ["error duplicate", "pong"]
    assert bob.hears() == ["carol: hi"]


def test_a_repeat_of_what_was_refused_is_refused_with_it() -> None:
    talk = Conversation(mailbox_max_messages=1, mailbox_sender_share=1.0)
    alice, alice_too, bob = talk.meet_proven("alice", "alice", "bob")
    bob.leaves()
    alice.sends(bob, "1")
    alice.hears()

    with talk.busy_disk():
        letter = alice.sends(bob, "2")
        alice_too.submits(letter, bob)

    assert alice.hears() == ["error mailbox_full"]
    assert alice_too.hears() == ["error mailbox_full"]


# What errors name


def forged(sender: Speaker, to: Speaker) -> dict[str, Json]:
    return sender.seals(to.id, "hi").to_dict() | {"signature": "00" * 64}


def misdirected(sender: Speaker, to: Speaker) -> dict[str, Json]:
    return sender.seals(CAROL, "hi").to_dict()


def foreign(sender: Speaker, to: Speaker) -> dict[str, Json]:
    return to.seals(to.id, "hi").to_dict()


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (forged, "invalid_envelope"),
        (misdirected, "recipient_mismatch"),
        (foreign, "sender_mismatch"),
    ],
)
@pytest.mark.parametrize("meet", ["meet", "meet_proven"])
def test_an_error_names_the_envelope_and_the_recipient(
    meet: str, make: Callable[[Speaker, Speaker], dict[str, Any]], code: str
) -> None:
    alice, bob = getattr(Conversation(), meet)("alice", "bob")
    envelope = make(alice, bob)

    alice.says({"type": "message", "to": bob.id, "envelope": envelope})
    error = error_of(alice)

    assert (error.code, error.envelope_id, error.to) == (code, envelope["id"], bob.id)


def test_a_frame_of_bad_shape_is_named_as_far_as_it_can_be_read() -> None:
    alice, bob = Conversation().meet_proven("alice", "bob")
    letter = alice.seals(bob.id, "hi")
    shape = f'"to":"{bob.id}","confirm":"yes","envelope":{json_text(letter.to_dict())}'

    alice.says(f'{{"type":"message",{shape}}}')
    error = error_of(alice)

    assert error.message == 'Invalid message: missing or invalid "confirm" field'
    assert (error.envelope_id, error.to) == (letter.id, bob.id)


# What is told of the wish for an acknowledgement


def test_the_wish_for_an_acknowledgement_goes_along_also_through_the_mailbox() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    alice.submits(alice.seals(bob.id, "live"), bob, confirm=True)
    alice.submits(alice.seals(bob.id, "plain"), bob)
    bob.leaves()
    alice.submits(alice.seals(bob.id, "stored"), bob, confirm=True)

    again = talk.prove("bob")
    deliveries = [answer for answer in again.answers() if isinstance(answer, Delivery)]

    assert [delivery.confirm for delivery in deliveries] == [True, False, True]
    assert all(delivery.is_stored for delivery in deliveries)


def test_the_reference_is_told_nothing_of_flags() -> None:
    talk = Conversation(storage_peers=["carol"])
    [alice] = talk.meet_proven("alice")
    alice.submits(alice.seals(CAROL, "stored"), CAROL, confirm=True)

    carol = talk.join("carol")
    alice.submits(alice.seals(CAROL, "live"), CAROL, confirm=True)
    _, *deliveries = carol.texts()

    assert len(deliveries) == 2
    assert not any('"confirm"' in text or '"stored":' in text for text in deliveries)
