"""How a relay starts and stops, and how it does not."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close, Opcode

from agora.errors import ClosedError, ConfigurationError
from agora.keys import KeyPair
from agora.protocol.relay.admission import Remembered
from agora.relay import Relay, RelayConfig
from agora.relay.taken_file import read_taken, write_taken
from agora.sealing import now_ms
from tests.support import DEADLINE, close_code, eventually, letter, other_tasks, raw_peer, socket_to
from tests.wire import HANDSHAKE, frame, opened_wire, wire_to


async def test_a_relay_that_stops_says_going_away_and_nothing_about_others() -> None:
    async with Relay(port=0) as relay, raw_peer(relay.url) as alice, raw_peer(relay.url) as bob:
        assert (await alice.hear())["type"] == "peer_online"
        await relay.close()

        for peer in (alice, bob):
            with pytest.raises(ConnectionClosed) as closed:
                await peer.hear()
            assert closed.value.rcvd == Close(1001, "going_away")


async def test_what_is_being_stored_when_a_relay_stops_is_committed_and_answered(
    tmp_path: Path,
) -> None:
    sleeper = KeyPair.generate()
    settings: dict[str, Any] = {
        "port": 0,
        "data_dir": tmp_path,
        "storage_peers": (sleeper.peer_id,),
    }

    async with Relay(**settings) as relay, raw_peer(relay.url) as alice:
        for number in range(5):
            await alice.send(sleeper.peer_id, number)
        await alice.say({"type": "ping"})
        await eventually(lambda: "stored" in relay.counts)  # it is in the middle of it
        await relay.close()
        heard = [json.loads(text) async for text in alice.socket]
    async with Relay(**settings) as relay, raw_peer(relay.url, sleeper) as peer:
        stored = await peer.payloads(5)

    assert heard == [{"type": "pong"}]
    assert stored == list(range(5))


async def test_a_relay_that_stops_takes_no_new_connection() -> None:
    async with Relay(port=0) as relay:
        url = relay.url

    with pytest.raises(ConnectionRefusedError):
        async with socket_to(url):
            pass


@pytest.mark.parametrize("begun", [b"", HANDSHAKE[:40]])
async def test_half_a_handshake_does_not_hold_up_the_stop(begun: bytes) -> None:
    async with Relay(port=0, drain_timeout=60.0) as relay, wire_to(relay.url) as wire:
        wire.write(begun)
        async with raw_peer(relay.url):
            pass  # by now the relay has it
        async with asyncio.timeout(DEADLINE):  # half of what it may wait for others
            await relay.close()

        assert await wire.read_to_end() == b""


async def test_a_client_that_does_not_take_its_goodbye_is_dropped_after_the_drain_timeout() -> None:
    async with Relay(port=0, drain_timeout=0.1) as relay, opened_wire(relay.url) as wire:
        wire.register(KeyPair.generate())
        await wire.read()
        began = time.monotonic()
        await relay.close()

        assert 0.1 <= time.monotonic() - began < 5  # which it has to answer a close


async def test_what_was_written_before_the_stop_is_read_before_the_goodbye() -> None:
    async with (
        Relay(port=0) as relay,
        raw_peer(relay.url) as alice,
        opened_wire(relay.url) as slow,
    ):
        bob = KeyPair.generate()
        slow.register(bob)
        for number in range(10):
            await alice.send(bob.peer_id, [number, "x" * 100_000])
        await alice.answers()
        stopping = asyncio.gather(relay.close(), close_code(alice.socket))

        texts, answer = [], await slow.read()
        while answer.opcode is Opcode.TEXT:
            texts.append(json.loads(answer.data))
            answer = await slow.read()
        slow.abort()
        await stopping

    assert [t["envelope"]["payload"][0] for t in texts if t["type"] == "message"] == [*range(10)]
    assert answer.close_code == 1001


@pytest.mark.parametrize("door", ["url", "http_url"])
async def test_who_is_accepted_in_the_turn_of_the_stop_is_let_go_too(door: str) -> None:
    loop = asyncio.get_running_loop()
    async with Relay(port=0, http_port=0) as relay:
        place = urlsplit(getattr(relay, door))
        for _ in range(3):
            await asyncio.sleep(0)
        with socket.create_connection((place.hostname, place.port)) as late:
            late.setblocking(False)
            for _ in range(2):  # it is accepted in the second
                await asyncio.sleep(0)
            await relay.close()

            with contextlib.suppress(ConnectionResetError):
                async with asyncio.timeout(DEADLINE):
                    assert await loop.sock_recv(late, 1) == b""
    gc.collect()  # a connection that is lost says so now


async def test_a_stop_that_is_cancelled_at_once_listens_no_more() -> None:
    relay = Relay(port=0)
    await relay.start()
    url = relay.url
    async with asyncio.TaskGroup() as tasks:
        stopping = tasks.create_task(relay.close())
        await asyncio.sleep(0)
        stopping.cancel()

    with pytest.raises(ConnectionRefusedError):
        async with socket_to(url):
            pass
    assert other_tasks() == set()


async def test_closing_twice_is_harmless() -> None:
    async with Relay(port=0) as relay:
        await asyncio.gather(relay.close(), relay.close())
        await relay.close()

    assert other_tasks() == set()


async def test_a_closed_relay_does_not_start_again() -> None:
    async with Relay(port=0) as relay:
        pass

    with pytest.raises(ClosedError):
        await relay.start()


async def test_a_relay_that_never_started_closes() -> None:
    relay = Relay(port=0)

    await relay.close()


async def test_starting_twice_is_harmless() -> None:
    async with Relay(port=0) as relay:
        url = relay.url
        await relay.start()

        assert relay.url == url
        async with raw_peer(url):
            pass


async def test_a_relay_whose_port_is_taken_says_so_and_lets_go_of_its_data(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        relay = Relay(port=taken.getsockname()[1], data_dir=tmp_path)
        with pytest.raises(OSError, match="in use"):
            await relay.start()
        await relay.close()

    async with Relay(port=0, data_dir=tmp_path):
        pass


async def test_a_relay_that_cannot_start_leaves_what_was_taken_to_the_next(tmp_path: Path) -> None:
    path, before = tmp_path / "taken-ids", Remembered(("one",), ((1.0, 1),))
    write_taken(path, before, last_position=0, now_ms=now_ms())
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(OSError, match="in use"),
    ):
        await Relay(port=taken.getsockname()[1], data_dir=tmp_path).start()

    left = read_taken(path, last_position=0, now_ms=now_ms())
    assert left is not None
    assert left.ids == before.ids


async def test_a_relay_with_a_bad_certificate_does_not_start(tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")

    for path in (nonsense, tmp_path / "absent.pem"):
        with pytest.raises(ConfigurationError, match=path.name):
            await Relay(port=0, tls_cert=path, tls_key=path).start()


async def test_a_relay_restarts_on_its_port_while_old_connections_linger() -> None:
    async with Relay(port=0) as relay:
        port = relay.port
        async with raw_peer(relay.url) as alice:
            await relay.close()
            async with Relay(RelayConfig(port=port)) as heir, raw_peer(heir.url, alice.keys):
                pass


async def test_the_url_of_an_ipv6_relay_has_brackets() -> None:
    async with Relay(host="::1", port=0) as relay, raw_peer(relay.url) as alice:
        assert relay.url == f"ws://[::1]:{relay.port}"
        assert await alice.answers() == []


async def test_a_stop_that_is_cancelled_leaves_nothing_running() -> None:
    relay = Relay(port=0, drain_timeout=60.0)
    await relay.start()
    async with opened_wire(relay.url) as wire:
        stop = asyncio.get_running_loop().create_task(relay.close())
        assert await wire.read_close() == 1001
        stop.cancel()
        await asyncio.wait([stop])

        assert await wire.read_to_end() == b""
    assert stop.cancelled()


async def test_nothing_is_taken_after_the_stop_began() -> None:
    async with Relay(port=0) as relay, raw_peer(relay.url) as alice, opened_wire(relay.url) as wire:
        bob = KeyPair.generate()
        wire.register(bob)
        await wire.read()
        stop = asyncio.get_running_loop().create_task(relay.close())
        assert await close_code(alice.socket) == 1001
        envelope = letter(bob, bob.peer_id).to_dict()
        wire.say({"type": "message", "to": bob.peer_id, "envelope": envelope})
        assert await wire.read_close() == 1001
        wire.write(frame(Opcode.CLOSE))

        assert await wire.read_to_end() == b""
        wire.abort()
        await stop
