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
from collections.abc import Iterator
from dataclasses import dataclass
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
    One message on its way to one recipient.

    Attributes:
        to: The recipient's peer id; ``"*"`` for everyone.
        envelope: As signed last; signed anew when the relay may have spent its id.
        status: What is known of it.
        why: The code of the last answer that kept it waiting, such as ``unknown_recipient``.
        refusal: Why it was refused.
        not_before: When it may be tried again.
        attempts: How often the relay could not take it yet.
        is_stale: Whether it has to be signed anew before the next try.
        is_in_flight: Whether it was written and the relay's word is awaited.
    """

    to: str
    envelope: Envelope
    status: Status = Status.QUEUED
    why: str | None = None
    refusal: RefusedError | None = None
    not_before: float = 0.0
    attempts: int = 0
    is_stale: bool = False
    is_in_flight: bool = False

    @property
    def size(self) -> int:
        """Bytes of the envelope's text."""
        return len(self.envelope.wire_text.encode())


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
        self._queues: dict[str, deque[Outgoing]] = {}  # the same by recipient
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Outgoing]:
        return iter(list(self._waiting))

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
        outgoing.why = next((o.why for o in self.addressed_to(outgoing.to) if o.why), None)
        self._waiting[outgoing] = (next(self._numbers), size)
        self._queues.setdefault(outgoing.to, deque()).append(outgoing)
        self._bytes += size

    def addressed_to(self, recipient: str) -> list[Outgoing]:
        """Return what waits for *recipient*, in order."""
        return list(self._queues.get(recipient, ()))

    def settle(self, outgoing: Outgoing, status: Status) -> None:
        """Let a message go: the relay has had its last word on it."""
        outgoing.is_in_flight = False
        outgoing.status = status
        if outgoing not in self._waiting:
            return
        _, size = self._waiting.pop(outgoing)
        self._bytes -= size
        queue = self._queues[outgoing.to]
        queue.remove(outgoing)
        if not queue:
            del self._queues[outgoing.to]

    def ready(self, *, now: float) -> Iterator[Outgoing]:
        """
        Yield the messages that may be written now, in order; each counts as written from then on.

        One at a time to each recipient: were the first refused and the second,
        behind it on the wire, taken, their order would be lost.
        """
        for outgoing in sorted(self._first_ones(), key=self._waiting.__getitem__):
            is_settled = outgoing not in self._waiting  # while those before it were written
            if not (is_settled or outgoing.is_in_flight or outgoing.not_before > now):
                yield outgoing

    def next_due(self, *, now: float) -> float:
        """Return when the next message that waits for a later moment may be tried; or infinity."""
        waiting = (outgoing for outgoing in self._first_ones() if not outgoing.is_in_flight)
        later = (outgoing.not_before for outgoing in waiting if outgoing.not_before > now)
        return min(later, default=math.inf)

    def _first_ones(self) -> list[Outgoing]:
        return [queue[0] for queue in self._queues.values()]

    def wake(self, peer: str) -> None:
        """*peer* has come: what waits for it may be tried at once."""
        for outgoing in self.addressed_to(peer):
            outgoing.not_before = 0.0

    def unsend(self) -> None:
        """The connection is gone: what was in flight waits again, its fate unknown."""
        for outgoing in self._waiting:
            outgoing.is_in_flight = False
