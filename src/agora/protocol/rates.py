"""How often someone may: token buckets, for the relay's limits and for the client's own."""

from __future__ import annotations

from collections.abc import Hashable

__all__ = ["RateTable", "TokenBucket"]

_ROUNDING = 1e-9
"""Tokens that count as none: who waited exactly as told must not be told to wait again."""


class TokenBucket:
    """
    A rate with room for bursts: *capacity* at once, all of it again within *window* seconds.

    Unlike a fixed window it never lets a double burst through at a boundary.

    >>> bucket = TokenBucket(capacity=2, window=10.0, now=0.0)
    >>> [bucket.take(now=0.0), bucket.take(now=0.0), bucket.take(now=0.0)]
    [0.0, 0.0, 5.0]
    """

    __slots__ = ("_capacity", "_per_second", "_tokens", "_updated")

    def __init__(self, *, capacity: float, window: float, now: float) -> None:
        self._capacity = capacity
        self._per_second = capacity / window
        self._tokens = capacity
        self._updated = now

    def wait(self, *, now: float, cost: float = 1.0) -> float:
        """Return the seconds until *cost* can be taken; 0.0 means now. Takes nothing."""
        self._refill(now)
        # A cost above the capacity is paid by a full bucket, or it could never be paid.
        missing = min(cost, self._capacity) - self._tokens
        return missing / self._per_second if missing > _ROUNDING else 0.0

    def holds(self, cost: float, *, now: float) -> bool:
        """Tell whether *cost* is there to the last token."""
        self._refill(now)
        return self._tokens + _ROUNDING >= cost

    def take(self, *, now: float, cost: float = 1.0) -> float:
        """Take *cost* and return 0.0; or take nothing and return the seconds to wait."""
        wait = self.wait(now=now, cost=cost)
        if wait == 0.0:
            self._tokens -= cost
        return wait

    def change(self, *, capacity: float, window: float) -> None:
        """Go by another rate from now on; what was spent stays spent, up to all there is."""
        self._tokens = max(0.0, capacity - (self._capacity - self._tokens))
        self._capacity = capacity
        self._per_second = capacity / window

    def left(self, now: float) -> float:
        """Return what is there."""
        self._refill(now)
        return self._tokens

    def is_full(self, now: float) -> bool:
        """Tell whether nothing was taken lately, so that forgetting it changes nothing."""
        self._refill(now)
        return self._tokens >= self._capacity

    def _refill(self, now: float) -> None:
        gained = max(0.0, now - self._updated) * self._per_second
        self._tokens = min(self._capacity, self._tokens + gained)
        self._updated = now


class RateTable:
    """
    One bucket for each key. Full ones are forgotten, which changes no answer.

    So the table holds at most the keys that sent something within one window:
    no key can push another's out to reset it.
    """

    def __init__(self, *, capacity: float, window: float) -> None:
        self._capacity = capacity
        self._window = window
        self._buckets: dict[Hashable, TokenBucket] = {}

    def wait(self, key: Hashable, *, now: float, cost: float = 1.0) -> float:
        """Return the seconds until *key* may spend *cost*; takes nothing."""
        bucket = self._buckets.get(key)
        return bucket.wait(now=now, cost=cost) if bucket else 0.0

    def holds(self, key: Hashable, cost: float, *, now: float) -> bool:
        """Tell whether *key* has *cost* to the last token."""
        bucket = self._buckets.get(key)
        return bucket.holds(cost, now=now) if bucket else cost <= self._capacity

    def take(self, key: Hashable, *, now: float, cost: float = 1.0) -> float:
        """Spend *cost* of *key*'s rate and return 0.0, or return the seconds to wait."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = TokenBucket(capacity=self._capacity, window=self._window, now=now)
            self._buckets[key] = bucket
        return bucket.take(now=now, cost=cost)

    def change(self, *, capacity: float, window: float) -> None:
        """Go by another rate from now on, for every key; see :meth:`TokenBucket.change`."""
        self._capacity = capacity
        self._window = window
        for bucket in self._buckets.values():
            bucket.change(capacity=capacity, window=window)

    def left(self, key: Hashable, *, now: float) -> float:
        """Return what is left of *key*'s rate."""
        bucket = self._buckets.get(key)
        return bucket.left(now) if bucket else self._capacity

    def forget_full(self, now: float) -> None:
        """Drop the buckets that are full again."""
        full = [key for key, bucket in self._buckets.items() if bucket.is_full(now)]
        for key in full:
            del self._buckets[key]

    def __len__(self) -> int:
        return len(self._buckets)
