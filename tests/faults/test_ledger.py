"""In made-up histories the checker finds each kind of violation, and none where all is well."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.ledger import Book, Entry, Event, check, digest, read_books

ALICE, BOB = "alice", "bob"

Told = tuple[str, ...]
"""(event, id) or (event, id, detail)."""


def entries(*told: Told) -> list[Entry]:
    """Write a history of one sender and one recipient, each on one session."""
    return [
        Entry(
            event=Event(event),
            session="b1" if event in OF_RECIPIENTS else "a1",
            moment=moment,
            id=identifier,
            sender=ALICE,
            to=BOB,
            digest=f"what {identifier} says",
            detail="".join(detail),
        )
        for moment, (event, identifier, *detail) in enumerate(told, start=1)
    ]


OF_RECIPIENTS = {Event.DELIVERY, Event.HANDED, Event.ACK, Event.NACK}

SENT: Told = (Event.SEND, "m1")
STORED = (Event.RECEIPT, "m1", "stored")
DELIVERED = (Event.RECEIPT, "m1", "delivered")
CAME = (Event.DELIVERY, "m1")
HANDED = (Event.HANDED, "m1")
ACKED = (Event.ACK, "m1")
WELL = [SENT, STORED, CAME, HANDED, ACKED]


def violations(*told: Told) -> list[str]:
    """Return the kinds of what is wrong with a history."""
    return [violation.split(":")[0] for violation in check(entries(*told)).violations]


def test_a_history_in_which_all_is_well_has_no_violation() -> None:
    assert violations(*WELL) == []
    assert violations(SENT, CAME, HANDED, ACKED, DELIVERED) == []


def test_a_stored_message_that_never_came_is_lost() -> None:
    assert violations(SENT, STORED) == ["lost"]


def test_a_duplicate_receipt_is_a_promise_as_well() -> None:
    assert violations(SENT, (Event.RECEIPT, "m1", "duplicate")) == ["lost"]


def test_a_message_that_came_and_never_reached_the_application_is_lost() -> None:
    assert violations(SENT, STORED, CAME) == ["lost"]


def test_a_message_that_bounced_is_not_lost() -> None:
    assert violations(SENT, STORED, (Event.BOUNCE, "m1", "expired")) == []


def test_a_receipt_that_promises_nothing_is_not_held_to_more() -> None:
    assert violations(SENT, (Event.RECEIPT, "m1", "sent")) == []


def test_delivered_before_any_ack_is_a_false_receipt() -> None:
    assert violations(SENT, CAME, DELIVERED, HANDED, ACKED) == ["false"]


def test_a_message_that_nobody_sent_is_invented() -> None:
    assert violations(CAME, HANDED, ACKED) == ["invented"]
    assert violations(CAME, SENT, STORED, HANDED, ACKED) == ["invented"]


def test_a_message_said_again_after_it_came_is_not_invented() -> None:
    assert violations(SENT, CAME, HANDED, ACKED, SENT, (Event.RECEIPT, "m1", "duplicate")) == []


def test_a_message_to_someone_else_is_invented() -> None:
    history = entries(*WELL)
    misled = Entry(event=Event.DELIVERY, session="c1", moment=9, id="m1", sender=ALICE, to="carol")

    assert check([*history, misled]).violations[0].startswith("invented")


def test_a_message_that_came_otherwise_than_it_was_sent_is_changed() -> None:
    history = entries(SENT, STORED, HANDED, ACKED)
    other = Entry(event=Event.DELIVERY, session="b1", moment=9, id="m1", sender=ALICE, to=BOB)

    assert check([*history, other]).violations[0].startswith("changed")


def test_a_message_under_another_name_is_changed() -> None:
    history = entries(SENT, STORED, HANDED, ACKED)
    forged = {"id": "m1", "sender": "mallory", "to": BOB, "digest": "what m1 says"}
    delivery = Entry(event=Event.DELIVERY, session="b1", moment=9, **forged)

    assert check([*history, delivery]).violations[0].startswith("changed")


def test_a_message_handed_over_twice_is_doubled() -> None:
    assert violations(*WELL, CAME, HANDED, ACKED) == ["doubled"]


def test_a_message_delivered_twice_and_handed_over_once_is_counted_and_no_violation() -> None:
    verdict = check(entries(*WELL, CAME, ACKED))

    assert verdict.violations == ()
    assert verdict.counts["repeated deliveries"] == 1


def both(event: Event, *detail: str) -> list[Told]:
    """Tell the same of the first message and the second."""
    return [(event, "m1", *detail), (event, "m2", *detail)]


def test_a_message_that_comes_before_an_earlier_one_has_overtaken_it() -> None:
    sent = [*both(Event.SEND), *both(Event.RECEIPT, "stored")]
    handed = [*both(Event.HANDED), *both(Event.ACK)]

    assert violations(*sent, *both(Event.DELIVERY), *handed) == []
    assert violations(*sent, (Event.DELIVERY, "m2"), CAME, *handed) == ["overtaken"]


def test_a_repetition_overtakes_nobody() -> None:
    told = [*both(Event.SEND), *both(Event.DELIVERY), CAME, *both(Event.HANDED), *both(Event.ACK)]

    assert violations(*told, *both(Event.RECEIPT, "delivered")) == []


def test_two_answers_to_one_attempt_are_one_too_many() -> None:
    assert violations(*WELL, STORED) == ["answered twice"]
    assert violations(SENT, *WELL, STORED) == []  # said twice, answered twice


def test_an_attempt_on_a_session_left_in_peace_has_its_answer() -> None:
    done = Entry(event=Event.DONE, session="a1", moment=99)
    history = [*entries(SENT, *WELL), done]

    assert [one.split(":")[0] for one in check(history).violations] == ["not answered"]
    assert check(history[:-1]).violations == ()


def test_a_message_without_a_last_word_is_unsettled() -> None:
    assert violations(SENT, CAME, HANDED, ACKED) == ["unsettled"]
    assert violations(SENT, (Event.ERROR, "m1", "mailbox_full")) == ["unsettled"]
    assert violations(SENT, (Event.ERROR, "m1", "stale")) == []


def test_the_counts_tell_what_happened() -> None:
    assert check(entries(*WELL)).counts == {
        "messages": 1,
        "attempts": 1,
        "receipt stored": 1,
        "deliveries": 1,
        "handed over": 1,
        "acks": 1,
        "repeated deliveries": 0,
    }


def test_books_are_read_together_in_the_order_of_events(tmp_path: Path) -> None:
    with Book(tmp_path / "a") as ours, Book(tmp_path / "b") as theirs:
        ours.write(Event.SEND, "a1", id="m1", sender=ALICE, to=BOB, digest="d")
        theirs.write(Event.DELIVERY, "b1", id="m1", sender=ALICE, to=BOB, digest="d")
        ours.write(Event.RECEIPT, "a1", id="m1", to=BOB, detail="stored")

    found = read_books([tmp_path / "b", tmp_path / "a"])
    assert [entry.event for entry in found] == [Event.SEND, Event.DELIVERY, Event.RECEIPT]
    assert found[2].detail == "stored"


def test_a_line_cut_off_by_a_kill_counts_as_never_written(tmp_path: Path) -> None:
    path = tmp_path / "book"
    with Book(path) as book:
        book.write(Event.OPENED, "a1")
    with path.open("a") as torn:
        torn.write('{"event": "se')

    assert [entry.event for entry in read_books([path])] == [Event.OPENED]


@pytest.mark.parametrize("change", [{"payload": "hellO"}, {"signature": "00"}, {"extra": 1}])
def test_the_digest_sees_any_change(change: dict[str, object]) -> None:
    envelope: dict[str, object] = {"id": "m1", "payload": "hello", "signature": "01"}

    assert digest(envelope | change) != digest(envelope)
    assert digest(dict(reversed(envelope.items()))) == digest(envelope)
