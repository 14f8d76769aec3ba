"""What every request passes: rates, pages of other origins, proxies; and errors in one shape."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from agora.errors import ConfigurationError
from agora.relay import Relay, RelayConfig
from agora.relay.http.gate import client_address
from tests.relay.http.talking import http_peer

KEY = "302a300506032b6570032100" + "5a" * 32

# Errors


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "code"),
    [
        ("GET", "/v1/nothing", {}, 404, "not_found"),
        ("GET", "/v1/messages/", {}, 401, "not_registered"),
        ("PUT", "/v1/send", {}, 405, "method_not_allowed"),
        ("GET", "/v1/challenge", {}, 405, "method_not_allowed"),
        ("POST", "/v1/challenge", {}, 400, "invalid_message"),
        ("POST", "/v1/challenge", {"content": b"{"}, 400, "invalid_message"),
        ("POST", "/v1/challenge", {"content": b"\xff"}, 400, "invalid_message"),
        ("POST", "/v1/challenge", {"content": b'"\x8d"'}, 400, "invalid_message"),
        ("POST", "/v1/challenge", {"content": b'{"nonce":"\xff"}'}, 400, "invalid_message"),
        ("POST", "/v1/challenge", {"content": b'{"nonce":"\\ud800"}'}, 400, "invalid_message"),
        ("POST", "/v1/challenge", {"content": b"[" * 100_000}, 400, "invalid_message"),
        ("POST", "/v1/challenge", {"json": []}, 400, "invalid_message"),
        ("POST", "/v1/challenge", {"json": None}, 400, "invalid_message"),
        ("POST", "/v1/challenge", {"json": {"publicKey": "x"}}, 400, "invalid_message"),
        ("POST", "/v1/challenge", {"content": b" " * 262_145}, 413, "too_large"),
        ("POST", "/v1/challenge", {"data": {"a": "b"}}, 415, "unsupported_media_type"),
    ],
)
async def test_a_bad_request_is_told_why_in_one_shape(
    relay: Relay, method: str, path: str, options: Any, status: int, code: str
) -> None:
    async with http_peer(relay, register=False) as alice:
        answer = await alice.ask(method, path, **options)

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json()["error"]["message"]


async def test_what_is_not_allowed_says_what_is(relay: Relay) -> None:
    async with http_peer(relay, register=False) as alice:
        answer = await alice.ask("PUT", "/v1/send")

    assert "POST" in answer.headers["Allow"]


@pytest.mark.parametrize("path", ["/v1/peers", "/v1/messages", "/docs", "/openapi.json", "/chat"])
async def test_head_is_answered_as_get_without_the_body(relay: Relay, path: str) -> None:
    async with http_peer(relay) as alice:
        whole = await alice.ask("GET", path)
        head = await alice.ask("HEAD", path)
        wrong = await alice.ask("PUT", path)

    assert (head.status_code, head.content) == (200, b"")
    # What is left of a rate is no more the same.
    assert {*head.headers} == {*whole.headers}
    assert head.headers["Content-Length"] == whole.headers["Content-Length"]
    assert wrong.headers["Allow"] == "GET, HEAD, OPTIONS"


async def test_head_takes_nothing_away(relay: Relay) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob:
        await bob.poll(wait=0)
        await alice.send_envelope(alice.letter("*", "once"), to="*")
        await bob.ask("HEAD", "/v1/messages", params={"wait": 5})
        stream = await bob.ask("HEAD", "/v1/events")

        assert await bob.payloads() == ["once"]
        assert stream.headers["Content-Type"].startswith("text/event-stream")


async def test_a_page_says_its_charset_once(relay: Relay) -> None:
    async with http_peer(relay, register=False) as anyone:
        page = await anyone.ask("GET", "/docs")

    assert page.headers["Content-Type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "invalid_message"),
        ({"envelope": 1}, 400, "invalid_message"),
        ({"envelope": {}}, 400, "invalid_message"),
        ({"envelope": {"to": []}}, 400, "invalid_message"),
        ({"envelope": {"to": [1]}}, 400, "invalid_message"),
        ({"envelope": {}, "to": "bob"}, 400, "invalid_message"),
        ({"envelope": {}, "to": []}, 400, "invalid_message"),
        ({"envelope": {}, "to": "*"}, 403, "invalid_envelope"),
        ({"envelope": {"to": ["*", "x"]}}, 400, "invalid_message"),
        ({"envelope": {"to": ["*", "x"]}, "to": "*"}, 400, "invalid_message"),
        ({"envelope": {"to": ["x"]}, "to": "*"}, 403, "recipient_mismatch"),
        ({"envelope": {"id": 1, "to": ["x"]}}, 403, "invalid_envelope"),
    ],
)
async def test_a_message_that_is_none_is_refused(
    relay: Relay, body: Any, status: int, code: str
) -> None:
    async with http_peer(relay) as alice:
        answer = await alice.ask("POST", "/v1/send", json=body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/ack", {"ids": [1]}),
        ("/v1/ack", {"ids": "x"}),
        ("/v1/nack", {"ids": ["x"], "delayMs": "1"}),
        ("/v1/nack", {"ids": ["x"], "delayMs": True}),
        ("/v1/send", {"envelope": {"to": ["x"]}, "confirm": "true"}),
        ("/v1/send", {"envelope": {"to": ["x"]}, "confirm": 1}),
        ("/v1/send", {"envelope": {"to": ["x"]}, "wait": "0"}),
        ("/v1/register", {"publicKey": KEY, "nonce": "0" * 64, "signature": "0" * 128, "name": 5}),
    ],
)
async def test_a_value_of_another_type_is_not_made_to_fit(
    relay: Relay, path: str, body: Any
) -> None:
    async with http_peer(relay) as alice:
        answer = await alice.ask("POST", path, json=body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_message")
    assert "Expected" in answer.json()["error"]["message"]


async def test_what_is_wrong_with_a_body_is_said_of_that_body(relay: Relay) -> None:
    async with http_peer(relay, register=False) as alice:
        texts = [
            (await alice.ask("POST", "/v1/challenge", content=content)).json()["error"]["message"]
            for content in ("", "{}", "[]", '{"publicKey":1}')
        ]

    assert texts == [
        "Invalid message: the body is missing",
        "Invalid message: Object missing required field `publicKey`",
        "Invalid message: Expected `object`, got `array`",
        "Invalid message: Expected `str`, got `int` - at `$.publicKey`",
    ]


async def test_a_parameter_is_called_by_the_name_it_was_given_by(relay: Relay) -> None:
    async with http_peer(relay) as alice:
        answer = await alice.ask("GET", "/v1/events?receive=maybe")

    assert answer.json()["error"]["message"] == (
        "Invalid message: receive: Expected `bool`, got `str`"
    )


@pytest.mark.parametrize(
    ("header", "value", "told", "takes"),
    [
        ("Content-Type", "text/plain", "Accept", "application/json"),
        ("Content-Encoding", "gzip", "Accept-Encoding", "identity"),
    ],
)
async def test_a_body_that_cannot_be_read_is_told_what_can(
    relay: Relay, header: str, value: str, told: str, takes: str
) -> None:
    async with http_peer(relay, register=False) as alice:
        answer = await alice.ask("POST", "/v1/challenge", content=b"{}", headers={header: value})

    assert (answer.status_code, answer.headers[told]) == (415, takes)


async def test_a_message_of_somebody_else_is_refused(relay: Relay) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob:
        envelope = alice.letter(bob.id)
        answer = await bob.ask("POST", "/v1/send", json={"envelope": envelope.to_dict()})

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "sender_mismatch")


async def test_a_clock_that_is_wrong_is_told_the_time(relay: Relay) -> None:
    async with http_peer(relay) as alice:
        envelope = alice.letter(alice.id, timestamp_ms=1_000)
        answer = await alice.ask("POST", "/v1/send", json={"envelope": envelope.to_dict()})

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "stale")
    assert answer.json()["error"]["now"] > 1_700_000_000_000


@pytest.mark.parametrize(
    "query", ["wait=x", "wait=-1", "wait=nan", "limit=0", "limit=1001", "limit=x", "limit="]
)
async def test_a_query_that_makes_no_sense_is_refused(relay: Relay, query: str) -> None:
    async with http_peer(relay) as alice:
        answer = await alice.ask("GET", f"/v1/messages?{query}")

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_message")


async def test_a_fault_of_ours_is_told_without_its_inside(
    relay: Relay, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr("agora.relay.http.sessions.HttpSessions.of", fail)
    async with http_peer(relay) as alice:
        answer = await alice.ask("POST", "/v1/ack", json={"ids": ["x"]})

    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "request failed"
    ]
    caplog.clear()


# Rates


async def test_an_answer_tells_how_often_may_be_asked(relay: Relay) -> None:
    async with http_peer(relay) as alice:
        answer = await alice.ask("GET", "/v1/peers")

    assert answer.headers["RateLimit-Policy"] == '"address";q=6000;w=10, "key";q=600;w=10'
    assert answer.headers["RateLimit"].startswith('"address";r=59')


@pytest.mark.parametrize("which", ["rate_limit_max_requests", "rate_limit_max_address_requests"])
async def test_who_asks_too_often_is_told_when_to_come_again(which: str) -> None:
    limits: dict[str, Any] = {which: 4, "rate_limit_window_ms": 60_000}
    async with Relay(port=0, http_port=0, **limits) as relay, http_peer(relay) as alice:
        answers = [await alice.ask("GET", "/v1/peers") for _ in range(5)]

    refused = answers[-1]
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limited")
    wait_ms = refused.json()["error"]["retryAfterMs"]
    assert int(refused.headers["Retry-After"]) == -(-wait_ms // 1000)
    assert 0 < wait_ms <= 15_000
    assert ";r=0;" in refused.headers["RateLimit"]


async def test_without_rates_nothing_is_counted() -> None:
    settings: dict[str, Any] = {"rate_limit_enabled": False, "rate_limit_max_requests": 1}
    async with Relay(port=0, http_port=0, **settings) as relay, http_peer(relay) as alice:
        answers = [await alice.ask("GET", "/v1/peers") for _ in range(5)]

    assert {one.status_code for one in answers} == {200}
    assert "RateLimit" not in answers[0].headers


async def test_the_rate_of_a_key_is_that_of_its_messages_too() -> None:
    async with (
        Relay(port=0, http_port=0, rate_limit_max_messages=1) as relay,
        http_peer(relay) as alice,
    ):
        await alice.send(alice.id)
        answer = await alice.ask(
            "POST", "/v1/send", json={"envelope": alice.letter(alice.id).to_dict()}
        )

    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limited")
    assert "Retry-After" in answer.headers


# Proxies


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("192.0.2.7", [], "192.0.2.7"),
        ("192.0.2.7", ["203.0.113.9"], "192.0.2.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1", "203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9, "], "10.0.0.1"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("", ["203.0.113.9"], ""),
    ],
)
def test_only_a_proxy_that_is_trusted_is_believed(
    peer: str, forwarded: list[str], expected: str
) -> None:
    assert client_address(peer, forwarded, (ipaddress.ip_network("10.0.0.0/8"),)) == expected


async def test_behind_a_trusted_proxy_each_client_has_a_rate_of_its_own() -> None:
    settings: dict[str, Any] = {"trusted_proxies": ("127.0.0.1",)}
    settings |= {"rate_limit_max_address_requests": 1}
    async with (
        Relay(port=0, http_port=0, **settings) as relay,
        http_peer(relay, register=False) as alice,
    ):
        statuses = [
            (await alice.ask("GET", "/v1/x", headers={"X-Forwarded-For": who})).status_code
            for who in ("203.0.113.1", "203.0.113.2", "203.0.113.1")
        ]

    assert statuses == [404, 404, 429]


def test_a_proxy_that_is_no_network_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="trusted_proxies"):
        RelayConfig(trusted_proxies=("proxy.example.org",))


# Pages of other origins


async def test_any_page_may_ask_unless_the_operator_names_them(relay: Relay) -> None:
    async with http_peer(relay, register=False) as page:
        answer = await page.ask("GET", "/v1/peers", headers={"Origin": "https://a.example"})
        preflight = await page.ask(
            "OPTIONS",
            "/v1/send",
            headers={
                "Origin": "https://a.example",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization,content-type",
            },
        )

    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]
    assert preflight.status_code == 204
    assert "DELETE" in preflight.headers["Access-Control-Allow-Methods"]
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]


async def test_a_page_that_is_not_named_may_not_read_answers() -> None:
    async with (
        Relay(port=0, http_port=0, allowed_origins=("https://a.example",)) as relay,
        http_peer(relay, register=False) as page,
    ):
        ours = await page.ask("GET", "/v1/peers", headers={"Origin": "https://a.example"})
        other = await page.ask("GET", "/v1/peers", headers={"Origin": "https://b.example"})
        preflight = await page.ask(
            "OPTIONS",
            "/v1/send",
            headers={"Origin": "https://b.example", "Access-Control-Request-Method": "POST"},
        )

    assert ours.headers["Access-Control-Allow-Origin"] == "https://a.example"
    assert ours.headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Origin" not in other.headers
    assert "Access-Control-Allow-Methods" not in preflight.headers


# Peers


async def test_peers_are_told_page_by_page(relay: Relay) -> None:
    async with http_peer(relay) as alice:
        others = []
        for number in range(5):
            async with http_peer(relay, name=f"peer {number}") as peer:
                await peer.poll(wait=0)
                others.append(peer.id)
        found: list[Any] = []
        query = {"limit": "2"}
        while True:
            page = await alice.get("/v1/peers", params=query)
            found += page["peers"]
            if "next" not in page:
                break
            query["after"] = page["next"]

    assert [one["publicKey"] for one in found] == sorted(others)
    assert {one["name"] for one in found} == {f"peer {number}" for number in range(5)}
    assert page["total"] == 5


async def test_what_a_peer_says_of_itself_is_told(relay: Relay) -> None:
    metadata = {"version": "1.2", "capabilities": ["search"]}
    async with http_peer(relay) as alice, http_peer(relay, metadata=metadata) as bob:
        await bob.poll(wait=0)
        told = await alice.get("/v1/peers")

    assert told["peers"][0]["metadata"] == metadata


async def test_what_a_peer_says_of_itself_by_one_token_is_told_while_that_is_in_use(
    relay: Relay,
) -> None:
    async with (
        http_peer(relay) as alice,
        http_peer(relay, metadata={"version": "1"}) as bob,
        http_peer(relay, bob.keys, metadata={"version": "2"}) as again,
    ):
        told = []
        for peer in (bob, again):
            await peer.poll(wait=0)
        for peer in (again, bob):
            told += (await alice.get("/v1/peers"))["peers"]
            await peer.ask("DELETE", "/v1/disconnect")

    assert [one["metadata"]["version"] for one in told] == ["2", "1"]
