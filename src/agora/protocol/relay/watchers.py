"""
Who of Agora/1 hears of whose coming and going, and when: gathered, and only what was asked for.

Changes of a short while become one frame with the final state of each peer, so
a join costs in proportion to those who watch, and a thousand joins at once
cost each of them a few frames. Who came and went in between is not mentioned.

Who begins to watch is told the present state, which may be in the middle of
such a while: it then hears of all that changed after that, however things stood
at the beginning.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import itemgetter

from agora.frames import (
    ListedPeer,
    Watched,
    encode_presence_changes,
    peer_entries,
    peer_members,
)
from agora.keys import PeerId
from agora.protocol.relay.actions import Send, SessionId

__all__ = ["Watchers"]


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
        # What changed, the latest last: how it was before, and the number of its latest change.
        self._changes: dict[PeerId, tuple[ListedPeer | None, int]] = {}
        self._count = 0  # of all changes ever
        self._newcomers: dict[SessionId, int] = {}  # began since, and the count at that moment
        self._due = math.inf

    def change_interval(self, interval: float) -> None:
        """Gather changes for longer or shorter from now on."""
        self._interval = interval

    def watch(self, session: SessionId, own: PeerId, watched: Watched) -> None:
        """
        Have *session* told of these from now on, and of no others; never of its *own* peer.

        It knows how they are at this moment.
        """
        self.unwatch(session)
        if not (watched.everyone or watched.peers):
            return
        self._watched[session] = watched
        if self._changes:
            self._newcomers[session] = self._count
        if watched.everyone:
            self._of_everyone[session] = own
        for peer in watched.peers - {own}:
            self._of_one.setdefault(peer, {})[session] = None

    def unwatch(self, session: SessionId) -> None:
        """Tell *session* nothing any more."""
        watched = self._watched.pop(session, None)
        self._of_everyone.pop(session, None)
        self._newcomers.pop(session, None)
        for peer in watched.peers if watched else ():
            watching = self._of_one.get(peer, {})
            watching.pop(session, None)
            if not watching:
                self._of_one.pop(peer, None)

    def note(self, peer: PeerId, before: ListedPeer | None, now: float) -> None:
        """Note that *peer* has come, gone or changed; *before* is how it was listed, if it was."""
        if not self._of_everyone and peer not in self._of_one:
            return
        self._count += 1
        first = self._changes.pop(peer, None)
        self._changes[peer] = (first[0] if first else before, self._count)
        self._due = min(self._due, now + self._interval)

    def pulse(self, now: float) -> list[Send]:
        """Tell what was gathered, when it is time."""
        if now < self._due:
            return []
        news = _News(self._changes, self._find)
        told = [
            *_sends(news, self._news_of_everyone(news)),
            *_sends(news, self._news_of_some(news)),
        ]
        self._due = math.inf
        self._changes, self._newcomers = {}, {}
        return told

    def _news_of_everyone(self, news: _News) -> Iterator[tuple[_Peers, SessionId]]:
        """Yield who of those that watch everyone hears of whom: nearly all of the same."""
        for session, own in self._of_everyone.items():
            peers = news.since(self._newcomers.get(session))
            yield (peers if own not in news else _without(peers, own)), session

    def _news_of_some(self, news: _News) -> Iterator[tuple[_Peers, SessionId]]:
        """Yield who of those that watch some hears of whom of these."""
        found: dict[SessionId, list[PeerId]] = defaultdict(list)
        for peer in self._changes:
            for session in self._of_one.get(peer, ()):
                if news.is_news(peer, self._newcomers.get(session)):
                    found[session].append(peer)
        for session, peers in found.items():
            yield tuple(peers), session


_Peers = tuple[PeerId, ...]
_Changes = Mapping[PeerId, tuple[ListedPeer | None, int]]


class _News:
    """
    What has changed over a while, and how it is now.

    *since* is the number of the change after which somebody began to watch; None
    for who watched all the time, to whom only counts what is not as it was.
    """

    def __init__(self, changes: _Changes, find: Callable[[PeerId], ListedPeer | None]) -> None:
        states = {peer: find(peer) for peer in changes}
        self._numbers = {peer: number for peer, (_, number) in changes.items()}
        self._members = {peer: peer_members(state) for peer, state in states.items() if state}
        self._changed = {peer: None for peer, (was, _) in changes.items() if states[peer] != was}
        self._to_all = tuple(self._changed)
        self._in_order = tuple(self._numbers.items())

    def __contains__(self, peer: object) -> bool:
        return peer in self._numbers

    def is_news(self, peer: PeerId, since: int | None) -> bool:
        """Tell whether the change of *peer* is news to somebody."""
        return peer in self._changed if since is None else self._numbers[peer] > since

    def since(self, since: int | None) -> _Peers:
        """Return all whose change is news to somebody."""
        if since is None:
            return self._to_all
        first = bisect_right(self._in_order, since, key=itemgetter(1))
        return tuple([peer for peer, _ in self._in_order[first:]])

    def text(self, peers: _Peers) -> str:
        """Return the frame that tells of *peers*."""
        online = [self._members[peer] for peer in peers if peer in self._members]
        offline = [peer for peer in peers if peer not in self._members]
        return encode_presence_changes(peer_entries(online), offline)


def _sends(news: _News, found: Iterable[tuple[_Peers, SessionId]]) -> Iterator[Send]:
    """Tell each what it hears of: one text for all who hear of the same."""
    groups: dict[_Peers, list[SessionId]] = defaultdict(list)
    for peers, session in found:
        groups[peers].append(session)
    for peers, sessions in groups.items():
        if peers:
            yield Send(tuple(sessions), news.text(peers))


def _without(peers: _Peers, own: PeerId) -> _Peers:
    return tuple([peer for peer in peers if peer != own])
