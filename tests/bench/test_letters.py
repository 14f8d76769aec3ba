"""Envelopes by the thousand are envelopes like any other."""

from __future__ import annotations

import json

import pytest

from agora.bench.letters import Dialect, Letters
from agora.canonical import canonical_json
from agora.envelope import EVERYONE, open_envelope
from agora.keys import KeyPair
from tests.bench.test_wire import read_by_the_library

ALICE, BOB = KeyPair.from_seed(b"a" * 32), KeyPair.from_seed(b"b" * 32)


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("payload_bytes", [64, 100, 500, 65_536])
def test_a_letter_opens_and_has_the_payload_that_was_asked_for(
    dialect: Dialect, payload_bytes: int
) -> None:
    letter = Letters(ALICE, BOB.peer_id, payload_bytes, dialect).letter()
    opened = open_envelope(letter.text)

    assert (opened.id, opened.sender, opened.to) == (letter.id, ALICE.peer_id, (BOB.peer_id,))
    assert len(canonical_json(opened.payload)) == payload_bytes


def test_no_two_letters_are_the_same() -> None:
    letters = Letters(ALICE, BOB.peer_id, 100, Dialect.REFERENCE)

    opened = [open_envelope(letters.letter().text) for _ in range(50)]

    assert len({envelope.id for envelope in opened}) == 50


@pytest.mark.parametrize(
    ("dialect", "first", "last"),
    [(Dialect.REFERENCE, "id", "signature"), (Dialect.AGORA, "from", "signature")],
)
def test_members_stand_as_the_clients_of_the_dialect_write_them(
    dialect: Dialect, first: str, last: str
) -> None:
    members = list(json.loads(Letters(ALICE, BOB.peer_id, 100, dialect).letter().text))

    assert (members[0], members[-1]) == (first, last)


def test_a_frame_submits_its_letter() -> None:
    envelope_id, frame = Letters(ALICE, BOB.peer_id, 100, Dialect.REFERENCE).submit()
    said = json.loads(bytes(read_by_the_library(frame).data))

    assert (said["type"], said["to"], said["envelope"]["id"]) == (
        "message",
        BOB.peer_id,
        envelope_id,
    )


def test_a_broadcast_is_for_everyone() -> None:
    frame = Letters(ALICE, EVERYONE, 100, Dialect.AGORA).broadcast()
    said = json.loads(bytes(read_by_the_library(frame).data))

    assert said["type"] == "broadcast"
    assert open_envelope(said["envelope"]).to == (EVERYONE,)


def test_a_payload_has_room_for_its_number() -> None:
    with pytest.raises(ValueError, match="at least"):
        Letters(ALICE, BOB.peer_id, 10, Dialect.REFERENCE)
