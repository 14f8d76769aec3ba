"""
Verifies signatures beside the event loop, which goes on meanwhile.

A signature costs more than all else that is done for a message. What comes in one turn of
the loop is handed over together to another process: threads would do, as the library lets
go of the interpreter while it works, but they want it back after each signature, which
costs both sides (docs/explanation/decisions/0020-signatures-beside-the-loop.md).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Protocol

from agora.relay.metrics import Verifications
from agora.sealed import PlainSealed
from agora.verifying import READY, job

__all__ = ["InlineVerifier", "ProcessVerifier", "Verifier", "usable_cores"]

_log = logging.getLogger("agora.relay")

_Done = Callable[[], None]
_Job = tuple[PlainSealed, _Done]


class Verifier(Protocol):
    """What a node needs of whoever verifies."""

    def submit(self, sealed: PlainSealed, done: _Done) -> None:
        """Verify an envelope, then call *done*, at once or later, on the event loop."""
        ...


class InlineVerifier:
    """
    Verifies at once, where it is asked.

    Args:
        counted: Where it counts what it does.
    """

    def __init__(self, counted: Verifications | None = None) -> None:
        self._counted = counted or Verifications()

    def submit(self, sealed: PlainSealed, done: _Done) -> None:
        """Verify an envelope, and call *done*."""
        _finish((sealed, done), self._counted)

    @property
    def waiting(self) -> int:
        """None waits."""
        return 0

    def look_after(self) -> None:
        """Nothing can stand still."""

    def close(self) -> None:
        """Nothing is left to be done."""


class ProcessVerifier:
    """
    Verifies in processes of its own, and on the loop when that has nothing else to do.

    Args:
        processes: How many, at least one; started when there is work enough.
        loop: The event loop on which it is asked, and tells.
        counted: Where it counts what it does.
    """

    def __init__(
        self,
        processes: int,
        loop: asyncio.AbstractEventLoop,
        counted: Verifications | None = None,
    ) -> None:
        self._counted = counted or Verifications()
        self._count = processes
        self._loop = loop
        self._helpers: list[_Helper] = []
        self._waiting: deque[_Job] = deque()
        self._waiting_size = 0
        self._has_turn = False
        self._starts_after = 0.0
        self._is_closed = False

    def submit(self, sealed: PlainSealed, done: _Done) -> None:
        """Verify an envelope, then call *done* on the loop."""
        if len(self._waiting) >= _MAX_WAITING or self._waiting_size >= _MAX_WAITING_SIZE:
            # Everyone is busy: let no more come in than is done.
            _finish((sealed, done), self._counted)
            return
        self._waiting.append((sealed, done))
        self._waiting_size += len(sealed.canonical)
        self._wait_for_turn()

    @property
    def waiting(self) -> int:
        """How many signatures wait, in hand or not."""
        return len(self._waiting) + sum(helper.in_hand for helper in self._helpers)

    @property
    def in_processes(self) -> int:
        """How many the processes have verified so far."""
        return self._counted.in_processes

    def look_after(self) -> None:
        """End a process that does not answer; to be called about once a second."""
        for helper in list(self._helpers):
            helper.look_after()

    def close(self) -> None:
        """End the processes. What they have in hand is told to nobody."""
        self._is_closed = True
        helpers, self._helpers = self._helpers, []
        for helper in helpers:
            helper.close()

    def _wait_for_turn(self) -> None:
        if not self._has_turn:
            self._has_turn = True
            self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        """Give the processes enough to do, and do some of the rest."""
        self._has_turn = False
        if len(self._waiting) >= _WORTH_A_PROCESS and len(self._helpers) < self._count:
            self._start()
        self._hand_over()
        for _ in range(min(_AT_ONCE, len(self._waiting))):
            _finish(self._next(), self._counted)
        if self._waiting:
            self._wait_for_turn()

    def _hand_over(self) -> None:
        for helper in self._helpers:
            if not helper.is_ready:
                continue
            # Not all: the loop would have nothing to do but to wait for it.
            share = -(-len(self._waiting) * 2 // 3)
            room = min(_MAX_IN_HAND - helper.in_hand, share)
            if room >= _WORTH_A_HAND_OVER:
                helper.take([self._next() for _ in range(room)])

    def _next(self) -> _Job:
        sealed, done = self._waiting.popleft()
        self._waiting_size -= len(sealed.canonical)
        return sealed, done

    def _start(self) -> None:
        if self._is_closed or self._loop.time() < self._starts_after:
            return
        self._starts_after = self._loop.time() + _START_AGAIN_AFTER
        try:
            while len(self._helpers) < self._count:
                self._helpers.append(
                    _Helper(self._loop, self._hand_over, self._lose, self._counted)
                )
        except OSError as error:
            _log.error("verifying on the event loop", extra={"fields": {"error": str(error)}})

    def _lose(self, helper: _Helper, left: Sequence[_Job]) -> None:
        """Do what a process has left undone that has ended by itself."""
        _log.error("verifying process has ended", extra={"fields": {"left": len(left)}})
        if helper in self._helpers:
            self._helpers.remove(helper)
        for one in left:
            _finish(one, self._counted)


def _finish(one: _Job, counted: Verifications) -> None:
    """Verify an envelope here and now, unless that is known already, and tell of it."""
    sealed, done = one
    number = counted.on_loop
    counted.on_loop = number + 1
    if number % _TIMED_EVERY:
        _ = sealed.is_genuine
    else:
        started = perf_counter()
        _ = sealed.is_genuine
        counted.loop_seconds.observe(perf_counter() - started)
    done()


class _Helper:
    """A process that verifies, and what it has in hand."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        has_room: Callable[[], None],
        lose: Callable[[_Helper, Sequence[_Job]], None],
        counted: Verifications,
    ) -> None:
        self._counted = counted
        self._batches: deque[tuple[float, int]] = deque()  # since when, and how many are open
        self._loop = loop
        self._has_room = has_room
        self._lose = lose
        self._jobs: deque[_Job] = deque()
        self._unsent = bytearray()
        self._looks = 0  # since it has answered, with something in hand
        self.is_ready = False  # what it got before that would wait for a process to start
        self._socket, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "agora.verifying"],  # -P: nothing from where it stands
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
            )
        except OSError:
            self._socket.close()
            raise
        finally:
            theirs.close()
        self._socket.setblocking(False)
        loop.add_reader(self._socket, self._read)

    @property
    def in_hand(self) -> int:
        """How many it has been given and not answered."""
        return len(self._jobs)

    def take(self, jobs: Sequence[_Job]) -> None:
        """Have these verified."""
        parts = []
        for one in jobs:
            signed = one[0].to_verify
            if signed is None:
                _finish(one, self._counted)  # nothing that could be genuine
            else:
                self._jobs.append(one)
                parts.append(job(signed))
        if parts:
            self._batches.append((perf_counter(), len(parts)))
        is_idle = not self._unsent
        self._unsent += b"".join(parts)
        if is_idle:
            self._write()

    def look_after(self) -> None:
        """End it if it has stood still for too long."""
        self._looks = self._looks + 1 if self._jobs else 0
        if self._looks > _MAX_LOOKS:
            self._end()

    def close(self) -> None:
        """End it, and wait until it has."""
        self._let_go()
        try:
            self._process.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        try:
            verdicts = self._socket.recv(_READ_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            verdicts = b""
        if not verdicts:
            self._end()
            return
        if not self.is_ready:
            self.is_ready = True
            verdicts = verdicts.removeprefix(READY)  # nothing was asked of it before
        self._looks = 0
        verified = [self._jobs.popleft() for _ in verdicts]
        self._has_room()  # before anything else, so that it never waits
        self._count(len(verdicts))
        for verdict, (sealed, done) in zip(verdicts, verified, strict=True):
            sealed.note(is_genuine=verdict == 1)
            done()

    def _count(self, verified: int) -> None:
        self._counted.in_processes += verified
        while verified and self._batches:
            since, still_open = self._batches.popleft()
            if verified < still_open:
                self._batches.appendleft((since, still_open - verified))
                return
            verified -= still_open
            self._counted.process_seconds.observe(perf_counter() - since)

    def _write(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # it has ended: reading tells
        del self._unsent[:sent]
        if self._unsent:
            self._loop.add_writer(self._socket, self._write)
        else:
            self._loop.remove_writer(self._socket)

    def _end(self) -> None:
        self._let_go()
        self._process.kill()  # if it should still be there
        self._process.wait()
        left = list(self._jobs)
        self._jobs.clear()
        self._lose(self, left)

    def _let_go(self) -> None:
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()


_TIMED_EVERY = 16
"""Signatures verified on the loop, of which one is timed: to look at the clock costs too."""

_WORTH_A_HAND_OVER = 4
"""Signatures that are handed over together; fewer are verified sooner than that takes."""

_MAX_IN_HAND = 192
"""Signatures that a process has in hand: enough to be busy through a long turn of the loop."""

_AT_ONCE = 3
"""Signatures that the loop verifies before it looks at its sockets again."""

_WORTH_A_PROCESS = 16
"""Signatures that wait, for which a process is started: some 20 MB, and a tenth of a second."""

_START_AGAIN_AFTER = 10.0
"""Seconds from one start to the next: what ends at once shall not be all that is done."""

_MAX_WAITING = 256
"""Signatures that wait; of more the loop does each as it comes."""

_MAX_WAITING_SIZE = 4 * 1024 * 1024
"""Characters of the envelopes that wait, at which the loop does the same."""

_MAX_LOOKS = 5
"""Looks, one a second, at a process that does not answer; then the loop does its work."""

_READ_AT_ONCE = 4_096
_END_TIMEOUT = 2.0


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
