"""A bounded queue that can end: iterators on it stop, or raise, when it does."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import Generic, TypeVar

__all__ = ["Inbox"]

_Item = TypeVar("_Item")


class Inbox(Generic[_Item]):
    """
    What came and was not read yet.

    Args:
        bound: Items after which :meth:`wait_room` waits.
        max_size: The same for their sizes together, in whatever :meth:`put_nowait` is told.
    """

    def __init__(self, bound: int, *, max_size: float = math.inf) -> None:
        self._bound = bound
        self._max_size = max_size
        self._size = 0
        self._items: deque[tuple[_Item, int]] = deque()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._error: BaseException | None = None
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._items)

    @property
    def is_full(self) -> bool:
        """Whether the bound is reached."""
        return len(self._items) >= self._bound or self._size >= self._max_size

    def put_nowait(self, item: _Item, *, size: int = 0) -> None:
        """Add an item, also beyond the bound: what has come is never dropped."""
        self._items.append((item, size))
        self._size += size
        self._changed.set()
        if self.is_full:
            self._room.clear()

    async def wait_room(self) -> bool:
        """Wait until fewer items than the bound are here; tell whether that took any waiting."""
        has_room = self._room.is_set()
        await self._room.wait()
        return not has_room

    async def get(self) -> _Item:
        """
        Return the next item; waits for one.

        Raises:
            StopAsyncIteration: When it was closed and is empty; or the error it was
                closed with. Cancelling loses no item.
        """
        while not self._items:
            if self._is_closed:
                raise self._error or StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        item, size = self._items.popleft()
        self._size -= size
        if not self.is_full:
            self._room.set()
        if self._items or self._is_closed:
            self._changed.set()  # whoever else waits looks again
        return item

    def close(self, error: BaseException | None = None) -> None:
        """End it: what is here can still be read, then it is over. The first close counts."""
        if not self._is_closed:
            self._is_closed = True
            self._error = error
            self._changed.set()
            self._room.set()
