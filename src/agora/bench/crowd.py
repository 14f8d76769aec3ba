"""Many peers at once: a bounded number on their way at any time, so that no queue overflows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeVar

from agora.bench.peers import Peer, join, part
from agora.bench.stage import Stage
from agora.keys import KeyPair

__all__ = ["AT_ONCE", "assemble", "crowd", "each", "source_address"]

AT_ONCE = 64
"""Connections on their way at once: less than any relay's backlog of the kernel."""

_PORTS_PER_ADDRESS = 20_000

_Made = TypeVar("_Made")


async def each(
    count: int, do: Callable[[int], Awaitable[_Made]], *, at_once: int = AT_ONCE
) -> list[_Made]:
    """Do something for every number below *count*, a few at once; return what came, in order."""
    numbers = iter(range(count))
    made: dict[int, _Made] = {}

    async def work() -> None:
        for number in numbers:
            made[number] = await do(number)

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(at_once, count)):
                workers.create_task(work())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None  # the first of them says why
    return [made[number] for number in range(count)]


async def assemble(
    stage: Stage, count: int, *, keys: list[KeyPair] | None = None, presence: bool = False
) -> list[Peer]:
    """Have *count* peers join; new ones unless *keys* are given."""
    url, joined = stage.target.url, 0

    async def come(number: int) -> Peer:
        nonlocal joined
        who = keys[number] if keys else None
        source = source_address(url, number)
        peer = await join(url, stage.dialect, who, presence=presence, source=source)
        joined += 1
        stage.progress.reached(joined)
        return peer

    stage.progress.begin(f"{count} connections", count)
    return await each(count, come)


@asynccontextmanager
async def crowd(stage: Stage, count: int) -> AsyncIterator[list[Peer]]:
    """Have *count* peers that say nothing, and hear of nobody, for the length of a block."""
    quiet = replace(stage, dialect=stage.quiet_dialect)
    peers = await assemble(quiet, count) if count else []
    try:
        yield peers
    finally:
        await part(peers)


def source_address(url: str, number: int) -> str | None:
    """
    Return from which loopback address to make one of many connections.

    One address has too few ports for all of them; None leaves it to the system.

    >>> source_address("ws://127.0.0.1:9470", 0), source_address("ws://127.0.0.1:9470", 20_000)
    (None, '127.0.0.3')
    """
    if "://127." not in url or number < _PORTS_PER_ADDRESS:
        return None
    return f"127.0.0.{2 + number // _PORTS_PER_ADDRESS}"
