"""
What a client has to say and the relay has not yet taken over.

Messages leave in the order they were given, each recipient's strictly so: one
that waits for its recipient holds back only those behind it for the same one.
At the bound nothing is dropped; the newest is refused.

Several may be on their way to one recipient. When one of them comes back, it
waits again in its place, and nothing more leaves for that recipient until those
that left behind it are answered too: so no message ever overtakes another.
"""

from __future__ import annotations

import itertools
import math
from bisect import insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol
from weakref import WeakValueDictionary

from agora.envelope import Envelope
from agora.errors import AgoraError, OutboxFullError, TryAgainError

__all__ = ["MANY", "ONE_BY_ONE", "InFlightLimit", "Journal", "Outbox", "Outgoing", "Status"]


class Status(StrEnum):
    """What is known of a message that was given to ``send()``."""

    QUEUED = "queued"
    """It waits in the outbox, or for the relay's word."""
    SENT = "sent"
    """The relay handed it to a connection that cannot ack; no more will be known."""
    STORED = "stored"
    """It is in the recipient's mailbox, synced to the relay's disk."""
    DELIVERED = "delivered"
    """The recipient's application has it."""
    DUPLICATE = "duplicate"
    """It was delivered or stored before; an answer that was lost told so."""
    REFUSED = "refused"
    """The relay said no, finally."""


@dataclass(eq=False, slots=True, weakref_slot=True)
class Outgoing:
    """
    One message on its way to one recipient. Only its :class:`Outbox` changes it.

    Attributes:
        to: The recipient's peer id; ``"*"`` for everyone.
        envelope: As signed last.
        confirm: Whether the recipient is asked for a signed acknowledgement.
        is_durable: Whether it shall outlive the process, where there is a journal.
        is_fleeting: Whether it is let go, not kept, when its recipient cannot be reached.
        status: What is known of it.
        why: The code that keeps it waiting, such as ``unknown_recipient``.
        refusal: Why it was refused.
        is_kept: Whether it is where a crash does not reach it, or need not be.
        was_written: Whether it left for a relay under this id, so that a relay may have it.
        is_renewed: Whether it had to be signed anew.
        acknowledgement: What the recipient's client said of it, ``processed`` or ``failed``.
        bounce: The code with which the relay gave it up after it was stored.
        count: How many peers a broadcast was handed to, where the relay told.
        traceparent: Where in a trace it was sent; it does not outlive the process.
    """

    to: str
    envelope: Envelope
    confirm: bool = False
    is_durable: bool = True
    is_fleeting: bool = False
    status: Status = Status.QUEUED
    why: str | None = None
    refusal: AgoraError | None = None
    is_kept: bool = True
    was_written: bool = False
    is_renewed: bool = False
    acknowledgement: str | None = None
    bounce: str | None = None
    count: int | None = None
    traceparent: str | None = None

    @property
    def size(self) -> int:
        """Bytes of the envelope's text."""
        return len(self.envelope.wire_text.encode())


Done = Callable[[Exception | None], None]
"""Told when something is on disk, or why it could not be put there."""


class Journal(Protocol):
    """Where messages outlive the process. Each *done* is called once, from the loop's thread."""

    def keep(self, outgoing: Outgoing, done: Done) -> None:
        """Put a message there."""
        ...

    def renew(self, outgoing: Outgoing, done: Done) -> None:
        """Put its new envelope in place of the old one."""
        ...

    def let_go(self, outgoing: Outgoing) -> None:
        """Take it out: it is settled, or nobody wants it any more."""
        ...


@dataclass(frozen=True, slots=True)
class InFlightLimit:
    """
    How much may be on its way to one recipient, unanswered; one message may always.

    What is beyond it waits in the outbox.
    """

    max_messages: float
    max_bytes: float = math.inf


ONE_BY_ONE = InFlightLimit(max_messages=1)
"""Without ``after`` the order would be lost were the first refused and the second taken."""

MANY = InFlightLimit(max_messages=256, max_bytes=1024 * 1024)
"""As much as a relay has in flight to one session: more would only wait elsewhere."""


@dataclass(slots=True)
class _Queue:
    """
    What is for one recipient. What is known of the recipient holds for all of it.

    Attributes:
        waiting: What is to be written, in order, each with its number.
        in_flight: What was written and is not answered, in order, each with its size.
        not_before: When the first that waits may be tried again.
        attempts: How often in a row the recipient could not be reached.
        why: The code that said so last.
    """

    waiting: list[tuple[int, Outgoing]] = field(default_factory=list)
    in_flight: dict[Outgoing, int] = field(default_factory=dict)
    bytes_in_flight: int = 0
    not_before: float = 0.0
    attempts: int = 0
    why: str | None = None

    def has_room(self, size: int, limit: InFlightLimit) -> bool:
        return not self.in_flight or (
            len(self.in_flight) < limit.max_messages
            and self.bytes_in_flight + size <= limit.max_bytes
        )

    def first_waiting(self) -> Outgoing | None:
        return self.waiting[0][1] if self.waiting else None

    def last_in_flight(self) -> Outgoing | None:
        return next(reversed(self.in_flight), None)

    def land(self, outgoing: Outgoing) -> None:
        self.bytes_in_flight -= self.in_flight.pop(outgoing)


class Outbox:
    """
    Messages that wait, in order.

    Args:
        max_messages: Bound on messages.
        max_bytes: Bound on bytes of all their envelopes.
        journal: Where they outlive the process; None keeps them in memory alone.

    Attributes:
        was_cut_off: Whether the last connection ended with something on its way.
    """

    def __init__(
        self, *, max_messages: int, max_bytes: int, journal: Journal | None = None
    ) -> None:
        self.was_cut_off = False
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._journal = journal
        self._numbers = itertools.count()
        self._here: dict[Outgoing, tuple[int, int]] = {}  # each with its number and its size
        self._queues: dict[str, _Queue] = {}  # the same by recipient
        self._bytes = 0
        self._known: WeakValueDictionary[tuple[str, str], Outgoing] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._here)

    def __iter__(self) -> Iterator[Outgoing]:
        return iter(list(self._here))

    def __contains__(self, outgoing: object) -> bool:
        return outgoing in self._here

    def find(self, to: str, envelope_id: str) -> Outgoing | None:
        """Return the message that went to *to* under this id, while anybody else remembers it."""
        return self._known.get((to, envelope_id))

    # What comes and goes

    def add(self, outgoing: Outgoing) -> None:
        """
        Take a message behind all others.

        With a journal it leaves when it is there; if it cannot be put there, it
        is refused with a TryAgainError.

        Raises:
            OutboxFullError: At a bound; the message was not taken.
        """
        self._refuse_beyond_bounds(outgoing.size)
        self.take_back(outgoing)
        if self._journal and outgoing.is_durable:
            outgoing.is_kept = False
            self._journal.keep(outgoing, lambda error: self._kept(outgoing, error))

    def take_back(self, outgoing: Outgoing) -> None:
        """Take a message that a journal has kept, behind all others and also beyond the bounds."""
        size, number = outgoing.size, next(self._numbers)
        queue = self._queues.setdefault(outgoing.to, _Queue())
        queue.waiting.append((number, outgoing))
        outgoing.why = queue.why
        self._here[outgoing] = (number, size)
        self._known[outgoing.to, outgoing.envelope.id] = outgoing
        self._bytes += size

    def _refuse_beyond_bounds(self, size: int) -> None:
        if len(self) + 1 > self._max_messages:
            raise OutboxFullError(
                f"outbox holds {len(self)} messages of at most {self._max_messages}"
            )
        if self._bytes + size > self._max_bytes:
            raise OutboxFullError(
                f"outbox holds {self._bytes} bytes of at most {self._max_bytes}: "
                f"no room for {size} more"
            )

    def _kept(self, outgoing: Outgoing, error: Exception | None) -> None:
        outgoing.is_kept = True
        if error is not None and outgoing in self._here:
            refusal = TryAgainError(f"the outbox could not keep the message: {error}")
            self.settle(outgoing, Status.REFUSED, refusal)

    def settle(self, outgoing: Outgoing, status: Status, refusal: AgoraError | None = None) -> None:
        """Let a message go: the relay has had its last word on it, *refusal* if it was no."""
        outgoing.status = status
        outgoing.refusal = refusal
        self.withdraw(outgoing)

    def withdraw(self, outgoing: Outgoing) -> None:
        """Take a message back, if it still waits; one that is under way may arrive."""
        if outgoing not in self._here:
            return
        number, size = self._here.pop(outgoing)
        self._bytes -= size
        queue = self._queues[outgoing.to]
        if outgoing in queue.in_flight:
            queue.land(outgoing)
        else:
            queue.waiting.remove((number, outgoing))
        if queue.waiting or queue.in_flight:
            self._let_go_on(queue)
        else:
            del self._queues[outgoing.to]
        if self._journal and outgoing.is_durable:
            self._journal.let_go(outgoing)

    def _let_go_on(self, queue: _Queue) -> None:
        queue.attempts, queue.not_before, queue.why = 0, 0.0, None
        for _, behind in queue.waiting:
            behind.why = None

    # What may be written

    def ready(self, *, now: float, limit: InFlightLimit = ONE_BY_ONE) -> Iterator[Outgoing]:
        """
        Yield the messages that may be written now, in order.

        Each is to be given to :meth:`dispatch` before the next is asked for.
        """
        due = [queue for queue in self._queues.values() if queue.not_before <= now]
        candidates = (entry for queue in due for entry in _next_entries(queue, limit))
        for _, outgoing in sorted(candidates, key=lambda entry: entry[0]):
            # Looked at one by one: meanwhile it may have been settled, or those before it.
            if self._may_leave(outgoing, now, limit):
                yield outgoing

    def _may_leave(self, outgoing: Outgoing, now: float, limit: InFlightLimit) -> bool:
        queue = self._queues.get(outgoing.to)
        if queue is None or queue.first_waiting() is not outgoing or not outgoing.is_kept:
            return False
        number, size = self._here[outgoing]
        ahead = queue.last_in_flight()
        is_overtaken = ahead is not None and self._here[ahead][0] > number
        return not is_overtaken and queue.not_before <= now and queue.has_room(size, limit)

    def dispatch(self, outgoing: Outgoing) -> str | None:
        """Note that a message is written now; return the id of the one it must not overtake."""
        queue = self._queues[outgoing.to]
        ahead = queue.last_in_flight()
        number, size = self._here[outgoing]
        queue.waiting.remove((number, outgoing))
        queue.in_flight[outgoing] = size
        queue.bytes_in_flight += size
        outgoing.was_written = True
        return ahead.envelope.id if ahead else None

    @property
    def in_flight(self) -> list[Outgoing]:
        """What was written and is not answered, in the order in which it was given."""
        found = [outgoing for queue in self._queues.values() for outgoing in queue.in_flight]
        return sorted(found, key=self._here.__getitem__)

    def next_due(self, *, now: float) -> float:
        """Return when the next message that waits for a later moment may be tried; or infinity."""
        later = (queue.not_before for queue in self._queues.values() if queue.not_before > now)
        return min(later, default=math.inf)

    # What is heard of it

    def put_back(self, outgoing: Outgoing, *, why: str | None = None) -> bool:
        """
        Have a message wait again, in its place; *why* is the code that keeps it.

        Returns:
            Whether it is the first that waits for its recipient. If not, it waits
            for what the one before it waits for.
        """
        queue = self._queues[outgoing.to]
        if outgoing in queue.in_flight:
            queue.land(outgoing)
            insort(queue.waiting, (self._here[outgoing][0], outgoing), key=lambda entry: entry[0])
        first = queue.first_waiting()
        is_first = first is outgoing
        outgoing.why = why if is_first or first is None else first.why
        return is_first

    def put_all_back(self) -> None:
        """Have all wait again that is on its way: the connection is gone."""
        in_flight = self.in_flight
        self.was_cut_off = bool(in_flight)
        for outgoing in in_flight:
            self.put_back(outgoing, why=outgoing.why)

    def postpone(
        self, outgoing: Outgoing, *, why: str | None, now: float, first: float, cap: float
    ) -> list[Outgoing]:
        """
        Keep a message whose recipient cannot be reached, and all behind it, for a while.

        Args:
            outgoing: The message that was tried.
            why: The code that said so; None for a moment's wait that needs no word.
            now: The time.
            first: Seconds to wait the first time; twice as long each time after.
            cap: The most that this grows to.

        Returns:
            All that now wait for this reason, in order.
        """
        if not self.put_back(outgoing, why=why):
            return [outgoing]  # it shares the fate of the one before it, which waits already
        queue = self._queues[outgoing.to]
        queue.not_before = now + min(first * 2 ** min(queue.attempts, _MAX_DOUBLINGS), cap)
        queue.attempts += 1
        queue.why = why
        waiting = [message for _, message in queue.waiting]
        for message in waiting:
            message.why = why
        return waiting

    def renew(self, outgoing: Outgoing, envelope: Envelope) -> None:
        """Put a newly signed envelope in place of one whose id cannot be used again."""
        outgoing.envelope = envelope
        outgoing.was_written, outgoing.is_renewed = False, True
        self._known[outgoing.to, envelope.id] = outgoing
        if self._journal and outgoing.is_durable:
            outgoing.is_kept = False
            self._journal.renew(outgoing, lambda error: self._kept(outgoing, error))

    def wake(self, peer: str) -> None:
        """*peer* has come: what waits for it may be tried at once."""
        if queue := self._queues.get(peer):
            queue.not_before = 0.0


_MAX_DOUBLINGS = 16
"""Twice as often as any cap asks for, and far from the end of floats."""


def _next_entries(queue: _Queue, limit: InFlightLimit) -> list[tuple[int, Outgoing]]:
    """Return what there is room for in flight, by number alone; sizes are looked at later."""
    room = max(limit.max_messages - len(queue.in_flight), 0 if queue.in_flight else 1)
    return queue.waiting[: int(min(room, len(queue.waiting)))]
