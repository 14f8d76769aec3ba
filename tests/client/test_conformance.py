"""One contract, over every transport: what clients may expect of each other does not differ."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from agora.client import Client, Timing, TransportName
from agora.keys import KeyPair
from agora.testing import RelayInThread, relay_in_thread
from agora.testing.relay_contract import RelayContract
from tests.client.hostile_proxy import HostileProxy, Upgrades, hostile_proxy
from tests.client.restarting import drops_what_comes_late, restart
from tests.client.waited import WaitedClient
from tests.support import agent

SETTINGS: dict[str, Any] = {"rate_limit_enabled": False, "ack_timeout": 1.0, "http_port": 0}


@dataclass
class Place:
    """A relay, and a proxy in front of it."""

    relay: RelayInThread
    proxy: HostileProxy


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One relay for all, on disk, as it is restarted; each test has peers of its own."""
    folder = tmp_path_factory.mktemp("relay")
    with hostile_proxy() as proxy:
        name = f"127.0.0.1:{proxy.port}"
        with relay_in_thread(**SETTINGS, public_name=(name,), data_dir=folder) as relay:
            assert relay.http_url is not None
            proxy.lead_to(relay.url, relay.http_url)
            yield Place(relay, proxy)


@pytest.fixture(autouse=True)
def _nothing_is_left_running() -> None:
    """Look at nothing here: each test ends its own loop, which warns of what is left open."""


class OverOurRelay(RelayContract):
    relay: RelayInThread
    proxy: HostileProxy
    transport: TransportName

    @pytest.fixture(autouse=True)
    def _at_the_place(self, place: Place) -> Iterator[None]:
        self.relay, self.proxy = place.relay, place.proxy
        yield
        self.proxy.upgrades, self.proxy.holds_back = Upgrades.PASS, False

    def restart_relay(self) -> None:
        restart(self.relay)

    @drops_what_comes_late
    def test_a_relay_that_restarts_loses_nothing_and_repeats_nothing(self) -> None:
        super().test_a_relay_that_restarts_loses_nothing_and_repeats_nothing()

    def test_it_is_this_transport(self) -> None:
        async def look() -> TransportName | None:
            async with self.new_client(KeyPair.generate()) as client:
                return client.transport

        assert asyncio.run(look()) is self.transport


class TestOverAWebSocket(OverOurRelay):
    transport = TransportName.WEBSOCKET

    def new_client(self, keys: KeyPair, **options: Any) -> Client:
        return agent(self.relay.url, keys, **options)


class TestByAStreamOverHttp(OverOurRelay):
    transport = TransportName.HTTP

    def new_client(self, keys: KeyPair, **options: Any) -> Client:
        return agent(f"{self.relay.http_url}", keys, **options)


class TestByLongPollsOverHttp(OverOurRelay):
    transport = TransportName.HTTP

    def new_client(self, keys: KeyPair, **options: Any) -> Client:
        self.proxy.holds_back = True
        timing = Timing(stream=0.1)
        return agent(self.proxy.http_url, keys, **{"timing": timing} | options)


class TestByFallingBackToHttp(OverOurRelay):
    transport = TransportName.HTTP

    def new_client(self, keys: KeyPair, **options: Any) -> Client:
        self.proxy.upgrades = Upgrades.REFUSE
        return agent(self.proxy.url, keys, fallback=self.proxy.http_url, **options)


@pytest.mark.long  # the same client waits as well over HTTP, below
class TestWithoutAsyncio(OverOurRelay):
    transport = TransportName.WEBSOCKET

    def new_client(self, keys: KeyPair, **options: Any) -> Client:
        client: Any = WaitedClient(self.relay.url, keys, proxy=None, fallback=False, **options)
        return client  # type: ignore[no-any-return]  # as far as the contract looks


class TestWithoutAsyncioOverHttp(OverOurRelay):
    transport = TransportName.HTTP

    def new_client(self, keys: KeyPair, **options: Any) -> Client:
        client: Any = WaitedClient(self.relay.http_url, keys, proxy=None, **options)
        return client  # type: ignore[no-any-return]  # as far as the contract looks
