"""Whether the relay lives: when it was heard, what it was asked, when it counts as gone."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from agora.protocol.client.outbox import Outgoing
from agora.protocol.client.timing import Timing

__all__ = ["Asked", "Pulse"]


@dataclass(slots=True)
class Asked:
    """A ping, and the message before it, if there was one and until an error has answered it."""

    at: float
    outgoing: Outgoing | None = None


class Pulse:
    """
    The signs of life of one connection.

    Args:
        timing: How long to wait.
        now: Seconds on a clock that only goes forward, as for every call.

    Attributes:
        asked: The pings that are not answered, the oldest first.
    """

    def __init__(self, timing: Timing, now: float) -> None:
        self.asked: deque[Asked] = deque()
        self._timing = timing
        self._heard = now

    def hear(self, now: float) -> None:
        """Count the relay as heard."""
        self._heard = now

    def read_on(self, now: float) -> None:
        """Count the relay as heard: it is we who did not read."""
        self._heard = now
        for asked in self.asked:
            asked.at = now

    def silence(self, now: float) -> float:
        """Return the seconds since the relay was heard."""
        return now - self._heard

    def ping_at(self, *, is_urgent: bool = False) -> float:
        """Return when silence calls for a ping; sooner where an answer is waited for."""
        return self._heard + (self._timing.answer if is_urgent else self._timing.ping_interval)

    def dead_at(self, paused_until: float) -> float:
        """Return when the link counts as dead: no answer to a ping, or no way to write one."""
        if not self.asked:
            return max(self.ping_at(), paused_until) + self._timing.answer
        asked_at = self.asked[0].at
        # Who talks but never answers is dead too, only slower to be found out.
        patience = min(self._heard - asked_at, _TALKATIVE * self._timing.answer)
        return max(asked_at + max(0.0, patience), paused_until) + self._timing.answer


_TALKATIVE = 5
"""How many times longer an answer may take while the relay says other things."""
