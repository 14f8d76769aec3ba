"""
Who is there, over streams of events that may be interrupted.

A stream begins with the present state. What has changed while there was none is
what differs from what the core was told; it has to be told of those who went, too.
"""

from __future__ import annotations

from agora.canonical import Json
from agora.frames import WATCH_ALL, Watched

__all__ = ["Onlookers"]

_LISTED = 1_000
"""Peers that a relay lists at most: beyond that, who is not listed may be there all the same."""


class Onlookers:
    """Those whom the core was told are there."""

    def __init__(self) -> None:
        self._watched = WATCH_ALL
        self._online: set[str] = set()
        self._is_anew = False

    def begin(self, watched: Watched, peers: Json) -> list[Json]:
        """Take the list that comes with a registration; return what of it is watched."""
        self._watched = watched
        listed = self._entries(peers)
        self._online = {_key(peer) for peer in listed if peer.get("online") is not False}
        self.begin_again()
        return [*listed]

    def begin_again(self) -> None:
        """The next that comes is the present state, not a change."""
        self._is_anew = True

    def watch(self, watched: Watched) -> None:
        """Hear of others from now on; the core forgets who is not among them."""
        self._watched = watched
        self._online = {peer for peer in self._online if peer in watched}
        self.begin_again()

    def update(self, changes: dict[str, Json]) -> dict[str, Json]:
        """Take a ``presence`` event; return what has changed, as members of the frame."""
        come, gone = self._entries(changes.get("online")), changes.get("offline")
        online = {_key(peer) for peer in come}
        offline = {key for key in (gone if isinstance(gone, list) else []) if isinstance(key, str)}
        if self._is_anew and len(come) < _LISTED:
            offline |= self._online - online
        self._is_anew = False
        self._online = (self._online | online) - offline
        return {"online": [*come], "offline": [*sorted(offline)]}

    def _entries(self, peers: Json) -> list[dict[str, Json]]:
        entries = peers if isinstance(peers, list) else []
        return [
            entry for entry in entries if isinstance(entry, dict) and _key(entry) in self._watched
        ]


def _key(peer: dict[str, Json]) -> str:
    return str(peer.get("publicKey"))
