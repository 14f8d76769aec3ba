"""
Who gets in: repeats, and which envelopes a relay takes at all.

Checks go from cheap to dear, so that nonsense costs its sender more than it
costs the relay. Whatever is refused is a :class:`Refusal`, which becomes the
``error`` frame that answers it.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, TypeGuard

from agora.canonical import json_text
from agora.codes import ErrorCode
from agora.envelope import Envelope, open_envelope, open_legacy_envelope
from agora.errors import EnvelopeError
from agora.keys import PeerId
from agora.protocol.relay.policies import EnvelopePolicy
from agora.protocol.relay.refusal import Refusal
from agora.sealed import PlainSealed, Sealed

__all__ = ["Parcel", "Remembered", "ReplayWindow", "admit", "check_freshness", "is_worth_verifying"]


# Repeats


class Remembered(NamedTuple):
    """
    What a replay window knows, to be known by another one.

    Attributes:
        ids: What was taken, the first taken first; nothing in the place of what was discarded.
        marks: How many of them had come by when: so many seconds ago, the longest ago first.
    """

    ids: tuple[str, ...]
    marks: tuple[tuple[float, int], ...]

    def after(self, seconds: float) -> Remembered:
        """Return what this is so many seconds later."""
        return Remembered(self.ids, tuple([(age + seconds, count) for age, count in self.marks]))


class ReplayWindow:
    """
    The envelopes taken lately, by (sender, recipient, id).

    One envelope to two recipients is two deliveries, and an id used by one
    sender never blocks another's. Only what was fully checked and taken is
    remembered, so a refused envelope can be sent again. One without an id never is.

    The first taken is the first forgotten, and seeing it again does not make it younger. None
    carries its own time, which would cost more than the rest: what was taken between two calls
    of :meth:`forget_old` is as old as the later of them.

    Args:
        max_ids: How many are remembered.
        max_age: For how many seconds.
        is_enabled: Whether any is.
    """

    def __init__(self, *, max_ids: int, max_age: float, is_enabled: bool = True) -> None:
        self.is_enabled = is_enabled
        self._max_ids = max_ids
        self._max_age = max_age
        self._taken: set[str] = set()
        self._order: deque[str] = deque()
        self._forgotten = 0
        self._marks: deque[tuple[float, int]] = deque()  # at what time how many had been taken

    def change(self, *, max_ids: int, max_age: float, is_enabled: bool) -> None:
        """Remember more or less from now on, or nothing."""
        self.is_enabled = is_enabled
        self._max_ids = max_ids
        self._max_age = max_age
        while len(self._order) > (max_ids if is_enabled else 0):
            self._forget_oldest()

    def has(self, key: tuple[str, str, str]) -> bool:
        """Tell whether *key* was taken within the window."""
        return _fingerprint(key) in self._taken

    def add(self, key: tuple[str, str, str]) -> None:
        """Remember *key*; at the bound the oldest is forgotten."""
        if not (self.is_enabled and key[2]):
            return
        fingerprint = _fingerprint(key)
        if fingerprint in self._taken:
            return
        self._taken.add(fingerprint)
        self._order.append(fingerprint)
        if len(self._order) > self._max_ids:
            self._forget_oldest()

    def discard(self, key: tuple[str, str, str]) -> None:
        """Forget *key*: it was not taken after all."""
        # Its place is left: taken again, it may be forgotten a little early.
        self._taken.discard(_fingerprint(key))

    def forget_old(self, now: float) -> None:
        """Let go of what is older than the window; to be called about once a second."""
        self._marks.append((now, self._forgotten + len(self._order)))
        while now - self._marks[0][0] > self._max_age:
            _, ever_taken = self._marks.popleft()
            while self._forgotten < ever_taken:
                self._forget_oldest()

    def remembered(self, now: float) -> Remembered:
        """Return what is known."""
        self.forget_old(now)
        ids = tuple([one if one in self._taken else "" for one in self._order])
        marks = [(now - at, count - self._forgotten) for at, count in self._marks]
        return Remembered(ids, tuple([mark for mark in marks if mark[1] > 0]))

    def remember(self, before: Remembered, now: float) -> None:
        """Know what another window knew, as far as it is not too old or too much; at the start."""
        if not self.is_enabled:
            return
        self._taken = {one for one in before.ids if one}
        self._order = deque(before.ids)
        self._forgotten = 0
        self._marks = deque([(now - age, count) for age, count in before.marks])
        while len(self._order) > self._max_ids:
            self._forget_oldest()
        self.forget_old(now)

    def _forget_oldest(self) -> None:
        self._taken.discard(self._order.popleft())
        self._forgotten += 1

    def __len__(self) -> int:
        return len(self._taken)


def _fingerprint(key: tuple[str, str, str]) -> str:
    """
    Shorten a key of some 240 characters to 64.

    What is left of the id, a hash that the sender's key went into, are 128 bits. Who could
    find two keys with one fingerprint would only have a message of their own called a repeat.
    """
    sender, recipient, envelope_id = key
    return envelope_id[:32] + sender[-16:] + recipient[-16:]


# Envelopes


class Parcel(NamedTuple):
    """
    An envelope that was admitted, ready to route. Only :func:`admit` makes one.

    Attributes:
        sender: The key that the connection registered.
        envelope_id: The verified id; ``""`` for an opaque envelope.
        text: The envelope as JSON text, stripped of members that are not signed.
        sealed: What it came as, where it is an envelope of today; None for legacy and opaque ones.
    """

    sender: PeerId
    envelope_id: str
    text: str
    sealed: Sealed | None = None

    def open(self) -> Envelope | None:
        """
        Return the verified envelope, to be looked into; None for legacy and opaque ones.

        Raises:
            Refusal: ``invalid_envelope``, where its signature was not looked at before.
        """
        try:
            return open_envelope(self.sealed) if self.sealed else None
        except EnvelopeError as error:
            raise _invalid(error) from error


def is_worth_verifying(
    sealed: Sealed, *, sender: PeerId, recipients: tuple[str, ...]
) -> TypeGuard[PlainSealed]:
    """Tell whether the signature is all that is left to look at; of plain envelopes alone."""
    return (
        isinstance(sealed, PlainSealed)
        and sealed.claimed_sender == sender
        and sealed.names(recipients)
        and sealed.has_its_id
    )


def admit(
    sealed: Sealed,
    *,
    sender: PeerId,
    recipients: tuple[str, ...],
    policy: EnvelopePolicy,
    signature: bool = True,
) -> Parcel:
    """
    Check an envelope and return it as a parcel.

    Args:
        sealed: What the frame held.
        sender: The key that the connection registered.
        recipients: Those that the frame names; a broadcast names none.
        policy: Which envelopes are taken.
        signature: Whether it is verified.

    Raises:
        Refusal: ``invalid_message``, ``sender_mismatch``, ``recipient_mismatch`` or
            ``invalid_envelope``.
    """
    if policy is not EnvelopePolicy.STRICT and sealed.is_legacy:
        try:
            return _admit_legacy(sealed, sender)
        except Refusal:
            if policy is EnvelopePolicy.LEGACY:
                raise
    try:
        return _admit_strict(sealed, sender, recipients, signature=signature)
    except Refusal:
        if policy is EnvelopePolicy.OPEN:
            return Parcel(sender, "", json_text(sealed.value))
        raise


def check_freshness(sealed: Sealed, *, now_ms: int, past: float, future: float) -> None:
    """
    Refuse an envelope that says it was signed too long ago, or too far ahead.

    Args:
        sealed: What the frame held; without a timestamp it passes, and fails later.
        now_ms: The relay's clock, in milliseconds since the Unix epoch.
        past: Seconds it may be old; 0 for any.
        future: Seconds it may be ahead; 0 for any.

    Raises:
        Refusal: ``stale`` or ``from_the_future``, with the relay's ``now``.
    """
    timestamp = sealed.claimed_timestamp
    if timestamp is None:
        return
    age = (now_ms - timestamp) / 1000
    if past and age > past:
        text = f"Envelope was signed {age:.0f} s ago, more than {past:.0f} s"
        raise Refusal(ErrorCode.STALE, text, now_ms=now_ms)
    if future and -age > future:
        text = f"Envelope was signed {-age:.0f} s ahead of the relay, more than {future:.0f} s"
        raise Refusal(ErrorCode.FROM_THE_FUTURE, text, now_ms=now_ms)


def _admit_strict(
    sealed: Sealed, sender: PeerId, recipients: tuple[str, ...], *, signature: bool
) -> Parcel:
    # Comparing two strings costs nothing beside a signature: look at the claims first.
    _check_sender(sealed, sender)
    if sealed.claimed_to and not sealed.names(recipients):
        raise Refusal(
            ErrorCode.RECIPIENT_MISMATCH,
            "Envelope recipients do not include requested relay recipient",
        )
    try:
        if isinstance(sealed, PlainSealed):
            envelope_id = sealed.check(signature=signature)
            return Parcel(sender, envelope_id, sealed.wire_text, sealed)
        _check_shape(sealed, recipients)
        envelope = open_envelope(sealed)
    except EnvelopeError as error:
        raise _invalid(error) from error
    return Parcel(sender, envelope.id, envelope.wire_text, sealed)


def _check_shape(sealed: Sealed, recipients: tuple[str, ...]) -> None:
    # An array passes, as in the reference, and then fails as an envelope.
    if not isinstance(sealed.value, dict | list):
        kind = "message" if recipients else "broadcast"
        text = f'Invalid {kind}: missing or invalid "envelope" field'
        raise Refusal(ErrorCode.INVALID_MESSAGE, text)


def _admit_legacy(sealed: Sealed, sender: PeerId) -> Parcel:
    _check_sender(sealed, sender)
    try:
        envelope = open_legacy_envelope(sealed)
    except EnvelopeError as error:
        raise _invalid(error) from error
    return Parcel(sender, envelope.id, envelope.wire_text)


def _check_sender(sealed: Sealed, sender: PeerId) -> None:
    claimed = sealed.claimed_sender
    if claimed and claimed != sender:
        raise Refusal(
            ErrorCode.SENDER_MISMATCH, "Envelope sender does not match registered public key"
        )


def _invalid(error: EnvelopeError) -> Refusal:
    text = f"Invalid envelope: {error.reason}"
    return Refusal(ErrorCode.INVALID_ENVELOPE, text, reason=error.reason)
