"""
The ordinary frame, read by a few lines: bytes in, events out, without I/O.

What is whole, unfragmented, masked and plainly right is read here; fragments, a
close, mistakes and handshakes out of the ordinary are for the WebSocket core,
which keeps the rules (:mod:`agora.relay.websocket`). The core is made when such a
thing comes and dropped when all is ordinary again, and bytes are held only while a
frame has come in part: a connection that is idle has neither. Whatever comes, the
events are those that the core alone would have given.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from http import HTTPStatus
from struct import Struct
from typing import Final

from agora.codes import CloseCode
from agora.relay.upgrade import answer_upgrade
from agora.relay.websocket import Event, Pong, Sign, WebSocket, Write

try:
    from websockets.speedups import apply_mask
except ImportError:  # where the library could not be compiled
    from websockets.utils import apply_mask

__all__ = ["Framing", "ping_frame", "text_frame"]


class Framing:
    """
    What comes on one connection, from its handshake to its end.

    Args:
        max_bytes: Largest message taken, all fragments together.

    What comes of one call is to be read to its end before the next bytes are given;
    :meth:`close` may come in between. No method raises on anything a client can send.
    """

    __slots__ = ("_core", "_has_begun", "_held", "_max_bytes", "_wanted")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._has_begun = False
        self._core: WebSocket | None = None  # while anything is out of the ordinary
        self._held: bytearray | None = None  # a frame that has come in part
        self._wanted = 0  # bytes to hold until more can be said of it

    @property
    def is_shaking_hands(self) -> bool:
        """Whether the handshake is not done yet, and has not failed."""
        return self._core.is_shaking_hands if self._core else not self._has_begun

    def receive(self, data: bytes) -> Iterator[Event]:
        """Take bytes, cut anywhere."""
        stream: bytes | bytearray = data
        if self._held is not None:
            self._held += data
            if len(self._held) < self._wanted:
                return
            stream, self._held = self._held, None
        at = 0 if self._has_begun else (yield from self._begin(data))
        while at < len(stream):
            span = None if self._core else _span(stream, at, self._max_bytes)
            if span is None:
                at = yield from self._pass_on(stream, at)
                continue
            first, (body, end) = stream[at], span
            payload = apply_mask(memoryview(stream)[body:end], stream[body - 4 : body])
            if first == _TEXT:
                try:
                    text = payload.decode()
                except UnicodeDecodeError:
                    at = yield from self._pass_on(stream, at)
                    continue
            at = end
            if at == len(stream):
                stream, at = b"", 0  # a large message is there once while it is handled
            if first == _TEXT:
                del payload
                yield text
            else:
                yield from _events_of(first, payload)
        if self._core and self._core.is_at_rest:
            self._core = None  # not sooner: where one such thing is, there are more

    def receive_eof(self) -> Iterator[Event]:
        """Take that the client says no more."""
        self._held = None
        return self._make_core().receive_eof()

    def close(self, code: CloseCode) -> Iterator[Event]:
        """Say goodbye, unless somebody has or the handshake is not done."""
        return self._make_core().close(code)

    def reject(self, status: HTTPStatus, text: str) -> Iterator[Event]:
        """Answer the handshake before it was asked, with an HTTP error."""
        return self._make_core().reject(status, text)

    def _make_core(self) -> WebSocket:
        if self._core is None:
            self._core = WebSocket(self._max_bytes, is_open=self._has_begun)
            self._has_begun = True
        return self._core

    def _begin(self, data: bytes) -> Generator[Event, None, int]:
        """Answer the handshake if it is an ordinary one; return where the frames begin."""
        upgrade = answer_upgrade(data)
        if upgrade is None:
            self._make_core()
            return 0
        self._has_begun = True
        answer, end = upgrade
        yield Write(answer)
        yield Sign.OPENED
        return end

    def _pass_on(self, data: bytes | bytearray, at: int) -> Generator[Event, None, int]:
        """
        Have the core read what begins at *at*, and return where that ends.

        It gets whole frames, so that it can be dropped behind any of them.
        """
        end = self._end_of_part(data, at)
        if end > len(data):
            self._held, self._wanted = bytearray(data[at:]), end - at
            return len(data)
        yield from self._make_core().receive(data[at:end])
        return end

    def _end_of_part(self, data: bytes | bytearray, at: int) -> int:
        """Return where the line or frame at *at* ends, or how far it has to be known."""
        if self._core is None:
            return _end_of_frame(data, at, self._max_bytes)
        if self._core.is_shaking_hands:
            # Frames behind the handshake in the same packet are for after our answer.
            return data.find(b"\n", at) + 1 or len(data)
        if not self._core.is_open:
            return len(data)  # nothing counts any more
        return _end_of_frame(data, at, self._max_bytes - (self._core.part_bytes or 0))


def text_frame(text: str) -> bytes:
    """Return a text message as it is written."""
    data = text.encode()
    size = len(data)
    if size <= _SHORT:
        return bytes((_TEXT, size)) + data
    head = _HEAD_16 if size < 1 << 16 else _HEAD_64
    return head.pack(_TEXT, _IN_16_BITS if size < 1 << 16 else _IN_64_BITS, size) + data


def ping_frame(payload: bytes) -> bytes:
    """Return a ping as it is written; a payload has 125 bytes at most."""
    return bytes((_PING, len(payload))) + payload


# RFC 6455 section 5.2

# First bytes: FIN, no RSV bit, and the opcode.
_TEXT: Final = 0x81
_BINARY: Final = 0x82
_CLOSE: Final = 0x88
_PING: Final = 0x89
_PONG: Final = 0x8A

_ORDINARY: Final = frozenset({_TEXT, _BINARY, _PING, _PONG})

_KNOWN_OPCODES: Final = frozenset({0, 1, 2, 8, 9, 10})

# The largest length that is in the second byte itself, and what says that it follows.
_SHORT: Final = 125
_IN_16_BITS: Final = 126
_IN_64_BITS: Final = 127

_MASKED: Final = 0x80

_HEAD_16: Final = Struct("!BBH")
_HEAD_64: Final = Struct("!BBQ")


def _span(data: bytes | bytearray, at: int, most: int) -> tuple[int, int] | None:
    """Return where the payload of the frame at *at* begins and ends; None unless it is ordinary."""
    room = len(data) - at
    if room < 6 or data[at] not in _ORDINARY:
        return None
    length, body = data[at + 1] - _MASKED, at + 6
    if length > _SHORT:
        if data[at] >= _CLOSE or room < 14:
            return None
        if length == _IN_16_BITS:
            length, body = data[at + 2] << 8 | data[at + 3], at + 8
        else:
            length, body = int.from_bytes(data[at + 2 : at + 10]), at + 14
    end = body + length
    return (body, end) if 0 <= length <= most and end <= len(data) else None


def _events_of(first: int, payload: bytes) -> Iterator[Event]:
    """Return what comes of an ordinary frame that is no text."""
    if first == _BINARY:
        yield payload
    elif first == _PONG:
        yield Pong(payload)
    else:
        yield Write(bytes((_PONG, len(payload))) + payload)
        yield Sign.PINGED


def _end_of_frame(data: bytes | bytearray, at: int, most: int) -> int:
    """
    Return where the frame at *at* ends, as far as can be said; what is there when it is refused.

    A frame is refused by its head when its opcode is unknown, it has no mask, or
    it is too long: the core does so as soon as it sees that.
    """
    room = len(data) - at
    if room < 2:
        return at + 2
    length, body = data[at + 1] - _MASKED, at + 6
    if length < 0 or data[at] & 0x0F not in _KNOWN_OPCODES:
        return len(data)
    if length > _SHORT:
        body = at + (8 if length == _IN_16_BITS else 14)
        if room < body - at - 4:
            return body - 4
        length = int.from_bytes(data[at + 2 : body - 4])
    return body + length if length <= most else len(data)
