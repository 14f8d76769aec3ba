"""What has come: handed over once, acked when it is done, and brought again when it is not."""

from __future__ import annotations

import json
from collections.abc import Callable

from agora.envelope import Envelope, seal
from agora.errors import AgoraError
from agora.protocol.client.intake import Intake
from agora.protocol.client.seen import Done, Outcome, SeenIds
from agora.protocol.client.timing import Timing
from agora.testing.conversation import keys_of

ALICE, BOB = keys_of("alice"), keys_of("bob")


def letter(number: int = 1) -> Envelope:
    return seal(BOB, type="publish", payload=number, to=ALICE.peer_id, timestamp_ms=number)


class SlowStore:
    """Remembers when the test says so."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], Outcome] = {}
        self.waiting: list[Callable[[Exception | None], None]] = []

    def outcome_of(self, sender: str, envelope_id: str) -> Outcome | None:
        return self.known.get((sender, envelope_id))

    def saw(
        self, sender: str, envelope_id: str, done: Done, *, outcome: Outcome = "processed"
    ) -> None:
        def finish(error: Exception | None) -> None:
            if error is None:
                self.known[sender, envelope_id] = outcome
            done(error)

        self.waiting.append(finish)


def intake_of(store: SeenIds | SlowStore | None = None, *, has_acks: bool = True) -> Intake:
    intake = Intake(store or SeenIds(max_ids=100), timing=Timing(nack_first=1.0, nack_cap=60.0))
    intake.begin(has_acks=has_acks)
    return intake


def frames(intake: Intake) -> list[dict[str, object]]:
    return [json.loads(frame) for frame in intake.frames()]


def ack(*envelopes: Envelope) -> dict[str, object]:
    return {"type": "ack", "ids": [envelope.id for envelope in envelopes]}


def nack(envelope: Envelope, delay_ms: int) -> dict[str, object]:
    return {"type": "nack", "ids": [envelope.id], "delayMs": delay_ms}


def test_a_message_is_acked_when_it_is_done_and_not_before() -> None:
    intake = intake_of()

    assert intake.take(letter())
    assert frames(intake) == []
    intake.ack(letter())
    assert frames(intake) == [ack(letter())]
    assert frames(intake) == []


def test_what_is_done_in_one_turn_is_acked_in_one_frame() -> None:
    intake = intake_of()
    for number in (1, 2, 3):
        intake.take(letter(number))
        intake.ack(letter(number))

    assert frames(intake) == [ack(letter(1), letter(2), letter(3))]


def test_no_frame_has_more_ids_than_a_relay_takes() -> None:
    intake = intake_of()
    for number in range(1_500):
        intake.take(letter(number))
        intake.ack(letter(number))

    assert [len(json.loads(frame)["ids"]) for frame in intake.frames()] == [1_000, 500]


def test_what_comes_again_while_it_is_in_hand_is_neither_handed_over_nor_acked() -> None:
    intake = intake_of()
    intake.take(letter())

    assert not intake.take(letter())
    intake.begin(has_acks=True)  # nor on another connection
    assert not intake.take(letter())
    assert frames(intake) == []


def test_what_comes_again_when_it_was_done_is_acked_at_once() -> None:
    intake = intake_of()
    intake.take(letter())
    intake.ack(letter())
    list(intake.frames())

    assert not intake.take(letter())
    assert frames(intake) == [ack(letter())]


def test_what_was_put_off_is_handed_over_when_it_comes_again() -> None:
    intake = intake_of()
    intake.take(letter())
    intake.nack(letter(), 2.5)

    assert frames(intake) == [nack(letter(), 2500)]
    assert intake.take(letter())


def test_what_fails_again_and_again_is_put_off_for_longer_each_time() -> None:
    intake = intake_of()
    delays = []
    for _ in range(8):
        intake.take(letter())
        intake.nack(letter())
        [frame] = frames(intake)
        delays.append(frame["delayMs"])

    assert delays == [1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]


def test_what_was_done_is_not_put_off() -> None:
    intake = intake_of()
    intake.take(letter())
    intake.ack(letter())
    intake.nack(letter(), 1.0)

    assert frames(intake) == [ack(letter())]


def test_an_ack_waits_until_it_is_remembered() -> None:
    store = SlowStore()
    intake = intake_of(store)
    intake.take(letter())
    intake.ack(letter())

    assert frames(intake) == []
    assert not intake.take(letter())
    store.waiting.pop()(None)
    assert frames(intake) == [ack(letter())]


def test_what_could_not_be_remembered_is_not_acked_and_tried_again_when_it_comes_again() -> None:
    store, complaints = SlowStore(), list[AgoraError]()
    intake = Intake(store, timing=Timing(), complain=complaints.append)
    intake.begin(has_acks=True)
    intake.take(letter())
    intake.ack(letter())
    store.waiting.pop()(OSError("disk full"))

    assert frames(intake) == []
    assert [complaint.code for complaint in complaints] == ["try_again"]
    assert not intake.take(letter())
    store.waiting.pop()(None)
    assert frames(intake) == [ack(letter())]


def test_relays_of_the_reference_get_no_acks() -> None:
    intake = intake_of(has_acks=False)
    intake.take(letter(1))
    intake.ack(letter(1))
    intake.take(letter(2))
    intake.nack(letter(2))

    assert frames(intake) == []
    assert not intake.take(letter(1))
    assert not intake.take(letter(2))  # it could not be brought again


def test_a_broadcast_is_not_acked() -> None:
    intake = intake_of()
    intake.take(letter(), is_acked=False)
    intake.ack(letter())

    assert frames(intake) == []


def test_what_is_not_genuine_is_put_off_and_not_acked() -> None:
    intake = intake_of()
    intake.refuse("of a genuine message, perhaps")

    [frame] = frames(intake)
    assert frame["type"] == "nack"


def test_acks_that_were_too_many_are_said_again() -> None:
    intake = intake_of()
    intake.take(letter())
    intake.ack(letter())
    list(intake.frames())

    intake.repeat()

    assert frames(intake) == [ack(letter())]


def test_what_became_of_a_message_is_told_to_whom_asked_again_for_a_duplicate() -> None:
    told: list[tuple[str, str]] = []
    intake = Intake(
        SeenIds(max_ids=10),
        timing=Timing(),
        acknowledge=lambda envelope, outcome: told.append((envelope.id, outcome)),
    )
    intake.begin(has_acks=True)
    for number, confirm in ((1, True), (2, True), (3, False)):
        intake.take(letter(number), confirm=confirm)
    intake.ack(letter(1))
    intake.give_up(letter(2))
    intake.ack(letter(3))
    intake.take(letter(1), confirm=True)

    assert told == [
        (letter(1).id, "processed"),
        (letter(2).id, "failed"),
        (letter(1).id, "processed"),
    ]


def test_the_oldest_id_is_forgotten_at_the_bound() -> None:
    seen = SeenIds(max_ids=2)
    for envelope_id in ("1", "2", "3"):
        seen.saw("bob", envelope_id, lambda error: None)

    found = [seen.outcome_of("bob", envelope_id) for envelope_id in ("1", "2", "3")]
    assert found == [None, "processed", "processed"]
    assert seen.outcome_of("carol", "3") is None
