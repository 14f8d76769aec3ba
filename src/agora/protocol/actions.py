"""
What the relay's core asks its shell to do.

The core decides and the shell obeys: ``relay/node.py`` is the one place that
carries these out, in the order in which they were returned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NewType

from agora.codes import CloseCode
from agora.frames import ListedPeer
from agora.keys import PeerId

__all__ = [
    "Action",
    "AnswerPeerList",
    "Close",
    "Deliver",
    "Fetch",
    "Mail",
    "Note",
    "Ping",
    "Remove",
    "Send",
    "SessionId",
    "Store",
]

SessionId = NewType("SessionId", str)
"""One live connection; a UUID version 4, as the reference has it."""


@dataclass(frozen=True, slots=True)
class Mail:
    """
    One envelope on its way to one recipient.

    Attributes:
        recipient: Whose it is.
        sender: Who signed it.
        envelope_id: Its id; ``""`` for an opaque envelope, which has none that counts.
        text: The envelope as JSON text.
        name: The sender's display name when it was sent; claimed, not proven.
        position: Its place in the mailbox, growing by one per message; 0 outside of one.
    """

    recipient: str
    sender: PeerId
    envelope_id: str
    text: str
    name: str | None = None
    position: int = 0

    @property
    def size(self) -> int:
        """Bytes of the text in UTF-8, which is what bounds on mail count."""
        return len(self.text.encode())


@dataclass(frozen=True, slots=True)
class Send:
    """Write this frame to each of these connections."""

    to: tuple[SessionId, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Deliver:
    """Write mail to each of these connections; if none takes it, say so to the origin's router."""

    to: tuple[SessionId, ...]
    text: str
    mail: Mail
    origin: SessionId


@dataclass(frozen=True, slots=True)
class Ping:
    """Send a WebSocket ping whose pong confirms what was sent before it."""

    session: SessionId
    payload: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Close this connection."""

    session: SessionId
    code: CloseCode


@dataclass(frozen=True, slots=True)
class Store:
    """Commit this mail to its recipient's mailbox, then report back."""

    mail: Mail
    origin: SessionId


@dataclass(frozen=True, slots=True)
class Fetch:
    """Read mail of *peer* behind *after*, in order, and report it for *session*."""

    session: SessionId
    peer: PeerId
    after: int
    max_messages: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Remove:
    """Take these messages out of a mailbox: a session has them."""

    peer: PeerId
    positions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AnswerPeerList:
    """Sign a ``peer_list_response`` and send it; ages are seconds since a peer was last seen."""

    session: SessionId
    asker: PeerId
    request_id: str
    peers: tuple[tuple[ListedPeer, float], ...]
    total: int


@dataclass(frozen=True, slots=True)
class Note:
    """Something happened that an operator may want to know; ids only, never payloads."""

    event: str
    fields: Mapping[str, str | int | float] = field(default_factory=dict)


Action = Send | Deliver | Ping | Close | Store | Fetch | Remove | AnswerPeerList | Note
