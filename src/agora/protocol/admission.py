"""
Who gets in: repeats, and which envelopes a relay takes at all.

Checks go from cheap to dear, so that nonsense costs its sender more than it
costs the relay. Whatever is refused is a :class:`Refusal`, which becomes the
``error`` frame that answers it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

from agora.canonical import json_text
from agora.codes import ErrorCode
from agora.envelope import Envelope, Sealed, open_envelope, open_legacy_envelope
from agora.errors import EnvelopeError
from agora.frames import encode_error
from agora.keys import PeerId

__all__ = ["EnvelopePolicy", "Parcel", "Refusal", "ReplayWindow", "admit"]


class Refusal(Exception):  # an answer, not a fault
    """
    "No, because": carried to the nearest session, which answers with :meth:`to_frame`.

    Attributes are those of the ``error`` frame; ``retry_after`` in seconds.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        envelope_id: str | None = None,
        to: str | None = None,
        reason: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.envelope_id = envelope_id
        self.to = to
        self.reason = reason
        self.retry_after = retry_after

    def to_frame(self) -> str:
        """Return the ``error`` frame."""
        return encode_error(
            self.code,
            self.message,
            envelope_id=self.envelope_id,
            to=self.to,
            reason=self.reason,
            retry_after=self.retry_after,
        )


# Repeats


class ReplayWindow:
    """
    The envelopes taken lately, by (sender, recipient, id).

    One envelope to two recipients is two deliveries, and an id used by one
    sender never blocks another's. Only what was fully checked and taken is
    remembered, so a refused envelope can be sent again.
    """

    def __init__(self, *, max_ids: int, max_age: float) -> None:
        self._max_ids = max_ids
        self._max_age = max_age
        self._taken_at: OrderedDict[bytes, float] = OrderedDict()

    def has(self, key: tuple[str, str, str], now: float) -> bool:
        """Tell whether *key* was taken within the window."""
        taken_at = self._taken_at.get(_fingerprint(key))
        return taken_at is not None and now - taken_at <= self._max_age

    def add(self, key: tuple[str, str, str], now: float) -> None:
        """Remember *key*; at the bound the oldest is forgotten."""
        fingerprint = _fingerprint(key)
        self._taken_at[fingerprint] = now
        self._taken_at.move_to_end(fingerprint)
        while len(self._taken_at) > self._max_ids:
            self._taken_at.popitem(last=False)

    def discard(self, key: tuple[str, str, str]) -> None:
        """Forget *key*: it was not taken after all."""
        self._taken_at.pop(_fingerprint(key), None)

    def forget_old(self, now: float) -> None:
        """Drop what is older than the window."""
        while self._taken_at:
            oldest, taken_at = next(iter(self._taken_at.items()))
            if now - taken_at <= self._max_age:
                return
            del self._taken_at[oldest]

    def __len__(self) -> int:
        return len(self._taken_at)


def _fingerprint(key: tuple[str, str, str]) -> bytes:
    """Make 16 bytes of some 240: who could find two keys with one fingerprint would gain little."""
    return blake2b("\0".join(key).encode("utf-8", "surrogatepass"), digest_size=16).digest()


# Envelopes


class EnvelopePolicy(StrEnum):
    """Which envelopes a relay takes (REFERENCE dialects; ``--envelopes``)."""

    STRICT = "strict"
    """Verified, with ``from`` and ``to``: today's clients."""
    LEGACY = "legacy"
    """Also verified ones with ``sender`` and no ``to``: clients before 2026-03."""
    OPEN = "open"
    """Anything, as the first relay did; recipients have to judge for themselves."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """
    An envelope that was admitted, ready to route. Only :func:`admit` makes one.

    Attributes:
        sender: The key that the connection registered.
        envelope_id: The verified id; ``""`` for an opaque envelope.
        text: The envelope as JSON text, stripped of members that are not signed.
        envelope: The verified envelope; None for legacy and opaque ones.
    """

    sender: PeerId
    envelope_id: str
    text: str
    envelope: Envelope | None = None


def admit(sealed: Sealed, *, sender: PeerId, to: str | None, policy: EnvelopePolicy) -> Parcel:
    """
    Check an envelope and return it as a parcel.

    Args:
        sealed: What the frame held.
        sender: The key that the connection registered.
        to: The frame's recipient; None for a broadcast, which names none.
        policy: Which envelopes are taken.

    Raises:
        Refusal: ``invalid_message``, ``sender_mismatch``, ``recipient_mismatch`` or
            ``invalid_envelope``.
    """
    if policy is not EnvelopePolicy.STRICT and _is_legacy(sealed):
        try:
            return _admit_legacy(sealed, sender, to)
        except Refusal:
            if policy is EnvelopePolicy.LEGACY:
                raise
    try:
        return _admit_strict(sealed, sender, to)
    except Refusal:
        if policy is EnvelopePolicy.OPEN:
            return Parcel(sender, "", json_text(sealed.value))
        raise


def _admit_strict(sealed: Sealed, sender: PeerId, to: str | None) -> Parcel:
    # Comparing two strings costs nothing beside a signature: look at the claims first.
    _check_sender(sealed, sender, to)
    if to is not None and sealed.claimed_to and to not in sealed.claimed_to:
        raise Refusal(
            ErrorCode.RECIPIENT_MISMATCH,
            "Envelope recipients do not include requested relay recipient",
            envelope_id=sealed.claimed_id,
            to=to,
        )
    _check_is_object(sealed, to)
    try:
        envelope = open_envelope(sealed)
    except EnvelopeError as error:
        raise _invalid(error, sealed, to) from error
    return Parcel(sender, envelope.id, envelope.wire_text, envelope)


def _is_legacy(sealed: Sealed) -> bool:
    return "sender" in sealed.members and "from" not in sealed.members


def _admit_legacy(sealed: Sealed, sender: PeerId, to: str | None) -> Parcel:
    _check_sender(sealed, sender, to)
    try:
        envelope = open_legacy_envelope(sealed)
    except EnvelopeError as error:
        raise _invalid(error, sealed, to) from error
    return Parcel(sender, envelope.id, envelope.wire_text)


def _check_sender(sealed: Sealed, sender: PeerId, to: str | None) -> None:
    if sealed.claimed_sender and sealed.claimed_sender != sender:
        raise Refusal(
            ErrorCode.SENDER_MISMATCH,
            "Envelope sender does not match registered public key",
            envelope_id=sealed.claimed_id,
            to=to,
        )


def _check_is_object(sealed: Sealed, to: str | None) -> None:
    # An array passes, as in the reference, and then fails as an envelope.
    if not isinstance(sealed.value, dict | list):
        kind = "broadcast" if to is None else "message"
        raise Refusal(
            ErrorCode.INVALID_MESSAGE,
            f'Invalid {kind}: missing or invalid "envelope" field',
            to=to,
        )


def _invalid(error: EnvelopeError, sealed: Sealed, to: str | None) -> Refusal:
    return Refusal(
        ErrorCode.INVALID_ENVELOPE,
        f"Invalid envelope: {error.reason}",
        envelope_id=sealed.claimed_id,
        to=to,
        reason=error.reason,
    )
