"""
Error codes, receipts and close codes: one table each, from which the reference page is made.

A code is for programs and never changes its meaning; the text beside it in a
frame is for people. ``final`` says that sending the same thing again cannot help.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

__all__ = [
    "ABNORMAL_CLOSE",
    "CLOSE_ADVICE",
    "ERROR_ADVICE",
    "HTTP_ERROR_ADVICE",
    "HTTP_STATUS",
    "RECEIPT_MEANING",
    "Advice",
    "CloseCode",
    "ErrorCode",
    "HttpErrorCode",
    "ReceiptStatus",
    "may_reconnect",
]


class ErrorCode(StrEnum):
    """What an ``error`` frame carries in ``code``; the last two are carried by bounces."""

    INVALID_MESSAGE = "invalid_message"
    NOT_REGISTERED = "not_registered"
    PROOF_REQUIRED = "proof_required"
    PROOF_FAILED = "proof_failed"
    INVALID_ENVELOPE = "invalid_envelope"
    SENDER_MISMATCH = "sender_mismatch"
    RECIPIENT_MISMATCH = "recipient_mismatch"
    STALE = "stale"
    FROM_THE_FUTURE = "from_the_future"
    TOO_LARGE = "too_large"
    RATE_LIMITED = "rate_limited"
    OUT_OF_ORDER = "out_of_order"
    DUPLICATE = "duplicate"
    UNKNOWN_RECIPIENT = "unknown_recipient"
    MAILBOX_FULL = "mailbox_full"
    UNAVAILABLE = "unavailable"
    AT_CAPACITY = "at_capacity"
    EXPIRED = "expired"
    UNDELIVERABLE = "undeliverable"


class HttpErrorCode(StrEnum):
    """What an HTTP answer carries in ``error.code`` beside those; no frame has these."""

    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    UNKNOWN_METHOD = "unknown_method"
    REQUEST_TIMEOUT = "request_timeout"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    HEADERS_TOO_LARGE = "headers_too_large"
    PRIVATE_KEY_REFUSED = "private_key_refused"
    NOT_ENABLED = "not_enabled"
    UNAUTHORIZED = "unauthorized"
    STORAGE_FAILED = "storage_failed"
    INTERNAL_ERROR = "internal_error"


class ReceiptStatus(StrEnum):
    """What a ``receipt`` frame says of one envelope and one recipient."""

    DELIVERED = "delivered"
    STORED = "stored"
    SENT = "sent"
    DUPLICATE = "duplicate"


RECEIPT_MEANING: dict[ReceiptStatus, str] = {
    ReceiptStatus.DELIVERED: "a session of the recipient has acked it",
    ReceiptStatus.STORED: "it is committed to the recipient's mailbox and synced to disk",
    ReceiptStatus.SENT: "it was handed to an open connection that cannot ack; no more is known",
    ReceiptStatus.DUPLICATE: "an earlier copy was acked, or is committed and synced",
}


class CloseCode(IntEnum):
    """With what a connection is closed (RFC 6455 section 7.4; 4000–4999 are our own)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    INVALID_TEXT = 1007
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    TRY_AGAIN_LATER = 1013
    SLOW_CONSUMER = 4001
    IDLE = 4002
    REGISTER_TIMEOUT = 4003
    PROOF_FAILED = 4500
    PROOF_REQUIRED = 4502


ABNORMAL_CLOSE = 1006
"""What a connection that ended without a close frame counts as (RFC 6455 section 7.4.1)."""


@dataclass(frozen=True, slots=True)
class Advice:
    """When a code is given, what the one who gets it does, and whether that is the end of it."""

    when: str
    do: str
    final: bool


ERROR_ADVICE: dict[ErrorCode, Advice] = {
    ErrorCode.INVALID_MESSAGE: Advice(
        "not JSON, not an object, an unknown type, or a member missing or of the wrong type",
        "fix the program",
        final=True,
    ),
    ErrorCode.NOT_REGISTERED: Advice("a frame before registration", "register first", final=False),
    ErrorCode.PROOF_REQUIRED: Advice(
        "the key has proven itself here before, or the relay takes no other; "
        "the connection is closed",
        "register with proof (`protocol` 1)",
        final=True,
    ),
    ErrorCode.PROOF_FAILED: Advice(
        "the proof is not the key's, not for this challenge, or not for a name of this relay; "
        "the connection is closed",
        "connect by a name the relay knows, or have it given `--public-name`",
        final=True,
    ),
    ErrorCode.INVALID_ENVELOPE: Advice(
        "the envelope does not verify; `reason` says which check failed",
        "fix the program",
        final=True,
    ),
    ErrorCode.SENDER_MISMATCH: Advice(
        "the envelope's `from` is not the key this connection registered",
        "sign with the registered key",
        final=True,
    ),
    ErrorCode.RECIPIENT_MISMATCH: Advice(
        "the frame's `to` is not among the envelope's `to`",
        "name every recipient in the envelope",
        final=True,
    ),
    ErrorCode.STALE: Advice(
        "signed longer ago than `--freshness-past`; `now` is the relay's time",
        "correct the clock and sign anew: the old envelope's fate is unknown",
        final=True,
    ),
    ErrorCode.FROM_THE_FUTURE: Advice(
        "signed further ahead than `--freshness-future`; `now` is the relay's time",
        "correct the clock and sign anew",
        final=True,
    ),
    ErrorCode.TOO_LARGE: Advice(
        "the envelope's canonical form is over `--max-frame-bytes`, though the frame was not",
        "send less at once",
        final=True,
    ),
    ErrorCode.RATE_LIMITED: Advice(
        "more than the key or the connection may send; nothing was consumed",
        "wait for `retryAfterMs`, then send it again",
        final=False,
    ),
    ErrorCode.OUT_OF_ORDER: Advice(
        "the envelope named in `after` was not taken, so this one would overtake it",
        "send them again, in order",
        final=False,
    ),
    ErrorCode.DUPLICATE: Advice(
        "this envelope was taken for this recipient before", "nothing: it is there", final=True
    ),
    ErrorCode.UNKNOWN_RECIPIENT: Advice(
        "the recipient is not connected and has no mailbox here",
        "keep it until the recipient comes online",
        final=False,
    ),
    ErrorCode.MAILBOX_FULL: Advice(
        "no room for it; `scope` says in what: the recipient's `mailbox`, what one `sender` may "
        "hold of it, or the whole `store`; nothing older was thrown away",
        "try again when the recipient has been online",
        final=False,
    ),
    ErrorCode.UNAVAILABLE: Advice(
        "the recipient's connection or mailbox could not take it just now",
        "try again later",
        final=False,
    ),
    ErrorCode.AT_CAPACITY: Advice(
        "no room for another connection, peer or pin; the connection is closed",
        "reconnect with backoff",
        final=False,
    ),
    ErrorCode.EXPIRED: Advice(
        "in a bounce: it waited in the mailbox for longer than `--mailbox-max-age`",
        "send it again, if it still matters",
        final=True,
    ),
    ErrorCode.UNDELIVERABLE: Advice(
        "in a bounce: the recipient nacked it `--max-nacks` times",
        "ask whoever runs the recipient: it is among the relay's dead letters",
        final=True,
    ),
}

HTTP_ERROR_ADVICE: dict[HttpErrorCode, Advice] = {
    HttpErrorCode.NOT_FOUND: Advice("nothing is at this path", "correct the URL", final=True),
    HttpErrorCode.METHOD_NOT_ALLOWED: Advice(
        "the path is right, the method is not; `Allow` has those that are",
        "use one of them",
        final=True,
    ),
    HttpErrorCode.UNKNOWN_METHOD: Advice(
        "the method is none that HTTP has", "correct the program", final=True
    ),
    HttpErrorCode.REQUEST_TIMEOUT: Advice(
        "the request was not there as a whole within `--http-request-timeout`",
        "send it again",
        final=False,
    ),
    HttpErrorCode.UNSUPPORTED_MEDIA_TYPE: Advice(
        "the body is said to be something else than JSON",
        "send `Content-Type: application/json`",
        final=True,
    ),
    HttpErrorCode.HEADERS_TOO_LARGE: Advice(
        "request line and headers are over `--http-max-head-bytes`",
        "send fewer or shorter headers",
        final=True,
    ),
    HttpErrorCode.PRIVATE_KEY_REFUSED: Advice(
        "a private key was sent, or an unsigned message, and the relay takes neither "
        "(`--rest-private-keys` is off)",
        "keep the key, and sign: `/openapi.json` says how",
        final=True,
    ),
    HttpErrorCode.NOT_ENABLED: Advice(
        "this relay's operator has not switched it on", "do without it", final=True
    ),
    HttpErrorCode.UNAUTHORIZED: Advice(
        "the admin token is missing or wrong", "give the one that is set or was printed", final=True
    ),
    HttpErrorCode.STORAGE_FAILED: Advice(
        "the token is revoked, but the disk did not take that: it would be good again if the relay "
        "were restarted before it does",
        "nothing: the relay tries again by itself",
        final=False,
    ),
    HttpErrorCode.INTERNAL_ERROR: Advice(
        "a fault of the relay; its log has the details", "try again later", final=False
    ),
}

HTTP_STATUS: dict[ErrorCode | HttpErrorCode, int] = {
    ErrorCode.INVALID_MESSAGE: 400,
    ErrorCode.NOT_REGISTERED: 401,
    ErrorCode.PROOF_REQUIRED: 401,
    ErrorCode.PROOF_FAILED: 401,
    ErrorCode.INVALID_ENVELOPE: 403,
    ErrorCode.SENDER_MISMATCH: 403,
    ErrorCode.RECIPIENT_MISMATCH: 403,
    ErrorCode.STALE: 409,
    ErrorCode.FROM_THE_FUTURE: 409,
    ErrorCode.TOO_LARGE: 413,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.OUT_OF_ORDER: 409,
    ErrorCode.UNKNOWN_RECIPIENT: 404,
    ErrorCode.MAILBOX_FULL: 503,
    ErrorCode.UNAVAILABLE: 503,
    ErrorCode.AT_CAPACITY: 503,
    HttpErrorCode.NOT_FOUND: 404,
    HttpErrorCode.METHOD_NOT_ALLOWED: 405,
    HttpErrorCode.UNKNOWN_METHOD: 501,
    HttpErrorCode.REQUEST_TIMEOUT: 408,
    HttpErrorCode.UNSUPPORTED_MEDIA_TYPE: 415,
    HttpErrorCode.HEADERS_TOO_LARGE: 431,
    HttpErrorCode.PRIVATE_KEY_REFUSED: 400,
    HttpErrorCode.NOT_ENABLED: 501,
    HttpErrorCode.UNAUTHORIZED: 401,
    HttpErrorCode.STORAGE_FAILED: 503,
    HttpErrorCode.INTERNAL_ERROR: 500,
}
"""
The status of an HTTP answer that carries a code.

A request that is not as the document says gets 400. One that is gets another: 403 where the
signature does not stand for what is asked, 409 where it comes at the wrong time.
Those of bounces no answer has, nor ``duplicate``, in whose place there is a receipt.
"""

CLOSE_ADVICE: dict[CloseCode, Advice] = {
    CloseCode.NORMAL: Advice("the client said goodbye", "nothing", final=False),
    CloseCode.GOING_AWAY: Advice("the relay is stopping", "reconnect with backoff", final=False),
    CloseCode.PROTOCOL_ERROR: Advice(
        "bytes that RFC 6455 forbids", "fix the WebSocket library", final=False
    ),
    CloseCode.INVALID_TEXT: Advice(
        "a text frame that is not UTF-8", "fix the program", final=False
    ),
    CloseCode.TOO_BIG: Advice(
        "a frame over the relay's `--max-frame-bytes`", "send smaller frames", final=False
    ),
    CloseCode.INTERNAL_ERROR: Advice(
        "a fault of the relay; its log has the details", "reconnect with backoff", final=False
    ),
    CloseCode.TRY_AGAIN_LATER: Advice(
        "no room for another connection or peer", "reconnect with backoff", final=False
    ),
    CloseCode.SLOW_CONSUMER: Advice(
        "more unsent bytes than `--max-unsent-bytes`: the client reads too slowly",
        "read faster; mail in a mailbox is kept",
        final=False,
    ),
    CloseCode.IDLE: Advice(
        "no answer to the relay's WebSocket ping", "reconnect with backoff", final=False
    ),
    CloseCode.REGISTER_TIMEOUT: Advice(
        "no registration within `--register-timeout`", "register at once", final=False
    ),
    CloseCode.PROOF_FAILED: Advice(
        "error `proof_failed`", "correct the relay's name or the key", final=True
    ),
    CloseCode.PROOF_REQUIRED: Advice(
        "error `proof_required`, or the key has just proven itself in another session",
        "register with proof",
        final=True,
    ),
}


def may_reconnect(close_code: int) -> bool:
    """
    Tell whether a client may come back by itself after *close_code*.

    Codes 4500 to 4999 mean that trying again cannot help.

    >>> may_reconnect(4001), may_reconnect(4501)
    (True, False)
    """
    return not 4500 <= close_code <= 4999
