"""
One client on the stage: it does what its steps say, and remembers what it heard.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence

from .comparing import Frame
from .situations import Step
from .sockets import Heard, Manners, RawSocket

__all__ = ["Player", "joined", "manners"]

PING = b'{"type":"ping"}'
PONG = '{"type":"pong"}'

_HANDSHAKE = {
    "origin": "Origin",
    "extensions": "Sec-WebSocket-Extensions",
    "subprotocol": "Sec-WebSocket-Protocol",
}


class Player:
    """
    A client and its socket.

    Attributes:
        socket: Where it sends.
        is_over: Whether it has heard the end of its connection.
        frames: Every frame that it heard.
    """

    def __init__(self, socket: RawSocket) -> None:
        self.socket = socket
        self.is_over = False
        self.frames: list[Frame] = []
        self._is_registered = False
        self._early: deque[Heard] = deque()

    def do(self, step: Step) -> None:
        """Do what a ``from`` step says."""
        match step:
            case {"text": text}:
                self.socket.send_text(joined(text).encode())
            case {"text_hex": data}:
                self.socket.send_text(bytes.fromhex(data))
            case {"binary": text}:
                self.socket.send_binary(text.encode())
            case {"binary_hex": data}:
                self.socket.send_binary(bytes.fromhex(data))
            case {"fragments": texts}:
                self.socket.send_fragments([text.encode() for text in texts])
            case {"raw": data}:
                self.socket.send_raw(bytes.fromhex(data))
            case {"ping": text}:
                self.socket.send_ping(text.encode())
            case {"close": True}:
                self.socket.close()
            case {"vanish": True}:
                self.socket.vanish()
            case _:
                raise ValueError(f"no such step: {step}")

    async def hear(self) -> Heard:
        """Wait for the next message, or the end."""
        heard = self._early.popleft() if self._early else await self.socket.messages.get()
        self.is_over = self.is_over or heard.kind == "close"
        return heard

    async def hear_frame(self) -> Frame:
        """Wait for the next message, which is a frame."""
        heard = await self.hear()
        assert heard.kind == "text", f"heard {heard}"
        frame: Frame = json.loads(heard.text)
        self.frames.append(frame)
        self._is_registered = self._is_registered or frame["type"] == "registered"
        return frame

    async def hear_control(self, kind: str, payload: str | None) -> None:
        """Wait for a WebSocket ping or pong; what other control frames come is not told."""
        while (heard := await self.socket.controls.get()).kind != kind:
            pass
        assert payload in (None, heard.text)

    async def settle(self) -> None:
        """Wait until the relay has done all that this client told it."""
        if self.is_over or not self._is_registered:
            return  # the current reference closes on a ping before registration
        self.socket.send_text(PING)
        while (heard := await self.socket.messages.get()).text != PONG:
            self._early.append(heard)
            if heard.kind == "close":
                return

    def unheard(self) -> Sequence[str]:
        """Return what has come in and was not told of."""
        while not self.socket.messages.empty():
            self._early.append(self.socket.messages.get_nowait())
        return [str(heard) for heard in self._early]

    def check_handshake(self, recorded: dict[str, str | None]) -> None:
        """Assert that the relay agreed to this and no more."""
        heard = {name: self.socket.handshake.get(_HANDSHAKE[name]) for name in recorded}
        assert heard == recorded


def manners(*, path: str = "/", answers_pings: bool = True, **headers: str) -> Manners:
    """Return how a client comes in, from the members of an ``open`` step."""
    named = tuple((_HANDSHAKE[name], value) for name, value in headers.items())
    return Manners(path, named, answers_pings)


def joined(pieces: str | list[str | list[str | int]]) -> str:
    """
    Put a text together from its pieces.

    >>> joined(["<", ["ab", 3], ">"])
    '<ababab>'
    """
    if isinstance(pieces, str):
        return pieces
    return "".join(p if isinstance(p, str) else str(p[0]) * int(p[1]) for p in pieces)
