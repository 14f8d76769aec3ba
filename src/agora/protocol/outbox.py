"""
What a client has to say and the relay has not yet taken over.

Messages leave in the order they were given, each recipient's strictly so: one
that waits for its recipient holds back only those behind it for the same one.
At the bound nothing is dropped; the newest is refused.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from agora.envelope import Envelope
from agora.errors import OutboxFullError, RefusedError

__all__ = ["Outbox", "Outgoing", "Status"]


class Status(StrEnum):
    """What is known of a message that was given to ``send()``."""

    QUEUED = "queued"
    """It waits in the outbox, or for the relay's word."""
    SENT = "sent"
    """The relay took it; one of the reference dialect cannot say more."""
    REFUSED = "refused"
    """The relay said no, finally."""


@dataclass(eq=False, slots=True)
class Outgoing:
    """
    One message on its way to one recipient. Only its :class:`Outbox` changes it.

    Attributes:
        to: The recipient's peer id; ``"*"`` for everyone.
        envelope: As signed last.
        status: What is known of it.
        why: The code that keeps it waiting, such as ``unknown_recipient``.
        refusal: Why it was refused.
        is_stale: Whether it has to be signed anew before the next try.
    """

    to: str
    envelope: Envelope
    status: Status = Status.QUEUED
    why: str | None = None
    refusal: RefusedError | None = None
    is_stale: bool = False

    @property
    def size(self) -> int:
        """Bytes of the envelope's text."""
        return len(self.envelope.wire_text.encode())


@dataclass(slots=True)
class _Queue:
    """
    What waits for one recipient. What is known of the recipient holds for all of it.

    Attributes:
        messages: In order; only the first may be under way.
        not_before: When the first may be tried again.
        attempts: How often in a row the recipient could not be reached.
        why: The code that said so last.
    """

    messages: deque[Outgoing] = field(default_factory=deque)
    not_before: float = 0.0
    attempts: int = 0
    why: str | None = None


class Outbox:
    """
    Messages that wait, in order.

    Args:
        max_messages: Bound on messages.
        max_bytes: Bound on bytes of all their envelopes.
    """

    def __init__(self, *, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._numbers = itertools.count()
        self._waiting: dict[Outgoing, tuple[int, int]] = {}  # each with its number and its size
        self._queues: dict[str, _Queue] = {}  # the same by recipient
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Outgoing]:
        return iter(list(self._waiting))

    # What comes and goes

    def add(self, outgoing: Outgoing) -> None:
        """
        Take a message behind all others.

        Raises:
            OutboxFullError: At a bound; the message was not taken.
        """
        size = outgoing.size
        if len(self) + 1 > self._max_messages:
            raise OutboxFullError(
                f"outbox holds {len(self)} messages of at most {self._max_messages}"
            )
        if self._bytes + size > self._max_bytes:
            raise OutboxFullError(
                f"outbox holds {self._bytes} bytes of at most {self._max_bytes}: "
                f"no room for {size} more"
            )
        queue = self._queues.setdefault(outgoing.to, _Queue())
        queue.messages.append(outgoing)
        outgoing.why = queue.why
        self._waiting[outgoing] = (next(self._numbers), size)
        self._bytes += size

    def settle(
        self, outgoing: Outgoing, status: Status, refusal: RefusedError | None = None
    ) -> None:
        """Let a message go: the relay has had its last word on it, *refusal* if it was no."""
        outgoing.status = status
        outgoing.refusal = refusal
        self.withdraw(outgoing)

    def withdraw(self, outgoing: Outgoing) -> None:
        """Take a message back, if it still waits; one that is under way may arrive."""
        if outgoing not in self._waiting:
            return
        _, size = self._waiting.pop(outgoing)
        self._bytes -= size
        queue = self._queues[outgoing.to]
        queue.messages.remove(outgoing)
        if queue.messages:
            self._let_go_on(queue)
        else:
            del self._queues[outgoing.to]

    def _let_go_on(self, queue: _Queue) -> None:
        queue.attempts, queue.not_before, queue.why = 0, 0.0, None
        for behind in queue.messages:
            behind.why = None

    # What may be written

    def ready(self, *, now: float, in_flight: Container[Outgoing]) -> Iterator[Outgoing]:
        """
        Yield the messages that may be written now, in order.

        One at a time to each recipient: were the first refused and the second,
        behind it on the wire, taken, their order would be lost.
        """
        due = [queue for queue in self._queues.values() if queue.not_before <= now]
        first_ones = (queue.messages[0] for queue in due)
        for outgoing in sorted(first_ones, key=self._waiting.__getitem__):
            # Looked at one by one: meanwhile it may have been settled, or those before it.
            if outgoing in self._waiting and outgoing not in in_flight:
                yield outgoing

    def next_due(self, *, now: float) -> float:
        """Return when the next message that waits for a later moment may be tried; or infinity."""
        later = (queue.not_before for queue in self._queues.values() if queue.not_before > now)
        return min(later, default=math.inf)

    # What is heard of it

    def postpone(
        self, outgoing: Outgoing, *, why: str, now: float, first: float, cap: float
    ) -> list[Outgoing]:
        """
        Keep a message whose recipient cannot be reached, and all behind it, for a while.

        Args:
            outgoing: The message that was tried.
            why: The code that said so.
            now: The time.
            first: Seconds to wait the first time; twice as long each time after.
            cap: The most that this grows to.

        Returns:
            All that now wait for this reason, in order.
        """
        queue = self._queues[outgoing.to]
        queue.not_before = now + min(first * 2 ** min(queue.attempts, _MAX_DOUBLINGS), cap)
        queue.attempts += 1
        queue.why = why
        for message in queue.messages:
            message.why = why
        return list(queue.messages)

    def hold(self, outgoing: Outgoing, *, why: str) -> None:
        """Keep a message that can be tried again as soon as anything can; *why* is its code."""
        outgoing.why = why

    def spoil(self, outgoing: Outgoing) -> None:
        """Have a message signed anew before it is tried again: its id counts as known."""
        outgoing.is_stale = True

    def renew(self, outgoing: Outgoing, envelope: Envelope) -> None:
        """Put a newly signed envelope in place of the one that is stale."""
        outgoing.envelope = envelope
        outgoing.is_stale = False

    def wake(self, peer: str) -> None:
        """*peer* has come: what waits for it may be tried at once."""
        if queue := self._queues.get(peer):
            queue.not_before = 0.0


_MAX_DOUBLINGS = 16
"""Twice as often as any cap asks for, and far from the end of floats."""
