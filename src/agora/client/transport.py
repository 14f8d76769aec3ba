"""
The client's socket: a WebSocket, opened with whatever the network between needs.

Everything about proxies, headers and TLS is the ``websockets`` library's.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    WebSocketException,
)
from websockets.uri import parse_uri

from agora.codes import ABNORMAL_CLOSE
from agora.errors import ConfigurationError, NotConnectedError

__all__ = ["ConnectionLostError", "Transport", "TransportOptions", "check_url", "open_transport"]


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """
    How to reach a relay.

    Attributes:
        tls: Context for ``wss://``; None verifies against the system's authorities.
        ca_file: File of further authorities (PEM) to trust.
        proxy: True takes it from the environment, None goes direct, or a URL.
        headers: More headers for the handshake.
        open_timeout: Seconds for TCP, TLS and handshake together.
        max_answer_bytes: Largest message taken from the relay.
    """

    tls: ssl.SSLContext | None = None
    ca_file: str | None = None
    proxy: str | Literal[True] | None = True
    headers: Mapping[str, str] = field(default_factory=dict)
    open_timeout: float = 10.0
    # A peer list of 10,000 names is 2 MiB; this leaves room for a larger relay.
    max_answer_bytes: int = 16 * 1024 * 1024


class ConnectionLostError(Exception):
    """The connection is gone; ``code`` and ``reason`` as in the close frame, 1006 without one."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class Transport:
    """An open WebSocket. :meth:`close` lets it go, also while another task receives."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def send(self, text: str) -> None:
        """
        Write a message; waits while the socket's buffer is full.

        Raises:
            ConnectionLostError: When the connection is gone.
        """
        try:
            await self._socket.send(text)
        except ConnectionClosed as error:
            raise _lost(error) from error

    async def receive(self) -> str | bytes:
        """
        Return the next message; cancelling loses none.

        Raises:
            ConnectionLostError: When the connection is gone.
        """
        try:
            return await self._socket.recv()
        except ConnectionClosed as error:
            raise _lost(error) from error

    async def close(self) -> None:
        """Say goodbye, and wait for the answer a little."""
        await self._socket.close()

    def abort(self) -> None:
        """Let go of the socket at once: the other side does not answer."""
        self._socket.transport.abort()


async def open_transport(url: str, options: TransportOptions) -> Transport:
    """
    Connect to *url*.

    Raises:
        ConfigurationError: When trying again would not help: not a WebSocket URL, or a
            certificate that does not verify, authorities that cannot be read, or a
            proxy that is none.
        NotConnectedError: When nobody answers, or not as a relay does.
    """
    check_url(url)
    context = _tls_context(url, options)
    try:
        socket = await connect(
            url,
            ssl=context,
            proxy=options.proxy,
            additional_headers=dict(options.headers),
            open_timeout=options.open_timeout,
            max_size=options.max_answer_bytes,
            compression=None,  # signed hex does not shrink; and one thing less to attack
            ping_interval=None,  # the protocol core asks for signs of life itself
            close_timeout=_CLOSE_TIMEOUT,
        )
    except (InvalidProxy, ImportError) as error:  # SOCKS needs a library that may be missing
        raise ConfigurationError(f"cannot use the proxy {options.proxy}: {error}") from error
    except ssl.SSLCertVerificationError as error:
        raise ConfigurationError(
            f"the certificate of {url} does not verify: {error.verify_message}"
        ) from error
    except InvalidStatus as error:
        status = error.response.status_code
        raise NotConnectedError(f"{url} answered HTTP {status} instead of a WebSocket") from error
    except (OSError, TimeoutError, InvalidHandshake, WebSocketException) as error:
        raise NotConnectedError(f"no relay at {url}: {_why(url, error)}") from error
    return Transport(socket)


def _why(url: str, error: Exception) -> str:
    """Say what kept us from connecting, in the system's words where it has some for people."""
    why = str(error) or type(error).__name__  # a reset has no words of its own
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        why = os.strerror(error.errno)
    is_no_tls = isinstance(error, ssl.SSLError | ConnectionResetError)
    if is_no_tls and urlsplit(url).scheme == "wss":
        why += "; it may not speak TLS: try ws://"
    return why


_CLOSE_TIMEOUT = 2.0
"""Seconds a relay has to answer our close."""


def check_url(url: str) -> None:
    """Refuse with a ConfigurationError what can be no WebSocket URL."""
    try:
        parse_uri(url).host.encode("idna")  # as it will be looked up
    except (InvalidURI, ValueError) as error:  # ValueError: a port or a host that is none
        raise ConfigurationError(f"{url!r} is no WebSocket URL (ws://… or wss://…)") from error


def _tls_context(url: str, options: TransportOptions) -> ssl.SSLContext | None:
    if urlsplit(url).scheme != "wss":
        return None
    context = options.tls or ssl.create_default_context()
    if options.ca_file is not None:
        try:
            context.load_verify_locations(options.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"cannot read authorities from {options.ca_file}: {error}"
            ) from error
    return context


def _lost(error: ConnectionClosed) -> ConnectionLostError:
    received = error.rcvd
    if received is None:
        return ConnectionLostError(ABNORMAL_CLOSE, "")
    return ConnectionLostError(received.code, received.reason)
