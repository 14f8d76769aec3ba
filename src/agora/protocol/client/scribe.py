"""
Whoever signs for one peer: each envelope with a time that none before had.

The same words twice in a millisecond would be one envelope, and relays and
recipients would take the second for a repetition of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from agora.canonical import Json
from agora.envelope import Envelope, seal
from agora.keys import KeyPair

__all__ = ["Scribe"]


class Scribe:
    """
    Signs what one peer says, never two envelopes alike.

    Args:
        keys: Who speaks.
        wall_ms: Tells the milliseconds since the Unix epoch.
    """

    def __init__(self, keys: KeyPair, wall_ms: Callable[[], int]) -> None:
        self._keys = keys
        self._wall_ms = wall_ms
        self._correction = 0
        self._last_timestamp = 0

    def set_clock(self, now_ms: float) -> None:
        """Sign with another's time from now on, if ours is far from it."""
        correction = round(now_ms) - self._wall_ms()
        if abs(correction - self._correction) > _CLOSE_MS:
            self._correction = correction
            self._last_timestamp = 0

    def seal(
        self,
        *,
        type: str,
        payload: Json,
        to: str | Iterable[str],
        in_reply_to: str | None = None,
    ) -> Envelope:
        """
        Sign a message.

        Raises:
            EnvelopeError, CanonicalJSONError: As :func:`agora.envelope.seal`.
        """
        self._last_timestamp = max(self._wall_ms() + self._correction, self._last_timestamp + 1)
        return seal(
            self._keys,
            type=type,
            payload=payload,
            to=to,
            timestamp_ms=self._last_timestamp,
            in_reply_to=in_reply_to,
        )

    def reseal(self, envelope: Envelope) -> Envelope:
        """Sign the same words anew: another envelope, with another id."""
        return self.seal(
            type=envelope.type,
            payload=envelope.payload,
            to=envelope.to,
            in_reply_to=envelope.in_reply_to,
        )


_CLOSE_MS = 60_000
"""Milliseconds by which clocks may differ: a tenth of what relays take."""
