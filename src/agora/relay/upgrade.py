"""
The ordinary request for a WebSocket, answered at once.

Anything else (subprotocols, a body, a header twice, mistakes) is for the WebSocket
core, which parses with care and answers what is wrong (:mod:`agora.relay.websocket`).
"""

from __future__ import annotations

import re

from websockets.utils import accept_key

__all__ = ["answer_upgrade"]

_HEAD = re.compile(
    rb"GET [!-~]+ HTTP/1\.1\r\n"
    rb"((?:[-!#$%&'*+.^_`|~0-9a-zA-Z]+:[\t -~\x80-\xff]*\r\n){1,64})"  # RFC 9110 sections 5.1, 5.5
    rb"\r\n"
)
"""A whole request: its line, and headers that are well formed and not too many."""

_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
"""16 bytes in base64."""

_CONNECTIONS = {b"upgrade", b"keep-alive, upgrade"}
"""What clients ask for; the second is Firefox."""

_NEEDS_CARE = {b"content-length", b"transfer-encoding", b"sec-websocket-protocol"}
"""Headers that could change the answer."""


def answer_upgrade(data: bytes) -> tuple[bytes, int] | None:
    """Return the answer to the request that *data* begins with, and its end; None to decline."""
    head = _HEAD.match(data)
    if head is None:
        return None
    headers: dict[bytes, bytes] = {}
    for line in head[1].splitlines():
        name, _, value = line.partition(b":")
        name = name.lower()
        if name in headers or name in _NEEDS_CARE:
            return None
        headers[name] = value.strip(b" \t")
    key = headers.get(b"sec-websocket-key", b"")
    is_plain = (
        headers.get(b"upgrade", b"").lower() == b"websocket"
        and headers.get(b"connection", b"").lower() in _CONNECTIONS
        and headers.get(b"sec-websocket-version") == b"13"
        and _KEY.fullmatch(key)
    )
    return (_ANSWER % accept_key(key.decode()).encode(), head.end()) if is_plain else None


_ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\n"
    b"\r\n"
)
