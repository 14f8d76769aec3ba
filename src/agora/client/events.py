"""What happens to a client besides messages: its connection, its peers, its troubles."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from agora.errors import AgoraError
from agora.keys import PeerId

__all__ = ["ClientEvent", "ConnectionState", "PresenceChanged", "StateChanged", "Trouble"]


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
