"""
Answers: what a relay says to a client.

A relay is read generously, for there are others than ours: a member of another
type than documented counts as absent where the frame makes sense without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from agora.canonical import Json, json_text
from agora.codes import ErrorCode, ReceiptStatus
from agora.ecmascript import is_number
from agora.errors import FrameError
from agora.frames.members import (
    PROTOCOL,
    Decoders,
    Members,
    decode,
    encode,
    is_nonce,
    is_traceparent,
    name_member,
    number_or_none,
    string_text,
    text_or_none,
    traceparent_member,
    type_text,
)
from agora.keys import PeerId, is_peer_id
from agora.sealed import Sealed

__all__ = [
    "PONG",
    "AnnouncedLimits",
    "Answer",
    "Challenge",
    "Delivery",
    "ErrorAnswer",
    "ListedPeer",
    "PeerOffline",
    "PeerOnline",
    "Pong",
    "PresenceAnswer",
    "ReceiptAnswer",
    "Registered",
    "UnknownAnswer",
    "agora_members",
    "decode_answer",
    "encode_challenge",
    "encode_delivery",
    "encode_error",
    "encode_presence",
    "encode_presence_changes",
    "encode_receipt",
    "encode_registered",
    "peer_entries",
    "peer_members",
]

PONG = '{"type":"pong"}'


# Values


@dataclass(frozen=True, slots=True)
class ListedPeer:
    """
    One entry of a peer list. The name is claimed, not proven.

    ``is_online`` is False for a peer that is listed because it has a mailbox.
    """

    public_key: PeerId
    name: str | None = None
    is_online: bool = True


@dataclass(frozen=True, slots=True)
class Challenge:
    """Prove that the key is yours; *signature* is the relay's, over both nonces."""

    nonce: str
    relay: PeerId
    signature: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnouncedLimits:
    """
    What a relay says it admits; None where it says nothing.

    Attributes:
        max_frame_bytes: Largest frame it takes.
        max_recipients: Most recipients of one frame.
        window: Messages in flight to one session, unacked.
        window_bytes: Bytes of the same.
        messages_per_second: What a key may send for as long as it likes.
        mailbox_messages: Messages one mailbox holds.
        retention_seconds: How long mail is kept; 0 is for ever.
    """

    max_frame_bytes: float | None = None
    max_recipients: float | None = None
    window: float | None = None
    window_bytes: float | None = None
    messages_per_second: float | None = None
    mailbox_messages: float | None = None
    retention_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Registered:
    """
    The session is open; these peers are reachable.

    Attributes:
        peers: Those watched, at most 1,000 in Agora/1.
        session_id: The relay's name for the session.
        relay: The relay's own peer id.
        protocol: 1 for Agora/1; 0 for the reference dialect, where the rest is empty.
        now_ms: The relay's clock, in milliseconds since the Unix epoch.
        pending: Messages that wait in the peer's mailbox.
        peers_total: How many watched peers there are, listed here or not.
        limits: What the relay admits.
    """

    peers: tuple[ListedPeer, ...] = ()
    session_id: str | None = None
    relay: PeerId | None = None
    protocol: int = 0
    now_ms: float | None = None
    pending: int = 0
    peers_total: int = 0
    limits: AnnouncedLimits = field(default_factory=AnnouncedLimits)


@dataclass(frozen=True, slots=True)
class Delivery:
    """
    A ``message`` frame from the relay: an envelope (not yet trusted) and who sent it.

    Attributes:
        sender: Whom the relay knows it from.
        envelope: What was sent.
        name: The display name the sender claims.
        is_stored: Whether it waited in the mailbox, so that its age says nothing.
        confirm: Whether the sender asks for a signed acknowledgement.
        traceparent: Where in a trace it comes from, if it was told.
    """

    sender: str
    envelope: Sealed
    name: str | None = None
    is_stored: bool = False
    confirm: bool = False
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class ReceiptAnswer:
    """
    What became of one envelope for one recipient; ``"*"`` for a broadcast, with a count.

    ``status`` is a :class:`~agora.codes.ReceiptStatus`.
    """

    envelope_id: str
    to: str
    status: ReceiptStatus
    count: int | None = None


@dataclass(frozen=True, slots=True)
class PresenceAnswer:
    """Who of those watched is online now, and who is not, since the last such frame."""

    online: tuple[ListedPeer, ...] = ()
    offline: tuple[PeerId, ...] = ()


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
    ``to``, ``retry_after`` (seconds) and ``now_ms`` (the relay's clock) always.
    """

    message: str
    code: str | None = None
    envelope_id: str | None = None
    to: str | None = None
    retry_after: float | None = None
    now_ms: float | None = None


@dataclass(frozen=True, slots=True)
class UnknownAnswer:
    """A frame of a type this version does not know; to be ignored."""

    type_text: str


Answer = (
    Challenge
    | Registered
    | Delivery
    | ReceiptAnswer
    | PresenceAnswer
    | PeerOnline
    | PeerOffline
    | Pong
    | ErrorAnswer
    | UnknownAnswer
)


# Decoding


def decode_answer(data: str | bytes) -> Answer:
    """
    Read what a relay sent.

    Raises:
        FrameError: When it is not a JSON object of the documented shape.
    """
    return decode(data, _DECODERS, UnknownAnswer)


def _decode_challenge(members: Members) -> Challenge:
    nonce, relay = members.get("nonce"), members.get("relay")
    signature = members.get("signature")
    if not (is_nonce(nonce) and is_peer_id(relay) and isinstance(signature, str)):
        raise _senseless("challenge", "a challenge without nonce, relay or signature")
    return Challenge(nonce, relay, signature)


def _decode_registered(members: Members) -> Registered:
    peers = tuple(_listed_peers(members.get("peers")))
    session_id, relay = text_or_none(members.get("sessionId")), members.get("relay")
    plain = Registered(peers, session_id, relay if is_peer_id(relay) else None)
    if number_or_none(members.get("protocol")) != PROTOCOL:
        return plain
    return replace(
        plain,
        protocol=PROTOCOL,
        now_ms=number_or_none(members.get("now")),
        pending=_count(members.get("pending")) or 0,
        # Who is listed is there, whatever the total says.
        peers_total=max(len(peers), _count(members.get("peersTotal")) or 0),
        limits=_announced_limits(members.get("limits")),
    )


def _count(value: Json) -> int | None:
    return max(0, int(value)) if is_number(value) else None


def _announced_limits(value: Json) -> AnnouncedLimits:
    told = value if isinstance(value, dict) else {}
    numbers = {name: number_or_none(told.get(key)) for name, key in _LIMIT_KEYS.items()}
    return AnnouncedLimits(**numbers)


_LIMIT_KEYS = {
    "max_frame_bytes": "maxFrameBytes",
    "max_recipients": "maxRecipients",
    "window": "window",
    "window_bytes": "windowBytes",
    "messages_per_second": "messagesPerSecond",
    "mailbox_messages": "mailboxMessages",
    "retention_seconds": "retentionSeconds",
}


def _listed_peers(entries: Json) -> Iterator[ListedPeer]:
    """Yield the entries of a list that are peers; others tell nothing."""
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and (peer := _listed_peer(entry)):
            yield peer


def _listed_peer(entry: Members) -> ListedPeer | None:
    if not is_peer_id(public_key := entry.get("publicKey")):
        return None
    name, is_online = _claimed_name(entry), entry.get("online") is not False
    return ListedPeer(public_key, name, is_online)


def _claimed_name(members: Members) -> str | None:
    return text_or_none(members.get("name")) or None


def _decode_delivery(members: Members) -> Delivery:
    sender, envelope = members.get("from"), Sealed(members.get("envelope"))
    if not isinstance(sender, str) or "envelope" not in members:
        text = 'a message without "from" or "envelope"'
        raise _senseless("message", text, envelope.claimed_id)
    traceparent = members.get("traceparent")
    return Delivery(
        sender,
        envelope,
        _claimed_name(members),
        is_stored=members.get("stored") is True,
        confirm=members.get("confirm") is True,
        traceparent=traceparent if is_traceparent(traceparent) else None,
    )


def _decode_receipt(members: Members) -> Answer:
    envelope_id, to, status = members.get("id"), members.get("to"), members.get("status")
    if not isinstance(envelope_id, str) or not isinstance(to, str):
        raise _senseless("receipt", "a receipt without id or to")
    if status not in tuple(ReceiptStatus):
        return UnknownAnswer(f"receipt of status {type_text(status)}")
    count = _count(members.get("count"))
    return ReceiptAnswer(envelope_id, to, ReceiptStatus(str(status)), count)


def _decode_presence_changes(members: Members) -> PresenceAnswer:
    come, gone = members.get("online"), members.get("offline")
    keys = gone if isinstance(gone, list) else []
    offline = tuple(key for key in keys if is_peer_id(key))
    return PresenceAnswer(tuple(_listed_peers(come)), offline)


def _decode_peer_online(members: Members) -> Answer:
    peer = _listed_peer(members)
    return PeerOnline(peer) if peer else UnknownAnswer("presence of no peer id")


def _decode_peer_offline(members: Members) -> Answer:
    peer = _listed_peer(members)
    return PeerOffline(peer) if peer else UnknownAnswer("presence of no peer id")


def _decode_pong(members: Members) -> Pong:
    return Pong()


def _decode_error(members: Members) -> ErrorAnswer:
    message, wait_ms = text_or_none(members.get("message")), members.get("retryAfterMs")
    return ErrorAnswer(
        message="Unknown error" if message is None else message,
        code=text_or_none(members.get("code")),
        envelope_id=text_or_none(members.get("id")),
        to=text_or_none(members.get("to")),
        retry_after=max(0.0, wait_ms / 1000) if is_number(wait_ms) else None,
        now_ms=number_or_none(members.get("now")),
    )


def _senseless(frame_type: str, text: str, envelope_id: str | None = None) -> FrameError:
    code = ErrorCode.INVALID_MESSAGE
    return FrameError(code, text, frame_type=frame_type, envelope_id=envelope_id)


_DECODERS: Decoders[Answer] = {
    "challenge": _decode_challenge,
    "registered": _decode_registered,
    "message": _decode_delivery,
    "receipt": _decode_receipt,
    "presence": _decode_presence_changes,
    "peer_online": _decode_peer_online,
    "peer_offline": _decode_peer_offline,
    "pong": _decode_pong,
    "error": _decode_error,
}


# Encoding


def encode_challenge(nonce: str, relay: PeerId, signature: str) -> str:
    """Return the ``challenge`` frame; *nonce* is hex digits."""
    signed = f'"relay":"{relay}","signature":{json_text(signature)}'
    return f'{{"type":"challenge","nonce":"{nonce}",{signed}}}'


def encode_registered(
    public_key: PeerId,
    session_id: str,
    peers: Iterable[ListedPeer] | str,
    relay: PeerId | None,
    more: str | None = None,
) -> str:
    """
    Return the ``registered`` frame.

    *peers* may be the entries as `peer_entries` writes them. *more* is what
    `agora_members` adds; with it, peers say whether they are online.
    """
    # By hand: with ten thousand peers this is a megabyte, and everyone who comes gets it.
    if not isinstance(peers, str):
        write = _peer_text if more is None else _peer_state_text
        peers = ",".join(map(write, peers))
    relay_member = "" if relay is None else f',"relay":"{relay}"'
    added = "" if more is None else f",{more}"
    return (
        f'{{"type":"registered","publicKey":"{public_key}","sessionId":{json_text(session_id)},'
        f'"peers":[{peers}]{relay_member}{added}}}'
    )


def agora_members(
    *, now_ms: int, pending: int | None, peers_total: int, limits: AnnouncedLimits
) -> str:
    """Return what Agora/1 adds to ``registered``, as text; without *pending* where it is None."""
    counted = "" if pending is None else f',"pending":{pending}'
    return (
        f'"protocol":{PROTOCOL},"peersTotal":{peers_total},"now":{now_ms}{counted},'
        f'"limits":{_limits_text(limits)}'
    )


@lru_cache(maxsize=16)
def _limits_text(limits: AnnouncedLimits) -> str:
    """Write what a relay admits: the same to everyone, so written once."""
    numbers = {key: getattr(limits, name) for name, key in _LIMIT_KEYS.items()}
    return encode(numbers)


def peer_members(peer: ListedPeer) -> str:
    """Return the members by which others know *peer*: the same in every frame that names it."""
    return f'"publicKey":"{peer.public_key}"{name_member(peer.name)}'


def peer_entries(
    online: Sequence[str], away: Sequence[str] = (), *, have_state: bool = False
) -> str:
    """
    Return the entries of a list of peers, each given by its `peer_members`.

    A list of thousands is one join of texts that are there already. With
    *have_state*, as Agora/1 lists them, each says whether it is online.
    """
    come, gone = (',"online":true}', ',"online":false}') if have_state else ("}", "}")
    return ",".join(_entries(online, come) + _entries(away, gone))


def _entries(peers: Sequence[str], end: str) -> list[str]:
    """Return the text of all entries, each of which ends the same; none where there are none."""
    return ["{" + f"{end},{{".join(peers) + end] if peers else []


def _peer_text(peer: ListedPeer) -> str:
    return f"{{{peer_members(peer)}}}"


def _peer_state_text(peer: ListedPeer) -> str:
    online = "true" if peer.is_online else "false"
    return f'{{{peer_members(peer)},"online":{online}}}'


def encode_delivery(
    sender: PeerId,
    envelope_text: str,
    name: str | None,
    *,
    is_stored: bool = False,
    confirm: bool = False,
    traceparent: str | None = None,
) -> str:
    """Return the ``message`` frame that brings an envelope, given as JSON text."""
    flags = ',"stored":true' * is_stored + ',"confirm":true' * confirm
    if traceparent is not None:
        flags += traceparent_member(traceparent)
    head = f'{{"type":"message","from":"{sender}"{name_member(name)}{flags}'
    return f'{head},"envelope":{envelope_text}}}'


def encode_receipt(
    envelope_id: str, to: str, status: ReceiptStatus, count: int | None = None
) -> str:
    """Return the ``receipt`` frame."""
    counted = "" if count is None else f',"count":{count}'
    answered = f'"id":{string_text(envelope_id)},"to":{string_text(to)}'
    return f'{{"type":"receipt",{answered},"status":"{status}"{counted}}}'


def encode_presence_changes(online: Iterable[ListedPeer] | str, offline: Iterable[PeerId]) -> str:
    """
    Return the ``presence`` frame: of each peer the state it is in now.

    *online* may be the entries as `peer_entries` writes them.
    """
    come = online if isinstance(online, str) else ",".join(map(_peer_text, online))
    gone = ",".join([f'"{peer}"' for peer in offline])
    return f'{{"type":"presence","online":[{come}],"offline":[{gone}]}}'


def encode_presence(peer: ListedPeer, *, is_online: bool) -> str:
    """Return the ``peer_online`` or ``peer_offline`` frame."""
    frame_type = "peer_online" if is_online else "peer_offline"
    return f'{{"type":"{frame_type}",{peer_members(peer)}}}'


def encode_error(
    code: str,
    message: str,
    *,
    envelope_id: str | None = None,
    to: str | None = None,
    reason: str | None = None,
    retry_after: float | None = None,
    scope: str | None = None,
    now_ms: int | None = None,
) -> str:
    """Return the ``error`` frame; *retry_after* in seconds."""
    return encode(
        {
            "type": "error",
            "message": message,
            "code": str(code),
            "reason": reason,
            "id": envelope_id,
            "to": to,
            "retryAfterMs": None if retry_after is None else _to_milliseconds(retry_after),
            "scope": scope,
            "now": now_ms,
        }
    )


def _to_milliseconds(seconds: float) -> int:
    # Rounded up: a client that waits as told must find the rate refilled.
    return max(1, -int(-seconds * 1000 // 1))
