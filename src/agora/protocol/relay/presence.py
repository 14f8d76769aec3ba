"""
Who is online: peers in the order they came, and the sessions of each.

A peer is online while it has at least one session. Listed storage peers are
always listed, as the reference does, because their mail is always taken.

How a peer is listed is written once, when it comes or is renamed: a list of
thousands is told to thousands, and then costs a join of texts that are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import nsmallest
from itertools import islice

from agora.frames import WATCH_ALL, ListedPeer, Watched, peer_members
from agora.keys import PeerId
from agora.protocol.relay.actions import SessionId

__all__ = ["Listing", "OnlinePeer", "Presence"]


@dataclass(slots=True)
class OnlinePeer:
    """
    One peer that is online.

    Attributes:
        public_key: Who it is.
        last_seen: When it joined or sent something.
        name: That of its latest session that gave one.
        sessions: Its sessions, in the order they came; never none.
        members: How frames name it, as :func:`~agora.frames.peer_members` writes it.
    """

    public_key: PeerId
    last_seen: float
    name: str | None
    sessions: tuple[SessionId, ...]
    members: str

    @property
    def listed(self) -> ListedPeer:
        """The peer as others see it."""
        return ListedPeer(self.public_key, self.name)


@dataclass(frozen=True, slots=True)
class Listing:
    """
    Whom somebody can reach, each as :func:`~agora.frames.peer_members` writes it.

    Attributes:
        online: Who is online, in the order they came, as many as were asked for.
        away: Storage peers that are not.
        total: How many there are of both, listed or not.
    """

    online: list[str]
    away: list[str]
    total: int


class Presence:
    """The sessions of every peer that is online."""

    def __init__(self, storage_peers: Iterable[PeerId] = ()) -> None:
        self._storage_peers = tuple(dict.fromkeys(storage_peers))
        self._online: dict[PeerId, OnlinePeer] = {}

    def __len__(self) -> int:
        return len(self._online)

    def __iter__(self) -> Iterator[OnlinePeer]:
        return iter(self._online.values())

    def __contains__(self, peer: object) -> bool:
        return peer in self._online

    def join(self, session: SessionId, peer: PeerId, name: str | None, now: float) -> bool:
        """Add a session; return True when it is the first of its peer."""
        entry = self._online.get(peer)
        if entry is None:
            members = peer_members(ListedPeer(peer, name))
            self._online[peer] = OnlinePeer(peer, now, name, (session,), members)
            return True
        entry.sessions += (session,)
        entry.last_seen = now
        if name and name != entry.name:
            entry.name = name
            entry.members = peer_members(entry.listed)
        return False

    def leave(self, session: SessionId, peer: PeerId) -> OnlinePeer | None:
        """Remove a session; return the peer when that was its last."""
        entry = self._online[peer]
        if entry.sessions == (session,):
            return self._online.pop(peer)
        entry.sessions = tuple(one for one in entry.sessions if one != session)
        return None

    def saw(self, peer: PeerId, now: float) -> None:
        """Note that *peer* has sent something; who only sends is not online."""
        if entry := self._online.get(peer):
            entry.last_seen = now

    def entry(self, peer: PeerId) -> OnlinePeer:
        """Return *peer*, which is online."""
        return self._online[peer]

    def find(self, peer: PeerId) -> ListedPeer | None:
        """Return *peer* as others see it; None while it is offline."""
        entry = self._online.get(peer)
        return entry.listed if entry else None

    def name_of(self, peer: PeerId) -> str | None:
        """Return the display name *peer* claims, if any."""
        entry = self._online.get(peer)
        return entry.name if entry else None

    def sessions_of(self, peer: str) -> tuple[SessionId, ...]:
        """Return the sessions of *peer*; none when it is offline."""
        entry = self._online.get(PeerId(peer))
        return entry.sessions if entry else ()

    def sessions_of_others(self, peer: PeerId) -> tuple[SessionId, ...]:
        """Return the sessions of every other peer."""
        return tuple(
            session
            for key, entry in self._online.items()
            if key != peer
            for session in entry.sessions
        )

    def others(self, peer: PeerId) -> list[OnlinePeer]:
        """Return every other peer that is online, in the order they came."""
        return [entry for key, entry in self._online.items() if key != peer]

    # Lists

    def page(
        self, own: PeerId, *, after: str, at_most: int
    ) -> tuple[list[tuple[PeerId, OnlinePeer | None]], int]:
        """
        Return the next peers behind *after*, by key and without *own*, and how many there are.

        By key, as that is a place in the list whoever comes or goes between two pages.
        """
        away = [key for key in self._storage_peers if key not in self._online and key != own]
        total = len(self._online) + len(away) - (own in self._online)
        behind = [key for key in (*self._online, *away) if key > after and key != own]
        return [(key, self._online.get(key)) for key in nsmallest(at_most, behind)], total

    def listing(
        self, peer: PeerId, watched: Watched = WATCH_ALL, *, at_most: int | None = None
    ) -> Listing:
        """
        Return whom of those *watched* a session of *peer* can reach, *at_most* so many by name.

        Who is not listed is counted, not looked at: of ten thousand the first
        thousand cost as much as of one.
        """
        own = self._online.get(peer)
        away = [key for key in self._storage_peers if key not in self._online and key != peer]
        if watched.everyone:
            # One more than asked for, as the peer's own entry may be among them.
            stop = None if at_most is None else at_most + 1
            first: Iterable[OnlinePeer] = islice(self._online.values(), stop)
            count = len(self._online) - (own is not None)
        else:
            away = [key for key in away if key in watched]
            found = [entry for key in watched.peers if (entry := self._online.get(key))]
            first, count = found, sum(entry is not own for entry in found)
        online = [entry.members for entry in first if entry is not own]
        told_of_away = [peer_members(ListedPeer(key)) for key in away]
        room = None if at_most is None else max(0, at_most - len(online))
        return Listing(online[:at_most], told_of_away[:room], count + len(away))
