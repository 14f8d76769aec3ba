"""
Verifies signatures on all cores, so that the event loop can go on meanwhile.

A signature costs more than all else that is done for a message, and the library lets
go of the interpreter while it works. What comes in one turn of the loop is
handed over together, as a hand-over costs about as much as half a signature.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Protocol

from agora.sealed import PlainSealed

__all__ = ["InlineVerifier", "ThreadedVerifier", "Verifier", "usable_cores"]

_Done = Callable[[], None]
_Job = tuple[PlainSealed, _Done]


class Verifier(Protocol):
    """What a node needs of whoever verifies."""

    def submit(self, sealed: PlainSealed, done: _Done) -> None:
        """Verify an envelope, then call *done*, at once or later, on the event loop."""
        ...


class InlineVerifier:
    """Verifies at once, where it is asked."""

    def submit(self, sealed: PlainSealed, done: _Done) -> None:
        """Verify an envelope, and call *done*."""
        _ = sealed.is_genuine  # which remembers it
        done()

    def close(self) -> None:
        """Nothing is left to be done."""


class ThreadedVerifier:
    """
    Verifies in threads of its own, or on the loop where that is quicker.

    Args:
        threads: How many, at least one; started when they are first needed.
        call_soon: The event loop's.
        call_soon_threadsafe: The event loop's.
    """

    def __init__(
        self,
        threads: int,
        *,
        call_soon: Callable[[_Done], object],
        call_soon_threadsafe: Callable[[_Done], object],
    ) -> None:
        self._count = threads
        self._call_soon = call_soon
        self._call_soon_threadsafe = call_soon_threadsafe
        self._threads: list[Thread] = []
        self._waiting: list[_Job] = []  # what came in this turn of the loop
        self._handed_over: SimpleQueue[Sequence[_Job] | None] = SimpleQueue()
        self._verified: deque[Sequence[_Job]] = deque()
        self._in_hand = 0
        self._size_in_hand = 0

    def submit(self, sealed: PlainSealed, done: _Done) -> None:
        """Verify an envelope, then call *done* on the loop."""
        if self._in_hand >= _MAX_IN_HAND or self._size_in_hand >= _MAX_SIZE_IN_HAND:
            # Everyone is busy: the loop helps, which also lets no more come in than is done.
            _finish((sealed, done))
            return
        if not self._waiting:
            self._call_soon(self._hand_over)
        self._waiting.append((sealed, done))
        self._in_hand += 1
        self._size_in_hand += len(sealed.canonical)

    def close(self) -> None:
        """End the threads. What they have in hand is verified, and told to nobody."""
        for _ in self._threads:
            self._handed_over.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _hand_over(self) -> None:
        jobs, self._waiting = self._waiting, []
        if len(jobs) < _WORTH_A_HAND_OVER:
            self._finish(jobs)
            return
        if not self._threads:
            self._start()
        share = min(_MAX_SHARE, max(_WORTH_A_HAND_OVER, -(-len(jobs) // self._count)))
        for first in range(0, len(jobs), share):
            self._handed_over.put(jobs[first : first + share])

    def _start(self) -> None:
        for number in range(self._count):
            thread = Thread(target=self._work, name=f"agora-verify-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while (jobs := self._handed_over.get()) is not None:
            for sealed, _ in jobs:
                _ = sealed.is_genuine
            self._verified.append(jobs)
            self._call_soon_threadsafe(self._collect)

    def _collect(self) -> None:
        self._finish(self._verified.popleft())

    def _finish(self, jobs: Sequence[_Job]) -> None:
        for job in jobs:
            self._in_hand -= 1
            self._size_in_hand -= len(job[0].canonical)
            _finish(job)


_WORTH_A_HAND_OVER = 4
"""Signatures that come together; fewer are verified sooner than a thread has woken up."""

_MAX_SHARE = 16
"""Signatures in one hand-over: about a millisecond, so that answers do not wait for long."""

_MAX_IN_HAND = 256
"""Signatures that wait to be verified; of more the loop does each as it comes."""

_MAX_SIZE_IN_HAND = 4 * 1024 * 1024
"""Characters of envelopes that wait to be verified, at which the loop does the same."""


def _finish(job: _Job) -> None:
    sealed, done = job
    _ = sealed.is_genuine  # known already where a thread has found out
    done()


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
