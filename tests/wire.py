"""
A WebSocket by hand: the bytes on the wire are the test's, and nothing is answered by itself.

For what a well-behaved library would never do: leave pings unanswered, not
read, break frames and handshakes.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from websockets.frames import Frame, Opcode

from agora.keys import KeyPair
from tests.support import DEADLINE

__all__ = ["HANDSHAKE", "Answer", "Wire", "frame", "narrow_socket", "opened_wire", "wire_to"]

HANDSHAKE = (
    b"GET / HTTP/1.1\r\n"
    b"Host: relay\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"\r\n"
)


def frame(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    """Return the bytes of one frame as clients write it."""
    return Frame(opcode, data, fin=fin).serialize(mask=True)


def narrow_socket() -> socket.socket:
    """Return a listening socket for a relay, whose kernel keeps little of what nobody reads."""
    listening = socket.create_server(("127.0.0.1", 0))
    for way in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        listening.setsockopt(socket.SOL_SOCKET, way, 32_768)  # those that it accepts have it too
    return listening


@dataclass(frozen=True, slots=True)
class Answer:
    """One frame from the relay."""

    opcode: Opcode
    data: bytes

    @property
    def close_code(self) -> int:
        """The code of a close frame."""
        assert self.opcode is Opcode.CLOSE
        return int.from_bytes(self.data[:2], "big")


class Wire:
    """One TCP connection to a relay."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def write(self, *parts: bytes) -> None:
        """Put bytes on the wire; they are not waited for."""
        self.writer.write(b"".join(parts))

    def say(self, members: object) -> None:
        """Write one text frame."""
        self.write(frame(Opcode.TEXT, json.dumps(members).encode()))

    def register(self, keys: KeyPair) -> None:
        """Ask to be registered, and do not wait."""
        self.say({"type": "register", "publicKey": keys.peer_id})

    async def shake_hands(self, request: bytes = HANDSHAKE) -> None:
        """Open the WebSocket."""
        self.write(request)
        assert (await self.read_head()).startswith("HTTP/1.1 101 ")

    async def read_head(self) -> str:
        """Return the head of the HTTP answer."""
        async with asyncio.timeout(DEADLINE):
            return (await self.reader.readuntil(b"\r\n\r\n")).decode()

    async def read(self) -> Answer:
        """Return the next frame."""
        async with asyncio.timeout(DEADLINE):
            first, second = await self.reader.readexactly(2)
            size = second
            if second == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif second == 127:
                (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
            return Answer(Opcode(first & 0x0F), await self.reader.readexactly(size))

    async def read_close(self) -> int:
        """Read up to the close frame and return its code."""
        while (answer := await self.read()).opcode is not Opcode.CLOSE:
            pass
        return answer.close_code

    async def read_to_end(self) -> bytes:
        """Return all that comes until the relay drops the connection."""
        async with asyncio.timeout(DEADLINE):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    def abort(self) -> None:
        """Drop the connection without a word."""
        self.writer.transport.abort()

    def reset(self) -> None:
        """Drop the connection with a reset, as a machine that crashed does."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.abort()


@asynccontextmanager
async def wire_to(
    url: str, tls: ssl.SSLContext | None = None, *, kernel_buffer: int | None = None
) -> AsyncIterator[Wire]:
    """
    Connect to a relay, and no more.

    Args:
        url: The relay.
        tls: Context for ``wss://``.
        kernel_buffer: Bytes that the kernel keeps while nobody reads, each way; None for its own.
    """
    place = urlsplit(url)
    raw = socket.socket()
    raw.setblocking(False)
    if kernel_buffer is not None:
        for way in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            raw.setsockopt(socket.SOL_SOCKET, way, kernel_buffer)
    await asyncio.get_running_loop().sock_connect(raw, (place.hostname, place.port))
    hostname = place.hostname if tls else None
    reader, writer = await asyncio.open_connection(sock=raw, ssl=tls, server_hostname=hostname)
    if kernel_buffer is not None:
        writer.transport.set_write_buffer_limits(kernel_buffer)  # nor does asyncio keep more
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def opened_wire(
    url: str, tls: ssl.SSLContext | None = None, *, kernel_buffer: int | None = None
) -> AsyncIterator[Wire]:
    """Connect to a relay and open the WebSocket; nothing is said on it yet."""
    async with wire_to(url, tls, kernel_buffer=kernel_buffer) as wire:
        await wire.shake_hands()
        yield wire
