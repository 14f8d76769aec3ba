"""
What two clients may expect of each other, as tests: over any transport, by any relay of Agora/1.

::

    class TestMyRelay(RelayContract):
        def new_client(self, keys, **options):
            return agora.Client("wss://relay.example.org", keys, **options)

Every test of :class:`RelayContract` is a conversation between clients, as an
application has it: nothing is looked at but what an application sees. The relay has
to have mailboxes for those who were there once, and let a client send a hundred
messages at once. Where it cannot be restarted from here, what it keeps across a restart is
not looked at, and pytest says so.

The tests are plain functions, each with an event loop of its own.
"""

from __future__ import annotations

import asyncio
import functools
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import pytest

from agora.client import Client, ClientEvent, Message, PresenceChanged, Receipt, Status
from agora.client.relay_memory import RelaysInMemory
from agora.errors import InputError, RefusedError, RelayChangedError
from agora.keys import KeyPair

__all__ = ["RelayContract"]

_Arguments = ParamSpec("_Arguments")
_Contract = TypeVar("_Contract", bound="RelayContract")

_TAKEN = (Status.DELIVERED, Status.STORED)
"""What becomes of a message to a peer that may just have come, or gone."""

_PATIENCE = 20.0
"""Seconds after which what is waited for will not come."""


def _conversation(
    test: Callable[Concatenate[_Contract, _Arguments], Coroutine[Any, Any, None]],
) -> Callable[Concatenate[_Contract, _Arguments], None]:
    """Make a plain test of a coroutine function: it needs no plugin, and ends by a deadline."""

    @functools.wraps(test)
    def run(self: _Contract, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> None:
        async def limited() -> None:
            async with asyncio.timeout(2 * _PATIENCE):
                await test(self, *args, **kwargs)

        asyncio.run(limited())

    return run


class RelayContract:
    """Subclass it under a name that begins with ``Test``, and say how to make a client."""

    def new_client(self, keys: KeyPair, **options: Any) -> Client:
        """Return a client of the relay, not connected, with these options of its own."""
        raise NotImplementedError

    def restart_relay(self) -> None:
        """Stop the relay and start it again; called in a thread of its own."""
        pytest.skip("this relay is not restarted here")

    # What is the same in many

    @asynccontextmanager
    async def _present(self, keys: KeyPair | None = None, **options: Any) -> AsyncIterator[Client]:
        """Connect a client that has read its mailbox: from now on its mail comes at once."""
        async with self.new_client(keys or KeyPair.generate(), **options) as client:
            status = Status.QUEUED
            while status is not Status.DELIVERED:
                receipt = client.post(client.peer_id, "am I there?")
                await _take(client)
                status = await receipt.settled(_PATIENCE)
            yield client

    async def _absent(self) -> KeyPair:
        """Return the keys of somebody who was there, and has gone."""
        keys = KeyPair.generate()
        async with self.new_client(keys):
            return keys

    # One message

    @pytest.mark.parametrize("payload", ["hello", {"grüße": ["👋", None, 1.5]}, None, {}])
    @_conversation
    async def test_a_message_comes_as_it_was_sent(self, payload: Any) -> None:
        async with self._present() as bob, self.new_client(KeyPair.generate()) as alice:
            receipt = alice.post(bob.peer_id, payload, type="note", in_reply_to="a" * 64)
            message = await _take(bob)

        assert (message.payload, message.type) == (payload, "note")
        assert (message.sender, message.id) == (alice.peer_id, receipt.id)
        assert (message.in_reply_to, message.to) == ("a" * 64, (bob.peer_id,))

    @_conversation
    async def test_a_message_that_is_dealt_with_is_delivered(self) -> None:
        async with self._present() as bob, self.new_client(KeyPair.generate()) as alice:
            receipt = alice.post(bob.peer_id, "hello")
            await _take(bob)

            assert await receipt.settled(_PATIENCE) is Status.DELIVERED

    @_conversation
    async def test_mail_for_who_is_away_is_stored_and_comes_when_they_return(self) -> None:
        bob = await self._absent()
        async with self.new_client(KeyPair.generate()) as alice:
            receipts = [alice.post(bob.peer_id, number) for number in range(20)]
            statuses = {await receipt.settled(_PATIENCE) for receipt in receipts}

        async with self.new_client(bob) as back:
            assert await _payloads(back, 20) == list(range(20))
        assert statuses == {Status.STORED}

    @_conversation
    async def test_what_is_there_already_is_a_duplicate(self, tmp_path: Path) -> None:
        keys, bob = KeyPair.generate(), KeyPair.generate()
        async with self.new_client(keys, outbox=tmp_path / "outbox") as alice:
            receipt = alice.post(bob.peer_id, "once")
            await receipt.kept()
            _copy(tmp_path, "outbox", "copy")
            async with self.new_client(bob) as there:
                await _take(there)
                assert await receipt.settled(_PATIENCE) in _TAKEN

        copy = tmp_path / "copy"
        async with self.new_client(keys, outbox=copy, connect_timeout=0) as again:
            (receipt,) = again.outbox
            assert await receipt.settled(_PATIENCE) is Status.DUPLICATE

    @_conversation
    async def test_nobody_who_was_never_there_gets_anything(self) -> None:
        async with self.new_client(KeyPair.generate()) as alice:
            receipt = await alice.send(KeyPair.generate().peer_id, "hello")

            assert (receipt.status, receipt.why) == (Status.QUEUED, "unknown_recipient")

    @_conversation
    async def test_a_large_message_comes_whole_and_one_too_large_is_refused_at_once(self) -> None:
        text = "x" * 200_000
        async with self._present() as bob, self.new_client(KeyPair.generate()) as alice:
            alice.post(bob.peer_id, text)
            assert (await _take(bob)).payload == text

            with pytest.raises(InputError, match="max_frame_bytes"):
                alice.post(bob.peer_id, "x" * 10_000_000)

    # Many messages

    @_conversation
    async def test_many_messages_come_in_order(self) -> None:
        async with (
            self._present() as bob,
            self._present() as carol,
            self.new_client(KeyPair.generate()) as alice,
        ):
            for number in range(50):
                alice.post(bob.peer_id, number)
                alice.post(carol.peer_id, number)

            assert await _payloads(bob, 50) == list(range(50))
            assert await _payloads(carol, 50) == list(range(50))

    @_conversation
    async def test_who_reads_slowly_loses_nothing(self) -> None:
        async with (
            self.new_client(KeyPair.generate(), inbox_max_messages=3) as bob,
            self.new_client(KeyPair.generate()) as alice,
        ):
            receipts = [alice.post(bob.peer_id, [number, "x" * 5_000]) for number in range(100)]
            for receipt in receipts[10:]:  # nobody reads them, so they wait elsewhere
                assert await receipt.settled(_PATIENCE) is Status.STORED

            read = await _payloads(bob, 100)
        assert [number for number, _ in read] == list(range(100))

    @_conversation
    async def test_a_message_that_is_put_off_comes_again(self) -> None:
        async with self._present() as bob, self.new_client(KeyPair.generate()) as alice:
            alice.post(bob.peer_id, "first")
            put_off = await _next(bob)
            await put_off.nack(0.2)
            alice.post(bob.peer_id, "second")

            assert await _payloads(bob, 2) == ["second", "first"]

    @_conversation
    async def test_what_was_not_dealt_with_comes_to_the_next_client(self) -> None:
        keys = KeyPair.generate()
        async with self._present(keys) as bob, self.new_client(KeyPair.generate()) as alice:
            alice.post(bob.peer_id, "forgotten")
            assert (await _next(bob)).payload == "forgotten"

        async with self.new_client(keys) as next_bob:
            assert (await _take(next_bob)).payload == "forgotten"

    # Conversations

    @_conversation
    async def test_a_request_is_answered(self) -> None:
        async with (
            self._present() as bob,
            self.new_client(KeyPair.generate()) as alice,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(_answer_one(bob))
            reply = await alice.request(bob.peer_id, {"a": 1}, timeout=_PATIENCE)

        assert reply.payload == {"you asked": {"a": 1}}

    @_conversation
    async def test_two_who_answer_each_other_do_not_wait_for_each_other(self) -> None:
        async with self._present() as bob, self._present() as alice:
            for agent in (alice, bob):
                agent.on()(_count_down)
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(agent.run()) for agent in (alice, bob)]
                began = asyncio.get_running_loop().time()
                await alice.request(bob.peer_id, 6, timeout=_PATIENCE)
                took = asyncio.get_running_loop().time() - began
                for task in running:
                    task.cancel()

        assert took < 4  # less than one wait for an ack that does not come

    @_conversation
    async def test_a_group_gets_one_message_each_and_sees_who_else(self) -> None:
        async with (
            self._present() as bob,
            self._present() as carol,
            self.new_client(KeyPair.generate()) as alice,
        ):
            both = [bob.peer_id, carol.peer_id]
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(alice.send_group(both, "hello, you two"))
                messages = [await _take(bob), await _take(carol)]

        assert [receipt.to for receipt in sending.result()] == both
        assert [message.payload for message in messages] == ["hello, you two"] * 2
        assert {frozenset(message.to) for message in messages} == {frozenset(both)}

    @_conversation
    async def test_a_broadcast_comes_to_all_who_are_there(self) -> None:
        async with (
            self._present() as bob,
            self._present() as carol,
            self.new_client(KeyPair.generate()) as alice,
        ):
            receipt = await alice.broadcast("hello, all")

            assert (await _take(bob)).payload == (await _take(carol)).payload == "hello, all"
        assert receipt.status is Status.SENT

    @_conversation
    async def test_the_recipient_confirms_with_its_own_signature(self) -> None:
        async with self._present() as bob, self.new_client(KeyPair.generate()) as alice:
            receipt = alice.post(bob.peer_id, "signed for?", confirm=True)
            await _take(bob)

            assert await receipt.confirmed(_PATIENCE) == "processed"

    # Who is there

    @_conversation
    async def test_who_comes_and_goes_is_told(self) -> None:
        keys = KeyPair.generate()
        async with self._present() as alice:
            news = _Presence(alice)
            async with self.new_client(keys, name="bob"):
                assert await news.of(keys) == (True, "bob")
                assert alice.peers[keys.peer_id].is_online
            assert (await news.of(keys))[0] is False

            assert keys.peer_id not in alice.peers or not alice.peers[keys.peer_id].is_online

    @_conversation
    async def test_who_was_there_before_is_listed(self) -> None:
        async with self._present(name="bob") as bob, self.new_client(KeyPair.generate()) as alice:
            assert alice.peers[bob.peer_id].name == "bob"
            assert alice.peer_id not in alice.peers

    @_conversation
    async def test_only_whom_one_watches_one_hears_of(self) -> None:
        friend, stranger = KeyPair.generate(), KeyPair.generate()
        async with self._present(presence=[friend.peer_id]) as alice:
            news = _Presence(alice)
            async with self.new_client(stranger), self.new_client(friend):
                assert await news.of(friend) == (True, None)
                assert list(alice.peers) == [friend.peer_id]

                alice.watch("all")
                assert await news.of(stranger) == (True, None)

    @_conversation
    async def test_who_only_sends_is_not_there_for_others(self) -> None:
        keys = KeyPair.generate()
        async with (
            self._present() as bob,
            self.new_client(keys, receive=False) as sender,
        ):
            receipt = sender.post(bob.peer_id, "from nobody")
            assert (await _take(bob)).sender == keys.peer_id

            assert await receipt.settled(_PATIENCE) is Status.DELIVERED
            assert bob.peer_id in sender.peers
            assert keys.peer_id not in bob.peers

    # Who is who

    @_conversation
    async def test_the_relay_is_the_one_that_it_was(self) -> None:
        known = RelaysInMemory()
        async with self.new_client(KeyPair.generate(), known_relays=known) as alice:
            assert alice.relay is not None
            known_by = known.expected(alice.url)

            assert (alice.protocol, known_by) == (1, alice.relay)

    @_conversation
    async def test_another_relay_in_its_place_is_refused(self) -> None:
        alice = self.new_client(KeyPair.generate(), known_relays=(known := RelaysInMemory()))
        known.remember(alice.url, KeyPair.generate().peer_id)

        with pytest.raises(RelayChangedError):
            await alice.connect()

    @_conversation
    async def test_nobody_speaks_for_a_key_that_is_not_theirs(self) -> None:
        victim = await self._absent()

        with pytest.raises(RefusedError) as refused:
            await self.new_client(_Impostor(victim)).connect()

        assert refused.value.code == "proof_failed"

    # A relay that comes back

    @_conversation
    async def test_a_relay_that_restarts_loses_nothing_and_repeats_nothing(self) -> None:
        async with (
            self.new_client(KeyPair.generate()) as bob,
            self.new_client(KeyPair.generate()) as alice,
        ):
            receipts = []
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(_payloads(bob, 60))
                for number in range(60):
                    receipts.append(alice.post(bob.peer_id, number))
                    await asyncio.sleep(0)
                    if number in (20, 40):
                        await asyncio.to_thread(self.restart_relay)

            assert reading.result() == list(range(60))
            for receipt in receipts:
                assert await receipt.settled(_PATIENCE) in (*_TAKEN, Status.DUPLICATE)
            alice.post(bob.peer_id, "the end")
            assert (await _take(bob)).payload == "the end"  # and nothing a second time


# What agents do


def _copy(folder: Path, name: str, other: str) -> None:
    """Copy a database, with what it has beside it."""
    for file in folder.glob(f"{name}*"):
        shutil.copy(file, folder / file.name.replace(name, other))


async def _next(client: Client) -> Message:
    async with asyncio.timeout(_PATIENCE):
        return await anext(client)


async def _take(client: Client) -> Message:
    """Return the next message, and be done with it."""
    message = await _next(client)
    await message.ack()
    return message


async def _payloads(client: Client, count: int) -> list[Any]:
    """Return the payloads of the next messages; one is read while others are being acked."""
    payloads = []
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            message = await _next(client)
            group.create_task(message.ack())
            payloads.append(message.payload)
    return payloads


async def _answer_one(client: Client) -> Receipt:
    message = await _take(client)
    return await message.reply({"you asked": message.payload})


async def _count_down(message: Message) -> None:
    assert isinstance(message.payload, int)
    if message.payload > 0:
        await message.reply(message.payload - 1)


class _Presence:
    """The comings and goings that a client is told of, from now on."""

    def __init__(self, client: Client) -> None:
        self._news: asyncio.Queue[PresenceChanged] = asyncio.Queue()
        client.listen(self._hear)

    def _hear(self, event: ClientEvent) -> None:
        if isinstance(event, PresenceChanged):
            self._news.put_nowait(event)

    async def of(self, keys: KeyPair) -> tuple[bool, str | None]:
        """Return whether a peer has come or gone, and its name, when that is told next."""
        async with asyncio.timeout(_PATIENCE):
            while (news := await self._news.get()).peer != keys.peer_id:
                pass
        return news.is_online, news.name


class _Impostor(KeyPair):
    """Somebody who says to be the owner of a key, and has another."""

    def __init__(self, victim: KeyPair) -> None:
        super().__init__(b"\x01" * 32)
        self.peer_id = victim.peer_id
