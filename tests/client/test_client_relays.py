"""Which relay it is, how it speaks, and what is asked of it at registration."""

from __future__ import annotations

import asyncio

import pytest

from agora.client import PresenceChanged, Status
from agora.client.relay_memory import RelaysInMemory
from agora.errors import ConfigurationError, RelayChangedError
from agora.keys import KeyPair
from agora.known_relays import KnownRelays
from agora.relay import Relay
from tests.client.fake_relay import fake_relay
from tests.support import DEADLINE, agent, eventually


async def test_our_relay_proves_itself_and_is_remembered(relay: Relay) -> None:
    known = RelaysInMemory()

    async with agent(relay.url, known_relays=known) as me:
        assert (me.protocol, me.relay) == (1, relay.peer_id)
    assert known.expected(relay.url) == relay.peer_id


async def test_a_relay_of_the_reference_is_told_apart_and_not_remembered() -> None:
    known = RelaysInMemory()

    async with fake_relay() as relay, agent(relay.url, connect_timeout=0, known_relays=known) as me:
        session = await relay.accept()
        await session.register()
        await eventually(lambda: me.is_connected)

        assert me.protocol == 0
    assert known.expected(relay.url) is None


async def test_a_relay_with_another_key_is_refused_for_good(tmp_path: object) -> None:
    async with Relay(port=0) as relay:
        known = RelaysInMemory()
        known.remember(relay.url, KeyPair.generate().peer_id)
        me = agent(relay.url, known_relays=known)
        with pytest.raises(RelayChangedError, match="agora known-relays forget"):
            await me.connect()
        with pytest.raises(RelayChangedError):
            await anext(me)


async def test_a_relay_that_has_changed_since_ends_the_client() -> None:
    async with Relay(port=0) as relay:
        port = relay.port
        me = agent(relay.url)
        await me.connect()
    async with Relay(port=port):
        with pytest.raises(RelayChangedError):
            await asyncio.wait_for(anext(me), DEADLINE)


async def test_a_known_relay_that_turns_up_without_proof_is_refused() -> None:
    async with fake_relay() as relay:
        known = RelaysInMemory()
        known.remember(relay.url, KeyPair.generate().peer_id)
        me = agent(relay.url, known_relays=known, connect_timeout=0)
        await me.connect()
        await (await relay.accept()).register()

        with pytest.raises(RelayChangedError, match="did not prove its key"):
            await asyncio.wait_for(anext(me), DEADLINE)


async def test_relays_are_known_by_the_file_of_known_relays(relay: Relay, tmp_path: object) -> None:
    known = KnownRelays(f"{tmp_path}/known-relays.json")

    async with agent(relay.url, known_relays=known):
        assert known.expected(relay.url) == relay.peer_id


async def test_a_file_of_known_relays_that_is_damaged_is_said_at_once(
    relay: Relay, tmp_path: object
) -> None:
    path = f"{tmp_path}/known-relays.json"
    with open(path, "w") as file:  # noqa: ASYNC230  # a test may
        file.write("nonsense")

    with pytest.raises(ConfigurationError, match="known relays"):
        await agent(relay.url, known_relays=KnownRelays(path)).connect()


# Who is there


async def test_who_only_sends_is_not_announced_and_gets_no_mail(relay: Relay) -> None:
    keys = KeyPair.generate()

    async with (
        agent(relay.url) as bob,
        agent(relay.url, keys, receive=False) as sender,
        agent(relay.url) as marker,
    ):
        sender.post(bob.peer_id, "from nobody")
        assert (await anext(bob)).payload == "from nobody"
        receipt = bob.post(keys.peer_id, "to nobody there")
        await eventually(lambda: marker.peer_id in bob.peers)

        assert keys.peer_id not in bob.peers
        assert await receipt.settled(DEADLINE) is Status.STORED


async def test_only_whom_we_watch_we_hear_of(relay: Relay) -> None:
    friend = KeyPair.generate()

    async with (
        agent(relay.url, presence=[friend.peer_id]) as me,
        agent(relay.url),
        agent(relay.url, friend),
    ):
        await eventually(lambda: list(me.peers) == [friend.peer_id])

        me.watch("all")
        await eventually(lambda: len(me.peers) == 2)
        me.watch("none")
        await eventually(lambda: me.peers == {})


async def test_presence_none_is_no_presence(relay: Relay) -> None:
    async with agent(relay.url, presence="none") as me, agent(relay.url) as other:
        other.post(me.peer_id, "hello")

        assert (await anext(me)).payload == "hello"
        assert me.peers == {}


async def test_a_state_that_did_not_change_is_no_event(relay: Relay) -> None:
    async with agent(relay.url) as me, agent(relay.url) as other:
        await eventually(lambda: other.peer_id in me.peers)
        events: list[object] = []
        me.listen(events.append)
        me.watch("all")  # answered with all who are there
        other.post(me.peer_id, "marker")
        assert (await anext(me)).payload == "marker"

        assert [event for event in events if isinstance(event, PresenceChanged)] == []


async def test_a_presence_that_is_none_is_said() -> None:
    with pytest.raises(ConfigurationError, match="presence"):
        agent("ws://127.0.0.1:1", presence="everyone")
