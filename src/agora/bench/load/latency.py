"""
How long a message takes at a given rate, in an open loop: each leaves when its time has
come, whether or not earlier ones have arrived, and its latency counts from that time.

So a relay that stops for a while cannot hide it by slowing the generator down. The
schedule is kept by a thread that sleeps and writes to the sockets itself: timers of
event loops have steps of a millisecond.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agora.bench.figures import percentile
from agora.bench.letters import Dialect, Letters, framed
from agora.bench.measure import verify_us
from agora.bench.peers import Listener, Peer, is_delivery
from agora.bench.results import Latency
from agora.bench.stage import Clock, Finish, Stage
from agora.errors import NoAnswerError
from agora.frames import encode_ack

__all__ = ["Departure", "Timetable", "latency"]


@dataclass(frozen=True, slots=True)
class Departure:
    """One message of a timetable: who writes it, its frame, and the ack that answers it."""

    sender: Peer
    recipient: Peer
    frame: bytes
    ack: bytes = b""


class Timetable:
    """
    Sends by the clock, and takes the time of what arrives.

    Args:
        departures: In their order; messages of one pair arrive in theirs.
        rate_per_second: How many leave in a second.
        timed: Whose arrivals are timed and waited for; all unless given.
        may_be_refused: Whether an error of the relay is no reason to stop.

    Attributes:
        expected: How many arrivals are timed.
        latencies: Of those, in seconds, each from when it should have left.
        late: How long after its time each message left: the generator's own fault.
    """

    def __init__(
        self,
        departures: Sequence[Departure],
        rate_per_second: float,
        *,
        timed: Sequence[Peer] | None = None,
        may_be_refused: bool = False,
    ) -> None:
        self._departures = departures
        self._step = 1 / rate_per_second
        self._begin = 0.0
        self._may_be_refused = may_be_refused
        wanted = None if timed is None else set(map(id, timed))
        self._due: dict[int, list[tuple[float, bytes]]] = {}
        self._recipients: dict[int, Peer] = {}
        for number, departure in enumerate(departures):
            key = id(departure.recipient)
            if wanted is None or key in wanted:
                self._recipients[key] = departure.recipient
                self._due.setdefault(key, []).append((number * self._step, departure.ack))
        self.expected = sum(map(len, self._due.values()))
        self.latencies: list[float] = []
        self.late: list[float] = []

    async def run(self, finish: Finish, *, patience: float = 10.0) -> None:
        """Send all, and wait for what is timed; what has not come by then is lost."""
        for key, peer in self._recipients.items():
            peer.listener = self._arrivals(peer, self._due[key], finish)
        senders = {id(departure.sender): departure.sender for departure in self._departures}
        for sender in senders.values():
            if not self._may_be_refused:
                sender.listener = finish.hear
        finish.watch(*senders.values(), *self._recipients.values())
        sockets = {key: _own_socket(sender) for key, sender in senders.items()}
        try:
            self._begin = time.perf_counter() + 0.05
            sending = asyncio.to_thread(self._send, sockets)
            await asyncio.gather(sending, self._wait(finish, patience))
        finally:
            for own in sockets.values():
                own.close()

    def release(self) -> None:
        """Let go of the peers, who may leave now."""
        for departure in self._departures:
            departure.sender.watch(None)
            departure.recipient.watch(None)

    async def _wait(self, finish: Finish, patience: float) -> None:
        with suppress(NoAnswerError):
            await finish.wait(patience)

    def _send(self, sockets: dict[int, socket.socket]) -> None:
        """Write each message when its time has come; runs in a thread of its own."""
        _sleep_to_the_point()
        clock, sleep, begin = time.perf_counter, time.sleep, self._begin
        for number, departure in enumerate(self._departures):
            wait = begin + number * self._step - clock()
            if wait > 0:
                sleep(wait)
            self.late.append(clock() - begin - number * self._step)
            sockets[id(departure.sender)].sendall(departure.frame)

    def _arrivals(self, peer: Peer, due: list[tuple[float, bytes]], finish: Finish) -> Listener:
        places = iter(due)

        def listen(texts: list[bytes]) -> None:
            now = time.perf_counter() - self._begin
            arrived = 0
            for text in texts:
                if is_delivery(text) and (place := next(places, None)):
                    arrived += 1
                    self.latencies.append(now - place[0])
                    if place[1]:
                        peer.transport.write(place[1])
            finish.count(arrived)

        return listen


def _sleep_to_the_point() -> None:
    """Ask Linux not to gather this thread's wakings with others, by 50 µs as it usually does."""
    with suppress(OSError):
        Path(f"/proc/{threading.get_native_id()}/timerslack_ns").write_text("1")


def _own_socket(peer: Peer) -> socket.socket:
    """Return a second way into a peer's connection, for blocking writes of another thread."""
    own = socket.socket(fileno=os.dup(peer.transport.get_extra_info("socket").fileno()))
    own.settimeout(30.0)
    return own


async def latency(
    stage: Stage,
    *,
    payload_bytes: int = 500,
    pairs: int = 4,
    rate_per_second: float = 1_000.0,
    seconds: float = 5.0,
) -> Latency:
    """
    Measure it once.

    Args:
        stage: The relay, and what to speak.
        payload_bytes: The size of each payload, as JSON.
        pairs: Over how many pairs of peers the messages go, in turn.
        rate_per_second: Of all pairs together.
        seconds: How long.
    """
    async with stage.peers(2 * pairs) as peers:
        couples = list(zip(peers[::2], peers[1::2], strict=True))
        warm_up = departures(stage, couples, max(pairs, int(rate_per_second / 2)), payload_bytes)
        await _run(stage, Timetable(warm_up, rate_per_second))
        before = verify_us(payload_bytes)
        messages = max(pairs, int(rate_per_second * seconds))
        table = Timetable(departures(stage, couples, messages, payload_bytes), rate_per_second)
        clock = await _run(stage, table)
        after = verify_us(payload_bytes)
    ordered = sorted(late * 1e3 for late in table.latencies)
    if not ordered:
        raise NoAnswerError("no message has arrived")
    late = sorted(moment * 1e3 for moment in table.late)
    return Latency(
        relay=stage.target.name,
        dialect=stage.dialect,
        payload_bytes=payload_bytes,
        pairs=pairs,
        rate_per_second=rate_per_second,
        messages=messages,
        lost=messages - len(ordered),
        p50_ms=percentile(ordered, 50),
        p90_ms=percentile(ordered, 90),
        p99_ms=percentile(ordered, 99),
        p999_ms=percentile(ordered, 99.9),
        max_ms=ordered[-1],
        left_late_p50_ms=percentile(late, 50),
        left_late_p99_ms=percentile(late, 99),
        relay_cpu_us_per_message=clock.relay_us(messages),
        generator_cpu_us_per_message=clock.own_us(messages),
        verify_us=(before + after) / 2,
    )


def departures(
    stage: Stage, pairs: Sequence[tuple[Peer, Peer]], messages: int, payload_bytes: int
) -> list[Departure]:
    """Return *messages*, signed and masked, one pair after the other in turn."""
    stage.progress.begin(f"signing {messages} messages", messages)
    letters = [
        Letters(sender.keys, recipient.id, payload_bytes, stage.dialect)
        for sender, recipient in pairs
    ]
    made = []
    for number in range(messages):
        turn = number % len(pairs)
        envelope_id, frame = letters[turn].submit()
        ack = framed(encode_ack([envelope_id])) if stage.dialect is Dialect.AGORA else b""
        made.append(Departure(*pairs[turn], frame, ack))
        stage.progress.reached(number + 1)
    return made


async def _run(stage: Stage, table: Timetable) -> Clock:
    stage.progress.begin(f"{table.expected} messages by the clock", table.expected)
    clock = Clock(stage.target.pid)
    with clock.running():
        await table.run(Finish(table.expected, stage.progress))
    table.release()
    return clock
