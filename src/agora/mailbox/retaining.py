"""What every mailbox does alike with mail that was acked and is kept: it asks a part of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from agora.mailbox.base import MailboxBounds, Page
from agora.protocol.relay.actions import Mail

__all__ = ["Retained", "Retaining"]


class Retained(Protocol):
    """The part that keeps it; what each does is told in :class:`agora.mailbox.base.Mailbox`."""

    def keep(self, mail: Iterable[Mail], bounds: MailboxBounds, *, acked_ms: int) -> None:
        """Keep what was acked, within *bounds*."""
        ...

    def page(
        self, recipient: str, *, since_ms: int, after: int, max_messages: int, max_bytes: int
    ) -> Page:
        """Return what was acked since a moment, behind *after*."""
        ...

    def forget(self, *, before_ms: int, now_ms: int, max_messages: int) -> int:
        """Forget what was acked before a moment."""
        ...


class Retaining:
    """A mailbox's methods about it."""

    _bounds: MailboxBounds
    _retained: Retained

    def retain(self, mail: Iterable[Mail], *, acked_ms: int) -> None:
        """Keep what was acked."""
        self._retained.keep(mail, self._bounds, acked_ms=acked_ms)

    def retained(
        self, recipient: str, *, since_ms: int, after: int, max_messages: int, max_bytes: int
    ) -> Page:
        """Return what was acked since a moment, behind *after*."""
        return self._retained.page(
            recipient,
            since_ms=since_ms,
            after=after,
            max_messages=max_messages,
            max_bytes=max_bytes,
        )

    def forget_retained(self, *, before_ms: int, now_ms: int, max_messages: int) -> int:
        """Forget what was acked before a moment."""
        return self._retained.forget(before_ms=before_ms, now_ms=now_ms, max_messages=max_messages)
