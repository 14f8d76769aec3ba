"""
What travels on the WebSocket: one JSON object a message, typed on arrival.

Requests go from client to relay, answers from relay to client. Decoding checks
shape alone: what a frame may do depends on the session, and whether an
envelope is genuine on :mod:`agora.envelope`. Unknown members are ignored.

Two dialects share the WebSocket. The *reference dialect* is that of the first
implementation; *Agora/1* adds proof of key, receipts and acks for those who
register with ``"protocol": 1``, and changes nothing for the others.

:mod:`agora.frames.requests` has what clients say, :mod:`agora.frames.answers`
what relays say; import both from here.

Source: docs/reference/protocol.md.
"""

from __future__ import annotations

from agora.frames.answers import (
    PONG,
    AnnouncedLimits,
    Answer,
    Challenge,
    Delivery,
    ErrorAnswer,
    ListedPeer,
    PeerOffline,
    PeerOnline,
    Pong,
    PresenceAnswer,
    ReceiptAnswer,
    Registered,
    UnknownAnswer,
    agora_members,
    decode_answer,
    encode_challenge,
    encode_delivery,
    encode_error,
    encode_presence,
    encode_presence_changes,
    encode_receipt,
    encode_registered,
    peer_entries,
    peer_members,
)
from agora.frames.decoding import decode_request
from agora.frames.members import PROTOCOL, is_nonce
from agora.frames.requests import (
    MAX_IDS,
    MAX_NACK_DELAY,
    MAX_NACK_DELAY_MS,
    PING,
    WATCH_ALL,
    WATCH_NONE,
    Ack,
    Authenticate,
    Broadcast,
    Nack,
    Ping,
    Register,
    Request,
    Submit,
    UnknownRequest,
    Watch,
    Watched,
    encode_ack,
    encode_authenticate,
    encode_broadcast,
    encode_nack,
    encode_register,
    encode_submit,
    encode_watch,
)

__all__ = [
    "MAX_IDS",
    "MAX_NACK_DELAY",
    "MAX_NACK_DELAY_MS",
    "PING",
    "PONG",
    "PROTOCOL",
    "WATCH_ALL",
    "WATCH_NONE",
    "Ack",
    "AnnouncedLimits",
    "Answer",
    "Authenticate",
    "Broadcast",
    "Challenge",
    "Delivery",
    "ErrorAnswer",
    "ListedPeer",
    "Nack",
    "PeerOffline",
    "PeerOnline",
    "Ping",
    "Pong",
    "PresenceAnswer",
    "ReceiptAnswer",
    "Register",
    "Registered",
    "Request",
    "Submit",
    "UnknownAnswer",
    "UnknownRequest",
    "Watch",
    "Watched",
    "agora_members",
    "decode_answer",
    "decode_request",
    "encode_ack",
    "encode_authenticate",
    "encode_broadcast",
    "encode_challenge",
    "encode_delivery",
    "encode_error",
    "encode_nack",
    "encode_presence",
    "encode_presence_changes",
    "encode_receipt",
    "encode_register",
    "encode_registered",
    "encode_submit",
    "encode_watch",
    "is_nonce",
    "peer_entries",
    "peer_members",
]
