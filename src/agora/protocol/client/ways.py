"""
Ways to a relay that has two: its WebSocket, and HTTP for where that does not get through.

The WebSocket is taken wherever it works. Where something between blocks it, HTTP
is, and the WebSocket is tried again after a while that grows each time: what
blocks it is a network that an agent may have left meanwhile.
"""

from __future__ import annotations

import math
from urllib.parse import urlsplit

from agora.errors import ConfigurationError
from agora.protocol.client.timing import Timing
from agora.protocol.proof import audience_of

__all__ = ["Ways", "conventional_fallback", "is_http"]


def is_http(url: str) -> bool:
    """Tell whether a relay is reached by HTTP requests at *url*, not by a WebSocket."""
    return _scheme(url) in _HTTP.values()


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError:  # brackets that are not closed
        return ""


_HTTP = {"ws": "http", "wss": "https"}

_SHARED_PORTS = (80, 443)
"""Where a proxy stands in front, which serves both at one place."""


def conventional_fallback(url: str) -> str:
    """
    Return where a relay with its WebSocket at *url* speaks HTTP unless told otherwise.

    That is the port above, as ``agora relay`` has it; on the ports that URLs leave
    out it is the same, as proxies have it.

    >>> conventional_fallback("ws://localhost:9470"), conventional_fallback("wss://a.example/x")
    ('http://localhost:9471', 'https://a.example')

    Raises:
        ConfigurationError: When it is no WebSocket URL, or has no port above.
    """
    scheme = _HTTP.get(_scheme(url))
    if scheme is None:
        raise ConfigurationError(f"{url!r} is no WebSocket URL (ws://… or wss://…)")
    host, _, port = audience_of(url).rpartition(":")
    if int(port) in _SHARED_PORTS:
        is_implied = int(port) == (443 if scheme == "https" else 80)
        return f"{scheme}://{host}" + ("" if is_implied else f":{port}")
    above = f"{scheme}://{host}:{int(port) + 1}"
    audience_of(above)  # there may be no port above
    return above


class Ways:
    """
    Which of two ways is taken, by what became of them.

    Args:
        url: The relay.
        fallback: Where it speaks HTTP; None where there is no other way.
        timing: How long a WebSocket that is blocked is left alone.

    Attributes:
        again_at: When the WebSocket is to be tried again; infinity while it works.
    """

    def __init__(self, url: str, fallback: str | None, timing: Timing) -> None:
        self.url = url
        self.fallback = fallback
        self.again_at = math.inf
        self._timing = timing
        self._times_blocked = 0

    def to_try(self, now: float) -> tuple[str, ...]:
        """Return the URLs to try now, the first one first; the second if that one is blocked."""
        if self.fallback is None:
            return (self.url,)
        if now < self.again_at < math.inf:
            return (self.fallback, self.url)
        return (self.url, self.fallback)

    def note_blocked(self, now: float) -> None:
        """The WebSocket did not get through."""
        wait = self._timing.websocket_first * 2 ** min(self._times_blocked, _MAX_DOUBLINGS)
        self.again_at = now + min(wait, self._timing.websocket_cap)
        self._times_blocked += 1

    def note_open(self, url: str) -> None:
        """We are registered by way of *url*."""
        if url == self.url:
            self.again_at, self._times_blocked = math.inf, 0


_MAX_DOUBLINGS = 16
"""Twice as often as any cap asks for, and far from the end of floats."""
