"""What one holder may have of something that is there for all, such as an address of challenges."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from agora.limits import Limits
from agora.relay.http.errors import at_capacity

__all__ = ["Shares", "Waits"]


class Shares:
    """
    How many of something each holder has.

    Args:
        what: What is counted, for people, as in "max 5 of this".
        most: How many each may have.
        retry_after: Seconds after which there may be room again.
    """

    def __init__(self, what: str, *, most: int, retry_after: float) -> None:
        self.most = most
        self._what = what
        self._retry_after = retry_after
        self._held: dict[str, int] = {}

    def take(self, holder: str) -> None:
        """
        Count one more for *holder*.

        Raises:
            ApiError: ``at_capacity``.
        """
        held = self._held.get(holder, 0)
        if held >= self.most:
            raise at_capacity(self.most, self._what, retry_after=self._retry_after)
        self._held[holder] = held + 1

    def give_back(self, holder: str) -> None:
        """Count one less."""
        self._held[holder] -= 1
        if not self._held[holder]:
            del self._held[holder]

    @contextmanager
    def taken(self, holder: str) -> Iterator[None]:
        """
        Count one more for the length of a ``with`` block.

        Raises:
            ApiError: ``at_capacity``.
        """
        self.take(holder)
        try:
            yield
        finally:
            self.give_back(holder)


class Waits:
    """
    The requests that wait at once: event streams and long polls.

    Args:
        limits: How many of one key, and of one network address.
    """

    def __init__(self, limits: Limits) -> None:
        self._of_key, self._of_address = (
            Shares(f"requests of one {whose} that wait", most=1, retry_after=_SOON)
            for whose in ("key", "address")
        )
        self.change_limits(limits)

    def change_limits(self, limits: Limits) -> None:
        """Go by other limits from now on."""
        self._of_key.most = limits.max_http_waits_per_key
        self._of_address.most = limits.max_http_waits_per_address

    @contextmanager
    def one(self, key: str, address: str) -> Iterator[None]:
        """
        Count a request that waits for the length of a ``with`` block.

        Raises:
            ApiError: ``at_capacity``.
        """
        with self._of_key.taken(key), self._of_address.taken(address):
            yield


_SOON = 1.0
"""Seconds after which a request that waits may well have ended."""
