"""
What a client reaches its relay by: what every transport does, and with which options.

A transport carries frames, as text, and knows nothing of what they mean to the
conversation. There are two: a WebSocket (:mod:`agora.client.websocket`), and HTTP
requests that do as one (:mod:`agora.client.http_transport`).
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol
from urllib.parse import urlsplit

from agora.errors import ConfigurationError, NotConnectedError
from agora.protocol.client.ways import is_http
from agora.protocol.proof import audience_of

__all__ = [
    "BlockedError",
    "ConnectionLostError",
    "Transport",
    "TransportName",
    "TransportOptions",
    "check_url",
    "tls_context",
    "why",
]


class TransportName(StrEnum):
    """By what a client is connected."""

    WEBSOCKET = "websocket"
    HTTP = "http"


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """
    How to reach a relay.

    Attributes:
        tls: Context for ``wss://`` and ``https://``; None verifies against the system's
            authorities.
        ca_file: File of further authorities (PEM) to trust.
        proxy: True takes it from the environment, None goes direct, or a URL.
        headers: More headers for the handshake, or for every HTTP request.
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
    """
    The connection is gone; ``code`` and ``reason`` as in the close frame, 1006 without one.

    ``retry_after`` is for how long it is better not to come back, in seconds, where that was said.
    """

    def __init__(self, code: int, reason: str, retry_after: float | None = None) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason
        self.retry_after = retry_after or 0.0


class BlockedError(NotConnectedError):
    """Something answers, or swallows, what would open a WebSocket; HTTP may get through."""


class Transport(Protocol):
    """An open way to a relay. :meth:`close` and :meth:`abort` end it also while others wait."""

    @property
    def name(self) -> TransportName:
        """What it is."""
        ...

    async def send(self, text: str) -> None:
        """
        Write a frame; waits while too much is unwritten.

        Raises:
            ConnectionLostError: When the connection is gone.
        """
        ...

    async def receive(self) -> str | bytes:
        """
        Return the next frame; cancelling loses none.

        Raises:
            ConnectionLostError: When the connection is gone.
        """
        ...

    async def close(self) -> None:
        """Write what is unwritten, say goodbye, and wait for the answer a little."""
        ...

    def abort(self) -> None:
        """Let go at once: the other side does not answer."""
        ...

    async def wait_closed(self) -> None:
        """Wait until nothing is left of it, once it was closed or aborted."""
        ...


def check_url(url: str) -> None:
    """Refuse with a ConfigurationError what can be no URL of a relay."""
    try:
        audience_of(url)
    except ConfigurationError as error:
        raise ConfigurationError(f"{url!r} is no URL of a relay ({_URLS})") from error


_URLS = "ws://…, wss://…, http://… or https://…"


def tls_context(url: str, options: TransportOptions) -> ssl.SSLContext | None:
    """
    Return the context for TLS; None where the URL asks for none.

    Raises:
        ConfigurationError: When the authorities cannot be read.
    """
    if urlsplit(url).scheme not in ("wss", "https"):
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


def why(url: str, error: BaseException) -> str:
    """Say what kept us from connecting, in the system's words where it has some for people."""
    text = str(error) or type(error).__name__  # a reset has no words of its own
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        text = os.strerror(error.errno)
    is_no_tls = isinstance(error, ssl.SSLError | ConnectionResetError)
    if is_no_tls and urlsplit(url).scheme in ("wss", "https"):
        text += f"; it may not speak TLS: try {'http' if is_http(url) else 'ws'}://"
    return text
