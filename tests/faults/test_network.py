"""
Each fault of a network beside the mechanism that answers it.

Where a mechanism can be switched off, the same fault is shown to go unnoticed
without it, within the time in which it is noticed with it.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable
from typing import Any

import pytest

from agora.client import Client, ConnectionState, StateChanged, Status, Timing
from agora.client.transport import TransportOptions
from agora.client.websocket import open_websocket
from agora.errors import NoAnswerError, NotConnectedError
from agora.keys import KeyPair
from agora.relay import Relay
from tests.faults.proxy import Proxy, proxy_to, relay_behind_proxy
from tests.relay.process import relay_process
from tests.support import DEADLINE, RawPeer, agent, raw_peer

WATCHFUL = Timing(register=0.5, ping_interval=0.1, answer=0.2, retry_first=0.05, retry_cap=0.2)
BLIND = Timing(register=3_600, ping_interval=3_600, answer=3_600)

TAKEN = {Status.DELIVERED, Status.STORED, Status.DUPLICATE}

NOTICED_WITHIN = 1.0
"""Seconds: three times what a watchful client takes."""


async def is_noticed(client: Client) -> bool:
    """Wait until *client* knows that its connection is dead; tell whether it did in time."""
    try:
        async with asyncio.timeout(NOTICED_WITHIN):
            async for event in client.events():
                if isinstance(event, StateChanged) and event.state != "connected":
                    return True
    except TimeoutError:
        pass
    return False


async def numbers(client: Client, count: int) -> list[Any]:
    """Return the payloads of the next *count* messages."""
    async with asyncio.timeout(DEADLINE):
        return [(await anext(client)).payload for _ in range(count)]


def hold_up(proxy: Proxy) -> None:
    """Nothing reaches the relay."""
    proxy.up.passes.clear()


def hold_down(proxy: Proxy) -> None:
    """Nothing comes from the relay."""
    proxy.down.passes.clear()


SILENCES = [Proxy.black_hole, hold_up, hold_down]


@pytest.mark.parametrize("silence", SILENCES)
async def test_a_link_that_went_silent_is_noticed_and_nothing_is_lost(
    silence: Callable[[Proxy], None],
) -> None:
    async with (
        relay_behind_proxy() as (relay, proxy),
        agent(relay.url) as bob,
        agent(proxy.url, timing=WATCHFUL) as alice,
    ):
        await alice.send(bob.peer_id, 0)
        silence(proxy)
        sending = asyncio.gather(*(alice.send(bob.peer_id, number) for number in range(1, 20)))
        assert await is_noticed(alice)
        assert isinstance(alice.error, NoAnswerError)

        proxy.clear_up()
        receipts = await sending
        assert await numbers(bob, 20) == list(range(20))
        async with asyncio.timeout(DEADLINE):
            assert {await receipt.settled() for receipt in receipts} <= TAKEN
        await alice.send(bob.peer_id, "last")
        assert await numbers(bob, 1) == ["last"]  # so nothing came twice


async def test_without_the_watchdog_it_is_not_noticed() -> None:
    async with relay_behind_proxy() as (_, proxy), agent(proxy.url, timing=BLIND) as alice:
        proxy.black_hole()

        assert not await is_noticed(alice)
        assert alice.is_connected
        proxy.clear_up()


async def test_an_idle_link_that_is_well_is_left_alone() -> None:
    async with (
        relay_behind_proxy() as (_, proxy),
        agent(proxy.url, timing=WATCHFUL),
        agent(proxy.url, timing=WATCHFUL) as alice,
    ):
        assert not await is_noticed(alice)
        assert proxy.accepted == 2


# The relay's side


async def hears_offline(peer: RawPeer, gone: str) -> bool:
    """Tell whether *peer* is told in time that another is offline."""
    try:
        async with asyncio.timeout(NOTICED_WITHIN):
            while await peer.hear() != {"type": "peer_offline", "publicKey": gone}:
                pass
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize(("heartbeat", "is_noticed"), [(0.2, True), (0.0, False)])
async def test_a_peer_whose_link_went_silent_goes_offline_by_the_heartbeat(
    heartbeat: float, is_noticed: bool
) -> None:
    async with (
        relay_behind_proxy(heartbeat_interval=heartbeat) as (relay, proxy),
        raw_peer(relay.url) as observer,
        agent(proxy.url, timing=BLIND) as silent,
    ):
        proxy.black_hole()

        assert await hears_offline(observer, silent.peer_id) is is_noticed
        proxy.clear_up()


@pytest.mark.parametrize(("heartbeat", "is_back"), [(0.2, True), (0.0, False)])
async def test_a_link_dead_one_way_under_constant_news_is_ended_by_the_relay(
    heartbeat: float, is_back: bool
) -> None:
    async with (
        relay_behind_proxy(heartbeat_interval=heartbeat, rate_limit_enabled=False) as (
            relay,
            proxy,
        ),
        raw_peer(relay.url) as news,
        agent(proxy.url, timing=WATCHFUL) as alice,
        asyncio.TaskGroup() as group,
    ):
        hold_up(proxy)
        chatter = group.create_task(_chatter(news, alice.peer_id))
        noticed = await is_noticed(alice)
        chatter.cancel()

        assert noticed is is_back
        proxy.clear_up()


async def _chatter(sender: RawPeer, to: str) -> None:
    """Send without end, so that the recipient's watchdog has nothing to bark at."""
    while True:
        await sender.send(to)
        await asyncio.sleep(0.02)  # ten times as often as it listens for


async def test_mail_on_a_link_that_went_silent_comes_on_the_next() -> None:
    keys = KeyPair.generate()

    async with (
        relay_behind_proxy() as (relay, proxy),
        agent(relay.url) as alice,
        agent(proxy.url, keys, timing=WATCHFUL) as bob,
    ):
        await alice.send(bob.peer_id, 0)
        assert await numbers(bob, 1) == [0]
        proxy.black_hole()
        for number in range(1, 50):  # written to a socket that nobody hears
            alice.post(bob.peer_id, number)
        assert await is_noticed(bob)
        proxy.reset()
        proxy.clear_up()

        assert await numbers(bob, 49) == list(range(1, 50))


# Resets


async def test_a_reset_in_the_middle_of_a_frame_loses_nothing() -> None:
    async with (
        relay_behind_proxy() as (relay, proxy),
        agent(relay.url) as bob,
        agent(proxy.url) as alice,
    ):
        for number in range(5):
            proxy.up.resets_after = 1_000 * (number + 1)
            await alice.send(bob.peer_id, [number, "x" * 10_000])
            (payload,) = await numbers(bob, 1)
            assert payload[0] == number

        assert proxy.accepted == 6


async def test_without_reconnection_a_reset_is_the_end() -> None:
    async with relay_behind_proxy() as (_, proxy):
        alice = agent(proxy.url, reconnect=False)
        await alice.connect()
        proxy.reset()
        with pytest.raises(NoAnswerError, match="the connection was lost"):
            await asyncio.wait_for(anext(alice), DEADLINE)
        assert alice.state is ConnectionState.CLOSED


async def test_a_storm_of_resets_loses_nothing_and_doubles_nothing() -> None:
    chance = random.Random(7)

    async with (
        proxy_to() as up,
        proxy_to() as down,
        Relay(port=0, rate_limit_enabled=False, public_name=(up.name, down.name)) as relay,
    ):
        up.lead_to(relay.url)
        down.lead_to(relay.url)
        await _talk_through_a_storm(chance, up, down)


async def _talk_through_a_storm(chance: random.Random, up: Proxy, down: Proxy) -> None:
    async with (
        agent(up.url, rate_limit=None) as alice,
        agent(down.url) as bob,
        asyncio.TaskGroup() as group,
    ):
        down.down.chunk, down.down.delay = 1_000, 0.001  # what is cut off was not there yet
        storm = group.create_task(_storm(chance, up, down))
        sending = asyncio.gather(*(alice.send(bob.peer_id, number) for number in range(200)))
        received = await numbers(bob, 200)
        receipts = await sending
        async with asyncio.timeout(DEADLINE):
            assert {await receipt.settled() for receipt in receipts} <= TAKEN
        storm.cancel()
        for proxy in (up, down):
            proxy.clear_up()
        await alice.send(bob.peer_id, "last")

        assert received == list(range(200))
        assert await numbers(bob, 1) == ["last"]
        assert min(up.accepted, down.accepted) > 3


async def _storm(chance: random.Random, *proxies: Proxy) -> None:
    """Cut a connection whenever the last cut is over, after some thousand bytes."""
    while True:
        for proxy in proxies:
            for direction in (proxy.up, proxy.down):
                if direction.resets_after is None:
                    direction.resets_after = chance.randrange(20_000)
        await asyncio.sleep(0.01)  # the pace of the storm


# Slowness


async def test_bytes_that_trickle_one_by_one_are_understood_all_the_same() -> None:
    async with relay_behind_proxy() as (_, proxy):
        proxy.up.chunk = proxy.down.chunk = 1
        async with agent(proxy.url) as alice, agent(proxy.url) as bob:
            for number in range(3):
                await alice.send(bob.peer_id, [number, "ü" * 500])

            assert [payload[0] for payload in await numbers(bob, 3)] == [0, 1, 2]


async def test_latency_changes_no_order_and_raises_no_alarm() -> None:
    async with relay_behind_proxy() as (relay, proxy):
        proxy.up.delay = proxy.down.delay = 0.05
        async with agent(proxy.url, timing=WATCHFUL) as alice, agent(relay.url) as bob:
            receipts = await asyncio.gather(*(alice.send(bob.peer_id, n) for n in range(5)))

            assert await numbers(bob, 5) == list(range(5))
            async with asyncio.timeout(DEADLINE):
                assert {await receipt.settled() for receipt in receipts} <= TAKEN
        assert proxy.accepted == 1


async def test_a_slow_link_full_of_mail_is_no_dead_link() -> None:
    keys = KeyPair.generate()

    async with relay_behind_proxy(heartbeat_interval=0.3) as (relay, proxy):
        async with agent(relay.url, keys):
            pass
        async with agent(relay.url) as alice:
            for number in range(40):
                await alice.send(keys.peer_id, [number, "x" * 10_000])
        proxy.down.chunk, proxy.down.delay = 1_000, 0.003  # so it takes over a second
        async with agent(proxy.url, keys) as bob:
            payloads = await numbers(bob, 40)

        assert [payload[0] for payload in payloads] == list(range(40))
        assert "closed" not in relay.counts
        assert proxy.accepted == 1


async def test_a_handshake_that_is_not_answered_is_given_up() -> None:
    async with relay_behind_proxy() as (_, proxy):
        proxy.black_hole()

        with pytest.raises(NotConnectedError, match="timed out"):
            await open_websocket(proxy.url, TransportOptions(open_timeout=0.1, proxy=None))


# A relay that stands still


async def test_a_relay_that_stands_still_is_noticed_and_found_again_when_it_goes_on() -> None:
    async with (
        relay_process(ack_timeout=0.2) as relay,
        agent(relay.url, timing=WATCHFUL) as alice,
    ):
        relay.process.send_signal(signal.SIGSTOP)
        try:
            assert await is_noticed(alice)
            receipt = await alice.send(alice.peer_id, "patience")
            assert receipt.status is Status.QUEUED
        finally:
            relay.process.send_signal(signal.SIGCONT)

        assert await numbers(alice, 1) == ["patience"]
        async with asyncio.timeout(DEADLINE):
            assert await receipt.settled() in TAKEN
