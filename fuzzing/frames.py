"""Any bytes are a frame, of a client and of a relay, or a `FrameError` that can be answered."""

from __future__ import annotations

import json
from collections.abc import Hashable

from agora.codes import ErrorCode
from agora.errors import FrameError
from agora.frames import decode_answer, decode_request, encode_error
from fuzzing.material import KEYS, TOKENS, envelopes
from fuzzing.mutation import main

__all__ = ["CORPUS", "target"]

_KEY, _NONCE, _SIGNATURE = KEYS.peer_id, "ab" * 32, "cd" * 64
_ENVELOPES: list[object] = [envelope.to_dict() for envelope in envelopes()]


def _message(envelope: object) -> dict[str, object]:
    return {"type": "message", "to": _KEY, "envelope": envelope}


_FRAMES: list[dict[str, object]] = [
    {"type": "register", "publicKey": _KEY, "name": "n"},
    {"type": "register", "protocol": 1, "publicKey": _KEY, "nonce": _NONCE, "presence": "none"},
    {"type": "register", "protocol": 1, "publicKey": _KEY, "nonce": _NONCE, "presence": [_KEY]},
    {"type": "authenticate", "signature": _SIGNATURE, "audience": "localhost:9470"},
    *[_message(one) for one in _ENVELOPES],
    {"type": "message", "to": [_KEY], "envelope": _ENVELOPES[0], "confirm": True, "after": _NONCE},
    {"type": "broadcast", "envelope": _ENVELOPES[1]},
    {"type": "ack", "ids": [_NONCE]},
    {"type": "nack", "ids": [_NONCE], "delayMs": 10},
    {"type": "watch", "presence": "all"},
    {"type": "ping"},
    {"type": "challenge", "nonce": _NONCE, "relay": _KEY, "signature": _SIGNATURE},
    {"type": "registered", "publicKey": _KEY, "sessionId": "s", "peers": [{"publicKey": _KEY}]},
    {"type": "registered", "protocol": 1, "publicKey": _KEY, "sessionId": "s", "peers": [],
     "peersTotal": 3, "relay": _KEY, "now": 1, "pending": 2, "limits": {"window": 256}},
    {"type": "message", "from": _KEY, "envelope": _ENVELOPES[0], "stored": True, "name": "n"},
    {"type": "receipt", "id": _NONCE, "to": _KEY, "status": "delivered", "count": 1},
    {"type": "presence", "online": [{"publicKey": _KEY, "name": "n"}], "offline": [_KEY]},
    {"type": "peer_online", "publicKey": _KEY},
    {"type": "peer_offline", "publicKey": _KEY},
    {"type": "pong"},
    {"type": "error", "code": "stale", "message": "m", "id": _NONCE, "to": _KEY, "now": 1,
     "retryAfterMs": 10},
]  # fmt: skip

CORPUS = [json.dumps(frame).encode() for frame in _FRAMES]


def target(data: bytes) -> Hashable:
    """Hold the invariant to *data*."""
    outcome = []
    for decode in (decode_request, decode_answer):
        try:
            frame = decode(data)
        except FrameError as error:
            ErrorCode(error.code)
            answer = encode_error(
                error.code, str(error), envelope_id=error.envelope_id, to=error.to
            )
            answer.encode()  # what cannot be encoded could not be sent
            outcome.append((error.code, str(error)[:40]))
        else:
            outcome.append((type(frame).__name__, ""))
    return tuple(outcome)


if __name__ == "__main__":
    main(target, CORPUS, tokens=TOKENS)
