"""
Who is online: peers in the order they came, and the sessions of each.

A peer is online while it has at least one session. Listed storage peers are
always listed, as the reference does, because their mail is always taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from agora.frames import ListedPeer, Watched
from agora.keys import PeerId
from agora.protocol.relay.actions import SessionId

__all__ = ["OnlinePeer", "Presence"]


@dataclass(slots=True)
class OnlinePeer:
    """One peer that is online. The name is that of its latest session that gave one."""

    public_key: PeerId
    last_seen: float
    name: str | None = None
    sessions: list[SessionId] = field(default_factory=list)

    @property
    def listed(self) -> ListedPeer:
        """The peer as others see it."""
        return ListedPeer(self.public_key, self.name)


class Presence:
    """The sessions of every peer that is online."""

    def __init__(self, storage_peers: Iterable[PeerId] = ()) -> None:
        self._storage_peers = tuple(dict.fromkeys(storage_peers))
        self._online: dict[PeerId, OnlinePeer] = {}
        self._listeners: dict[SessionId, PeerId] = {}  # of the reference dialect

    def __len__(self) -> int:
        return len(self._online)

    def __contains__(self, peer: object) -> bool:
        return peer in self._online

    def join(
        self, session: SessionId, peer: PeerId, name: str | None, now: float, *, can_watch: bool
    ) -> bool:
        """
        Add a session; return True when it is the first of its peer.

        Who cannot watch, in the reference dialect, is told of everyone.
        """
        entry = self._online.setdefault(peer, OnlinePeer(peer, now))
        entry.sessions.append(session)
        if not can_watch:
            self._listeners[session] = peer
        entry.name = name or entry.name
        entry.last_seen = now
        return len(entry.sessions) == 1

    def leave(self, session: SessionId, peer: PeerId) -> OnlinePeer | None:
        """Remove a session; return the peer when that was its last."""
        entry = self._online[peer]
        entry.sessions.remove(session)
        self._listeners.pop(session, None)
        return None if entry.sessions else self._online.pop(peer)

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
        return tuple(entry.sessions) if entry else ()

    def sessions_of_others(self, peer: PeerId) -> tuple[SessionId, ...]:
        """Return the sessions of every other peer."""
        return tuple(
            session
            for key, entry in self._online.items()
            if key != peer
            for session in entry.sessions
        )

    def sessions_to_tell(self, peer: PeerId) -> tuple[SessionId, ...]:
        """Return the sessions of other peers that are told of everyone."""
        return tuple(session for session, key in self._listeners.items() if key != peer)

    def others(self, peer: PeerId) -> list[OnlinePeer]:
        """Return every other peer that is online, in the order they came."""
        return [entry for key, entry in self._online.items() if key != peer]

    def listed_for(self, peer: PeerId) -> list[ListedPeer]:
        """Return whom *peer* can reach: those online, then storage peers that are not."""
        absent = (key for key in self._storage_peers if key not in self._online and key != peer)
        away = [ListedPeer(key, is_online=False) for key in absent]
        return [entry.listed for entry in self.others(peer)] + away

    def watched_for(self, peer: PeerId, watched: Watched) -> list[ListedPeer]:
        """Return those whom *peer* watches: who is online, and storage peers that are not."""
        if watched.everyone:
            return self.listed_for(peer)
        online = [
            entry.listed for key in watched.peers - {peer} if (entry := self._online.get(key))
        ]
        absent = (key for key in self._storage_peers if key not in self._online and key != peer)
        return online + [ListedPeer(key, is_online=False) for key in absent if key in watched]
