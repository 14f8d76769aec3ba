"""
What a peer has acked and the disk still holds: taken out by one job at a time, until that worked.

A disk that fails for a while must not bring mail again that was acked, and a
stranger who acks what nobody ever sent must not fill the queue of the disk.
"""

from __future__ import annotations

from collections.abc import Sequence

from agora.keys import PeerId
from agora.protocol.relay.actions import Action, RemoveIds

__all__ = ["Removals"]


class Removals:
    """
    The acked messages of one peer that are still to be removed.

    Args:
        peer: Whose they are.
        max_unknown: Ids that nobody knows of here and that the mailbox may have all the
            same; of more, the rest is left out, and comes again if there is such mail.
    """

    def __init__(self, peer: PeerId, *, max_unknown: int) -> None:
        self._peer = peer
        self._max_unknown = max_unknown
        self._ids: dict[str, None] = {}
        self._is_asked = False

    def __contains__(self, envelope_id: object) -> bool:
        return envelope_id in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, envelope_id: str, *, is_known: bool) -> None:
        """Have a message removed; *is_known* when it certainly was on its way to the peer."""
        if is_known or len(self._ids) < self._max_unknown:
            self._ids[envelope_id] = None

    def ask(self) -> list[Action]:
        """Return the job for all there is, unless one is under way."""
        if self._is_asked or not self._ids:
            return []
        self._is_asked = True
        return [RemoveIds(self._peer, tuple(self._ids))]

    def done(self, ids: Sequence[str], *, has_worked: bool) -> None:
        """A job has ended; what it could not remove is asked for again."""
        self._is_asked = False
        if has_worked:
            for envelope_id in ids:
                self._ids.pop(envelope_id, None)
