"""
A network in bad weather: a TCP proxy between a client and its relay.

Bytes that are held back are not lost: they come when the weather is fair
again, as TCP would have it. What is lost is lost by a reset, or with a
connection of which one end is gone.

A relay that wants proof knows itself by the names it is told: behind a proxy,
by the proxy's. `relay_behind_proxy` sees to that.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from agora.relay import Relay

__all__ = ["Direction", "Proxy", "proxy_to", "relay_behind_proxy"]

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time at all


@dataclass
class Direction:
    """
    What happens to bytes one way.

    Attributes:
        passes: Set while bytes pass; cleared, they are held back.
        chunk: Bytes that travel together.
        delay: Seconds that each chunk takes.
        jitter: Seconds that each takes longer at most, no two the same.
        resets_after: Bytes after which the connection is reset; None for never.
        carried: What has passed, where somebody listens in; None where nobody does.
    """

    passes: asyncio.Event = field(default_factory=asyncio.Event)
    chunk: int = 65_536
    delay: float = 0.0
    jitter: float = 0.0
    resets_after: int | None = None
    carried: bytearray | None = None


@dataclass(eq=False)
class _Connection:
    """One connection through the proxy; *passes* is set while its own bytes pass."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    passes: asyncio.Event = field(default_factory=asyncio.Event)


class Proxy:
    """
    Carries bytes between those who connect and a relay.

    Attributes:
        url: Where to connect instead of the relay.
        up: From client to relay.
        down: From relay to client.
        accepted: How many connections there were.
        chance: What decides about jitter.
    """

    def __init__(self, relay_url: str = "") -> None:
        self.url = ""
        self.up = Direction()
        self.down = Direction()
        self.accepted = 0
        self.chance = random.Random(1)
        self._relay = urlsplit(relay_url)
        self._connections: set[_Connection] = set()
        self.clear_up()

    @property
    def name(self) -> str:
        """The host and port by which a relay behind it must know itself."""
        return urlsplit(self.url).netloc

    def lead_to(self, relay_url: str) -> None:
        """Carry new connections to this relay from now on."""
        self._relay = urlsplit(relay_url)

    # Weather

    def clear_up(self) -> None:
        """Let everything pass, at once and for good."""
        for direction in (self.up, self.down):
            direction.passes.set()
            direction.chunk, direction.resets_after = 65_536, None
            direction.delay = direction.jitter = 0.0
        for connection in self._connections:
            connection.passes.set()

    def black_hole(self) -> None:
        """Hold back everything, both ways, with every connection open."""
        self.up.passes.clear()
        self.down.passes.clear()

    def hold_present(self) -> None:
        """Hold back what is on the connections of now; new ones pass, and may overtake them."""
        for connection in self._connections:
            connection.passes.clear()

    def reset(self) -> None:
        """Reset every connection, on both sides."""
        for connection in self._connections:
            _reset(connection.near)
            _reset(connection.far)

    def forget_clients(self) -> None:
        """Have every client gone without a word: the relay's end stays open, and hears nothing."""
        for connection in self._connections:
            connection.passes.clear()
            _reset(connection.near)

    def forget_relay(self) -> None:
        """Have the relay gone without a word: the clients' end stays open, and hears nothing."""
        for connection in self._connections:
            connection.passes.clear()
            _reset(connection.far)

    # Carrying

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection until either side ends, or for as long as it is held."""
        self.accepted += 1
        try:
            far_reader, far_writer = await asyncio.open_connection(
                self._relay.hostname, self._relay.port
            )
        except OSError:
            _reset(writer)
            return
        connection = _Connection(writer, far_writer)
        connection.passes.set()
        self._connections.add(connection)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(connection, reader, far_writer, self.up))
                group.create_task(self._carry(connection, far_reader, writer, self.down))
        finally:
            self._connections.discard(connection)
            writer.transport.abort()
            far_writer.transport.abort()

    async def _carry(
        self,
        connection: _Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        weather: Direction,
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(weather.chunk):
                await weather.passes.wait()
                await connection.passes.wait()
                if weather.delay or weather.jitter:
                    await asyncio.sleep(weather.delay + self.chance.uniform(0, weather.jitter))
                if weather.resets_after is not None and len(data) > weather.resets_after:
                    writer.write(data[: weather.resets_after])
                    weather.resets_after = None
                    self.reset()
                    return
                if weather.resets_after is not None:
                    weather.resets_after -= len(data)
                if weather.carried is not None:
                    weather.carried += data
                writer.write(data)
                await writer.drain()
        await connection.passes.wait()  # an end is news too
        writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    with suppress(OSError):  # it may be closed already
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


@asynccontextmanager
async def proxy_to(relay_url: str = "") -> AsyncIterator[Proxy]:
    """Run a proxy to a relay on a free port; where it leads may also be told later."""
    proxy = Proxy(relay_url)
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
        proxy.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield proxy
        proxy.clear_up()
        proxy.reset()


@asynccontextmanager
async def relay_behind_proxy(**settings: Any) -> AsyncIterator[tuple[Relay, Proxy]]:
    """Run a relay that stores at once what is not acked, and a proxy whose name is one of its."""
    async with proxy_to() as proxy:
        known: dict[str, Any] = {"port": 0, "public_name": (proxy.name,), "ack_timeout": 0.2}
        async with Relay(**known | settings) as relay:
            proxy.lead_to(relay.url)
            yield relay, proxy
            proxy.clear_up()
