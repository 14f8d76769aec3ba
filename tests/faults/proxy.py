"""
A network in bad weather: a TCP proxy between a client and its relay.

Bytes that are held back are not lost: they come when the weather is fair
again, as TCP would have it. What is lost is lost by a reset.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

__all__ = ["Direction", "Proxy", "proxy_to"]

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time at all


@dataclass
class Direction:
    """
    What happens to bytes one way.

    Attributes:
        passes: Set while bytes pass; cleared, they are held back.
        chunk: Bytes that travel together.
        delay: Seconds that each chunk takes.
        resets_after: Bytes after which the connection is reset; None for never.
    """

    passes: asyncio.Event = field(default_factory=asyncio.Event)
    chunk: int = 65_536
    delay: float = 0.0
    resets_after: int | None = None


class Proxy:
    """
    Carries bytes between those who connect and a relay.

    Attributes:
        url: Where to connect instead of the relay.
        up: From client to relay.
        down: From relay to client.
        accepted: How many connections there were.
    """

    def __init__(self, relay_url: str) -> None:
        self.url = ""
        self.up = Direction()
        self.down = Direction()
        self.accepted = 0
        self._relay = urlsplit(relay_url)
        self._writers: set[asyncio.StreamWriter] = set()
        self.clear_up()

    def clear_up(self) -> None:
        """Let everything pass, at once and for good."""
        for direction in (self.up, self.down):
            direction.passes.set()
            direction.chunk, direction.delay, direction.resets_after = 65_536, 0.0, None

    def black_hole(self) -> None:
        """Hold back everything, both ways, with every connection open."""
        self.up.passes.clear()
        self.down.passes.clear()

    def reset(self) -> None:
        """Reset every connection, on both sides."""
        for writer in self._writers:
            _reset(writer)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection until either side ends."""
        self.accepted += 1
        try:
            far_reader, far_writer = await asyncio.open_connection(
                self._relay.hostname, self._relay.port
            )
        except OSError:
            _reset(writer)
            return
        ends = {writer, far_writer}
        self._writers |= ends
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, far_writer, self.up))
                group.create_task(self._carry(far_reader, writer, self.down))
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, weather: Direction
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(weather.chunk):
                await weather.passes.wait()
                if weather.delay:
                    await asyncio.sleep(weather.delay)
                if weather.resets_after is not None and len(data) > weather.resets_after:
                    writer.write(data[: weather.resets_after])
                    weather.resets_after = None
                    self.reset()
                    return
                if weather.resets_after is not None:
                    weather.resets_after -= len(data)
                writer.write(data)
                await writer.drain()
        writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    with suppress(OSError):  # it may be closed already
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


@asynccontextmanager
async def proxy_to(relay_url: str) -> AsyncIterator[Proxy]:
    """Run a proxy to a relay on a free port."""
    proxy = Proxy(relay_url)
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
        proxy.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield proxy
        proxy.reset()
