"""
Acked mail in memory, beside the mailboxes of ``--memory``.

Every change is made with the way back beside it, as in :mod:`agora.mailbox.memory`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial

from msgspec.structs import replace

from agora.mailbox.base import MailboxBounds, Page
from agora.mailbox.fitting import Held, cut_page
from agora.protocol.relay.actions import Mail

__all__ = ["RetainedMemory"]

_Change = Callable[[], object]


class RetainedMemory:
    """
    What is retained until the process ends.

    Args:
        do: Makes a change, and remembers how it is undone.
    """

    def __init__(self, do: Callable[[_Change, _Change], None]) -> None:
        self._do = do
        self._of: dict[str, OrderedDict[int, Mail]] = {}  # by recipient and number
        self._ids: set[tuple[str, str, str]] = set()
        self._held: dict[str, Held] = {}  # by recipient; '' is all of them
        self._last_number = 0

    # In

    def keep(self, mail: Iterable[Mail], bounds: MailboxBounds, *, acked_ms: int) -> None:
        """Keep mail, and forget the oldest of what is more than the bounds allow."""
        moment = max(acked_ms, self._last_moment())
        recipients: dict[str, None] = {}
        for one in mail:
            if self.has(one):
                continue
            number = self._last_number = self._last_number + 1
            kept = replace(one, position=number, stored_ms=moment, traceparent=None)
            self._do(partial(self._add, kept), partial(self._take, kept))
            recipients[kept.recipient] = None
        for recipient in recipients:
            self._trim_one(recipient, bounds)
        if recipients:
            self._trim_all(bounds)

    def _trim_one(self, recipient: str, bounds: MailboxBounds) -> None:
        while (
            self.held(recipient).messages > bounds.retain_messages
            or self.held(recipient).bytes > bounds.retain_bytes
        ):
            self._drop(next(iter(self._of[recipient].values())))

    def _trim_all(self, bounds: MailboxBounds) -> None:
        while self.held("").bytes > bounds.retain_store_bytes:
            self._drop(self._oldest())

    # Out

    def page(
        self, recipient: str, *, since_ms: int, after: int, max_messages: int, max_bytes: int
    ) -> Page:
        """Return a page of what is retained of one recipient."""
        mine = self._of.get(recipient, OrderedDict())
        behind = (one for one in mine.values() if one.position > after)
        wanted = (one for one in behind if one.stored_ms >= since_ms)
        return cut_page(wanted, max_messages=max_messages, max_bytes=max_bytes)

    def has(self, mail: Mail) -> bool:
        """Tell whether this message is retained."""
        return bool(mail.envelope_id) and _id_of(mail) in self._ids

    def held(self, recipient: str) -> Held:
        """Return how much of one recipient is retained; ``""`` is all of them."""
        return self._held.get(recipient, Held(0, 0))

    def messages(self) -> dict[str, int]:
        """Return how many messages of each recipient are retained."""
        return {recipient: len(mine) for recipient, mine in self._of.items()}

    # Away

    def forget(self, *, before_ms: int, now_ms: int, max_messages: int) -> int:
        """Forget what was acked before a moment, the oldest first."""
        if self._last_moment() > now_ms:
            self._turn_back(now_ms)
        forgotten = 0
        while self._of and forgotten < max_messages and self._oldest().stored_ms < before_ms:
            self._drop(self._oldest())
            forgotten += 1
        return forgotten

    def purge(self, recipient: str) -> int:
        """Forget all of one recipient."""
        mine = list(self._of.get(recipient, {}).values())
        for one in mine:
            self._drop(one)
        return len(mine)

    # Within

    def _oldest(self) -> Mail:
        return min(
            (next(iter(mine.values())) for mine in self._of.values()),
            key=lambda one: one.position,
        )

    def _last_moment(self) -> int:
        return max((mine[next(reversed(mine))].stored_ms for mine in self._of.values()), default=0)

    def _turn_back(self, now_ms: int) -> None:
        for mine in self._of.values():
            for one in [one for one in mine.values() if one.stored_ms > now_ms]:
                now = replace(one, stored_ms=now_ms)
                self._do(partial(self._set, now), partial(self._set, one))

    def _drop(self, one: Mail) -> None:
        self._do(partial(self._take, one), partial(self._put_back, one))

    def _add(self, one: Mail) -> None:
        self._of.setdefault(one.recipient, OrderedDict())[one.position] = one
        self._count(one, +1)

    def _set(self, one: Mail) -> None:
        self._of[one.recipient][one.position] = one

    def _put_back(self, one: Mail) -> None:
        self._add(one)
        self._of[one.recipient].move_to_end(one.position, last=False)  # only the oldest leave

    def _take(self, one: Mail) -> None:
        mine = self._of[one.recipient]
        del mine[one.position]
        if not mine:
            del self._of[one.recipient]
        self._count(one, -1)

    def _count(self, one: Mail, sign: int) -> None:
        (self._ids.add if sign > 0 else self._ids.discard)(_id_of(one))
        for recipient in (one.recipient, ""):
            held = self._held.pop(recipient, Held(0, 0))
            now = Held(held.messages + sign, held.bytes + sign * one.size)
            if now.messages:
                self._held[recipient] = now


def _id_of(mail: Mail) -> tuple[str, str, str]:
    return mail.recipient, mail.sender, mail.envelope_id
