"""
HTTP on the relay's own event loop: uvicorn's reading and writing, our sockets, bounds and end.

Of uvicorn only its protocol is used, the class that makes ASGI calls of bytes:
its server brings signal handlers, logging and ten wake-ups a second with it. What
the protocol leaves open is bounded here: how long a request may take to come,
how large its head may be, how long an answer may wait for its reader.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import ssl
import sys
import time
from collections.abc import Callable
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from agora.codes import ErrorCode, HttpErrorCode
from agora.keys import PeerId
from agora.relay.config import RelayConfig
from agora.relay.http.app import make_app
from agora.relay.http.door import Audiences, Door, open_door
from agora.relay.http.errors import ApiError
from agora.relay.http.gate import Gate
from agora.relay.metrics import Traffic
from agora.relay.node import Node
from agora.relay.overview import Overview
from agora.relay.writer import Writer

__all__ = ["HttpServer", "make_server"]


class HttpServer:
    """
    The HTTP side of one relay.

    Args:
        door: What it serves.
        tls: The certificate; None for plain HTTP.
        is_welcome: Tells whether there is room for one more connection.
    """

    def __init__(
        self, door: Door, *, tls: ssl.SSLContext | None, is_welcome: Callable[[], bool]
    ) -> None:
        self._door = door
        self._tls = tls
        self._state = ServerState()
        self._config = _uvicorn_config(door)
        self._is_welcome = is_welcome
        self._server: asyncio.Server | None = None
        self._ticker: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Count the open connections."""
        return len(self._state.connections)

    @property
    def port(self) -> int:
        """The port it listens on, once started."""
        assert self._server is not None  # started
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self, host: str, port: int, *, backlog: int) -> None:
        """
        Listen.

        Raises:
            OSError: When it cannot.
        """
        self._server = await asyncio.get_running_loop().create_server(
            self._accept,
            host,
            port,
            ssl=self._tls,
            ssl_handshake_timeout=self._door.config.register_timeout if self._tls else None,
            backlog=backlog,
        )
        self._tick()

    def _accept(self) -> _Protocol:
        return _Protocol(
            self._config,
            self._state,
            app_state={},
            bounds=self._door.config,
            traffic=self._door.overview.metrics.http,
            is_welcome=self._is_welcome,
        )

    async def change_config(self, config: RelayConfig) -> None:
        """Go by other limits: rates from now on, what bounds a request on new connections."""
        self._door.change_config(config)
        # The bound on a body is part of the application, which each connection has from its start.
        self._config = await asyncio.to_thread(_uvicorn_config, self._door)

    def begin_stop(self) -> None:
        """Take no new connection and no new request; what is kept waiting gets its answer now."""
        if self._server is not None:
            self._server.close()
        self._door.begin_stop()
        for connection in list(self._state.connections):
            connection.shutdown()

    async def wait_answered(self, timeout: float) -> None:
        """Return when all answers are written, or when that took too long."""
        if self._state.tasks:
            await asyncio.wait(list(self._state.tasks), timeout=timeout)
        await self._door.finish()

    def drop_all(self) -> None:
        """End whatever is left, now."""
        if self._ticker is not None:
            self._ticker.cancel()
        for task in self._state.tasks:
            task.cancel()
        for connection in list(self._state.connections):
            if not connection.transport.is_closing():
                connection.transport.close()
        self._door.sessions.end_all()

    def _tick(self) -> None:
        self._ticker = asyncio.get_running_loop().call_later(_TICK, self._tick)
        self._state.default_headers = [(b"date", formatdate(time.time(), usegmt=True).encode())]
        self._door.tick()


def _uvicorn_config(door: Door) -> uvicorn.Config:
    """Return what connections have in common, the application in it."""
    config = uvicorn.Config(
        make_app(door),
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        interface="asgi3",
        timeout_keep_alive=door.config.http_idle_timeout,  # type: ignore[arg-type]
    )
    config.load()
    return config


async def make_server(
    config: RelayConfig,
    node: Node,
    *,
    relay: PeerId,
    writer: Writer,
    audiences: Audiences,
    overview: Overview,
    admin_token: str,
    tls: ssl.SSLContext | None,
    is_welcome: Callable[[], bool],
) -> HttpServer:
    """
    Return the HTTP side of *node*, which does not listen yet.

    Raises:
        ConfigurationError: When a file of its tokens cannot be read.
    """
    open_it = partial(
        open_door,
        config,
        node,
        relay=relay,
        writer=writer,
        audiences=audiences,
        overview=overview,
        admin_token=admin_token,
    )
    return HttpServer(await asyncio.to_thread(open_it), tls=tls, is_welcome=is_welcome)


_TICK = 1.0
"""Seconds between two looks at what is due."""


class _Protocol(HttpToolsProtocol):
    """
    One connection.

    Args:
        args: As uvicorn has them.
        bounds: How long, and how large.
        traffic: Where bytes are counted.
        is_welcome: Tells whether there is room for one more connection.
        kwargs: As uvicorn has them.
    """

    def __init__(
        self,
        *args: Any,
        bounds: RelayConfig,
        traffic: Traffic,
        is_welcome: Callable[[], bool],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._traffic = traffic
        self.logger = _log
        self.access_log = False
        self._bounds = bounds
        self._is_welcome = is_welcome
        self._is_refused = False
        self._farewell: ApiError | None = None  # said when those before it have their answers
        self._came = b""
        self._cycle_before: RequestResponseCycle | None = None
        self._is_reading = False
        self._is_in_head = True
        self._is_in_body = False
        self._has_ended_one = False  # in what came last
        self._head_bytes = 0
        self._request_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request; who is too many is told so, and let go."""
        is_welcome = self._is_welcome()
        super().connection_made(cast(asyncio.Transport, _Counted(transport, self._traffic)))
        _notice_the_dead(transport, self._bounds.http_write_timeout)
        if not is_welcome:
            text = "Relay is at capacity (max_connections)"
            self._turn_away(ApiError(ErrorCode.AT_CAPACITY, text, retryAfterMs=1000))
            return
        self._start_request_timer()

    def data_received(self, data: bytes) -> None:
        """Read on, within bounds."""
        self._traffic.received += len(data)
        if self.transport.is_closing() or self._is_refused:
            return
        self._begin_reading()
        self._has_ended_one = False
        self._came = data
        super().data_received(data)
        self._came = b""
        # What is in a header that has not ended, only its bytes tell; unless others are with them.
        if self._is_in_head and not self._has_ended_one:
            self._head_bytes += len(data)
        if self._head_bytes > self._bounds.http_max_head_bytes:
            self._refuse_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._stop_request_timer()
        self._stop_write_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """What is to be sent waits for its reader, but not for ever."""
        super().pause_writing()
        self._start_write_timer()

    def resume_writing(self) -> None:
        """The reader has caught up."""
        super().resume_writing()
        self._stop_write_timer()

    # What uvicorn's protocol calls

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._begin_reading()
        self._is_in_head = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Take a piece of the path."""
        self._head_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._head_bytes += len(name) + len(value) + len(b": \r\n")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there; the application may begin."""
        if self._head_bytes > self._bounds.http_max_head_bytes:
            self._refuse_head()
        self._is_in_head = False
        if not self._is_refused:
            self._cycle_before = self.cycle
            super().on_headers_complete()
            self._is_in_body = True

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body, unless the request was refused."""
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is there as a whole."""
        self._is_reading = self._is_in_body = False
        self._has_ended_one = True
        self._stop_request_timer()
        if not self._is_refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is written; if it was the last, its reader has a while to take it."""
        is_last = not self.pipeline
        super().on_response_complete()
        if self.transport.is_closing():
            self._start_write_timer()
        elif is_last and self._farewell is not None:
            self._write_last(self._farewell)

    def timeout_keep_alive_handler(self) -> None:
        """Close what nobody uses."""
        super().timeout_keep_alive_handler()
        self._start_write_timer()

    def send_400_response(self, msg: str) -> None:
        """Say that this is no HTTP, or asks for what nobody knows (RFC 9110 section 15.6.2)."""
        is_method = isinstance(sys.exc_info()[1], httptools.HttpParserInvalidMethodError)
        said = None if self._has_ended_one else _REQUEST_LINE.match(self._came)
        if is_method and said:
            text = f"Unknown method {said[1].decode()}"
            self._turn_away(ApiError(HttpErrorCode.UNKNOWN_METHOD, text))
        else:
            self._turn_away(ApiError(ErrorCode.INVALID_MESSAGE, msg))

    def _unsupported_upgrade_warning(self) -> None:
        self.cycle.keep_alive = False  # what comes behind it is not HTTP

    # Bounds

    def _refuse_head(self) -> None:
        most = self._bounds.http_max_head_bytes
        text = f"Request line and headers exceed http_max_head_bytes of {most}"
        self._turn_away(ApiError(HttpErrorCode.HEADERS_TOO_LARGE, text))

    def _refuse_slow(self) -> None:
        if self.flow.read_paused:  # it is we who do not read
            self._start_request_timer()
        elif not self._is_reading:
            self.transport.close()  # nothing was begun: nothing to say
        else:
            text = f"The request was not there within {self._bounds.http_request_timeout:g} s"
            self._turn_away(ApiError(HttpErrorCode.REQUEST_TIMEOUT, text))

    def _turn_away(self, error: ApiError) -> None:
        """Answer before the application does, and close; answers keep the order of asking."""
        if self.transport.is_closing() or self._is_refused:
            return
        self._is_refused = True
        self._stop_request_timer()
        if self._is_in_body and not (self.pipeline and self.pipeline[0][0] is self.cycle):
            # The application has it, and may have begun with the answer.
            self._write_last(None if self.cycle.response_started else error)
            return
        if self._is_in_body:
            self.pipeline.popleft()  # it waited for its turn, which does not come
            self.cycle = cast(RequestResponseCycle, self._cycle_before)
        cycle: RequestResponseCycle | None = self.cycle  # none before the first head is there
        if cycle is None or cycle.response_complete:
            self._write_last(error)
        else:
            self._farewell = error

    def _write_last(self, error: ApiError | None) -> None:
        if error is not None:
            beside = cast(Gate, self.app).beside(self.client, self.headers or [])
            self.transport.write(_answer(error, [*self.server_state.default_headers, *beside]))
        self.transport.close()
        self._start_write_timer()

    def _begin_reading(self) -> None:
        if not self._is_reading:
            self._is_reading = True
            self._start_request_timer()

    def _start_request_timer(self) -> None:
        self._stop_request_timer()
        seconds = self._bounds.http_request_timeout
        self._request_timer = self.loop.call_later(seconds, self._refuse_slow)

    def _stop_request_timer(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _start_write_timer(self) -> None:
        if self._write_timer is None:
            seconds = self._bounds.http_write_timeout
            self._write_timer = self.loop.call_later(seconds, self.transport.abort)

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


class _Counted:
    """A transport that counts what is written to it."""

    def __init__(self, transport: asyncio.Transport, traffic: Traffic) -> None:
        self._transport = transport
        self._traffic = traffic

    def write(self, data: bytes) -> None:
        self._traffic.sent += len(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) \S+ HTTP/1\.[01]\r?\n")
"""What a request begins with, whatever its method (RFC 9112 section 3)."""

_log = logging.getLogger("agora.relay.http")
_log.setLevel(logging.ERROR)  # what strangers send is no warning


def _answer(error: ApiError, headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return the bytes of an answer that nothing more comes after."""
    head = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}".encode()]
    head += [b"%b: %b" % pair for pair in headers]
    head += [f"{name}: {value}".encode() for name, value in error.headers.items()]
    head += [b"content-type: application/json", b"connection: close"]
    head += [b"content-length: %d" % len(error.body), b"", b""]
    return b"\r\n".join(head) + error.body


def _notice_the_dead(transport: asyncio.Transport, seconds: float) -> None:
    """Have the kernel end a connection whose other end is gone without a word."""
    raw = transport.get_extra_info("socket")
    option = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux
    if raw is not None and option is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.IPPROTO_TCP, option, int(seconds * 1000))
