"""
A WebSocket from the server's side, without I/O: bytes in, events out.

The rules (RFC 6455: handshake, masking, fragments, control frames, UTF-8, close
codes) are the ``websockets`` library's sans-I/O core. This module puts fragments
together and says what came in the words of this relay. It knows no socket and no
clock; the ordinary frame does not come here (:mod:`agora.relay.framing`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import cast

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import CONNECTING, OPEN
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from agora.codes import CloseCode

__all__ = ["Event", "Pong", "Sign", "WebSocket", "Write"]

_quiet = logging.Logger("agora.websocket", logging.CRITICAL)  # hears nothing on purpose


class Sign(Enum):
    """What happened that carries nothing, or is to be done."""

    OPENED = "opened"
    """The handshake is done; what answers it was to be written before."""

    PINGED = "pinged"
    """A ping came; its pong was to be written before."""

    ENDED = "ended"
    """One side has said goodbye: no message counts any more, the connection is to be gone soon."""

    NO_MORE = "no more"
    """Nothing is to be written after what was: half of the connection closes."""


@dataclass(frozen=True, slots=True)
class Pong:
    """A pong that came."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes that are to be written."""

    data: bytes


Event = str | bytes | Pong | Write | Sign
"""What comes of bytes: a message (text or binary), or one of the others."""


class WebSocket:
    """
    One WebSocket.

    Args:
        max_bytes: Largest message taken, all fragments together.
        is_open: Whether its handshake was done elsewhere.

    No method raises on anything a client can send.
    """

    __slots__ = ("_core", "_fragments", "_has_ended", "_opcode")

    def __init__(self, max_bytes: int, *, is_open: bool = False) -> None:
        self._core = ServerProtocol(
            select_subprotocol=_first_offered,
            state=OPEN if is_open else CONNECTING,
            max_size=max_bytes,
            logger=_quiet,
        )
        self._has_ended = False
        self._fragments = bytearray()
        self._opcode: Opcode = Opcode.TEXT

    @property
    def is_shaking_hands(self) -> bool:
        """Whether the handshake is not done yet, and has not failed."""
        return self._core.state is CONNECTING and not self._core.close_expected()

    @property
    def is_open(self) -> bool:
        """Whether the handshake is done, and nobody has said goodbye."""
        return self._core.state is OPEN

    @property
    def is_at_rest(self) -> bool:
        """Whether it is open and between messages: behind a whole frame nothing is kept."""
        return self.is_open and self._core.current_size is None

    @property
    def part_bytes(self) -> int | None:
        """Bytes of the message that has come in part; None between messages."""
        return self._core.current_size

    def receive(self, data: bytes | bytearray) -> Iterator[Event]:
        """
        Take bytes, cut anywhere.

        In a piece are one line of the handshake at most, or frames: the core would answer
        frames before what they came behind was answered.
        """
        self._core.receive_data(data)
        return self._events()

    def receive_eof(self) -> Iterator[Event]:
        """Take that the client says no more."""
        self._core.receive_eof()
        return self._events()

    def close(self, code: CloseCode) -> Iterator[Event]:
        """Say goodbye, unless somebody has or it has not begun."""
        if self.is_open:
            self._core.send_close(code, code.name.lower())
        return self._events()

    def fail(self, code: CloseCode, reason: str) -> Iterator[Event]:
        """Give up: the client has broken the rules."""
        self._core.fail(code, reason)
        return self._events()

    def reject(self, status: HTTPStatus, text: str) -> Iterator[Event]:
        """Answer the handshake before it was asked, with an HTTP error."""
        self._core.send_response(self._core.reject(status, text))
        return self._events()

    def _events(self) -> Iterator[Event]:
        yield from self._writes()
        for event in self._core.events_received():
            if isinstance(event, Request):
                yield from self._accept(event)
            else:
                yield from self._read(cast(Frame, event))
        if self._core.close_expected() and not self._has_ended:
            self._has_ended = True
            yield Sign.ENDED

    def _writes(self) -> Iterator[Event]:
        for data in self._core.data_to_send():
            yield Write(data) if data else Sign.NO_MORE

    def _accept(self, request: Request) -> Iterator[Event]:
        self._core.send_response(self._core.accept(request))
        yield from self._writes()
        if self.is_open:
            yield Sign.OPENED

    def _read(self, frame: Frame) -> Iterator[Event]:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            yield from self._read_data(frame)
        elif frame.opcode is Opcode.PONG:
            yield Pong(bytes(frame.data))
        elif frame.opcode is Opcode.PING:
            yield Sign.PINGED

    def _read_data(self, frame: Frame) -> Iterator[Event]:
        if frame.opcode is not Opcode.CONT:
            self._opcode = frame.opcode
        self._fragments += frame.data  # one buffer: in a list even an empty fragment takes room
        if not frame.fin:
            return
        data = bytes(self._fragments)
        self._fragments.clear()
        if self._opcode is Opcode.BINARY:
            yield data
            return
        try:
            yield data.decode()
        except UnicodeDecodeError:
            yield from self.fail(CloseCode.INVALID_TEXT, "text frame is not UTF-8")


def _first_offered(protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    # As the reference: agreeing keeps browsers happy, which fail a connection without an answer.
    return offered[0] if offered else None
