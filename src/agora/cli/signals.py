"""
What runs until it is stopped: SIGINT and SIGTERM ask it to end, and asking twice ends it.

SIGHUP asks it to read its settings again, where the system has such a signal.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

__all__ = ["ended_by_sigterm", "hangups", "stop_signals", "unless_stopped", "until_first"]

_Result = TypeVar("_Result")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """
    Give an event that is set by the first SIGINT or SIGTERM.

    A second one then does what the system does by itself: it ends the process
    at once. So a stop that takes too long needs no ``kill -9``.
    """
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        loop.call_soon_threadsafe(asked.set)

    # Not loop.add_signal_handler, which Windows has not.
    before = {number: signal.signal(number, ask) for number in _SIGNALS}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def hangups(stop: asyncio.Event) -> Iterator[asyncio.Event]:
    """
    Give an event that is set by each SIGHUP; on Windows by nothing.

    A terminal that is closed sends SIGHUP too, and means *stop*; under ``nohup``
    it means nothing, so there, too, SIGHUP is somebody's wish.
    """
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    if sys.platform == "win32":
        yield asked
        return
    is_of_terminal = os.isatty(0) and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN

    def ask(number: int, frame: FrameType | None) -> None:
        is_closed = is_of_terminal and not os.isatty(0)
        loop.call_soon_threadsafe((stop if is_closed else asked).set)

    before = signal.signal(signal.SIGHUP, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGHUP, before)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """
    Have SIGTERM end a ``with`` block as Ctrl-C does, so that it can clear up behind itself.

    For what is not one loop that waits, but starts and ends several of them.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


async def until_first(*works: Coroutine[Any, Any, object]) -> None:
    """Run all together until the first ends, then cancel the others; what it raised is raised."""
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def unless_stopped(work: Coroutine[Any, Any, _Result]) -> _Result | None:
    """Return what *work* does; None if SIGINT or SIGTERM came before, and cancelled it."""
    results: list[_Result] = []

    async def keep_result() -> None:
        results.append(await work)

    with stop_signals() as stop:
        await until_first(stop.wait(), keep_result())
    return results[0] if results else None
