"""The reference's REST API: refused with the way to do it right, or served where asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from agora.keys import KeyPair
from agora.relay import Relay
from tests.relay.http.talking import HttpPeer, http_peer
from tests.support import raw_peer

_UNSIGNED = {"to": "x", "type": "publish", "payload": "hello"}


@pytest.fixture
async def old() -> AsyncIterator[Relay]:
    """A relay that takes private keys."""
    async with Relay(port=0, http_port=0, rest_private_keys=True) as running:
        yield running


async def register(peer: HttpPeer, **members: Any) -> dict[str, Any]:
    """Register as a reference client does."""
    keys = {"publicKey": peer.id, "privateKey": peer.keys.private_key}
    told = dict(await peer.post("/v1/register", keys | members))
    peer.token = told["token"]
    return told


async def test_a_private_key_is_refused_with_the_way_to_do_it_right(relay: Relay) -> None:
    async with http_peer(relay, register=False) as alice:
        keys = {"publicKey": alice.id, "privateKey": alice.keys.private_key}
        answer = await alice.ask("POST", "/v1/register", json=keys)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "private_key_refused")
    assert "/v1/challenge" in error["message"]
    assert alice.keys.private_key not in answer.text


async def test_a_message_without_a_signature_is_refused_the_same_way(relay: Relay) -> None:
    async with http_peer(relay) as alice:
        answer = await alice.ask("POST", "/v1/send", json=_UNSIGNED)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "private_key_refused")


@pytest.mark.parametrize(
    "body",
    [
        {"envelope": {"to": ["x"], "type": "publish"}, "privateKey": "00"},
        {"envelope": {"to": ["x"], "privateKey": "00"}},
        {"to": ["x", 5], "type": 1, "payload": None},
        {"to": "x", "type": "publish", "payload": {"envelope": 1}},
        {"privateKey": None},
    ],
)
async def test_a_private_key_beside_a_message_is_refused_in_every_shape(
    relay: Relay, body: Any
) -> None:
    async with http_peer(relay) as alice:
        answer = await alice.ask("POST", "/v1/send", json=body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "private_key_refused")


async def test_reference_clients_talk_where_the_operator_lets_them(old: Relay) -> None:
    async with http_peer(old, register=False) as alice, http_peer(old, register=False) as bob:
        told = await register(alice, name="alice")
        await register(bob)
        sent = await alice.post(
            "/v1/send", {"to": bob.id, "type": "publish", "payload": {"n": 1}, "inReplyTo": "x"}
        )
        polled = await bob.get("/v1/messages")
        again = await bob.get("/v1/messages")

    assert set(told) == {"token", "expiresAt", "peers"}
    assert sent == {"ok": True, "envelopeId": polled["messages"][0]["id"]}
    message = polled["messages"][0]
    assert (message["from"], message["fromName"], message["type"]) == (alice.id, "alice", "publish")
    assert (message["payload"], message["inReplyTo"]) == ({"n": 1}, "x")
    assert isinstance(message["timestamp"], int | float)
    assert again == {"messages": [], "hasMore": False}


async def test_with_since_a_poll_of_the_reference_takes_nothing(old: Relay) -> None:
    async with http_peer(old, register=False) as alice:
        await register(alice)
        await alice.post("/v1/send", _UNSIGNED | {"to": alice.id})
        early = await alice.get("/v1/messages?since=0")
        [message] = early["messages"]
        late = await alice.get(f"/v1/messages?since={message['timestamp']}")
        nonsense = await alice.get("/v1/messages?since=abc")
        all_of_it = await alice.get("/v1/messages")

    assert (late["messages"], nonsense["messages"]) == ([], [])
    assert all_of_it["messages"] == [message]


async def test_both_kinds_of_clients_talk_with_each_other(old: Relay) -> None:
    async with http_peer(old, register=False) as alice, http_peer(old) as bob:
        await register(alice)
        await alice.post("/v1/send", _UNSIGNED | {"to": bob.id})
        await bob.send(alice.id, "back")

        assert await bob.payloads() == ["hello"]
        told = await alice.get("/v1/messages")
        assert [one["payload"] for one in told["messages"]] == ["back"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"publicKey": ""}, "publicKey is required"),
        ({"privateKey": ""}, "privateKey is required"),
        ({"privateKey": "zz"}, "Key pair verification failed"),
        ({"privateKey": KeyPair.generate().private_key}, "Key pair verification failed"),
    ],
)
async def test_a_pair_that_is_none_is_told_as_the_reference_says_it(
    old: Relay, members: dict[str, str], message: str
) -> None:
    async with http_peer(old, register=False) as alice:
        keys = {"publicKey": alice.id, "privateKey": alice.keys.private_key}
        answer = await alice.ask("POST", "/v1/register", json=keys | members)

    assert answer.status_code == 400
    assert answer.json()["error"].startswith(message)


@pytest.mark.parametrize(
    ("members", "status", "message"),
    [
        ({"to": ""}, 400, "to is required"),
        ({"type": ""}, 400, "type is required"),
        ({"to": "bob"}, 400, ""),
        ({"to": KeyPair.generate().peer_id}, 404, "Recipient not connected: "),
    ],
)
async def test_what_cannot_be_sent_is_told_as_the_reference_says_it(
    old: Relay, members: dict[str, str], status: int, message: str
) -> None:
    async with http_peer(old, register=False) as alice:
        await register(alice)
        answer = await alice.ask("POST", "/v1/send", json=_UNSIGNED | members)

    assert answer.status_code == status
    assert answer.json()["error"].startswith(message)


async def test_a_message_needs_a_payload(old: Relay) -> None:
    async with http_peer(old, register=False) as alice:
        await register(alice)
        answer = await alice.ask("POST", "/v1/send", json={"to": alice.id, "type": "publish"})

    assert (answer.status_code, answer.json()["error"]) == (400, "payload is required")


async def test_who_never_gave_a_key_cannot_have_the_relay_sign(old: Relay) -> None:
    async with http_peer(old) as alice:
        answer = await alice.ask("POST", "/v1/send", json=_UNSIGNED)

    assert (answer.status_code, answer.json()["error"]) == (
        401,
        "Session not found — please re-register",
    )


async def test_acked_mail_is_not_kept(relay: Relay) -> None:
    async with http_peer(relay) as alice:
        answer = await alice.ask("GET", "/v1/messages/replay?since=2026-01-01T00:00:00Z")

    assert (answer.status_code, answer.json()["error"]["code"]) == (501, "not_enabled")


async def test_mail_with_half_a_surrogate_does_not_stop_what_comes_behind_it(old: Relay) -> None:
    async with http_peer(old, register=False) as alice, raw_peer(old.url) as bob:
        await register(alice)
        await bob.send(alice.id, {"half": "\ud800"})
        await bob.send(alice.id, "whole")
        await bob.answers()
        polled = await alice.get("/v1/messages")

    assert [one["payload"] for one in polled["messages"]] == [{"half": "\ud800"}, "whole"]


async def test_what_is_refused_as_no_json_is_so_where_there_is_an_older_shape(relay: Relay) -> None:
    async with http_peer(relay) as alice:
        for path in ("/v1/register", "/v1/send"):
            headers = {"Content-Type": "text/plain"}
            answer = await alice.ask("POST", path, content="{}", headers=headers)

            assert answer.status_code == 415, path
