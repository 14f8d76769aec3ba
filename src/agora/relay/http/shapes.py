"""
What requests and answers of the API look like: types that are read, checked and documented.

Names are those of the JSON. Mail and receipts are told as the frames of
Agora/1 that they are, text and all. What a relay's settings say (how long a
name may be) is added where the document is made.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from agora.frames import MAX_IDS, MAX_NACK_DELAY_MS
from agora.relay.http.tokens import Metadata

__all__ = [
    "Ack",
    "Acknowledgement",
    "Bounce",
    "Challenge",
    "ChallengeRequest",
    "Closed",
    "Done",
    "Envelope",
    "Error",
    "ErrorAnswer",
    "Message",
    "Messages",
    "Missed",
    "Nack",
    "OnlinePeer",
    "Peer",
    "Peers",
    "Presence",
    "Receipt",
    "ReceivedEnvelope",
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
Name = Annotated[str, Meta(description="A display name, claimed and not proven.")]
Milliseconds = Annotated[int, Meta(description="Milliseconds since the Unix epoch.", ge=0)]
EnvelopeId = Annotated[
    str,
    Meta(
        pattern="^[0-9a-f]{64}$",
        description="An envelope's id: SHA-256 of its canonical JSON without `id` and "
        "`signature`, in 64 lower-case hex digits.",
    ),
]
EnvelopeIds = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=1024)]],
    Meta(min_length=1, max_length=MAX_IDS, description="Ids of envelopes; others do no harm."),
]

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
Traceparent = Annotated[
    str,
    Meta(
        pattern="^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$",
        description="A place in a trace, as W3C Trace Context writes it.",
        examples=[TRACEPARENT],
    ),
]


Kind = Annotated[
    str,
    Meta(
        description="What kind of message: any string, such as `publish`, `request` or `response`."
    ),
]
SignedAt = Annotated[float, Meta(description="When it was signed, in ms since the Unix epoch.")]


class Envelope(msgspec.Struct):
    """A signed message. The sections `Sign an envelope` and `A test vector` say how it is made."""

    id: EnvelopeId
    type: Kind
    from_: PeerId = msgspec.field(name="from")
    to: Annotated[
        list[Recipient],
        Meta(min_length=1, description="Everyone it is for: peer ids, or `*` alone for everyone."),
    ]
    timestamp: SignedAt
    payload: Annotated[Any, Meta(description="Any JSON value, also `null`; it is always there.")]
    signature: Signature
    inReplyTo: Annotated[
        EnvelopeId | msgspec.UnsetType,
        Meta(description="The id of the envelope that this one answers; else it is left out."),
    ] = msgspec.UNSET


class ReceivedEnvelope(msgspec.Struct):
    """An envelope as its sender has signed it, who may be less strict than this page is."""

    id: EnvelopeId
    type: Kind
    from_: PeerId = msgspec.field(name="from")
    to: Annotated[list[Recipient], Meta(min_length=1, description="Everyone it is for.")]
    timestamp: SignedAt
    signature: Signature
    payload: Annotated[
        Any,
        Meta(
            description="Any JSON value. Clients of the WebSocket may leave it out; then the "
            'signed text has `"payload":undefined` in its place.'
        ),
    ] = msgspec.UNSET
    inReplyTo: Annotated[
        str | msgspec.UnsetType | None,
        Meta(description="The id of the envelope that this one answers."),
    ] = msgspec.UNSET


# Registration


class ChallengeRequest(msgspec.Struct):
    """Who wants to speak, and something for the relay to sign."""

    publicKey: Annotated[PeerId, Meta(description="Your peer id.")]
    nonce: Annotated[
        Nonce, Meta(description="Yours: CN in the text above, 32 random bytes in hex.")
    ]


class Challenge(msgspec.Struct):
    """What is to be signed. It serves once, for the key that asked, until `expiresAt`."""

    nonce: Annotated[Nonce, Meta(description="The relay's: RN in the text above.")]
    relay: Annotated[PeerId, Meta(description="The relay's own peer id: R in the text above.")]
    signature: Annotated[Signature, Meta(description="The relay's, which is to be checked.")]
    expiresAt: Milliseconds


class RegisterRequest(msgspec.Struct):
    """The proof, and what others shall see."""

    publicKey: Annotated[PeerId, Meta(description="Your peer id, that of the challenge.")]
    nonce: Annotated[Nonce, Meta(description="The challenge's: RN in the text above.")]
    signature: Annotated[Signature, Meta(description="Yours, over the second text above.")]
    audience: Annotated[
        str | None,
        Meta(description="What was signed as `audience`; makes the error clearer when it fails."),
    ] = None
    name: Name | None = None
    metadata: Metadata | None = None


class Peer(msgspec.Struct, omit_defaults=True):
    """One peer."""

    publicKey: PeerId
    online: Annotated[
        bool, Meta(description="Whether it is; one that is not gets its mail when it comes back.")
    ]
    name: Name | None = None
    lastSeen: Annotated[
        int | None,
        Meta(description="When it came or last sent something, in ms since the Unix epoch."),
    ] = None
    metadata: Metadata | None = None


class Limits(msgspec.Struct):
    """What the relay admits; null where it has no such limit."""

    maxFrameBytes: Annotated[
        float | None, Meta(description="Bytes that the body of a request may have.")
    ]
    maxRecipients: Annotated[float | None, Meta(description="Recipients of one `/v1/send`.")]
    window: Annotated[
        float | None, Meta(description="Messages that are given before the first of them is acked.")
    ]
    windowBytes: Annotated[float | None, Meta(description="The same in bytes.")]
    messagesPerSecond: Annotated[
        float | None,
        Meta(
            description="What a key may send for as long as it likes; for a while it may be more."
        ),
    ]
    mailboxMessages: Annotated[float | None, Meta(description="Messages that a mailbox holds.")]
    retentionSeconds: Annotated[
        float | None, Meta(description="How long mail waits before it expires; 0 is for ever.")
    ]


class Registered(msgspec.Struct):
    """The token, and what the relay tells a peer that comes."""

    token: Annotated[str, Meta(description="For `Authorization: Bearer`.")]
    expiresAt: Milliseconds
    sessionId: Annotated[
        str, Meta(description="The relay's name for this registration, as in its log.")
    ]
    relay: Annotated[PeerId, Meta(description="The relay's own peer id.")]
    now: Annotated[
        Milliseconds, Meta(description="The relay's clock, by which it judges `timestamp`.")
    ]
    pending: Annotated[int, Meta(description="Messages that wait for this peer.", ge=0)]
    peers: Annotated[list[Peer], Meta(description="The first 1,000 peers; `/v1/peers` has all.")]
    peersTotal: Annotated[int, Meta(ge=0, description="How many there are.")]
    limits: Limits


# Sending


class SendRequest(msgspec.Struct):
    """An envelope, and where it shall go."""

    envelope: dict[str, Any]
    to: Annotated[
        Recipient | Annotated[list[Recipient], Meta(min_length=1)] | None,
        Meta(
            description="One or more recipients among the envelope's `to`; left out: all of those. "
            "`*` stands alone, for an envelope to everyone."
        ),
    ] = None
    confirm: Annotated[
        bool,
        Meta(
            description="Whether each recipient shall send an `Acknowledgement`. Means nothing "
            "for `*`."
        ),
    ] = False
    after: Annotated[
        str | None,
        Meta(
            description="The id of an envelope to the same recipient, sent before: where that was "
            "not taken, this one is not either (`out_of_order`). Means nothing for `*`."
        ),
    ] = None
    traceparent: Annotated[
        Traceparent | None,
        Meta(
            description="Where in a trace it is sent (W3C Trace Context), for whoever gets it. "
            "Left out: the header of that name. Means nothing for `*`."
        ),
    ] = None
    wait: Annotated[
        Annotated[float, Meta(ge=0, le=86_400)] | None,
        Meta(
            description="Seconds to wait for receipts once the envelope was checked; `0` answers "
            "when it was. What is `pending` then comes as an event, `receipt` or `error`, to "
            "whoever listens with this token. Left out: until all are there, or the relay's own "
            "longest wait is over.",
        ),
    ] = None


class Receipt(msgspec.Struct, tag_field="type", tag="receipt"):
    """What became of an envelope for one recipient."""

    id: Annotated[str, Meta(description="The envelope's.")]
    to: Annotated[str, Meta(description="The recipient; `*` of a broadcast.")]
    status: Annotated[
        Literal["delivered", "stored", "sent", "duplicate"],
        Meta(
            description="`delivered`: the recipient has acked it. `stored`: it is in the "
            "recipient's mailbox, on disk. `sent`: handed to somebody who cannot ack, or "
            "broadcast; no more is known. `duplicate`: an earlier copy was delivered or stored."
        ),
    ]
    count: Annotated[
        int | msgspec.UnsetType, Meta(description="Of a broadcast: to how many sessions it went.")
    ] = msgspec.UNSET


class Error(msgspec.Struct):
    """Why something was not done."""

    code: Annotated[str, Meta(description="For programs: one of the codes of the table above.")]
    message: Annotated[str, Meta(description="For people; it may change.")]
    id: Annotated[str | msgspec.UnsetType, Meta(description="The envelope that it is about.")] = (
        msgspec.UNSET
    )
    to: Annotated[
        str | msgspec.UnsetType,
        Meta(description="The recipient that it is about; left out where it is about all."),
    ] = msgspec.UNSET
    reason: Annotated[
        str | msgspec.UnsetType,
        Meta(description="More precisely, of `not_registered` and `invalid_envelope`."),
    ] = msgspec.UNSET
    scope: Annotated[
        str | msgspec.UnsetType,
        Meta(description="Of `mailbox_full`, what is: `mailbox`, `sender` or `store`."),
    ] = msgspec.UNSET
    retryAfterMs: Annotated[
        int | msgspec.UnsetType, Meta(description="Milliseconds to wait before asking again.")
    ] = msgspec.UNSET
    now: Annotated[
        int | msgspec.UnsetType,
        Meta(
            description="Of `stale` and `from_the_future`: the relay's clock, in ms since the Unix "
            "epoch."
        ),
    ] = msgspec.UNSET


class ErrorAnswer(msgspec.Struct):
    """An error: the body of every answer whose status is 400 or more."""

    error: Error
    errors: Annotated[
        list[Error] | msgspec.UnsetType,
        Meta(description="Of `/v1/send`: one for each recipient; `error` is the first of them."),
    ] = msgspec.UNSET


class Sent(msgspec.Struct):
    """What became of an envelope: each recipient is in one of the three lists."""

    receipts: Annotated[list[Receipt], Meta(description="Who has it, or has it waiting.")]
    errors: Annotated[list[Error], Meta(description="For whom it was refused.")]
    pending: Annotated[
        list[Recipient], Meta(description="For whom it is not known yet; empty with status 200.")
    ]


# Receiving


class Message(msgspec.Struct, tag_field="type", tag="message"):
    """An envelope, who the relay says sent it, and under which name. Verify its signature."""

    from_: PeerId = msgspec.field(name="from")
    envelope: ReceivedEnvelope
    name: Annotated[
        str | msgspec.UnsetType, Meta(description="The display name that the sender claims.")
    ] = msgspec.UNSET
    stored: Annotated[
        bool | msgspec.UnsetType, Meta(description="Whether it has waited in the mailbox.")
    ] = msgspec.UNSET
    confirm: Annotated[
        bool | msgspec.UnsetType,
        Meta(description="Whether the sender wants an `Acknowledgement`."),
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
    delayMs: Annotated[
        float, Meta(ge=0, le=MAX_NACK_DELAY_MS, description="When, in milliseconds from now.")
    ] = 0


class Done(msgspec.Struct):
    """It is done."""

    ok: Literal[True] = True


class Peers(msgspec.Struct, omit_defaults=True):
    """A page of peers, by peer id, without the one who asks."""

    peers: list[Peer]
    total: Annotated[int, Meta(ge=0, description="How many there are on all pages.")]
    next: Annotated[
        str | None, Meta(description="For `after` of the next page; not there on the last.")
    ] = None


# Events


class OnlinePeer(msgspec.Struct, omit_defaults=True):
    """One peer that is online."""

    publicKey: PeerId
    name: Name | None = None


class Presence(msgspec.Struct, tag_field="type", tag="presence"):
    """
    Who has come and who has gone: the data of an event `presence`.

    A key is in one of the lists only. The first one of a stream tells the present state.
    """

    online: list[OnlinePeer]
    offline: list[PeerId]


class Missed(msgspec.Struct):
    """That events were lost which nobody can tell again: the data of an event `missed`."""

    reason: Annotated[
        Literal["overflow", "unknown"],
        Meta(
            description="`overflow`: they were more than the relay keeps. `unknown`: the session "
            "of that id has ended."
        ),
    ]


class Closed(msgspec.Struct):
    """Why a stream ends: the data of an event `closed`, which is the last."""

    code: Annotated[
        int, Meta(description="As a WebSocket would be closed; the section `Events` has those.")
    ]
    reason: Annotated[str, Meta(description="The code in a word.")]


# Payloads


class Acknowledgement(msgspec.Struct):
    """
    The payload of an envelope of type `ack`: a recipient's own, signed word.

    `inReplyTo` is the id of the envelope that came with `confirm`.
    """

    status: Annotated[
        Literal["processed", "failed"],
        Meta(description="`processed`: it was dealt with. `failed`: it was given up."),
    ]


class Bounce(msgspec.Struct):
    """
    The payload of an envelope of type `error` from the relay's own key: mail was not delivered.

    `inReplyTo` is the id of that mail.
    """

    code: Annotated[
        Literal["expired", "undeliverable"],
        Meta(
            description="`expired`: it has waited for too long. `undeliverable`: its recipient has "
            "put it off too often."
        ),
    ]
    recipient: PeerId
