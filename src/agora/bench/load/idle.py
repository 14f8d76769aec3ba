"""
What a connection costs on which nothing happens: memory alone.

Measured twice: when all have registered, and after each has sent one frame of 64 KB,
for what a relay allocates for a large frame it may keep for the life of the connection.
"""

from __future__ import annotations

import asyncio

from agora.bench.crowd import assemble, each
from agora.bench.letters import framed
from agora.bench.measure import Sample, rss_mb, sample
from agora.bench.peers import Peer, part
from agora.bench.results import Idle
from agora.bench.stage import Stage

__all__ = ["idle"]

_SETTLING = 0.5
_LARGE = framed(f'{{"type":"ping","padding":"{"x" * 65_500}"}}')
_LARGE_AT_ONCE = 8


async def idle(stage: Stage, *, connections: int = 1_000) -> Idle:
    """Measure it once: *connections* registered peers that say nothing."""
    pid = stage.target.pid
    async with stage.peers(1):  # what the very first connection costs is not the others' price
        base = await _settled(pid)
        peers = await assemble(stage, connections)
        quiet = await _settled(pid)
        await _say_something_large(stage, peers)
        after = await _settled(pid)
        await part(peers)
    return Idle(
        relay=stage.target.name,
        dialect=stage.dialect,
        connections=connections,
        base_rss_mb=rss_mb(base),
        idle_rss_mb=rss_mb(quiet),
        kb_per_connection=_growth_kb(base, quiet, connections),
        after_64kb_rss_mb=rss_mb(after),
        kb_per_connection_after_64kb=_growth_kb(base, after, connections),
    )


async def _settled(pid: int | None) -> Sample | None:
    """Look when the relay has had time for what it does behind an answer."""
    await asyncio.sleep(_SETTLING)
    return sample(pid)


async def _say_something_large(stage: Stage, peers: list[Peer]) -> None:
    stage.progress.begin("one frame of 64 KB from each", len(peers))
    said = 0

    async def say(number: int) -> None:
        nonlocal said
        await peers[number].ask(_LARGE, "pong")
        said += 1
        stage.progress.reached(said)

    await each(len(peers), say, at_once=_LARGE_AT_ONCE)


def _growth_kb(base: Sample | None, now: Sample | None, connections: int) -> float | None:
    return None if base is None or now is None else (now.rss_kb - base.rss_kb) / connections
