"""A connection without a network: what a relay writes waits until the other end takes it."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from agora.codes import CloseCode
from agora.protocol.relay.actions import SessionId
from agora.relay.node import Connection

__all__ = ["Line", "RelayCore"]


class RelayCore(Protocol):
    """What a peer in the room needs of a relay; :class:`~agora.relay.node.Node` is one."""

    def open(
        self, connection: Connection, *, address: str = "", audiences: tuple[str, ...] = ()
    ) -> SessionId:
        """Take a new connection."""
        ...

    def receive(self, session_id: SessionId, data: str | bytes) -> None:
        """Take a message."""
        ...

    def receive_pong(self, session_id: SessionId, payload: bytes) -> None:
        """Take a WebSocket pong."""
        ...

    def lost(self, session_id: SessionId) -> None:
        """Forget a connection that is gone."""
        ...


class Line:
    """
    A connection without a socket, as the relay sees it.

    Attributes:
        incoming: What the relay wrote and its peer has not taken: texts, the payloads
            of WebSocket pings, the code of the close.
        is_stuck: Whether the peer does not read, so that all of it counts as unsent.
    """

    def __init__(self) -> None:
        self.incoming: deque[str | bytes | CloseCode] = deque()
        self.is_stuck = False

    @property
    def unsent_bytes(self) -> int:
        """Bytes that wait for a peer that is stuck."""
        if not self.is_stuck:
            return 0
        return sum(len(text.encode()) for text in self.incoming if isinstance(text, str))

    def send(self, text: str) -> None:
        """Write a text."""
        text.encode()  # what cannot be encoded could not be sent either
        self.incoming.append(text)

    def send_all(self, texts: tuple[str, ...]) -> None:
        """Write texts."""
        for text in texts:
            self.send(text)

    def ping(self, payload: bytes) -> None:
        """Write a WebSocket ping."""
        self.incoming.append(payload)

    def withdraw(self, envelope_id: str) -> bool:
        """Do nothing, as a socket."""
        return False

    def close(self, code: CloseCode) -> None:
        """Write the end."""
        self.incoming.append(code)
