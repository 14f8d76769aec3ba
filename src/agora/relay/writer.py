"""
The one thread that touches the mailboxes, so that the event loop never waits for a disk.

How it works is told in :mod:`agora.group_commit`; here that is tied to a mailbox.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from agora import group_commit
from agora.group_commit import Done, GroupCommit
from agora.mailbox import Mailbox

__all__ = ["Done", "Job", "MailboxWriter", "Work", "Writer", "commit_together"]

_NAME = "mailbox"

_Result = TypeVar("_Result")
Work = Callable[[Mailbox], Any]
Job = tuple[Work, Done]
"""What to do, and whom to tell on the loop; :meth:`Writer.submit` ties their types together."""


class Writer(Protocol):
    """What a node needs of whoever writes its mailboxes."""

    def submit(
        self, work: Callable[[Mailbox], _Result], done: Callable[[_Result | Exception], None]
    ) -> None:
        """Queue *work*; *done* gets its result or exception when it is committed."""
        ...


class MailboxWriter(GroupCommit[Mailbox]):
    """
    Runs jobs on a mailbox, in order, each committed before its result is told.

    Args:
        mailbox: Owned from here on; closed by :meth:`close`.
        post: Runs a callable on the loop's thread, such as ``loop.call_soon_threadsafe``.
    """

    def __init__(self, mailbox: Mailbox, post: Callable[[Callable[[], None]], object]) -> None:
        super().__init__(mailbox, post, name=_NAME)


def commit_together(mailbox: Mailbox, batch: list[Job]) -> list[tuple[Done, object]]:
    """Do the jobs of *batch* in order with one commit; return who is to be told what."""
    return group_commit.commit_together(mailbox, batch, name=_NAME)
