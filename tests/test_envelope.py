"""Sealing and opening, case by case; the reference's own envelopes are in test_vectors.py."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import sys
from contextlib import nullcontext
from hashlib import sha256
from types import MappingProxyType
from typing import Any

import pytest

from agora.canonical import canonical_json, json_text, parse_json
from agora.envelope import (
    ENVELOPE_REASONS,
    MAX_PAYLOAD_DEPTH,
    Envelope,
    LegacyEnvelope,
    Sealed,
    open_envelope,
    open_legacy_envelope,
    seal,
    seal_legacy,
)
from agora.errors import CanonicalJSONError, EnvelopeError
from agora.keys import PUBLIC_KEY_PREFIX, KeyPair

ALICE = KeyPair.from_seed(bytes(32))
BOB = KeyPair.from_seed(b"\1" * 32)
NOW_MS = 1767225600123
NOBODY = PUBLIC_KEY_PREFIX + "00" * 32


def sealed(payload: object = "hello", **changed: Any) -> Envelope:
    fields: dict[str, Any] = {"type": "publish", "to": BOB.peer_id, "timestamp_ms": NOW_MS}
    return seal(ALICE, payload=payload, **(fields | changed))


def members_of(envelope: Envelope | LegacyEnvelope, **changed: object) -> dict[str, Any]:
    return {**envelope.to_dict(), **changed}


def reason_of(what: Any) -> str:
    with pytest.raises(EnvelopeError) as caught:
        open_envelope(what)
    return caught.value.reason


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


# Sealing


def test_what_was_sealed_is_opened_and_says_the_same() -> None:
    envelope = sealed({"text": "hello"}, in_reply_to="ab" * 32)

    opened = open_envelope(envelope.to_json())

    assert opened == envelope
    assert opened.type == "publish"
    assert opened.sender == ALICE.peer_id
    assert opened.to == (BOB.peer_id,)
    assert opened.timestamp_ms == NOW_MS
    assert opened.in_reply_to == "ab" * 32
    assert opened.payload == {"text": "hello"}
    assert opened.canonical == envelope.canonical


def test_id_and_signature_are_over_the_canonical_text() -> None:
    envelope = sealed({"b": 1, "a": 2})

    signed = {
        "from": ALICE.peer_id,
        "payload": {"a": 2, "b": 1},
        "timestamp": NOW_MS,
        "to": [BOB.peer_id],
        "type": "publish",
    }
    assert envelope.canonical == canonical_json(signed)
    assert envelope.id == sha256(envelope.canonical).hexdigest()
    assert envelope.signature == ALICE.sign(envelope.canonical)


def test_the_members_have_the_order_of_the_reference_and_absent_ones_stay_absent() -> None:
    without = ["id", "type", "from", "to", "timestamp", "payload", "signature"]
    with_reply = [*without[:5], "inReplyTo", *without[5:]]

    assert list(sealed().to_dict()) == without
    assert list(sealed(in_reply_to="").to_dict()) == with_reply


@pytest.mark.parametrize(
    ("given", "recipients"),
    [
        (None, [ALICE]),
        ([], [ALICE]),
        ("", [ALICE]),
        (["", " \t\n", "\u00a0\u2003\ufeff\u2028"], [ALICE]),
        (BOB.peer_id, [BOB]),
        ([BOB.peer_id, "", ALICE.peer_id, BOB.peer_id], [BOB, ALICE]),
        ((peer.peer_id for peer in (BOB, BOB)), [BOB]),
        ([None, 5, BOB.peer_id], [BOB]),
        (5, [ALICE]),
    ],
)
def test_recipients_are_gathered_as_the_reference_does(
    given: Any, recipients: list[KeyPair]
) -> None:
    assert sealed(to=given).to == tuple(peer.peer_id for peer in recipients)


def test_everyone_may_be_a_recipient() -> None:
    assert open_envelope(sealed(to=["*", BOB.peer_id]).to_json()).to == ("*", BOB.peer_id)


@pytest.mark.parametrize(
    "to", ["bob", BOB.peer_id.upper(), f" {BOB.peer_id}", [BOB.peer_id, "x"], NOBODY, "**", "\x1c"]
)
def test_a_recipient_who_cannot_be_is_refused_before_signing(to: Any) -> None:
    with pytest.raises(EnvelopeError, match="invalid_routing_fields"):
        sealed(to=to)


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": 5},
        {"type": None},
        {"timestamp_ms": "1"},
        {"timestamp_ms": True},
        {"timestamp_ms": None},
        {"timestamp_ms": float("nan")},
        {"timestamp_ms": float("inf")},
        {"timestamp_ms": 10**400},
        {"in_reply_to": 5},
        {"in_reply_to": ["x"]},
    ],
)
def test_a_field_of_the_wrong_type_is_refused_before_signing(wrong: dict[str, Any]) -> None:
    with pytest.raises(EnvelopeError, match="invalid_routing_fields"):
        sealed(**wrong)


@pytest.mark.parametrize("payload", [b"x", {1: 2}, {"a": {1}}, object()])
def test_a_payload_that_json_cannot_hold_is_refused(payload: object) -> None:
    with pytest.raises(CanonicalJSONError):
        sealed(payload)


def test_a_payload_is_signed_as_it_looks_after_a_round_trip() -> None:
    envelope = sealed((1.0, float("nan"), 2**53 + 1, "\ud83d\ude00", {"a": ()}))

    assert envelope.payload == [1, None, 2**53, "😀", {"a": []}]
    assert open_envelope(envelope.to_json()) == envelope


def test_the_payload_is_the_envelopes_own() -> None:
    payload = {"list": [1]}
    envelope = sealed(payload)
    members = members_of(envelope)
    opened = open_envelope(members)

    payload["list"].append(2)
    members["payload"]["list"].append(2)

    assert envelope.payload == opened.payload == {"list": [1]}
    assert open_envelope(envelope.to_dict()) == envelope


def test_as_many_levels_as_promised_are_sealed_and_opened() -> None:
    envelope = sealed(nested(MAX_PAYLOAD_DEPTH))

    assert MAX_PAYLOAD_DEPTH >= 512
    assert open_envelope(envelope.to_json()) == envelope
    assert open_envelope(envelope.wire_text) == envelope
    assert open_envelope(envelope.to_dict()) == envelope
    assert parse_json(f'{{"type":"message","envelope":{envelope.wire_text}}}')


@pytest.mark.parametrize("depth", [MAX_PAYLOAD_DEPTH + 1, 100_000])
def test_one_level_more_is_not_sealed(depth: int) -> None:
    with pytest.raises(CanonicalJSONError, match="deep"):
        sealed(nested(depth))


# Opening


def test_a_text_its_bytes_its_members_and_a_sealed_one_are_the_same_envelope() -> None:
    envelope = sealed({"a": [1, None]})
    members = envelope.to_dict()

    for what in (
        envelope.to_json(),
        envelope.to_json().encode(),
        json.dumps(members, indent=2),
        members,
        MappingProxyType(members),
        {**members, "to": tuple(envelope.to)},
        Sealed(members),
        envelope.wire_text,
    ):
        assert open_envelope(what) == envelope


def test_members_that_are_not_signed_are_stripped() -> None:
    members = members_of(sealed(), fromName="Mallory", sender="x", version=9)

    opened = open_envelope(members)

    assert opened.to_json() == sealed().to_json()
    assert "Mallory" not in opened.wire_text


def test_even_members_that_json_cannot_hold_are_stripped() -> None:
    assert open_envelope(members_of(sealed(), cached=object())) == sealed()


def test_an_absent_payload_is_not_a_null_payload() -> None:
    null = sealed(None)
    assert null.has_payload
    assert null.to_dict()["payload"] is None

    members = null.to_dict()
    del members["payload"]
    assert reason_of(members) == "id_mismatch"

    canonical = null.canonical.replace(b"null", b"undefined")
    members |= {"id": sha256(canonical).hexdigest(), "signature": ALICE.sign(canonical)}
    absent = open_envelope(members)
    assert not absent.has_payload
    assert absent.payload is None
    assert "payload" not in absent.to_dict()
    assert open_envelope(absent.wire_text) == open_envelope(absent.to_json()) == absent
    assert reason_of({**members, "payload": None}) == "id_mismatch"


def test_an_absent_payload_is_found_whatever_the_reply_says() -> None:
    reply = '"payload":undefined,'
    canonical = sealed(None, in_reply_to=reply).canonical.replace(b"null", b"undefined")
    members = sealed(None, in_reply_to=reply).to_dict()
    members |= {"id": sha256(canonical).hexdigest(), "signature": ALICE.sign(canonical)}
    del members["payload"]

    opened = open_envelope(members)

    assert open_envelope(opened.wire_text).in_reply_to == reply


@pytest.mark.parametrize("reply", [None, "", "x", 'r"é\u2028\ud800'])
def test_a_reply_to_any_text_or_to_null_is_an_envelope(reply: str | None) -> None:
    members = sealed(in_reply_to="?").to_dict()
    members["inReplyTo"] = reply
    signed = {name: members[name] for name in members if name not in ("id", "signature")}
    canonical = canonical_json(signed)
    members |= {"id": sha256(canonical).hexdigest(), "signature": ALICE.sign(canonical)}

    opened = open_envelope(members)

    assert opened.in_reply_to == reply
    assert opened.to_dict() == members
    assert open_envelope(opened.wire_text) == opened


@pytest.mark.parametrize(
    ("timestamp", "written"), [(0, 0), (-1, -1), (1.5, 1.5), (1e21, 1e21), (5.0, 5), (-0.0, 0)]
)
def test_any_finite_number_is_a_time(timestamp: float, written: float) -> None:
    assert open_envelope(sealed(timestamp_ms=timestamp).to_json()).timestamp_ms == written


@pytest.mark.parametrize("timestamp", [float("inf"), float("nan"), 10**400])
def test_a_time_that_is_not_finite_is_refused_even_where_json_cannot_say_it(
    timestamp: float,
) -> None:
    members: dict[str, Any] = members_of(sealed(), timestamp=timestamp)
    signed = {name: members[name] for name in members if name not in ("id", "signature")}
    canonical = canonical_json(signed)
    members |= {"id": sha256(canonical).hexdigest(), "signature": ALICE.sign(canonical)}

    assert reason_of(members) == "invalid_routing_fields"
    assert reason_of(Sealed(members)) == "invalid_routing_fields"


@pytest.mark.parametrize(
    "what",
    ["", "null", "5", '"x"', "[]", "{}", "{", b"\xff", b"", [], {}, None, 5, object(), "NaN", [{}]],
)
def test_what_is_no_object_has_no_routing(what: object) -> None:
    assert reason_of(what) == "invalid_routing_fields"


@pytest.mark.parametrize("sender", [None, "", 0, -0.0, False, 1e-400])
def test_a_sender_that_javascript_takes_for_nothing_has_no_routing(sender: object) -> None:
    assert reason_of(members_of(sealed(), **{"from": sender})) == "invalid_routing_fields"


@pytest.mark.parametrize("sender", [True, 5, "x", [], {}, [ALICE.peer_id], ALICE.peer_id.upper()])
def test_another_sender_is_another_id(sender: object) -> None:
    assert reason_of(members_of(sealed(), **{"from": sender})) == "id_mismatch"


@pytest.mark.parametrize("to", [None, [], {}, "x", BOB.peer_id, 5, {"0": BOB.peer_id}])
def test_recipients_that_are_no_list_have_no_routing(to: object) -> None:
    assert reason_of(members_of(sealed(), to=to)) == "invalid_routing_fields"


@pytest.mark.parametrize("id_", [None, 5, "", sealed().id.upper(), [sealed().id], sealed("x").id])
def test_another_id_does_not_match(id_: object) -> None:
    assert reason_of(members_of(sealed(), id=id_)) == "id_mismatch"


def test_an_id_over_unsorted_text_is_refused() -> None:
    members = sealed({"b": 1, "a": 2}).to_dict()
    unsorted = sealed({"b": 1, "a": 2}).canonical.replace(b'{"a":2,"b":1}', b'{"b":1,"a":2}')
    members |= {"id": sha256(unsorted).hexdigest(), "signature": ALICE.sign(unsorted)}

    assert reason_of(members) == "id_mismatch"


def test_a_signature_by_another_key_is_refused() -> None:
    members = members_of(sealed(), signature=BOB.sign(sealed().canonical))

    assert reason_of(members) == "signature_invalid"


def test_of_several_faults_the_one_that_the_reference_names_is_named() -> None:
    members = sealed(in_reply_to="?").to_dict()
    members |= {"inReplyTo": 5, "signature": "00" * 64}
    assert reason_of({**members, "to": []}) == "invalid_routing_fields"
    assert reason_of(members) == "id_mismatch"

    signed = {name: members[name] for name in members if name not in ("id", "signature")}
    members["id"] = sha256(canonical_json(signed)).hexdigest()
    assert reason_of(members) == "signature_invalid"

    members["signature"] = ALICE.sign(canonical_json(signed))
    assert reason_of(members) == "invalid_routing_fields"


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"payload":' + "[" * 100_000])
def test_a_text_far_too_deep_is_refused(text: str) -> None:
    assert reason_of(text) == "invalid_routing_fields"


def test_members_far_too_deep_are_refused() -> None:
    members: dict[str, Any] = members_of(sealed(), payload=nested(100_000))

    assert reason_of(members) == "invalid_routing_fields"
    assert reason_of(Sealed(members)) == "invalid_routing_fields"


def test_a_caller_deep_in_the_stack_gets_the_envelope_or_a_documented_error() -> None:
    text = sealed(nested(500)).to_json()

    def open_below(frames: int) -> Envelope:
        return open_envelope(text) if frames == 0 else open_below(frames - 1)

    # From Python 3.12 on its parser has a stack of its own.
    refusal = pytest.raises(EnvelopeError, match="stack")
    with refusal if sys.version_info < (3, 12) else nullcontext():
        open_below(sys.getrecursionlimit() - 400)


def test_an_error_names_no_more_than_the_reason_and_what_failed() -> None:
    with pytest.raises(EnvelopeError, match="id_mismatch: `id` is not") as caught:
        open_envelope(members_of(sealed("secret"), id="0" * 64))

    assert caught.value.reason in ENVELOPE_REASONS
    assert "secret" not in str(caught.value)


# Trust


@pytest.mark.parametrize("kind", [Envelope, LegacyEnvelope])
def test_an_envelope_is_not_made_by_calling_it(kind: Any) -> None:
    with pytest.raises(TypeError, match="sealing or opening"):
        kind()
    with pytest.raises(TypeError):
        kind(id="x", type="publish")


def test_an_envelope_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        sealed().type = "request"  # type: ignore[misc]  # what is tested
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(sealed(), type="request")


def test_envelopes_are_equal_by_what_was_signed_and_can_be_kept_in_sets() -> None:
    assert sealed({"a": 1}) == sealed({"a": 1.0})
    assert sealed({"a": 1}) != sealed({"a": 2})
    assert len({sealed({"a": 1}), sealed({"a": 1}), sealed({"a": 2})}) == 2


def test_an_envelope_can_be_copied_and_sent_to_another_process() -> None:
    envelope = sealed({"a": [1]})

    for twin in (
        copy.copy(envelope),
        copy.deepcopy(envelope),
        pickle.loads(pickle.dumps(envelope)),
    ):
        assert twin == envelope
        assert twin.to_json() == envelope.to_json()


def test_a_repr_says_which_envelope_but_not_what_is_in_it() -> None:
    envelope = sealed("secret")

    assert envelope.id in repr(envelope)
    assert "secret" not in repr(envelope)


# Sealed


@pytest.mark.parametrize(
    ("members", "id_", "sender", "to"),
    [
        ({}, None, None, None),
        ({"id": 5, "from": [], "to": "x"}, None, None, None),
        ({"id": "too short for one"}, None, None, None),
        ({"id": "\x1b[2J\n" + "f" * 59}, None, None, None),
        ({"id": "1d" * 32, "from": "a", "to": ["b", 5, None, "c"]}, "1d" * 32, "a", ("b", "c")),
        ({"id": "1d" * 32, "sender": "s"}, "1d" * 32, "s", None),
        (["no", "object"], None, None, None),
    ],
)
def test_a_sealed_envelope_says_what_it_claims(
    members: Any, id_: str | None, sender: str | None, to: tuple[str, ...] | None
) -> None:
    received = Sealed(members)

    assert received.claimed_id == id_
    assert received.claimed_sender == sender
    assert received.claimed_to == to


# The older dialect


def legacy(payload: object = "hello") -> LegacyEnvelope:
    return seal_legacy(ALICE, type="publish", payload=payload, timestamp_ms=NOW_MS)


def legacy_reason_of(what: Any) -> str:
    with pytest.raises(EnvelopeError) as caught:
        open_legacy_envelope(what)
    return caught.value.reason


def test_an_envelope_of_the_older_dialect_is_sealed_and_opened() -> None:
    envelope = legacy({"text": "hello"})

    opened = open_legacy_envelope(envelope.to_json())

    assert opened == envelope
    assert (opened.sender, opened.to, opened.payload) == (ALICE.peer_id, (), {"text": "hello"})
    assert list(opened.to_dict()) == ["id", "type", "sender", "timestamp", "payload", "signature"]
    assert open_legacy_envelope(opened.wire_text) == envelope


def test_neither_dialect_is_taken_for_the_other() -> None:
    assert reason_of(legacy().to_json()) == "invalid_routing_fields"
    assert legacy_reason_of(sealed().to_json()) == "id_mismatch"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"payload": "bye"}, "id_mismatch"),
        ({"id": None}, "id_mismatch"),
        ({"sender": BOB.peer_id}, "id_mismatch"),
        ({"signature": None}, "signature_invalid"),
        ({"signature": "00" * 64}, "signature_invalid"),
    ],
)
def test_a_changed_envelope_of_the_older_dialect_is_refused(
    changed: dict[str, Any], reason: str
) -> None:
    assert legacy_reason_of(members_of(legacy(), **changed)) == reason


def test_the_older_dialect_is_as_strict_about_its_fields() -> None:
    signed = {"payload": 1, "sender": ALICE.peer_id, "timestamp": "now", "type": "publish"}
    canonical = canonical_json(signed)
    signature = ALICE.sign(canonical)
    members = {"id": sha256(canonical).hexdigest(), **signed, "signature": signature}

    assert legacy_reason_of(json_text(members)) == "invalid_routing_fields"
    assert legacy_reason_of("[]") == "invalid_routing_fields"
