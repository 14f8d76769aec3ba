"""Whoever does not have a key cannot speak for it, whatever they have heard of its owner."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from agora.keys import KeyPair, PeerId
from agora.relay import Relay
from tests.faults.speaker import (
    DEADLINE,
    Refused,
    Speaker,
    audience_of,
    opened,
    proof,
    reference_speaker,
    speaker,
)

ALICE, BOB, MALLORY = (KeyPair.from_seed(bytes([number] * 32)) for number in (1, 2, 3))


async def proof_of(keys: KeyPair, url: str) -> str:
    """Register honestly, and return the signature that a listener would have seen."""
    async with opened(url, keys) as peer:
        challenge = await peer.register()
        signature = proof(
            keys,
            audience=audience_of(url),
            nonce=challenge["nonce"],
            relay=challenge["relay"],
        )
        await peer.authenticate(signature=signature)
    return signature


async def is_refused(peer: Speaker, **authenticate: object) -> tuple[str | None, int | None]:
    """Try to authenticate, and return the error's code and the close code."""
    with pytest.raises(Refused) as refused:
        await peer.authenticate(**authenticate)
    return refused.value.code, refused.value.close_code


# Replayed


async def test_a_proof_that_was_heard_is_good_for_no_other_connection(relay: Relay) -> None:
    heard = await proof_of(ALICE, relay.url)

    async with opened(relay.url, ALICE) as mallory:
        await mallory.register()
        assert await is_refused(mallory, signature=heard) == ("proof_failed", 4500)


async def test_a_proof_is_good_only_once_on_its_own_connection(relay: Relay) -> None:
    async with opened(relay.url, ALICE) as alice:
        challenge = await alice.register()
        signature = proof(
            ALICE, audience=alice.audience, nonce=challenge["nonce"], relay=challenge["relay"]
        )
        welcome = await alice.authenticate(signature=signature)
        await alice.say({"type": "authenticate", "signature": signature})

        assert (await alice.expect("error"))["code"] == "invalid_message"
        assert welcome["publicKey"] == ALICE.peer_id
        assert await alice.answers() == []  # the session stays what it was


async def test_a_proof_is_good_for_no_other_relay(relay: Relay) -> None:
    async with Relay(port=0) as other:
        heard = await proof_of(ALICE, other.url)

        async with opened(relay.url, ALICE) as mallory:
            await mallory.register()
            assert await is_refused(mallory, signature=heard) == ("proof_failed", 4500)


async def test_a_proof_does_not_outlive_a_restart_of_the_relay(tmp_path: Path) -> None:
    async with Relay(port=0, data_dir=tmp_path) as relay:
        heard, port = await proof_of(ALICE, relay.url), relay.port
    async with Relay(port=port, data_dir=tmp_path) as again, opened(again.url, ALICE) as mallory:
        await mallory.register()

        assert await is_refused(mallory, signature=heard) == ("proof_failed", 4500)


async def test_no_challenge_is_like_another(relay: Relay) -> None:
    nonces = set()
    for _ in range(20):
        async with opened(relay.url) as peer:
            nonces.add((await peer.register())["nonce"])

    assert len(nonces) == 20
    assert {len(bytes.fromhex(nonce)) for nonce in nonces} == {32}


# Stale


async def test_a_challenge_that_nobody_answers_in_time_serves_no_more() -> None:
    async with Relay(port=0, register_timeout=0.2) as relay, opened(relay.url, ALICE) as late:
        await late.register()

        assert await late.close_code() == 4003


async def test_a_connection_cannot_put_its_deadline_off_by_asking_again() -> None:
    async with Relay(port=0, register_timeout=0.3) as relay, opened(relay.url, ALICE) as late:
        await late.register()
        asking = asyncio.timeout(DEADLINE)
        with suppress(ConnectionClosed):
            async with asking:
                while True:
                    await late.say({"type": "register", "publicKey": ALICE.peer_id})
                    await asyncio.sleep(0.02)  # as often as it likes

        assert not asking.expired()
        assert await late.close_code() == 4003


# Forged


async def test_the_signature_of_another_key_is_no_proof(relay: Relay) -> None:
    async with opened(relay.url, ALICE) as mallory:
        challenge = await mallory.register()
        signature = proof(
            MALLORY, audience=mallory.audience, nonce=challenge["nonce"], relay=challenge["relay"]
        )

        assert await is_refused(mallory, signature=signature) == ("proof_failed", 4500)


@pytest.mark.parametrize(
    "signature", ["", "00" * 64, "zz" * 64, "ab", "0" * 128, "é" * 128, "00" * 10_000]
)
async def test_what_is_no_signature_is_no_proof(signature: str, relay: Relay) -> None:
    async with opened(relay.url, ALICE) as mallory:
        await mallory.register()

        assert await is_refused(mallory, signature=signature) == ("proof_failed", 4500)


@pytest.mark.parametrize(
    "change",
    [
        {"audience": "relay.example.org:443"},
        {"nonce": "00" * 32},
        {"relay": BOB.peer_id},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_a_proof_for_anything_else_is_none(change: dict[str, str], relay: Relay) -> None:
    async with opened(relay.url, ALICE) as alice:
        challenge = await alice.register()
        meant = {
            "audience": alice.audience,
            "nonce": challenge["nonce"],
            "relay": challenge["relay"],
        }

        signature = proof(ALICE, **meant | change)
        assert await is_refused(alice, signature=signature) == ("proof_failed", 4500)


async def test_the_relays_own_signature_cannot_be_turned_against_it(relay: Relay) -> None:
    async with opened(relay.url) as mallory:
        await mallory.register()
        who = PeerId(mallory.challenge["relay"])
    async with opened(relay.url) as mallory:
        mallory.id = who  # registers as the relay itself, whose signature is in the challenge
        challenge = await mallory.register()

        code, _ = await is_refused(mallory, signature=challenge["signature"])
        assert code == "proof_failed"


async def test_a_proof_without_a_challenge_is_no_registration(relay: Relay) -> None:
    async with opened(relay.url, ALICE) as mallory:
        signature = proof(ALICE, audience=mallory.audience, nonce="00" * 32, relay=BOB.peer_id)
        await mallory.say({"type": "authenticate", "signature": signature})

        assert (await mallory.expect("error"))["code"] == "not_registered"


async def test_the_key_cannot_be_changed_between_challenge_and_proof(relay: Relay) -> None:
    async with opened(relay.url, MALLORY) as mallory:
        challenge = await mallory.register()
        await mallory.say({"type": "register", "protocol": 1, "publicKey": ALICE.peer_id,
                           "nonce": os.urandom(32).hex()})  # fmt: skip
        assert (await mallory.expect("error"))["code"] == "invalid_message"
        signature = proof(
            MALLORY, audience=mallory.audience, nonce=challenge["nonce"], relay=challenge["relay"]
        )

        welcome = await mallory.authenticate(signature=signature)
        assert welcome["publicKey"] == MALLORY.peer_id


# Forwarded: a relay in the middle, which passes on whatever either side says


@asynccontextmanager
async def relay_in_the_middle(url: str, host: str) -> AsyncIterator[str]:
    """
    Pose as a relay, and pass everything on to the real one; yield where.

    Args:
        url: The real relay.
        host: What the ``Host`` header says there.
    """
    place = urlsplit(url)

    async def pass_on(victim: ServerConnection) -> None:
        address: dict[str, Any] = {"host": place.hostname, "port": place.port}
        async with (
            connect(f"ws://{host}/", compression=None, proxy=None, **address) as far,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(_carry(victim, far))
            group.create_task(_carry(far, victim))

    async with serve(pass_on, "127.0.0.1", 0, compression=None) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


async def _carry(
    here: ServerConnection | ClientConnection, there: ServerConnection | ClientConnection
) -> None:
    try:
        while True:
            await there.send(await here.recv())
    except ConnectionClosed:
        await there.close(here.close_code or 1000)


@pytest.mark.parametrize("forges", [False, True], ids=["own Host header", "forged Host header"])
async def test_a_relay_in_the_middle_cannot_pass_a_proof_on(forges: bool, relay: Relay) -> None:
    real = audience_of(relay.url)

    async with relay_in_the_middle(relay.url, real if forges else "middle.example") as url:
        async with opened(url, ALICE) as victim:  # which signs for whom it dialled
            await victim.register()
            assert await is_refused(victim) == ("proof_failed", 4500)
        async with opened(url, ALICE, audience=real) as victim:
            await victim.register()  # one that signs for another than it dialled would be lost
            assert (await victim.authenticate())["publicKey"] == ALICE.peer_id


async def test_a_host_header_does_not_make_a_name_the_relays_own(relay: Relay) -> None:
    name = "middle.example:443"

    async with (
        relay_in_the_middle(relay.url, name) as url,
        opened(url, ALICE, audience=name) as victim,
    ):
        await victim.register()
        assert await is_refused(victim) == ("proof_failed", 4500)


async def test_a_public_name_makes_a_name_the_relays_own() -> None:
    async with Relay(port=0, public_name=("relay.example.org",)) as relay:
        for audience in ("relay.example.org:443", f"localhost:{relay.port}"):
            async with opened(relay.url, ALICE, audience=audience) as alice:
                await alice.register()
                assert (await alice.authenticate())["publicKey"] == ALICE.peer_id


async def test_an_error_names_both_names_and_what_to_configure(relay: Relay) -> None:
    async with opened(relay.url, ALICE, audience="relay.example.org:443") as alice:
        await alice.register()
        with pytest.raises(Refused) as refused:
            await alice.authenticate(audience="relay.example.org:443")

    message = refused.value.frame["message"]
    assert "relay.example.org:443" in message
    assert audience_of(relay.url) in message
    assert "--public-name" in message


# Registering as another


async def test_a_key_that_has_proven_itself_cannot_be_registered_without_proof(
    relay: Relay,
) -> None:
    async with speaker(relay.url, ALICE):
        pass

    with pytest.raises(Refused) as refused:
        async with reference_speaker(relay.url, ALICE):
            pass
    assert (refused.value.code, refused.value.close_code) == ("proof_required", 4502)


async def test_a_key_stays_proven_across_restarts(tmp_path: Path) -> None:
    async with Relay(port=0, data_dir=tmp_path) as relay, speaker(relay.url, ALICE):
        pass

    async with Relay(port=0, data_dir=tmp_path) as relay:
        with pytest.raises(Refused, match="proof_required"):
            async with reference_speaker(relay.url, ALICE):
                pass


async def test_a_session_without_proof_ends_when_the_owner_proves_the_key(relay: Relay) -> None:
    async with (
        reference_speaker(relay.url, ALICE) as mallory,
        speaker(relay.url, BOB) as bob,
        speaker(relay.url, ALICE) as alice,
    ):
        envelope = await bob.send(ALICE.peer_id, "for Alice alone")

        assert await alice.payloads(1) == ["for Alice alone"]
        assert await bob.answer_to(envelope) == "delivered"
        assert await mallory.close_code() == 4502
        heard = [await mallory.hear() for _ in range(2)]
        assert heard[0]["type"] in ("error", "peer_online")
        assert "message" not in {frame["type"] for frame in heard}


async def test_where_proof_is_required_nobody_comes_in_without() -> None:
    async with Relay(port=0, proof="required") as relay:
        with pytest.raises(Refused) as refused:
            async with reference_speaker(relay.url, ALICE):
                pass
        assert (refused.value.code, refused.value.close_code) == ("proof_required", 4502)
        async with speaker(relay.url, ALICE) as alice:
            assert alice.welcome["protocol"] == 1


@pytest.mark.parametrize("protocol", [0, -1, "1", None, True, [1]])
async def test_no_spelling_of_protocol_is_a_way_around_the_pin(
    protocol: object, relay: Relay
) -> None:
    async with speaker(relay.url, ALICE):
        pass

    async with opened(relay.url, ALICE) as mallory:
        await mallory.say({"type": "register", "publicKey": ALICE.peer_id, "protocol": protocol})
        answer = await mallory.hear()
        assert (answer["type"], answer["code"]) == ("error", "proof_required")


@pytest.mark.parametrize(
    "spell", [str.upper, lambda key: f" {key}", lambda key: key + "0", lambda key: key[:-1]]
)
async def test_no_spelling_of_a_key_is_another_way_in(spell: Any, relay: Relay) -> None:
    async with speaker(relay.url, ALICE):
        pass

    async with opened(relay.url) as mallory:
        await mallory.say({"type": "register", "publicKey": spell(ALICE.peer_id)})
        assert (await mallory.hear())["code"] == "invalid_message"


async def test_before_the_proof_nothing_is_said_for_the_key_and_nothing_heard(
    relay: Relay,
) -> None:
    async with speaker(relay.url, BOB) as bob, speaker(relay.url, ALICE) as alice:
        pass
    async with speaker(relay.url, BOB) as bob, opened(relay.url, ALICE) as mallory:
        waiting = await bob.send(ALICE.peer_id, "for Alice alone")
        assert await bob.answer_to(waiting) == "stored"
        await mallory.register()
        letter = await mallory.send(BOB.peer_id, "as if from Alice")

        assert await mallory.answer_to(letter) == "not_registered"
        for frame in ({"type": "ack", "ids": [waiting.id]}, {"type": "watch", "presence": "all"}):
            await mallory.say(frame)
            assert (await mallory.expect("error"))["code"] in ("not_registered", "invalid_message")
        assert await mallory.answers() == []
        assert await bob.answers() == []
        async with speaker(relay.url, ALICE) as alice:
            assert await alice.payloads(1) == ["for Alice alone"]


async def test_a_refused_proof_leaves_the_owners_session_alone(relay: Relay) -> None:
    async with speaker(relay.url, ALICE) as alice, speaker(relay.url, BOB) as bob:
        for _ in range(5):
            async with opened(relay.url, ALICE) as mallory:
                await mallory.register()
                await is_refused(mallory, signature="00" * 64)

        await bob.send(ALICE.peer_id, "still there?")
        assert await alice.payloads(1) == ["still there?"]
