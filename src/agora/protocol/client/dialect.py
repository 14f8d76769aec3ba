"""
How a relay speaks: what ours says of itself, and what has to be read between the lines of others.

Nothing on the wire names a dialect. It shows in ``registered``: our relay tells
its own key, the current reference a session id, the older one neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from agora.codes import ErrorCode
from agora.errors import AgoraError
from agora.frames import ErrorAnswer, Registered

__all__ = ["Dialect", "code_of", "lacks_broadcast"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """
    What can be expected of a relay.

    Attributes:
        names_envelopes: Its errors say which envelope they are about.
        spends_ids: It remembers an envelope's id also if it delivered nothing, and
            drops the same envelope in silence the next time.
    """

    names_envelopes: bool = False
    spends_ids: bool = False

    @classmethod
    def of(cls, registered: Registered) -> Self:
        """Tell a relay's dialect by how it registered us."""
        is_ours = registered.relay is not None
        return cls(
            names_envelopes=is_ours,
            spends_ids=registered.session_id is not None and not is_ours,
        )


def code_of(error: ErrorAnswer) -> str:
    """Return the code of an error, also of one that the reference sent without."""
    if error.code is not None:
        return error.code
    known = (code for beginning, code in _CODES.items() if error.message.startswith(beginning))
    return next(known, ErrorCode.INVALID_MESSAGE)


_CODES = {
    "Recipient not connected": ErrorCode.UNKNOWN_RECIPIENT,
    "Failed to relay message": ErrorCode.UNAVAILABLE,
    "Relay is at capacity": ErrorCode.AT_CAPACITY,
    "Not registered": ErrorCode.NOT_REGISTERED,
    "Invalid envelope": ErrorCode.INVALID_ENVELOPE,
    "Envelope sender does not match": ErrorCode.SENDER_MISMATCH,
    "Envelope recipients do not include": ErrorCode.RECIPIENT_MISMATCH,
}
"""What the reference says without a code, by how it begins."""


def lacks_broadcast(refusal: AgoraError) -> bool:
    """Tell whether a relay does not know the frame ``broadcast``, as today's reference."""
    return "Unknown message type" in str(refusal)
