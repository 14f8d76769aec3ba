"""
Who of Agora/1 hears of whose coming and going, and when: gathered, and only what was asked for.

Changes of a short while become one frame with the final state of each peer, so
a join costs in proportion to those who watch, and a thousand joins at once
cost each of them a few frames. Who came and went in between is not mentioned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from agora.frames import ListedPeer, Watched, encode_presence_changes
from agora.keys import PeerId
from agora.protocol.relay.actions import Send, SessionId

__all__ = ["Watchers"]

_Changes = Mapping[PeerId, ListedPeer | None]


class Watchers:
    """
    The sessions that watch, and the changes they have not heard of.

    Args:
        interval: Seconds over which changes are gathered.
        find: Returns a peer as it is listed while it is online, else None.
    """

    def __init__(self, interval: float, find: Callable[[PeerId], ListedPeer | None]) -> None:
        self._interval = interval
        self._find = find
        self._watched: dict[SessionId, Watched] = {}
        self._of_everyone: dict[SessionId, PeerId] = {}  # each with its own peer
        self._of_one: dict[PeerId, dict[SessionId, None]] = {}
        self._was: dict[PeerId, ListedPeer | None] = {}  # what changed, and how it was before
        self._due = math.inf

    def watch(self, session: SessionId, own: PeerId, watched: Watched) -> None:
        """Have *session* told of these from now on, and of no others; never of its *own* peer."""
        self.unwatch(session)
        self._watched[session] = watched
        if watched.everyone:
            self._of_everyone[session] = own
        for peer in watched.peers - {own}:
            self._of_one.setdefault(peer, {})[session] = None

    def unwatch(self, session: SessionId) -> None:
        """Tell *session* nothing any more."""
        watched = self._watched.pop(session, None)
        self._of_everyone.pop(session, None)
        for peer in watched.peers if watched else ():
            watching = self._of_one.get(peer, {})
            watching.pop(session, None)
            if not watching:
                self._of_one.pop(peer, None)

    def note(self, peer: PeerId, before: ListedPeer | None, now: float) -> None:
        """Note that *peer* has come, gone or changed; *before* is how it was listed, if it was."""
        if not self._of_everyone and peer not in self._of_one:
            return
        self._was.setdefault(peer, before)
        self._due = min(self._due, now + self._interval)

    def pulse(self, now: float) -> list[Send]:
        """Tell what was gathered, when it is time."""
        if now < self._due:
            return []
        self._due = math.inf
        was, self._was = self._was, {}
        changed = {peer: self._find(peer) for peer in was}
        changed = {peer: state for peer, state in changed.items() if state != was[peer]}
        if not changed:
            return []
        return [*self._tell_watchers_of_everyone(changed), *self._tell_watchers_of_some(changed)]

    def _tell_watchers_of_everyone(self, changed: _Changes) -> Iterator[Send]:
        """Tell all the same, but for those who would hear of themselves."""
        changed_too = {own for own in self._of_everyone.values() if own in changed}
        others = tuple(one for one, own in self._of_everyone.items() if own not in changed_too)
        if others:
            yield Send(others, _text(changed))
        for session, own in self._of_everyone.items():
            if own in changed_too and len(changed) > 1:
                yield Send((session,), _text(_without(changed, own)))

    def _tell_watchers_of_some(self, changed: _Changes) -> Iterator[Send]:
        """Tell those who watch some of the changed peers, each of these alone."""
        news: dict[SessionId, dict[PeerId, ListedPeer | None]] = {}
        for peer, state in changed.items():
            for session in self._of_one.get(peer, ()):
                news.setdefault(session, {})[peer] = state
        for session, of_theirs in news.items():
            yield Send((session,), _text(of_theirs))


def _without(changed: _Changes, own: PeerId) -> _Changes:
    return {peer: state for peer, state in changed.items() if peer != own}


def _text(changed: _Changes) -> str:
    online = [state for state in changed.values() if state is not None]
    offline = [peer for peer, state in changed.items() if state is None]
    return encode_presence_changes(online, offline)
