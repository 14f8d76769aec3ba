"""Peers of the generator: what they sign is what our client signs."""

from __future__ import annotations

import json

import pytest

from agora.bench.letters import Dialect
from agora.bench.peers import proof, registration
from agora.frames import Register, decode_request, encode_authenticate
from agora.keys import KeyPair
from agora.protocol.proof import sign_proof
from tests.bench.test_wire import read_by_the_library

ALICE, RELAY = KeyPair.from_seed(b"a" * 32), KeyPair.from_seed(b"r" * 32)
AUDIENCE = "127.0.0.1:9470"
NONCE = "0123456789abcdef" * 4


def test_a_proof_is_what_our_client_says() -> None:
    challenge = {"nonce": NONCE, "relay": RELAY.peer_id}
    signature = sign_proof(ALICE, audience=AUDIENCE, nonce=NONCE, relay=RELAY.peer_id)

    said = read_by_the_library(proof(ALICE, AUDIENCE, challenge)).data

    assert json.loads(bytes(said)) == json.loads(encode_authenticate(signature, AUDIENCE))


@pytest.mark.parametrize(("presence", "everyone"), [(True, True), (False, False)])
def test_a_registration_of_agora_1_asks_for_a_challenge(presence: bool, everyone: bool) -> None:
    frame = registration(ALICE, Dialect.AGORA, presence=presence)

    said = decode_request(bytes(read_by_the_library(frame).data))

    assert isinstance(said, Register)
    assert said.nonce is not None
    assert said.watched.everyone is everyone


def test_a_registration_of_the_reference_dialect_asks_for_none() -> None:
    said = decode_request(bytes(read_by_the_library(registration(ALICE, Dialect.REFERENCE)).data))

    assert isinstance(said, Register)
    assert said.nonce is None
