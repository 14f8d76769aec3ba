"""
What a restart of the relay costs those who talk through it, in real processes.

    python -m benchmarks.restart [--pairs 50] [--restarts 3] [--rate 10] [--activated] [--json]

Clients of ours go on sending while ``agora relay`` is stopped by SIGTERM and
started again on the same folder and port. Every message is counted at its
recipient: each once, and in order. Measured is how long the relay was away, from
the signal until it listens again, and how long each client was without one.
With ``--activated`` the socket is open all the time, as with systemd's agora.socket:
who comes while the relay is away waits, and is not turned away.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median

import agora
from agora.client import StateChanged

__all__ = ["Figures", "measure"]

_DEADLINE = 60.0
"""Seconds after which what should have happened has not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """
    What was seen.

    Attributes:
        pairs: Clients that sent, and as many that received.
        restarts: How often the relay was restarted.
        sent: Messages that were given to a client to send.
        lost: Those that did not arrive.
        repeated: Those that arrived more than once.
        disordered: Those that arrived behind one that was sent later.
        relay_away_ms: From SIGTERM until it listened again, half of all and at most.
        client_away_ms: From losing the relay until registered again, half of all and at most.
        latest_ms: How long any message took at most, from ``post`` to its recipient.
    """

    pairs: int
    restarts: int
    sent: int
    lost: int
    repeated: int
    disordered: int
    relay_away_ms: tuple[float, float]
    client_away_ms: tuple[float, float]
    latest_ms: float


@dataclass(slots=True)
class _Book:
    """What all clients have seen."""

    received: dict[str, list[int]] = field(default_factory=dict)  # numbers, by their sender
    away: list[float] = field(default_factory=list)
    latest: float = 0.0


async def measure(
    *,
    pairs: int,
    restarts: int,
    rate: float,
    folder: Path,
    is_activated: bool = False,
    between: float = 1.0,
) -> Figures:
    """
    Have *pairs* talk at *rate* messages a second each, over so many restarts.

    Args:
        pairs: Clients that send, and as many that receive.
        restarts: How often the relay is restarted.
        rate: Messages a second that each client sends.
        folder: Where the relay keeps its mail.
        is_activated: Whether its socket outlives it.
        between: Seconds of talk before each restart, and after the last.
    """
    book, away = _Book(), []
    relay, talk = _Relay(folder, is_activated), asyncio.Event()
    await relay.start()
    try:
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            clients = [await _pair(relay.url, book, stack) for _ in range(pairs)]
            readers = [group.create_task(_receive(to, book)) for _, to in clients]
            talk.set()
            senders = [group.create_task(_send(me, to.peer_id, rate, talk)) for me, to in clients]
            for _ in range(restarts):
                await asyncio.sleep(between)
                away.append(await relay.restart())
                await _until_back([client for pair in clients for client in pair])
            await asyncio.sleep(between)
            talk.clear()
            sent = sum([await sender for sender in senders])
            await _until_arrived(book, sent)
            for reader in readers:
                reader.cancel()
    finally:
        await relay.stop()
        relay.close()
    return _figures(book, pairs, restarts, sent, away)


async def _pair(url: str, book: _Book, stack: AsyncExitStack) -> tuple[agora.Client, agora.Client]:
    """Return a sender and its recipient, connected."""
    one, other = (agora.Client(url, agora.Identity.generate()) for _ in range(2))
    for client in (other, one):
        await stack.enter_async_context(client)
        _watch(client, book)
    return one, other


class _Relay:
    """``agora relay`` as a process on one port and one folder."""

    def __init__(self, folder: Path, is_activated: bool) -> None:
        self.url = ""
        self._socket = socket.create_server(("127.0.0.1", 0)) if is_activated else None
        self._folder = folder
        self._port = 0
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        arguments = ["--log-json", "--port", str(self._port), "--data-dir", str(self._folder)]
        given = [] if self._socket is None else [self._socket.fileno()]
        launcher = ["-c", _WITH_SOCKET, str(given[0])] if given else []
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *launcher,
            *("-m", "agora", "relay", *arguments, "--no-rate-limit-enabled"),
            stderr=asyncio.subprocess.PIPE,
            pass_fds=given,
        )
        self.url = str((await self._event("listening"))["url"])
        self._port = int(self.url.rpartition(":")[2])

    async def restart(self) -> float:
        """Restart it gracefully; return for how long it did not listen, in seconds."""
        began = time.perf_counter()
        await self.stop()
        await self.start()
        return time.perf_counter() - began

    async def stop(self) -> None:
        assert self._process is not None  # started
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(_DEADLINE):
            await self._process.communicate()

    def close(self) -> None:
        """Close the socket that outlives each process."""
        if self._socket is not None:
            self._socket.close()

    async def _event(self, name: str) -> dict[str, object]:
        assert self._process is not None
        assert self._process.stderr is not None  # asked for
        async with asyncio.timeout(_DEADLINE):
            while line := await self._process.stderr.readline():
                members: dict[str, object] = json.loads(line)
                if members["event"] == name:
                    return members
        raise RuntimeError(f"the relay ended before {name!r}")


_WITH_SOCKET = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
"""What systemd does for a process with a socket of its own."""


def _watch(client: agora.Client, book: _Book) -> None:
    lost_at = 0.0

    def note(event: object) -> None:
        nonlocal lost_at
        if not isinstance(event, StateChanged):
            return
        if client.is_connected and lost_at:
            book.away.append(time.perf_counter() - lost_at)
            lost_at = 0.0
        elif not client.is_connected and not lost_at:
            lost_at = time.perf_counter()

    client.listen(note)


async def _send(me: agora.Client, to: str, rate: float, talk: asyncio.Event) -> int:
    number = 0
    while talk.is_set():
        me.post(to, {"number": number, "at": time.perf_counter()})
        number += 1
        await asyncio.sleep(1 / rate)
    return number


async def _receive(me: agora.Client, book: _Book) -> None:
    async for message in me:
        payload = message.payload
        assert isinstance(payload, dict)
        book.received.setdefault(message.sender, []).append(int(str(payload["number"])))
        book.latest = max(book.latest, time.perf_counter() - float(str(payload["at"])))


async def _until_back(clients: Sequence[agora.Client]) -> None:
    """Wait for all to be there: who is caught by the next restart, too, waits ever longer."""
    async with asyncio.timeout(_DEADLINE):
        while not all(client.is_connected for client in clients):  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.05)


async def _until_arrived(book: _Book, sent: int) -> None:
    with suppress(TimeoutError):  # the figures tell what is missing, and there is no event for it
        async with asyncio.timeout(_DEADLINE):
            while sum(map(_distinct, book.received.values())) < sent:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


def _distinct(numbers: list[int]) -> int:
    return len(set(numbers))


def _figures(book: _Book, pairs: int, restarts: int, sent: int, away: list[float]) -> Figures:
    received = book.received.values()
    arrived = sum(map(_distinct, received))
    return Figures(
        pairs=pairs,
        restarts=restarts,
        sent=sent,
        lost=sent - arrived,
        repeated=sum(len(numbers) for numbers in received) - arrived,
        disordered=sum(
            later < earlier for numbers in received for earlier, later in pairwise(numbers)
        ),
        relay_away_ms=_half_and_most(away),
        client_away_ms=_half_and_most(book.away),
        latest_ms=round(book.latest * 1000, 1),
    )


def _half_and_most(seconds: list[float]) -> tuple[float, float]:
    values = seconds or [0.0]
    return round(median(values) * 1000, 1), round(max(values) * 1000, 1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--restarts", type=int, default=3)
    parser.add_argument("--rate", type=float, default=10.0, help="messages a second of each sender")
    parser.add_argument("--activated", action="store_true", help="leave the socket open")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(
            measure(
                pairs=asked.pairs,
                restarts=asked.restarts,
                rate=asked.rate,
                folder=Path(folder),
                is_activated=asked.activated,
            )
        )
    if asked.json:
        print(json.dumps(asdict(figures)))
        return
    for name, value in asdict(figures).items():
        print(f"{name:>16}  {value}")


if __name__ == "__main__":
    main()
