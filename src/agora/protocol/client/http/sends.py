"""
Sends on their way: several at a time, on connections of their own, and in order all the same.

Requests on several connections overtake each other. Each names the message before it to
the same recipient (``after``), so one that was too fast is refused as ``out_of_order``, and
made again behind that one. How many are under way to one recipient adapts itself: to a
relay nearby one after the other is fastest, to one far away several are.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator

from agora.protocol.client.http.calls import Call, Name

__all__ = ["Sends"]

MOST = 8
"""Sends under way at a time: each is a connection, of which a relay gives an address a few."""

_TOO_OFTEN = 16
"""How often a message may be too fast: a relay that has forgotten the one before says so always."""

_TAKEN = 1_024
"""Messages that are remembered as taken: those behind them name no older ones."""

_FIRST_STREAK = 4
"""Sends without one too fast after which another one is let under way."""

_LONGEST_STREAK = 512
"""The most that this grows to, doubling each time that one was too fast."""


class Sends:
    """What is to be sent and what is under way, by recipient."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Call]] = {}  # by recipient, in order
        self._under_way: dict[str, int] = {}
        self._open: dict[Name, Call] = {}  # what is not answered
        self._taken: dict[Name, None] = {}
        self._room = 1
        self._streak = 0
        self._needed = _FIRST_STREAK

    def is_open(self, name: Name) -> bool:
        """Tell whether a message is not answered yet."""
        return name in self._open

    def add(self, call: Call) -> None:
        """Send a message when it is its turn; also one that comes back, ahead of later ones."""
        name = call.recipient
        insort(self._waiting.setdefault(name[1], []), call, key=lambda one: one.number)
        self._open[name] = call

    def next_calls(self) -> Iterator[Call]:
        """Yield the calls to make now; they are under way then."""
        for to in list(self._waiting):
            while self._has_room(to):
                call = self._waiting[to].pop(0)
                if not self._waiting[to]:
                    del self._waiting[to]
                self._under_way[to] = self._under_way.get(to, 0) + 1
                yield call

    def _has_room(self, to: str) -> bool:
        is_bounded = sum(self._under_way.values()) < MOST
        return to in self._waiting and is_bounded and self._under_way.get(to, 0) < self._room

    def land(self, call: Call) -> None:
        """A call is under way no more."""
        _, to = call.recipient
        self._under_way[to] -= 1
        if not self._under_way[to]:
            del self._under_way[to]

    def settle(self, call: Call, *, is_taken: bool) -> None:
        """A call is answered."""
        name = call.recipient
        self._open.pop(name, None)
        if is_taken:
            self._taken[name] = None
            if len(self._taken) > _TAKEN:
                del self._taken[next(iter(self._taken))]
        self._streak += 1
        if self._streak >= self._needed:
            self._streak, self._room = 0, min(self._room + 1, MOST)

    def retry_in_order(self, call: Call) -> bool:
        """
        Make a call again that came before the one that it must not overtake.

        Returns:
            False where that would not help: the one before was refused, or is not known.
        """
        may_be_next = call.after in self._taken or call.after in self._open
        if not may_be_next or call.times_too_fast >= _TOO_OFTEN:
            return False
        call.times_too_fast += 1
        self._streak, self._room = 0, max(1, self._room // 2)
        self._needed = min(self._needed * 2, _LONGEST_STREAK)
        self.add(call)
        return True
