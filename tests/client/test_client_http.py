"""A client by HTTP, and what may come between it and its relay."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from agora.client import StateChanged, Status
from agora.client.relay_memory import RelaysInMemory
from agora.errors import (
    ConfigurationError,
    MissingExtraError,
    NotConnectedError,
    RelayChangedError,
)
from agora.keys import KeyPair
from agora.protocol.client.timing import Timing
from agora.relay import Relay
from agora.testing import RelayInThread, relay_in_thread
from tests.client.hostile_proxy import HostileProxy, hostile_proxy
from tests.client.restarting import drops_what_comes_late, restart
from tests.client.talking import TAKEN, events_of, take
from tests.client.test_client_transport import running_proxy
from tests.support import DEADLINE, agent, eventually
from tests.tls import Certificates, make_certificates


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    """A relay with both doors open."""
    async with Relay(port=0, http_port=0) as running:
        yield running


def url_of(relay: Relay) -> str:
    assert relay.http_url is not None
    return relay.http_url


@pytest.fixture
def proxied() -> Iterator[tuple[HostileProxy, RelayInThread]]:
    """A proxy, and the relay behind it."""
    with hostile_proxy() as proxy, relay_behind(proxy) as running:
        yield proxy, running


def relay_behind(proxy: HostileProxy, **settings: Any) -> Any:
    return _LeadingTo(proxy, settings)


class _LeadingTo:
    def __init__(self, proxy: HostileProxy, settings: dict[str, Any]) -> None:
        name = f"127.0.0.1:{proxy.port}"
        self._proxy = proxy
        self._running = relay_in_thread(**{"http_port": 0, "public_name": (name,)} | settings)

    def __enter__(self) -> RelayInThread:
        relay = self._running.__enter__()
        assert relay.http_url is not None
        self._proxy.lead_to(relay.url, relay.http_url)
        return relay

    def __exit__(self, *error: Any) -> None:
        self._running.__exit__(*error)


def canned(status: str, *headers: str, body: str = "") -> str:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "Connection: close"]
    return "\r\n".join(lines) + f"\r\n\r\n{body}"


# What it needs


def test_who_has_no_use_for_http_does_not_import_it() -> None:
    code = (
        "import sys, agora; agora.Client('ws://localhost:9470', agora.Identity.generate());"
        "print('httpx2' in sys.modules, 'agora.relay' in sys.modules)"
    )

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.split() == ["False", "False"]


async def test_where_the_part_for_http_is_missing_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)

    with pytest.raises(MissingExtraError, match=r"pip install 'agora-relay\[http\]'"):
        await agent("http://127.0.0.1:1").connect()
    with pytest.raises(MissingExtraError, match="agora-relay"):
        agent("ws://127.0.0.1:1", fallback=True)


async def test_without_the_part_for_http_a_websocket_works_as_ever(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)

    async with agent(relay.url, fallback=None) as me:
        assert me.is_connected


# Nobody there, or somebody else


async def test_without_tls_nobody_looks_for_authorities(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "nowhere.pem")
    monkeypatch.setenv("NO_PROXY", "*")
    async with agent(url_of(relay), proxy=True) as me:
        assert me.is_connected


async def test_where_nobody_answers_it_is_said() -> None:
    with pytest.raises(NotConnectedError, match=r"no relay at http://127\.0\.0\.1:1: "):
        await agent("http://127.0.0.1:1", reconnect=False).connect()


async def test_what_answers_and_is_no_relay_is_said() -> None:
    with hostile_proxy() as proxy:
        proxy.canned.extend([("/v1/", canned("404 Not Found", body="<html>"))] * 50)
        with pytest.raises(NotConnectedError, match="answered HTTP 404, not as a relay does"):
            await agent(proxy.http_url, reconnect=False).connect()


async def test_another_relay_at_the_same_url_ends_the_client() -> None:
    with hostile_proxy() as proxy:
        with relay_behind(proxy):
            me = agent(proxy.http_url)
            await me.connect()
        with relay_behind(proxy), pytest.raises(RelayChangedError):
            await asyncio.wait_for(anext(me), DEADLINE)


# TLS, proxies, headers


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """What a relay on this machine needs for ``https://``."""
    return make_certificates(tmp_path)


@pytest.mark.parametrize("how", ["ca_file", "tls"])
async def test_a_relay_behind_a_custom_authority_is_trusted_when_told(
    certificates: Certificates, how: str
) -> None:
    options: dict[str, Any] = (
        {"ca_file": str(certificates.authority)}
        if how == "ca_file"
        else {"tls": certificates.trusting()}
    )

    async with (
        Relay(port=0, http_port=0, **certificates.settings) as relay,
        agent(url_of(relay), **options) as me,
    ):
        assert url_of(relay).startswith("https://")
        me.post(me.peer_id, "over TLS")

        assert (await take(me)).payload == "over TLS"


async def test_a_certificate_of_strangers_is_refused_at_once_and_in_clear_words(
    certificates: Certificates,
) -> None:
    async with Relay(port=0, http_port=0, **certificates.settings) as relay:
        with pytest.raises(ConfigurationError, match=r"certificate of https://.* does not verify"):
            await asyncio.wait_for(agent(url_of(relay)).connect(), 5)


async def test_tls_goes_through_a_proxy_from_end_to_end(certificates: Certificates) -> None:
    async with (
        running_proxy() as proxy,
        Relay(port=0, http_port=0, **certificates.settings) as relay,
        agent(
            url_of(relay),
            proxy=f"http://127.0.0.1:{proxy.port}",
            ca_file=str(certificates.authority),
        ) as me,
    ):
        me.post(me.peer_id, "round about")

        assert (await take(me)).payload == "round about"
        assert set(proxy.asked) == {url_of(relay).removeprefix("https://")}


async def test_a_proxy_that_refuses_is_said(certificates: Certificates) -> None:
    async with (
        Relay(port=0, http_port=0, **certificates.settings) as relay,
        running_proxy() as proxy,
    ):
        proxy.status = "403 Forbidden"
        me = agent(url_of(relay), proxy=f"http://127.0.0.1:{proxy.port}", reconnect=False)
        with pytest.raises(NotConnectedError, match="403"):
            await me.connect()


@pytest.mark.parametrize("proxy", ["ftp://127.0.0.1:1", "socks5://x:1"])
async def test_a_proxy_that_can_never_work_is_said_at_once(proxy: str) -> None:
    with pytest.raises(ConfigurationError, match="proxy"):
        await asyncio.wait_for(agent("http://127.0.0.1:1", proxy=proxy).connect(), 5)


async def test_more_headers_go_with_every_request(
    proxied: tuple[HostileProxy, RelayInThread],
) -> None:
    proxy, _ = proxied

    async with agent(proxy.http_url, headers={"X-Way": "this"}) as me:
        me.post(me.peer_id, "hello")
        await take(me)

    assert all("x-way: this" in head.lower() for head in proxy.heads)


# What goes wrong on the way


async def test_a_message_whose_answer_is_lost_arrives_once(
    proxied: tuple[HostileProxy, RelayInThread],
) -> None:
    proxy, _ = proxied

    async with agent(proxy.http_url) as bob, agent(proxy.http_url) as alice:
        proxy.loses = 1
        receipt = alice.post(bob.peer_id, "once")
        assert (await take(bob)).payload == "once"
        assert await receipt.settled(DEADLINE) in (*TAKEN, Status.DUPLICATE)
        alice.post(bob.peer_id, "next")

        assert (await take(bob)).payload == "next"
        assert alice.is_connected


async def test_a_rate_of_a_proxy_is_waited_out(
    proxied: tuple[HostileProxy, RelayInThread],
) -> None:
    proxy, _ = proxied

    async with agent(proxy.http_url) as me:
        proxy.canned.append(("/v1/send", canned("429 Too Many Requests", "Retry-After: 1")))
        receipt = me.post(me.peer_id, "later")
        assert (await take(me)).payload == "later"

        assert await receipt.settled(DEADLINE) in TAKEN


async def test_what_is_too_large_for_a_proxy_is_refused(
    proxied: tuple[HostileProxy, RelayInThread],
) -> None:
    proxy, _ = proxied

    async with agent(proxy.http_url) as me:
        proxy.canned.append(("/v1/send", canned("413 Content Too Large", body="<html>")))
        receipt = me.post(me.peer_id, "large")
        await eventually(lambda: receipt.status is Status.REFUSED)
        me.post(me.peer_id, "small")

        assert (await take(me)).payload == "small"


async def test_a_proxy_without_its_relay_is_left_and_sought_again(
    proxied: tuple[HostileProxy, RelayInThread],
) -> None:
    proxy, _ = proxied

    async with agent(proxy.http_url) as me:
        news = events_of(me)
        proxy.canned.append(("/v1/send", canned("502 Bad Gateway")))
        me.post(me.peer_id, "in the end")

        assert (await take(me)).payload == "in the end"
    first = next(event for event in news if isinstance(event, StateChanged))
    assert "HTTP 502" in str(first.error)


async def test_a_relay_that_is_busy_is_left_alone_for_as_long_as_it_asks(
    proxied: tuple[HostileProxy, RelayInThread],
) -> None:
    proxy, _ = proxied
    busy = '{"error":{"code":"at_capacity","message":"full"}}'
    proxy.canned.append(
        ("/v1/challenge", canned("503 Service Unavailable", "Retry-After: 1", body=busy))
    )
    began = asyncio.get_running_loop().time()

    async with agent(proxy.http_url):
        assert asyncio.get_running_loop().time() - began >= 1.0


# Tokens


async def test_a_token_that_expires_is_renewed_and_nobody_notices() -> None:
    with hostile_proxy() as proxy, relay_behind(proxy, token_lifetime=1):
        async with agent(proxy.http_url) as bob, agent(proxy.http_url) as alice:
            news = events_of(alice), events_of(bob)
            number = 0
            while proxy.asked.count("POST /v1/register") < 6:  # twice more for each
                alice.post(bob.peer_id, number)
                assert (await take(bob)).payload == number
                number += 1

            assert [each for one in news for each in one if isinstance(each, StateChanged)] == []


@drops_what_comes_late
async def test_a_relay_that_remembers_no_token_is_told_who_we_are_again() -> None:
    with relay_in_thread(http_port=0) as relay:
        async with agent(f"{relay.http_url}") as me:
            await asyncio.to_thread(restart, relay)
            me.post(me.peer_id, "still here")

            assert (await take(me)).payload == "still here"


# Streams and polls


async def test_a_stream_that_a_proxy_holds_back_is_given_up_for_polls(
    proxied: tuple[HostileProxy, RelayInThread],
) -> None:
    proxy, _ = proxied
    proxy.holds_back = True
    timing = Timing(stream=0.1)

    async with agent(proxy.http_url, timing=timing) as me:
        me.post(me.peer_id, "poll for it")
        assert (await take(me)).payload == "poll for it"

    asked = [head.split()[1] for head in proxy.heads if "/v1/events" in head]
    assert "wait=" not in asked[0]
    assert all("wait=" in one for one in asked[1:])


async def test_what_a_lost_answer_to_a_poll_told_is_told_again(
    proxied: tuple[HostileProxy, RelayInThread],
) -> None:
    proxy, _ = proxied
    proxy.holds_back, proxy.lost = True, "GET /v1/events?presence=all&wait=25"
    keys = KeyPair.generate()

    async with agent(proxy.http_url, timing=Timing(stream=0.1)) as me:
        proxy.loses = 1
        async with agent(proxy.http_url, keys):
            await eventually(lambda: keys.peer_id in me.peers)
            proxy.loses = 1
        await eventually(lambda: keys.peer_id not in me.peers)


@drops_what_comes_late
async def test_who_went_while_the_relay_was_away_is_told_to_have_gone() -> None:
    with hostile_proxy() as proxy, relay_behind(proxy) as relay:
        proxy.holds_back = True
        async with agent(proxy.http_url, timing=Timing(stream=0.1)) as me:
            gone = agent(relay.url, reconnect=False)
            await gone.connect()
            await eventually(lambda: gone.peer_id in me.peers)
            await asyncio.to_thread(restart, relay)

            await eventually(lambda: gone.peer_id not in me.peers)
        await gone.close()


async def test_a_stream_that_is_cut_goes_on_where_it_was(
    proxied: tuple[HostileProxy, RelayInThread],
) -> None:
    proxy, _ = proxied

    async with agent(proxy.http_url) as bob, agent(proxy.http_url) as alice:
        news = events_of(bob)
        for number in range(20):
            alice.post(bob.peer_id, number)
        for number in range(20):
            assert (await take(bob)).payload == number
            if number == 10:
                proxy.cut_streams()

        assert [event for event in news if isinstance(event, StateChanged)] == []


async def test_whom_a_client_watches_may_be_more_than_fit_into_a_url() -> None:
    friends = [KeyPair.generate().peer_id for _ in range(100)]
    async with Relay(port=0, http_port=0) as relay:
        friend = KeyPair.generate()
        async with (
            agent(url_of(relay), presence=[*friends, friend.peer_id]) as me,
            agent(url_of(relay)),
            agent(url_of(relay), friend),
        ):
            await eventually(lambda: list(me.peers) == [friend.peer_id])


# Who it is


async def test_the_key_of_the_relay_is_remembered_by_its_url(relay: Relay) -> None:
    known = RelaysInMemory()

    async with agent(url_of(relay), known_relays=known) as me:
        assert me.relay == relay.peer_id
    assert known.expected(url_of(relay)) == relay.peer_id
