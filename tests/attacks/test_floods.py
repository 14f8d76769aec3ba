"""Whoever sends too much, or takes nothing in, costs what is stated and harms nobody else."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode

from agora.codes import CloseCode, ErrorCode
from agora.keys import KeyPair
from agora.relay import Relay
from fuzzing import frames
from fuzzing.material import KEYS, TOKENS
from fuzzing.mutation import mutated
from tests.faults.speaker import TAKEN, Refused, Speaker, envelope_from, opened, speaker
from tests.faults.stage import Target, free_port, relay_command
from tests.support import cpu_seconds, resident_bytes
from tests.wire import frame, opened_wire

ALICE, BOB = (KeyPair.from_seed(bytes([number] * 32)) for number in (1, 2))

MEGABYTE = 1_000_000
HOUR_MS = 3_600_000

ELSEWHERE = ("127.0.0.2", 0)
"""Another address of this machine's own, to attack from."""


def amounts(*, short: int, long: int) -> pytest.MarkDecorator:
    """Parametrize a test with how much of it there is, in CI and at leisure."""
    marks = [pytest.mark.long, pytest.mark.timeout(1_200)]
    return pytest.mark.parametrize(
        "amount", [pytest.param(short, id="short"), pytest.param(long, id="long", marks=marks)]
    )


async def assert_serves(url: str) -> None:
    """Others are served as ever."""
    async with speaker(url, ALICE) as alice, speaker(url, BOB) as bob:
        envelope = await alice.send(BOB.peer_id, "as ever")
        assert await bob.payloads(1) == ["as ever"]
        assert await alice.answer_to(envelope) in TAKEN


# Malformed frames


@amounts(short=5_000, long=100_000)
async def test_malformed_frames_are_answered_as_documented_and_the_relay_lives_on(
    amount: int, tmp_path: Path
) -> None:
    port = free_port()
    command = relay_command(port, tmp_path / "relay", rate_limit_enabled=False, freshness_past=0)
    target = await Target(command, port, tmp_path / "log").start()
    said: Counter[str] = Counter()
    try:
        async with asyncio.TaskGroup() as group:
            for seed in range(4):
                group.create_task(talk_nonsense(target.url, seed, amount // 4, said))
        await assert_serves(target.url)
    finally:
        await target.kill()

    assert target.faults() == []
    refused = {"invalid_message", "invalid_envelope", "not_registered", "recipient_mismatch"}
    assert {*refused, "message"} <= set(said)
    print(f"malformed frames: {amount:,}, answered by {dict(said.most_common())}")


async def talk_nonsense(url: str, seed: int, count: int, said: Counter[str]) -> None:
    """Say mutated frames on one connection after the other, before and after a proof."""
    chance = random.Random(seed)
    while count > 0:
        burst = min(count, chance.randrange(1, 200))
        count -= burst
        async with opened(url, KEYS) as peer:  # whose envelopes they once were
            try:
                if chance.random() < 0.8:
                    await peer.register()
                if peer.challenge and chance.random() < 0.9:
                    await peer.authenticate()
                await say_nonsense(peer, chance, burst, said)
            except (Refused, ConnectionClosed):
                code = await peer.close_code()
                assert code in {*CloseCode, 1006}, "a documented end"
                said[f"close {code}"] += 1


async def say_nonsense(
    peer: Speaker, chance: random.Random, count: int, said: Counter[str]
) -> None:
    """Say mutated frames, and count the answers to them."""
    for _ in range(count):
        data = mutated(chance, frames.CORPUS, TOKENS)
        # A text frame of what is not UTF-8 is refused by the library that would send it.
        await peer.socket.send(data, text=data.isascii() and chance.random() < 0.9)
    for answer in await peer.answers():
        code = ErrorCode(answer["code"]) if answer["type"] == "error" else answer["type"]
        said[str(code)] += 1


async def test_a_text_that_is_no_utf_8_closes_with_1007(relay: Relay) -> None:
    async with opened_wire(relay.url) as wire:
        wire.write(frame(Opcode.TEXT, b'{"type":"\xff\xfe"}'))

        assert await wire.read_close() == CloseCode.INVALID_TEXT
    await assert_serves(relay.url)


# Compression


async def test_compression_is_offered_and_not_taken(relay: Relay) -> None:
    async with opened(relay.url, compression="deflate") as peer:
        assert peer.socket.response is not None
        assert "Sec-WebSocket-Extensions" not in peer.socket.response.headers
        assert peer.socket.protocol.extensions == []


async def test_a_compressed_frame_is_refused_unread(relay: Relay) -> None:
    bomb = bytearray(frame(Opcode.TEXT, b"\x00" * 100))
    bomb[0] |= 0x40  # RSV1: "compressed", which nobody agreed on (RFC 7692 section 6)

    async with opened_wire(relay.url) as wire:
        wire.write(bytes(bomb))
        assert await wire.read_close() == CloseCode.PROTOCOL_ERROR


# Floods


async def test_connections_that_say_nothing_are_closed_and_cost_nobody_a_place() -> None:
    async with (
        Relay(port=0, register_timeout=0.3) as relay,
        speaker(relay.url, ALICE) as alice,
        AsyncExitStack() as flood,
    ):
        peers = [await flood.enter_async_context(opened(relay.url)) for _ in range(100)]
        assert await alice.answers() == []

        codes = {await peer.close_code() for peer in peers}
        assert codes == {CloseCode.REGISTER_TIMEOUT}
        assert await alice.answers() == []


async def test_joins_from_one_address_are_limited_and_others_come_in() -> None:
    async with Relay(port=0, rate_limit_max_joins=10, rate_limit_window_ms=HOUR_MS) as relay:
        refused = []
        for _ in range(15):
            async with opened(relay.url, local_addr=ELSEWHERE) as mallory:
                try:
                    await mallory.register()
                    await mallory.authenticate()
                except Refused as refusal:
                    refused.append(refusal.frame)

        assert [frame["code"] for frame in refused] == ["rate_limited"] * 5
        assert all(frame["retryAfterMs"] > 0 for frame in refused)
        await assert_serves(relay.url)


async def test_new_keys_from_one_address_are_limited_and_others_are_pinned() -> None:
    async with Relay(port=0, max_pins_per_address=5) as relay:
        answers: Counter[str | None] = Counter()
        for _ in range(8):
            async with opened(relay.url, local_addr=ELSEWHERE) as mallory:
                await mallory.register()
                try:
                    await mallory.authenticate()
                    answers["registered"] += 1
                except Refused as refusal:
                    answers[refusal.code] += 1

        assert answers == {"registered": 5, "rate_limited": 3}
        await assert_serves(relay.url)


async def test_when_there_is_no_room_for_a_pin_those_who_have_one_keep_it() -> None:
    async with Relay(port=0, max_pins=2) as relay:
        await assert_serves(relay.url)
        async with opened(relay.url) as third:
            await third.register()
            with pytest.raises(Refused, match="at_capacity"):
                await third.authenticate()

        await assert_serves(relay.url)


async def test_many_keys_of_one_address_share_one_rate_and_others_have_theirs() -> None:
    async with Relay(
        port=0, rate_limit_max_address_messages=20, rate_limit_window_ms=HOUR_MS
    ) as relay:
        codes: Counter[str] = Counter()
        for _ in range(6):
            async with opened(relay.url, local_addr=ELSEWHERE) as mallory:
                await mallory.register()
                await mallory.authenticate()
                letters = [await mallory.send(BOB.peer_id) for _ in range(5)]
                codes.update([await mallory.answer_to(letter) for letter in letters])

        assert codes["rate_limited"] == 10
        await assert_serves(relay.url)


async def test_what_was_rate_limited_was_not_taken_and_may_come_again() -> None:
    async with (
        Relay(port=0, rate_limit_max_messages=2, rate_limit_window_ms=200) as relay,
        speaker(relay.url, ALICE) as alice,
        speaker(relay.url, BOB) as bob,
    ):
        letters = [await alice.send(BOB.peer_id, number) for number in range(3)]
        assert await bob.payloads(2) == [0, 1]
        error = await alice.wait("error", id=letters[2].id, to=BOB.peer_id)
        assert error["code"] == "rate_limited"
        await asyncio.sleep(error["retryAfterMs"] / 1_000)  # as it was told to
        await alice.submit(letters[2], BOB.peer_id)

        assert await bob.payloads(1) == [2]
        assert await alice.answer_to(letters[2]) in TAKEN


async def test_a_flood_of_messages_on_some_connections_does_not_make_others_wait(
    tmp_path: Path,
) -> None:
    port = free_port()
    target = await Target(relay_command(port, tmp_path / "relay"), port, tmp_path / "log").start()
    try:
        async with (
            speaker(target.url, ALICE) as alice,
            speaker(target.url, BOB) as bob,
            asyncio.TaskGroup() as group,
        ):
            floods = [group.create_task(flood(target.url)) for _ in range(3)]
            waits = []
            for number in range(9):
                before = cpu_seconds(target.pid)
                await alice.send(BOB.peer_id, number)
                assert await bob.payloads(1) == [number]
                waits.append(cpu_seconds(target.pid) - before)
            for task in floods:
                task.cancel()
    finally:
        await target.kill()

    assert sorted(waits)[len(waits) // 2] < 0.5


async def flood(url: str) -> None:
    """Send messages as fast as the relay answers, and throw its answers away."""
    nobody = KeyPair.from_seed(bytes([9] * 32))
    async with opened(url, local_addr=ELSEWHERE) as mallory, asyncio.TaskGroup() as group:
        await mallory.register()
        await mallory.authenticate()
        group.create_task(throw_away(mallory))
        letter = envelope_from(mallory.keys, nobody.peer_id, "x" * 1_000).to_dict()
        said = {"type": "message", "to": nobody.peer_id, "envelope": letter}
        burst = frame(Opcode.TEXT, json.dumps(said).encode()) * 500
        while True:
            mallory.socket.transport.write(burst)
            await (await mallory.socket.ping())


async def throw_away(peer: Speaker) -> None:
    """Read, so that the flood is not stopped by its own answers."""
    while True:
        await peer.socket.recv()


async def test_the_same_message_said_again_while_it_flies_does_not_pile_up(relay: Relay) -> None:
    async with speaker(relay.url, ALICE) as alice, speaker(relay.url, BOB) as bob:
        envelope = await alice.send(BOB.peer_id)
        for _ in range(200):
            await alice.submit(envelope, BOB.peer_id)
        assert await bob.payloads(1) == ["hello"]

        answers = [await alice.answer_to(envelope) for _ in range(201)]
        assert set(answers) <= {"delivered", "stored", "duplicate"}
        assert await bob.answers() == []


# Those who do not read


@amounts(short=20, long=100)
async def test_a_reader_that_never_reads_costs_its_stated_bound_and_loses_nothing(
    amount: int, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "rate_limit_enabled": False,
        "ack_timeout": 0.5,
        "mailbox_max_bytes": 400 * MEGABYTE,
        "mailbox_sender_share": 1.0,
    }
    port, text = free_port(), "x" * 200_000
    command = relay_command(port, tmp_path / "relay", **settings)
    target = await Target(command, port, tmp_path / "log").start()
    try:
        await warm_up(target.url, text)
        before = resident_bytes(target.pid)
        most = 0
        async with speaker(target.url, ALICE) as alice, unread(target.url):
            for number in range(amount * MEGABYTE // len(text)):
                envelope = await alice.send(BOB.peer_id, [number, text])
                assert await alice.answer_to(envelope) in TAKEN
                most = max(most, resident_bytes(target.pid) - before)
        async with speaker(target.url, BOB) as bob:
            received = [payload[0] for payload in await bob.payloads(number + 1)]
    finally:
        await target.kill()

    print(f"a reader that never reads: {amount} MB sent, {most / MEGABYTE:.1f} MB more in memory")
    assert received == list(range(number + 1))
    assert target.faults() == []
    # max_unsent_bytes and window_bytes, 1.5 MiB; the rest is SQLite's and the allocator's.
    assert most < 8 * MEGABYTE


async def warm_up(url: str, text: str) -> None:
    """Have the relay allocate once what it allocates for any large message, stored or live."""
    async with speaker(url, ALICE) as alice, speaker(url, BOB):
        pass
    async with speaker(url, ALICE) as alice:
        for _ in range(5):
            assert await alice.answer_to(await alice.send(BOB.peer_id, text)) == "stored"
        async with speaker(url, BOB) as bob:
            await bob.payloads(5)
            await bob.answers()


@asynccontextmanager
async def unread(url: str) -> AsyncIterator[Speaker]:
    """Register Bob on a connection that takes next to nothing in from then on."""
    async with opened(url, BOB, max_queue=1) as stuck:
        await stuck.register()
        await stuck.authenticate()
        stuck.socket.transport.pause_reading()
        yield stuck
        stuck.drop()


@amounts(short=20, long=100)
async def test_a_reader_without_a_mailbox_that_never_reads_costs_its_stated_bound(
    amount: int, tmp_path: Path
) -> None:
    port, text = free_port(), "x" * 200_000
    command = relay_command(port, tmp_path / "relay", rate_limit_enabled=False, mailboxes="none")
    target = await Target(command, port, tmp_path / "log").start()
    try:
        async with speaker(target.url, ALICE) as alice, unread(target.url):
            await alice.answers()
            before = resident_bytes(target.pid)
            for number in range(amount * MEGABYTE // len(text)):
                await alice.send(BOB.peer_id, [number, text])
            heard = Counter(frame.get("code", frame["type"]) for frame in await alice.answers())
            grown = resident_bytes(target.pid) - before
    finally:
        await target.kill()

    print(f"without a mailbox: {amount} MB sent, {grown / MEGABYTE:.1f} MB more, {dict(heard)}")
    assert set(heard) <= {"unavailable", "unknown_recipient"}
    assert sum(heard.values()) >= amount * MEGABYTE // len(text) - 20
    assert grown < 8 * MEGABYTE


async def test_broadcasts_to_a_reader_that_never_reads_end_it_as_a_slow_consumer(
    relay: Relay,
) -> None:
    async with (
        speaker(relay.url, ALICE, presence=[BOB.peer_id]) as alice,
        unread(relay.url),
    ):
        await alice.wait("presence", online=[{"publicKey": BOB.peer_id}])
        while relay.counts.get("closed") is None:
            envelope = envelope_from(ALICE, "*", "x" * 100_000)
            await alice.say({"type": "broadcast", "envelope": envelope.to_dict()})
            assert await alice.answer_to(envelope, "*") == "sent"

        await alice.wait("presence", offline=[BOB.peer_id])
        assert relay.counts["closed"] == 1


async def test_a_frame_over_the_rate_is_answered_for_each_of_its_recipients() -> None:
    both = [BOB.peer_id, KeyPair.from_seed(bytes([3] * 32)).peer_id]

    async with (
        Relay(port=0, rate_limit_max_frames=3, rate_limit_window_ms=HOUR_MS) as relay,
        speaker(relay.url, ALICE) as alice,
    ):
        letters = [envelope_from(ALICE, both, number) for number in range(3)]
        for letter in letters:
            await alice.submit(letter, both)

        answers = {to: await alice.answer_to(letters[-1], to) for to in both}
        assert answers == dict.fromkeys(both, "rate_limited")
