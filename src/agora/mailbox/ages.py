"""Which mail is oldest, in memory: a heap that learns late of what is gone."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

__all__ = ["Ages"]

StoredMs = Callable[[int], "int | None"]
"""Tells when the mail at a position was stored; None where there is none any more."""


class Ages:
    """
    Positions by the moment they were stored, at O(log n) a change.

    What is removed stays in the heap until it comes to its top, or until it is
    the greater part of the heap, which is then made anew.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int]] = []
        self._gone = 0

    def add(self, stored_ms: int, position: int) -> None:
        """Note that mail was stored."""
        heappush(self._heap, (stored_ms, position))

    def drop(self, stored_ms: StoredMs) -> None:
        """Note that some mail is gone, of which *stored_ms* does not know any more."""
        self._gone += 1
        if self._gone * 2 > len(self._heap):
            here = {entry for entry in self._heap if stored_ms(entry[1]) == entry[0]}
            self._heap = sorted(here)  # which is a heap
            self._gone = 0

    def oldest(self, before_ms: int, most: int, stored_ms: StoredMs) -> list[int]:
        """Return up to *most* positions stored before a moment, the oldest first."""
        found: dict[tuple[int, int], None] = {}  # mail that came back stands here twice
        while self._heap and self._heap[0][0] < before_ms and len(found) < most:
            entry = heappop(self._heap)
            if stored_ms(entry[1]) == entry[0]:
                found[entry] = None
        for entry in found:
            heappush(self._heap, entry)
        return [position for _, position in found]
