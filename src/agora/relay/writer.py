"""
The one thread that touches the mailboxes, so that the event loop never waits for a disk.

It takes all that waits, does it in order, and commits once (group commit): one
sync serves every message that came while the last one was being synced.
Results go back to the loop in the same order, after the commit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeVar

from agora.errors import AgoraError
from agora.mailbox import Mailbox

__all__ = ["Job", "MailboxWriter", "Writer", "commit_together"]

_log = logging.getLogger("agora.relay")

_Result = TypeVar("_Result")
Work = Callable[[Mailbox], Any]
Done = Callable[[Any], None]
Job = tuple[Work, Done]
"""What to do, and whom to tell on the loop; :meth:`Writer.submit` ties their types together."""


class Writer(Protocol):
    """What a node needs of whoever writes its mailboxes."""

    def submit(
        self, work: Callable[[Mailbox], _Result], done: Callable[[_Result | Exception], None]
    ) -> None:
        """Queue *work*; *done* gets its result or exception when it is committed."""
        ...


class MailboxWriter:
    """
    Runs jobs on a mailbox, in order, each committed before its result is told.

    Args:
        mailbox: Owned from here on; closed by :meth:`close`.
        post: Runs a callable on the loop's thread, such as ``loop.call_soon_threadsafe``.
    """

    def __init__(self, mailbox: Mailbox, post: Callable[[Callable[[], None]], object]) -> None:
        self._mailbox = mailbox
        self._post = post
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="agora-mailbox", daemon=True)
        self._thread.start()

    def submit(
        self, work: Callable[[Mailbox], _Result], done: Callable[[_Result | Exception], None]
    ) -> None:
        """Queue *work*; *done* gets its result or exception when it is committed."""
        self._jobs.put((work, done))

    def close(self) -> None:
        """Finish all that was queued and close the mailbox. Blocks until then."""
        self._jobs.put(None)
        self._thread.join()
        self._mailbox.close()

    def _run(self) -> None:
        is_open = True
        while is_open:
            batch, is_open = self._next_batch()
            if batch:
                self._post(partial(_tell, commit_together(self._mailbox, batch)))

    def _next_batch(self) -> tuple[list[Job], bool]:
        """Wait for a job; return it with all that wait behind it, and whether more may come."""
        batch: list[Job] = []
        job = self._jobs.get()
        while job is not None:
            batch.append(job)
            if self._jobs.empty() or len(batch) == _MAX_BATCH:
                return batch, True
            job = self._jobs.get()
        return batch, False


_MAX_BATCH = 1_000
"""Jobs per commit: bounds how long the first of them waits for its answer."""


def commit_together(mailbox: Mailbox, batch: list[Job]) -> list[tuple[Done, object]]:
    """Do the jobs of *batch* in order with one commit; return who is to be told what."""
    try:
        results = [(done, _do(mailbox, work)) for work, done in batch]
        mailbox.commit()
    except Exception as error:
        # A full disk may have undone what earlier jobs of the batch did: none of it counts.
        # No traceback: it would go to the same disk, once for every message.
        fields = {"jobs": len(batch), "error": str(error)}
        _log.error("mailbox commit failed", extra={"fields": fields})
        _roll_back(mailbox)
        return [(done, _do_alone(mailbox, work)) for work, done in batch]
    return results


def _do_alone(mailbox: Mailbox, work: Work) -> object:
    """Do one job with a commit of its own, so that only what cannot be stored fails."""
    try:
        result = _do(mailbox, work)
        mailbox.commit()
    except Exception as error:
        _roll_back(mailbox)
        return error
    return result


def _do(mailbox: Mailbox, work: Work) -> object:
    try:
        return work(mailbox)
    except AgoraError as refusal:  # full, or there already: an answer, and nothing was written
        return refusal


def _roll_back(mailbox: Mailbox) -> None:
    try:
        mailbox.rollback()
    except Exception:
        _log.exception("mailbox rollback failed")  # the thread goes on: others' mail may be fine


def _tell(results: list[tuple[Done, object]]) -> None:
    for done, result in results:
        try:
            done(result)
        except Exception:
            _log.exception("mailbox result not handled")  # the next one is somebody else's
