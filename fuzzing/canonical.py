"""Any bytes are refused with `CanonicalJSONError`, or read the same again once written."""

from __future__ import annotations

import json
from collections.abc import Hashable

from agora.canonical import canonical_json, json_text, parse_json
from agora.errors import CanonicalJSONError
from fuzzing.material import PAYLOADS, TOKENS
from fuzzing.mutation import main

__all__ = ["CORPUS", "target"]

CORPUS = [json_text(payload).encode() for payload in PAYLOADS] + [b"1e400", b'{"a":1,"a":2}']


def target(data: bytes) -> Hashable:
    """Hold the invariant to *data*."""
    try:
        value = parse_json(data)
    except CanonicalJSONError as error:
        return str(error)[:20]
    canonical = canonical_json(value)
    again = parse_json(canonical)
    assert canonical_json(again) == canonical, "a canonical text is its own canonical text"
    assert canonical_json(parse_json(json_text(value))) == canonical, "both writers say the same"
    json.loads(canonical)  # other readers can read it too
    return type(value).__name__, len(canonical).bit_length()


if __name__ == "__main__":
    main(target, CORPUS, tokens=TOKENS)
