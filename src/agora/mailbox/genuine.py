"""
Whether mail is what its sender signed: asked of all that was not under a relay's eyes.

The one rule: nothing is passed on that nobody signed.
"""

from __future__ import annotations

from contextlib import suppress

from agora.envelope import Envelope, LegacyEnvelope, open_envelope, open_legacy_envelope
from agora.errors import EnvelopeError
from agora.keys import is_peer_id
from agora.protocol.relay.actions import Mail

__all__ = ["HIGHEST_POSITION", "is_genuine"]

HIGHEST_POSITION = 2**53
"""Positions above are damage: at a million messages a second they come in 285 years."""


def is_genuine(mail: Mail) -> bool:
    """
    Tell whether *mail* has a place, two ends, and the envelope that its id and sender name.

    Of an opaque envelope, which has no id that counts, nobody can say who signed it.
    """
    if not (is_peer_id(mail.recipient) and is_peer_id(mail.sender)):
        return False
    if not 0 < mail.position < HIGHEST_POSITION:
        return False
    if not mail.envelope_id:
        return True
    envelope = _opened(mail.text)
    return envelope is not None and (envelope.id, envelope.sender) == (
        mail.envelope_id,
        mail.sender,
    )


def _opened(text: str) -> Envelope | LegacyEnvelope | None:
    with suppress(EnvelopeError):
        return open_envelope(text)
    with suppress(EnvelopeError):
        return open_legacy_envelope(text)
    return None
