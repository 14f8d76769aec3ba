"""
What the relay's core asks its shell to do.

The core decides and the shell obeys: ``relay/node.py`` is the one place that
carries these out, in the order in which they were returned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NewType

import msgspec

from agora.codes import CloseCode, ReceiptStatus
from agora.keys import PeerId
from agora.protocol.relay.refusal import Refusal
from agora.sealed import PlainSealed

__all__ = [
    "Action",
    "Bury",
    "Close",
    "CountNacks",
    "Deliver",
    "Fetch",
    "Mail",
    "Note",
    "Pin",
    "Ping",
    "Receipt",
    "Remove",
    "RemoveIds",
    "Retain",
    "Send",
    "SendAll",
    "SessionId",
    "Settle",
    "Store",
    "Ticket",
    "Verify",
    "Withdraw",
]

SessionId = NewType("SessionId", str)
"""One live connection; a UUID version 4, as the reference has it."""


class Mail(msgspec.Struct, frozen=True, gc=False):
    """
    One envelope on its way to one recipient.

    Attributes:
        recipient: Whose it is.
        sender: Who signed it.
        envelope_id: Its id; ``""`` for an opaque envelope, which has none that counts.
        text: The envelope as JSON text.
        name: The sender's display name when it was sent; claimed, not proven.
        position: Its place among all that its recipient gets: the order in which it was
            taken; 0 where none was given.
        confirm: Whether the recipient shall send a signed acknowledgement.
        stored_ms: When it was put into the mailbox, in milliseconds since the Unix
            epoch; 0 outside of one.
        traceparent: Where in a trace it is, if anywhere; no mailbox keeps that.
    """

    recipient: str
    sender: PeerId
    envelope_id: str
    text: str
    name: str | None = None
    position: int = 0
    confirm: bool = False
    stored_ms: int = 0
    traceparent: str | None = None

    @property
    def size(self) -> int:
        """Bytes of the text in UTF-8, which is what bounds on mail count."""
        return len(self.text.encode())


class Ticket(msgspec.Struct, frozen=True, gc=False):
    """One envelope for one recipient, as a session submitted it: where the answer goes."""

    session: SessionId
    number: int


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """
    What became of one envelope for one recipient, as its sender is told.

    ``is_of_repeat`` says that it was sent again while that was open; in the reference
    dialect, which has no receipts, that is a duplicate.
    """

    envelope_id: str
    to: str
    status: ReceiptStatus
    count: int | None = None
    is_of_repeat: bool = False


class Verify(msgspec.Struct, frozen=True, gc=False):
    """
    Verify this envelope, in whatever thread, then tell *session* that it is.

    Its verdict stays with the envelope: `RelaySession.verified` takes what is ready.
    """

    session: SessionId
    sealed: PlainSealed


class Send(msgspec.Struct, frozen=True, gc=False):
    """Write this frame to each of these connections."""

    to: tuple[SessionId, ...]
    text: str


class SendAll(msgspec.Struct, frozen=True, gc=False):
    """Write all these frames to each of these connections, in one go."""

    to: tuple[SessionId, ...]
    texts: tuple[str, ...]


class Deliver(msgspec.Struct, frozen=True, gc=False):
    """Write mail to connections that cannot ack; report whether any of them took it."""

    to: tuple[SessionId, ...]
    text: str
    mail: Mail
    ticket: Ticket | None


class Settle(msgspec.Struct, frozen=True, gc=False):
    """Tell the session that submitted something what became of it."""

    ticket: Ticket
    outcome: Receipt | Refusal


class Ping(msgspec.Struct, frozen=True, gc=False):
    """Send a WebSocket ping whose pong confirms what was sent before it."""

    session: SessionId
    payload: bytes


class Close(msgspec.Struct, frozen=True, gc=False):
    """Close this connection."""

    session: SessionId
    code: CloseCode


class Pin(msgspec.Struct, frozen=True, gc=False):
    """
    Commit that *peer* has proven itself, then report how many messages wait for it.

    Also where that is known: an operator may have unpinned it a moment ago.
    """

    session: SessionId
    peer: PeerId


class Store(msgspec.Struct, frozen=True, gc=False):
    """
    Commit this mail to its recipient's mailbox, then report back.

    Attributes:
        mail: What to keep.
        is_owed: Whether it was taken already, so that no bound may refuse it.
        follows: Position of the message that must have been stored before, or this
            one would overtake it; 0 for none.
    """

    mail: Mail
    is_owed: bool = False
    follows: int = 0


class Fetch(msgspec.Struct, frozen=True, gc=False):
    """Read mail of *peer* behind *after*, in order, and report it for *session*."""

    session: SessionId
    peer: PeerId
    after: int
    max_messages: int
    max_bytes: int


class Remove(msgspec.Struct, frozen=True, gc=False):
    """
    Take these messages out of a mailbox, by position.

    ``is_settled`` says that *peer* has them; if not, they were given up.
    """

    peer: PeerId
    positions: tuple[int, ...]
    is_settled: bool = False


class RemoveIds(msgspec.Struct, frozen=True, gc=False):
    """
    Take acked messages out of a mailbox, by envelope id, and report whether that worked.

    Of those that are ``nameless`` report, too, who sent them.
    """

    peer: PeerId
    ids: tuple[str, ...]
    nameless: tuple[str, ...] = ()


class Retain(msgspec.Struct, frozen=True, gc=False):
    """Keep this mail, which was acked before it was stored, for whoever wants it again."""

    mail: Mail


class CountNacks(msgspec.Struct, frozen=True, gc=False):
    """Count one more nack for each of these messages; report which have too many."""

    peer: PeerId
    ids: tuple[str, ...]


class Bury(msgspec.Struct, frozen=True, gc=False):
    """Set these messages aside as dead letters."""

    peer: PeerId
    positions: tuple[int, ...]


class Withdraw(msgspec.Struct, frozen=True, gc=False):
    """
    Tell this connection that another session of its peer has acked a message that it was sent.

    One that keeps it to be fetched lets go of it; report that, as its place is free.
    """

    session: SessionId
    envelope_id: str


class Note(msgspec.Struct, frozen=True, gc=False):
    """Something happened that an operator may want to know; ids only, never payloads."""

    event: str
    fields: Mapping[str, str | int | float] = msgspec.field(default_factory=dict)


Action = (
    Verify
    | Send
    | SendAll
    | Deliver
    | Settle
    | Ping
    | Close
    | Pin
    | Store
    | Fetch
    | Remove
    | RemoveIds
    | Retain
    | CountNacks
    | Bury
    | Withdraw
    | Note
)
