"""
How messages go up to a relay, and what becomes of those it refuses.

What both dialects have in common. What the relay says of a message it took, and
how many may be on their way, is :mod:`agora.protocol.client.barrier` in the reference
dialect and :mod:`agora.protocol.client.pipeline` in Agora/1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Iterator
from dataclasses import dataclass

from agora.codes import ERROR_ADVICE, ErrorCode
from agora.envelope import EVERYONE
from agora.errors import AgoraError, RefusedError
from agora.frames import PING, ErrorAnswer, ReceiptAnswer
from agora.protocol.client.dialect import code_of
from agora.protocol.client.happenings import Changed, Event, Problem
from agora.protocol.client.outbox import Outbox, Outgoing, Status
from agora.protocol.client.pace import Pace
from agora.protocol.client.pulse import Asked, Pulse
from agora.protocol.client.scribe import Scribe
from agora.protocol.client.timing import Timing

__all__ = ["BROADCAST_COST", "Courier", "Means", "refusal_of"]

BROADCAST_COST = 10
"""How many messages a broadcast counts for in our own rate, as it does at our relay."""


@dataclass(frozen=True, slots=True)
class Means:
    """
    What a courier has to work with.

    Attributes:
        outbox: What there is to say.
        scribe: Signs anew what cannot go out under its id.
        pace: How fast it may be said.
        pulse: The signs of the relay's life.
        timing: How long to wait.
    """

    outbox: Outbox
    scribe: Scribe
    pace: Pace
    pulse: Pulse
    timing: Timing


class Courier(ABC):
    """Carries what is in the outbox over one connection."""

    def __init__(self, means: Means) -> None:
        self._outbox = means.outbox
        self._scribe = means.scribe
        self._pace = means.pace
        self._pulse = means.pulse
        self._timing = means.timing
        self._is_over = False

    # What the dialects differ in

    @abstractmethod
    def frames(self, now: float) -> Iterator[str]:
        """Yield the frames to write now: messages whose time has come, and a ping after silence."""

    @abstractmethod
    def ping_at(self) -> float:
        """Return when silence calls for a ping."""

    @abstractmethod
    def hear_pong(self) -> list[Event]:
        """A ping was answered."""

    @abstractmethod
    def hear_receipt(self, receipt: ReceiptAnswer) -> list[Event]:
        """The relay says what it did with a message."""

    @abstractmethod
    def hear_error(self, error: ErrorAnswer, now: float) -> list[Event]:
        """The relay refused something."""

    @abstractmethod
    def _doubt(self, outgoing: Outgoing) -> None:
        """Deal with the id of a message that the relay may have counted as used, for nothing."""

    # The end

    def lose(self, reachable: Container[str]) -> None:
        """The connection is gone; what was on its way waits again."""
        self._is_over = True
        in_flight = self._outbox.in_flight
        self._outbox.put_all_back()
        for outgoing in in_flight:
            # An error may have been on its way that we never heard.
            if outgoing.to not in reachable and outgoing.to != EVERYONE:
                self._doubt(outgoing)

    def give_up_largest(self) -> list[Event]:
        """A frame was too big: give up the largest in flight, or it would be sent for ever."""
        in_flight = self._outbox.in_flight
        if not in_flight:
            return []
        largest = max(in_flight, key=lambda outgoing: outgoing.size)
        refusal = RefusedError(
            ErrorCode.TOO_LARGE,
            f"envelope of {largest.size} bytes is too big for this relay",
            envelope_id=largest.envelope.id,
        )
        return self._finish(largest, Status.REFUSED, refusal)

    # For the dialects

    def _is_held(self, outgoing: Outgoing, now: float) -> bool:
        return self._pace.holds(now, BROADCAST_COST if outgoing.to == EVERYONE else 1)

    def _ping_if_silent(self, now: float) -> Iterator[str]:
        if not self._is_over and not self._pulse.asked and now >= self.ping_at():
            self._pulse.asked.append(Asked(now))
            yield PING

    def _finish(
        self, outgoing: Outgoing, status: Status, refusal: AgoraError | None = None
    ) -> list[Event]:
        self._outbox.settle(outgoing, status, refusal)
        return [Changed(outgoing)]

    def _refuse(self, outgoing: Outgoing, error: ErrorAnswer, now: float) -> list[Event]:
        """Do what the code of an error about a message asks for."""
        if outgoing not in self._outbox:
            return []  # taken back meanwhile
        code = code_of(error)
        if code == ErrorCode.DUPLICATE:
            return self._finish(outgoing, Status.SENT)  # it is there
        if code == ErrorCode.RATE_LIMITED:
            self._pace.pause(error.retry_after, now)
            self._outbox.put_back(outgoing, why=code)
            return [Changed(outgoing)]
        if code not in ERROR_ADVICE or ERROR_ADVICE[ErrorCode(code)].final:
            return self._finish(outgoing, Status.REFUSED, refusal_of(error))
        return self._postpone(outgoing, error, now)

    def _postpone(self, outgoing: Outgoing, error: ErrorAnswer, now: float) -> list[Event]:
        if outgoing.is_fleeting:
            return self._finish(outgoing, Status.REFUSED, refusal_of(error))
        waiting = self._outbox.postpone(
            outgoing,
            why=code_of(error),
            now=now,
            first=self._timing.retry_first,
            cap=self._timing.retry_cap,
        )
        self._doubt(outgoing)
        return [Changed(message) for message in waiting]

    def _blame_nobody(self, error: ErrorAnswer) -> list[Event]:
        return [Problem(refusal_of(error))]


def refusal_of(error: ErrorAnswer) -> RefusedError:
    """Return an error of the relay as what is raised for it."""
    return RefusedError(code_of(error), error.message, envelope_id=error.envelope_id)
