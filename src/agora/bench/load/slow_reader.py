"""
One peer that never reads, and a sender that goes on writing to it, and to others.

The sender works by the clock (see `latency`): each fourth message is a small one for a
peer that reads. Told are the relay's memory at its highest, and how the others fare.
"""

from __future__ import annotations

import socket

from agora.bench.crowd import assemble
from agora.bench.figures import percentile
from agora.bench.letters import Dialect, Letters, framed
from agora.bench.load.latency import Departure, Timetable
from agora.bench.measure import Sample, rss_mb, sample
from agora.bench.peers import Peer, part
from agora.bench.results import SlowReader
from agora.bench.stage import Finish, Stage
from agora.errors import NoAnswerError
from agora.frames import encode_ack

__all__ = ["slow_reader"]

_LARGE, _SMALL = 16_384, 500
_EACH = 4


async def slow_reader(
    stage: Stage, *, megabytes: float = 50.0, megabytes_per_second: float = 8.0
) -> SlowReader:
    """
    Measure it once.

    Args:
        stage: The relay, and what to speak.
        megabytes: How much is sent to the peer that does not read.
        megabytes_per_second: How fast.
    """
    pid = stage.target.pid
    sender, stuck, reader = await assemble(stage, 3)
    _stop_reading(stuck)
    large = max(1, round(megabytes * 2**20 / _LARGE))
    table = Timetable(
        _departures(stage, sender, stuck, reader, large),
        megabytes_per_second * 2**20 / _LARGE * _EACH / (_EACH - 1),
        timed=[reader],
        may_be_refused=True,
    )
    before = sample(pid)
    highest = _Highest(stage, before)
    stage.progress.begin(f"{megabytes:g} MB to a peer that does not read", table.expected)
    await table.run(Finish(table.expected, highest))
    table.release()
    await part([sender, stuck, reader])
    ordered = sorted(late * 1e3 for late in table.latencies)
    if not ordered:
        raise NoAnswerError("while one peer does not read, nobody else gets anything")
    peak = highest.rss_kb / 1024 if before else None
    return SlowReader(
        relay=stage.target.name,
        dialect=stage.dialect,
        megabytes=megabytes,
        rss_before_mb=rss_mb(before),
        rss_peak_mb=peak,
        rss_growth_mb=peak - before.rss_mb if before and peak else None,
        others_sent=table.expected,
        others_lost=table.expected - len(ordered),
        others_p50_ms=percentile(ordered, 50),
        others_p99_ms=percentile(ordered, 99),
        others_max_ms=ordered[-1],
    )


class _Highest:
    """Passes progress on, and looks each time how much memory the relay holds."""

    def __init__(self, stage: Stage, first: Sample | None) -> None:
        self._stage = stage
        self.rss_kb = first.rss_kb if first else 0.0

    def begin(self, what: str, total: float) -> None:
        self._stage.progress.begin(what, total)

    def reached(self, done: float) -> None:
        if now := sample(self._stage.target.pid):
            self.rss_kb = max(self.rss_kb, now.rss_kb)
        self._stage.progress.reached(done)


def _stop_reading(peer: Peer) -> None:
    """Read nothing more, with as little as possible in the kernel's own buffer."""
    raw = peer.transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.transport.pause_reading()


def _departures(
    stage: Stage, sender: Peer, stuck: Peer, reader: Peer, large: int
) -> list[Departure]:
    """Return the large messages, and behind each few of them a small one."""
    to_stuck = Letters(sender.keys, stuck.id, _LARGE, stage.dialect)
    to_reader = Letters(sender.keys, reader.id, _SMALL, stage.dialect)
    made = []
    for number in range(1, large + 1):
        made.append(Departure(sender, stuck, to_stuck.submit()[1]))
        if number % (_EACH - 1) == 0 or number == large:
            envelope_id, frame = to_reader.submit()
            ack = framed(encode_ack([envelope_id])) if stage.dialect is Dialect.AGORA else b""
            made.append(Departure(sender, reader, frame, ack))
    return made
