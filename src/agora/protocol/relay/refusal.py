"""Why a relay does not do what it was asked: what the core carries up to the ``error`` frame."""

from __future__ import annotations

from dataclasses import dataclass, replace

from agora.codes import ErrorCode
from agora.frames import encode_error

__all__ = ["Refusal", "duplicate", "name_too_long", "not_pinned"]


@dataclass(eq=False)
class Refusal(Exception):  # an answer, not a fault
    """
    "No, because": carried to the nearest session, which answers with :meth:`to_frame`.

    Attributes are those of the ``error`` frame; ``retry_after`` in seconds.
    """

    code: ErrorCode
    message: str
    envelope_id: str | None = None
    to: str | None = None
    reason: str | None = None
    retry_after: float | None = None
    scope: str | None = None
    now_ms: int | None = None

    def about(self, envelope_id: str | None, to: str | None) -> Refusal:
        """Return the same refusal, of this envelope for this recipient."""
        return replace(self, envelope_id=envelope_id, to=to)

    def to_frame(self) -> str:
        """Return the ``error`` frame."""
        return encode_error(
            self.code,
            self.message,
            envelope_id=self.envelope_id,
            to=self.to,
            reason=self.reason,
            retry_after=self.retry_after,
            scope=self.scope,
            now_ms=self.now_ms,
        )


def duplicate(envelope_id: str, to: str) -> Refusal:
    """Return the answer to an envelope that was taken before."""
    text = f"Duplicate envelope: {envelope_id}"
    return Refusal(ErrorCode.DUPLICATE, text, envelope_id=envelope_id, to=to)


def name_too_long(name: str, most: int) -> Refusal:
    """Return the answer to a display name of more characters than *most*."""
    text = f"Invalid registration: name of {len(name)} characters exceeds max_name_length of {most}"
    return Refusal(ErrorCode.INVALID_MESSAGE, text)


def not_pinned() -> Refusal:
    """Return the answer to who has a token, of a key that is pinned no longer."""
    text = "This key is not known here any more: register with proof"
    return Refusal(ErrorCode.PROOF_REQUIRED, text)
