"""
Requests: what a client says to a relay.

Decoding checks shape alone, in the dialect that the session speaks. What a
session may say in which state, the relay's side of it knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from agora.canonical import Json, json_text
from agora.codes import ErrorCode
from agora.ecmascript import is_number, is_truthy
from agora.errors import FrameError
from agora.frames.members import (
    PROTOCOL,
    Decoders,
    Members,
    decode,
    encode,
    is_nonce,
    is_traceparent,
    text_or_none,
    traceparent_member,
)
from agora.keys import PeerId, is_peer_id
from agora.sealed import Sealed

__all__ = [
    "MAX_IDS",
    "MAX_NACK_DELAY",
    "MAX_NACK_DELAY_MS",
    "PING",
    "WATCH_ALL",
    "WATCH_NONE",
    "Ack",
    "Authenticate",
    "Broadcast",
    "Nack",
    "Ping",
    "Register",
    "Request",
    "Submit",
    "UnknownRequest",
    "Watch",
    "Watched",
    "decode_in_full",
    "encode_ack",
    "encode_authenticate",
    "encode_broadcast",
    "encode_nack",
    "encode_register",
    "encode_submit",
    "encode_watch",
]

PING = '{"type":"ping"}'

MAX_IDS = 1_000
"""Ids in one ack or nack: several windows, and a bounded piece of work."""

MAX_NACK_DELAY_MS = 3_600_000
"""The longest that a nack puts a message off: an hour."""

MAX_NACK_DELAY = MAX_NACK_DELAY_MS / 1000
"""The same in seconds."""


# Values


@dataclass(frozen=True, slots=True)
class Watched:
    """Whose coming and going a session wants to hear of: everyone's, or these peers'."""

    everyone: bool = False
    peers: frozenset[PeerId] = frozenset()

    def __contains__(self, peer: object) -> bool:
        return self.everyone or peer in self.peers


WATCH_ALL = Watched(everyone=True)
WATCH_NONE = Watched()


@dataclass(frozen=True, slots=True)
class Register:
    """
    The first frame of a session: who it speaks for, and under which display name.

    Attributes:
        public_key: Whom it speaks for.
        name: The display name it claims.
        nonce: For the relay to sign, 64 hex digits; None in the reference dialect,
            which proves nothing. The rest counts in Agora/1 alone.
        watched: Whose presence it wants to hear of.
        receives: Whether it gets mail; a session that only sends is not announced.
    """

    public_key: PeerId
    name: str | None = None
    nonce: str | None = None
    watched: Watched = WATCH_ALL
    receives: bool = True


@dataclass(frozen=True, slots=True)
class Authenticate:
    """
    The answer to a ``challenge``: the key's signature over what it is for.

    ``audience`` is what was signed as the relay's host and port; a hint for the
    relay's own error message alone, None where it was not told.
    """

    signature: str
    audience: str | None = None


class Submit(msgspec.Struct, frozen=True, gc=False):
    """
    A ``message`` frame: hand this envelope (not yet trusted) to these peers.

    Attributes:
        to: One or more recipients, each once.
        envelope: What they get.
        confirm: Whether the recipient shall send a signed acknowledgement.
        after: Id of the envelope that must have been taken for the same recipient before.
        traceparent: Where in a trace it was sent, for whoever goes on with that.
    """

    to: tuple[str, ...]
    envelope: Sealed
    confirm: bool = False
    after: str | None = None
    traceparent: str | None = None


class Broadcast(msgspec.Struct, frozen=True, gc=False):
    """Hand this envelope (not yet trusted) to everyone who is online."""

    envelope: Sealed


class Ack(msgspec.Struct, frozen=True, gc=False):
    """The application has these messages."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Nack:
    """Not now: bring these messages again, after *delay* seconds."""

    ids: tuple[str, ...]
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Watch:
    """Change whose presence the session hears of; answered by the present state."""

    watched: Watched


class Ping(msgspec.Struct, frozen=True, gc=False):
    """Are you there? Answered by ``pong`` when all that was sent before it is settled."""


@dataclass(frozen=True, slots=True)
class UnknownRequest:
    """A frame of no known type; ``type_text`` is its type as JavaScript would print it."""

    type_text: str


Request = Register | Authenticate | Submit | Broadcast | Ack | Nack | Watch | Ping | UnknownRequest


# Decoding


def decode_in_full(data: str | bytes, *, protocol: int = PROTOCOL) -> Request:
    """
    Read what a client sent, member by member.

    With *protocol* 0 it is read as the reference dialect has it, which knows no
    lists of recipients, no flags, and of Agora/1 only the registration.

    Raises:
        FrameError: With code ``invalid_message``, the reference's text, and as much
            as could be read of the frame's type, envelope id and recipient.
    """
    decoders = _AGORA if protocol == PROTOCOL else _REFERENCE
    return decode(data, decoders, UnknownRequest)


def _decode_register(members: Members) -> Register:
    public_key, name = members.get("publicKey"), text_or_none(members.get("name"))
    if not is_peer_id(public_key):
        raise _bad_registration("missing or invalid publicKey")
    protocol = members.get("protocol")
    if not (is_number(protocol) and protocol >= PROTOCOL):
        return Register(public_key, name)
    if not is_nonce(nonce := members.get("nonce")):
        raise _bad_registration("missing or invalid nonce")
    if not isinstance(receives := members.get("receive", True), bool):
        raise _bad_registration("invalid receive")
    watched = _watched(members.get("presence", "all"), "register")
    return Register(public_key, name, nonce, watched, receives)


def _bad_registration(what: str) -> FrameError:
    text = f"Invalid registration: {what}"
    return FrameError(ErrorCode.INVALID_MESSAGE, text, frame_type="register")


def _watched(presence: Json, frame_type: str) -> Watched:
    if presence == "all":
        return WATCH_ALL
    if presence == "none":
        return WATCH_NONE
    peers = presence if isinstance(presence, list) else [None]
    known = frozenset(peer for peer in peers if is_peer_id(peer))
    if not all(map(is_peer_id, peers)):
        text = f'Invalid {frame_type}: "presence" is neither "all" nor "none" nor peer ids'
        raise FrameError(ErrorCode.INVALID_MESSAGE, text, frame_type=frame_type)
    return Watched(peers=known)


def _decode_authenticate(members: Members) -> Authenticate:
    signature = members.get("signature")
    if not isinstance(signature, str):
        raise _bad_member("authenticate", "signature")
    return Authenticate(signature, text_or_none(members.get("audience")))


def _decode_plain_submit(members: Members) -> Submit:
    to, envelope = members.get("to"), Sealed(members.get("envelope"))
    if not (isinstance(to, str) and to):
        raise _bad_member("message", "to", envelope)
    if not is_truthy(envelope.value):
        raise _bad_member("message", "envelope", envelope, to)
    return Submit((to,), envelope)


def _decode_submit(members: Members) -> Submit:
    envelope = Sealed(members.get("envelope"))
    to, after = members.get("to"), members.get("after")
    confirm, traceparent = members.get("confirm", False), members.get("traceparent")
    recipients = _texts(to if isinstance(to, list) else [to])
    if not recipients:
        raise _bad_member("message", "to", envelope)
    if not is_truthy(envelope.value):
        raise _bad_member("message", "envelope", envelope, recipients[0])
    if not isinstance(confirm, bool):
        raise _bad_member("message", "confirm", envelope, recipients[0])
    if not (isinstance(after, str) or "after" not in members):
        raise _bad_member("message", "after", envelope, recipients[0])
    if not (is_traceparent(traceparent) or "traceparent" not in members):
        raise _bad_member("message", "traceparent", envelope, recipients[0])
    return Submit(recipients, envelope, confirm, text_or_none(after), text_or_none(traceparent))


def _texts(values: list[Json]) -> tuple[str, ...] | None:
    """Return each of *values* once; None unless all are texts that say something."""
    known = dict.fromkeys(value for value in values if isinstance(value, str) and value)
    return tuple(known) if all(isinstance(value, str) and value for value in values) else None


def _decode_broadcast(members: Members) -> Broadcast:
    envelope = Sealed(members.get("envelope"))
    if not is_truthy(envelope.value):
        raise _bad_member("broadcast", "envelope", envelope)
    return Broadcast(envelope)


def _decode_ack(members: Members) -> Ack:
    return Ack(_ids(members, "ack"))


def _decode_nack(members: Members) -> Nack:
    delay_ms = members.get("delayMs", 0)
    if not (is_number(delay_ms) and 0 <= delay_ms <= MAX_NACK_DELAY_MS):
        raise _bad_member("nack", "delayMs")
    return Nack(_ids(members, "nack"), delay_ms / 1000)


def _ids(members: Members, frame_type: str) -> tuple[str, ...]:
    listed = members.get("ids")
    ids = _texts(listed) if isinstance(listed, list) else None
    if not ids or len(ids) > MAX_IDS:
        raise _bad_member(frame_type, "ids")
    return ids


def _decode_watch(members: Members) -> Watch:
    return Watch(_watched(members.get("presence"), "watch"))


def _bad_member(
    frame_type: str, member: str, envelope: Sealed | None = None, to: str | None = None
) -> FrameError:
    return FrameError(
        ErrorCode.INVALID_MESSAGE,
        f'Invalid {frame_type}: missing or invalid "{member}" field',
        frame_type=frame_type,
        envelope_id=envelope.claimed_id if envelope else None,
        to=to,
    )


def _decode_ping(members: Members) -> Ping:
    return Ping()


_REFERENCE: Decoders[Request] = {
    "register": _decode_register,
    "message": _decode_plain_submit,
    "broadcast": _decode_broadcast,
    "ping": _decode_ping,
}

_AGORA: Decoders[Request] = {
    **_REFERENCE,
    "authenticate": _decode_authenticate,
    "message": _decode_submit,
    "ack": _decode_ack,
    "nack": _decode_nack,
    "watch": _decode_watch,
}


# Encoding


def encode_register(
    public_key: PeerId,
    name: str | None,
    *,
    nonce: str | None = None,
    watched: Watched = WATCH_ALL,
    receives: bool = True,
) -> str:
    """Return the ``register`` frame: of Agora/1 with a *nonce*, else of the reference dialect."""
    members: dict[str, Json] = {"type": "register", "publicKey": public_key, "name": name}
    if nonce is not None:
        members |= {"protocol": PROTOCOL, "nonce": nonce, "presence": _watched_members(watched)}
        members["receive"] = None if receives else False
    return encode(members)


def encode_authenticate(signature: str, audience: str | None = None) -> str:
    """Return the ``authenticate`` frame."""
    return encode({"type": "authenticate", "signature": signature, "audience": audience})


def encode_submit(
    to: str | Sequence[str],
    envelope_text: str,
    *,
    confirm: bool = False,
    after: str | None = None,
    traceparent: str | None = None,
) -> str:
    """Return the ``message`` frame that asks to deliver an envelope, given as JSON text."""
    more = ',"confirm":true' * confirm + ("" if after is None else f',"after":{json_text(after)}')
    more += traceparent_member(traceparent)
    recipients = json_text(to if isinstance(to, str) else [*to])
    return f'{{"type":"message","to":{recipients}{more},"envelope":{envelope_text}}}'


def encode_broadcast(envelope_text: str) -> str:
    """Return the ``broadcast`` frame for an envelope, given as JSON text."""
    return f'{{"type":"broadcast","envelope":{envelope_text}}}'


def encode_ack(ids: Iterable[str]) -> str:
    """Return the ``ack`` frame."""
    return encode({"type": "ack", "ids": list(ids)})


def encode_nack(ids: Iterable[str], delay: float) -> str:
    """Return the ``nack`` frame; *delay* in seconds."""
    return encode({"type": "nack", "ids": list(ids), "delayMs": round(delay * 1000)})


def encode_watch(watched: Watched) -> str:
    """Return the ``watch`` frame."""
    return encode({"type": "watch", "presence": _watched_members(watched)})


def _watched_members(watched: Watched) -> Json:
    if watched.everyone:
        return "all"
    return [*sorted(watched.peers)] or "none"
