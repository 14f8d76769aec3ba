"""What happens to a client besides messages: its connection, its peers, its troubles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from agora.client.inbox import Inbox
from agora.client.transport import TransportName
from agora.envelope import Envelope
from agora.errors import AgoraError, RefusedError, TryAgainError
from agora.keys import PeerId

__all__ = [
    "Bounced",
    "ClientEvent",
    "ConnectionState",
    "ContactRequest",
    "EventStream",
    "PresenceChanged",
    "StateChanged",
    "TransportChanged",
    "Trouble",
    "Withheld",
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


@dataclass(frozen=True, slots=True)
class Bounced:
    """
    The relay gave up a message of ours that it had stored. It comes to no application.

    Attributes:
        envelope_id: The message's id.
        code: Why: ``expired`` or ``undeliverable``.
        recipient: Whom it was for.
    """

    envelope_id: str
    code: str
    recipient: str

    @property
    def error(self) -> AgoraError:
        """The same as an error, for whoever tells of those alone."""
        text = f"the relay gave up message {self.envelope_id} to @{self.recipient[-8:]}"
        return RefusedError(self.code, text, envelope_id=self.envelope_id)


@dataclass(frozen=True, slots=True)
class Withheld:
    """A message was kept from the application, by its guard: *reason* says why."""

    envelope: Envelope
    reason: str

    @property
    def error(self) -> AgoraError:
        """The same as an error, for whoever tells of those alone."""
        return RefusedError(self.reason, f"a message from @{self.envelope.sender[-8:]} is withheld")


@dataclass(frozen=True, slots=True)
class ContactRequest:
    """
    A stranger has written for the first time: :meth:`Client.allow` it, or :meth:`Client.ignore` it.

    Attributes:
        envelope: What it wrote; the application gets it when it is allowed.
        name: The display name it claims; not proven.
    """

    envelope: Envelope
    name: str | None = None

    @property
    def error(self) -> AgoraError:
        """The same as an error, for whoever tells of those alone."""
        return TryAgainError(f"@{self.envelope.sender[-8:]} asks to be allowed to write")


@dataclass(frozen=True, slots=True)
class TransportChanged:
    """
    The relay is reached by other means than before.

    Attributes:
        transport: By which now.
        error: What blocks the WebSocket, where that is why.
    """

    transport: TransportName
    error: AgoraError | None = None


ClientEvent = (
    StateChanged
    | PresenceChanged
    | Trouble
    | Bounced
    | Withheld
    | ContactRequest
    | TransportChanged
)


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
