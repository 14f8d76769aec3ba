"""Where mail waits for peers that are away: one contract, one module per technology."""

from agora.mailbox.base import (
    AlreadyStoredError,
    DeadLetter,
    Mailbox,
    MailboxBounds,
    MailboxFullError,
    MailboxSummary,
    OutOfOrderError,
    Page,
    Put,
    Refusal,
    StoreTotals,
)
from agora.mailbox.memory import MemoryMailbox
from agora.mailbox.sqlite import SqliteMailbox

__all__ = [
    "AlreadyStoredError",
    "DeadLetter",
    "Mailbox",
    "MailboxBounds",
    "MailboxFullError",
    "MailboxSummary",
    "MemoryMailbox",
    "OutOfOrderError",
    "Page",
    "Put",
    "Refusal",
    "SqliteMailbox",
    "StoreTotals",
]
