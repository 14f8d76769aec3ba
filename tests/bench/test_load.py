"""Each bench once, in its smallest form, against a relay in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from agora.bench.letters import Dialect
from agora.bench.load.broadcast import broadcast
from agora.bench.load.idle import idle
from agora.bench.load.join import join_at_once
from agora.bench.load.latency import latency
from agora.bench.load.mailbox import mailbox
from agora.bench.load.slow_reader import slow_reader
from agora.bench.load.soak import soak
from agora.bench.load.throughput import throughput
from agora.bench.peers import BenchError
from agora.bench.relays import Target, own_relay
from agora.bench.stage import Finish, Stage
from agora.errors import NoAnswerError, NotConnectedError
from agora.testing import relay_in_thread

DIALECTS = pytest.mark.parametrize("dialect", Dialect)


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    """A relay of our own."""
    with own_relay() as relay:
        yield relay


def on(target: Target, dialect: Dialect) -> Stage:
    """Return a stage on which nobody is told how far it is."""
    return Stage(target, dialect)


@DIALECTS
async def test_throughput_counts_every_message(target: Target, dialect: Dialect) -> None:
    found = await throughput(on(target, dialect), pairs=2, seconds=0.05, idle=3)

    assert found.messages >= 2
    assert found.messages_per_second == pytest.approx(found.messages / found.seconds)
    assert found.generator_cpu_us_per_message > 0
    assert found.verify_us > 0


@DIALECTS
async def test_latency_waits_for_every_message(target: Target, dialect: Dialect) -> None:
    found = await latency(on(target, dialect), pairs=2, rate_per_second=200, seconds=0.2)

    assert (found.messages, found.lost) == (40, 0)
    assert 0 < found.p50_ms <= found.p90_ms <= found.p99_ms <= found.p999_ms <= found.max_ms


async def test_idle_connections_have_a_price_before_and_after_a_large_frame(
    target: Target,
) -> None:
    found = await idle(on(target, Dialect.AGORA), connections=20)

    assert found.base_rss_mb
    assert found.kb_per_connection is not None
    assert found.kb_per_connection_after_64kb is not None


@pytest.mark.parametrize(
    ("dialect", "presence", "told"),
    [
        (Dialect.AGORA, "none", 2 * 10),  # a challenge and a welcome each
        (Dialect.REFERENCE, "all", 10 + 10 * 9 // 2),  # a welcome each, and all who come after
    ],
)
async def test_joins_are_counted_with_what_is_told_of_them(
    dialect: Dialect, presence: str, told: int
) -> None:
    with own_relay() as fresh:
        found = await join_at_once(on(fresh, dialect), joins=10, presence=presence)

    assert (found.joins, found.presence, found.frames_sent) == (10, presence, told)


async def test_a_broadcast_reaches_every_recipient(target: Target) -> None:
    found = await broadcast(on(target, Dialect.AGORA), recipients=5, broadcasts=20)

    assert found.deliveries_per_second == pytest.approx(5 * 20 / found.seconds)


async def test_mail_is_stored_and_drained_to_the_last_message(target: Target) -> None:
    found = await mailbox(on(target, Dialect.AGORA), messages=101, recipients=3)

    assert (found.messages, found.recipients) == (101, 3)
    assert found.accepts_per_second > 0
    assert found.drains_per_second > 0


async def test_a_slow_reader_is_told_apart_from_the_others(target: Target) -> None:
    found = await slow_reader(on(target, Dialect.AGORA), megabytes=0.5, megabytes_per_second=4)

    assert found.others_sent > 0
    assert found.others_lost == 0
    assert found.rss_growth_mb is not None


@DIALECTS
async def test_a_soak_samples_the_relay_and_loses_nothing(target: Target, dialect: Dialect) -> None:
    found = await soak(on(target, dialect), minutes=0.01, rate_per_second=400)

    assert found.messages > 0
    assert found.lost == 0
    assert found.threads_first is not None
    assert len(found.sampled_rss_mb) == len(found.sampled_minutes) > 2


# What makes a figure worthless is said


async def test_a_relay_that_limits_rates_is_no_relay_to_be_measured() -> None:
    strict = relay_in_thread(rate_limit_max_messages=5)
    with strict as relay, pytest.raises(BenchError, match="rate_limited"):
        await throughput(on(Target(relay.url), Dialect.REFERENCE), pairs=1, seconds=0.05)


async def test_mail_needs_the_dialect_that_has_receipts(target: Target) -> None:
    with pytest.raises(BenchError, match="Agora/1"):
        await mailbox(on(target, Dialect.REFERENCE), messages=1)


async def test_a_relay_whose_process_is_not_known_has_a_rate_and_no_price(
    target: Target,
) -> None:
    stranger = replace(target, pid=None)

    found = await throughput(on(stranger, Dialect.REFERENCE), pairs=1, seconds=0.05)

    assert found.messages_per_second > 0
    assert found.relay_cpu_us_per_message is None
    assert found.relay_cpu_per_verify is None


async def test_where_no_relay_is_the_bench_says_so() -> None:
    with pytest.raises(NotConnectedError):
        await throughput(on(Target("ws://127.0.0.1:1"), Dialect.REFERENCE))


def test_a_relay_that_cannot_start_says_why() -> None:
    refused = pytest.raises(NotConnectedError, match="no-such-thing")
    with refused, own_relay({"no-such-thing": "1"}):
        pass


async def test_a_relay_that_ends_ends_the_bench() -> None:
    with relay_in_thread() as relay:
        stage = on(Target(relay.url), Dialect.REFERENCE)
        async with stage.peers(1) as peers:
            await asyncio.to_thread(relay.stop)
            finish = Finish(1)
            finish.watch(*peers)

            with pytest.raises(BenchError, match="1001"):
                await finish.wait()


async def test_what_never_comes_is_not_waited_for() -> None:
    finish = Finish(3)
    finish.count(1)

    with pytest.raises(NoAnswerError, match="2 of 3"):
        await finish.wait(patience=0.0)
