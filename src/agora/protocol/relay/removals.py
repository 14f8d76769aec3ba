"""
What a peer has acked and the disk still holds: taken out at once, and again until that worked.

A disk that fails for a while must not bring mail again that was acked. And who
acks what nobody ever sent must not fill the queue of the disk: ids that are
only possible go there one job at a time.
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
        self._known: dict[str, None] = {}
        self._unknown: dict[str, None] = {}
        self._asked: dict[str, None] = {}

    def __contains__(self, envelope_id: object) -> bool:
        return envelope_id in self._known or envelope_id in self._unknown

    def __len__(self) -> int:
        return len(self._known) + len(self._unknown)

    def add(self, envelope_id: str, *, is_known: bool) -> None:
        """Have a message removed; *is_known* when it certainly was on its way to the peer."""
        if is_known:
            self._known[envelope_id] = None
        elif len(self._unknown) < self._max_unknown:
            self._unknown[envelope_id] = None

    def ask(self) -> list[Action]:
        """Return the job for what no job was asked for yet."""
        wanted = [*self._known]
        if self._asked.keys().isdisjoint(self._unknown):
            wanted += self._unknown
        new = tuple(one for one in wanted if one not in self._asked)
        self._asked.update(dict.fromkeys(new))
        nameless = tuple([one for one in new if one in self._unknown])
        return [RemoveIds(self._peer, new, nameless)] if new else []

    def done(self, ids: Sequence[str], *, has_worked: bool) -> None:
        """A job has ended; what it could not remove is asked for again."""
        for envelope_id in ids:
            self._asked.pop(envelope_id, None)
        for envelope_id in ids if has_worked else ():
            self._known.pop(envelope_id, None)
            self._unknown.pop(envelope_id, None)
