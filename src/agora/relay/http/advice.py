"""
Errors by HTTP, as tables: what each code means there, and which request may give it.

The codes are those of :mod:`agora.codes`, told to somebody who sees requests and
no frames. What a request gives and no table here names is a fault.
"""

from __future__ import annotations

from collections.abc import Iterable

from agora.codes import HTTP_ERROR_ADVICE, HTTP_STATUS, Advice, ErrorCode, HttpErrorCode
from agora.limits import Limits

__all__ = ["CLOSES", "ELSEWHERE", "MAY_FAIL", "REASONS", "Code", "advice", "by_status"]

Code = ErrorCode | HttpErrorCode

_ALL: tuple[Code, ...] = (
    ErrorCode.INVALID_MESSAGE,
    HttpErrorCode.REQUEST_TIMEOUT,
    ErrorCode.RATE_LIMITED,
    HttpErrorCode.HEADERS_TOO_LARGE,
    HttpErrorCode.INTERNAL_ERROR,
    ErrorCode.UNAVAILABLE,
    ErrorCode.AT_CAPACITY,
)
"""What any request may give."""

_BODY: tuple[Code, ...] = (ErrorCode.TOO_LARGE, HttpErrorCode.UNSUPPORTED_MEDIA_TYPE)
_TOKEN: tuple[Code, ...] = (ErrorCode.NOT_REGISTERED,)
_SESSION: tuple[Code, ...] = (*_TOKEN, ErrorCode.PROOF_REQUIRED)
"""What a request may give that needs a session at the node, which needs the key to be known."""

MAY_FAIL: dict[str, tuple[Code, ...]] = {
    "challenge": (*_ALL, *_BODY),
    "register": (*_ALL, *_BODY, HttpErrorCode.PRIVATE_KEY_REFUSED, ErrorCode.PROOF_FAILED),
    "disconnect": (*_ALL, *_TOKEN, HttpErrorCode.STORAGE_FAILED),
    "send": (
        *_ALL,
        *_BODY,
        *_SESSION,
        HttpErrorCode.PRIVATE_KEY_REFUSED,
        ErrorCode.INVALID_ENVELOPE,
        ErrorCode.SENDER_MISMATCH,
        ErrorCode.RECIPIENT_MISMATCH,
        ErrorCode.UNKNOWN_RECIPIENT,
        ErrorCode.STALE,
        ErrorCode.FROM_THE_FUTURE,
        ErrorCode.OUT_OF_ORDER,
        ErrorCode.MAILBOX_FULL,
    ),
    "messages": (*_ALL, *_SESSION),
    "ack": (*_ALL, *_BODY, *_SESSION),
    "nack": (*_ALL, *_BODY, *_TOKEN),
    "replay": (*_ALL, *_SESSION, HttpErrorCode.NOT_ENABLED),
    "peers": (*_ALL, *_TOKEN),
    "events": (*_ALL, *_SESSION),
}
"""Which codes a request may give, by the name of its handler."""

ELSEWHERE: tuple[Code, ...] = (
    HttpErrorCode.NOT_FOUND,
    HttpErrorCode.METHOD_NOT_ALLOWED,
    HttpErrorCode.UNKNOWN_METHOD,
)
"""What is given to a request that is none of the API's."""


def by_status(codes: Iterable[Code]) -> dict[int, list[Code]]:
    """Return codes by the status that they have, in order."""
    found: dict[int, list[Code]] = {}
    for code in codes:
        found.setdefault(HTTP_STATUS[code], []).append(code)
    return dict(sorted(found.items()))


REASONS: dict[str, tuple[Code, str]] = {
    "missing_token": (ErrorCode.NOT_REGISTERED, "there is no `Authorization: Bearer TOKEN`"),
    "invalid_token": (ErrorCode.NOT_REGISTERED, "the token is none that this relay has given"),
    "token_expired": (ErrorCode.NOT_REGISTERED, "`expiresAt` is past"),
    "token_revoked": (ErrorCode.NOT_REGISTERED, "`/v1/disconnect` has ended it"),
    "invalid_routing_fields": (
        ErrorCode.INVALID_ENVELOPE,
        "`from` or `to` is missing; or id and signature are right, and a member is of the wrong "
        "type, or `to` names what is no recipient",
    ),
    "id_mismatch": (
        ErrorCode.INVALID_ENVELOPE,
        "`id` is not the SHA-256 of the canonical JSON; or `id`, `timestamp`, `type` or `payload` "
        "is missing",
    ),
    "signature_invalid": (
        ErrorCode.INVALID_ENVELOPE,
        "`signature` is missing, or not that of `from` over it",
    ),
}
"""What ``reason`` says, and beside which code."""

CLOSES: dict[str, str] = {
    "1000 `normal`": "the token has run out, or was ended by `/v1/disconnect`: register again",
    "1001 `going_away`": "the relay stops: come back with the same token",
    "1011 `internal_error`": "a fault of the relay: come back",
    "4001 `slow_consumer`": "more waits to be read than the relay keeps: come back; mail stays",
}
"""How a stream ends: code and reason of its last event, and what to do then."""


def advice(limits: Limits) -> dict[Code, Advice]:
    """Return when each code is given and what to do then, at a relay with these *limits*."""
    past, future = limits.freshness_past, limits.freshness_future
    return {
        ErrorCode.INVALID_MESSAGE: Advice(
            "the request is not what this page says: no JSON, something missing, of the wrong type "
            "or out of bounds; or it is no HTTP/1.1",
            "correct the program",
            final=True,
        ),
        ErrorCode.INVALID_ENVELOPE: Advice(
            "the envelope does not verify; `reason` says what is wrong",
            "correct the program",
            final=True,
        ),
        ErrorCode.RECIPIENT_MISMATCH: Advice(
            "the `to` of the request is not among the `to` of the envelope",
            "name every recipient in the envelope",
            final=True,
        ),
        ErrorCode.STALE: Advice(
            f"signed more than {past:g} s ago; `now` is the relay's clock",
            "correct the clock and sign anew: the old envelope's fate is unknown",
            final=True,
        ),
        ErrorCode.FROM_THE_FUTURE: Advice(
            f"signed more than {future:g} s ahead; `now` is the relay's clock",
            "correct the clock and sign anew",
            final=True,
        ),
        HttpErrorCode.PRIVATE_KEY_REFUSED: Advice(
            "a private key was sent, or a message without a signature",
            "keep the key, and sign",
            final=True,
        ),
        ErrorCode.NOT_REGISTERED: Advice(
            "the token is missing, or good no longer; `reason` says which",
            "register again",
            final=False,
        ),
        ErrorCode.PROOF_REQUIRED: Advice(
            "the relay does not know the key of the token any more: its operator has removed it",
            "register again",
            final=False,
        ),
        ErrorCode.PROOF_FAILED: Advice(
            "the signature is not the key's, not over this challenge or not for a name of this "
            "relay; or the challenge has been used, or has run out",
            "begin again with `/v1/challenge`; where the message speaks of names, dial one of "
            "those, or have the operator add yours (`--public-name`)",
            final=True,
        ),
        ErrorCode.SENDER_MISMATCH: Advice(
            "the envelope's `from` is not the key of the token",
            "send it with a token of the key that signed it",
            final=True,
        ),
        HttpErrorCode.NOT_FOUND: Advice("nothing is at this path", "correct the URL", final=True),
        ErrorCode.UNKNOWN_RECIPIENT: Advice(
            "the recipient is not online and has no mailbox here",
            "keep it until the recipient is online",
            final=False,
        ),
        HttpErrorCode.METHOD_NOT_ALLOWED: Advice(
            "the path has no such method; `Allow` has those that it has",
            "use one of them",
            final=True,
        ),
        HttpErrorCode.REQUEST_TIMEOUT: Advice(
            f"the request was not there as a whole within {limits.http_request_timeout:g} s",
            "send it again",
            final=False,
        ),
        ErrorCode.OUT_OF_ORDER: Advice(
            "the envelope named in `after` was not taken, so this one would overtake it",
            "send them again, in order",
            final=False,
        ),
        ErrorCode.TOO_LARGE: Advice(
            f"the body is over {limits.max_frame_bytes} bytes (`maxFrameBytes`), or the canonical "
            "JSON of the envelope is",
            "send less at once",
            final=True,
        ),
        HttpErrorCode.UNSUPPORTED_MEDIA_TYPE: Advice(
            "the body is said to be something else than JSON, or compressed",
            "send `Content-Type: application/json`, and the body as it is",
            final=True,
        ),
        ErrorCode.RATE_LIMITED: Advice(
            "more requests than the address or the key may make, or more messages than the key may "
            "send; nothing was done",
            "wait for as long as `Retry-After` says, then send it again",
            final=False,
        ),
        HttpErrorCode.HEADERS_TOO_LARGE: Advice(
            f"request line and headers are over {limits.http_max_head_bytes} bytes",
            "send fewer or shorter headers",
            final=True,
        ),
        HttpErrorCode.INTERNAL_ERROR: Advice(
            "a fault of the relay; its log has the details", "try again later", final=False
        ),
        HttpErrorCode.NOT_ENABLED: Advice(
            "this relay's operator has not switched it on", "do without it", final=True
        ),
        HttpErrorCode.UNKNOWN_METHOD: Advice(
            "HTTP has no such method", "correct the program", final=True
        ),
        ErrorCode.MAILBOX_FULL: Advice(
            "no room for it; `scope` says in what: the recipient's `mailbox`, what one `sender` "
            "may hold of it, or the whole `store`",
            "try again when the recipient has been online",
            final=False,
        ),
        HttpErrorCode.STORAGE_FAILED: HTTP_ERROR_ADVICE[HttpErrorCode.STORAGE_FAILED],
        ErrorCode.UNAVAILABLE: Advice(
            "the recipient could not take it just now; or the relay stops, or ended the session",
            "try again, after a while",
            final=False,
        ),
        ErrorCode.AT_CAPACITY: Advice(
            "no room for one more connection, challenge, token, key or request that waits; some of "
            "these an address, or a key, has a number of",
            "try again, after a while that grows",
            final=False,
        ),
    }
