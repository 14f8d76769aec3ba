"""Who reads slowly or not at all: let go with a code, at no cost for the others, mail kept."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.frames import Opcode

from agora.keys import KeyPair
from agora.relay import Relay
from tests.relay.process import relay_process
from tests.support import DEADLINE, raw_peer, resident_bytes
from tests.wire import frame, narrow_socket, opened_wire

MEGABYTE = 1_000_000

PATIENT: dict[str, Any] = {"register_timeout": DEADLINE, "drain_timeout": DEADLINE}
"""Settings of a relay whose clients take long to read, on a busy machine."""


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    """A relay that waits long for who registers, and for the answer to a close."""
    async with Relay(port=0, **PATIENT) as running:
        yield running


@pytest.fixture
async def strict_relay() -> AsyncIterator[Relay]:
    """A relay that notices soon who does not read."""
    async with Relay(listen_on=narrow_socket(), max_unsent_bytes=65_536, **PATIENT) as running:
        yield running


async def test_a_reader_that_never_reads_costs_little_and_is_closed_with_4001() -> None:
    stuck, text = KeyPair.generate(), "x" * 200_000

    async with (
        relay_process(rate_limit_enabled=False, drain_timeout=DEADLINE) as relay,
        raw_peer(relay.url) as alice,
        raw_peer(relay.url) as bob,
        opened_wire(relay.url) as wire,
    ):
        await alice.send(bob.id, text)
        await bob.payloads(1)
        before = resident_bytes(relay.process.pid)
        wire.register(stuck)

        sent, codes = 0, set()
        while sent < 50 * MEGABYTE:
            await alice.send(stuck.peer_id, text)
            codes |= {f["code"] for f in await alice.answers() if f["type"] == "error"}
            sent += len(text)
            if sent % (10 * MEGABYTE) == 0:  # others are served meanwhile
                await alice.send(bob.id, sent)
                assert await bob.payloads(1) == [sent]
        grown = resident_bytes(relay.process.pid) - before

        assert codes == {"unavailable", "unknown_recipient"}
        assert grown < 8 * MEGABYTE
        assert await wire.read_close() == 4001


async def test_the_mail_of_a_reader_that_never_reads_waits_on_disk(tmp_path: Path) -> None:
    stuck, text = KeyPair.generate(), "x" * 100_000
    settings = {
        "data_dir": tmp_path,
        "storage_peers": (stuck.peer_id,),
        "mailbox_max_bytes": 100 * MEGABYTE,
        "rate_limit_enabled": False,
    }

    async with relay_process(**settings) as relay, raw_peer(relay.url) as alice:
        await alice.send(alice.id, text)
        await alice.answers()
        before = resident_bytes(relay.process.pid)
        async with opened_wire(relay.url) as wire:
            wire.register(stuck)
            for number in range(200):
                await alice.send(stuck.peer_id, [number, text])
                assert not [f for f in await alice.answers() if f["type"] == "error"]
            assert resident_bytes(relay.process.pid) - before < 8 * MEGABYTE
        async with raw_peer(relay.url, stuck) as peer:
            payloads = await peer.payloads(200)

    assert payloads == [[number, text] for number in range(200)]


async def test_a_flood_of_pings_whose_pongs_nobody_reads_is_closed_with_4001(
    strict_relay: Relay,
) -> None:
    pings = frame(Opcode.PING, b"x" * 125) * 1_000

    async with (
        opened_wire(strict_relay.url, kernel_buffer=32_768) as wire,
        asyncio.timeout(DEADLINE),
    ):
        while not strict_relay.counts.get("closed"):
            wire.write(pings)
            await wire.writer.drain()  # the relay reads as it likes: let nothing pile up here

        assert await wire.read_close() == 4001


async def test_a_flood_of_frames_whose_errors_nobody_reads_is_closed_with_4001(
    strict_relay: Relay,
) -> None:
    nonsense = frame(Opcode.TEXT, b"?") * 1_000

    async with (
        opened_wire(strict_relay.url, kernel_buffer=32_768) as wire,
        asyncio.timeout(DEADLINE),
    ):
        while not strict_relay.counts.get("closed"):
            wire.write(nonsense)
            await wire.writer.drain()  # the relay reads as it likes: let nothing pile up here

        assert await wire.read_close() == 4001


async def test_a_message_of_empty_fragments_without_end_takes_no_memory(relay: Relay) -> None:
    empty = frame(Opcode.CONT, fin=False) * 1_000

    async with opened_wire(relay.url) as wire:
        tracemalloc.start()
        wire.write(frame(Opcode.TEXT, b"{", fin=False))
        for number in range(20):
            wire.write(empty, frame(Opcode.PING, b"%d" % number))
            assert (await wire.read()).data == b"%d" % number
            if number == 0:
                before, _ = tracemalloc.get_traced_memory()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert after - before < 50_000
        wire.write(frame(Opcode.CONT, b'"type":"ping"}'))
        assert json.loads((await wire.read()).data) == {"type": "pong"}


async def test_a_slow_reader_that_catches_up_in_time_stays(relay: Relay) -> None:
    async with raw_peer(relay.url) as alice, opened_wire(relay.url) as wire:
        slow = KeyPair.generate()
        wire.register(slow)
        assert (await alice.hear())["type"] == "peer_online"
        for number in range(20):
            await alice.send(slow.peer_id, [number, "x" * 50_000])
        assert await alice.answers() == []

        payloads: list[int] = []
        while len(payloads) < 20:
            members = json.loads((await wire.read()).data)
            if members["type"] == "message":
                payloads.append(members["envelope"]["payload"][0])
        assert payloads == list(range(20))


async def test_a_stuck_session_does_not_take_the_messages_of_another(relay: Relay) -> None:
    keys, text = KeyPair.generate(), "x" * 100_000

    async with (
        raw_peer(relay.url) as alice,
        opened_wire(relay.url) as stuck,
        raw_peer(relay.url, keys) as quick,
    ):
        stuck.register(keys)
        for number in range(100):
            await alice.send(keys.peer_id, [number, text])
            assert await quick.payloads(1) == [[number, text]]

        assert [f for f in await alice.answers() if f["type"] == "error"] == []
        assert await stuck.read_close() == 4001
