"""
One WebSocket connection: bytes in, messages to the node, messages out.

What the bytes mean is read without I/O (:mod:`agora.relay.framing`); this module
gives it a socket. There is no task per connection, and while it is open and idle
no timer, no buffer and nothing of the handshake.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

from agora.codes import CloseCode
from agora.protocol.relay.actions import SessionId
from agora.protocol.relay.budgets import network_of
from agora.relay.framing import Framing, ping_frame
from agora.relay.metrics import Traffic
from agora.relay.node import Node
from agora.relay.outlet import Outlet
from agora.relay.turns import Turns
from agora.relay.websocket import Event, Pong, Sign, Write

__all__ = ["Listener", "WebSocketConnection"]

_log = logging.getLogger("agora.relay")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """
    What all connections have in common that one relay accepts.

    Attributes:
        node: Where their messages go.
        outlet: Where they note that they have something to write.
        max_frame_bytes: Largest message taken, all fragments together.
        handshake_timeout: Seconds for the whole handshake.
        close_timeout: Seconds to answer a close before the connection is dropped.
        read_buffer: Where bytes come in, one turn's worth: filled and emptied with
            nothing between.
        turns: Who has the loop.
        traffic: Where bytes are counted.
        is_welcome: Tells whether there is room for one more; if not it is told so and let go.
        opened: Called with a connection when the socket is there.
        closed: Called with it when it is gone, always once.
        audiences: Tells the names that the relay has on a connection to this address and
            port of its own.
    """

    node: Node
    outlet: Outlet
    max_frame_bytes: int
    handshake_timeout: float
    close_timeout: float
    read_buffer: memoryview
    turns: Turns
    traffic: Traffic
    is_welcome: Callable[[], bool]
    opened: Callable[[WebSocketConnection], None]
    closed: Callable[[WebSocketConnection], None]
    audiences: Callable[[str, int], tuple[str, ...]]


class WebSocketConnection(asyncio.BufferedProtocol):
    """
    The shell of one connection; a :class:`~agora.relay.node.Connection` to its node.

    Args:
        listener: What it has in common with the others.
    """

    __slots__ = (
        "_deadline",
        "_framing",
        "_is_ending",
        "_listener",
        "_node",
        "_session",
        "_transport",
        "_unwritten",
        "_unwritten_bytes",
    )

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._node = listener.node
        self._framing = Framing(listener.max_frame_bytes)
        self._session: SessionId | None = None
        self._is_ending = False
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._deadline: asyncio.TimerHandle | None = None
        self._unwritten: list[bytes] | None = None  # until the turn ends
        self._unwritten_bytes = 0

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with the handshake, which has a deadline."""
        self._transport = cast(asyncio.Transport, transport)
        is_welcome = self._listener.is_welcome()
        self._listener.opened(self)
        self._abort_in(self._listener.handshake_timeout)
        if not is_welcome:
            self._turn_away()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Lend the buffer: what fits is handled before the others have their turn."""
        return self._listener.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Make events of the bytes and handle them; what comes of it all is written together."""
        started = time.perf_counter()
        self._listener.traffic.received += nbytes
        self._listener.outlet.begin_turn()
        try:
            self._handle(self._framing.receive(bytes(self._listener.read_buffer[:nbytes])))
        except Exception:
            # Our own fault: said in the log, never to the stranger.
            _log.exception("connection failed")
            self.close(CloseCode.INTERNAL_ERROR)
        self._listener.outlet.end_turn()
        self._rest(time.perf_counter() - started)

    def _rest(self, spent: float) -> None:
        """Let the others have their turn: nobody has more than half the loop, nor long at once."""
        if self._listener.turns.add(self, spent) <= _TURN or self._transport.is_closing():
            return
        self._listener.turns.end()
        self._transport.pause_reading()
        loop = asyncio.get_running_loop()
        if spent > _LONG_READ:
            loop.call_later(spent, self._read_on)  # for as long as those bytes took
        else:
            loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        """The client says no more; let the core decide how to end."""
        self._handle(self._framing.receive_eof())
        self.flush()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the node, and forget the timer."""
        self._leave()
        self._cancel_deadline()
        self._listener.closed(self)

    # Connection, for the node

    @property
    def unsent_bytes(self) -> int:
        """Bytes that have not left, here and in the transport's buffer."""
        return self._transport.get_write_buffer_size() + self._unwritten_bytes

    def send(self, text: str) -> None:
        """Write a text message, if the connection is still open."""
        if self._session is not None:
            self._write(self._listener.outlet.frame(text))

    def send_all(self, texts: tuple[str, ...]) -> None:
        """Write text messages in one go, if the connection is still open."""
        if self._session is not None:
            self._write(self._listener.outlet.frames(texts))

    def ping(self, payload: bytes) -> None:
        """Write a ping, if the connection is still open."""
        if self._session is not None:
            self._write(ping_frame(payload))

    def withdraw(self, envelope_id: str) -> bool:
        """Do nothing: what was written to a socket is its client's to settle."""
        return False

    def close(self, code: CloseCode) -> None:
        """Write a close frame, and give the client a while to answer it."""
        self._handle(self._framing.close(code))
        self._begin_end()

    def flush(self) -> None:
        """Hand the transport what was written in this turn."""
        if self._unwritten is None:
            return
        unwritten, self._unwritten, self._unwritten_bytes = self._unwritten, None, 0
        if not self._transport.is_closing():  # else nobody is there to read it
            data = unwritten[0] if len(unwritten) == 1 else b"".join(unwritten)
            self._listener.traffic.sent += len(data)
            self._transport.write(data)

    def abort(self) -> None:
        """Drop the connection now."""
        self._transport.abort()

    def abort_handshake(self) -> None:
        """Drop the connection if it is not open yet: there is nothing to say goodbye to."""
        if self._framing.is_shaking_hands and not self._is_ending:
            self._transport.abort()

    # From here on, private

    def _handle(self, events: Iterator[Event]) -> None:
        for event in events:
            if type(event) is str or type(event) is bytes:
                if self._session is not None:
                    self._node.receive(self._session, event)
            else:
                self._handle_other(event)

    def _handle_other(self, event: Event) -> None:
        match event:
            case Write(data):
                # Behind a close only pongs could come, and a flood of pings would pile them up.
                if not self._is_ending:
                    self._write(data)
            case Pong(payload):
                if self._session is not None:
                    self._node.receive_pong(self._session, payload)
            case Sign.PINGED:
                if self._session is not None:
                    self._node.hear(self._session)
            case Sign.OPENED:
                self._open()
            case Sign.NO_MORE:
                self._write_eof()
            case Sign.ENDED:
                self._leave()
                self._begin_end()

    def _open(self) -> None:
        self._cancel_deadline()
        address, _ = self._end("peername")
        audiences = self._listener.audiences(*self._end("sockname"))
        self._session = self._node.open(self, address=network_of(address), audiences=audiences)

    def _end(self, which: str) -> tuple[str, int]:
        """Return the address and port of one end of the socket."""
        end = self._transport.get_extra_info(which)
        return (end[0], end[1]) if isinstance(end, tuple) else ("", 0)

    def _turn_away(self) -> None:
        """Answer before anything was asked: who is too many shall not be waited for."""
        text = "Relay is at capacity (max_connections)\n"
        self._handle(self._framing.reject(HTTPStatus.SERVICE_UNAVAILABLE, text))
        self._abort_in(_TURN_AWAY_TIMEOUT)

    def _write(self, data: bytes) -> None:
        if self._unwritten is None:
            self._unwritten = [data]
            self._unwritten_bytes = len(data)
            self._listener.outlet.add(self)
            return
        self._unwritten.append(data)
        self._unwritten_bytes += len(data)
        if self._unwritten_bytes > _WRITE_AT_ONCE:
            self.flush()

    def _write_eof(self) -> None:
        self.flush()
        if self._transport.is_closing():
            return
        if self._transport.can_write_eof():
            with contextlib.suppress(OSError):  # it was closed on the other side already
                self._transport.write_eof()
        else:
            self._transport.close()  # TLS cannot close one half; this sends what waits first

    def _leave(self) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            self._node.lost(session)

    def _begin_end(self) -> None:
        """Give the client a while to end it too: counted once, so that talking on is no delay."""
        if not self._is_ending:
            self._is_ending = True
            self._abort_in(self._listener.close_timeout)

    def _abort_in(self, seconds: float) -> None:
        self._cancel_deadline()
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(seconds, self._transport.abort)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


_TURN = 0.001
"""Seconds of the loop that a connection may take before the others are looked at."""

_LONG_READ = 0.005
"""Seconds for the bytes of one read, after which a connection has to rest for as long."""

_WRITE_AT_ONCE = 65_536
"""Bytes for one connection that are handed over before the turn ends."""

_TURN_AWAY_TIMEOUT = 1.0
"""Seconds in which a connection that is too many can read that it is."""
