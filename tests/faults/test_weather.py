"""
Each fault of a network beside the mechanism of the relay that answers it.

Every test of a mechanism is made twice: with it, and with it switched off, when
the fault is seen. Those of our client are in ``test_network.py``. Seconds are
short here: what answers within 30 in earnest answers within a fraction of one.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agora.keys import KeyPair
from tests.faults.proxy import relay_behind_proxy
from tests.faults.speaker import DEADLINE, TAKEN, Speaker, envelope_from, opened, speaker
from tests.faults.stage import until

ALICE, BOB = (KeyPair.from_seed(bytes([number] * 32)) for number in (1, 2))

NOTICED_WITHIN = 1.0
"""Seconds: several times what any mechanism below takes."""

NEVER = 3_600.0


async def in_time(waiting: Any) -> Any:
    """Return what comes within `NOTICED_WITHIN`; None when nothing does."""
    try:
        async with asyncio.timeout(NOTICED_WITHIN):
            return await waiting
    except TimeoutError:
        return None


# Half-open and black holes


@pytest.mark.parametrize(("heartbeat", "is_noticed"), [(0.2, True), (0.0, False)])
async def test_a_client_gone_without_a_word_is_offline_by_the_heartbeat(
    heartbeat: float, is_noticed: bool
) -> None:
    async with (
        relay_behind_proxy(heartbeat_interval=heartbeat) as (relay, proxy),
        speaker(relay.url, ALICE, presence=[BOB.peer_id]) as watcher,
        speaker(proxy.url, BOB),
    ):
        assert (await watcher.wait("presence"))["online"]
        proxy.forget_clients()

        news = await in_time(watcher.wait("presence"))
        assert (news is not None) is is_noticed
        assert news is None or news["offline"] == [BOB.peer_id]


@pytest.mark.parametrize(("ack_timeout", "has_word"), [(0.2, True), (NEVER, False)])
async def test_mail_into_a_black_hole_is_stored_by_the_ack_timeout(
    ack_timeout: float, has_word: bool
) -> None:
    async with (
        relay_behind_proxy(ack_timeout=ack_timeout) as (relay, proxy),
        speaker(relay.url, ALICE) as alice,
        speaker(proxy.url, BOB) as bob,
    ):
        await live(alice, bob)
        proxy.black_hole()
        envelope = await alice.send(BOB.peer_id, "into the dark")

        status = await in_time(alice.answer_to(envelope))
        assert status == ("stored" if has_word else None)


async def test_what_went_into_a_black_hole_comes_on_the_next_connection() -> None:
    async with (
        relay_behind_proxy(ack_timeout=0.2) as (relay, proxy),
        speaker(relay.url, ALICE) as alice,
        speaker(proxy.url, BOB) as bob,
    ):
        await live(alice, bob)
        proxy.hold_present()
        letters = [await alice.send(BOB.peer_id, number) for number in range(20)]
        assert {await alice.answer_to(letter) for letter in letters} == {"stored"}

        async with speaker(proxy.url, BOB) as again:
            assert await again.payloads(20) == list(range(20))


async def live(sender: Speaker, recipient: Speaker) -> None:
    """Send until nothing goes by way of the mailbox any more, as it may when one has just come."""
    status = ""
    while status != "delivered":
        envelope = await sender.send(recipient.id, "are you there?")
        await recipient.payloads(1)
        status = await sender.answer_to(envelope)


# Slowness


@pytest.mark.parametrize(("register_timeout", "is_closed"), [(0.3, True), (NEVER, False)])
async def test_one_byte_at_a_time_does_not_keep_a_place_without_registering(
    register_timeout: float, is_closed: bool
) -> None:
    async with relay_behind_proxy(register_timeout=register_timeout) as (relay, proxy):
        proxy.up.chunk = 1
        async with opened(proxy.url) as slow:
            proxy.up.delay = 0.05  # a byte a second, twenty times as fast
            await slow.say({"type": "register", "publicKey": slow.id})

            closed = await in_time(until(lambda: relay.counts.get("closed") == 1))
            assert closed is (True if is_closed else None)
            slow.drop()


async def test_one_byte_at_a_time_is_understood_all_the_same() -> None:
    async with relay_behind_proxy() as (relay, proxy), speaker(relay.url, ALICE) as alice:
        proxy.up.chunk = proxy.down.chunk = 1
        async with speaker(proxy.url, BOB) as bob:
            envelope = await alice.send(BOB.peer_id, "ü" * 500)

            assert await bob.payloads(1) == ["ü" * 500]
            assert await alice.answer_to(envelope) in TAKEN


async def test_latency_and_jitter_change_no_order() -> None:
    async with relay_behind_proxy() as (_, proxy):
        proxy.up.delay, proxy.up.jitter, proxy.down.jitter = 0.01, 0.03, 0.03
        async with speaker(proxy.url, ALICE) as alice, speaker(proxy.url, BOB) as bob:
            letters = [await alice.send(BOB.peer_id, number) for number in range(30)]

            assert await bob.payloads(30) == list(range(30))
            assert {await alice.answer_to(letter) for letter in letters} <= TAKEN


# Resets


@pytest.mark.parametrize(("says_again", "arrives"), [(True, True), (False, False)])
async def test_a_frame_cut_in_the_middle_is_as_if_never_said_until_it_is_said_again(
    says_again: bool, arrives: bool
) -> None:
    envelope = envelope_from(ALICE, BOB.peer_id, "x" * 10_000)

    async with relay_behind_proxy() as (relay, proxy), speaker(relay.url, BOB) as bob:
        async with speaker(proxy.url, ALICE) as alice:
            proxy.up.resets_after = 5_000
            await alice.submit(envelope, BOB.peer_id)
            assert await alice.close_code() == 1006
        if says_again:
            async with speaker(proxy.url, ALICE) as alice:
                await alice.submit(envelope, BOB.peer_id)
                assert await in_time(alice.answer_to(envelope)) in (*TAKEN, None)

        came = await in_time(bob.payloads(1))
        assert (came == ["x" * 10_000]) is arrives


async def test_an_ack_lost_in_a_reset_costs_a_repetition_and_no_message() -> None:
    async with relay_behind_proxy() as (relay, proxy), speaker(relay.url, ALICE) as alice:
        async with speaker(proxy.url, BOB) as bob:
            await live(alice, bob)
            envelope = await alice.send(BOB.peer_id, "once")
            await bob.messages(1, acks=False)
            proxy.up.resets_after = 10
            await bob.ack(envelope.id)
            assert await bob.close_code() == 1006

        assert await alice.answer_to(envelope) == "stored"
        async with speaker(proxy.url, BOB) as bob:
            assert await bob.payloads(1) == ["once"]


# Connections out of order


@pytest.mark.parametrize(("remembers", "times"), [(True, 1), (False, 2)])
async def test_a_message_that_an_older_connection_brings_late_comes_once(
    remembers: bool, times: int
) -> None:
    envelope = envelope_from(ALICE, BOB.peer_id, "once")

    async with (
        relay_behind_proxy(dedup_enabled=remembers) as (relay, proxy),
        speaker(relay.url, BOB) as bob,
        speaker(proxy.url, ALICE) as old,
    ):
        proxy.hold_present()
        await old.submit(envelope, BOB.peer_id)  # on its way, for long
        async with speaker(proxy.url, ALICE) as new:
            await new.submit(envelope, BOB.peer_id)
            assert await bob.payloads(1) == ["once"]
            assert await new.answer_to(envelope) in TAKEN
            proxy.clear_up()

            late = await old.answer_to(envelope) if remembers else None
            assert late in ("duplicate", None)
            again = await in_time(bob.payloads(1))
            assert 1 + (again is not None) == times


async def test_an_ack_that_an_older_connection_brings_late_is_good_all_the_same() -> None:
    async with (
        relay_behind_proxy(ack_timeout=NEVER) as (relay, proxy),
        speaker(relay.url, ALICE) as alice,
        speaker(proxy.url, BOB) as old,
    ):
        envelope = await alice.send(BOB.peer_id, "once")
        await old.messages(1, acks=False)
        proxy.hold_present()
        await old.ack(envelope.id)
        async with speaker(proxy.url, BOB) as new:
            assert await new.payloads(1, acks=False) == ["once"]
            proxy.clear_up()

            assert await alice.answer_to(envelope) in TAKEN
            await new.answers()
        async with speaker(relay.url, BOB) as bob:
            assert bob.welcome["pending"] == 0


async def test_the_late_end_of_an_older_connection_takes_nothing_from_the_new_one() -> None:
    async with (
        relay_behind_proxy() as (relay, proxy),
        speaker(relay.url, ALICE) as alice,
        speaker(proxy.url, BOB) as old,
    ):
        proxy.hold_present()
        old.drop()
        async with speaker(proxy.url, BOB) as new, asyncio.timeout(DEADLINE):
            await live(alice, new)
            proxy.clear_up()  # now the relay hears that the old one has ended
            await live(alice, new)
