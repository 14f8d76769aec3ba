"""How long to wait before trying again, so that peers dropped together do not return together."""

from __future__ import annotations

from collections.abc import Callable, Iterator

__all__ = ["reconnect_delays"]


def reconnect_delays(
    *, first: float = 0.5, cap: float = 60.0, random: Callable[[], float]
) -> Iterator[float]:
    """
    Yield how long to wait before each reconnection attempt.

    Full jitter: each delay is drawn evenly below a ceiling that doubles from
    *first* up to *cap*.

    Args:
        first: Ceiling of the first delay, in seconds.
        cap: Ceiling of every later delay, in seconds.
        random: Source of floats in [0, 1), such as ``random.random``.

    Yields:
        Seconds to wait. Never ends.

    Raises:
        ValueError: Unless ``0 < first <= cap``; raised at the first delay.

    Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog,
    2015; RFC 6455 section 7.2.3.

    >>> delays = reconnect_delays(first=1, cap=4, random=lambda: 0.5)
    >>> [next(delays) for _ in range(4)]
    [0.5, 1.0, 2.0, 2.0]
    """
    if not 0 < first <= cap:
        raise ValueError(f"first of {first} s must be above 0 and at most cap of {cap} s")
    ceiling = first
    while True:
        yield random() * ceiling
        ceiling = min(cap, ceiling * 2)
