"""How fast we may write: as our own rate says, and as the relay asks."""

from __future__ import annotations

from agora.protocol.rates import TokenBucket

__all__ = ["Pace"]


class Pace:
    """
    Holds back what would be refused for its number alone.

    Args:
        rate: Our own limit; None for none.
        default: Seconds to wait when the relay limits us and does not say for how long.
        cap: The most that a relay can have us wait.
        now: Seconds on a clock that only goes forward, as for every call.
    """

    def __init__(self, rate: TokenBucket | None, *, default: float, cap: float, now: float) -> None:
        self.paused_until = now
        self.held_until = now
        self._rates = [rate] if rate else []
        self._default = default
        self._cap = cap
        self._per_second: float | None = None

    def holds(self, now: float, cost: float) -> bool:
        """Tell whether *cost* messages must wait, and note until when; else count them."""
        waits = [rate.wait(now=now, cost=cost) for rate in self._rates]
        self.held_until = max(self.paused_until, now + max(waits, default=0.0))
        if self.held_until > now:
            return True
        for rate in self._rates:
            rate.take(now=now, cost=cost)
        return False

    def announce(self, per_second: float | None) -> None:
        """Note what the relay says it takes; it is kept to once it has limited us."""
        self._per_second = per_second if per_second and per_second > 0 else None

    def pause(self, retry_after: float | None, now: float) -> None:
        """Write nothing for as long as the relay asks, within reason."""
        wait = min(max(retry_after or self._default, _LEAST_WAIT), self._cap)
        self.paused_until = max(self.paused_until, now + wait)
        if self._per_second is not None:
            # From now on evenly: else all that waits would be written, and refused, each time.
            burst = max(1.0, self._per_second / 4)
            window = burst / self._per_second
            self._rates.append(TokenBucket(capacity=burst, window=window, now=now))
            self._per_second = None


_LEAST_WAIT = 0.05
"""Seconds to wait at least when a relay limits us, whatever it says."""
