"""Any bytes are refused with `EnvelopeError`, or are an envelope in the words of its signer."""

from __future__ import annotations

from collections.abc import Hashable

from agora.envelope import open_envelope, open_legacy_envelope, seal_legacy
from agora.errors import EnvelopeError
from fuzzing.material import KEYS, PAYLOADS, TOKENS, envelopes
from fuzzing.mutation import main

__all__ = ["CORPUS", "target"]

_LEGACY = [
    seal_legacy(KEYS, type="publish", payload=payload, timestamp_ms=1.5) for payload in PAYLOADS
]
_SIGNED = {envelope.canonical for envelope in envelopes()} | {one.canonical for one in _LEGACY}

CORPUS = [one.to_json().encode() for one in [*envelopes(), *_LEGACY]]


def target(data: bytes) -> Hashable:
    """Hold the invariant to *data*."""
    outcome = []
    for open_any in (open_envelope, open_legacy_envelope):
        try:
            envelope = open_any(data)
        except EnvelopeError as error:
            outcome.append(str(error)[:30])
            continue
        assert envelope.canonical in _SIGNED, "nobody signed this"
        assert open_any(envelope.wire_text) == envelope, "forwarded, it is the same"
        assert open_any(envelope.to_json()).canonical == envelope.canonical
        outcome.append("opened")
    return tuple(outcome)


if __name__ == "__main__":
    main(target, CORPUS, tokens=TOKENS)
