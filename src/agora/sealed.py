"""
What was received as an envelope, and is not trusted yet.

`Sealed` holds whatever it was; `PlainSealed` is one whose members are exactly
those an envelope has, each of its type, so that its canonical text could be
written on the way in. Both become an `Envelope` through
:func:`agora.envelope.open_envelope` alone.

The rule kept here: a text that `read_plain` takes, `open_envelope` judges
as it judges the same text read in full. Whatever is out of the ordinary it
leaves to the long way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final, TypeGuard

import msgspec

from agora.canonical import Json, parse_json
from agora.ecmascript import is_number
from agora.errors import EnvelopeError
from agora.keys import PeerId, is_peer_id, is_signature, to_verify, verify
from agora.plain_json import plain_text
from agora.shape import EnvelopeShape

__all__ = [
    "EVERYONE",
    "ID_MISMATCH",
    "INVALID_ROUTING",
    "INVALID_SIGNATURE",
    "PlainSealed",
    "Sealed",
    "is_envelope_id",
    "read_plain",
    "wire_text",
]

EVERYONE: Final = "*"
"""The recipient that stands for whoever is there: a broadcast."""

INVALID_ROUTING: Final = "invalid_routing_fields"
ID_MISMATCH: Final = "id_mismatch"
INVALID_SIGNATURE: Final = "signature_invalid"


class Sealed:
    """
    What was received as an envelope: parsed, not trusted, perhaps no object at all.

    It keeps *value* without copying it: wrap what `parse_json` gave, and let go
    of it. The claims are good for the error frame that answers them, and for
    nothing else.
    """

    __slots__ = ("_value",)

    def __init__(self, value: Json) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return self.value == other.value if isinstance(other, Sealed) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # what it holds has none

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.claimed_id}>"

    @property
    def value(self) -> Json:
        """What it was."""
        return self._value

    @property
    def members(self) -> Mapping[str, Json]:
        """Its members; none where it is no object."""
        return self._value if isinstance(self._value, dict) else {}

    @property
    def claimed_id(self) -> str | None:
        """The id it says it has, if that could be one."""
        claimed = self.members.get("id")
        return claimed if is_envelope_id(claimed) else None

    @property
    def claimed_sender(self) -> str | None:
        """The peer it says it is from, in either dialect."""
        claimed = self.members.get("from", self.members.get("sender"))
        return claimed if isinstance(claimed, str) else None

    @property
    def claimed_to(self) -> tuple[str, ...] | None:
        """The recipients it names, as far as they are strings."""
        to = self.members.get("to")
        if not isinstance(to, list):
            return None
        return tuple(recipient for recipient in to if isinstance(recipient, str))

    def names(self, recipients: Sequence[str]) -> bool:
        """Tell whether it says it is for all of these."""
        named = self.claimed_to or ()
        if len(recipients) == 1:  # as nearly always: no set has to be made for it
            return recipients[0] in named
        return set(recipients).issubset(named)

    @property
    def claimed_timestamp(self) -> float | None:
        """When it says it was made, in milliseconds since the Unix epoch."""
        claimed = self.members.get("timestamp")
        return claimed if is_number(claimed) else None

    @property
    def is_legacy(self) -> bool:
        """Whether it looks like the dialect before March 2026, which has no recipients."""
        return "sender" in self.members and "from" not in self.members


# Looked at before it is repeated: a claim is a stranger's text, and ends up in logs.
_POSSIBLE_ID: Final = re.compile("[0-9a-f]{64}")


def is_envelope_id(value: object) -> TypeGuard[str]:
    """Tell whether *value* could be an envelope's id: SHA-256 in lower-case hex."""
    return isinstance(value, str) and _POSSIBLE_ID.fullmatch(value) is not None


# The short way


class PlainSealed(Sealed):
    """
    An envelope that has every member an envelope needs, and no other. Made by `read_plain`.

    Attributes:
        canonical: The text that its id and signature must be over.
    """

    __slots__ = ("_bytes", "_id", "_is_genuine", "_members", "canonical")

    def __init__(self, members: EnvelopeShape, canonical: str) -> None:
        self._members = members
        self._bytes = canonical.encode()
        self._id = sha256(self._bytes).hexdigest()
        self._is_genuine: bool | None = None
        self.canonical = canonical

    @property
    def value(self) -> Json:
        """Its members, read in full."""
        return {**self.members}

    @property
    def members(self) -> Mapping[str, Json]:
        """Its members, read in full."""
        signed = parse_json(self.canonical)
        assert isinstance(signed, dict), "it was written as an object"
        return {**signed, "id": self._members.id, "signature": self._members.signature}

    @property
    def claimed_id(self) -> str | None:
        """The id it says it has, if that could be one."""
        return self._members.id if is_envelope_id(self._members.id) else None

    @property
    def claimed_sender(self) -> PeerId:
        """The peer it says it is from."""
        return self._members.sender

    @property
    def claimed_to(self) -> tuple[str, ...]:
        """The recipients it names."""
        return self._members.to

    @property
    def claimed_timestamp(self) -> int:
        """When it says it was made, in milliseconds since the Unix epoch."""
        return self._members.timestamp

    @property
    def is_legacy(self) -> bool:
        """Never: it has recipients."""
        return False

    @property
    def is_verified(self) -> bool:
        """Whether it is known already if the signature is its sender's."""
        return self._is_genuine is not None

    @property
    def is_genuine(self) -> bool:
        """Whether the signature is its sender's; found out once, in whatever thread asks first."""
        if self._is_genuine is None:
            members = self._members
            self._is_genuine = verify(members.sender, members.signature, self._bytes)
        return self._is_genuine

    @property
    def to_verify(self) -> bytes | None:
        """What :func:`agora.keys.holds` needs to know; None where nothing could be genuine."""
        return to_verify(self._members.sender, self._members.signature, self._bytes)

    def note(self, *, is_genuine: bool) -> None:
        """Remember what :func:`agora.keys.holds` has said elsewhere of `to_verify`."""
        self._is_genuine = is_genuine

    @property
    def has_its_id(self) -> bool:
        """Whether the id is that of the canonical text; a quick look, before the signature."""
        return self._id == self._members.id

    def check(self, *, signature: bool = True) -> str:
        """
        Find out whether it is an envelope; return its id.

        With *signature* false its sender is taken at its word, if there is what could be one:
        `wire_text` escapes nothing.

        Raises:
            EnvelopeError: If it is not, for the reason that `open_envelope` gives.
        """
        if not self.has_its_id:
            raise EnvelopeError(ID_MISMATCH, "`id` is not the SHA-256 of the canonical text")
        if not (self.is_genuine if signature else is_signature(self._members.signature)):
            raise EnvelopeError(INVALID_SIGNATURE, "not signed by the key in `from`")
        return self._id

    @property
    def wire_text(self) -> str:
        """The envelope as JSON at the least cost; to be asked for when it was checked."""
        return wire_text(self.canonical, self._id, self._members.signature)


def wire_text(canonical: str, envelope_id: str, signature: str) -> str:
    """Write an envelope with a payload: *canonical*, with id and signature appended."""
    return f'{canonical[:-1]},"id":"{envelope_id}","signature":"{signature}"}}'


def read_plain(members: EnvelopeShape) -> PlainSealed | None:
    """Return the envelope that has these members; None where it has to be read in full."""
    if len(members.id) != _ID_DIGITS or len(members.signature) != _SIGNATURE_DIGITS:
        return None
    sender, to, timestamp = members.sender, members.to, members.timestamp
    if not (is_peer_id(sender) and _are_recipients(to) and abs(timestamp) <= _MAX_EXACT):
        return None
    payload = plain_text(members.payload)
    if payload is None:
        return None
    reply = members.in_reply_to
    answered = "" if reply is msgspec.UNSET else f'"inReplyTo":{_text(reply)},'
    recipients = '","'.join(to)
    return PlainSealed(
        members,
        f'{{"from":"{sender}",{answered}"payload":{payload},"timestamp":{timestamp},'
        f'"to":["{recipients}"],"type":{_text(members.type)}}}',
    )


def _are_recipients(to: tuple[str, ...]) -> bool:
    """Tell whether *to* names at least one recipient, and nothing else."""
    for recipient in to:
        if not is_peer_id(recipient) and recipient != EVERYONE:
            return False
    return bool(to)


def _text(value: str | None) -> str:
    # Of strings any writer of JSON has but one way that is canonical, and this one takes it.
    return _ENCODER.encode(value).decode()


_ENCODER: Final = msgspec.json.Encoder()

_ID_DIGITS: Final = 64
_SIGNATURE_DIGITS: Final = 128

_MAX_EXACT: Final = 2**53
"""Up to here every integer is a double of its own."""
