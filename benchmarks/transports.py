"""
What a message costs by each transport of a client: ``python -m benchmarks.transports``.

One client sends to another, on this machine, by a relay in a process of its own. A trip
is the time from ``post()`` until the recipient's application has the message, one
message after the other; the burst is a number of messages posted at once, until the
last one is there. Both clients use the same transport and share one process.

With ``--delay SECONDS`` every byte takes so long each way, as over a long line.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from agora.client import Client, Timing
from agora.keys import KeyPair

__all__ = ["Figures", "main", "measure"]

_RELAY = """
import sys
from agora.testing import relay_in_thread
names = tuple(sys.argv[1:])
with relay_in_thread(http_port=0, rate_limit_enabled=False, public_name=names) as relay:
    print(relay.url, relay.http_url, flush=True)
    sys.stdin.read()
"""

_POLLS = Timing(stream=0.0)  # no stream is ever quick enough


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds for one message in the middle and at the slowest tenth, and messages a second."""

    median: float
    tenth: float
    per_second: float


class _LongLine:
    """A line to a relay on which every byte takes a while, each way."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        with suppress(asyncio.CancelledError):  # at the end of the measurement
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, far_writer))
                group.create_task(self._carry(far_reader, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        later = asyncio.get_running_loop().call_later
        with suppress(OSError):
            while data := await reader.read(65_536):
                later(self._delay, writer.write, data)
        later(self._delay, writer.close)


@contextmanager
def _relay(*names: str) -> Iterator[tuple[str, str]]:
    command = [sys.executable, "-c", _RELAY, *names]
    with subprocess.Popen(  # noqa: S603  # our own code
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        url, http_url = process.stdout.readline().split()
        try:
            yield url, http_url
        finally:
            process.stdin.close()


async def _take(client: Client) -> None:
    await (await anext(client)).ack()


async def _measure(url: str, messages: int, **options: Any) -> Figures:
    def client() -> Client:
        return Client(url, KeyPair.generate(), proxy=None, rate_limit=None, **options)

    async with client() as bob, client() as alice:
        for _ in range(10):  # until mail goes past the mailbox
            alice.post(bob.peer_id, "warm up")
            await _take(bob)
        trips = []
        for number in range(messages):
            began = time.perf_counter()
            alice.post(bob.peer_id, number)
            await _take(bob)
            trips.append(time.perf_counter() - began)
        began = time.perf_counter()
        receipts = [alice.post(bob.peer_id, number) for number in range(messages)]
        for _ in range(messages):
            await _take(bob)
        burst = time.perf_counter() - began
        for receipt in receipts:
            await receipt.settled()
    tenth = statistics.quantiles(trips, n=10)[-1]
    return Figures(statistics.median(trips), tenth, messages / burst)


async def _measure_far(messages: int, delay: float) -> dict[str, Figures]:
    lines = [_LongLine(delay), _LongLine(delay)]
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(await asyncio.start_server(line.serve, "127.0.0.1", 0))
            for line in lines
        ]
        near = [server.sockets[0].getsockname()[1] for server in servers]
        with _relay(*[f"127.0.0.1:{port}" for port in near]) as places:
            for line, place in zip(lines, places, strict=True):
                line.port = urlsplit(place).port or 0
            found = {
                name: await _measure(
                    f"{scheme}://127.0.0.1:{near[scheme == 'http']}", messages, **o
                )
                for name, (scheme, o) in _WAYS.items()
            }
            for server in servers:
                server.close()
    return found


async def _measure_near(messages: int) -> dict[str, Figures]:
    with _relay() as (url, http_url):
        places = {"ws": url, "http": http_url}
        return {
            name: await _measure(places[scheme], messages, **options)
            for name, (scheme, options) in _WAYS.items()
        }


_WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "WebSocket": ("ws", {"fallback": False}),
    "HTTP, a stream": ("http", {}),
    "HTTP, long polls": ("http", {"timing": _POLLS}),
}


def measure(messages: int, delay: float = 0.0) -> dict[str, Figures]:
    """Measure every transport with so many messages, one transport after the other."""
    return asyncio.run(_measure_far(messages, delay) if delay else _measure_near(messages))


def main() -> None:
    """Print a row for each transport."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=500, help="how many of each kind")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that a byte takes")
    asked = parser.parse_args()
    print("| Transport | Trip, median | Trip, slowest tenth | Burst |")
    print("|---|---|---|---|")
    for name, figures in measure(asked.messages, asked.delay).items():
        trip, tenth = figures.median * 1e3, figures.tenth * 1e3
        print(f"| {name} | {trip:.1f} ms | {tenth:.1f} ms | {figures.per_second:,.0f} a second |")


if __name__ == "__main__":
    main()
