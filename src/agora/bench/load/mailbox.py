"""
Mail for peers that are away, and its way to them when they come.

Accepting: a message counts when its sender has the receipt, which a relay gives when
it is on disk. Draining: the recipients come back all at once, get what waits, and ack
it; a message counts when it has come, and the clock stops when the relay has taken the
last ack. Only Agora/1 has receipts and acks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from agora.bench.crowd import assemble, each
from agora.bench.letters import Dialect, Letters, framed
from agora.bench.measure import rss_mb, sample, verify_us
from agora.bench.peers import BenchError, Peer, connect, is_delivery, part, register
from agora.bench.results import MailboxRun
from agora.bench.stage import Clock, Finish, Stage
from agora.frames import PING, encode_ack
from agora.keys import KeyPair

__all__ = ["mailbox"]

_BATCH = 20_000
"""Messages signed at a time; the clock stands still meanwhile."""

_CHUNK = 64
_WINDOW_CHUNKS = 32
"""Under way between sender and disk: some 2,000 messages, so that commits find company."""

_ACK_EVERY = 32


@dataclass(slots=True)
class _Away:
    """One recipient: who it is, and the acks for what waits for it, in its order."""

    keys: KeyPair
    ids: list[str] = field(default_factory=list)

    def acks(self) -> list[bytes]:
        """Return the frames that ack everything, a few messages each."""
        return [
            framed(encode_ack(self.ids[start : start + _ACK_EVERY]))
            for start in range(0, len(self.ids), _ACK_EVERY)
        ]


async def mailbox(
    stage: Stage, *, messages: int = 10_000, recipients: int = 10, payload_bytes: int = 500
) -> MailboxRun:
    """Measure it once: *messages* in all, in turn to *recipients* that are away."""
    if stage.dialect is not Dialect.AGORA:
        raise BenchError("mail is acked and has receipts in Agora/1 alone: --dialect agora/1")
    pid = stage.target.pid
    away = [_Away(KeyPair.generate()) for _ in range(recipients)]
    # Who has proven a key once has a mailbox from then on.
    await part(await assemble(stage, recipients, keys=[one.keys for one in away]))
    before = verify_us(payload_bytes)
    rss_before = sample(pid)
    accepting = await _fill(stage, away, messages, payload_bytes)
    rss_stored = sample(pid)
    draining = await _drain(stage, away)
    rss_drained = sample(pid)
    after = verify_us(payload_bytes)
    return MailboxRun(
        relay=stage.target.name,
        dialect=stage.dialect,
        payload_bytes=payload_bytes,
        recipients=recipients,
        messages=messages,
        accepts_per_second=messages / accepting.seconds,
        accept_relay_cpu_us_per_message=accepting.relay_us(messages),
        drains_per_second=messages / draining.seconds,
        drain_relay_cpu_us_per_message=draining.relay_us(messages),
        rss_before_mb=rss_mb(rss_before),
        rss_stored_mb=rss_mb(rss_stored),
        rss_drained_mb=rss_mb(rss_drained),
        verify_us=(before + after) / 2,
    )


# Accepting


async def _fill(stage: Stage, away: Sequence[_Away], messages: int, payload_bytes: int) -> Clock:
    [sender] = await assemble(stage, 1)
    letters = [Letters(sender.keys, one.keys.peer_id, payload_bytes, stage.dialect) for one in away]
    clock = Clock(stage.target.pid)
    stage.progress.begin(f"storing {messages} messages", messages)
    for start in range(0, messages, _BATCH):
        end = min(messages, start + _BATCH)
        frames = []
        for number in range(start, end):
            turn = number % len(away)
            envelope_id, frame = letters[turn].submit()
            away[turn].ids.append(envelope_id)
            frames.append(frame)
        with clock.running():
            await _submit(sender, frames)
        stage.progress.reached(end)
    await part([sender])
    return clock


async def _submit(sender: Peer, frames: list[bytes]) -> None:
    """Write *frames* within a window, until each has its receipt."""
    finish = Finish(len(frames))
    chunks = iter(
        b"".join(frames[start : start + _CHUNK]) for start in range(0, len(frames), _CHUNK)
    )
    room = _WINDOW_CHUNKS * _CHUNK
    written = 0

    def write() -> None:
        nonlocal written
        while written - finish.arrived < room and (chunk := next(chunks, None)):
            written += _CHUNK
            sender.transport.write(chunk)

    def listen(texts: list[bytes]) -> None:
        finish.hear(texts)
        finish.count(sum(b'"stored"' in text for text in texts))
        write()

    sender.listener = listen
    finish.watch(sender)
    write()
    await finish.wait()
    sender.watch(None)


# Draining


async def _drain(stage: Stage, away: Sequence[_Away]) -> Clock:
    total = sum(len(one.ids) for one in away)
    finish, clock = Finish(total, stage.progress), Clock(stage.target.pid)
    readers = [_Reader(one, finish) for one in away]
    stage.progress.begin(f"draining {total} messages", total)
    with clock.running():
        peers = await each(len(away), lambda number: readers[number].come(stage))
        await finish.wait()
        # A pong comes when all that was said before it is settled: the last acks too.
        await each(len(peers), lambda number: peers[number].ask(framed(PING), "pong"))
    await part(peers)
    return clock


class _Reader:
    """One recipient that comes back, and acks by order: the ids are known beforehand."""

    def __init__(self, away: _Away, finish: Finish) -> None:
        self._keys = away.keys
        self._left = len(away.ids)
        self._acks = iter(away.acks())
        self._finish = finish
        self._unacked = 0

    async def come(self, stage: Stage) -> Peer:
        """Join; mail may come in the very batch that says we are registered."""
        self._peer = await connect(stage.target.url, self._keys)
        self._peer.listener = self._hear
        await register(self._peer, stage.target.url, stage.dialect)
        self._finish.watch(self._peer)
        return self._peer

    def _hear(self, texts: list[bytes]) -> None:
        heard = sum(map(is_delivery, texts))
        self._left -= heard
        self._unacked += heard
        while self._unacked >= _ACK_EVERY or (self._unacked and not self._left):
            self._unacked -= min(self._unacked, _ACK_EVERY)
            self._peer.transport.write(next(self._acks))
        self._finish.count(heard)
