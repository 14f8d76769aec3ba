"""Where sockets are blocked: by HTTP meanwhile, and back to the WebSocket as soon as that opens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agora.client import Status, TransportChanged, TransportName
from agora.client.relay_memory import RelaysInMemory
from agora.errors import ConfigurationError, NotConnectedError, RelayChangedError
from agora.keys import KeyPair
from agora.protocol.client.timing import Timing
from tests.client.hostile_proxy import HostileProxy, Upgrades, hostile_proxy
from tests.client.talking import TAKEN, events_of, take
from tests.client.test_client_http import relay_behind
from tests.support import DEADLINE, agent, eventually

HASTY = Timing(blocked=0.2, websocket_first=0.1, register=0.3)


@pytest.fixture
def proxy() -> Iterator[HostileProxy]:
    """A proxy with a relay behind it."""
    with hostile_proxy() as between, relay_behind(between):
        yield between


def changes(events: list[Any]) -> list[TransportName]:
    return [event.transport for event in events if isinstance(event, TransportChanged)]


@pytest.mark.parametrize(
    "upgrades", [Upgrades.REFUSE, Upgrades.RESET, Upgrades.SWALLOW, Upgrades.MUTE]
)
async def test_where_a_websocket_does_not_get_through_http_does(
    proxy: HostileProxy, upgrades: Upgrades
) -> None:
    proxy.upgrades = upgrades
    timing = Timing(blocked=0.2, register=0.3)

    async with agent(proxy.url, fallback=proxy.http_url, timing=timing, connect_timeout=None) as me:
        me.post(me.peer_id, "by another way")

        assert me.transport is TransportName.HTTP
        assert (await take(me)).payload == "by another way"


async def test_it_is_told_and_why(proxy: HostileProxy) -> None:
    proxy.upgrades = Upgrades.REFUSE
    me = agent(proxy.url, fallback=proxy.http_url)
    news = events_of(me)

    async with me:
        (change,) = [event for event in news if isinstance(event, TransportChanged)]

    assert change.transport is TransportName.HTTP
    assert "HTTP 403 instead of a WebSocket" in str(change.error)


async def test_where_the_websocket_works_nothing_is_told(proxy: HostileProxy) -> None:
    me = agent(proxy.url, fallback=proxy.http_url)
    news = events_of(me)

    async with me:
        assert me.transport is TransportName.WEBSOCKET
    assert changes(news) == []
    assert me.transport is None


async def test_the_websocket_is_taken_again_as_soon_as_it_opens(proxy: HostileProxy) -> None:
    proxy.upgrades = Upgrades.REFUSE
    me = agent(proxy.url, fallback=proxy.http_url, timing=HASTY)
    news = events_of(me)

    async with me, agent(proxy.http_url) as bob:
        for number in range(30):
            bob.post(me.peer_id, number)
            me.post(bob.peer_id, number)
            if number == 15:
                proxy.upgrades = Upgrades.PASS
                await eventually(lambda: me.transport is TransportName.WEBSOCKET)
        assert [(await take(me)).payload for _ in range(30)] == list(range(30))
        assert [(await take(bob)).payload for _ in range(30)] == list(range(30))

    assert changes(news) == [TransportName.HTTP, TransportName.WEBSOCKET]


async def test_a_network_that_begins_to_block_is_gone_around(proxy: HostileProxy) -> None:
    async with agent(proxy.url, fallback=proxy.http_url, timing=Timing()) as me:
        news = events_of(me)
        proxy.upgrades = Upgrades.REFUSE
        proxy.cut_streams()
        await eventually(lambda: me.transport is TransportName.HTTP)
        receipt = me.post(me.peer_id, "still here")

        assert (await take(me)).payload == "still here"
        assert await receipt.settled(DEADLINE) in (*TAKEN, Status.DUPLICATE)
    assert changes(news) == [TransportName.HTTP]


async def test_by_the_other_way_the_same_relay_is_demanded(proxy: HostileProxy) -> None:
    proxy.upgrades = Upgrades.REFUSE
    known = RelaysInMemory()
    known.remember(proxy.url, KeyPair.generate().peer_id)

    with pytest.raises(RelayChangedError, match=f"known-relays forget {proxy.url}"):
        await agent(proxy.url, fallback=proxy.http_url, known_relays=known).connect()


async def test_the_relay_is_remembered_by_its_first_url(proxy: HostileProxy) -> None:
    proxy.upgrades = Upgrades.REFUSE
    known = RelaysInMemory()

    async with agent(proxy.url, fallback=proxy.http_url, known_relays=known) as me:
        assert me.relay is not None
        assert known.expected(proxy.url) == me.relay


async def test_where_both_ways_fail_both_are_told(proxy: HostileProxy) -> None:
    proxy.upgrades = Upgrades.REFUSE

    with pytest.raises(NotConnectedError, match=r"HTTP 403 .*nor by the other way: no relay at"):
        await agent(proxy.url, fallback="http://127.0.0.1:1", reconnect=False).connect()


async def test_a_relay_that_is_not_there_is_not_sought_by_http(proxy: HostileProxy) -> None:
    me = agent("ws://127.0.0.1:1", fallback=proxy.http_url, reconnect=False)

    with pytest.raises(NotConnectedError):
        await me.connect()

    assert proxy.asked == []


async def test_whoever_does_not_come_back_does_not_move_either(proxy: HostileProxy) -> None:
    proxy.upgrades = Upgrades.REFUSE
    me = agent(proxy.url, fallback=proxy.http_url, timing=HASTY, reconnect=False)

    async with me:
        proxy.upgrades = Upgrades.PASS
        me.post(me.peer_id, "hello")
        await take(me)

        assert me.transport is TransportName.HTTP


@pytest.mark.parametrize("fallback", ["ws://relay:9470", "relay:9471", "http://", ""])
def test_a_fallback_that_is_no_http_is_refused(fallback: str) -> None:
    with pytest.raises(ConfigurationError):
        agent("ws://relay:9470", fallback=fallback)


def test_who_has_nothing_to_fall_back_to_may_say_so() -> None:
    for fallback in (None, False, True):
        agent("http://relay:9471", fallback=fallback)
    agent("nonsense", fallback=None)  # it is said when it is dialled
    with pytest.raises(ConfigurationError):
        agent("nonsense", fallback=True)
