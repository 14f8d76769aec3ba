"""
The client's side of RFC 6455, as bytes: enough for a load generator, and no more.

Frames are made whole and masked before they are needed. What comes is cut at frame
headers; nobody looks into it here. Extensions are not asked for, and fragments,
which no relay of ours or of the reference sends, are refused.
"""

from __future__ import annotations

from base64 import b64encode

from websockets.utils import accept_key, apply_mask

from agora.errors import AgoraError

__all__ = [
    "BINARY",
    "CLOSE",
    "MASK_BYTES",
    "PING",
    "PONG",
    "TEXT",
    "FrameReader",
    "WireError",
    "accept_of",
    "client_frame",
    "handshake_request",
    "is_accepted",
]

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA

MASK_BYTES = 4
KEY_BYTES = 16

_FINAL = 0x80
_MASKED = 0x80


class WireError(AgoraError):
    """The other side does not speak WebSocket as a relay does."""

    code = "wire"


# The handshake


def handshake_request(host: str, path: str, key: bytes) -> bytes:
    """Return the request that opens a WebSocket; *key* is 16 bytes, fresh for each."""
    return (
        f"GET {path} HTTP/1.1\r\n"
        f"Host: {host}\r\n"
        "Upgrade: websocket\r\n"
        "Connection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {b64encode(key).decode()}\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def accept_of(key: bytes) -> str:
    """Return what the answer to a handshake with *key* has to hold."""
    return accept_key(b64encode(key).decode())


def is_accepted(head: bytes, key: bytes) -> bool:
    """Tell whether an answer, up to its empty line, opens the WebSocket asked for with *key*."""
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in map(_halves, lines)}
    return " 101 " in f"{status} " and headers.get("sec-websocket-accept") == accept_of(key)


def _halves(line: str) -> tuple[str, str, str]:
    return line.partition(":")


# Frames


def client_frame(payload: bytes, mask: bytes, opcode: int = TEXT) -> bytes:
    """
    Return one frame as clients write it, masked with the four bytes of *mask*.

    >>> client_frame(b"Hello", bytes.fromhex("37fa213d")).hex()  # RFC 6455 section 5.7
    '818537fa213d7f9f4d5158'
    """
    size = len(payload)
    if size < 126:
        head = bytes((_FINAL | opcode, _MASKED | size))
    elif size < 65_536:
        head = bytes((_FINAL | opcode, _MASKED | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((_FINAL | opcode, _MASKED | 127)) + size.to_bytes(8, "big")
    return head + mask + apply_mask(payload, mask)


class FrameReader:
    """Cuts what a server sends into frames, whatever pieces it comes in."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """
        Return the frames that are whole now, each as its opcode and its payload.

        Raises:
            WireError: For a fragment, a reserved bit, or a masked frame.
        """
        if self._rest:
            data = self._rest + data
        frames = []
        start, size = 0, len(data)
        while size - start >= 2:
            first, length = data[start], data[start + 1]
            body = start + 2
            if length > 125:
                body += 2 if length == 126 else 8
                if body > size:
                    break
                length = _long_length(length, data[start + 2 : body])
            end = body + length
            if end > size:
                break
            if not 0x80 < first < 0x90:
                raise WireError(f"a frame begins with {first:#04x}: a fragment, or not plain")
            frames.append((first & 0x0F, data[body:end]))
            start = end
        self._rest = data[start:] if start else data
        return frames


def _long_length(code: int, data: bytes) -> int:
    if code > 127:
        raise WireError("a server does not mask its frames (RFC 6455 section 5.1)")
    return int.from_bytes(data, "big")
