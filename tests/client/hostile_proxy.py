"""
A proxy between a client and its relay that lets through what it likes, in a thread of its own.

It serves WebSocket and HTTP at one place, as proxies do, one request for each
connection. What it does to them can be changed at any time.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from threading import Event, Thread
from urllib.parse import urlsplit

__all__ = ["HostileProxy", "Upgrades", "hostile_proxy"]


class Upgrades(Enum):
    """What becomes of a request for a WebSocket."""

    PASS = "it goes through"
    REFUSE = "it is answered with 403"
    RESET = "its connection is reset"
    SWALLOW = "it is never answered"
    MUTE = "it goes through, and nothing that is written after it"


class HostileProxy:
    """
    What stands between.

    Attributes:
        port: Where it listens.
        websocket_port: Where it sends who asks for a WebSocket.
        http_port: Where it sends everyone else.
        upgrades: What becomes of who asks for a WebSocket.
        holds_back: Whether an answer is passed on only when it is there as a whole.
        loses: How many of the next answers to what is lost get lost, with their connection.
        lost: What gets lost: the method and the path, as far as it is given.
        canned: What is answered next in the relay's place: to requests for a path, once each.
        asked: What was asked of it, as ``POST /v1/send``.
        heads: The same, with the headers.
    """

    def __init__(self) -> None:
        self.port = 0
        self.websocket_port = 0
        self.http_port = 0
        self.upgrades = Upgrades.PASS
        self.holds_back = False
        self.loses = 0
        self.lost = "POST /v1/send"
        self.canned: deque[tuple[str, str]] = deque()
        self.asked: list[str] = []
        self.heads: list[str] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Where to find the relay by WebSocket."""
        return f"ws://127.0.0.1:{self.port}"

    @property
    def http_url(self) -> str:
        """Where to find it by HTTP."""
        return f"http://127.0.0.1:{self.port}"

    def lead_to(self, url: str, http_url: str) -> None:
        """Let a relay be behind it."""
        self.websocket_port = urlsplit(url).port or 0
        self.http_port = urlsplit(http_url).port or 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one connection."""
        self._writers.add(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._take(reader, writer)
        finally:
            self._writers.discard(writer)
            writer.close()

    def cut_streams(self) -> None:
        """Let every answer end that is under way; from any thread."""
        assert self._loop is not None, "it is running"
        self._loop.call_soon_threadsafe(self.cut_all)

    def cut_all(self) -> None:
        """Let every connection end; to be called in the proxy's own thread."""
        for writer in self._writers:
            writer.transport.abort()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, path, _ = head.decode().split(" ", 2)
        self.asked.append(f"{method} {path.partition('?')[0]}")
        self.heads.append(head.decode())
        if b"upgrade: websocket" in head.lower():
            await self._upgrade(head, reader, writer)
        elif self.canned and path.startswith(self.canned[0][0]):
            await _body(head, reader)
            writer.write(self.canned.popleft()[1].encode())
        else:
            await self._pass_on(head, reader, writer)

    async def _upgrade(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        match self.upgrades:
            case Upgrades.REFUSE:
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            case Upgrades.RESET:
                writer.transport.abort()
            case Upgrades.SWALLOW:
                await reader.read()
            case Upgrades.PASS | Upgrades.MUTE:
                await self._tunnel(head, reader, writer)

    async def _tunnel(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.websocket_port)
        far_writer.write(head)
        writer.write(await far_reader.readuntil(b"\r\n\r\n"))
        if self.upgrades is Upgrades.MUTE:
            await reader.read()
            far_writer.close()
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(_carry(reader, far_writer))
            group.create_task(_carry(far_reader, writer))

    async def _pass_on(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        body = await _body(head, reader)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.http_port)
        except OSError:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        once = re.sub(rb"(?i)\r\nconnection: [^\r]*", b"", head).replace(
            b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"
        )
        far_writer.write(once + body)
        answering = asyncio.get_running_loop().create_task(self._answer(head, far_reader, writer))
        leaving = asyncio.get_running_loop().create_task(reader.read())
        try:
            await asyncio.wait([answering, leaving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (answering, leaving):
                task.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)
            far_writer.close()

    async def _answer(
        self, head: bytes, far_reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self.loses and head.startswith(self.lost.encode()):
            self.loses -= 1
            await far_reader.read()
            writer.transport.abort()
        elif self.holds_back:
            writer.write(await far_reader.read())
        else:
            await _carry(far_reader, writer)


async def _body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return await reader.readexactly(int(found[1])) if found else b""


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextmanager
def hostile_proxy() -> Iterator[HostileProxy]:
    """Run a proxy for the length of a ``with`` block, in a thread of its own."""
    proxy, started = HostileProxy(), Event()
    stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        stopping = asyncio.Event()
        proxy._loop = asyncio.get_running_loop()
        stop.append((proxy._loop, stopping))
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]
        started.set()
        await stopping.wait()
        server.close()
        proxy.cut_all()

    thread = Thread(target=asyncio.run, args=(serve(),), name="hostile proxy", daemon=True)
    thread.start()
    started.wait()
    try:
        yield proxy
    finally:
        loop, stopping = stop[0]
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
