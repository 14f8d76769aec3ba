"""
What travels on the WebSocket: one JSON object a message, typed on arrival.

Requests go from client to relay, answers from relay to client. Decoding checks
shape alone: what a frame may do depends on the session, and whether an
envelope is genuine on :mod:`agora.envelope`. Unknown members are ignored.

Source: the frames of the reference, of both its dialects (docs/reference/protocol.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agora.canonical import Json, json_text, parse_json
from agora.codes import ErrorCode
from agora.ecmascript import UNDEFINED, is_number, is_truthy, template_text
from agora.envelope import Sealed
from agora.errors import CanonicalJSONError, FrameError
from agora.keys import PeerId, is_peer_id

__all__ = [
    "PING",
    "PONG",
    "Answer",
    "Broadcast",
    "Delivery",
    "ErrorAnswer",
    "ListedPeer",
    "PeerOffline",
    "PeerOnline",
    "Ping",
    "Pong",
    "Register",
    "Registered",
    "Request",
    "Submit",
    "UnknownAnswer",
    "UnknownRequest",
    "decode_answer",
    "decode_request",
    "encode_broadcast",
    "encode_delivery",
    "encode_error",
    "encode_presence",
    "encode_register",
    "encode_registered",
    "encode_submit",
]

PING = '{"type":"ping"}'
PONG = '{"type":"pong"}'


# Requests: what a client says


@dataclass(frozen=True, slots=True)
class Register:
    """The first frame of a session: who it speaks for, and under which display name."""

    public_key: PeerId
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Submit:
    """A ``message`` frame: hand this envelope (not yet trusted) to one peer."""

    to: str
    envelope: Sealed


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Hand this envelope (not yet trusted) to everyone who is online."""

    envelope: Sealed


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there? Answered by ``pong`` when all that was sent before it is settled."""


@dataclass(frozen=True, slots=True)
class UnknownRequest:
    """A frame of no known type; ``type_text`` is its type as JavaScript would print it."""

    type_text: str


Request = Register | Submit | Broadcast | Ping | UnknownRequest


# Answers: what a relay says


@dataclass(frozen=True, slots=True)
class ListedPeer:
    """One entry of a peer list. The name is claimed, not proven."""

    public_key: PeerId
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Registered:
    """The session is open; these peers are reachable. ``relay`` is the relay's own peer id."""

    peers: tuple[ListedPeer, ...] = ()
    session_id: str | None = None
    relay: PeerId | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A ``message`` frame from the relay: an envelope (not yet trusted) and who sent it."""

    sender: str
    envelope: Sealed
    name: str | None = None


@dataclass(frozen=True, slots=True)
class PeerOnline:
    """A peer has come."""

    peer: ListedPeer


@dataclass(frozen=True, slots=True)
class PeerOffline:
    """A peer has gone."""

    peer: ListedPeer


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a ``ping``."""


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """
    The relay refused something.

    Relays of the reference leave ``code`` out nearly always and ``envelope_id``,
    ``to`` and ``retry_after`` (seconds) always.
    """

    message: str
    code: str | None = None
    envelope_id: str | None = None
    to: str | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class UnknownAnswer:
    """A frame of a type this version does not know; to be ignored."""

    type_text: str


Answer = Registered | Delivery | PeerOnline | PeerOffline | Pong | ErrorAnswer | UnknownAnswer


# Decoding


def decode_request(data: str | bytes) -> Request:
    """
    Read what a client sent.

    Raises:
        FrameError: With code ``invalid_message``, the reference's text, and as much
            as could be read of the frame's type, envelope id and recipient.
    """
    members = _parse_members(data)
    if members is None:
        return UnknownRequest("undefined")
    frame_type = members.get("type", UNDEFINED)
    decoder = _REQUESTS.get(frame_type) if isinstance(frame_type, str) else None
    return decoder(members) if decoder else UnknownRequest(_type_text(frame_type))


def decode_answer(data: str | bytes) -> Answer:
    """
    Read what a relay sent.

    Raises:
        FrameError: When it is not a JSON object of the documented shape.
    """
    members = _parse_members(data)
    if members is None:
        return UnknownAnswer("undefined")
    frame_type = members.get("type", UNDEFINED)
    decoder = _ANSWERS.get(frame_type) if isinstance(frame_type, str) else None
    return decoder(members) if decoder else UnknownAnswer(_type_text(frame_type))


def _type_text(frame_type: Json) -> str:
    return template_text(frame_type, at_most=_MAX_TYPE_TEXT)


def _parse_members(data: str | bytes) -> Mapping[str, Json] | None:
    """Return the frame's members; None for JSON that is no object and not null."""
    try:
        value = parse_json(data)
    except CanonicalJSONError as error:
        raise FrameError(ErrorCode.INVALID_MESSAGE, "Invalid message format") from error
    if value is None:
        raise FrameError(ErrorCode.INVALID_MESSAGE, "Invalid message format")
    return value if isinstance(value, dict) else None


def _decode_register(members: Mapping[str, Json]) -> Register:
    public_key, name = members.get("publicKey"), members.get("name")
    if not is_peer_id(public_key):
        raise FrameError(
            ErrorCode.INVALID_MESSAGE,
            "Invalid registration: missing or invalid publicKey",
            frame_type="register",
        )
    return Register(public_key, name if isinstance(name, str) else None)


def _decode_submit(members: Mapping[str, Json]) -> Submit:
    to, envelope = members.get("to"), Sealed(members.get("envelope"))
    if not (isinstance(to, str) and to):
        raise _bad_member("message", "to", envelope, None)
    if not is_truthy(envelope.value):
        raise _bad_member("message", "envelope", envelope, to)
    return Submit(to, envelope)


def _decode_broadcast(members: Mapping[str, Json]) -> Broadcast:
    envelope = Sealed(members.get("envelope"))
    if not is_truthy(envelope.value):
        raise _bad_member("broadcast", "envelope", envelope, None)
    return Broadcast(envelope)


def _bad_member(frame_type: str, member: str, envelope: Sealed, to: str | None) -> FrameError:
    return FrameError(
        ErrorCode.INVALID_MESSAGE,
        f'Invalid {frame_type}: missing or invalid "{member}" field',
        frame_type=frame_type,
        envelope_id=envelope.claimed_id,
        to=to,
    )


def _decode_ping(members: Mapping[str, Json]) -> Ping:
    return Ping()


def _decode_registered(members: Mapping[str, Json]) -> Registered:
    listed = members.get("peers")
    entries = listed if isinstance(listed, list) else []
    session_id, relay = members.get("sessionId"), members.get("relay")
    return Registered(
        peers=tuple(peer for peer in map(_listed_peer, entries) if peer),
        session_id=session_id if isinstance(session_id, str) else None,
        relay=relay if is_peer_id(relay) else None,
    )


def _listed_peer(entry: Json) -> ListedPeer | None:
    if not isinstance(entry, dict) or not is_peer_id(public_key := entry.get("publicKey")):
        return None
    name = entry.get("name")
    return ListedPeer(public_key, name if isinstance(name, str) and name else None)


def _decode_delivery(members: Mapping[str, Json]) -> Delivery:
    sender, name = members.get("from"), members.get("name")
    envelope = Sealed(members.get("envelope"))
    if not isinstance(sender, str) or "envelope" not in members:
        raise FrameError(
            ErrorCode.INVALID_MESSAGE,
            'a message without "from" or "envelope"',
            frame_type="message",
            envelope_id=envelope.claimed_id,
        )
    return Delivery(sender, envelope, name if isinstance(name, str) and name else None)


def _decode_presence(
    make: Callable[[ListedPeer], Answer],
) -> Callable[[Mapping[str, Json]], Answer]:
    def decode(members: Mapping[str, Json]) -> Answer:
        peer = _listed_peer(dict(members))
        return make(peer) if peer else UnknownAnswer("presence of no peer id")

    return decode


def _decode_pong(members: Mapping[str, Json]) -> Pong:
    return Pong()


def _decode_error(members: Mapping[str, Json]) -> ErrorAnswer:
    message, code, to = members.get("message"), members.get("code"), members.get("to")
    identifier, wait_ms = members.get("id"), members.get("retryAfterMs")
    return ErrorAnswer(
        message=message if isinstance(message, str) else "Unknown error",
        code=code if isinstance(code, str) else None,
        envelope_id=identifier if isinstance(identifier, str) else None,
        to=to if isinstance(to, str) else None,
        retry_after=max(0.0, wait_ms / 1000) if is_number(wait_ms) else None,
    )


_REQUESTS: Mapping[str, Callable[[Mapping[str, Json]], Request]] = {
    "register": _decode_register,
    "message": _decode_submit,
    "broadcast": _decode_broadcast,
    "ping": _decode_ping,
}

_ANSWERS: Mapping[str, Callable[[Mapping[str, Json]], Answer]] = {
    "registered": _decode_registered,
    "message": _decode_delivery,
    "peer_online": _decode_presence(PeerOnline),
    "peer_offline": _decode_presence(PeerOffline),
    "pong": _decode_pong,
    "error": _decode_error,
}


_MAX_TYPE_TEXT = 200
"""Characters of a stranger's own words that an error repeats: it must not carry texts about."""


# Encoding


def encode_register(public_key: PeerId, name: str | None) -> str:
    """Return the ``register`` frame."""
    return _encode({"type": "register", "publicKey": public_key, "name": name})


def encode_submit(to: str, envelope_text: str) -> str:
    """Return the ``message`` frame that asks to deliver an envelope, given as JSON text."""
    return f'{{"type":"message","to":{json_text(to)},"envelope":{envelope_text}}}'


def encode_broadcast(envelope_text: str) -> str:
    """Return the ``broadcast`` frame for an envelope, given as JSON text."""
    return f'{{"type":"broadcast","envelope":{envelope_text}}}'


def encode_registered(
    public_key: PeerId, session_id: str, peers: list[ListedPeer], relay: PeerId | None
) -> str:
    """Return the ``registered`` frame."""
    # By hand: with ten thousand peers this is a megabyte, and everyone who comes gets it.
    listed = ",".join(map(_peer_text, peers))
    relay_member = "" if relay is None else f',"relay":"{relay}"'
    return (
        f'{{"type":"registered","publicKey":"{public_key}","sessionId":{json_text(session_id)},'
        f'"peers":[{listed}]{relay_member}}}'
    )


def _peer_text(peer: ListedPeer) -> str:
    name_member = "" if peer.name is None else f',"name":{json_text(peer.name)}'
    return f'{{"publicKey":"{peer.public_key}"{name_member}}}'


def encode_delivery(sender: PeerId, envelope_text: str, name: str | None) -> str:
    """Return the ``message`` frame that brings an envelope, given as JSON text."""
    name_member = "" if name is None else f',"name":{json_text(name)}'
    return f'{{"type":"message","from":"{sender}"{name_member},"envelope":{envelope_text}}}'


def encode_presence(peer: ListedPeer, *, is_online: bool) -> str:
    """Return the ``peer_online`` or ``peer_offline`` frame."""
    frame_type = "peer_online" if is_online else "peer_offline"
    return _encode({"type": frame_type, **_peer_members(peer)})


def encode_error(
    code: str,
    message: str,
    *,
    envelope_id: str | None = None,
    to: str | None = None,
    reason: str | None = None,
    retry_after: float | None = None,
) -> str:
    """Return the ``error`` frame; *retry_after* in seconds."""
    return _encode(
        {
            "type": "error",
            "message": message,
            "code": str(code),
            "reason": reason,
            "id": envelope_id,
            "to": to,
            "retryAfterMs": None if retry_after is None else _to_milliseconds(retry_after),
        }
    )


def _to_milliseconds(seconds: float) -> int:
    # Rounded up: a client that waits as told must find the rate refilled.
    return max(1, -int(-seconds * 1000 // 1))


def _peer_members(peer: ListedPeer) -> dict[str, Json]:
    return {"publicKey": peer.public_key} | ({} if peer.name is None else {"name": peer.name})


def _encode(members: dict[str, Json]) -> str:
    """Write a frame; what is None is left out, as the protocol wants absent values."""
    return json_text({name: value for name, value in members.items() if value is not None})
