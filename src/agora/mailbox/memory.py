"""A mailbox in memory: for ``--memory``, for tests, and as the model the others are held to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from agora.mailbox.base import AlreadyStoredError, MailboxFullError, Page
from agora.protocol.actions import Mail

__all__ = ["MemoryMailbox"]


class MemoryMailbox:
    """
    Keeps mail until the process ends.

    Args:
        max_messages: Messages one mailbox holds.
        max_bytes: Bytes of text one mailbox holds.
    """

    def __init__(self, *, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._mail: dict[str, dict[int, tuple[Mail, int]]] = {}
        self._last_position = 0
        self._undo: list[Callable[[], None]] = []

    def put(self, mail: Mail, *, now_ms: int) -> Mail:
        """Add *mail*; see :meth:`Mailbox.put <agora.mailbox.base.Mailbox.put>`."""
        waiting = self._mail.setdefault(mail.recipient, {})
        if mail.envelope_id and any(
            (held.sender, held.envelope_id) == (mail.sender, mail.envelope_id)
            for held, _ in waiting.values()
        ):
            raise AlreadyStoredError(f"envelope {mail.envelope_id} waits already")
        check_room(mail, *self.count(mail.recipient), self._max_messages, self._max_bytes)
        self._last_position += 1
        stored = replace(mail, position=self._last_position)
        waiting[stored.position] = (stored, now_ms)
        self._undo.append(lambda: waiting.pop(stored.position, None) and None)
        return stored

    def page(self, recipient: str, *, after: int, max_messages: int, max_bytes: int) -> Page:
        """Return the oldest mail behind *after*."""
        waiting = [mail for mail, _ in self._mail.get(recipient, {}).values()]
        behind = sorted((m for m in waiting if m.position > after), key=lambda m: m.position)
        return cut_page(behind, max_messages=max_messages, max_bytes=max_bytes)

    def remove(self, recipient: str, positions: Iterable[int]) -> None:
        """Take messages out."""
        waiting = self._mail.get(recipient, {})
        for position in positions:
            self._take_out(waiting, position)

    def expire(self, *, before_ms: int) -> int:
        """Remove what was stored before *before_ms*."""
        old = [
            (waiting, position)
            for waiting in self._mail.values()
            for position, (_, stored_ms) in waiting.items()
            if stored_ms < before_ms
        ]
        for waiting, position in old:
            self._take_out(waiting, position)
        return len(old)

    def count(self, recipient: str) -> tuple[int, int]:
        """Return how many messages and bytes wait."""
        waiting = self._mail.get(recipient, {})
        return len(waiting), sum(mail.size for mail, _ in waiting.values())

    def commit(self) -> None:
        """Keep the changes."""
        self._undo.clear()

    def rollback(self) -> None:
        """Undo the changes, the latest first."""
        while self._undo:
            self._undo.pop()()

    def close(self) -> None:
        """Forget everything."""
        self._mail.clear()

    def _take_out(self, waiting: dict[int, tuple[Mail, int]], position: int) -> None:
        held = waiting.pop(position, None)
        if held is not None:
            self._undo.append(lambda: waiting.update({position: held}))


def check_room(mail: Mail, messages: int, size: int, max_messages: int, max_bytes: int) -> None:
    """Raise :class:`MailboxFullError` unless *mail* fits beside what waits."""
    if messages + 1 > max_messages:
        raise MailboxFullError(f"mailbox holds {messages} messages of at most {max_messages}")
    if size + mail.size > max_bytes:
        raise MailboxFullError(
            f"mailbox holds {size} bytes of at most {max_bytes}: no room for {mail.size} more"
        )


def cut_page(behind: Iterable[Mail], *, max_messages: int, max_bytes: int) -> Page:
    """Take as much of *behind* as fits, but at least its first message; look at one more."""
    taken: list[Mail] = []
    size = 0
    for mail in behind:
        size += mail.size
        if len(taken) == max_messages or (taken and size > max_bytes):
            return Page(tuple(taken), is_last=False)
        taken.append(mail)
    return Page(tuple(taken), is_last=True)
