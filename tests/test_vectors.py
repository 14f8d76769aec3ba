"""
Every envelope that the reference made, and every one that it refused.

Where we differ on purpose, the tables of docs/reference/quirks.md say so; they
are read here and held row by row.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from hashlib import sha256, sha512
from pathlib import Path
from typing import Any

import pytest

from agora.canonical import canonical_json, canonical_text, json_text, parse_json
from agora.envelope import (
    open_envelope,
    open_legacy_envelope,
    seal,
    seal_legacy,
)
from agora.errors import EnvelopeError
from agora.keys import PUBLIC_KEY_PREFIX, KeyPair

DATA = Path(__file__).parent / "data"
QUIRKS_PAGE = Path(__file__).parents[1] / "docs" / "reference" / "quirks.md"

VECTORS = json.loads((DATA / "vectors.json").read_text("utf-8"))
APPENDIX = json.loads((DATA / "appendix_a.json").read_text("utf-8"))
NUMBERS = json.loads((DATA / "numbers.json").read_text("utf-8"))["numbers"]

KEY_PAIRS = {
    pair.peer_id: pair
    for pair in (
        KeyPair.from_hex(keys["public_key"], keys["private_key"])
        for keys in VECTORS["keys"].values()
    )
}


def quirk_rows() -> dict[str, tuple[str, str]]:
    """Read from the tables of the quirks page what the reference and we say of each envelope."""
    lines = QUIRKS_PAGE.read_text("utf-8").splitlines()
    cells = [line.strip("|").split("|") for line in lines if line.startswith("| `")]
    return {row[0].strip(" `"): (row[2].strip(), row[3].strip()) for row in cells}


QUIRK_ROWS = quirk_rows()


def verdict(text: str) -> str:
    """Say what opening *text* gives: "valid", or the reason."""
    try:
        open_envelope(text)
    except EnvelopeError as error:
        return error.reason
    return "valid"


def expected_verdict(expected: dict[str, Any]) -> str:
    if "throws" in expected:
        return "throws"
    return "valid" if expected["valid"] else str(expected["reason"])


def by_name(part: str) -> pytest.MarkDecorator:
    vectors = VECTORS[part]
    return pytest.mark.parametrize("vector", vectors, ids=[vector["name"] for vector in vectors])


def seal_vector(vector: dict[str, Any]) -> Any:
    return seal(
        KEY_PAIRS[json.loads(vector["envelope_json"])["from"]],
        type=vector["type"],
        payload=vector["payload"],
        to=vector.get("to_input", vector["to"]),
        timestamp_ms=vector["timestamp"],
        in_reply_to=vector.get("inReplyTo"),
    )


# What the reference made


@pytest.mark.parametrize(
    "vector",
    [case for case in VECTORS["cases"] if case["name"] not in QUIRK_ROWS],
    ids=lambda vector: vector["name"],
)
class TestAnEnvelopeOfTheReference:
    def test_is_opened_and_written_again_byte_for_byte(self, vector: dict[str, Any]) -> None:
        envelope = open_envelope(vector["envelope_json"])

        assert envelope.canonical == vector["canonical"].encode()
        assert envelope.to_json() == vector["envelope_json"]
        assert json_text(envelope.payload) == vector["payload_json"]

    def test_is_sealed_byte_for_byte(self, vector: dict[str, Any]) -> None:
        envelope = seal_vector(vector)

        assert envelope.canonical == vector["canonical"].encode()
        assert envelope.to_json() == vector["envelope_json"]

    def test_is_the_same_in_its_wire_text(self, vector: dict[str, Any]) -> None:
        envelope = open_envelope(vector["envelope_json"])

        again = open_envelope(envelope.wire_text)

        assert again == envelope
        assert again.canonical == envelope.canonical

    def test_is_the_same_as_bytes_and_as_a_mapping(self, vector: dict[str, Any]) -> None:
        envelope = open_envelope(vector["envelope_json"])

        assert open_envelope(vector["envelope_json"].encode()) == envelope
        assert open_envelope(json.loads(vector["envelope_json"])) == envelope
        assert open_envelope(envelope.to_dict()).to_json() == vector["envelope_json"]


@by_name("js_only")
def test_a_payload_that_json_cannot_hold_is_judged_as_the_reference_does_after_the_wire(
    vector: dict[str, Any],
) -> None:
    assert verdict(vector["envelope_json"]) == expected_verdict(vector["verify_after_wire"])


@by_name("reparse")
def test_a_text_that_javascript_would_not_have_written_means_what_it_means_there(
    vector: dict[str, Any],
) -> None:
    envelope = open_envelope(vector["envelope_text"])

    assert envelope.id == vector["id"]
    assert envelope.canonical == vector["canonical"].encode()
    assert envelope.to_json() == vector["relayed_envelope_text"]
    assert f'"payload":{canonical_text(parse_json(vector["payload_text"]))},' in vector["canonical"]


# What the reference refuses


@by_name("invalid")
def test_an_invalid_envelope_is_refused_for_the_reason_of_the_reference(
    vector: dict[str, Any],
) -> None:
    expected = expected_verdict(vector["expected"])
    if expected == "throws":
        said_of_it, expected = QUIRK_ROWS[vector["name"]]
        assert said_of_it == "throws"

    assert verdict(vector["envelope_json"]) == expected


# Where we differ


@by_name("quirks")
def test_the_quirks_page_says_what_the_reference_and_we_say(vector: dict[str, Any]) -> None:
    reference, ours = QUIRK_ROWS[vector["name"]]

    assert reference == expected_verdict(vector["expected"])
    assert ours == verdict(vector["envelope_json"])


def test_a_recipient_with_blanks_around_it_is_refused_both_ways() -> None:
    vector = next(case for case in VECTORS["cases"] if case["name"] == "to_not_trimmed_input")

    assert QUIRK_ROWS[vector["name"]] == ("valid", verdict(vector["envelope_json"]))
    with pytest.raises(EnvelopeError, match="invalid_routing_fields"):
        seal_vector(vector)


ALICE, BOB, _ = KEY_PAIRS.values()


def signed(replaced: dict[str, object] | None = None, *, without: str = "") -> str:
    """Write an envelope of Alice's whose id and signature fit, whatever its members are."""
    members = {
        "from": ALICE.peer_id,
        "payload": {"n": 1},
        "timestamp": 1767225600000,
        "to": [BOB.peer_id],
        "type": "publish",
    }
    canonical = canonical_text(members | (replaced or {}))
    if without:
        member = f'"{without}":{canonical_text(members[without])}'
        canonical = canonical.replace(member, f'"{without}":undefined')
        members.pop(without)
    id_ = sha256(canonical.encode()).hexdigest()
    signature = ALICE.sign(canonical.encode())
    return json_text({"id": id_, **members, **(replaced or {}), "signature": signature})


def signed_by_nobody(point: str) -> str:
    """Write an envelope from a key of order one, with the signature that fits every message."""
    fields = json.loads(signed({"from": PUBLIC_KEY_PREFIX + point}))
    return json_text(fields | {"signature": "01" + "00" * 63})


def signed_with_neutral_point() -> str:
    """Sign with r = 0, as only the holder of the private key can: S is then h·a."""
    order = 2**252 + 27742317777372353535851937790883648493
    fields = json.loads(signed())
    canonical = open_envelope(fields).canonical
    digest = bytearray(sha512(bytes.fromhex(ALICE.private_key[32:])).digest()[:32])
    digest[0] &= 248
    digest[31] = digest[31] & 127 | 64
    r = bytes([1]) + bytes(31)
    h = int.from_bytes(sha512(r + bytes.fromhex(ALICE.peer_id[24:]) + canonical).digest(), "little")
    s = h * int.from_bytes(digest, "little") % order
    return json_text(fields | {"signature": (r + s.to_bytes(32, "little")).hex()})


BEYOND: dict[str, Callable[[], str]] = {
    "from_upper_case": lambda: signed({"from": ALICE.peer_id.upper()}),
    "from_with_bytes_after_it": lambda: signed({"from": ALICE.peer_id + "00"}),
    "from_not_reduced": lambda: signed_by_nobody("ee" + "ff" * 30 + "7f"),
    "from_infinite": lambda: signed({"from": None}).replace('"from":null', '"from":1e400'),
    "signature_with_small_order_point": signed_with_neutral_point,
    "to_upper_case": lambda: signed({"to": [BOB.peer_id.upper()]}),
    "to_small_order_key": lambda: signed({"to": [PUBLIC_KEY_PREFIX + "00" * 32]}),
    "type_absent": lambda: signed(without="type"),
    "type_number": lambda: signed({"type": 5}),
    "timestamp_absent": lambda: signed(without="timestamp"),
    "timestamp_text": lambda: signed({"timestamp": "1767225600000"}),
    "timestamp_true": lambda: signed({"timestamp": True}),
    "reply_to_number": lambda: signed({"inReplyTo": 5}),
    "payload_600_deep": lambda: signed_600_deep(),
}


def signed_600_deep() -> str:
    """Write what our own writer refuses to: the payload is put in as text."""
    payload = "[" * 600 + "]" * 600
    canonical = canonical_text(
        {"from": ALICE.peer_id, "payload": 0, "timestamp": 0, "to": [BOB.peer_id], "type": "t"}
    )
    canonical = canonical.replace('"payload":0', f'"payload":{payload}')
    id_, signature = sha256(canonical.encode()).hexdigest(), ALICE.sign(canonical.encode())
    return f'{canonical[:-1]},"id":"{id_}","signature":"{signature}"}}'


@pytest.mark.parametrize("name", BEYOND)
def test_the_quirks_page_is_right_beyond_the_vectors(name: str) -> None:
    _, ours = QUIRK_ROWS[name]

    assert verdict(BEYOND[name]()) == ours


def test_an_envelope_signed_in_the_same_way_but_well_formed_is_valid() -> None:
    assert verdict(signed()) == "valid"
    assert verdict(signed(without="payload")) == "valid"


def test_the_quirks_page_has_no_row_that_is_not_held() -> None:
    vectors = {
        vector["name"] for part in ("quirks", "invalid", "cases") for vector in VECTORS[part]
    }

    assert QUIRK_ROWS.keys() <= vectors | BEYOND.keys()


# The appendix of the protocol's description

PEER_A = KeyPair.from_hex(APPENDIX["A"], APPENDIX["A_private"])
PEER_B = KeyPair.from_hex(APPENDIX["B"], APPENDIX["B_private"])


def appendix(*, plain: bool) -> pytest.MarkDecorator:
    """Give the vectors that JSON can hold, or those whose payload has ``undefined`` inside."""
    vectors = [
        vector
        for vector in APPENDIX["vectors"]
        if vector["name"].endswith("as the reference signs it") is not plain
    ]
    return pytest.mark.parametrize("vector", vectors, ids=[vector["name"] for vector in vectors])


def canonical_of(vector: dict[str, Any]) -> str:
    text: str = vector["canonical"]
    return text.replace("<A>", PEER_A.peer_id).replace("<B>", PEER_B.peer_id)


def wire_of(vector: dict[str, Any]) -> dict[str, Any]:
    """Give the envelope as it is after the wire, where undefined members vanish."""
    text = canonical_of(vector).replace(":undefined", ':"undefined"')
    members = json.loads(text, object_pairs_hook=without_undefined)
    return {"id": vector["id"], **members, "signature": vector["signature"]}


def without_undefined(members: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in members if value != "undefined"}


@appendix(plain=True)
def test_a_vector_of_the_appendix_has_its_id_and_its_signature(vector: dict[str, Any]) -> None:
    canonical = canonical_of(vector).encode()

    assert sha256(canonical).hexdigest() == vector["id"]
    assert PEER_A.sign(canonical) == vector["signature"]


@appendix(plain=True)
def test_a_vector_of_the_appendix_is_opened_and_sealed(vector: dict[str, Any]) -> None:
    wire = wire_of(vector)
    is_legacy = "sender" in wire

    opened = open_legacy_envelope(wire) if is_legacy else open_envelope(wire)

    assert opened.canonical == canonical_of(vector).encode()
    assert opened.sender == PEER_A.peer_id
    if not opened.has_payload:
        return  # nobody seals an absent payload here
    fields: dict[str, Any] = {
        "type": opened.type,
        "payload": opened.payload,
        "timestamp_ms": opened.timestamp_ms,
        "in_reply_to": opened.in_reply_to,
    }
    sealed = seal_legacy(PEER_A, **fields) if is_legacy else seal(PEER_A, to=opened.to, **fields)
    assert sealed.signature == vector["signature"]


@appendix(plain=False)
def test_what_the_reference_signs_with_undefined_inside_is_refused_after_the_wire(
    vector: dict[str, Any],
) -> None:
    with pytest.raises(EnvelopeError) as caught:
        open_envelope(wire_of(vector))

    assert caught.value.reason == "id_mismatch"


# Numbers


def test_every_number_is_written_as_node_writes_it() -> None:
    written = [
        [bits, canonical_text(struct.unpack(">d", bytes.fromhex(bits))[0])] for bits, _ in NUMBERS
    ]

    assert written == NUMBERS


@pytest.mark.parametrize(
    ("capability", "id_"),
    [
        (
            {"name": "ocr", "version": "1.0.0"},
            "0f69f5895f3c9c5a9783506aaf5a16c6944a08a67ba7624a702106754ebf42b1",
        ),
        (
            {
                "name": "code-review",
                "version": "1.0.0",
                "inputSchema": {"type": "object", "b": 1, "a": 2},
            },
            "f16d33dd25a8b051d37e22747c9515faf6cf340677fef59c6ad37d034807c654",
        ),
    ],
)
def test_the_canonical_form_gives_the_reference_capability_ids(
    capability: dict[str, Any], id_: str
) -> None:
    assert sha256(canonical_json(capability)).hexdigest() == id_
