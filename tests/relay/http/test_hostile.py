"""Clients that are slow, rude or gone: what they cost is bounded, and nothing is left of them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from agora.relay import Relay
from tests.relay.http.talking import HttpPeer, http_peer, is_online, url_of
from tests.support import DEADLINE, eventually
from tests.wire import Wire, wire_to

HEAD = b"POST /v1/challenge HTTP/1.1\r\nHost: relay\r\nContent-Type: application/json\r\n"


def request(peer: HttpPeer, path: str) -> bytes:
    """Return the bytes of a GET with the peer's token."""
    return f"GET {path} HTTP/1.1\r\nHost: r\r\nAuthorization: Bearer {peer.token}\r\n\r\n".encode()


async def answer(wire: Wire) -> tuple[int, dict[str, Any]]:
    """Return the status and the JSON of the next answer."""
    head = await wire.read_head()
    size = next(
        int(line.partition(":")[2])
        for line in head.splitlines()
        if line.lower().startswith("content-length")
    )
    async with asyncio.timeout(DEADLINE):
        body = await wire.reader.readexactly(size)
    return int(head.split()[1]), json.loads(body)


async def refusal(wire: Wire) -> tuple[int, str]:
    """Return the status and the code of the next answer, behind which the connection ends."""
    status, body = await answer(wire)
    assert await wire.read_to_end() == b""
    return status, body["error"]["code"]


@pytest.mark.parametrize(
    "begun",
    [b"G", b"GET /v1/peers HTTP/1.1\r\nHost: x\r\nX-Slow: ", HEAD + b"Content-Length: 9\r\n\r\n{"],
)
async def test_half_a_request_is_not_waited_for(begun: bytes) -> None:
    async with (
        Relay(port=0, http_port=0, http_request_timeout=0.1) as relay,
        wire_to(url_of(relay)) as wire,
    ):
        wire.write(begun)

        assert await refusal(wire) == (408, "request_timeout")


async def test_a_byte_now_and_then_is_no_request() -> None:
    async with (
        Relay(port=0, http_port=0, http_request_timeout=0.1) as relay,
        wire_to(url_of(relay)) as wire,
    ):
        wire.write(b"GET / HTTP/1.1\r\nX: ")

        async def drip() -> None:
            while True:
                wire.write(b"x")
                await asyncio.sleep(0.01)

        async with asyncio.TaskGroup() as group:
            dripping = group.create_task(drip())
            assert (await answer(wire))[0] == 408
            dripping.cancel()


async def test_a_connection_that_asks_nothing_is_closed() -> None:
    async with (
        Relay(port=0, http_port=0, http_request_timeout=0.05) as relay,
        wire_to(url_of(relay)) as wire,
    ):
        assert await wire.read_to_end() == b""


async def test_a_connection_is_kept_for_the_next_request_but_not_for_ever() -> None:
    async with (
        Relay(port=0, http_port=0, http_idle_timeout=0.1) as relay,
        wire_to(url_of(relay)) as wire,
    ):
        for _ in range(2):
            wire.write(b"GET /v1/peers HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await answer(wire))[0] == 401
        assert await wire.read_to_end() == b""


@pytest.mark.parametrize(
    "flood",
    [
        b"GET /" + b"x" * 40_000,
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 40_000,
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 10_000,
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
    ],
)
async def test_a_flood_of_headers_is_refused(relay: Relay, flood: bytes) -> None:
    async with wire_to(url_of(relay)) as wire:
        wire.write(flood)

        assert (await answer(wire))[0] == 431


@pytest.mark.parametrize(
    "begun", [b"\x16\x03\x01\x00", b"HELLO\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"]
)
async def test_what_is_no_http_is_told_so_in_json(relay: Relay, begun: bytes) -> None:
    async with wire_to(url_of(relay)) as wire:
        wire.write(begun)

        assert await refusal(wire) == (400, "invalid_message")


async def test_a_method_that_nobody_knows_is_told_so(relay: Relay) -> None:
    async with wire_to(url_of(relay)) as wire:
        wire.write(b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n")

        assert await refusal(wire) == (501, "unknown_method")


@pytest.mark.parametrize(
    "head", [b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"]
)
async def test_a_request_says_whom_it_is_for(relay: Relay, head: bytes) -> None:
    async with wire_to(url_of(relay)) as wire:
        wire.write(head)

        status, body = await answer(wire)
        assert (status, body["error"]["code"]) == (400, "invalid_message")


@pytest.mark.parametrize(
    "sent", [b"NONSENSE\r\n\r\n", b"GET /" + b"x" * 40_000, b"FOO / HTTP/1.1\r\n"]
)
async def test_what_the_application_never_sees_has_the_headers_of_every_answer(
    relay: Relay, sent: bytes
) -> None:
    async with wire_to(url_of(relay)) as wire:
        wire.write(sent)
        head = (await wire.read_head()).lower()

    for name in (
        "x-content-type-options",
        "access-control-allow-origin",
        "ratelimit-policy",
        "date",
    ):
        assert f"\n{name}: " in head


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (b"NONSENSE\r\n\r\n", 400),
        (b"GET /" + b"x" * 40_000, 431),
        (HEAD + b"Content-Length: 9\r\n\r\n{", 408),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nx", 400),
        (b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\n", 408),
    ],
)
async def test_a_bad_request_behind_a_poll_is_answered_behind_it(bad: bytes, status: int) -> None:
    async with (
        Relay(port=0, http_port=0, http_request_timeout=0.1) as relay,
        http_peer(relay) as alice,
        wire_to(alice.url) as wire,
    ):
        poll = request(alice, "/v1/messages?wait=0.3")
        wire.write(poll + request(alice, "/v1/nothing") + bad)

        answers = [(await answer(wire))[0] for _ in range(3)]
        assert answers == [200, 404, status]
        assert await wire.read_to_end() == b""


async def test_a_body_that_says_it_is_too_large_is_not_waited_for(relay: Relay) -> None:
    async with wire_to(url_of(relay)) as wire:
        wire.write(HEAD + b"Content-Length: 1000000000\r\n\r\n")

        status, body = await answer(wire)
        assert (status, body["error"]["code"]) == (413, "too_large")


async def test_a_body_that_does_not_say_how_large_it_is_ends_at_the_bound(relay: Relay) -> None:
    async with wire_to(url_of(relay)) as wire:
        wire.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(20):
            wire.write(b"8000\r\n" + b" " * 0x8000 + b"\r\n")

        status, body = await answer(wire)
        assert (status, body["error"]["code"]) == (413, "too_large")


async def test_a_websocket_at_the_wrong_door_gets_an_answer(relay: Relay) -> None:
    async with wire_to(url_of(relay)) as wire:
        wire.write(
            b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )

        assert await refusal(wire) == (404, "not_found")


async def test_requests_one_behind_the_other_are_answered_in_order(relay: Relay) -> None:
    async with http_peer(relay) as alice, wire_to(alice.url) as wire:
        wire.write(request(alice, "/v1/peers") + request(alice, "/v1/nothing") * 2)

        assert [(await answer(wire))[0] for _ in range(3)] == [200, 404, 404]


async def test_who_is_too_many_is_told_so() -> None:
    async with (
        Relay(port=0, http_port=0, max_connections=1) as relay,
        wire_to(url_of(relay)) as first,
    ):
        first.write(b"GET /v1/peers HTTP/1.1\r\nHost: x\r\n\r\n")
        await answer(first)
        async with wire_to(url_of(relay)) as second:
            assert await refusal(second) == (503, "at_capacity")


async def test_a_poll_whose_client_is_gone_ends_and_its_peer_goes_offline() -> None:
    async with (
        Relay(port=0, http_port=0, http_session_grace=0.05) as relay,
        http_peer(relay) as alice,
        http_peer(relay) as bob,
        alice.events(bob.id) as events,
    ):
        await events.next()
        async with wire_to(bob.url) as wire:
            wire.write(request(bob, "/v1/messages?wait=60"))
            assert (await events.next())[1]["online"]
            wire.abort()
        assert (await events.next())[1]["offline"] == [bob.id]


async def test_mail_for_a_poll_whose_client_is_gone_is_not_lost() -> None:
    async with (
        Relay(port=0, http_port=0, ack_timeout=0.05) as relay,
        http_peer(relay) as alice,
        http_peer(relay) as bob,
    ):
        async with wire_to(bob.url) as wire:
            wire.write(request(bob, "/v1/messages?wait=60"))
            await is_online(alice, bob)
            wire.abort()
        await alice.send(bob.id, "still there")

        assert await bob.payloads() == ["still there"]


async def test_a_stream_whose_client_is_gone_leaves_nothing() -> None:
    async with (
        Relay(port=0, http_port=0, http_session_grace=0.05) as relay,
        http_peer(relay) as alice,
        http_peer(relay) as bob,
        alice.events(bob.id) as events,
    ):
        await events.next()
        for _ in range(3):
            async with wire_to(bob.url) as wire:
                wire.write(request(bob, "/v1/events"))
                assert (await events.next())[1]["online"]
                wire.reset()
            assert (await events.next())[1]["offline"] == [bob.id]


async def test_whoever_has_gone_leaves_no_session_behind() -> None:
    async with Relay(port=0, http_port=0, http_session_grace=0.05) as relay:
        for _ in range(3):
            async with http_peer(relay) as alice, http_peer(relay) as bob:
                await alice.send(bob.id)
                await bob.payloads(wait=0)
                async with bob.events():
                    pass
                if alice.id < bob.id:
                    await bob.ask("DELETE", "/v1/disconnect")
        await eventually(lambda: relay.counts["left"] == relay.counts["registered"])


async def test_a_stream_that_is_not_read_is_dropped_and_loses_nothing() -> None:
    settings: dict[str, Any] = {"ack_timeout": 0.05, "http_write_timeout": 0.2}
    async with (
        Relay(port=0, http_port=0, **settings) as relay,
        http_peer(relay) as alice,
        http_peer(relay) as bob,
    ):
        async with wire_to(bob.url, kernel_buffer=4096) as wire:
            wire.write(request(bob, "/v1/events"))
            await is_online(alice, bob)
            wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
            for number in range(30):
                await alice.send(bob.id, [number, "x" * 100_000])
            await eventually(lambda: wire.writer.transport.is_closing() or _is_reset(wire))
        found: list[Any] = []
        while len(found) < 30:
            found += [number for number, _ in await bob.payloads()]

    assert found == [*range(30)]


def _is_reset(wire: Wire) -> bool:
    wire.write(b" ")  # who was dropped cannot be written to
    return wire.writer.transport.is_closing()


async def test_too_many_challenges_are_not_kept() -> None:
    async with (
        Relay(port=0, http_port=0, max_challenges=2) as relay,
        http_peer(relay, register=False) as alice,
    ):
        for _ in range(2):
            await alice.challenge()
        refused = await alice.ask(
            "POST", "/v1/challenge", json={"publicKey": alice.id, "nonce": "00" * 32}
        )

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "at_capacity")


async def test_too_many_tokens_at_once_are_not_served() -> None:
    async with (
        Relay(port=0, http_port=0, max_http_sessions=1) as relay,
        http_peer(relay) as alice,
        http_peer(relay) as bob,
    ):
        await alice.poll(wait=0)
        refused = await bob.ask("GET", "/v1/messages")

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "at_capacity")


@pytest.mark.parametrize("limit", ["max_challenges_per_address", "max_http_sessions_per_address"])
async def test_one_address_may_not_have_all_that_is_there_for_all(limit: str) -> None:
    settings: dict[str, Any] = {"trusted_proxies": ("127.0.0.1",), limit: 1}
    async with (
        Relay(port=0, http_port=0, **settings) as relay,
        http_peer(relay) as alice,
        http_peer(relay) as bob,
    ):
        if limit == "max_challenges_per_address":
            asked: dict[str, Any] = {"publicKey": alice.id, "nonce": "00" * 32}
            method, path = "POST", "/v1/challenge"
        else:
            asked, method, path = {"ids": ["ab" * 32]}, "POST", "/v1/ack"
        answers = [
            await peer.ask(method, path, json=asked, headers={"X-Forwarded-For": address})
            for peer, address in ((alice, "192.0.2.1"), (bob, "192.0.2.1"), (bob, "192.0.2.2"))
        ]

    assert [one.status_code for one in answers] == [200, 503, 200]
    assert answers[1].json()["error"]["code"] == "at_capacity"
    assert int(answers[1].headers["Retry-After"]) > 0


@pytest.mark.parametrize("whose", ["key", "address"])
@pytest.mark.parametrize("path", ["/v1/events", "/v1/events?wait=20", "/v1/messages?wait=20"])
async def test_only_so_many_requests_may_wait(whose: str, path: str) -> None:
    settings: dict[str, Any] = {f"max_http_waits_per_{whose}": 2}
    async with Relay(port=0, http_port=0, **settings) as relay, http_peer(relay) as alice:
        async with alice.events() as one, alice.events() as other:
            await asyncio.gather(one.begin(), other.begin())
            refused = await alice.ask("GET", path)
            assert await alice.poll(wait=0) == []  # this does not wait
        error = refused.json()["error"]

        assert (refused.status_code, error["code"]) == (503, "at_capacity")
        assert f"max 2 requests of one {whose} that wait" in error["message"]
        assert refused.headers["Retry-After"] == "1"
        async with asyncio.timeout(DEADLINE):
            while (await alice.ask("GET", "/v1/messages?wait=0.01")).status_code != 200:
                pass  # the relay has not noticed yet that they have gone


@pytest.mark.parametrize("path", ["/v1/events", "/v1/events?wait=20", "/v1/messages?wait=20"])
async def test_a_token_that_may_not_wait_takes_no_room(path: str) -> None:
    async with (
        Relay(port=0, http_port=0, max_http_waits_per_key=1, max_http_sessions=2) as relay,
        http_peer(relay) as alice,
        http_peer(relay, alice.keys) as another,
        http_peer(relay) as bob,
        alice.events() as events,
    ):
        await events.begin()
        assert (await another.ask("GET", path)).status_code == 503

        assert await bob.poll(wait=0) == []


async def test_a_token_that_only_puts_off_what_it_has_not_takes_no_room() -> None:
    async with (
        Relay(port=0, http_port=0, max_http_sessions=1) as relay,
        http_peer(relay) as alice,
        http_peer(relay) as bob,
    ):
        await alice.post("/v1/nack", {"ids": ["ab"]})

        assert await bob.poll(wait=0) == []


async def test_who_does_not_fetch_its_late_receipts_stays_and_the_oldest_go() -> None:
    async with (
        Relay(port=0, http_port=0, max_unsent_bytes=2_000, http_backlog_bytes=1_024) as relay,
        http_peer(relay) as alice,
        http_peer(relay) as bob,
    ):
        await alice.ask("GET", "/v1/events", params={"wait": 0, "presence": "none"})
        for number in range(20):  # of which each has a receipt, for which no request waits
            await alice.send(bob.id, number, wait=0)
        await alice.send(bob.id, "the last, which waits for its answer")
        told = await alice.ask("GET", "/v1/events", params={"wait": 0, "presence": "none"})

    assert relay._metrics.tally.closes["slow_consumer"] == 0
    assert 0 < len(told.text) < 2_000


async def test_a_challenge_that_is_refused_leaves_nothing(relay: Relay) -> None:
    weak = {"publicKey": "302a300506032b6570032100" + "00" * 32, "nonce": "00" * 32}
    async with http_peer(relay, register=False) as alice:
        refused = await alice.ask("POST", "/v1/challenge", json=weak)
        look = await relay.overview.look()

    assert refused.status_code == 400
    assert look.connections["http"] == 0


async def test_a_head_that_comes_behind_a_body_is_measured_without_it(relay: Relay) -> None:
    body = b"x" * 50_000  # more than a head may have
    async with wire_to(url_of(relay)) as wire:
        first = b"GET /healthz HTTP/1.1\r\nHost: r\r\nContent-Length: 50000\r\n\r\n" + body
        wire.write(first + b"GET /readyz HTTP/1.1\r\nHo")
        assert (await answer(wire))[0] == 200
        wire.write(b"st: r\r\n\r\n")

        assert await answer(wire) == (200, {"status": "ready"})
