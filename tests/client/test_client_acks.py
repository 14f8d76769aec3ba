"""When a message is acked: when the application is done with it, and never before."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agora.client import Bounced, Client, Message, Status, Timing, Withheld
from agora.client.events import ContactRequest
from agora.client.receipt import Receipt
from agora.errors import InputError, NoAnswerError, RefusedError
from agora.keys import KeyPair
from agora.protocol.client.consent import ContactPolicy, Guard
from agora.relay import Relay
from tests.client.talking import TAKEN, events_of, there
from tests.support import DEADLINE, agent, eventually

QUICK = Timing(nack_first=0.02, nack_cap=0.1)


async def status_of(receipt: Receipt) -> Status:
    async with asyncio.timeout(DEADLINE):
        return await receipt.settled()


# In a loop


async def test_a_message_is_acked_when_the_next_one_is_asked_for(relay: Relay) -> None:
    async with agent(relay.url) as alice, there(relay.url) as bob:
        first, second = alice.post(bob.peer_id, 1), alice.post(bob.peer_id, 2)

        async for message in bob:
            if message.payload == 2:
                break
            assert first.status is Status.QUEUED
        assert await status_of(first) is Status.DELIVERED
        assert second.status is Status.QUEUED


async def test_what_was_not_acked_comes_again_to_the_next_client(relay: Relay) -> None:
    keys = KeyPair.generate()

    async with agent(relay.url) as alice:
        async with agent(relay.url, keys) as bob:
            receipt = alice.post(keys.peer_id, "important")
            assert (await anext(bob)).payload == "important"
        assert await status_of(receipt) is Status.STORED

        async with agent(relay.url, keys) as bob:
            assert (await anext(bob)).payload == "important"


async def test_what_was_acked_just_before_the_end_does_not_come_again(relay: Relay) -> None:
    keys = KeyPair.generate()

    async with agent(relay.url) as alice:
        async with agent(relay.url, keys) as bob:
            alice.post(keys.peer_id, 1)
            await (await anext(bob)).ack()
        async with agent(relay.url, keys) as bob:
            alice.post(keys.peer_id, 2)

            assert (await anext(bob)).payload == 2


async def test_an_ack_just_before_the_end_is_said_also_if_it_has_to_be_remembered_on_disk(
    relay: Relay, tmp_path: Path
) -> None:
    async with agent(relay.url) as alice:
        for number in range(5):
            async with there(relay.url, outbox=tmp_path / f"{number}.sqlite3") as bob:
                receipt = alice.post(bob.peer_id, "hi")
                await (await anext(bob)).ack()

            assert await status_of(receipt) is Status.DELIVERED


async def test_readers_do_not_ack_each_others_messages(relay: Relay) -> None:
    async with agent(relay.url) as alice, there(relay.url) as bob:
        receipts = [alice.post(bob.peer_id, number) for number in range(3)]
        one, other = aiter(bob), aiter(bob)

        assert [(await anext(reader)).payload for reader in (one, other, one)] == [0, 1, 2]
        assert await status_of(receipts[0]) is Status.DELIVERED
        assert receipts[1].status is Status.QUEUED


async def test_a_message_in_hand_is_not_handed_over_again_after_a_reconnect() -> None:
    keys = KeyPair.generate()

    async with Relay(port=0, identity=keys) as relay:
        port = relay.port
        alice, bob = agent(relay.url), agent(relay.url)
        await alice.connect()
        await bob.connect()
        alice.post(bob.peer_id, "once")
        message = await anext(bob)
    async with Relay(port=port, identity=keys):
        await eventually(lambda: alice.is_connected and bob.is_connected)
        await message.ack()
        alice.post(bob.peer_id, "next")

        assert (await anext(bob)).payload == "next"
        await alice.close()
        await bob.close()


# Explicitly


async def test_a_message_put_off_comes_again(relay: Relay) -> None:
    async with agent(relay.url) as alice, there(relay.url) as bob:
        alice.post(bob.peer_id, "later")
        first = await anext(bob)
        await first.nack(0.01)
        async with asyncio.timeout(DEADLINE):
            second = await anext(bob)

        assert (first.id, second.payload) == (second.id, "later")
        await first.ack()  # too late: the second is another matter
        await second.ack()


# Handlers


async def test_a_message_is_acked_when_its_handler_has_returned(relay: Relay) -> None:
    async with agent(relay.url) as alice, there(relay.url) as bob, asyncio.TaskGroup() as group:
        may_return = asyncio.Event()

        @bob.on()
        async def work(message: Message) -> None:
            await may_return.wait()

        running = group.create_task(bob.run())
        receipt = alice.post(bob.peer_id, "work")
        assert await receipt.settled(0.2) is Status.QUEUED
        may_return.set()
        assert await status_of(receipt) is Status.DELIVERED
        running.cancel()


async def test_what_a_handler_failed_at_comes_again(
    relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        agent(relay.url) as alice,
        there(relay.url, timing=QUICK) as bob,
        asyncio.TaskGroup() as group,
    ):
        tries: list[Any] = []

        @bob.on()
        async def fail_twice(message: Message) -> None:
            tries.append(message.payload)
            if len(tries) < 3:
                raise LookupError("not yet")

        running = group.create_task(bob.run())
        receipt = alice.post(bob.peer_id, "work", confirm=True)

        assert await receipt.confirmed(DEADLINE) == "processed"
        assert tries == ["work"] * 3
        running.cancel()
    caplog.clear()


async def test_two_who_answer_each_other_do_not_wait_for_each_other(relay: Relay) -> None:
    async with there(relay.url) as alice, there(relay.url) as bob:

        async def answer(me: Client, last: int) -> None:
            async for message in me:
                assert isinstance(message.payload, int)
                if message.payload >= last:
                    return
                await message.reply(message.payload + 1)

        alice.post(bob.peer_id, 0)
        async with asyncio.timeout(4), asyncio.TaskGroup() as group:  # a receipt may take five
            answering = group.create_task(answer(bob, 99))
            await answer(alice, 19)
            answering.cancel()


# Confirming


async def test_the_recipient_confirms_what_it_has_processed(relay: Relay) -> None:
    async with agent(relay.url) as alice, there(relay.url) as bob:
        receipt = alice.post(bob.peer_id, "please confirm", confirm=True)
        message = await anext(bob)
        with pytest.raises(NoAnswerError):
            await receipt.confirmed(0.05)
        await message.ack()

        assert await receipt.confirmed(DEADLINE) == "processed"
        alice.post(alice.peer_id, "marker")
        assert (await anext(alice)).payload == "marker"  # no acknowledgement came before it


async def test_the_recipient_says_what_it_has_given_up(relay: Relay) -> None:
    async with agent(relay.url) as alice, there(relay.url) as bob:
        receipt = alice.post(bob.peer_id, "please confirm", confirm=True)
        await (await anext(bob)).give_up()

        assert await receipt.confirmed(DEADLINE) == "failed"


async def test_nobody_confirms_what_was_not_asked_for(relay: Relay) -> None:
    async with agent(relay.url) as alice:
        with pytest.raises(InputError, match="confirm=True"):
            await alice.post(alice.peer_id, "x").confirmed()


async def test_what_bounces_is_told_and_will_not_be_confirmed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Relay(port=0, max_nacks=1) as relay, agent(relay.url) as alice:
        async with there(relay.url) as bob:
            events = events_of(alice)
            receipt = alice.post(bob.peer_id, "indigestible", confirm=True)
            await (await anext(bob)).nack(0.0)
            await eventually(lambda: any(isinstance(event, Bounced) for event in events))

        assert receipt.bounced == "undeliverable"
        with pytest.raises(RefusedError, match="undeliverable"):
            await receipt.confirmed(DEADLINE)


# Consent


async def test_who_is_ignored_is_not_heard_and_learns_nothing(relay: Relay) -> None:
    async with agent(relay.url) as mallory, there(relay.url) as bob, agent(relay.url) as carol:
        events = events_of(bob)
        bob.ignore(mallory.peer_id)
        receipt = mallory.post(bob.peer_id, "spam", confirm=True)

        assert await status_of(receipt) in TAKEN
        with pytest.raises(NoAnswerError):
            await receipt.confirmed(0.05)
        carol.post(bob.peer_id, "hello")
        assert (await anext(bob)).payload == "hello"
        [withheld] = [event for event in events if isinstance(event, Withheld)]
        assert withheld.reason == "ignored"


async def test_a_stranger_waits_until_it_is_allowed(relay: Relay) -> None:
    guard = Guard(ContactPolicy.ASK)

    async with agent(relay.url) as stranger, agent(relay.url, guard=guard) as bob:
        events = events_of(bob)
        for number in range(3):
            stranger.post(bob.peer_id, number)
        await eventually(lambda: any(isinstance(event, ContactRequest) for event in events))
        bob.allow(stranger.peer_id)

        assert [(await anext(bob)).payload for _ in range(3)] == [0, 1, 2]
        assert len([event for event in events if isinstance(event, ContactRequest)]) == 1


async def test_a_stranger_that_is_ignored_is_left_out(relay: Relay) -> None:
    guard = Guard(ContactPolicy.ASK)

    async with agent(relay.url) as stranger, agent(relay.url, guard=guard) as bob:
        events = events_of(bob)
        receipt = stranger.post(bob.peer_id, "hello?")
        await eventually(lambda: any(isinstance(event, ContactRequest) for event in events))
        bob.ignore(stranger.peer_id)

        assert await status_of(receipt) in TAKEN
