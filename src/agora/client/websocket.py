"""
A WebSocket to a relay, opened with whatever the network between needs.

Everything about proxies, headers and TLS is the ``websockets`` library's.
"""

from __future__ import annotations

import ssl

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

from agora.client.transport import (
    BlockedError,
    ConnectionLostError,
    TransportName,
    TransportOptions,
    tls_context,
    why,
)
from agora.codes import ABNORMAL_CLOSE
from agora.errors import ConfigurationError, NotConnectedError

__all__ = ["WebSocket", "open_websocket"]


class WebSocket:
    """An open WebSocket, as a :class:`~agora.client.transport.Transport`."""

    name = TransportName.WEBSOCKET

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def send(self, text: str) -> None:
        """Write a message; waits while the socket's buffer is full."""
        try:
            await self._socket.send(text)
        except ConnectionClosed as error:
            raise _lost(error) from error

    async def receive(self) -> str | bytes:
        """Return the next message."""
        try:
            return await self._socket.recv()
        except ConnectionClosed as error:
            raise _lost(error) from error

    async def close(self) -> None:
        """Say goodbye, and wait for the answer a little."""
        await self._socket.close()

    def abort(self) -> None:
        """Let go of the socket at once."""
        self._socket.transport.abort()

    async def wait_closed(self) -> None:
        """Return: the event loop closes the socket."""


async def open_websocket(url: str, options: TransportOptions) -> WebSocket:
    """
    Connect to *url*.

    Raises:
        ConfigurationError: When trying again would not help: not a WebSocket URL, or a
            certificate that does not verify, authorities that cannot be read, or a
            proxy that is none.
        BlockedError: When something is there, and it is no WebSocket that opens.
        NotConnectedError: When nobody is there.
    """
    _check_host(url)
    context = tls_context(url, options)
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
        raise BlockedError(f"{url} answered HTTP {status} instead of a WebSocket") from error
    except (TimeoutError, ConnectionResetError, InvalidHandshake, WebSocketException) as error:
        raise BlockedError(f"no relay at {url}: {why(url, error)}") from error
    except OSError as error:
        raise NotConnectedError(f"no relay at {url}: {why(url, error)}") from error
    return WebSocket(socket)


_CLOSE_TIMEOUT = 2.0
"""Seconds a relay has to answer our close."""


def _check_host(url: str) -> None:
    """Refuse what the library would not look up; who the relay is was checked before."""
    try:
        parse_uri(url).host.encode("idna")  # as it will be looked up
    except (InvalidURI, ValueError) as error:  # ValueError: a port or a host that is none
        raise ConfigurationError(f"{url!r} is no WebSocket URL (ws://… or wss://…)") from error


def _lost(error: ConnectionClosed) -> ConnectionLostError:
    received = error.rcvd
    if received is None:
        return ConnectionLostError(ABNORMAL_CLOSE, "")
    return ConnectionLostError(received.code, received.reason)
