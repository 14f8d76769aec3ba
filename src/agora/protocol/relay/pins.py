"""The keys that have proven themselves at a relay: nobody speaks for them without proof again."""

from __future__ import annotations

from collections.abc import Iterable

from agora.codes import ErrorCode
from agora.keys import PeerId, point_of
from agora.limits import Limits
from agora.protocol.rates import RateTable
from agora.protocol.relay.refusal import Refusal

__all__ = ["Pins"]

_HOUR = 3_600.0


class Pins:
    """
    The pinned keys, in memory; a mailbox store keeps them across restarts.

    Args:
        limits: How many there may be.
        known: Those pinned before.
    """

    def __init__(self, limits: Limits, known: Iterable[PeerId] = ()) -> None:
        self._limits = limits
        self._keys = set(map(_raw, known))
        self._coming: set[bytes] = set()  # being committed
        self._new = RateTable(capacity=limits.max_pins_per_address, window=_HOUR)

    def __contains__(self, peer: object) -> bool:
        return isinstance(peer, str) and point_of(peer) in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def change_limits(self, limits: Limits) -> None:
        """Go by other limits from now on; pins beyond them stay."""
        self._limits = limits
        self._new.change(capacity=limits.max_pins_per_address, window=_HOUR)

    def begin(self, peer: PeerId, address: str, now: float) -> None:
        """
        Make room for a pin that is going to be committed; :meth:`settle` says what came of it.

        Raises:
            Refusal: ``at_capacity``, or ``rate_limited`` when *address* has brought too many.
        """
        raw = _raw(peer)
        if raw in self._keys or raw in self._coming:
            return
        if len(self._keys) + len(self._coming) >= self._limits.max_pins:
            text = f"Relay is at capacity (max {self._limits.max_pins} proven keys)"
            raise Refusal(ErrorCode.AT_CAPACITY, text)
        self._spend(address, now)
        self._coming.add(raw)

    def _spend(self, address: str, now: float) -> None:
        if not self._limits.rate_limit_enabled:
            return
        wait = self._new.take(address, now=now)
        if wait > 0:
            text = f"Rate limit of {self._limits.max_pins_per_address} new keys in an hour reached"
            raise Refusal(ErrorCode.RATE_LIMITED, text, retry_after=wait)

    def settle(self, peer: PeerId, *, is_pinned: bool) -> None:
        """Know a key as pinned from now on, if its pin was committed."""
        self._coming.discard(_raw(peer))
        if is_pinned:
            self._keys.add(_raw(peer))

    def replace(self, known: Iterable[PeerId]) -> None:
        """Take over what the store holds now: somebody has changed it."""
        self._keys = set(map(_raw, known))

    def tick(self, now: float) -> None:
        """Forget what no longer matters."""
        self._new.forget_full(now)


def _raw(peer: PeerId) -> bytes:
    """Return the 32 bytes that tell one key from another: a third of its text."""
    point = point_of(peer)
    assert point is not None, "a peer id spells a key"
    return point
