"""
One WebSocket connection: bytes in, messages to the node, messages out.

The protocol itself (RFC 6455: handshake, masking, fragments, control frames,
UTF-8, close codes) is the ``websockets`` library's sans-I/O core; this module
gives it a socket. There is no task per connection, and no timer while it is open.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import cast

from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import CONNECTING, OPEN
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from agora.codes import CloseCode
from agora.protocol.relay.actions import SessionId
from agora.protocol.relay.budgets import network_of
from agora.relay.node import Node

__all__ = ["WebSocketConnection"]

_log = logging.getLogger("agora.relay")
_quiet = logging.Logger("agora.websocket", logging.CRITICAL)  # hears nothing on purpose


class WebSocketConnection(asyncio.BufferedProtocol):
    """
    The shell of one connection; a :class:`~agora.relay.node.Connection` to its node.

    Args:
        node: Where its messages go.
        max_frame_bytes: Largest message taken, all fragments together.
        is_welcome: Whether there is room for it; if not it is told so and let go.
        handshake_timeout: Seconds for the whole handshake.
        close_timeout: Seconds to answer a close before the connection is dropped.
        read_buffer: Where bytes come in, one turn's worth; all connections of an event
            loop may share one, which is filled and emptied with nothing between.
        opened: Called with this when the socket is there.
        closed: Called with this when it is gone, always once.
        audiences: Tells the names that the relay has on a connection to this address and
            port of its own.
    """

    def __init__(
        self,
        node: Node,
        *,
        max_frame_bytes: int,
        is_welcome: bool,
        handshake_timeout: float,
        close_timeout: float,
        read_buffer: memoryview,
        opened: Callable[[WebSocketConnection], None],
        closed: Callable[[WebSocketConnection], None],
        audiences: Callable[[str, int], tuple[str, ...]],
    ) -> None:
        self._node = node
        self._is_welcome = is_welcome
        self._handshake_timeout = handshake_timeout
        self._close_timeout = close_timeout
        self._read_buffer = read_buffer
        self._opened = opened
        self._closed = closed
        self._audiences = audiences
        self._protocol = ServerProtocol(
            select_subprotocol=_first_offered,
            max_size=max_frame_bytes,
            logger=_quiet,
        )
        self._fragments = bytearray()
        self._opcode: Opcode = Opcode.TEXT
        self._session: SessionId | None = None
        self._is_ending = False
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._deadline: asyncio.TimerHandle | None = None

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with the handshake, which has a deadline."""
        self._transport = cast(asyncio.Transport, transport)
        self._opened(self)
        self._abort_in(self._handshake_timeout)
        if not self._is_welcome:
            self._turn_away()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Lend the buffer: what fits is handled before the others have their turn."""
        return self._read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Let the WebSocket core make events of the bytes, and handle them."""
        started = time.perf_counter()
        try:
            self._receive(bytes(self._read_buffer[:nbytes]))
        except Exception:
            # Our own fault: said in the log, never to the stranger.
            _log.exception("connection failed")
            self.close(CloseCode.INTERNAL_ERROR)
        self._rest(time.perf_counter() - started)

    def _rest(self, spent: float) -> None:
        """Read no more for as long as the last bytes took: nobody has more than half the loop."""
        if spent > _LONG_TURN and not self._transport.is_closing():
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(spent, self._read_on)

    def _read_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        """The client says no more; let the core decide how to end."""
        self._protocol.receive_eof()
        self._handle_events()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the node, and forget the timer."""
        self._leave()
        self._cancel_deadline()
        self._closed(self)

    # Connection, for the node

    @property
    def unsent_bytes(self) -> int:
        """Bytes in the transport's buffer."""
        return self._transport.get_write_buffer_size()

    def send(self, text: str) -> None:
        """Write a text message, if the connection is still open."""
        if self._protocol.writes:
            self._flush()  # a pong that is due goes first
        if self._protocol.state is OPEN and not self._transport.is_closing():
            self._transport.write(_to_wire(text))

    def send_all(self, texts: Sequence[str]) -> None:
        """Write text messages in one go, if the connection is still open."""
        if self._protocol.writes:
            self._flush()
        if self._protocol.state is OPEN and not self._transport.is_closing():
            self._transport.write(_all_to_wire(tuple(texts)))

    def ping(self, payload: bytes) -> None:
        """Write a ping, if the connection is still open."""
        self._write(lambda: self._protocol.send_ping(payload))

    def close(self, code: CloseCode) -> None:
        """Write a close frame, and give the client a while to answer it."""
        self._write(lambda: self._protocol.send_close(code, _close_reason(code)))
        self._begin_end()

    def abort(self) -> None:
        """Drop the connection now."""
        self._transport.abort()

    def abort_handshake(self) -> None:
        """Drop the connection if it is not open yet: there is nothing to say goodbye to."""
        if self._is_shaking_hands:
            self._transport.abort()

    # From here on, private

    def _receive(self, data: bytes) -> None:
        # The handshake line by line: frames behind it in the same packet are for after our
        # answer, and the core would handle them, even answer them, before it.
        start = 0
        while start < len(data) and self._is_shaking_hands:
            end = data.find(b"\n", start) + 1 or len(data)
            self._protocol.receive_data(data[start:end])
            self._handle_events()
            start = end
        if start < len(data):
            self._protocol.receive_data(data[start:])
            self._handle_events()

    @property
    def _is_shaking_hands(self) -> bool:
        return self._protocol.state is CONNECTING and not self._is_ending

    def _handle_events(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._accept(event)
            else:
                self._handle_frame(cast(Frame, event))
        self._flush()

    def _accept(self, request: Request) -> None:
        self._protocol.send_response(self._protocol.accept(request))
        if self._protocol.state is OPEN:
            self._cancel_deadline()
            address, _ = self._end("peername")
            audiences = self._audiences(*self._end("sockname"))
            network = network_of(address)
            self._session = self._node.open(self, address=network, audiences=audiences)

    def _end(self, which: str) -> tuple[str, int]:
        """Return the address and port of one end of the socket."""
        end = self._transport.get_extra_info(which)
        return (end[0], end[1]) if isinstance(end, tuple) else ("", 0)

    def _turn_away(self) -> None:
        """Answer before anything was asked: who is too many shall not be waited for."""
        text = "Relay is at capacity (max_connections)\n"
        self._protocol.send_response(self._protocol.reject(HTTPStatus.SERVICE_UNAVAILABLE, text))
        self._flush()
        self._abort_in(_TURN_AWAY_TIMEOUT)

    def _handle_frame(self, frame: Frame) -> None:
        if self._session is None:
            return
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._handle_data(frame)
        elif frame.opcode is Opcode.PONG:
            self._node.receive_pong(self._session, bytes(frame.data))
        elif frame.opcode is Opcode.PING:
            self._node.hear(self._session)  # the core has queued the pong
        else:
            self._leave()  # a close, which the core has answered

    def _handle_data(self, frame: Frame) -> None:
        if frame.opcode is not Opcode.CONT:
            self._opcode = frame.opcode
        self._fragments += frame.data  # one buffer: in a list even an empty fragment takes room
        if not frame.fin or self._session is None:
            return
        data = bytes(self._fragments)
        self._fragments.clear()
        if self._opcode is Opcode.BINARY:
            self._node.receive(self._session, data)
            return
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self._protocol.fail(CloseCode.INVALID_TEXT, "text frame is not UTF-8")
            self._leave()
            return
        self._node.receive(self._session, text)

    def _write(self, step: Callable[[], None]) -> None:
        try:
            step()
        except InvalidState:
            return  # closing: what is written now has nobody to read it
        self._flush()

    def _flush(self) -> None:
        """Hand the transport what the core wants sent, and end when the core is done."""
        for data in self._protocol.data_to_send():
            if self._transport.is_closing():
                break  # nobody is there to read it
            if data:
                # Behind a close only pongs could come, and a flood of pings would pile them up.
                if not self._is_ending:
                    self._transport.write(data)
            elif self._transport.can_write_eof():
                with contextlib.suppress(OSError):  # it was closed on the other side already
                    self._transport.write_eof()
            else:
                self._transport.close()  # TLS cannot close one half; this sends what waits first
        if self._protocol.close_expected():
            self._leave()
            self._begin_end()

    def _leave(self) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            self._node.lost(session)

    def _begin_end(self) -> None:
        """Give the client a while to end it too: counted once, so that talking on is no delay."""
        if not self._is_ending:
            self._is_ending = True
            self._abort_in(self._close_timeout)

    def _abort_in(self, seconds: float) -> None:
        self._cancel_deadline()
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(seconds, self._transport.abort)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


_LONG_TURN = 0.005
"""Seconds of the loop that a connection may take at a time before it has to rest."""

_TURN_AWAY_TIMEOUT = 1.0
"""Seconds in which a connection that is too many can read that it is."""


@lru_cache(maxsize=1)
def _to_wire(text: str) -> bytes:
    """Frame a text message. What goes to many goes to them one after the other: framed once."""
    return Frame(Opcode.TEXT, text.encode()).serialize(mask=False)


@lru_cache(maxsize=1)
def _all_to_wire(texts: tuple[str, ...]) -> bytes:
    return b"".join([Frame(Opcode.TEXT, text.encode()).serialize(mask=False) for text in texts])


def _first_offered(protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    # As the reference: agreeing keeps browsers happy, which fail a connection without an answer.
    return offered[0] if offered else None


def _close_reason(code: CloseCode) -> str:
    return code.name.lower()
