"""Where mail waits for peers that are away: one contract, one module per technology."""

from agora.mailbox.base import AlreadyStoredError, Mailbox, MailboxFullError, Page
from agora.mailbox.memory import MemoryMailbox
from agora.mailbox.sqlite import SqliteMailbox

__all__ = [
    "AlreadyStoredError",
    "Mailbox",
    "MailboxFullError",
    "MemoryMailbox",
    "Page",
    "SqliteMailbox",
]
