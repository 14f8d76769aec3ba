"""Which of two ways to a relay is taken: the WebSocket, or HTTP where that is blocked."""

from __future__ import annotations

import math

import pytest

from agora.errors import ConfigurationError
from agora.protocol.client.timing import Timing
from agora.protocol.client.ways import Ways, conventional_fallback, is_http

WS, HTTP = "ws://relay:9470", "http://relay:9471"


def ways(fallback: str | None = HTTP) -> Ways:
    return Ways(WS, fallback, Timing(websocket_first=60.0, websocket_cap=200.0))


@pytest.mark.parametrize(
    ("url", "fallback"),
    [
        ("ws://localhost:9470", "http://localhost:9471"),
        ("wss://relay.example:7000/agora", "https://relay.example:7001"),
        ("wss://relay.example", "https://relay.example"),
        ("ws://relay.example", "http://relay.example"),
        ("ws://relay.example:443", "http://relay.example:443"),
        ("ws://[::1]:9470", "http://[::1]:9471"),
    ],
)
def test_the_conventional_place_is_the_port_above_or_that_of_a_proxy(
    url: str, fallback: str
) -> None:
    assert conventional_fallback(url) == fallback


@pytest.mark.parametrize(
    "url", ["http://relay.example", "ws://relay:65535", "ws://[::1", "nonsense"]
)
def test_where_there_is_no_conventional_place_it_is_said(url: str) -> None:
    with pytest.raises(ConfigurationError):
        conventional_fallback(url)


def test_the_scheme_says_which_way_a_url_is() -> None:
    assert [is_http(url) for url in ("http://x", "https://x", "ws://x", "wss://x")] == [
        True,
        True,
        False,
        False,
    ]


def test_the_websocket_goes_first() -> None:
    assert ways().to_try(now=0.0) == (WS, HTTP)


def test_without_another_way_there_is_one() -> None:
    alone = ways(None)
    alone.note_blocked(now=0.0)

    assert alone.to_try(now=1.0) == (WS,)


def test_a_websocket_that_is_blocked_is_left_alone_for_a_while_that_grows() -> None:
    relay, waits = ways(), []
    for _ in range(4):
        relay.note_blocked(now=100.0)
        waits.append(relay.again_at - 100.0)

    assert waits == [60.0, 120.0, 200.0, 200.0]
    assert relay.to_try(now=101.0) == (HTTP, WS)
    assert relay.to_try(now=301.0) == (WS, HTTP)


def test_a_websocket_that_works_again_is_trusted_again() -> None:
    relay = ways()
    relay.note_blocked(now=0.0)
    relay.note_blocked(now=0.0)

    relay.note_open(WS)

    assert (relay.again_at, relay.to_try(now=1.0)) == (math.inf, (WS, HTTP))
    relay.note_blocked(now=0.0)
    assert relay.again_at == 60.0


def test_that_the_other_way_works_says_nothing_of_the_websocket() -> None:
    relay = ways()
    relay.note_blocked(now=0.0)

    relay.note_open(HTTP)

    assert relay.to_try(now=1.0) == (HTTP, WS)
