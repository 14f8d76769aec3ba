"""How much may come in: by key, by network address, and how many may join."""

from __future__ import annotations

import ipaddress

from agora.codes import ErrorCode
from agora.limits import Limits
from agora.protocol.rates import RateTable
from agora.protocol.relay.refusal import Refusal

__all__ = ["Budgets", "network_of"]


def network_of(address: str) -> str:
    """
    Return what counts as one network address: of IPv6 the /64, which one host has to itself.

    >>> network_of("192.0.2.7"), network_of("2001:db8:1:2:aaaa:bbbb:cccc:dddd")
    ('192.0.2.7', '2001:db8:1:2::/64')
    """
    if ":" not in address:
        return address
    try:
        ip = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if ip.ipv4_mapped:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((ip, 64), strict=False))


class Budgets:
    """
    The rates of one node; every one is off when rates are not limited.

    A message is looked at before its envelope is checked and spent after: a
    stranger who registers another's key must not be able to use up the owner's
    rate with what he cannot sign.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        window = limits.rate_limit_window_ms / 1000
        self._keys = RateTable(capacity=limits.rate_limit_max_messages, window=window)
        self._addresses = RateTable(capacity=limits.rate_limit_max_address_messages, window=window)
        self._joins = RateTable(capacity=limits.rate_limit_max_joins, window=window)

    def change_limits(self, limits: Limits) -> None:
        """Go by other limits from now on."""
        self._limits = limits
        window = limits.rate_limit_window_ms / 1000
        self._keys.change(capacity=limits.rate_limit_max_messages, window=window)
        self._addresses.change(capacity=limits.rate_limit_max_address_messages, window=window)
        self._joins.change(capacity=limits.rate_limit_max_joins, window=window)

    def check_messages(self, peer: str, address: str, cost: int, now: float) -> None:
        """
        Refuse what *peer*, or all at its *address*, may not send now.

        Raises:
            Refusal: ``rate_limited``, with the seconds to wait.
        """
        if not self._limits.rate_limit_enabled:
            return
        wait = self._keys.wait(peer, now=now, cost=cost)
        if wait > 0:
            raise self._too_fast(self._limits.rate_limit_max_messages, "messages", wait)
        wait = self._addresses.wait(address, now=now, cost=cost)
        if wait > 0:
            most = self._limits.rate_limit_max_address_messages
            raise self._too_fast(most, "messages from one address", wait)

    def has_messages(self, peer: str, address: str, cost: int, now: float) -> bool:
        """Tell whether *peer*, and all at its *address*, may send so many now."""
        return not self._limits.rate_limit_enabled or (
            self._keys.holds(peer, cost, now=now) and self._addresses.holds(address, cost, now=now)
        )

    def spend_messages(self, peer: str, address: str, cost: int, now: float) -> None:
        """Count messages that were taken."""
        if self._limits.rate_limit_enabled:
            self._keys.take(peer, now=now, cost=cost)
            self._addresses.take(address, now=now, cost=cost)

    def spend_join(self, address: str, now: float) -> None:
        """
        Count a registration.

        Raises:
            Refusal: ``rate_limited``, with the seconds to wait.
        """
        if not self._limits.rate_limit_enabled:
            return
        wait = self._joins.take(address, now=now)
        if wait > 0:
            most = self._limits.rate_limit_max_joins
            raise self._too_fast(most, "registrations from one address", wait)

    def forget_full(self, now: float) -> None:
        """Drop what no longer matters."""
        for table in (self._keys, self._addresses, self._joins):
            table.forget_full(now)

    def _too_fast(self, capacity: int, what: str, wait: float) -> Refusal:
        window = self._limits.rate_limit_window_ms
        text = f"Rate limit of {capacity} {what} in {window} ms reached"
        return Refusal(ErrorCode.RATE_LIMITED, text, retry_after=wait)
