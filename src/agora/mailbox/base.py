"""
The contract of a mailbox store. Whatever keeps it may stand behind a relay.

``agora.testing.conformance`` holds any implementation to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from agora.errors import AgoraError
from agora.protocol.actions import Mail

__all__ = ["AlreadyStoredError", "Mailbox", "MailboxFullError", "Page"]


class MailboxFullError(AgoraError):
    """The recipient's mailbox is at its bound; nothing was stored, nothing was thrown away."""

    code = "mailbox_full"


class AlreadyStoredError(AgoraError):
    """This envelope of this sender waits for this recipient already."""

    code = "duplicate"


@dataclass(frozen=True, slots=True)
class Page:
    """Some mail of one mailbox, oldest first; ``is_last`` when there is none behind it."""

    mail: tuple[Mail, ...]
    is_last: bool


class Mailbox(Protocol):
    """
    Mail by recipient, first in first out.

    One thread at a time uses it. Changes are visible to later calls at once and
    safe from a crash when :meth:`commit` has returned; :meth:`rollback` undoes
    those since the last commit.
    """

    def put(self, mail: Mail, *, now_ms: int) -> Mail:
        """
        Add *mail* behind all that waits for its recipient; return it with its position.

        Positions grow with every message ever stored and are never used twice.

        Raises:
            MailboxFullError: When a bound on messages or bytes would be passed.
            AlreadyStoredError: When the same (sender, recipient, id) waits already,
                also in a full mailbox: a repeat needs no room.
        """
        ...

    def page(self, recipient: str, *, after: int, max_messages: int, max_bytes: int) -> Page:
        """
        Return the oldest mail of *recipient* behind position *after*.

        At most *max_messages*, and *max_bytes* of text unless the first message
        alone is longer: a page is only empty when nothing waits.
        """
        ...

    def remove(self, recipient: str, positions: Iterable[int]) -> None:
        """Take messages out; positions that are not there change nothing."""
        ...

    def expire(self, *, before_ms: int) -> int:
        """Remove what was stored before *before_ms*; return how many messages that was."""
        ...

    def count(self, recipient: str) -> tuple[int, int]:
        """Return how many messages and bytes wait for *recipient*."""
        ...

    def commit(self) -> None:
        """Make all changes safe from a crash of the process and of the machine."""
        ...

    def rollback(self) -> None:
        """Undo all changes since the last commit."""
        ...

    def close(self) -> None:
        """Let go of what it holds; what was not committed is undone."""
        ...
