"""
The way in: opens a connection to a relay, by its WebSocket or, where that is blocked, by HTTP.

Which way is taken when, :mod:`agora.protocol.client.ways` decides.
"""

from __future__ import annotations

import asyncio
import importlib.util
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from agora.client.transport import (
    BlockedError,
    Transport,
    TransportName,
    TransportOptions,
    check_url,
)
from agora.client.websocket import open_websocket
from agora.errors import AgoraError, ConfigurationError, MissingExtraError, NotConnectedError
from agora.keys import KeyPair
from agora.protocol.client.handshake import Handshake, Introduction
from agora.protocol.client.timing import Timing
from agora.protocol.client.ways import Ways, conventional_fallback, is_http

__all__ = ["WayIn", "fallback_of"]


class WayIn:
    """
    Opens connections to one relay.

    Args:
        url: The relay, by WebSocket or by HTTP.
        fallback: Where it speaks HTTP, for when its WebSocket is blocked; None for nowhere.
        options: How to reach it.
        keys: Who registers there.
        introduce: Tells what is said of us at a URL, and who is expected there.
        timing: How long to wait for what.

    Attributes:
        blocked: Why the WebSocket was not taken, the last time it was not.
    """

    def __init__(
        self,
        url: str,
        fallback: str | None,
        options: TransportOptions,
        *,
        keys: KeyPair,
        introduce: Callable[[str], Awaitable[Introduction]],
        timing: Timing,
    ) -> None:
        self.blocked: AgoraError | None = None
        self._ways = Ways(url, fallback, timing)
        self._options = options
        self._keys = keys
        self._introduce = introduce
        self._timing = timing
        self._moved: Transport | None = None  # open already, for the next conversation

    async def open(self) -> tuple[Transport, Introduction]:
        """
        Connect, by the first way that opens.

        Raises:
            ConfigurationError: When trying again would not help.
            MissingExtraError: When the way is HTTP, and that part is not installed.
            NotConnectedError: When no way opens.
        """
        check_url(self._ways.url)
        first, *others = self._ways.to_try(time.monotonic())
        try:
            return await self._open(first)
        except NotConnectedError as error:
            if not others or not (is_http(first) or isinstance(error, BlockedError)):
                raise
            return await self._open_other(others[0], error)

    async def _open_other(self, url: str, error: AgoraError) -> tuple[Transport, Introduction]:
        try:
            return await self._open(url)
        except AgoraError as second:
            raise NotConnectedError(f"{error}; nor by the other way: {second}") from second

    async def _open(self, url: str) -> tuple[Transport, Introduction]:
        introduction = await self._introduce(url)
        if is_http(url):
            return await self._open_http(url), introduction
        try:
            return self._take_moved() or await self._open_websocket(url), introduction
        except BlockedError as error:
            self.note_blocked(error)
            raise

    async def _open_websocket(self, url: str) -> Transport:
        options = self._options
        if self._ways.fallback is not None:  # somebody waits for the other way
            options = replace(options, open_timeout=min(options.open_timeout, self._timing.blocked))
        return await open_websocket(url, options)

    async def _open_http(self, url: str) -> Transport:
        _check_extra()
        open_http = await asyncio.to_thread(_import_http)

        async def prove_again() -> Handshake:
            return Handshake(self._keys, await self._introduce(url))

        return await open_http(url, self._options, timing=self._timing, prove_again=prove_again)

    # What became of it

    def note_opened(self, transport: Transport) -> None:
        """We are registered over *transport*."""
        if transport.name is TransportName.WEBSOCKET:
            self._ways.note_open(self._ways.url)
            self.blocked = None

    def note_blocked(self, error: AgoraError) -> None:
        """The WebSocket does not get through."""
        self.blocked = error
        self._ways.note_blocked(time.monotonic())

    # Back to the WebSocket

    def is_detour(self, transport: Transport) -> bool:
        """Tell whether *transport* is only taken because the WebSocket is blocked."""
        return self._ways.fallback is not None and transport.name is TransportName.HTTP

    async def wait_unblocked(self) -> None:
        """Wait until the WebSocket opens again; the next connection is then that one."""
        while self._moved is None:
            await asyncio.sleep(max(0.0, self._ways.again_at - time.monotonic()))
            try:
                self._moved = await open_websocket(self._ways.url, self._options)
            except AgoraError as error:
                self.note_blocked(error)

    def _take_moved(self) -> Transport | None:
        moved, self._moved = self._moved, None
        return moved

    def close(self) -> None:
        """Let go of what was opened and not taken."""
        if self._moved is not None:
            self._moved.abort()
            self._moved = None


def fallback_of(url: str, fallback: str | bool | None) -> str | None:
    """
    Return where to fall back to, as asked for with *fallback*; see :class:`agora.Client`.

    Raises:
        ConfigurationError: When that is no HTTP URL.
        MissingExtraError: When it was asked for, and that part is not installed.
    """
    if fallback is False or is_http(url):
        return None
    if isinstance(fallback, str):
        if not is_http(fallback):
            raise ConfigurationError(f"fallback of {fallback!r} is no HTTP URL (http…, https…)")
        check_url(fallback)
    if fallback is None and not _has_extra():
        return None
    _check_extra()
    try:
        return fallback if isinstance(fallback, str) else conventional_fallback(url)
    except ConfigurationError:
        if fallback is None:
            return None  # a bad URL is said when it is dialled
        raise


def _has_extra() -> bool:
    return importlib.util.find_spec("httpx2") is not None


def _check_extra() -> None:
    if not _has_extra():
        raise MissingExtraError(
            "httpx2 is not installed: pip install 'agora-relay[http]' to reach a relay by HTTP"
        )


def _import_http() -> Callable[..., Awaitable[Transport]]:
    # Only now: who has no use for it need neither install it nor wait for its import.
    from agora.client.http_transport import open_http

    return open_http
