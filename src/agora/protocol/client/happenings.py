"""What comes of a conversation with a relay, for whoever leads it."""

from __future__ import annotations

from dataclasses import dataclass, field

from agora.envelope import Envelope
from agora.errors import AgoraError
from agora.frames import AnnouncedLimits, ListedPeer
from agora.keys import PeerId
from agora.protocol.client.outbox import Outgoing

__all__ = [
    "Bounced",
    "Changed",
    "Event",
    "Incoming",
    "Lost",
    "Opened",
    "PresenceChanged",
    "Problem",
    "Reached",
]


@dataclass(frozen=True, slots=True)
class Opened:
    """
    The relay has registered us.

    Attributes:
        relay: Its own peer id, where it told one; in Agora/1 it has proven it.
        protocol: 1 for Agora/1, 0 for the reference dialect.
        limits: What it admits, as far as it told.
    """

    relay: PeerId | None
    protocol: int = 0
    limits: AnnouncedLimits = field(default_factory=AnnouncedLimits)


@dataclass(frozen=True, slots=True)
class Incoming:
    """
    A genuine message to us, the first time it comes.

    Attributes:
        envelope: The message.
        name: What its sender is called; claimed, not proven.
        traceparent: Where in a trace it comes from; told by the relay, not signed.
    """

    envelope: Envelope
    name: str | None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class PresenceChanged:
    """A peer has come or gone."""

    peer: ListedPeer
    is_online: bool


@dataclass(frozen=True, slots=True)
class Changed:
    """Something is known of a message we sent; see its status, acknowledgement and bounce."""

    outgoing: Outgoing


@dataclass(frozen=True, slots=True)
class Reached:
    """A message has reached a relay of Agora/1, which has not refused it so far."""

    outgoing: Outgoing


@dataclass(frozen=True, slots=True)
class Bounced:
    """The relay gave up a message of ours that it had stored; *code* is ``expired`` or the like."""

    envelope_id: str
    code: str
    recipient: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Something was wrong and is dealt with; the conversation goes on."""

    error: AgoraError


@dataclass(frozen=True, slots=True)
class Lost:
    """The conversation is over; ``is_final`` when coming back would not help."""

    error: AgoraError
    is_final: bool


Event = Opened | Incoming | PresenceChanged | Changed | Reached | Bounced | Problem | Lost
