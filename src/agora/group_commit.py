"""
One thread that writes a store, so that an event loop never waits for a disk.

It takes all that waits, does it in order, and commits once (group commit): one
sync serves every change that came while the last one was being synced. Work of one
kind that stands together is done in one go, where it is :class:`Joint`. Results go
back to the loop in the same order, after the commit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic, perf_counter
from typing import Any, Generic, Protocol, TypeVar

from agora.errors import AgoraError

__all__ = ["Done", "GroupCommit", "Joint", "Store", "Watch", "commit_together", "nobody"]

_log = logging.getLogger("agora.store")

LINGER = 1.0
"""Seconds that what nobody waits for may wait for company, and so for its sync."""

MAX_BATCH = 1_000
"""Jobs per commit: bounds how long the first of them waits for its answer."""


class Store(Protocol):
    """What is written: changes count when :meth:`commit` has returned."""

    def commit(self) -> bool:
        """Make all changes safe from a crash; tell whether there were any."""
        ...

    def rollback(self) -> None:
        """Undo all changes since the last commit."""
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


class Watch(Protocol):
    """Who is told how the commits go, in the thread that makes them."""

    def committed(self, jobs: int, *, started: float, ended: float) -> None:
        """So many *jobs* are safe; moments are those of :func:`time.perf_counter`."""
        ...

    def failed(self, error: Exception) -> None:
        """Nothing of a commit was kept."""
        ...


class Joint(Protocol):
    """Work that costs less together with work of its kind which stands beside it."""

    def __call__(self, store: Any, /) -> Any:
        """Do it alone."""
        ...

    @staticmethod
    def do_all(store: Any, works: Sequence[Any], /) -> Sequence[object]:
        """Do each of *works* in turn; return what each came to, a refusal as its error."""
        ...


_Store = TypeVar("_Store", bound=Store)
_Result = TypeVar("_Result")
Done = Callable[[Any], None]


def nobody(result: object) -> None:
    """Tell nobody: a job with this as its ``done`` has no sync of its own, but shares one."""


class GroupCommit(Generic[_Store]):
    """
    Runs jobs on a store, in order, each committed before its result is told.

    Args:
        store: Owned from here on; closed by :meth:`close`.
        post: Runs a callable on the loop's thread, such as ``loop.call_soon_threadsafe``.
        name: What the store is, for the thread's name and the log.
        watch: Who is told how the commits go.
    """

    def __init__(
        self,
        store: _Store,
        post: Callable[[Callable[[], None]], object],
        *,
        name: str,
        watch: Watch | None = None,
    ) -> None:
        self._store = store
        self._post = post
        self._name = name
        self._watch = watch
        self._jobs: SimpleQueue[tuple[Callable[[_Store], Any], Done] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name=f"agora-{name}", daemon=True)
        self._thread.start()

    def submit(
        self, work: Callable[[_Store], _Result], done: Callable[[_Result | Exception], None]
    ) -> None:
        """Queue *work*; *done* gets its result or exception when it is committed."""
        self._jobs.put((work, done))

    def close(self) -> None:
        """Finish all that was queued and close the store. Blocks until then."""
        self._jobs.put(None)
        self._thread.join()
        self._store.close()

    def _run(self) -> None:
        is_open = True
        while is_open:
            batch, is_open = self._next_batch()
            if batch:
                self._report(
                    commit_together(self._store, batch, name=self._name, watch=self._watch)
                )

    def _next_batch(self) -> tuple[list[tuple[Callable[[_Store], Any], Done]], bool]:
        """Wait for a job; return it with all that wait behind it, and whether more may come."""
        batch: list[tuple[Callable[[_Store], Any], Done]] = []
        job = self._jobs.get()
        until = monotonic() + LINGER
        while job is not None:
            batch.append(job)
            if job[1] is not nobody:
                until = 0.0  # somebody waits
            if len(batch) == MAX_BATCH:
                return batch, True
            try:
                if until:
                    job = self._jobs.get(timeout=max(0.0, until - monotonic()))
                else:
                    job = self._jobs.get_nowait()
            except Empty:
                return batch, True
        return batch, False

    def _report(self, results: list[tuple[Done, object]]) -> None:
        try:
            self._post(partial(_tell, results, self._name))
        except RuntimeError:
            # The loop is closed: nobody is left to be told, and what is queued is written all the
            # same.
            _log.warning("%s results not told", self._name)


def commit_together(
    store: _Store,
    batch: list[tuple[Callable[[_Store], Any], Done]],
    *,
    name: str,
    watch: Watch | None = None,
) -> list[tuple[Done, object]]:
    """Do the jobs of *batch* in order with one commit; return who is to be told what."""
    try:
        results = _do_all(store, [work for work, _ in batch])
        _commit(store, len(batch), watch)
    except Exception as error:
        # A full disk may have undone what earlier jobs of the batch did: none of it counts.
        # No traceback: it would go to the same disk, once for every message.
        fields = {"jobs": len(batch), "error": str(error)}
        _log.error("%s commit failed", name, extra={"fields": fields})
        _roll_back(store, name, error, watch)
        return [(done, _do_alone(store, work, name, watch)) for work, done in batch]
    return list(zip((done for _, done in batch), results, strict=True))


def _do_all(store: _Store, works: list[Callable[[_Store], Any]]) -> list[object]:
    results: list[object] = []
    for kind, group in groupby(works, type):
        if do_all := getattr(kind, "do_all", None):  # as a Joint has it
            results += do_all(store, list(group))
        else:
            results += [_do(store, work) for work in group]
    return results


def _commit(store: Store, jobs: int, watch: Watch | None) -> None:
    started = perf_counter()
    has_written = store.commit()
    if has_written and watch is not None:
        watch.committed(jobs, started=started, ended=perf_counter())


def _do_alone(
    store: _Store, work: Callable[[_Store], Any], name: str, watch: Watch | None
) -> object:
    """Do one job with a commit of its own, so that only what cannot be stored fails."""
    try:
        result = _do(store, work)
        _commit(store, 1, watch)
    except Exception as error:
        _roll_back(store, name, error, watch)
        return error
    return result


def _do(store: _Store, work: Callable[[_Store], Any]) -> object:
    try:
        return work(store)
    except AgoraError as refusal:  # full, or there already: an answer, and nothing was written
        return refusal


def _roll_back(store: Store, name: str, why: Exception, watch: Watch | None) -> None:
    if watch is not None:
        watch.failed(why)
    try:
        store.rollback()
    except Exception:
        _log.exception("%s rollback failed", name)  # the thread goes on: the rest may be fine


def _tell(results: list[tuple[Done, object]], name: str) -> None:
    for done, result in results:
        try:
            done(result)
        except Exception:
            _log.exception("%s result not handled", name)  # the next one is somebody else's
