"""Server-sent events: mail and presence as they come, and where they go on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agora.keys import KeyPair
from agora.relay import Relay
from tests.relay.http.talking import HttpPeer, http_peer
from tests.support import raw_peer


async def settle(peer: HttpPeer, count: int) -> list[Any]:
    """Return what *peer* is told by a stream, and ack it."""
    async with peer.events() as events:
        found = [(await events.next())[1] for _ in range(count)]
        await peer.ack(*[one["envelope"]["id"] for one in found])
    return [one["envelope"]["payload"] for one in found]


async def test_mail_comes_as_it_is_sent(relay: Relay) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob, bob.events() as events:
        assert await bob.poll(wait=0) == []  # so it has read its mailbox to the end
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(alice.send(bob.id, "now"))
            name, message = await events.next()
            await bob.ack(message["envelope"]["id"])

    assert (name, message["type"], message["envelope"]["payload"]) == ("message", "message", "now")
    assert sending.result()["receipts"][0]["status"] == "delivered"


async def test_a_stream_begins_with_what_waited(relay: Relay) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob:
        for number in range(3):
            await alice.send(bob.id, number)

        assert await settle(bob, 3) == [0, 1, 2]


async def test_a_stream_that_comes_back_goes_on_behind_its_last_event(relay: Relay) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob:
        for number in range(3):
            await alice.send(bob.id, number)
        async with bob.events() as events:
            assert await events.message() == 0
        async with bob.events(last=events.last) as resumed:
            assert await resumed.message() == 1
        async with bob.events() as again:  # nothing is acked: without an id all comes again
            assert await again.message() == 0


@pytest.mark.parametrize("last", ["00000000-2", "nonsense", "-", "1-" + "9" * 5000, "%00"])
async def test_an_event_id_of_another_session_is_no_reason_to_hold_mail_back(
    relay: Relay, last: str
) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob:
        await alice.send(bob.id, "here")
        async with bob.events(last=last) as events:
            assert await events.message() == "here"


async def test_who_listens_hears_of_those_who_come_and_go(relay: Relay) -> None:
    bob = KeyPair.generate()
    async with http_peer(relay) as alice, alice.events("all") as events:
        assert await events.next() == (
            "presence",
            {"type": "presence", "online": [], "offline": []},
        )
        async with raw_peer(relay.url, bob):
            _, come = await events.next()
        _, gone = await events.next()

    assert [one["publicKey"] for one in come["online"]] == [bob.peer_id]
    assert gone["offline"] == [bob.peer_id]


async def test_each_stream_of_a_token_hears_of_those_that_it_asked_for(relay: Relay) -> None:
    bob = KeyPair.generate()
    async with (
        http_peer(relay) as alice,
        alice.events("all") as everyone,
        alice.events(bob.peer_id) as one,
        raw_peer(relay.url),
        raw_peer(relay.url, bob),
    ):
        seen: set[str] = set()
        while len(seen) < 2:
            seen |= {each["publicKey"] for each in (await everyone.next())[1]["online"]}
        name, told = await one.next()
        while not told["online"]:
            name, told = await one.next()

    assert (name, [each["publicKey"] for each in told["online"]]) == ("presence", [bob.peer_id])
    assert bob.peer_id in seen


async def test_a_list_of_whom_to_watch_has_to_be_one(relay: Relay) -> None:
    async with http_peer(relay) as alice:
        answer = await alice.ask("GET", "/v1/events", params={"presence": "bob"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_message")


async def test_a_list_of_whom_to_watch_that_was_refused_to_a_poll_is_no_part_of_a_stream() -> None:
    one, other = (KeyPair.generate().peer_id for _ in range(2))
    async with (
        Relay(port=0, http_port=0, max_watched=1) as relay,
        http_peer(relay) as alice,
    ):
        query = {"presence": f"{one},{other}", "wait": "0"}
        refused = await alice.ask("GET", "/v1/events", params=query)
        async with alice.events(one) as events:
            name, told = await events.next()

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_message")
    assert (name, told["offline"]) == ("presence", [one])


@pytest.mark.parametrize("wait", ["nan", "inf", "-1", "1e9"])
async def test_a_wait_that_nobody_could_mean_is_refused(wait: str, relay: Relay) -> None:
    async with http_peer(relay) as alice:
        answer = await alice.ask("GET", "/v1/events", params={"wait": wait})

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_message")


async def test_a_stream_ends_when_its_token_is_revoked(relay: Relay) -> None:
    async with http_peer(relay) as alice, alice.events() as events:
        await alice.ask("DELETE", "/v1/disconnect")

        assert await events.next() == ("closed", {"code": 1000, "reason": "normal"})


async def test_a_stream_ends_when_its_token_does() -> None:
    async with (
        Relay(port=0, http_port=0, token_lifetime=1.0) as relay,
        http_peer(relay) as alice,
        alice.events() as events,
    ):
        assert (await events.next())[0] == "closed"
        answer = await alice.ask("GET", "/v1/messages")

    assert answer.json()["error"]["reason"] == "token_expired"


async def test_a_peer_is_online_while_it_listens_and_a_while_after() -> None:
    async with (
        Relay(port=0, http_port=0, http_session_grace=0.2) as relay,
        http_peer(relay) as alice,
        http_peer(relay) as bob,
        alice.events(bob.id) as events,
    ):
        assert (await events.next())[1]["offline"] == [bob.id]
        async with bob.events():
            assert (await events.next())[1]["online"][0]["publicKey"] == bob.id
            ended = asyncio.get_running_loop().time()
        assert (await events.next())[1]["offline"] == [bob.id]
        assert asyncio.get_running_loop().time() - ended >= 0.2


async def test_a_peer_that_polls_is_online_between_two_polls() -> None:
    async with (
        Relay(port=0, http_port=0, http_session_grace=0.3) as relay,
        http_peer(relay) as alice,
        http_peer(relay) as bob,
        alice.events(bob.id) as events,
    ):
        assert (await events.next())[1]["offline"] == [bob.id]
        for _ in range(5):
            await bob.poll(wait=0)
            await bob.poll(wait=0.05)
        told = [await events.next(), await events.next()]

    assert [(len(one["online"]), len(one["offline"])) for _, one in told] == [(1, 0), (0, 1)]


async def test_who_only_sends_is_not_announced() -> None:
    async with (
        Relay(port=0, http_port=0, ack_timeout=0.1) as relay,
        http_peer(relay) as alice,
        http_peer(relay) as bob,
        bob.events("all") as events,
    ):
        await events.next()
        await alice.send(bob.id, "hello")

        name, _ = await events.next()
        assert name == "message"


async def test_a_quiet_stream_is_kept_open_by_comments(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agora.relay.http.events.HEARTBEAT_EVERY", 0.01)
    async with http_peer(relay) as bob, bob.events() as events:
        assert await events.comment() == ": still here"
