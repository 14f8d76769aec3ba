"""A relay that does what the test says: nothing is checked, nothing is answered by itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.support import DEADLINE, Frame

__all__ = ["FakeRelay", "FakeSession", "fake_relay"]


class FakeSession:
    """One client's connection, seen from the relay."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket

    async def hear(self) -> Frame:
        """Return the next frame that is no ``ping``."""
        while (frame := await self.hear_any())["type"] == "ping":
            pass
        return frame

    async def hear_any(self) -> Frame:
        """Return the next frame."""
        async with asyncio.timeout(DEADLINE):
            frame: Frame = json.loads(await self.socket.recv())
        return frame

    async def say(self, frame: object) -> None:
        """Write a frame; text goes as it is."""
        await self.socket.send(frame if isinstance(frame, str) else json.dumps(frame))

    async def register(self, *peers: str) -> Frame:
        """Hear ``register`` and answer it as the reference does; return what was heard."""
        frame = await self.hear()
        assert frame["type"] == "register"
        answer = {"type": "registered", "publicKey": frame["publicKey"], "sessionId": "fake"}
        await self.say(answer | {"peers": [{"publicKey": peer} for peer in peers]})
        return frame

    async def take(self) -> Any:
        """Hear a message with the ping behind it, take it, and return its envelope."""
        frame = await self.hear()
        assert (await self.hear_any())["type"] == "ping"
        await self.say({"type": "pong"})
        return frame["envelope"]

    async def refuse(self, **members: object) -> Any:
        """Hear a message with the ping behind it, answer it with an error; return its envelope."""
        frame = await self.hear()
        assert (await self.hear_any())["type"] == "ping"
        await self.say({"type": "error"} | members)
        await self.say({"type": "pong"})
        return frame["envelope"]


class FakeRelay:
    """Where clients connect; each connection waits to be taken by :meth:`accept`."""

    def __init__(self) -> None:
        self.url = ""
        self._sessions: asyncio.Queue[FakeSession] = asyncio.Queue()

    async def accept(self) -> FakeSession:
        """Return the next connection."""
        async with asyncio.timeout(DEADLINE):
            return await self._sessions.get()

    async def serve(self, socket: ServerConnection) -> None:
        """Hand a connection to the test, and keep it until its end."""
        self._sessions.put_nowait(FakeSession(socket))
        with suppress(ConnectionClosed):
            await socket.wait_closed()


@asynccontextmanager
async def fake_relay(**options: Any) -> AsyncIterator[FakeRelay]:
    """Listen on a free port; options are those of ``websockets.serve``."""
    relay = FakeRelay()
    settings: dict[str, Any] = {"ping_interval": None, "close_timeout": 0.1} | options
    async with serve(relay.serve, "127.0.0.1", 0, **settings) as server:
        (place,) = (socket.getsockname() for socket in server.sockets)
        relay.url = f"{'wss' if options.get('ssl') else 'ws'}://127.0.0.1:{place[1]}"
        yield relay
