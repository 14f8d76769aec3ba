"""How a client reaches its relay: certificates, headers, proxies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agora.errors import ConfigurationError, NotConnectedError
from agora.keys import KeyPair
from agora.relay import Relay
from tests.client.fake_relay import fake_relay
from tests.support import DEADLINE, agent, eventually
from tests.tls import Certificates, make_certificates


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """What a relay on this machine needs for ``wss://``."""
    return make_certificates(tmp_path)


# TLS


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
        Relay(port=0, **certificates.settings) as relay,
        agent(relay.url, **options) as alice,
        agent(relay.url, **options) as bob,
    ):
        alice.post(bob.peer_id, "over TLS")

        assert (await anext(bob)).payload == "over TLS"


async def test_a_certificate_of_strangers_is_refused_at_once_and_in_clear_words(
    certificates: Certificates,
) -> None:
    async with Relay(port=0, **certificates.settings) as relay:
        with pytest.raises(ConfigurationError, match=r"certificate of wss://.* does not verify"):
            await asyncio.wait_for(agent(relay.url).connect(), 5)


async def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path, "elsewhere.example")

    async with Relay(port=0, **certificates.settings) as relay:
        with pytest.raises(ConfigurationError, match="IP address mismatch"):
            await agent(relay.url, ca_file=str(certificates.authority)).connect()


async def test_authorities_that_cannot_be_read_are_said_at_once(tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")

    for path in (nonsense, tmp_path / "absent.pem"):
        with pytest.raises(ConfigurationError, match=path.name):
            await agent("wss://127.0.0.1:1", ca_file=str(path)).connect()


async def test_plain_text_to_a_tls_port_is_no_connection(certificates: Certificates) -> None:
    async with Relay(port=0, **certificates.settings) as relay:
        plain = relay.url.replace("wss://", "ws://")
        with pytest.raises(NotConnectedError, match="no relay at"):
            await agent(plain, connect_timeout=0.2).connect()


async def test_tls_to_a_plain_port_is_no_connection() -> None:
    async with Relay(port=0) as relay:
        secure = relay.url.replace("ws://", "wss://")
        with pytest.raises(NotConnectedError, match="no relay at"):
            await agent(secure, connect_timeout=0.2).connect()


async def test_a_relay_whose_certificate_goes_bad_is_not_given_up(
    tmp_path: Path, certificates: Certificates
) -> None:
    stranger = make_certificates(tmp_path / "stranger")
    keys = KeyPair.generate()

    async with Relay(port=0, identity=keys, **certificates.settings) as relay:
        port = relay.port
        me = agent(relay.url, ca_file=str(certificates.authority))
        await me.connect()
    async with Relay(port=port, identity=keys, **stranger.settings):
        await eventually(lambda: isinstance(me.error, ConfigurationError))
    async with Relay(port=port, identity=keys, **certificates.settings):
        await eventually(lambda: me.is_connected)
        await me.close()


# Headers


async def test_further_headers_go_with_the_handshake() -> None:
    headers = {"Authorization": "Bearer secret"}

    async with fake_relay() as relay, agent(relay.url, connect_timeout=0, headers=headers):
        session = await relay.accept()

        assert session.socket.request is not None
        assert session.socket.request.headers["Authorization"] == "Bearer secret"


# Proxies


@dataclass
class Proxy:
    """
    An HTTP proxy that knows CONNECT and no more.

    Attributes:
        port: Where it listens.
        asked: The hosts it was asked for.
        status: What it answers.
    """

    port: int = 0
    asked: list[str] = field(default_factory=list)
    status: str = "200 OK"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one CONNECT, and carry bytes both ways until either side ends."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except asyncio.IncompleteReadError:
            return writer.close()  # given up before it was asked
        method, place, _ = head.split(" ", 2)
        assert method == "CONNECT"
        self.asked.append(place)
        writer.write(f"HTTP/1.1 {self.status}\r\n\r\n".encode())
        if self.status.startswith("200"):
            host, port = place.rsplit(":", 1)
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            async with asyncio.TaskGroup() as group:
                group.create_task(_carry(reader, far_writer))
                group.create_task(_carry(far_reader, writer))
        writer.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()


@asynccontextmanager
async def running_proxy() -> AsyncIterator[Proxy]:
    proxy = Proxy()
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
        proxy.port = server.sockets[0].getsockname()[1]
        yield proxy


async def test_a_proxy_is_gone_through(relay: Relay) -> None:
    async with running_proxy() as proxy:
        async with agent(relay.url, proxy=f"http://127.0.0.1:{proxy.port}") as me:
            me.post(me.peer_id, "round about")
            assert (await anext(me)).payload == "round about"

        assert proxy.asked == [f"127.0.0.1:{relay.port}"]


async def test_tls_goes_through_a_proxy_from_end_to_end(certificates: Certificates) -> None:
    async with (
        running_proxy() as proxy,
        Relay(port=0, **certificates.settings) as relay,
        agent(
            relay.url,
            proxy=f"http://127.0.0.1:{proxy.port}",
            ca_file=str(certificates.authority),
        ) as me,
    ):
        me.post(me.peer_id, "round about")

        assert (await anext(me)).payload == "round about"


async def test_the_proxy_of_the_environment_is_used_unless_told_otherwise(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_proxy() as proxy:
        for name in ("http_proxy", "ws_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "")
        async with agent(relay.url, proxy=None):
            assert proxy.asked == []
        async with agent(relay.url, proxy=True):
            assert proxy.asked == [f"127.0.0.1:{relay.port}"]


async def test_a_proxy_that_refuses_is_said(relay: Relay) -> None:
    async with running_proxy() as proxy:
        proxy.status = "403 Forbidden"
        me = agent(relay.url, proxy=f"http://127.0.0.1:{proxy.port}", connect_timeout=0.2)
        with pytest.raises(NotConnectedError, match="403"):
            await me.connect()


@pytest.mark.parametrize("proxy", ["nonsense", "ftp://127.0.0.1:1", "http://", "socks5://x:1"])
async def test_a_proxy_that_can_never_work_is_said_at_once(relay: Relay, proxy: str) -> None:
    with pytest.raises(ConfigurationError, match="proxy"):
        await asyncio.wait_for(agent(relay.url, proxy=proxy).connect(), 5)


async def test_a_relay_that_answers_with_too_much_is_left_and_sought_again() -> None:
    async with fake_relay() as relay, agent(relay.url, connect_timeout=0) as me:
        session = await relay.accept()
        await session.register()
        await eventually(lambda: me.is_connected)
        await session.say("x" * (17 * 1024 * 1024))
        await asyncio.wait_for(session.socket.wait_closed(), DEADLINE)
        assert session.socket.close_code == 1009
        session = await relay.accept()
        await session.register()
        await eventually(lambda: me.is_connected)
