"""What an operator decides about a relay: which envelopes, which keys, whose mail and word."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["EnvelopePolicy", "MailboxPolicy", "ProofPolicy", "VerifyPolicy"]


class EnvelopePolicy(StrEnum):
    """Which envelopes a relay takes (``--envelopes``)."""

    STRICT = "strict"
    """Verified, with ``from`` and ``to``: today's clients."""
    LEGACY = "legacy"
    """Also verified ones with ``sender`` and no ``to``: clients before 2026-03."""
    OPEN = "open"
    """Anything, as the first relay did; recipients have to judge for themselves."""


class ProofPolicy(StrEnum):
    """Who may register at a relay (``--proof``)."""

    OPTIONAL = "optional"
    """Also who proves nothing, unless the key has proven itself here before."""
    REQUIRED = "required"
    """Only who proves to own the key."""


class MailboxPolicy(StrEnum):
    """Who has a mailbox at a relay (``--mailboxes``)."""

    PROVEN = "proven"
    """Every key that has proven itself here, and the listed storage peers."""
    LISTED = "listed"
    """The listed storage peers alone, as with the reference."""
    NONE = "none"
    """Nobody: who is away gets nothing."""


class VerifyPolicy(StrEnum):
    """Whose signatures a relay verifies (``--verify``); recipients verify all of them anyway."""

    EVERY = "every"
    """Everybody's: nothing that is not signed is carried."""
    SESSION = "session"
    """Those of sessions that have not proven their key; of the others sender and id are checked."""
