"""
Everyone talks while relay, disk and clients fail in a loop: the ledger balances all the same.

What fails when is drawn from a seed, which is printed; ``FAULTS_SEED`` plays it again.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.faults.ledger import Event, Verdict
from tests.faults.part import Part
from tests.faults.proxy import Proxy, proxy_to
from tests.faults.stage import Cast, Target, free_port, parts, relay_command, until

ACK_TIMEOUT = 0.3

LONG = [pytest.mark.long, pytest.mark.timeout(1_200)]


def rounds(*, short: int, long: int) -> pytest.MarkDecorator:
    """Parametrize a test with how often its fault strikes, in CI and at leisure."""
    return pytest.mark.parametrize(
        "times", [pytest.param(short, id="short"), pytest.param(long, id="long", marks=LONG)]
    )


@pytest.fixture
def chance() -> random.Random:
    """What decides what fails when."""
    seed = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(10**6))
    print(f"FAULTS_SEED={seed}")
    return random.Random(seed)


@dataclass
class Play:
    """A relay, those who talk through it, the network between, and what decides about all."""

    target: Target
    cast: Cast
    proxy: Proxy
    chance: random.Random

    async def rest(self, longest: float) -> None:
        """Let a while pass, of a length that nobody knows."""
        await asyncio.sleep(self.chance.uniform(0, longest))

    async def curtain(self) -> Verdict:
        """Bring all to its end in fair weather, print the ledger's counts, and judge."""
        verdict = await self.cast.finish()
        print(verdict)
        return verdict


@asynccontextmanager
async def staged(
    folder: Path,
    chance: random.Random,
    *,
    in_processes: bool = False,
    program: tuple[str, ...] = ("agora",),
    **members: Any,
) -> AsyncIterator[Play]:
    """Have three peers write to three others, one of whom listens in the reference dialect."""
    async with proxy_to() as proxy:
        port = free_port()
        proxy.lead_to(f"ws://127.0.0.1:{port}")
        everyone = cast_of(proxy.url, folder, chance, **members)
        command = relay_command(
            port,
            folder / "relay",
            program=program,
            public_name=(proxy.name,),
            ack_timeout=ACK_TIMEOUT,
            heartbeat_interval=1.0,
            rate_limit_enabled=False,
            storage_peers=(everyone[0].keys.peer_id,),
        )
        target, cast = Target(command, port, folder / "relay.log"), Cast(everyone)
        try:
            await target.start()
            async with cast.playing(in_processes=in_processes):
                yield Play(target, cast, proxy, chance)
        finally:
            await target.kill()


def cast_of(url: str, folder: Path, chance: random.Random, **members: Any) -> list[Part]:
    """Return who plays; the first is the one that listens in the reference dialect."""
    manners = {"pace": 0.05, "nacks": 0.02, "pauses": 0.005, "pause": ACK_TIMEOUT * 1.5}
    seed = chance.randrange(10**6)
    everyone = parts(url, folder, senders=3, recipients=3, seed=seed, **manners | members)
    if members.get("dialect") == "client":
        return everyone
    return [replace(everyone[0], dialect="reference", nacks=0.0), *everyone[1:]]


# One fault


async def kill_the_relay(play: Play) -> None:
    """SIGKILL at any moment of its life; at times once more while it starts."""
    await play.rest(0.4)
    await play.target.kill()
    if play.chance.random() < 0.2:
        await play.target.launch()
        await play.rest(0.4)
        await play.target.kill()
    await play.target.start()


async def stop_the_relay(play: Play) -> None:
    """SIGSTOP, and SIGCONT when some may have given it up."""
    await play.rest(0.3)
    play.target.stand_still()
    await play.rest(0.6)
    play.target.go_on()


async def fill_the_disk(play: Play) -> None:
    """Refuse all writes beyond some size, for a while; at times the relay dies of it, or in it."""
    await play.rest(0.2)
    size = play.chance.choice([0, 4_096, 65_536, 262_144])
    play.target.fill_disk(size)
    await play.rest(0.5)
    if play.chance.random() < 0.3:
        await play.target.kill()
        await play.target.start()
    play.target.free_disk()


async def start_on_a_full_disk(play: Play) -> None:
    """Kill the relay, and let it find its disk full when it comes back."""
    await play.rest(0.4)
    await play.target.kill()
    await play.target.launch(max_file_bytes=0)
    await play.rest(0.8)
    await play.target.kill()
    await play.target.start()


async def kill_a_client(play: Play) -> None:
    """
    SIGKILL one of those who talk, and start it again at once, or after a while.

    Not the one that cannot ack: what its WebSocket library has confirmed dies with it.
    """
    part = play.chance.choice([part for part in play.cast.parts if part.dialect != "reference"])
    await play.cast.kill(part)
    await play.rest(0.5)
    await play.cast.enter(part)


async def turn_the_weather(play: Play) -> None:
    """Have the network do one of the things that networks do, for a while."""
    await play.rest(0.3)
    play.chance.choice(WEATHER)(play.proxy)
    await play.rest(0.8)
    play.proxy.clear_up()


def trickle(proxy: Proxy) -> None:
    """Let few bytes pass at a time, and slowly."""
    proxy.up.chunk = proxy.down.chunk = 200
    proxy.up.delay = proxy.down.delay = 0.002


def shake(proxy: Proxy) -> None:
    """Let some bytes take longer than others."""
    proxy.up.jitter = proxy.down.jitter = 0.1


def cut_what_is_said(proxy: Proxy) -> None:
    """Reset the connection in the middle of what a client says."""
    proxy.up.resets_after = proxy.chance.randrange(5_000)


def cut_what_is_heard(proxy: Proxy) -> None:
    """Reset the connection in the middle of what the relay says."""
    proxy.down.resets_after = proxy.chance.randrange(5_000)


WEATHER: list[Callable[[Proxy], None]] = [
    Proxy.black_hole,
    Proxy.hold_present,
    Proxy.reset,
    Proxy.forget_clients,
    Proxy.forget_relay,
    trickle,
    shake,
    cut_what_is_said,
    cut_what_is_heard,
]

Fault = Callable[[Play], Awaitable[None]]


# Each in a loop


async def run(play: Play, times: int, *faults: Fault) -> Verdict:
    """Let faults strike, one after the other, and return what the ledger says."""
    await until(lambda: play.cast.count(Event.RECEIPT) > 20)
    for _ in range(times):
        await play.chance.choice(faults)(play)
    return await play.curtain()


@rounds(short=3, long=100)
async def test_a_relay_killed_again_and_again_keeps_every_receipt(
    times: int, tmp_path: Path, chance: random.Random
) -> None:
    async with staged(tmp_path, chance) as play:
        verdict = await run(play, times, kill_the_relay)

    assert verdict.violations == ()
    assert verdict.counts["receipt delivered"] > 0
    assert verdict.counts["receipt stored"] > 0
    assert play.target.faults() == []


@rounds(short=3, long=40)
async def test_a_relay_stopped_and_continued_keeps_every_receipt(
    times: int, tmp_path: Path, chance: random.Random
) -> None:
    async with staged(tmp_path, chance) as play:
        verdict = await run(play, times, stop_the_relay)

    assert verdict.violations == ()
    assert play.target.faults() == []


@rounds(short=3, long=40)
async def test_a_full_disk_costs_receipts_and_no_message(
    times: int, tmp_path: Path, chance: random.Random
) -> None:
    async with staged(tmp_path, chance) as play:
        verdict = await run(play, times, fill_the_disk)

    assert verdict.violations == ()


@rounds(short=2, long=20)
async def test_a_relay_started_on_a_full_disk_promises_nothing_that_it_cannot_keep(
    times: int, tmp_path: Path, chance: random.Random
) -> None:
    async with staged(tmp_path, chance) as play:
        verdict = await run(play, times, start_on_a_full_disk)

    assert verdict.violations == ()


@rounds(short=2, long=60)
async def test_clients_killed_again_and_again_lose_nothing_and_hand_over_nothing_twice(
    times: int, tmp_path: Path, chance: random.Random
) -> None:
    async with staged(tmp_path, chance, in_processes=True, pace=0.25) as play:
        verdict = await run(play, times, kill_a_client)

    assert verdict.violations == ()
    assert play.target.faults() == []


@rounds(short=4, long=100)
async def test_a_network_that_does_its_worst_loses_nothing(
    times: int, tmp_path: Path, chance: random.Random
) -> None:
    async with staged(tmp_path, chance) as play:
        verdict = await run(play, times, turn_the_weather)

    assert verdict.violations == ()
    assert play.target.faults() == []


@rounds(short=2, long=30)
async def test_a_disk_that_fails_now_and_then_costs_receipts_and_no_message(
    times: int, tmp_path: Path, chance: random.Random
) -> None:
    program = ("tests.faults.failing_relay", str(chance.randrange(10**6)))
    async with staged(tmp_path, chance, program=program) as play:
        verdict = await run(play, times, kill_the_relay)

    assert verdict.violations == ()
    if times > 10:  # else chance may have spared it
        assert verdict.counts["error unavailable"] > 0


@rounds(short=2, long=100)
async def test_applications_of_our_client_outlive_a_relay_that_is_killed(
    times: int, tmp_path: Path, chance: random.Random
) -> None:
    async with staged(tmp_path, chance, dialect="client") as play:
        verdict = await run(play, times, kill_the_relay)

    assert verdict.violations == ()
    assert verdict.counts["receipt delivered"] > 0
    assert play.target.faults() == []


@rounds(short=2, long=60)
async def test_applications_of_our_client_are_killed_and_what_they_sent_goes_out_once(
    times: int, tmp_path: Path, chance: random.Random
) -> None:
    async with staged(tmp_path, chance, in_processes=True, dialect="client") as play:
        verdict = await run(play, times, kill_a_client)

    assert verdict.violations == ()
    assert play.target.faults() == []


@rounds(short=3, long=60)
async def test_applications_of_our_client_come_through_any_weather(
    times: int, tmp_path: Path, chance: random.Random
) -> None:
    async with staged(tmp_path, chance, dialect="client") as play:
        verdict = await run(play, times, turn_the_weather)

    assert verdict.violations == ()


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("dialect", ["agora/1", "client"])
async def test_everything_at_once_and_the_ledger_balances(
    dialect: str, tmp_path: Path, chance: random.Random
) -> None:
    manners: dict[str, Any] = {"pace": 0.25, "size": 2_000, "dialect": dialect}
    async with staged(tmp_path, chance, in_processes=True, **manners) as play:
        verdict = await run(
            play,
            150,
            kill_the_relay,
            kill_a_client,
            kill_a_client,
            stop_the_relay,
            fill_the_disk,
            start_on_a_full_disk,
            turn_the_weather,
            turn_the_weather,
        )

    assert verdict.violations == ()


# While the disk is full


async def test_on_a_full_disk_live_messages_still_pass_and_nothing_is_called_stored(
    tmp_path: Path, chance: random.Random
) -> None:
    async with staged(tmp_path, chance, nacks=0.0, pauses=0.0) as play:
        await until(lambda: play.cast.count(Event.RECEIPT) > 50)
        play.target.fill_disk(0)
        before = play.cast.verdict().counts
        await until(lambda: play.cast.count(Event.HANDED) > before["handed over"] + 100)
        during = play.cast.verdict().counts
        play.target.free_disk()
        verdict = await play.curtain()

    assert during["receipt delivered"] > before["receipt delivered"]
    assert verdict.violations == ()
