"""
Who of the reference dialect hears of whose coming and going: everyone, of each change one frame.

So a thousand who come one after another are half a million frames, and no relay
can have it otherwise. What it can have is fewer writes: while many listen,
changes are gathered for a moment, and each session gets them in one go, every
frame as it would have been, in its order. While few listen each is told at once.

Nobody hears from a peer before hearing of it: see :meth:`Announcements.catch_up`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

from agora.protocol.relay.actions import Send, SendAll, SessionId

__all__ = ["FEW", "Announcements"]

FEW = 32
"""Sessions to which a change is told at once: some hundred microseconds' work."""


class Announcements:
    """
    The sessions that are told of everyone, and what they have not been told yet.

    Args:
        interval: Seconds over which changes are gathered.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._listeners: dict[SessionId, int] = {}  # each with how many frames it has had
        self._gathered: list[str] = []
        self._told = 0  # frames before those gathered
        self._due = math.inf

    def __bool__(self) -> bool:
        """Whether there is something that not all have been told."""
        return bool(self._gathered)

    def change_interval(self, interval: float) -> None:
        """Gather changes for longer or shorter from now on."""
        self._interval = interval

    def listen(self, session: SessionId) -> None:
        """Tell *session* of everything from now on."""
        self._listeners[session] = self._told + len(self._gathered)

    def leave(self, session: SessionId) -> None:
        """Tell *session* nothing any more."""
        self._listeners.pop(session, None)

    def announce(self, text: str, now: float) -> list[Send]:
        """Tell all that listen, now or soon."""
        if len(self._listeners) <= FEW and not self._gathered:
            return [Send(tuple(self._listeners), text)] if self._listeners else []
        self._gathered.append(text)
        self._due = min(self._due, now + self._interval)
        return []

    def catch_up(self, sessions: Iterable[SessionId]) -> list[SendAll]:
        """Tell these *sessions* now what they have not heard, before they hear something else."""
        if not self._gathered:
            return []
        behind: dict[int, list[SessionId]] = defaultdict(list)
        end = self._told + len(self._gathered)
        for session in sessions:
            heard = self._listeners.get(session, end)
            if heard < end:
                behind[max(0, heard - self._told)].append(session)
                self._listeners[session] = end
        return [SendAll(tuple(to), tuple(self._gathered[at:])) for at, to in behind.items()]

    def pulse(self, now: float) -> list[SendAll]:
        """Tell what was gathered, when it is time."""
        return self.tell_now() if now >= self._due else []

    def tell_now(self) -> list[SendAll]:
        """Tell all that listen what was gathered."""
        told = self.catch_up(self._listeners)
        self._told += len(self._gathered)
        self._gathered, self._due = [], math.inf
        return told
