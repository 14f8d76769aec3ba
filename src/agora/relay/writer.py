"""
The one thread that touches the mailboxes, so that the event loop never waits for a disk.

How it works is told in :mod:`agora.group_commit`; here that is tied to a mailbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol, TypeVar

from agora import group_commit
from agora.group_commit import Done, GroupCommit, Watch
from agora.mailbox import Mailbox, Put, Refusal
from agora.protocol.relay.actions import Mail

__all__ = [
    "Done",
    "Job",
    "MailboxWriter",
    "PutMail",
    "RemoveMail",
    "RetainMail",
    "Work",
    "Writer",
    "commit_together",
    "wait_done",
]

_NAME = "mailbox"

_Result = TypeVar("_Result")
Work = Callable[[Mailbox], Any]
Job = tuple[Work, Done]
"""What to do, and whom to tell on the loop; :meth:`Writer.submit` ties their types together."""


@dataclass(frozen=True, slots=True)
class PutMail(Put):
    """Keep mail; with all that waits to be put beside it, at a fraction of the cost of each."""

    def __call__(self, mailbox: Mailbox) -> None:
        """Do it alone."""
        mailbox.put(self.mail, now_ms=self.now_ms, is_owed=self.is_owed, follows=self.follows)

    @staticmethod
    def do_all(mailbox: Mailbox, works: Sequence[PutMail]) -> list[Refusal | None]:
        """Do each in turn."""
        return mailbox.put_many(works)


@dataclass(frozen=True, slots=True)
class RemoveMail:
    """
    Take messages out of a mailbox; with all that is to be removed beside them.

    Attributes:
        recipient: Whose they are.
        ids: Their envelope ids.
        positions: Those of others that are to go too.
        acked_ms: When they were acked, where they are to be retained.
    """

    recipient: str
    ids: tuple[str, ...] = ()
    positions: tuple[int, ...] = ()
    acked_ms: int | None = None

    def __call__(self, mailbox: Mailbox) -> None:
        """Do it alone."""
        self.do_all(mailbox, [self])

    @staticmethod
    def do_all(mailbox: Mailbox, works: Sequence[RemoveMail]) -> list[None]:
        """Do all; the order of recipients is no matter."""
        ids: dict[tuple[str, int | None], list[str]] = {}
        positions: dict[tuple[str, int | None], list[int]] = {}
        for work in works:
            whose = (work.recipient, work.acked_ms)
            ids.setdefault(whose, []).extend(work.ids)
            positions.setdefault(whose, []).extend(work.positions)
        for whose in ids:
            recipient, acked_ms = whose
            if ids[whose]:
                mailbox.remove_ids(recipient, ids[whose], acked_ms=acked_ms)
            if positions[whose]:
                mailbox.remove(recipient, positions[whose], acked_ms=acked_ms)
        return [None] * len(works)


@dataclass(frozen=True, slots=True)
class RetainMail:
    """Keep mail that was acked before it was stored; with all that stands beside it."""

    mail: Mail
    acked_ms: int

    def __call__(self, mailbox: Mailbox) -> None:
        """Do it alone."""
        self.do_all(mailbox, [self])

    @staticmethod
    def do_all(mailbox: Mailbox, works: Sequence[RetainMail]) -> list[None]:
        """Do each in turn."""
        for acked_ms, beside in groupby(works, lambda work: work.acked_ms):
            mailbox.retain([work.mail for work in beside], acked_ms=acked_ms)
        return [None] * len(works)


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
        watch: Who is told how the commits go.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        post: Callable[[Callable[[], None]], object],
        watch: Watch | None = None,
    ) -> None:
        super().__init__(mailbox, post, name=_NAME, watch=watch)


async def wait_done(writer: Writer, work: Callable[[Mailbox], _Result]) -> _Result | Exception:
    """
    Return the result or exception of *work* when it is committed.

    Who is cancelled waits no longer; the work is done all the same.
    """
    found: asyncio.Future[_Result | Exception] = asyncio.get_running_loop().create_future()
    writer.submit(work, lambda result: None if found.done() else found.set_result(result))
    return await found


def commit_together(mailbox: Mailbox, batch: list[Job]) -> list[tuple[Done, object]]:
    """Do the jobs of *batch* in order with one commit; return who is to be told what."""
    return group_commit.commit_together(mailbox, batch, name=_NAME)
