"""A clock moved by hand: what takes hours in the world takes nothing in a test."""

from __future__ import annotations

__all__ = ["ManualClock"]


class ManualClock:
    """
    Seconds that pass only when told to; call it, as ``time.monotonic``, to read it.

    Args:
        now: Where it starts.

    >>> clock = ManualClock()
    >>> clock.advance(90.5)
    >>> clock(), clock.wall_ms()
    (90.5, 1767225690500)
    """

    def __init__(self, now: float = 0.0) -> None:
        self._now = now

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass; never back."""
        if seconds < 0:
            raise ValueError(f"a clock that only goes forward cannot go {seconds} s")
        self._now += seconds

    def wall_ms(self) -> int:
        """Return the same moment as milliseconds since the Unix epoch."""
        return _EPOCH_MS + round(self._now * 1000)


_EPOCH_MS = 1_767_225_600_000
"""The first second of 2026."""
