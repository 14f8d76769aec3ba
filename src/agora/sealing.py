"""``agora.seal``: the pure :func:`agora.envelope.seal` with the clock added."""

from __future__ import annotations

import time
from collections.abc import Iterable

from agora import envelope
from agora.canonical import Json
from agora.envelope import Envelope
from agora.keys import KeyPair

__all__ = ["now_ms", "seal"]


def seal(
    identity: KeyPair,
    *,
    type: str,
    payload: Json,
    to: str | Iterable[str] | None,
    timestamp_ms: float | None = None,
    in_reply_to: str | None = None,
) -> Envelope:
    """
    Sign *payload* for its recipients and return the envelope.

    Args:
        identity: Who signs; the envelope's sender.
        type: What kind of message it is, such as ``publish`` or ``request``.
        payload: Any JSON value; signed as it looks after a JSON round trip.
        to: Peer ids of all recipients, ``"*"`` for everyone; None for oneself.
        timestamp_ms: Milliseconds since the Unix epoch; None is now.
        in_reply_to: Id of the envelope that this one answers.

    Raises:
        CanonicalJSONError: When *payload* is nothing JSON can hold, or too deep.
        EnvelopeError: When a recipient is no peer id.
    """
    timestamp = now_ms() if timestamp_ms is None else timestamp_ms
    return envelope.seal(
        identity,
        type=type,
        payload=payload,
        to=to,
        timestamp_ms=timestamp,
        in_reply_to=in_reply_to,
    )


def now_ms() -> int:
    """Return the milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000
