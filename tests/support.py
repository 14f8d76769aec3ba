"""
Peers without our client: a plain WebSocket, frames as dictionaries, deadlines on every wait.

Nothing here sleeps. A test waits for what it expects and fails at
:data:`DEADLINE`; that nothing came is shown by a later frame that did, since a
relay answers in order.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from agora.client import Client
from agora.envelope import Envelope, seal
from agora.keys import KeyPair
from agora.sealing import now_ms

__all__ = [
    "DEADLINE",
    "Frame",
    "RawPeer",
    "agent",
    "close_code",
    "cpu_seconds",
    "eventually",
    "faults_in",
    "letter",
    "next_frame",
    "other_tasks",
    "raw_peer",
    "resident_bytes",
    "socket_to",
]

DEADLINE = 30.0
"""Seconds after which what a test waits for will not come."""

Frame = dict[str, Any]

_timestamps = itertools.count(now_ms())


def letter(
    sender: KeyPair, to: str | list[str], payload: Any = "hello", **members: Any
) -> Envelope:
    """Sign an envelope that no other is equal to."""
    defaults: dict[str, Any] = {"type": "publish", "timestamp_ms": next(_timestamps)}
    return seal(sender, payload=payload, to=to, **defaults | members)


class RawPeer:
    """
    A registered peer whose every frame the test writes and reads.

    Attributes:
        keys: Who it is.
        socket: Its connection.
        welcome: The ``registered`` frame it got.
    """

    def __init__(self, socket: ClientConnection, keys: KeyPair, welcome: Frame) -> None:
        self.socket = socket
        self.keys = keys
        self.id = keys.peer_id
        self.welcome = welcome

    async def say(self, frame: object) -> None:
        """Write one frame."""
        await self.socket.send(json.dumps(frame))

    async def hear(self) -> Frame:
        """Return the next frame; fail when none comes in time."""
        return await next_frame(self.socket)

    async def send(self, to: str, payload: Any = "hello", **members: Any) -> Envelope:
        """Sign and submit a message, and return its envelope."""
        envelope = letter(self.keys, to, payload, **members)
        await self.say({"type": "message", "to": to, "envelope": envelope.to_dict()})
        return envelope

    async def answers(self) -> list[Frame]:
        """Ping, and return what came before the pong: the answers to all that was said."""
        await self.say({"type": "ping"})
        heard = []
        while (frame := await self.hear()) != {"type": "pong"}:
            heard.append(frame)
        return heard

    async def payloads(self, count: int) -> list[Any]:
        """Return the payloads of the next *count* messages; other frames are left out."""
        found: list[Any] = []
        while len(found) < count:
            frame = await self.hear()
            if frame["type"] == "message":
                found.append(frame["envelope"].get("payload"))
        return found


@asynccontextmanager
async def socket_to(url: str, **options: Any) -> AsyncIterator[ClientConnection]:
    """Open a WebSocket that does nothing by itself but answer pings."""
    settings: dict[str, Any] = {
        "ping_interval": None,
        "compression": None,
        "max_size": None,
        "close_timeout": DEADLINE,
        "proxy": None,
    }
    async with connect(url, **settings | options) as socket:
        yield socket


@asynccontextmanager
async def raw_peer(
    url: str, keys: KeyPair | None = None, *, name: str | None = None, **options: Any
) -> AsyncIterator[RawPeer]:
    """Connect and register a peer; a new one unless *keys* are given."""
    keys = keys or KeyPair.generate()
    register = {"type": "register", "publicKey": keys.peer_id}
    async with socket_to(url, **options) as socket:
        await socket.send(json.dumps(register | ({"name": name} if name else {})))
        yield RawPeer(socket, keys, await next_frame(socket))


def agent(url: str, keys: KeyPair | None = None, **options: Any) -> Client:
    """Return a client of ours, not connected; a new peer unless *keys* are given."""
    defaults: dict[str, Any] = {"proxy": None, "fallback": False}
    return Client(url, keys or KeyPair.generate(), **defaults | options)


async def next_frame(socket: ClientConnection) -> Frame:
    """Return the next frame of *socket*; fail when none comes in time."""
    async with asyncio.timeout(DEADLINE):
        frame: Frame = json.loads(await socket.recv())
    return frame


async def close_code(socket: ClientConnection) -> int | None:
    """Read to the end, and return the close code that came; None without a close frame."""
    async with asyncio.timeout(DEADLINE):
        try:
            while True:
                await socket.recv()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for a condition that has no event to wait for."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110  # as the first line says
            await asyncio.sleep(0.005)


def resident_bytes(pid: int | str = "self") -> int:
    """Return how much memory a process has now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def cpu_seconds(pid: int) -> float:
    """Return for how long a process was at work: a measure that no other load changes."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def faults_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged as a fault of ours; lost sockets and futures are such."""
    gc.collect(1)  # what was never awaited or closed lately is said now
    records = caplog.get_records("call")
    return [record.getMessage() for record in records if record.levelno >= logging.ERROR]


def other_tasks() -> set[asyncio.Task[Any]]:
    """Return the tasks that run beside the current one."""
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
