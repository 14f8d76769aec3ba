"""
A WebSocket as a stranger uses it: any bytes out, every frame that comes in.

The library's own connection answers pings, joins fragments and refuses to send
what is not allowed, all of it out of sight. Here the protocol object of
``websockets`` is driven by hand, so that a test can say what is on the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

__all__ = ["Heard", "Manners", "RawSocket"]

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time at all


@dataclass(frozen=True, slots=True)
class Heard:
    """One thing that came in: a text message, the payload of a control frame, or the end."""

    kind: Literal["text", "ping", "pong", "close"]
    text: str = ""
    code: int = 0

    def __str__(self) -> str:
        if self.kind == "close":
            return f"close {self.code}"
        return self.text if self.kind == "text" else f"{self.kind} {self.text!r}"


@dataclass(frozen=True, slots=True)
class Manners:
    """How a stranger comes in, and whether it answers the relay's WebSocket pings."""

    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    answers_pings: bool = True


class RawSocket:
    """One open connection. Messages and control frames are heard apart, each in their order."""

    def __init__(
        self,
        protocol: ClientProtocol,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answers_pings: bool,
    ) -> None:
        self.handshake = Headers()
        self.messages: asyncio.Queue[Heard] = asyncio.Queue()
        self.controls: asyncio.Queue[Heard] = asyncio.Queue()
        self._protocol = protocol
        self._reader = reader
        self._writer = writer
        self._answers_pings = answers_pings
        self._fragments: list[bytes] = []
        self._is_over = False

    @classmethod
    async def connect(cls, url: str, manners: Manners, tasks: asyncio.TaskGroup) -> RawSocket:
        """Open a connection; a task of *tasks* reads it until its end."""
        place = urlsplit(url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        protocol = ClientProtocol(parse_uri(url.rstrip("/") + manners.path), max_size=None)
        self = cls(protocol, reader, writer, manners.answers_pings)
        await self._shake_hands(manners.headers)
        tasks.create_task(self._read_to_the_end())
        return self

    async def _shake_hands(self, headers: tuple[tuple[str, str], ...]) -> None:
        request = self._protocol.connect()
        for name, value in headers:
            request.headers[name] = value
        self._protocol.send_request(request)
        self._flush()
        while not (events := self._protocol.events_received()):
            self._protocol.receive_data(await self._reader.read(65_536))
        response, *frames = events
        assert isinstance(response, Response)
        self.handshake = response.headers
        self._sort(frames)

    # What goes out

    def send_text(self, data: bytes) -> None:
        """Send a text message; the bytes need not be UTF-8."""
        self._protocol.send_text(data)
        self._flush()

    def send_binary(self, data: bytes) -> None:
        self._protocol.send_binary(data)
        self._flush()

    def send_fragments(self, fragments: Sequence[bytes]) -> None:
        """Send one text message in several frames."""
        first, *middle, last = fragments
        self._protocol.send_text(first, fin=False)
        for fragment in middle:
            self._protocol.send_continuation(fragment, fin=False)
        self._protocol.send_continuation(last, fin=True)
        self._flush()

    def send_ping(self, data: bytes) -> None:
        self._protocol.send_ping(data)
        self._flush()

    def send_raw(self, data: bytes) -> None:
        """Put bytes on the wire that need not be WebSocket at all."""
        self._writer.write(data)

    def close(self) -> None:
        """Start the closing handshake, without a close code."""
        self._protocol.send_close()
        self._flush()

    def vanish(self) -> None:
        """Drop the TCP connection with a reset, as a crashed machine does."""
        if self._writer.transport.is_closing():
            return
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._writer.transport.abort()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._writer.write(data)

    # What comes in

    async def _read_to_the_end(self) -> None:
        with contextlib.suppress(OSError):
            while data := await self._reader.read(65_536):
                self._protocol.receive_data(data)
                self._take_in()
        self._end(1006)
        self._writer.transport.abort()

    def _take_in(self) -> None:
        frames = self._protocol.events_received()
        is_closing = any(isinstance(f, Frame) and f.opcode is Opcode.CLOSE for f in frames)
        if self._answers_pings or is_closing:
            self._flush()
        else:
            self._protocol.data_to_send()  # the pongs, thrown away
        self._sort(frames)

    def _sort(self, frames: Sequence[object]) -> None:
        for frame in frames:
            assert isinstance(frame, Frame)
            match frame.opcode:
                case Opcode.PING:
                    self.controls.put_nowait(Heard("ping", bytes(frame.data).decode()))
                case Opcode.PONG:
                    self.controls.put_nowait(Heard("pong", bytes(frame.data).decode()))
                case Opcode.CLOSE:
                    self._end(Close.parse(frame.data).code)
                case _:
                    self._join(frame)

    def _join(self, frame: Frame) -> None:
        self._fragments.append(bytes(frame.data))
        if frame.fin:
            self.messages.put_nowait(Heard("text", b"".join(self._fragments).decode()))
            self._fragments.clear()

    def _end(self, code: int) -> None:
        if not self._is_over:
            self._is_over = True
            self.messages.put_nowait(Heard("close", code=code))
