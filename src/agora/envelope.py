"""
The signed message: `seal` makes an envelope, `open_envelope` is the only way to trust one.

An envelope's id is the SHA-256 of its canonical text, and its signature is
over that same text. Members that are not signed are stripped: nothing unsigned
rides along. What came from elsewhere is `Sealed` until it was opened; the rest
of the program takes an `Envelope`.

The rule kept here: whatever `open_envelope` is given, the answer is an
`Envelope` or an `EnvelopeError` with a reason of the reference. Where we are
stricter than the reference, docs/reference/quirks.md says so row by row.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import ClassVar, Final, Self, TypeVar, cast

from agora.canonical import Json, canonical_text, json_text, parse_json
from agora.ecmascript import WHITE_SPACE, is_number, is_truthy
from agora.errors import CanonicalJSONError, EnvelopeError
from agora.keys import KeyPair, PeerId, is_peer_id, verify
from agora.sealed import (
    EVERYONE,
    ID_MISMATCH,
    INVALID_ROUTING,
    INVALID_SIGNATURE,
    PlainSealed,
    Sealed,
    is_envelope_id,
    wire_text,
)

__all__ = [
    "ENVELOPE_REASONS",
    "EVERYONE",
    "MAX_PAYLOAD_DEPTH",
    "Envelope",
    "LegacyEnvelope",
    "Sealed",
    "is_envelope_id",
    "open_envelope",
    "open_legacy_envelope",
    "seal",
    "seal_legacy",
]

MAX_PAYLOAD_DEPTH: Final = 512
"""Nested arrays and objects that `seal` takes; `MAX_DEPTH` leaves room for envelope and frame."""

ENVELOPE_REASONS: Final = (INVALID_ROUTING, ID_MISMATCH, INVALID_SIGNATURE)
"""Every reason an `EnvelopeError` may have."""


# Values


@dataclass(frozen=True, slots=True, init=False)
class _Opened:
    """What the two dialects share. Equal ids and signatures make equal envelopes."""

    id: str
    type: str = field(compare=False)
    sender: PeerId = field(compare=False)
    to: tuple[str, ...] = field(compare=False)
    timestamp_ms: int | float = field(compare=False)
    in_reply_to: str | None = field(compare=False)
    # Not shown, as it is nobody's business but the recipient's: a repr ends up in logs.
    payload: Json = field(compare=False, repr=False)
    signature: str = field(repr=False)
    canonical: bytes = field(compare=False, repr=False)
    _members: dict[str, Json] = field(compare=False, repr=False)

    _sender_member: ClassVar[str]
    # In the order in which the reference writes them.
    _wire_members: ClassVar[tuple[str, ...]]
    # In canonical order.
    _signed_members: ClassVar[tuple[str, ...]]

    def __init__(self) -> None:
        raise TypeError(f"{type(self).__name__} is made by sealing or opening")

    @classmethod
    def _trust(cls, members: dict[str, Json], canonical: bytes) -> Self:
        """Make the envelope of *members* whose shape, id and signature were checked."""
        self = cls.__new__(cls)
        put = object.__setattr__
        put(self, "id", members["id"])
        put(self, "type", members["type"])
        put(self, "sender", members[cls._sender_member])
        put(self, "to", tuple(cast("list[str]", members.get("to", ()))))
        put(self, "timestamp_ms", members["timestamp"])
        put(self, "in_reply_to", members.get("inReplyTo"))
        put(self, "payload", members.get("payload"))
        put(self, "signature", members["signature"])
        put(self, "canonical", canonical)
        put(self, "_members", members)
        return self

    @property
    def has_payload(self) -> bool:
        """Whether there is a payload at all; an absent one and ``null`` are signed differently."""
        return "payload" in self._members

    def to_json(self) -> str:
        """Write the envelope byte for byte as the reference writes it."""
        return json_text(self._members)

    def to_dict(self) -> dict[str, Json]:
        """Give the members of `to_json` as a dict of the caller's own."""
        return cast("dict[str, Json]", parse_json(self.to_json()))

    @property
    def wire_text(self) -> str:
        """
        The envelope as JSON at the least cost, for forwarding.

        The canonical text with id and signature appended: the same envelope
        as `to_json`, its members in another order.
        """
        text = self.canonical.decode()
        if not self.has_payload:
            text = text.replace(_ABSENT_PAYLOAD, "", 1)
        return wire_text(text, self.id, self.signature)


class Envelope(_Opened):
    """
    A signed message that was verified, or sealed here.

    Attributes:
        id: SHA-256 of the canonical text, 64 lower-case hex digits.
        type: What kind of message this is; any string.
        sender: The peer that signed it.
        to: All recipients, at least one: peer ids or ``"*"``. The order is signed.
        timestamp_ms: When it was made, by the sender's clock, in ms since the Unix epoch.
        in_reply_to: The id of the envelope it answers, or None.
        payload: The content, the envelope's own copy; None where absent. Leave it unchanged.
        signature: 128 lower-case hex digits, over `canonical`.
        canonical: The bytes that were hashed and signed.
    """

    __slots__ = ()

    _sender_member = "from"
    _wire_members = (
        "id",
        "type",
        "from",
        "to",
        "timestamp",
        "inReplyTo",
        "payload",
        "signature",
    )
    _signed_members = ("from", "inReplyTo", "payload", "timestamp", "to", "type")


class LegacyEnvelope(_Opened):
    """
    A verified message in the dialect before March 2026: one ``sender``, no recipients.

    Its attributes are those of `Envelope`; ``to`` is empty, for nobody was named.
    """

    __slots__ = ()

    _sender_member = "sender"
    _wire_members = ("id", "type", "sender", "timestamp", "inReplyTo", "payload", "signature")
    _signed_members = ("inReplyTo", "payload", "sender", "timestamp", "type")


_Kind = TypeVar("_Kind", bound=_Opened)


# Opening


def open_envelope(what: str | bytes | Mapping[str, object] | Sealed) -> Envelope:
    """
    Verify what came from elsewhere.

    Raises:
        EnvelopeError: If it is not a valid envelope. Its ``reason`` is the
            reference's wherever the reference refuses too, of several the
            first: routing, id, signature.
    """
    members = _members(what, Envelope)
    if isinstance(what, PlainSealed):
        what.check()
        return Envelope._trust(members, what.canonical.encode())
    to = members.get("to")
    if not is_truthy(members.get("from")):
        raise EnvelopeError(INVALID_ROUTING, "no sender in `from`")
    if not isinstance(to, list) or not to:
        raise EnvelopeError(INVALID_ROUTING, "`to` is not a list of at least one recipient")
    return _verified(members, Envelope)


def open_legacy_envelope(what: str | bytes | Mapping[str, object] | Sealed) -> LegacyEnvelope:
    """Verify an envelope of the older dialect, which has no recipients, as `open_envelope` does."""
    return _verified(_members(what, LegacyEnvelope), LegacyEnvelope)


def _members(what: object, kind: type[_Opened]) -> dict[str, Json]:
    """Give those members of *what* that an envelope has, in the reference's order."""
    try:
        if isinstance(what, Sealed):
            return _known_members(what.members, kind)
        if isinstance(what, Mapping):
            # Once through JSON: what the caller changes later is not what was verified.
            what = json_text(_known_members(what, kind))
        if isinstance(what, (str, bytes)):
            what = parse_json(what)
    except CanonicalJSONError as error:
        raise EnvelopeError(INVALID_ROUTING, str(error)) from error
    if not isinstance(what, dict):
        raise EnvelopeError(INVALID_ROUTING, "not a JSON object")
    return _known_members(what, kind)


def _known_members(members: Mapping[str, Json], kind: type[_Opened]) -> dict[str, Json]:
    return {name: members[name] for name in kind._wire_members if name in members}


def _verified(members: dict[str, Json], kind: type[_Kind]) -> _Kind:
    """Check as the reference does, then what it lets pass: so its refusals keep their reasons."""
    try:
        canonical = _canonical(members, kind)
    except CanonicalJSONError as error:
        raise EnvelopeError(INVALID_ROUTING, str(error)) from error
    if members.get("id") != sha256(canonical).hexdigest():
        raise EnvelopeError(ID_MISMATCH, "`id` is not the SHA-256 of the canonical text")
    if not verify(members.get(kind._sender_member), members.get("signature"), canonical):
        raise EnvelopeError(INVALID_SIGNATURE, f"not signed by the key in `{kind._sender_member}`")
    _refuse_malformed(members)
    return kind._trust(members, canonical)


def _canonical(members: Mapping[str, Json], kind: type[_Opened]) -> bytes:
    """
    Write the text that is hashed and signed.

    An absent member is the word ``undefined``, as JavaScript has it at both
    ends, save for ``inReplyTo``, which is left out.
    """
    parts = [
        f'"{name}":{canonical_text(members[name]) if name in members else "undefined"}'
        for name in kind._signed_members
        if name in members or name != "inReplyTo"
    ]
    return f"{{{','.join(parts)}}}".encode()


# How an absent payload stands in a canonical text; inside a string its quotes would be escaped.
_ABSENT_PAYLOAD: Final = '"payload":undefined,'


def _refuse_malformed(members: Mapping[str, Json]) -> None:
    """Refuse what the reference lets pass unlooked at."""
    to = cast("list[Json]", members.get("to", []))
    if not all(recipient == EVERYONE or is_peer_id(recipient) for recipient in to):
        raise EnvelopeError(
            INVALID_ROUTING, "`to` holds something that is neither a peer id nor `*`"
        )
    if not isinstance(members.get("type"), str):
        raise EnvelopeError(INVALID_ROUTING, "`type` is not a string")
    timestamp = members.get("timestamp")
    if not is_number(timestamp):
        raise EnvelopeError(INVALID_ROUTING, "`timestamp` is not a number")
    if not abs(timestamp) <= sys.float_info.max:
        raise EnvelopeError(INVALID_ROUTING, "`timestamp` is not finite")
    if not isinstance(members.get("inReplyTo"), (str, type(None))):
        raise EnvelopeError(INVALID_ROUTING, "`inReplyTo` is neither a string nor null")


# Sealing


def seal(
    key_pair: KeyPair,
    *,
    type: str,
    payload: object,
    to: str | Iterable[str] | None,
    timestamp_ms: float,
    in_reply_to: str | None = None,
) -> Envelope:
    """
    Sign a message.

    Args:
        key_pair: The sender's.
        type: What kind of message this is, such as ``publish``.
        payload: Any JSON value. It is signed as it looks after a round trip
            through JSON: tuples are lists, a number that is not finite is null.
        to: Recipients: peer ids or ``"*"``. Blank entries and repetitions are
            dropped; where none is left, the sender is the recipient.
        timestamp_ms: Now, in milliseconds since the Unix epoch.
        in_reply_to: The id of the envelope answered.

    Raises:
        EnvelopeError: If a recipient is no peer id, or another field is of the wrong type.
        CanonicalJSONError: If *payload* is not JSON or nests deeper than `MAX_PAYLOAD_DEPTH`.
    """
    routing = {"from": key_pair.peer_id, "to": _recipients(to) or [key_pair.peer_id]}
    return _sealed(key_pair, Envelope, type, routing, timestamp_ms, in_reply_to, payload)


def seal_legacy(
    key_pair: KeyPair,
    *,
    type: str,
    payload: object,
    timestamp_ms: float,
    in_reply_to: str | None = None,
) -> LegacyEnvelope:
    """Sign a message in the older dialect, which names no recipients, as `seal` does."""
    routing = {"sender": key_pair.peer_id}
    return _sealed(key_pair, LegacyEnvelope, type, routing, timestamp_ms, in_reply_to, payload)


def _sealed(
    key_pair: KeyPair,
    kind: type[_Kind],
    type_: str,
    routing: Mapping[str, object],
    timestamp_ms: float,
    in_reply_to: str | None,
    payload: object,
) -> _Kind:
    reply = {} if in_reply_to is None else {"inReplyTo": in_reply_to}
    header = {"type": type_, **routing, "timestamp": timestamp_ms, **reply}
    members = cast("dict[str, Json]", parse_json(json_text(header)))
    members["payload"] = parse_json(json_text(payload), max_depth=MAX_PAYLOAD_DEPTH)
    _refuse_malformed(members)
    canonical = _canonical(members, kind)
    signed = {"id": sha256(canonical).hexdigest(), **members, "signature": key_pair.sign(canonical)}
    return kind._trust(signed, canonical)


def _recipients(to: object) -> list[str]:
    """Give every recipient once, as it was written; what JavaScript's ``trim`` empties is none."""
    given = [to] if isinstance(to, str) else to if isinstance(to, Iterable) else ()
    kept = (entry for entry in given if isinstance(entry, str) and entry.strip(WHITE_SPACE))
    return list(dict.fromkeys(kept))
