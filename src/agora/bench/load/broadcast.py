"""One sender, and everyone who is online hears it: the cost of fan-out."""

from __future__ import annotations

from agora.bench.crowd import assemble
from agora.bench.letters import Letters
from agora.bench.measure import verify_us
from agora.bench.peers import Peer, is_delivery, part
from agora.bench.results import Broadcast
from agora.bench.stage import Clock, Finish, Stage
from agora.envelope import EVERYONE

__all__ = ["broadcast"]

_WINDOW = 16
"""Broadcasts under way at once: they are unacked, and wait in every recipient's buffer."""


async def broadcast(
    stage: Stage, *, recipients: int = 1_000, broadcasts: int = 200, payload_bytes: int = 500
) -> Broadcast:
    """Measure it once: *broadcasts* messages, each to all *recipients*."""
    [sender], hearers = await assemble(stage, 1), await assemble(stage, recipients)
    before = verify_us(payload_bytes)
    letters = Letters(sender.keys, EVERYONE, payload_bytes, stage.dialect)
    frames = [letters.broadcast() for _ in range(broadcasts)]
    deliveries = broadcasts * recipients
    stage.progress.begin(f"{broadcasts} broadcasts to {recipients}", deliveries)
    finish, clock = Finish(deliveries, stage.progress), Clock(stage.target.pid)
    finish.watch(sender, *hearers)
    feed = _Feed(sender, frames, recipients, finish)
    for peer in hearers:
        peer.listener = feed.hear
    with clock.running():
        feed.write()
        await finish.wait()
    await part([sender, *hearers])
    after = verify_us(payload_bytes)
    return Broadcast(
        relay=stage.target.name,
        dialect=stage.dialect,
        payload_bytes=payload_bytes,
        recipients=recipients,
        broadcasts=broadcasts,
        seconds=clock.seconds,
        deliveries_per_second=deliveries / clock.seconds,
        relay_cpu_us_per_recipient=clock.relay_us(deliveries),
        generator_cpu_us_per_recipient=clock.own_us(deliveries),
        verify_us=(before + after) / 2,
    )


class _Feed:
    """Writes broadcasts as the ones before are heard."""

    def __init__(self, sender: Peer, frames: list[bytes], recipients: int, finish: Finish) -> None:
        self._sender, self._finish = sender, finish
        self._recipients = recipients
        self._frames = iter(frames)
        self._written = self._heard = 0
        sender.listener = finish.hear

    def write(self) -> None:
        """Write while there is room for one more."""
        while self._written * self._recipients - self._heard < _WINDOW * self._recipients:
            if (frame := next(self._frames, None)) is None:
                return
            self._written += 1
            self._sender.transport.write(frame)

    def hear(self, texts: list[bytes]) -> None:
        """Count what one recipient has heard."""
        heard = sum(map(is_delivery, texts))
        self._heard += heard
        self._finish.count(heard)
        self.write()
