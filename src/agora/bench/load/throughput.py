"""
As many messages as the relay takes: pairs of peers, each with a bounded window.

All is signed and masked before the clock starts. A sender writes a chunk of messages
whenever its recipient has got as many; so the relay always has something to do, and
never more than a window of each pair in its buffers. In Agora/1 the recipients ack,
and a message counts when its sender has the receipt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agora.bench.crowd import crowd
from agora.bench.letters import Dialect, Letters, framed
from agora.bench.measure import verify_us
from agora.bench.peers import Pause, Peer, is_delivery
from agora.bench.results import Throughput
from agora.bench.stage import Clock, Finish, Stage
from agora.frames import encode_ack

__all__ = ["Chunk", "Stream", "sealed_streams", "throughput"]

WINDOW_MESSAGES = 128
WINDOW_BYTES = 262_144
"""What one pair has under way: below what any relay would call a slow consumer."""

_CHUNKS_PER_WINDOW = 4
_WARM_UP = 1_000
_MOST_BYTES = 268_435_456
"""Of signed messages that wait in memory for their run."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Messages that are written together: how many, their frames, and the ack for them."""

    count: int
    frames: bytes
    ack: bytes


class Stream:
    """
    Messages from one peer to another, ready to be written.

    Args:
        sender: Who writes.
        recipient: Who gets them.
        chunks: All of them.
        dialect: Whether they are acked, and count by their receipts.
    """

    def __init__(
        self, sender: Peer, recipient: Peer, chunks: Sequence[Chunk], dialect: Dialect
    ) -> None:
        self.sender, self.recipient = sender, recipient
        self.messages = sum(chunk.count for chunk in chunks)
        self._chunk_size = chunks[0].count
        self._chunks = iter(chunks)
        self._is_acked = dialect is Dialect.AGORA
        self._to_ack = iter(chunks)
        self._next_ack = next(self._to_ack, None)
        self._written = self._settled = self._heard = 0

    def start(self, finish: Finish) -> None:
        """Fill the window; from now on what arrives makes room for more."""
        self._finish = finish
        finish.watch(self.sender, self.recipient)
        self.sender.listener = self._hear_receipts if self._is_acked else finish.hear
        self.recipient.listener = self._deliver_and_ack if self._is_acked else self._deliver
        self._write()

    def _write(self) -> None:
        """Write while the window has room for a chunk."""
        room = (_CHUNKS_PER_WINDOW - 1) * self._chunk_size
        while self._written - self._settled <= room and (chunk := next(self._chunks, None)):
            self._written += chunk.count
            self.sender.transport.write(chunk.frames)

    def _settle(self, count: int) -> None:
        """Count messages that are through, and write as many more."""
        self._settled += count
        self._finish.count(count)
        self._write()

    def _deliver(self, texts: list[bytes]) -> None:
        self._settle(sum(map(is_delivery, texts)))

    def _deliver_and_ack(self, texts: list[bytes]) -> None:
        self._heard += sum(map(is_delivery, texts))
        while (chunk := self._next_ack) and self._heard >= chunk.count:
            self._heard -= chunk.count
            self.recipient.transport.write(chunk.ack)
            self._next_ack = next(self._to_ack, None)

    def _hear_receipts(self, texts: list[bytes]) -> None:
        receipts = sum(b'"receipt"' in text[:24] for text in texts)
        if receipts != len(texts):
            self._finish.hear(texts)
        self._settle(receipts)


def sealed_streams(
    stage: Stage, pairs: Sequence[tuple[Peer, Peer]], messages: int, payload_bytes: int
) -> list[Stream]:
    """Return streams of *messages* in all, signed and masked."""
    stage.progress.begin(f"signing {messages} messages", messages)
    streams, done = [], 0
    for sender, recipient in pairs:
        letters = Letters(sender.keys, recipient.id, payload_bytes, stage.dialect)
        chunks = []
        for chunk in _chunks(letters, messages // len(pairs), stage.dialect):
            chunks.append(chunk)
            done += chunk.count
            stage.progress.reached(done)
        streams.append(Stream(sender, recipient, chunks, stage.dialect))
    return streams


def _chunks(letters: Letters, messages: int, dialect: Dialect) -> Iterator[Chunk]:
    left, size = max(1, messages), 0
    while left:
        sealed = [letters.submit()]
        size = size or _chunk_size(len(sealed[0][1]))
        sealed += [letters.submit() for _ in range(min(size, left) - 1)]
        left -= len(sealed)
        ids = [envelope_id for envelope_id, _ in sealed]
        ack = framed(encode_ack(ids)) if dialect is Dialect.AGORA else b""
        yield Chunk(len(sealed), b"".join(frame for _, frame in sealed), ack)


def _chunk_size(frame_bytes: int) -> int:
    window = min(WINDOW_MESSAGES, WINDOW_BYTES // frame_bytes)
    return max(1, window // _CHUNKS_PER_WINDOW)


async def throughput(
    stage: Stage,
    *,
    payload_bytes: int = 500,
    pairs: int = 4,
    idle: int = 0,
    seconds: float = 5.0,
    read_every_ms: float = 2.0,
) -> Throughput:
    """
    Measure it once.

    Args:
        stage: The relay, and what to speak.
        payload_bytes: The size of each payload, as JSON.
        pairs: How many peers send, each to another one.
        idle: How many further connections there are that say nothing.
        seconds: How long it should take; what is signed for that is decided by a
            short run before, and bounded by memory.
        read_every_ms: How often what has come is read; 0 reads each packet at once,
            which costs both sides a waking for each message.
    """
    async with stage.peers(2 * pairs) as peers, crowd(stage, idle):
        pause = Pause(read_every_ms / 1e3) if read_every_ms else None
        for peer in peers:
            peer.pause = pause
        couples = list(zip(peers[::2], peers[1::2], strict=True))
        warm_up = max(pairs, min(_WARM_UP, _MOST_BYTES // 16 // payload_bytes))
        before = verify_us(payload_bytes)
        pace = await _run(stage, couples, warm_up, payload_bytes)
        wanted = int(pace.messages / pace.clock.seconds * seconds)
        most = _MOST_BYTES // (payload_bytes + 900)
        run = await _run(stage, couples, max(pairs, min(wanted, most)), payload_bytes)
        after = verify_us(payload_bytes)
    verify = (before + after) / 2
    relay_us = run.clock.relay_us(run.messages)
    return Throughput(
        relay=stage.target.name,
        dialect=stage.dialect,
        payload_bytes=payload_bytes,
        pairs=pairs,
        idle=idle,
        read_every_ms=read_every_ms,
        messages=run.messages,
        seconds=run.clock.seconds,
        messages_per_second=run.messages / run.clock.seconds,
        relay_cpu_us_per_message=relay_us,
        generator_cpu_us_per_message=run.clock.own_us(run.messages),
        verify_us=verify,
        verify_drift=abs(after - before) / verify,
        relay_cpu_per_verify=None if relay_us is None else relay_us / verify,
    )


@dataclass(frozen=True, slots=True)
class _Run:
    messages: int
    clock: Clock


async def _run(
    stage: Stage, pairs: Sequence[tuple[Peer, Peer]], messages: int, payload_bytes: int
) -> _Run:
    streams = sealed_streams(stage, pairs, messages, payload_bytes)
    total = sum(stream.messages for stream in streams)
    stage.progress.begin(f"{total} messages of {payload_bytes} bytes", total)
    finish, clock = Finish(total, stage.progress), Clock(stage.target.pid)
    with clock.running():
        for stream in streams:
            stream.start(finish)
        await finish.wait()
    for stream in streams:
        stream.sender.watch(None)
        stream.recipient.watch(None)
    return _Run(total, clock)
