"""Proof of key over real sockets: what the relay is called, what it keeps, what it promises."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import ClientConnection

from agora.identity import Identity
from agora.keys import KeyPair
from agora.protocol.proof import audience_of, is_genuine_challenge, sign_proof
from agora.relay import Relay
from tests.relay.process import relay_process
from tests.support import Frame, RawPeer, close_code, letter, next_frame, socket_to

NONCE = "ab" * 32


async def register(
    socket: ClientConnection, keys: KeyPair, audience: str, *, presence: str = "none"
) -> Frame:
    """Register for Agora/1 as meant for *audience*; return what that was answered with."""
    said = {"type": "register", "publicKey": keys.peer_id, "protocol": 1, "nonce": NONCE}
    await socket.send(json.dumps(said | {"presence": presence}))
    challenge = await next_frame(socket)
    assert is_genuine_challenge(
        challenge["relay"],
        challenge["signature"],
        client_nonce=NONCE,
        nonce=challenge["nonce"],
        public_key=keys.peer_id,
    )
    signature = sign_proof(
        keys, audience=audience, nonce=challenge["nonce"], relay=challenge["relay"]
    )
    await socket.send(json.dumps({"type": "authenticate", "signature": signature}))
    return await next_frame(socket)


@asynccontextmanager
async def proven_peer(
    url: str, keys: KeyPair | None = None, **options: str
) -> AsyncIterator[RawPeer]:
    """Connect and prove a key; a new one unless *keys* are given."""
    keys = keys or KeyPair.generate()
    async with socket_to(url) as socket:
        welcome = await register(socket, keys, audience_of(url), **options)
        assert welcome["type"] == "registered", welcome
        yield RawPeer(socket, keys, welcome)


def at(relay_url: str, host: str) -> str:
    """Return the URL of the same port at another host."""
    return f"ws://{host}:{urlsplit(relay_url).port}"


async def receipt(peer: RawPeer) -> tuple[str, str]:
    """Return the id and the status of the receipt that comes next."""
    frame = await peer.hear()
    assert frame["type"] == "receipt", frame
    return frame["id"], frame["status"]


# What the relay is called


@pytest.mark.parametrize(
    ("listens_on", "dialled"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "localhost"),
        ("localhost", "localhost"),
        ("::1", "[::1]"),
        ("0.0.0.0", "127.0.0.1"),
    ],
)
async def test_a_proof_is_good_for_the_address_that_was_dialled(
    listens_on: str, dialled: str
) -> None:
    async with Relay(host=listens_on, port=0) as relay:
        url = at(relay.url, dialled)
        async with proven_peer(url) as peer:
            assert peer.welcome["relay"] == relay.peer_id


async def test_a_proof_for_a_public_name_is_good_where_that_is_configured() -> None:
    keys = KeyPair.generate()
    async with (
        Relay(port=0, public_name=("wss://relay.example.org",)) as relay,
        socket_to(relay.url) as socket,
    ):
        assert (await register(socket, keys, "relay.example.org:443"))["type"] == "registered"


async def test_a_proof_for_another_name_is_good_nowhere(relay: Relay) -> None:
    async with socket_to(relay.url) as socket:
        answer = await register(socket, KeyPair.generate(), "relay.example.org:443")

        assert answer["code"] == "proof_failed"
        assert audience_of(relay.url) in answer["message"]
        assert await close_code(socket) == 4500


async def test_the_host_header_makes_no_name_of_the_relay(relay: Relay) -> None:
    place = "relay.example.org:80"
    async with socket_to("ws://relay.example.org", host="127.0.0.1", port=relay.port) as socket:
        assert socket.request is not None
        assert socket.request.headers["Host"] in (place, "relay.example.org")

        answer = await register(socket, KeyPair.generate(), place)

        assert answer["code"] == "proof_failed"


# What it keeps


async def test_a_pin_and_the_relays_own_key_outlive_a_restart(tmp_path: Path) -> None:
    keys = KeyPair.generate()
    async with Relay(port=0, data_dir=tmp_path) as relay, proven_peer(relay.url, keys):
        before = relay.peer_id

    async with Relay(port=0, data_dir=tmp_path) as relay, socket_to(relay.url) as socket:
        await socket.send(json.dumps({"type": "register", "publicKey": keys.peer_id}))
        answer = await next_frame(socket)
        assert (answer["code"], await close_code(socket)) == ("proof_required", 4502)
        assert relay.peer_id == before


async def test_mail_of_a_proven_key_outlives_a_restart(tmp_path: Path) -> None:
    sleeper = KeyPair.generate()
    async with Relay(port=0, data_dir=tmp_path) as relay, proven_peer(relay.url) as alice:
        async with proven_peer(relay.url, sleeper):
            pass
        sent = [await alice.send(sleeper.peer_id, number) for number in range(20)]
        receipts = [await receipt(alice) for _ in sent]

    assert receipts == [(envelope.id, "stored") for envelope in sent]
    async with Relay(port=0, data_dir=tmp_path) as relay, proven_peer(relay.url, sleeper) as peer:
        assert peer.welcome["pending"] == 20
        assert await peer.payloads(20) == list(range(20))


async def test_what_was_called_stored_survives_a_kill(tmp_path: Path) -> None:
    sleeper, sender = KeyPair.generate(), KeyPair.generate()
    settings: dict[str, Any] = {"data_dir": tmp_path}
    stored: set[str] = set()

    async with relay_process(**settings) as doomed, proven_peer(doomed.url, sender) as alice:
        async with proven_peer(doomed.url, sleeper):
            pass
        for number in range(150):
            await alice.send(sleeper.peer_id, number)
        while len(stored) < 50:
            envelope_id, status = await receipt(alice)
            assert status == "stored"
            stored.add(envelope_id)
        await doomed.kill()
        alice.socket.transport.abort()  # nobody is left to answer its goodbye
    async with relay_process(**settings) as heir, proven_peer(heir.url, sleeper) as peer:
        came: set[str] = set()
        while not stored <= came:
            frame = await peer.hear()
            if frame["type"] == "message":
                assert frame["stored"] is True
                came.add(frame["envelope"]["id"])
        peer.socket.transport.abort()  # there may be more, which is as well


async def test_live_mail_is_answered_when_it_is_acked_and_stored_when_it_is_not(
    tmp_path: Path,
) -> None:
    async with (
        Relay(port=0, data_dir=tmp_path, ack_timeout=0.2) as relay,
        proven_peer(relay.url) as bob,
        proven_peer(relay.url) as alice,
    ):
        acked, forgotten = await alice.send(bob.id, 1), await alice.send(bob.id, 2)
        assert await bob.payloads(2) == [1, 2]
        await bob.say({"type": "ack", "ids": [acked.id]})

        assert await receipt(alice) == (acked.id, "delivered")
        assert await receipt(alice) == (forgotten.id, "stored")


async def test_a_key_made_by_the_program_proves_itself_like_any_other(relay: Relay) -> None:
    async with proven_peer(relay.url, Identity.generate()) as peer:
        await peer.say({"type": "ping"})
        assert await peer.hear() == {"type": "pong"}


async def test_presence_reaches_a_proven_peer_though_nobody_says_anything(relay: Relay) -> None:
    async with proven_peer(relay.url, presence="all") as alice, proven_peer(relay.url) as bob:
        frame = await alice.hear()

        assert (frame["type"], [peer["publicKey"] for peer in frame["online"]]) == (
            "presence",
            [bob.id],
        )


async def test_no_proof_is_asked_of_who_cannot_give_one(relay: Relay) -> None:
    keys = KeyPair.generate()
    async with socket_to(relay.url) as socket:
        await socket.send(json.dumps({"type": "register", "publicKey": keys.peer_id}))
        assert (await next_frame(socket))["type"] == "registered"
        envelope = letter(keys, keys.peer_id)
        await socket.send(
            json.dumps({"type": "message", "to": keys.peer_id, "envelope": envelope.to_dict()})
        )
        assert (await next_frame(socket))["type"] == "message"
