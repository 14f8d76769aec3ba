"""What the targets begin with: valid texts, and what has broken parsers before."""

from __future__ import annotations

from agora.envelope import Envelope, seal
from agora.keys import KeyPair

__all__ = ["KEYS", "PAYLOADS", "TOKENS", "envelopes"]

KEYS = KeyPair.from_seed(b"fuzzing".ljust(32, b"\0"))
"""Whose signatures no mutation may forge."""

PAYLOADS: list[object] = [
    "hello",
    None,
    {"text": "grüße 🦀", "n": [1, -0.0, 2.5e-7, 1e21, 2**53, True, None]},
    {"b": {"z": [], "a": {}}, "10": 1, "9": 2, "\ue000": 1, "😀": 2},
    [[[[[["deep"]]]]]],
    "\ud800 alone",
]

TOKENS: list[bytes] = [
    b"null", b"true", b"0", b"-0", b"1e999", b"-1e-400", b"9007199254740993", b"9" * 400,
    b'""', b"[]", b"{}", b"[" * 600, b"]" * 600, b'{"a":' * 300, b",", b":", b'"', b"\\",
    b"\\ud800", b"\\udc00", b"\\u0000", b"\\", b"\xff\xfe", b"\xed\xa0\x80", b"\xf4\x90\x80\x80",
    b"\x00", b"\xef\xbb\xbf", b"\xe2\x80\xae", b"NaN", b"Infinity", b'"__proto__":', b'"toString":',
    b'"id":', b'"from":', b'"to":', b'"type":', b'"timestamp":', b'"payload":', b'"signature":',
    b'"inReplyTo":', b'"sender":', b'"envelope":', b'"ids":', b'"publicKey":', b'"protocol":1',
    b'"nonce":', b'"delayMs":', b'"presence":', b'"after":', b'"confirm":true', b'"*"',
    b'"message"', b'"broadcast"', b'"ack"', b'"nack"', b'"register"', b'"authenticate"', b'"watch"',
    b'"receipt"', b'"challenge"', b'"registered"', b'"error"', b'"ping"',
]  # fmt: skip


def envelopes() -> list[Envelope]:
    """Return genuine envelopes of every shape."""
    other = KeyPair.from_seed(b"other".ljust(32, b"\0")).peer_id
    plain = [
        seal(KEYS, type="publish", payload=payload, to=other, timestamp_ms=1_700_000_000_000)
        for payload in PAYLOADS
    ]
    answers = [
        seal(
            KEYS,
            type="response",
            payload=payload,
            to=[other, KEYS.peer_id, "*"],
            timestamp_ms=1.5,
            in_reply_to="ab" * 32,
        )
        for payload in PAYLOADS
    ]
    return plain + answers
