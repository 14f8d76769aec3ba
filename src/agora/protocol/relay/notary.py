"""
What the relay says in its own name: bounces, and answers to peer-list requests.

Both are envelopes like any other, signed with the relay's key, so that whoever
gets one can tell that it is from this relay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agora.canonical import Json
from agora.codes import ErrorCode
from agora.ecmascript import is_number
from agora.envelope import Envelope, seal
from agora.keys import KeyPair, PeerId
from agora.protocol.relay.actions import Mail
from agora.protocol.relay.presence import OnlinePeer

__all__ = ["bounce", "peer_list_response"]


def bounce(identity: KeyPair, mail: Mail, code: ErrorCode, *, now_ms: int) -> Mail:
    """Return what the sender of *mail* is told, which was given up."""
    payload: dict[str, Json] = {"code": str(code), "recipient": mail.recipient}
    return _mail(identity, "error", payload, mail.sender, mail.envelope_id, now_ms)


def peer_list_response(
    identity: KeyPair, request: Envelope, others: Iterable[OnlinePeer], *, now: float, now_ms: int
) -> Mail:
    """Answer as the reference: filter by activity, truncate; the total is before both."""
    active_within = _filter_number(request, "activeWithin")
    limit = _filter_number(request, "limit")
    ages = [(entry.public_key, max(0.0, now - entry.last_seen)) for entry in others]
    chosen = [(key, age) for key, age in ages if not active_within or age * 1000 < active_within]
    if limit and limit > 0:
        chosen = chosen[: int(limit)]
    listed: list[Json] = [
        {"publicKey": key, "lastSeen": now_ms - int(age * 1000)} for key, age in chosen
    ]
    payload: dict[str, Json] = {
        "peers": listed,
        "totalPeers": len(ages),
        "relayPublicKey": identity.peer_id,
    }
    return _mail(identity, "peer_list_response", payload, request.sender, request.id, now_ms)


def _mail(
    identity: KeyPair, type: str, payload: Json, to: PeerId, in_reply_to: str, now_ms: int
) -> Mail:
    envelope = seal(
        identity,
        type=type,
        payload=payload,
        to=to,
        timestamp_ms=now_ms,
        in_reply_to=in_reply_to,
    )
    return Mail(to, identity.peer_id, envelope.id, envelope.wire_text)


def _filter_number(request: Envelope, name: str) -> float | None:
    payload = request.payload
    filters = payload.get("filters") if isinstance(payload, Mapping) else None
    value = filters.get(name) if isinstance(filters, Mapping) else None
    return float(value) if is_number(value) else None
