"""What a client has to say: in which order it leaves, and what waits for what."""

from __future__ import annotations

import math

import pytest

from agora.envelope import seal
from agora.errors import OutboxFullError, TryAgainError
from agora.protocol.client.outbox import (
    MANY,
    ONE_BY_ONE,
    Done,
    InFlightLimit,
    Outbox,
    Outgoing,
    Status,
)
from agora.testing.conversation import keys_of


def message(to: str, payload: str = "hi") -> Outgoing:
    envelope = seal(
        keys_of("alice"), type="publish", payload=payload, to=keys_of(to).peer_id, timestamp_ms=0
    )
    return Outgoing(to, envelope)


def outbox_of(*messages: Outgoing) -> Outbox:
    outbox = Outbox(max_messages=10, max_bytes=100_000)
    for outgoing in messages:
        outbox.add(outgoing)
    return outbox


def ready(outbox: Outbox, *, now: float = 0.0, limit: InFlightLimit = ONE_BY_ONE) -> list[Outgoing]:
    """Return what may leave, and have it leave."""
    leaving = []
    for outgoing in outbox.ready(now=now, limit=limit):
        outbox.dispatch(outgoing)
        leaving.append(outgoing)
    return leaving


def postpone(outbox: Outbox, outgoing: Outgoing, *, seconds: float = 5.0) -> list[Outgoing]:
    return outbox.postpone(outgoing, why="unknown_recipient", now=0.0, first=seconds, cap=300.0)


def test_messages_to_different_recipients_leave_together_in_order() -> None:
    to_bob, to_carol = message("bob"), message("carol")

    assert ready(outbox_of(to_bob, to_carol)) == [to_bob, to_carol]


def test_messages_to_one_recipient_leave_one_after_the_other() -> None:
    first, second = message("bob"), message("bob")
    outbox = outbox_of(first, second)

    assert ready(outbox) == [first]
    assert ready(outbox) == []
    outbox.settle(first, Status.SENT)
    assert ready(outbox) == [second]


def test_a_message_that_waits_holds_back_only_those_behind_it_for_the_same_recipient() -> None:
    waiting, behind, other = message("bob"), message("bob"), message("carol")
    outbox = outbox_of(waiting, behind, other)

    postpone(outbox, waiting)

    assert ready(outbox) == [other]


def test_a_message_leaves_when_its_time_has_come() -> None:
    waiting = message("bob")
    outbox = outbox_of(waiting)

    postpone(outbox, waiting)

    assert ready(outbox, now=4.9) == []
    assert ready(outbox, now=5.0) == [waiting]


def test_who_cannot_be_reached_is_tried_ever_more_rarely() -> None:
    waiting = message("bob")
    outbox = outbox_of(waiting)

    waits = []
    for _ in range(8):
        postpone(outbox, waiting)
        waits.append(outbox.next_due(now=0.0))

    assert waits == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]


def test_who_was_reached_is_tried_as_if_for_the_first_time() -> None:
    first, second = message("bob"), message("bob")
    outbox = outbox_of(first, second)
    postpone(outbox, first)
    postpone(outbox, first)

    outbox.settle(first, Status.SENT)

    assert ready(outbox) == [second]
    assert second.why is None
    postpone(outbox, second)
    assert outbox.next_due(now=0.0) == 5.0


def test_a_message_settled_while_others_leave_does_not_leave_again() -> None:
    to_bob, to_carol = message("bob"), message("carol")
    outbox = outbox_of(to_bob, to_carol)

    leaving = outbox.ready(now=0.0)
    assert next(leaving) is to_bob
    outbox.settle(to_carol, Status.SENT)

    assert list(leaving) == []


def test_the_next_moment_is_that_of_the_first_message_to_wait_for_one() -> None:
    sooner, later, ready_now = message("bob"), message("carol"), message("dave")
    outbox = outbox_of(later, sooner, ready_now)

    postpone(outbox, sooner, seconds=5.0)
    postpone(outbox, later, seconds=7.0)

    assert outbox.next_due(now=0.0) == 5.0
    assert outbox.next_due(now=5.0) == 7.0
    assert outbox.next_due(now=7.0) == math.inf


def test_whoever_comes_gets_what_waited_for_them() -> None:
    for_bob, for_carol = message("bob"), message("carol")
    outbox = outbox_of(for_bob, for_carol)
    postpone(outbox, for_bob)
    postpone(outbox, for_carol)

    outbox.wake("bob")

    assert ready(outbox) == [for_bob]


def test_a_settled_message_is_gone() -> None:
    outgoing = message("bob")
    outbox = outbox_of(outgoing)

    outbox.settle(outgoing, Status.SENT)

    assert list(outbox) == []
    assert outgoing.status is Status.SENT


def test_a_message_settled_twice_is_gone_once() -> None:
    first, second = message("bob"), message("carol")
    outbox = Outbox(max_messages=10, max_bytes=2 * first.size)
    outbox.add(first)

    outbox.settle(first, Status.SENT)
    outbox.settle(first, Status.SENT)
    outbox.add(second)

    with pytest.raises(OutboxFullError):
        outbox.add(message("dave", "x" * first.size))


def test_a_full_outbox_refuses_the_newest_and_keeps_what_it_has() -> None:
    kept, refused = message("bob"), message("carol")
    outbox = Outbox(max_messages=1, max_bytes=100_000)
    outbox.add(kept)

    with pytest.raises(OutboxFullError, match="outbox holds 1 messages of at most 1"):
        outbox.add(refused)
    assert list(outbox) == [kept]


def test_the_bound_on_bytes_is_one_on_envelopes() -> None:
    kept, refused = message("bob"), message("carol")
    outbox = Outbox(max_messages=10, max_bytes=kept.size)
    outbox.add(kept)

    with pytest.raises(OutboxFullError, match=f"no room for {refused.size} more"):
        outbox.add(refused)
    assert list(outbox) == [kept]


def test_what_was_settled_makes_room() -> None:
    first, second = message("bob"), message("carol")
    outbox = Outbox(max_messages=1, max_bytes=100_000)
    outbox.add(first)

    outbox.settle(first, Status.REFUSED)
    outbox.add(second)

    assert list(outbox) == [second]


def test_a_message_behind_one_that_waits_knows_why() -> None:
    waiting, behind, other = message("bob"), message("bob"), message("carol")
    outbox = outbox_of(waiting)
    assert postpone(outbox, waiting) == [waiting]

    outbox.add(behind)
    outbox.add(other)

    assert (behind.why, other.why) == ("unknown_recipient", None)


# Many on their way


def test_many_messages_to_one_recipient_may_leave_together() -> None:
    first, second, other = message("bob"), message("bob"), message("carol")

    assert ready(outbox_of(first, other, second), limit=MANY) == [first, other, second]


def test_no_more_leave_than_the_limit_allows_but_one_always_may() -> None:
    messages = [message("bob", "x" * 100) for _ in range(5)]
    outbox = outbox_of(*messages)

    two = InFlightLimit(max_messages=10, max_bytes=2 * messages[0].size)
    assert ready(outbox, limit=two) == messages[:2]
    outbox.settle(messages[0], Status.SENT)
    outbox.settle(messages[1], Status.SENT)
    assert ready(outbox, limit=InFlightLimit(max_messages=10, max_bytes=1)) == messages[2:3]


def test_each_knows_the_one_before_it_that_is_unanswered() -> None:
    first, second, third = (message("bob", str(number)) for number in range(3))
    outbox = outbox_of(first, second, third)

    assert outbox.dispatch(first) is None
    assert outbox.dispatch(second) == first.envelope.id
    outbox.settle(first, Status.SENT)
    outbox.settle(second, Status.SENT)
    assert outbox.dispatch(third) is None


def test_what_comes_back_waits_in_its_place_until_those_behind_it_are_answered() -> None:
    messages = [message("bob", str(number)) for number in range(4)]
    outbox = outbox_of(*messages)
    ready(outbox, limit=MANY)

    outbox.put_back(messages[2])
    outbox.put_back(messages[1])

    assert ready(outbox, limit=MANY) == []
    outbox.settle(messages[3], Status.SENT)
    assert ready(outbox, limit=MANY) == messages[1:3]


def test_with_the_connection_all_that_was_on_its_way_waits_again_in_order() -> None:
    messages = [message("bob", str(number)) for number in range(3)]
    outbox = outbox_of(*messages)
    ready(outbox, limit=MANY)

    outbox.put_all_back()

    assert ready(outbox, limit=MANY) == messages


def test_a_message_is_found_by_its_id_as_long_as_somebody_holds_it() -> None:
    outgoing = message("bob")
    outbox = outbox_of(outgoing)
    envelope_id = outgoing.envelope.id
    outbox.settle(outgoing, Status.STORED)

    assert outbox.find("bob", envelope_id) is outgoing
    del outgoing
    assert outbox.find("bob", envelope_id) is None


# With a journal


class Book:
    """A journal that says when something is on disk when the test does."""

    def __init__(self) -> None:
        self.kept: list[Outgoing] = []
        self.waiting: list[Done] = []

    def keep(self, outgoing: Outgoing, done: Done) -> None:
        self.kept.append(outgoing)
        self.waiting.append(done)

    def renew(self, outgoing: Outgoing, done: Done) -> None:
        self.waiting.append(done)

    def let_go(self, outgoing: Outgoing) -> None:
        self.kept.remove(outgoing)


def kept_in(book: Book, *messages: Outgoing) -> Outbox:
    outbox = Outbox(max_messages=10, max_bytes=100_000, journal=book)
    for outgoing in messages:
        outbox.add(outgoing)
    return outbox


def test_nothing_leaves_before_it_is_kept_nor_what_is_behind_it() -> None:
    book, first, second = Book(), message("bob"), message("bob")
    outbox = kept_in(book, first, second)

    assert ready(outbox, limit=MANY) == []
    book.waiting[1](None)
    assert ready(outbox, limit=MANY) == []
    book.waiting[0](None)
    assert ready(outbox, limit=MANY) == [first, second]


def test_what_is_settled_is_kept_no_longer() -> None:
    book, outgoing = Book(), message("bob")
    outbox = kept_in(book, outgoing)

    outbox.settle(outgoing, Status.DELIVERED)

    assert book.kept == []


def test_what_cannot_be_kept_is_refused() -> None:
    book, outgoing = Book(), message("bob")
    outbox = kept_in(book, outgoing)

    book.waiting[0](OSError("disk full"))

    assert isinstance(outgoing.refusal, TryAgainError)
    assert (len(outbox), book.kept) == (0, [])


def test_a_new_envelope_leaves_when_it_is_kept() -> None:
    book, outgoing = Book(), message("bob")
    outbox = kept_in(book, outgoing)
    book.waiting.pop()(None)

    outbox.renew(outgoing, message("bob", "anew").envelope)

    assert ready(outbox) == []
    book.waiting.pop()(None)
    assert ready(outbox) == [outgoing]


def test_what_need_not_outlive_the_process_is_not_kept() -> None:
    book, outgoing = Book(), message("bob")
    outgoing.is_durable = False

    assert ready(kept_in(book, outgoing)) == [outgoing]
    assert book.kept == []
