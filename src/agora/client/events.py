"""What happens to a client besides messages: its connection, its peers, its troubles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from agora.client.inbox import Inbox
from agora.errors import AgoraError, TryAgainError
from agora.keys import PeerId

__all__ = [
    "ClientEvent",
    "ConnectionState",
    "EventStream",
    "PresenceChanged",
    "StateChanged",
    "Trouble",
]


class ConnectionState(StrEnum):
    """Where a client stands with its relay."""

    CONNECTING = "connecting"
    """Not registered at the moment; it keeps trying."""
    CONNECTED = "connected"
    """Registered: messages flow."""
    CLOSED = "closed"
    """Over, by :meth:`Client.close` or a final refusal."""


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The connection has come, gone, ended, or an attempt at it has failed; *error* says why."""

    state: ConnectionState
    error: AgoraError | None = None


@dataclass(frozen=True, slots=True)
class PresenceChanged:
    """A peer has come (``is_online``) or gone. The name is what the peer claims."""

    peer: PeerId
    is_online: bool
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """
    Something was wrong and is dealt with: a forged message, an error of the relay.

    A handler that raised is one too; then ``error`` is what it raised.
    """

    error: Exception


ClientEvent = StateChanged | PresenceChanged | Trouble


class EventStream:
    """
    Events for one reader, as they come; ends with the client.

    Attributes:
        stop: Stops what puts events in; called when nothing more is wanted.
    """

    def __init__(self) -> None:
        self.stop: Callable[[], None] = lambda: None
        self._unread: Inbox[ClientEvent] = Inbox(_MAX_UNREAD)

    def put(self, event: ClientEvent) -> None:
        """Add an event; the last one ends the stream, and so does one too many."""
        if self._unread.is_full:
            self._unread.close(
                TryAgainError(f"{len(self._unread)} events were left unread: begin anew")
            )
            self.stop()
            return
        self._unread.put_nowait(event)
        if isinstance(event, StateChanged) and event.state is ConnectionState.CLOSED:
            self._unread.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ClientEvent:
        return await self._unread.get()


_MAX_UNREAD = 10_000
"""Events that one reader may leave unread; then it is not waited for."""
