"""
A fleet that comes at once: connect, shake hands, register, and (in Agora/1) prove.

A proof is made for the relay's nonce, so its signature falls inside the clock: the
generator's share is larger here than elsewhere, and is told. The clock stops when the
last one is registered; what the relay tells the others of it is waited for and counted.
"""

from __future__ import annotations

import asyncio

from agora.bench.crowd import AT_ONCE, each, source_address
from agora.bench.letters import Dialect
from agora.bench.measure import cpu_seconds, verify_us
from agora.bench.peers import Peer, connect, part, register, registration
from agora.bench.results import Join
from agora.bench.stage import Clock, Stage
from agora.keys import KeyPair

__all__ = ["join_at_once"]

_QUIET = 0.4
"""Seconds without a frame after which the relay has told all it had to tell."""


async def join_at_once(stage: Stage, *, joins: int = 1_000, presence: str = "none") -> Join:
    """
    Measure it once.

    Args:
        stage: The relay, and what to speak.
        joins: How many peers come.
        presence: Of whom each wants to hear, ``all`` or ``none``; in the reference
            dialect it is always all.
    """
    url = stage.target.url
    keys = [KeyPair.generate() for _ in range(joins)]
    asked = [registration(one, stage.dialect, presence=presence == "all") for one in keys]
    peers: list[Peer] = []
    before = verify_us()
    stage.progress.begin(f"{joins} peers join", joins)

    async def come(number: int) -> None:
        peer = await connect(url, keys[number], source=source_address(url, number))
        await register(peer, url, stage.dialect, asked[number])
        peers.append(peer)
        stage.progress.reached(len(peers))

    clock, telling = Clock(stage.target.pid), Clock(stage.target.pid)
    with clock.running():
        await each(joins, come, at_once=AT_ONCE)
    with telling.running():
        await _until_quiet(peers, stage.target.pid)
    frames, heard = sum(peer.frames for peer in peers), sum(peer.bytes for peer in peers)
    await part(peers)
    after = verify_us()
    together = [clock.relay_us(joins), telling.relay_us(joins)]
    return Join(
        relay=stage.target.name,
        dialect=stage.dialect,
        presence="all" if stage.dialect is Dialect.REFERENCE else presence,
        joins=joins,
        seconds=clock.seconds,
        joins_per_second=joins / clock.seconds,
        relay_cpu_us_per_join=_sum(together),
        generator_cpu_us_per_join=clock.own_us(joins),
        frames_sent=frames,
        kb_sent=heard / 1024,
        verify_us=(before + after) / 2,
    )


def _sum(parts: list[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


async def _until_quiet(peers: list[Peer], pid: int | None) -> None:
    """Wait until no frame comes any more, and the relay has nothing to do."""
    before: tuple[int, float | None] = (-1, None)
    while True:
        now = sum(peer.frames for peer in peers), cpu_seconds(pid)
        if now[0] == before[0] and _is_idle(before[1], now[1]):
            return
        before = now
        await asyncio.sleep(_QUIET)


def _is_idle(before: float | None, now: float | None) -> bool:
    return before is None or now is None or now - before < _QUIET / 4
