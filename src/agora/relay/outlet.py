"""
What the connections of a relay write in one turn of the loop, handed over together.

Ten messages that come in one packet for the same peer leave in one as well: the
calls into the kernel are what costs. Nothing is kept for longer than the turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from agora.relay.framing import text_frame

__all__ = ["Outlet", "Writer"]


class Writer(Protocol):
    """Who has something to write."""

    def flush(self) -> None:
        """Write it now. Never raises."""
        ...


class Outlet:
    """
    The connections that have something to write.

    Args:
        call_soon: Has a function called when the loop comes to it: the end of a turn that
            nobody has announced.
    """

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._writers: deque[Writer] = deque()
        self._is_in_turn = False
        self._text = ""
        self._frame = b""
        self._texts: tuple[str, ...] = ()
        self._frames = b""

    def begin_turn(self) -> None:
        """Announce that :meth:`end_turn` will be called, whatever comes."""
        self._is_in_turn = True

    def end_turn(self) -> None:
        """Have everything written."""
        self._is_in_turn = False
        if self._writers:
            self.flush()

    def add(self, writer: Writer) -> None:
        """Note that *writer* has something to write."""
        if not self._writers and not self._is_in_turn:
            self._call_soon(self.flush)
        self._writers.append(writer)

    def flush(self) -> None:
        """Have everything written now."""
        self._text, self._frame = "", b""
        self._texts, self._frames = (), b""
        while self._writers:
            self._writers.popleft().flush()

    def frame(self, text: str) -> bytes:
        """Return a text message as it is written; what goes to many in a row is framed once."""
        if text is not self._text:
            self._text, self._frame = text, text_frame(text)
        return self._frame

    def frames(self, texts: tuple[str, ...]) -> bytes:
        """Return text messages as they are written; the same ones in a row are framed once."""
        if texts is not self._texts:
            self._texts, self._frames = texts, b"".join(map(text_frame, texts))
        return self._frames
