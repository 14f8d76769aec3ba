"""
What a session was told that needs no ack: kept in order, for clients whose connection was cut.

A client says by the number of the event that it got last where to go on. Whatever is
behind that number is told again, as far as it is kept; it is not kept for ever, as a
client that listens confirms nothing.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import NamedTuple

__all__ = ["Backlog", "Told"]


class Told(NamedTuple):
    """A frame, and its place among all that came by a postbox."""

    number: int
    text: str


class Backlog:
    """
    Frames by their number.

    Args:
        max_bytes: How much is kept of what everyone has who listens.

    Attributes:
        forgotten: Number of the last frame that is not kept any more.
    """

    def __init__(self, max_bytes: int) -> None:
        self.forgotten = 0
        self._max_bytes = max_bytes
        self._kept: list[Told] = []
        self._bytes = 0

    def keep(self, number: int, text: str) -> None:
        """Keep a frame; mostly the newest, but broadcasts come when they are given."""
        insort(self._kept, Told(number, text))
        self._bytes += len(text)

    def after(self, number: int) -> list[Told]:
        """Return what is behind a number."""
        return self._kept[bisect_right(self._kept, number, key=_number) :]

    def forget(self, *, up_to: int) -> None:
        """Forget the oldest over the bound, but nothing behind the number *up_to*."""
        count = 0
        while self._bytes > self._max_bytes and count < len(self._kept):
            oldest = self._kept[count]
            if oldest.number > up_to:
                break
            self._bytes -= len(oldest.text)
            self.forgotten = max(self.forgotten, oldest.number)  # what came late may be older
            count += 1
        del self._kept[:count]


def _number(told: Told) -> int:
    return told.number
