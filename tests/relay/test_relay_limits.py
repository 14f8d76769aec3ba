"""Every bound of a relay, reached: what it answers, with which code it closes, who stays."""

from __future__ import annotations

import asyncio
import json

import pytest
from websockets.exceptions import InvalidStatus
from websockets.frames import Opcode

from agora.keys import KeyPair
from agora.relay import Relay, RelayConfig
from agora.relay.config import from_environment
from tests.support import close_code, letter, next_frame, raw_peer, socket_to
from tests.wire import frame, opened_wire

# Rates


async def test_one_message_too_many_is_told_how_long_to_wait_and_then_goes_through() -> None:
    config = RelayConfig(port=0, rate_limit_max_messages=3, rate_limit_window_ms=600)

    async with Relay(config) as relay, raw_peer(relay.url) as alice:
        for _ in range(3):
            await alice.send(alice.id)
        envelope = await alice.send(alice.id)
        *taken, error = await alice.answers()

        assert [frame["type"] for frame in taken] == ["message"] * 3
        assert error["code"] == "rate_limited"
        assert (error["id"], error["to"]) == (envelope.id, alice.id)
        assert 0 < error["retryAfterMs"] <= 200  # a third of the window brings one back

        await asyncio.sleep(error["retryAfterMs"] / 1000)  # as told, and no longer
        again = {"type": "message", "to": alice.id, "envelope": envelope.to_dict()}
        await alice.say(again)
        (heard,) = await alice.answers()
        assert heard["envelope"]["id"] == envelope.id


async def test_a_broadcast_counts_for_ten_messages() -> None:
    async with Relay(port=0, rate_limit_max_messages=20) as relay, raw_peer(relay.url) as alice:
        for _ in range(2):
            envelope = letter(alice.keys, "*")
            await alice.say({"type": "broadcast", "envelope": envelope.to_dict()})
        assert await alice.answers() == []

        await alice.send(alice.id)
        (error,) = await alice.answers()
        assert error["code"] == "rate_limited"


async def test_the_rate_is_that_of_a_key_over_all_its_sessions() -> None:
    keys = KeyPair.generate()

    async with (
        Relay(port=0, rate_limit_max_messages=2) as relay,
        raw_peer(relay.url) as bob,
        raw_peer(relay.url, keys) as first,
        raw_peer(relay.url, keys) as second,
    ):
        for session in (first, second):
            await session.send(bob.id)
            assert await session.answers() == []

        await first.send(bob.id)
        (error,) = await first.answers()
        assert error["code"] == "rate_limited"
        await bob.send(keys.peer_id)  # others are not limited by it
        assert (await first.hear())["type"] == "message"


async def test_forged_messages_do_not_use_up_the_rate_of_a_key() -> None:
    async with Relay(port=0, rate_limit_max_messages=2) as relay, raw_peer(relay.url) as alice:
        forged = letter(alice.keys, alice.id).to_dict() | {"signature": "00" * 64}
        for _ in range(5):
            await alice.say({"type": "message", "to": alice.id, "envelope": forged})
        assert {error["code"] for error in await alice.answers()} == {"invalid_envelope"}

        await alice.send(alice.id)
        assert (await alice.hear())["type"] == "message"


async def test_frames_of_any_kind_are_limited_for_each_connection() -> None:
    async with Relay(port=0, rate_limit_max_frames=5) as relay, socket_to(relay.url) as socket:
        for _ in range(6):
            await socket.send("nonsense")

        codes = [(await next_frame(socket))["code"] for _ in range(6)]
        assert codes == ["invalid_message"] * 5 + ["rate_limited"]
        async with raw_peer(relay.url) as other:
            assert await other.answers() == []


async def test_the_environment_switches_every_rate_limit_off() -> None:
    settings = from_environment({"AGORA_RATE_LIMIT_ENABLED": "false", "AGORA_PORT": "0"})
    settings |= {"rate_limit_max_messages": 1, "rate_limit_max_frames": 1}

    async with Relay(RelayConfig(**settings)) as relay, raw_peer(relay.url) as alice:
        for _ in range(100):
            await alice.send(alice.id)

        heard = await alice.answers()
        assert [frame["type"] for frame in heard] == ["message"] * 100


# Capacity


async def test_a_connection_too_many_is_turned_away_with_http_503() -> None:
    async with Relay(port=0, max_connections=2) as relay, raw_peer(relay.url) as alice:
        async with socket_to(relay.url):  # not registered, and counts all the same
            with pytest.raises(InvalidStatus) as refusal:
                async with socket_to(relay.url):
                    pass

        assert refusal.value.response.status_code == 503
        await alice.answers()
        async with raw_peer(relay.url):
            pass  # there is room again


async def test_a_peer_too_many_is_told_so_and_closed() -> None:
    async with (
        Relay(port=0, max_peers=1) as relay,
        raw_peer(relay.url) as alice,
        raw_peer(relay.url) as excess,
    ):
        assert excess.welcome == {
            "type": "error",
            "message": "Relay is at capacity (max 1 peers)",
            "code": "at_capacity",
        }
        assert await close_code(excess.socket) == 1013
        assert await alice.answers() == []  # nobody came


async def test_a_peer_turned_away_sends_nothing_while_its_close_is_pending() -> None:
    async with (
        Relay(port=0, max_peers=1) as relay,
        raw_peer(relay.url) as alice,
        opened_wire(relay.url) as wire,
    ):
        excess = KeyPair.generate()
        wire.register(excess)
        envelope = letter(excess, alice.id).to_dict()
        wire.say({"type": "message", "to": alice.id, "envelope": envelope})
        assert await wire.read_close() == 1013

        assert await alice.answers() == []


async def test_a_further_session_of_a_peer_that_is_there_needs_no_room() -> None:
    async with (
        Relay(port=0, max_peers=1) as relay,
        raw_peer(relay.url) as alice,
        raw_peer(relay.url, alice.keys) as second,
    ):
        assert second.welcome["type"] == "registered"


async def test_a_peer_that_goes_makes_room() -> None:
    async with Relay(port=0, max_peers=1) as relay:
        async with raw_peer(relay.url):
            pass
        async with raw_peer(relay.url) as next_one:
            assert next_one.welcome["type"] == "registered"


# Sizes


async def test_the_largest_frame_passes_and_one_byte_more_is_closed_with_1009() -> None:
    async with Relay(port=0, max_frame_bytes=4096) as relay, socket_to(relay.url) as socket:
        await socket.send("x" * 4096)
        assert (await next_frame(socket))["code"] == "invalid_message"

        await socket.send("x" * 4097)
        assert await close_code(socket) == 1009


async def test_fragments_count_together() -> None:
    async with Relay(port=0, max_frame_bytes=4096) as relay, socket_to(relay.url) as socket:
        await socket.send(["x" * 2048, "x" * 2048, "x"])

        assert await close_code(socket) == 1009


async def test_a_name_has_a_longest_length() -> None:
    async with Relay(port=0, max_name_length=4) as relay, socket_to(relay.url) as socket:
        keys = KeyPair.generate()
        register = {"type": "register", "publicKey": keys.peer_id, "name": "Alice"}
        await socket.send(json.dumps(register))
        error = await next_frame(socket)
        assert error["code"] == "invalid_message"
        assert "name of 5 characters exceeds max_name_length of 4" in error["message"]

        await socket.send(json.dumps(register | {"name": "Alic"}))
        assert (await next_frame(socket))["type"] == "registered"


# Deadlines


async def test_who_does_not_register_in_time_is_closed_with_4003() -> None:
    async with Relay(port=0, register_timeout=0.1) as relay, socket_to(relay.url) as socket:
        await socket.send('{"type":"ping"}')  # which is answered, and is no registration

        assert await close_code(socket) == 4003


async def test_a_client_that_answers_no_ping_is_closed_with_4002_and_said_to_be_gone() -> None:
    keys = KeyPair.generate()

    async with (
        Relay(port=0, heartbeat_interval=0.2) as relay,
        raw_peer(relay.url) as alice,
        opened_wire(relay.url) as silent,
    ):
        silent.register(keys)
        assert (await alice.hear())["type"] == "peer_online"

        assert await silent.read_close() == 4002
        assert await alice.hear() == {"type": "peer_offline", "publicKey": keys.peer_id}


async def test_a_client_that_answers_pings_stays_however_little_it_says() -> None:
    async with (
        Relay(port=0, heartbeat_interval=0.1) as relay,
        raw_peer(relay.url) as alice,
        opened_wire(relay.url) as wire,
    ):
        wire.register(KeyPair.generate())
        pings = 0
        while pings < 5:
            answer = await wire.read()
            if answer.opcode is Opcode.PING:
                wire.write(frame(Opcode.PONG, answer.data))
                pings += 1

        assert {f["type"] for f in await alice.answers()} == {"peer_online"}


async def test_pings_of_its_own_are_signs_of_life_too() -> None:
    async with Relay(port=0, heartbeat_interval=0.2) as relay, opened_wire(relay.url) as wire:
        wire.register(KeyPair.generate())
        await wire.read()
        for _ in range(30):
            wire.write(frame(Opcode.PING, b"still here"))
            answers = [await wire.read()]
            while answers[-1].opcode is not Opcode.PONG:
                answers.append(await wire.read())
            assert Opcode.CLOSE not in {answer.opcode for answer in answers}
            await asyncio.sleep(0.02)  # the test's length: three heartbeats
