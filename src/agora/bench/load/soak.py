"""
Half of what the relay can, for long: whether memory, files and threads stay what they were.

What it can is measured first. Then messages leave a tenth of a second's worth at a time,
signed as they go: for this bench the generator's cost does not matter. The first half
of the time fills what is meant to fill up (memories of ids, pools), so flatness is that
of the second half. A message that the relay refuses is lost, as one that never comes; the
end of a connection ends the run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from agora.bench.figures import Slope, slope
from agora.bench.letters import Dialect, Letters, framed
from agora.bench.load.throughput import throughput
from agora.bench.measure import Sample, rss_mb, sample
from agora.bench.peers import Listener, Peer, is_delivery
from agora.bench.results import Soak
from agora.bench.stage import Clock, Finish, Stage
from agora.errors import NoAnswerError
from agora.frames import encode_ack

__all__ = ["soak"]

_TICK = 0.1
_MAX_BEHIND = 0.5
"""Seconds of messages that leave at once, at most: who was held up longer does not make up for it,
for a generator that writes without end reads nothing, and is what it is not, a slow reader."""

_SAMPLES = 60
_FLAT_MB = 1.0
"""Growth over the second half that is no growth: what allocators shift about."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """The relay at one moment of the run."""

    minutes: float
    relay: Sample


async def soak(
    stage: Stage,
    *,
    minutes: float = 30.0,
    pairs: int = 4,
    payload_bytes: int = 500,
    rate_per_second: float | None = None,
) -> Soak:
    """
    Run it once.

    Args:
        stage: The relay, and what to speak.
        minutes: How long.
        pairs: How many peers send, each to another one.
        payload_bytes: The size of each payload, as JSON.
        rate_per_second: Half of what was measured first, unless given.
    """
    if rate_per_second is None:
        best = await throughput(stage, payload_bytes=payload_bytes, pairs=pairs, seconds=3.0)
        rate_per_second = best.messages_per_second / 2
    async with stage.peers(2 * pairs) as peers:
        couples = list(zip(peers[::2], peers[1::2], strict=True))
        run = _Run(stage, couples, payload_bytes, rate_per_second)
        clock = Clock(stage.target.pid)
        with clock.running():
            await run.go(minutes * 60)
        lost = await run.missing()
    return _result(stage, minutes, rate_per_second, run, lost, clock)


class _Run:
    """The pairs at work, and what is seen of the relay meanwhile."""

    def __init__(
        self, stage: Stage, pairs: Sequence[tuple[Peer, Peer]], payload_bytes: int, rate: float
    ) -> None:
        self._stage = stage
        self._pairs = pairs
        self._rate = rate
        self._letters = [
            Letters(sender.keys, recipient.id, payload_bytes, stage.dialect)
            for sender, recipient in pairs
        ]
        self._unacked: list[list[str]] = [[] for _ in pairs]
        self.sent = self.arrived = self._left_out = 0
        self.seen: list[_Seen] = []
        self._failure: Exception | None = None
        for number, (sender, recipient) in enumerate(pairs):
            recipient.listener = self._arrivals(number)
            sender.watch(self._fail)
            recipient.watch(self._fail)

    async def go(self, seconds: float) -> None:
        """Send by the clock, and look at the relay now and then."""
        self._stage.progress.begin(f"{self._rate:.0f} messages a second", seconds)
        begin, next_look = time.monotonic(), 0.0
        while (passed := time.monotonic() - begin) < seconds:
            if passed >= next_look:
                self._look(passed)
                next_look += seconds / _SAMPLES
            if self._failure:
                raise self._failure
            self._send(self._due(passed))
            self._stage.progress.reached(passed)
            await asyncio.sleep(_TICK)
        self._look(time.monotonic() - begin)

    async def missing(self) -> int:
        """Wait for what is still under way; return how many messages never came."""
        finish = Finish(self.sent - self.arrived)
        for number, (_, recipient) in enumerate(self._pairs):
            recipient.listener = self._arrivals(number, finish)
        finish.count(0)
        with suppress(NoAnswerError):
            await finish.wait(5.0)
        for sender, recipient in self._pairs:
            sender.watch(None)
            recipient.watch(None)
        return self.sent - self.arrived

    def _due(self, passed: float) -> int:
        """Return how many messages are to leave, so long after the start."""
        due = int(passed * self._rate) - self.sent - self._left_out
        most = int(_MAX_BEHIND * self._rate)
        self._left_out += max(0, due - most)
        return min(due, most)

    def _send(self, messages: int) -> None:
        """Write so many messages, the same number from each sender."""
        for number, (sender, _) in enumerate(self._pairs):
            sealed = [self._letters[number].submit() for _ in range(messages // len(self._pairs))]
            self._unacked[number] += [envelope_id for envelope_id, _ in sealed]
            self.sent += len(sealed)
            sender.transport.write(b"".join(frame for _, frame in sealed))

    def _arrivals(self, number: int, finish: Finish | None = None) -> Listener:
        recipient, unacked = self._pairs[number][1], self._unacked[number]
        is_acked = self._stage.dialect is Dialect.AGORA

        def listen(texts: list[bytes]) -> None:
            count = sum(map(is_delivery, texts))
            self.arrived += count
            ids = unacked[:count]
            del unacked[:count]
            if is_acked and ids:
                recipient.transport.write(framed(encode_ack(ids)))
            if finish:
                finish.count(count)

        return listen

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error

    def _look(self, passed: float) -> None:
        if now := sample(self._stage.target.pid):
            self.seen.append(_Seen(passed / 60, now))


def _result(stage: Stage, minutes: float, rate: float, run: _Run, lost: int, clock: Clock) -> Soak:
    seen = run.seen
    later = [one for one in seen if one.minutes >= minutes / 2]
    line = None
    if len(later) >= 3:
        line = slope([one.minutes / 60 for one in later], [one.relay.rss_mb for one in later])
    first, last = (seen[0].relay, seen[-1].relay) if seen else (None, None)
    return Soak(
        relay=stage.target.name,
        dialect=stage.dialect,
        minutes=minutes,
        rate_per_second=rate,
        messages=run.sent,
        lost=lost,
        relay_cpu_us_per_message=clock.relay_us(run.sent),
        rss_first_mb=rss_mb(first),
        rss_last_mb=rss_mb(last),
        rss_mb_per_hour=line.rise if line else None,
        rss_mb_per_hour_error=line.error if line else None,
        files_first=first.files if first else None,
        files_last=last.files if last else None,
        threads_first=first.threads if first else None,
        threads_last=last.threads if last else None,
        is_flat=None if line is None else _is_flat(line, minutes, later),
        sampled_minutes=tuple(round(one.minutes, 3) for one in seen),
        sampled_rss_mb=tuple(round(one.relay.rss_mb, 2) for one in seen),
    )


def _is_flat(line: Slope, minutes: float, later: Sequence[_Seen]) -> bool:
    """Tell whether nothing grew: memory less than its error or a little, files and threads not."""
    grown_mb = line.rise * minutes / 2 / 60
    first, last = later[0].relay, later[-1].relay
    held = last.files <= first.files and last.threads <= first.threads
    return held and (grown_mb < _FLAT_MB or line.rise < 2 * line.error)
