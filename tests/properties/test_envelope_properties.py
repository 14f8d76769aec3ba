"""Laws of envelopes: whatever comes, the answer is an `Envelope` or an `EnvelopeError`."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agora.canonical import canonical_json, json_text, parse_json
from agora.envelope import (
    ENVELOPE_REASONS,
    Envelope,
    LegacyEnvelope,
    Sealed,
    open_envelope,
    open_legacy_envelope,
    seal,
    seal_legacy,
)
from agora.errors import EnvelopeError
from agora.keys import KeyPair, is_peer_id, verify

PAIRS = [KeyPair.from_seed(bytes([number]) * 32) for number in range(3)]
ALICE = PAIRS[0]

# Surrogates too, which Hypothesis leaves out of texts by default.
strings = st.text(st.characters(), max_size=12)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | strings
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(strings, inner, max_size=5),
    max_leaves=15,
)
recipients = st.lists(
    st.sampled_from([pair.peer_id for pair in PAIRS] + ["*"]), min_size=1, unique=True
)
times = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)

envelopes = st.builds(
    seal,
    st.sampled_from(PAIRS),
    type=strings,
    payload=values,
    to=recipients,
    timestamp_ms=times,
    in_reply_to=st.none() | strings,
)


def verdict(what: Any) -> str:
    """Open *what* in both dialects; say what the newer gives: "valid", or the reason."""
    for kind, opened in ((LegacyEnvelope, open_legacy_envelope), (Envelope, open_envelope)):
        try:
            envelope = opened(what)
        except EnvelopeError as error:
            said = error.reason
        else:
            assert type(envelope) is kind
            said = "valid"
        assert said in ("valid", *ENVELOPE_REASONS)
    return said


@given(envelopes)
def test_what_was_sealed_is_opened_in_every_form(envelope: Envelope) -> None:
    forms: list[Any] = [
        envelope.to_json(),
        envelope.to_json().encode(),
        json.dumps(envelope.to_dict()),
        envelope.to_dict(),
        Sealed(envelope.to_dict()),
        envelope.wire_text,
    ]

    for form in forms:
        opened = open_envelope(form)
        assert opened == envelope
        assert opened.canonical == envelope.canonical
        assert canonical_json(opened.to_dict()) == canonical_json(envelope.to_dict())


@given(envelopes)
def test_an_envelope_is_what_it_says_it_is(envelope: Envelope) -> None:
    assert envelope.id == sha256(envelope.canonical).hexdigest()
    assert verify(envelope.sender, envelope.signature, envelope.canonical)
    assert all(peer == "*" or is_peer_id(peer) for peer in envelope.to)
    assert open_envelope(envelope.to_json()).to_json() == envelope.to_json()


@given(st.sampled_from(PAIRS), strings, values, times, st.none() | strings)
def test_what_was_sealed_in_the_older_dialect_is_opened(
    pair: KeyPair, type_: str, payload: Any, timestamp_ms: float, in_reply_to: str | None
) -> None:
    envelope = seal_legacy(
        pair, type=type_, payload=payload, timestamp_ms=timestamp_ms, in_reply_to=in_reply_to
    )

    assert open_legacy_envelope(envelope.to_json()) == envelope
    assert open_legacy_envelope(envelope.wire_text) == envelope
    assert verdict(envelope.to_json()) == "invalid_routing_fields"


# Whatever comes


@given(st.binary() | st.text(st.characters()) | leaves)
def test_whatever_bytes_come_they_are_refused_with_a_reason(what: Any) -> None:
    assert verdict(what) == "invalid_routing_fields"


MEMBERS = ("id", "type", "from", "to", "timestamp", "inReplyTo", "payload", "signature", "sender")


@given(st.dictionaries(st.sampled_from(MEMBERS) | strings, values))
def test_whatever_members_come_they_are_refused_with_a_reason(members: dict[str, Any]) -> None:
    said = {verdict(members), verdict(json_text(members)), verdict(Sealed(members))}

    assert len(said) == 1
    assert said <= set(ENVELOPE_REASONS)


@given(envelopes, st.sampled_from(MEMBERS), values)
def test_a_member_that_was_changed_is_noticed(envelope: Envelope, name: str, value: Any) -> None:
    members: dict[str, Any] = envelope.to_dict()
    changed = {**members, name: value}

    is_same = name == "sender" or (
        name in members and canonical_json(value) == canonical_json(members[name])
    )

    assert (verdict(changed) == "valid") is is_same


@given(envelopes, st.sampled_from(MEMBERS[:-1]))
def test_a_member_that_was_taken_away_is_noticed(envelope: Envelope, name: str) -> None:
    members = envelope.to_dict()
    was_there = members.pop(name, members) is not members

    assert (verdict(members) == "valid") is not was_there


@given(envelopes, st.data())
def test_a_byte_that_was_changed_is_noticed_or_means_the_same(
    envelope: Envelope, data: st.DataObject
) -> None:
    text = bytearray(envelope.to_json().encode())
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] = data.draw(st.integers(0, 255))

    if verdict(bytes(text)) == "valid":
        assert open_envelope(bytes(text)) == envelope


@given(
    st.fixed_dictionaries(
        {"from": st.just(ALICE.peer_id) | values, "to": recipients | values, "type": values},
        optional={"timestamp": values, "payload": values, "inReplyTo": values},
    )
)
def test_what_is_signed_and_yet_malformed_is_refused_with_a_reason(members: dict[str, Any]) -> None:
    canonical = canonical_json({"payload": None, "timestamp": None, **members})
    for absent in {"payload", "timestamp"} - members.keys():
        canonical = canonical.replace(f'"{absent}":null'.encode(), f'"{absent}":undefined'.encode())
    id_, signature = sha256(canonical).hexdigest(), ALICE.sign(canonical)
    signed = parse_json(json_text({"id": id_, **members, "signature": signature}))
    assert isinstance(signed, dict)

    said = {verdict(signed), verdict(Sealed(signed)), verdict(json_text(signed))}

    assert len(said) == 1
    if said == {"valid"}:
        opened = open_envelope(signed)
        assert opened.sender == ALICE.peer_id
        assert isinstance(opened.type, str)
        assert isinstance(opened.timestamp_ms, (int, float))
