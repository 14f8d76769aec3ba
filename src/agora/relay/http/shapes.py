"""
What requests and answers of the API look like: types that are read, checked and documented.

Names are those of the JSON. Mail and receipts are told as the frames of
Agora/1 that they are, text and all.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from agora.frames import MAX_IDS, MAX_NACK_DELAY_MS
from agora.relay.http.tokens import Metadata

__all__ = [
    "Ack",
    "Challenge",
    "ChallengeRequest",
    "Done",
    "Envelope",
    "Error",
    "ErrorAnswer",
    "Message",
    "Messages",
    "Nack",
    "Peer",
    "Peers",
    "Receipt",
    "RegisterRequest",
    "Registered",
    "Replayed",
    "SendRequest",
    "Sent",
]

_KEY = (
    "302a300506032b6570032100" + "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
)

PeerId = Annotated[
    str,
    Meta(
        pattern="^302a300506032b6570032100[0-9a-f]{64}$",
        description="A peer id: an Ed25519 public key as DER (SPKI) in 88 lower-case hex digits.",
        examples=[_KEY],
    ),
]
Recipient = Annotated[
    str,
    Meta(
        pattern=r"^(302a300506032b6570032100[0-9a-f]{64}|\*)$",
        description="A peer id, or `*` for everyone who is online.",
        examples=[_KEY],
    ),
]
Nonce = Annotated[
    str,
    Meta(
        pattern="^[0-9a-f]{64}$",
        description="32 random bytes in 64 lower-case hex digits.",
        examples=["00112233445566778899aabbccddeeff" * 2],
    ),
]
Signature = Annotated[
    str,
    Meta(
        pattern="^[0-9a-f]{128}$",
        description="An Ed25519 signature in 128 lower-case hex digits.",
    ),
]
Name = Annotated[
    str,
    Meta(
        description="A display name, claimed and not proven; at most 64 characters, or what the "
        "relay's operator has set.",
        max_length=1024,
    ),
]
Milliseconds = Annotated[int, Meta(description="Milliseconds since the Unix epoch.", ge=0)]
EnvelopeId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=1024,
        description="An envelope's id: SHA-256 of its canonical JSON without `id` and "
        "`signature`, in 64 hex digits.",
    ),
]
EnvelopeIds = Annotated[list[EnvelopeId], Meta(min_length=1, max_length=MAX_IDS)]

Traceparent = Annotated[
    str,
    Meta(
        pattern="^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
        description="A place in a trace, as W3C Trace Context writes it.",
        examples=["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
    ),
]


class Envelope(msgspec.Struct):
    """A signed message. The sections `Sign an envelope` and `A test vector` above say how."""

    id: EnvelopeId
    type: Annotated[str, Meta(description="What kind of message, such as `publish` or `request`.")]
    from_: PeerId = msgspec.field(name="from")
    to: Annotated[
        list[str], Meta(description="Everyone it is for: peer ids, or `*` alone for everyone.")
    ]
    timestamp: Annotated[float, Meta(description="When it was signed, in ms since the Unix epoch.")]
    signature: Signature
    payload: Annotated[Any, Meta(description="Any JSON value.")] = None
    inReplyTo: Annotated[
        EnvelopeId | msgspec.UnsetType,
        Meta(description="The id of the envelope that this one answers."),
    ] = msgspec.UNSET


# Registration


class ChallengeRequest(msgspec.Struct):
    """Who wants to speak, and something for the relay to sign."""

    publicKey: PeerId
    nonce: Nonce


class Challenge(msgspec.Struct):
    """What is to be signed. It serves once, for the key that asked, until `expiresAt`."""

    nonce: Nonce
    relay: PeerId
    signature: Signature
    expiresAt: Milliseconds


class RegisterRequest(msgspec.Struct):
    """The proof, and what others shall see."""

    publicKey: PeerId
    nonce: Nonce
    signature: Signature
    audience: Annotated[
        str | None,
        Meta(description="What was signed as `audience`; makes the error clearer when it fails."),
    ] = None
    name: Name | None = None
    metadata: Metadata | None = None


class Peer(msgspec.Struct, omit_defaults=True):
    """One peer."""

    publicKey: PeerId
    online: Annotated[bool, Meta(description="Whether it is; else its mail is taken.")]
    name: Name | None = None
    lastSeen: Annotated[
        int | None, Meta(description="When it came or last sent something, in ms since the epoch.")
    ] = None
    metadata: Metadata | None = None


class Limits(msgspec.Struct):
    """What the relay admits; null where it has no such limit."""

    maxFrameBytes: float | None
    maxRecipients: float | None
    window: float | None
    windowBytes: float | None
    messagesPerSecond: float | None
    mailboxMessages: float | None
    retentionSeconds: float | None


class Registered(msgspec.Struct):
    """The token, and what the relay tells a peer that comes."""

    token: Annotated[str, Meta(description="For `Authorization: Bearer`.")]
    expiresAt: Milliseconds
    sessionId: str
    relay: PeerId
    now: Milliseconds
    pending: Annotated[int, Meta(description="Messages that wait for this peer.", ge=0)]
    peers: Annotated[list[Peer], Meta(description="The first 1,000 peers; `/v1/peers` has all.")]
    peersTotal: Annotated[int, Meta(ge=0)]
    limits: Limits


# Sending


class SendRequest(msgspec.Struct):
    """An envelope, and where it shall go."""

    envelope: dict[str, Any]
    to: Annotated[
        Recipient | Annotated[list[Recipient], Meta(min_length=1)] | None,
        Meta(
            description="One or more recipients among the envelope's `to`; all of those when it is "
            "left out. `*` for everyone who is online."
        ),
    ] = None
    confirm: Annotated[
        bool, Meta(description="Whether the recipient shall send a signed acknowledgement.")
    ] = False
    after: Annotated[
        str | None,
        Meta(description="The id of an envelope which this one must not overtake."),
    ] = None
    traceparent: Annotated[
        Traceparent | None,
        Meta(
            description="Where in a trace it is sent (W3C Trace Context), for whoever gets it; "
            "left out: the header of that name."
        ),
    ] = None
    wait: Annotated[
        Annotated[float, Meta(ge=0, le=86_400)] | None,
        Meta(
            description="Seconds to wait for receipts once the relay has the envelope; `0` answers "
            "as soon as it is known that it is not refused. What is `pending` then comes as an "
            "event, `receipt` or `error`, where there is a stream. Left out: until all are there.",
        ),
    ] = None


class Receipt(msgspec.Struct, tag_field="type", tag="receipt"):
    """What became of an envelope for one recipient."""

    id: str
    to: str
    status: Annotated[
        Literal["delivered", "stored", "sent", "duplicate"],
        Meta(
            description="`delivered`: the recipient has acked it. `stored`: it is in the "
            "recipient's mailbox, on disk. `sent`: handed to somebody who cannot ack, or "
            "broadcast. `duplicate`: an earlier copy was delivered or stored."
        ),
    ]
    count: int | msgspec.UnsetType = msgspec.UNSET


class Error(msgspec.Struct):
    """Why something was not done. `code` is for programs, `message` for people."""

    code: Annotated[str, Meta(description="One of the codes of the table above.")]
    message: str
    id: str | msgspec.UnsetType = msgspec.UNSET
    to: str | msgspec.UnsetType = msgspec.UNSET
    reason: str | msgspec.UnsetType = msgspec.UNSET
    scope: str | msgspec.UnsetType = msgspec.UNSET
    retryAfterMs: int | msgspec.UnsetType = msgspec.UNSET
    now: int | msgspec.UnsetType = msgspec.UNSET


class ErrorAnswer(msgspec.Struct):
    """An error; of `/v1/send` with one for each recipient in `errors`."""

    error: Error
    errors: list[Error] | msgspec.UnsetType = msgspec.UNSET


class Sent(msgspec.Struct):
    """One receipt or error for each recipient, or its key in `pending`: not known yet."""

    receipts: list[Receipt]
    errors: list[Error]
    pending: list[str]


# Receiving


class Message(msgspec.Struct, tag_field="type", tag="message"):
    """An envelope, who the relay says sent it, and under which name. Verify its signature."""

    from_: PeerId = msgspec.field(name="from")
    envelope: Envelope
    name: str | msgspec.UnsetType = msgspec.UNSET
    stored: Annotated[
        bool | msgspec.UnsetType, Meta(description="Whether it has waited in the mailbox.")
    ] = msgspec.UNSET
    confirm: Annotated[
        bool | msgspec.UnsetType,
        Meta(description="Whether the sender wants a signed acknowledgement."),
    ] = msgspec.UNSET
    traceparent: Annotated[
        Traceparent | msgspec.UnsetType,
        Meta(description="Where in a trace it comes from (W3C Trace Context); not signed."),
    ] = msgspec.UNSET


class Messages(msgspec.Struct):
    """Mail, the oldest first. It comes again until it is acked; a broadcast comes once."""

    messages: list[Message]
    hasMore: Annotated[bool, Meta(description="Whether there is more, or may be: ack, then ask.")]


class Replayed(msgspec.Struct):
    """Mail that was acked, in the order of its acks."""

    messages: list[Message]
    hasMore: Annotated[bool, Meta(description="Whether there is more now.")]
    next: Annotated[
        int,
        Meta(
            ge=0,
            description="For `after` of the next page, now or later: where this one ends. "
            "Numbers grow, and mean nothing else.",
        ),
    ]


class Ack(msgspec.Struct):
    """The application has these messages."""

    ids: EnvelopeIds


class Nack(msgspec.Struct):
    """Not now: bring these messages again."""

    ids: EnvelopeIds
    delayMs: Annotated[int, Meta(ge=0, le=MAX_NACK_DELAY_MS)] = 0


class Done(msgspec.Struct):
    """It is done."""

    ok: Literal[True] = True


class Peers(msgspec.Struct, omit_defaults=True):
    """A page of peers, by peer id, without the one who asks."""

    peers: list[Peer]
    total: Annotated[int, Meta(ge=0)]
    next: Annotated[
        str | None, Meta(description="For `after` of the next page; not there on the last.")
    ] = None
