"""What fits: a message into a mailbox, and messages onto a page. The same for every technology."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from agora.mailbox.base import MailboxBounds, MailboxFullError, Page
from agora.protocol.relay.actions import Mail

__all__ = ["Held", "Holdings", "check_room", "cut_page"]


@dataclass(slots=True)
class Held:
    """So many messages, and bytes of text."""

    messages: int
    bytes: int


class Holdings(NamedTuple):
    """
    What a new message has to fit beside.

    Attributes:
        mailbox: What waits for its recipient.
        of_sender: What of that is its sender's.
        sender: What waits of its sender, for anyone.
        store: What waits of anyone, for anyone.
    """

    mailbox: Held
    of_sender: Held
    sender: Held
    store: Held


def check_room(size: int, held: Holdings, bounds: MailboxBounds) -> None:
    """Raise :class:`MailboxFullError` unless a message of *size* bytes fits beside *held*."""
    _check_mailbox(size, held.mailbox, bounds)
    if held.of_sender.messages:  # else it is the one message that everybody may leave
        _check_share(size, held.of_sender, bounds)
    _check_store(size, held, bounds)


def _check_mailbox(size: int, held: Held, bounds: MailboxBounds) -> None:
    if held.messages >= bounds.max_messages:
        raise MailboxFullError(
            f"mailbox holds {held.messages} messages of at most {bounds.max_messages}"
        )
    if held.bytes + size > bounds.max_bytes:
        raise MailboxFullError(
            f"mailbox holds {held.bytes} bytes of at most {bounds.max_bytes}: "
            f"no room for {size} more"
        )


def _check_share(size: int, held: Held, bounds: MailboxBounds) -> None:
    max_messages = int(bounds.max_messages * bounds.sender_share)
    max_bytes = int(bounds.max_bytes * bounds.sender_share)
    if held.messages >= max_messages:
        raise MailboxFullError(
            f"mailbox holds {held.messages} messages of this sender, of at most {max_messages}",
            scope="sender",
        )
    if held.bytes + size > max_bytes:
        raise MailboxFullError(
            f"mailbox holds {held.bytes} bytes of this sender, of at most {max_bytes}: "
            f"no room for {size} more",
            scope="sender",
        )


def _check_store(size: int, held: Holdings, bounds: MailboxBounds) -> None:
    free = bounds.store_bytes - held.store.bytes - size
    if free < 0:
        raise MailboxFullError(
            f"store holds {held.store.bytes} bytes of at most {bounds.store_bytes}: "
            f"no room for {size} more",
            scope="store",
        )
    if held.sender.bytes + size > free:
        raise MailboxFullError(
            f"store holds {held.sender.bytes} bytes of this sender: with {size} more that would "
            f"be more than the {free} that were still free",
            scope="sender",
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
