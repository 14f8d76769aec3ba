"""What is due when: looked at when it is due, so that ten thousand who wait cost nothing."""

from __future__ import annotations

import math
from heapq import heappop, heappush

__all__ = ["Agenda"]


class Agenda:
    """
    Names, each with the moment at which somebody is to look after it.

    >>> agenda = Agenda()
    >>> agenda.add("tea", 4.0)
    >>> agenda.add("toast", 2.0)
    >>> agenda.take_due(3.0), agenda.take_due(9.0), agenda.take_due(9.0)
    (['toast'], ['tea'], [])

    What became unimportant meanwhile stays until its moment; whoever looks will see.
    """

    __slots__ = ("_heap",)

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, name: str, due: float) -> None:
        """Have *name* looked after when it is *due*; never, if that is infinity."""
        if due < math.inf:
            heappush(self._heap, (due, name))

    def take_due(self, now: float) -> list[str]:
        """Return what is due, the earliest first, and forget it."""
        due = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heappop(self._heap)[1])
        return due
