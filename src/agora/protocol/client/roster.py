"""Who is there, as the relay tells it: changes are told where something has changed."""

from __future__ import annotations

from dataclasses import replace

from agora.frames import ListedPeer, Watched
from agora.keys import PeerId
from agora.protocol.client.happenings import PresenceChanged

__all__ = ["Roster"]


class Roster:
    """
    The peers that can be reached, of those we watch.

    Args:
        me: Our own peer id, which is never among them.

    Attributes:
        peers: By peer id; one with a mailbox is here also while it is away.
    """

    def __init__(self, me: PeerId) -> None:
        self.peers: dict[PeerId, ListedPeer] = {}
        self._me = me
        self._with_mailbox: set[PeerId] = set()

    def enlist(self, peer: ListedPeer) -> list[PresenceChanged]:
        """Take an entry of the list that comes with the registration."""
        if peer.public_key == self._me:
            return []
        if peer.is_online:
            return self.arrive(peer)
        self._with_mailbox.add(peer.public_key)
        self.peers[peer.public_key] = peer
        return []

    def arrive(self, peer: ListedPeer) -> list[PresenceChanged]:
        """A peer is online."""
        if peer.public_key == self._me:
            return []
        known = self.peers.get(peer.public_key)
        self.peers[peer.public_key] = peer
        is_news = known is None or not known.is_online
        return [PresenceChanged(peer, is_online=True)] if is_news else []

    def depart(self, peer_id: PeerId) -> list[PresenceChanged]:
        """A peer is not online any more."""
        known = self.peers.pop(peer_id, None)
        if known is None:
            return []
        gone = replace(known, is_online=False)
        if peer_id in self._with_mailbox:
            self.peers[peer_id] = gone
        return [PresenceChanged(known, is_online=False)] if known.is_online else []

    def keep_only(self, watched: Watched) -> None:
        """Forget whom we do not watch any more: we would not hear of their going."""
        for peer in [peer for peer in self.peers if peer not in watched]:
            del self.peers[peer]

    def clear(self) -> list[PresenceChanged]:
        """The connection is gone, and with it everyone."""
        gone = [peer for peer in self.peers.values() if peer.is_online]
        self.peers.clear()
        return [PresenceChanged(peer, is_online=False) for peer in gone]
