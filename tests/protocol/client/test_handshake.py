"""Registration with proof, from the client's side: whom it believes, and what it proves to whom."""

from __future__ import annotations

from typing import Any

import pytest

from agora.errors import AgoraError, RefusedError, RelayChangedError
from agora.frames import (
    AnnouncedLimits,
    Challenge,
    ListedPeer,
    agora_members,
    decode_answer,
    encode_challenge,
    encode_error,
    encode_registered,
)
from agora.keys import KeyPair, PeerId
from agora.protocol.client.handshake import Handshake
from agora.protocol.client.outbox import Outbox
from agora.protocol.client.scribe import Scribe
from agora.protocol.client.session import (
    Event,
    Intake,
    Introduction,
    Lost,
    Opened,
    PeerSession,
    PeerState,
    SeenIds,
    Timing,
)
from agora.protocol.proof import OVER_HTTP, proven_audience, sign_challenge
from agora.protocol.relay.actions import SessionId
from agora.testing.conversation import Conversation, keys_of

ALICE, RELAY, OTHER = (keys_of(name) for name in ("alice", "relay", "other relay"))
CLIENT_NONCE, NONCE = "c" * 64, "a" * 64
URL, AUDIENCE = "wss://relay.example", "relay.example:443"


def session(known: PeerId | None = None, nonce: str | None = CLIENT_NONCE) -> PeerSession:
    """Return alice's session, for which the relay's key may be known."""
    timing = Timing()
    return PeerSession(
        ALICE,
        Introduction(nonce=nonce, url=URL, audience=AUDIENCE, relay=known),
        outbox=Outbox(max_messages=10, max_bytes=10_000),
        intake=Intake(SeenIds(max_ids=10), timing=timing),
        scribe=Scribe(ALICE, lambda: 0),
        rate=None,
        timing=timing,
        now=0.0,
    )


def challenge(relay: KeyPair = RELAY, *, signer: KeyPair | None = None, **names: Any) -> str:
    signed = {"client_nonce": CLIENT_NONCE, "nonce": NONCE, "public_key": ALICE.peer_id} | names
    return encode_challenge(NONCE, relay.peer_id, sign_challenge(signer or relay, **signed))


def registered(*, protocol: int = 1, peers: tuple[ListedPeer, ...] = ()) -> str:
    more = agora_members(
        now_ms=0, pending=0, peers_total=0, limits=AnnouncedLimits(max_frame_bytes=1000)
    )
    relay = RELAY.peer_id if protocol else None
    return encode_registered(
        ALICE.peer_id, SessionId("s"), [*peers], relay, more if protocol else None
    )


def loss(events: list[Event]) -> tuple[AgoraError, bool]:
    [lost] = events
    assert isinstance(lost, Lost)
    return lost.error, lost.is_final


def test_a_challenge_is_answered_for_the_place_that_was_dialled() -> None:
    alice = session()

    assert alice.receive(challenge(), now=0.0) == []
    [frame] = alice.frames_to_send(now=0.0)

    signature = frame.split('"signature":"')[1][:128]
    audience = proven_audience(
        ALICE.peer_id,
        signature,
        audiences=["elsewhere:443", AUDIENCE],
        nonce=NONCE,
        relay=RELAY.peer_id,
    )
    assert audience == AUDIENCE


def test_over_http_both_sign_for_http_and_take_nothing_else() -> None:
    said = Introduction(nonce=CLIENT_NONCE, url=URL, audience=AUDIENCE, purposes=OVER_HTTP)
    with pytest.raises(RefusedError):
        Handshake(ALICE, said).prove(challenge_of(challenge()))

    proof = Handshake(ALICE, said).prove(challenge_of(challenge(purposes=OVER_HTTP)))

    assert proof is not None
    told: dict[str, Any] = {
        "signature": proof.split('"signature":"')[1][:128],
        "audiences": [AUDIENCE],
        "nonce": NONCE,
        "relay": RELAY.peer_id,
    }
    assert proven_audience(ALICE.peer_id, **told, purposes=OVER_HTTP) == AUDIENCE
    assert proven_audience(ALICE.peer_id, **told) is None


def challenge_of(text: str) -> Challenge:
    frame = decode_answer(text)
    assert isinstance(frame, Challenge)
    return frame


def test_after_the_proof_the_relay_is_proven_too() -> None:
    alice = session()
    alice.receive(challenge(), now=0.0)

    [opened] = alice.receive(registered(), now=0.0)

    assert opened == Opened(RELAY.peer_id, 1, AnnouncedLimits(max_frame_bytes=1000))
    assert alice.protocol == 1


def test_a_relay_that_asks_for_no_proof_speaks_the_reference_dialect() -> None:
    alice = session()

    [opened] = alice.receive(registered(protocol=0), now=0.0)

    assert opened == Opened(None, 0)
    assert (alice.protocol, alice.state) == (0, PeerState.REGISTERED)


def test_agora_1_without_a_proof_is_not_believed() -> None:
    error, is_final = loss(session().receive(registered(), now=0.0))

    assert (error.code, is_final) == ("relay_unproven", False)


@pytest.mark.parametrize(
    "names",
    [
        {"client_nonce": "d" * 64},
        {"nonce": "b" * 64},
        {"public_key": OTHER.peer_id},
        {"signer": OTHER},
    ],
)
def test_a_challenge_that_is_not_for_us_or_not_signed_by_its_relay_is_refused(
    names: dict[str, Any],
) -> None:
    error, is_final = loss(session().receive(challenge(**names), now=0.0))

    assert (type(error), is_final) == (RefusedError, False)


def test_another_relay_than_the_known_one_is_refused_for_good() -> None:
    error, is_final = loss(session(RELAY.peer_id).receive(challenge(OTHER), now=0.0))

    assert (type(error), error.code, is_final) == (RelayChangedError, "relay_changed", True)
    for word in (URL, RELAY.peer_id, OTHER.peer_id, f"agora known-relays forget {URL}"):
        assert word in str(error)


@pytest.mark.parametrize("protocol", [0, 1])
def test_a_known_relay_that_asks_for_no_proof_is_refused_for_good(protocol: int) -> None:
    error, is_final = loss(session(RELAY.peer_id).receive(registered(protocol=protocol), now=0.0))

    assert (type(error), is_final) == (RelayChangedError, True)


def test_a_known_relay_that_does_not_prove_its_key_is_refused_for_good() -> None:
    error, is_final = loss(session(RELAY.peer_id).receive(challenge(signer=OTHER), now=0.0))

    assert (type(error), is_final) == (RelayChangedError, True)


def test_the_known_relay_is_let_in() -> None:
    alice = session(RELAY.peer_id)
    alice.receive(challenge(), now=0.0)
    alice.receive(registered(), now=0.0)

    assert alice.state is PeerState.REGISTERED


def test_a_challenge_is_answered_once() -> None:
    alice = session()
    alice.receive(challenge(), now=0.0)
    alice.receive(challenge(OTHER), now=0.0)

    assert len(list(alice.frames_to_send(now=0.0))) == 1


def test_who_offered_no_proof_gives_none() -> None:
    alice = session(nonce=None)
    alice.receive(challenge(), now=0.0)

    assert list(alice.frames_to_send(now=0.0)) == []


@pytest.mark.parametrize("code", ["proof_failed", "proof_required"])
def test_a_proof_that_is_refused_ends_it_for_good(code: str) -> None:
    error, is_final = loss(session().receive(encode_error(code, "no"), now=0.0))

    assert (error.code, is_final) == (code, True)


@pytest.mark.parametrize(("close", "code"), [(4500, "proof_failed"), (4502, "proof_required")])
def test_the_close_code_alone_says_so_too(close: int, code: str) -> None:
    error, is_final = loss(session().disconnected(close, ""))

    assert (error.code, is_final) == (code, True)


def test_our_client_and_our_relay_prove_themselves_to_each_other() -> None:
    talk = Conversation()
    alice = talk.agent("alice")
    alice.connects()
    alice.talks()

    assert alice.session is not None
    assert alice.session.protocol == 1
