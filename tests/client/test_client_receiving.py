"""What an application gets: only what is genuine and for it, each once, and never too much."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from agora.client import (
    Client,
    ClientEvent,
    ConnectionState,
    Message,
    PresenceChanged,
    StateChanged,
    Timing,
    Trouble,
)
from agora.client.events import EventStream
from agora.errors import EnvelopeError, FrameError, RefusedError, TryAgainError
from agora.keys import KeyPair
from agora.relay import Relay
from tests.client.fake_relay import FakeSession, fake_relay
from tests.support import DEADLINE, agent, eventually, letter, raw_peer


def troubles_of(client: Client) -> list[Trouble]:
    """Return the list to which every trouble of *client* is added from now on."""
    found: list[Trouble] = []
    client.listen(lambda event: found.append(event) if isinstance(event, Trouble) else None)
    return found


# Only what is genuine


def forgeries(me: str) -> dict[str, tuple[dict[str, Any], type[Exception], str]]:
    """Return frames that no honest relay sends, with the trouble that each makes."""
    alice, mallory = KeyPair.generate(), KeyPair.generate()
    good = letter(alice, me, "pay mallory").to_dict()
    elsewhere = letter(alice, mallory.peer_id).to_dict()
    frame = {"type": "message", "from": alice.peer_id}
    return {
        "tampered": (frame | {"envelope": good | {"payload": "x"}}, EnvelopeError, "id_mismatch"),
        "forged": (
            frame | {"envelope": good | {"signature": "00" * 64}},
            EnvelopeError,
            "signature_invalid",
        ),
        "unsigned": (frame | {"envelope": {"text": "hi"}}, EnvelopeError, "invalid_routing_fields"),
        "opaque": (frame | {"envelope": "hi"}, EnvelopeError, "invalid_routing_fields"),
        "of another": (
            frame | {"from": mallory.peer_id, "envelope": good},
            FrameError,
            "does not match relay from",
        ),
        "for another": (frame | {"envelope": elsewhere}, FrameError, "not addressed to us"),
        "without envelope": (frame, FrameError, "envelope"),
        "without sender": ({"type": "message", "envelope": good}, FrameError, "from"),
    }


@pytest.mark.parametrize("kind", forgeries(KeyPair.generate().peer_id))
async def test_what_is_not_genuine_is_trouble_and_never_reaches_the_application(kind: str) -> None:
    async with fake_relay() as relay, agent(relay.url, connect_timeout=0) as me:
        troubles = troubles_of(me)
        session = await relay.accept()
        await session.register()
        frame, error, words = forgeries(me.peer_id)[kind]
        await session.say(frame)
        await session.say(delivery(letter(KeyPair.generate(), me.peer_id, "genuine")))

        assert (await anext(me)).payload == "genuine"
        (trouble,) = troubles
        assert isinstance(trouble.error, error)
        assert words in str(trouble.error)


def delivery(envelope: Any) -> dict[str, Any]:
    """Return the frame that brings *envelope*."""
    return {"type": "message", "from": envelope.sender, "envelope": envelope.to_dict()}


@pytest.mark.parametrize(
    "frame",
    ["nonsense", "", "null", "[]", "{}", "7", '{"type":7}', '{"type":"dance"}', '{"type":"pong"}'],
)
async def test_frames_that_are_unknown_or_nonsense_do_no_harm(frame: str) -> None:
    async with fake_relay() as relay, agent(relay.url, connect_timeout=0) as me:
        session = await relay.accept()
        await session.register()
        await session.say(frame)
        await session.socket.send(frame.encode())
        await session.say(delivery(letter(KeyPair.generate(), me.peer_id, "genuine")))

        assert (await anext(me)).payload == "genuine"


async def test_a_message_comes_once_however_often_the_relay_sends_it() -> None:
    async with fake_relay() as relay, agent(relay.url, connect_timeout=0) as me:
        envelope = letter(KeyPair.generate(), me.peer_id, "once")
        for _ in range(2):  # on two connections, one after the other
            session = await relay.accept()
            await session.register()
            await session.say(delivery(envelope))
            await session.say(delivery(envelope))
            await session.say(delivery(letter(KeyPair.generate(), me.peer_id, "end")))
            await session.socket.close()

        async with asyncio.timeout(DEADLINE):
            assert [(await anext(me)).payload for _ in range(3)] == ["once", "end", "end"]


async def test_an_error_of_the_relay_is_trouble(relay: Relay) -> None:
    async with fake_relay() as fake, agent(fake.url, connect_timeout=0) as me:
        troubles = troubles_of(me)
        session = await fake.accept()
        await session.register()
        await session.say({"type": "error", "message": "you there", "code": "invalid_message"})
        await eventually(lambda: len(troubles) == 1)

        assert isinstance(troubles[0].error, RefusedError)
        assert "you there" in str(troubles[0].error)


async def test_text_for_people_has_nothing_that_plays_tricks(relay: Relay) -> None:
    async with agent(relay.url) as alice, agent(relay.url) as bob:
        alice.post(bob.peer_id, {"text": "a\x00b\x1b[31mc\u202ed\u200be"})
        message = await anext(bob)

        assert message.text == "ab[31mcde"
        assert message.payload == {"text": "a\x00b\x1b[31mc\u202ed\u200be"}  # as it was signed


# Handlers


async def test_each_type_goes_to_its_handler_and_the_rest_to_the_general_one(relay: Relay) -> None:
    async with agent(relay.url) as alice, agent(relay.url) as bob:
        heard: list[tuple[str, Any]] = []

        @bob.on("request")
        async def requests(message: Message) -> None:
            heard.append(("request", message.payload))

        @bob.on()
        async def others(message: Message) -> None:
            heard.append(("other", message.payload))
            if message.payload == "end":
                await bob.close()

        alice.post(bob.peer_id, 1, type="request")
        alice.post(bob.peer_id, 2)
        alice.post(bob.peer_id, "end", type="anything")
        async with asyncio.timeout(DEADLINE):
            await bob.run()  # ends, because the client is closed

        assert heard == [("request", 1), ("other", 2), ("other", "end")]


async def test_a_message_without_a_handler_is_left_out(relay: Relay) -> None:
    async with agent(relay.url) as alice, agent(relay.url) as bob:
        seen = asyncio.Event()

        @bob.on("known")
        async def known(message: Message) -> None:
            seen.set()

        async with asyncio.TaskGroup() as group:
            running = group.create_task(bob.run())
            alice.post(bob.peer_id, 1, type="unknown")
            alice.post(bob.peer_id, 2, type="known")
            await asyncio.wait_for(seen.wait(), DEADLINE)
            running.cancel()


async def test_a_handler_that_raises_is_logged_and_told_and_the_next_message_still_comes(
    relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    async with agent(relay.url) as alice, agent(relay.url) as bob:
        troubles = troubles_of(bob)
        seen: list[Any] = []

        @bob.on()
        async def fail_once(message: Message) -> None:
            seen.append(message.payload)
            if len(seen) == 1:
                raise LookupError("a bug of the application")
            await bob.close()

        alice.post(bob.peer_id, 1)
        alice.post(bob.peer_id, 2)
        async with asyncio.timeout(DEADLINE):
            await bob.run()

        assert seen == [1, 2]
        assert [type(trouble.error) for trouble in troubles] == [LookupError]
        (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
        assert record.name == "agora.client"
        assert "a bug of the application" in str(record.exc_info)
        caplog.clear()


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_no_more_handlers_are_at_work_than_asked_for(relay: Relay, concurrency: int) -> None:
    async with agent(relay.url) as alice, agent(relay.url) as bob:
        at_work, most, done = 0, 0, 0

        @bob.on()
        async def work(message: Message) -> None:
            nonlocal at_work, most, done
            at_work += 1
            most = max(most, at_work)
            await asyncio.sleep(0.005)  # the work
            at_work -= 1
            done += 1
            if done == 12:
                await bob.close()

        for number in range(12):
            alice.post(bob.peer_id, number)
        async with asyncio.timeout(DEADLINE):
            await bob.run(concurrency=concurrency)

        assert (most, done) == (concurrency, 12)


async def test_a_run_that_is_cancelled_leaves_the_messages_it_has_not_begun(relay: Relay) -> None:
    async with agent(relay.url) as alice, agent(relay.url) as bob:
        begun = asyncio.Event()
        handled: list[Any] = []

        @bob.on()
        async def never_ends(message: Message) -> None:
            handled.append(message.payload)
            begun.set()
            await asyncio.Event().wait()

        for number in range(5):
            alice.post(bob.peer_id, number)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(bob.run())
            await asyncio.wait_for(begun.wait(), DEADLINE)
            alice.post(bob.peer_id, 5)
            running.cancel()

        async with asyncio.timeout(DEADLINE):
            rest = [(await anext(bob)).payload for _ in range(5)]
        assert handled + rest == [0, 1, 2, 3, 4, 5]


# Who is there


async def test_peers_come_and_go(relay: Relay) -> None:
    async with agent(relay.url) as me:
        events = me.events()
        async with agent(relay.url, name="weather") as weather:
            assert await next_of(events, PresenceChanged) == PresenceChanged(
                weather.peer_id, True, "weather"
            )
            assert list(me.peers) == [weather.peer_id]
            assert me.peers[weather.peer_id].name == "weather"

        assert await next_of(events, PresenceChanged) == PresenceChanged(
            weather.peer_id, False, "weather"
        )
        assert me.peers == {}


async def next_of(events: Any, kind: type[ClientEvent]) -> ClientEvent:
    """Return the next event of a kind."""
    async with asyncio.timeout(DEADLINE):
        while not isinstance(event := await anext(events), kind):
            pass
    return event


async def test_who_was_there_is_gone_when_the_connection_is(relay: Relay) -> None:
    async with agent(relay.url) as me, raw_peer(relay.url) as other:
        await eventually(lambda: list(me.peers) == [other.id])
        events = me.events()
        await relay.close()

        assert await next_of(events, PresenceChanged) == PresenceChanged(other.id, False)
        assert me.peers == {}


async def test_a_closed_client_knows_nobody(relay: Relay) -> None:
    async with raw_peer(relay.url):
        me = agent(relay.url)
        await me.connect()
        assert len(me.peers) == 1
        await me.close()

        assert me.peers == {}


async def test_a_message_shows_the_name_its_sender_claims(relay: Relay) -> None:
    async with agent(relay.url, name="weather") as weather, agent(relay.url) as me:
        weather.post(me.peer_id, "sunny")

        assert (await anext(me)).name == "weather"


async def test_the_relays_own_id_is_known_where_it_tells_it(relay: Relay) -> None:
    async with agent(relay.url) as me:
        assert me.relay == relay.peer_id


async def test_a_listener_that_raises_stops_nothing(
    relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    async with agent(relay.url) as alice, agent(relay.url) as bob:

        def broken(event: ClientEvent) -> None:
            raise LookupError("a bug of the application")

        stop = bob.listen(broken)
        async with agent(relay.url):
            alice.post(bob.peer_id, "still here")
            assert (await anext(bob)).payload == "still here"
            await eventually(lambda: "listener failed" in caplog.messages)
        stop()

        caplog.clear()


# Never too much


async def fill(session: FakeSession, me: Client, count: int) -> None:
    """Send *me* numbered messages, as fast as its socket takes them."""
    sender = KeyPair.generate()
    for number in range(count):
        await session.say(delivery(letter(sender, me.peer_id, [number, "x" * 10_000])))


async def test_a_full_inbox_stops_the_reading_until_there_is_room() -> None:
    async with (
        fake_relay() as relay,
        agent(relay.url, connect_timeout=0, inbox_max_messages=5) as me,
        asyncio.TaskGroup() as group,
    ):
        session = await relay.accept()
        await session.register()
        filling = group.create_task(fill(session, me, 2_000))
        with pytest.raises(TimeoutError):  # 20 MB do not fit between the two
            await asyncio.wait_for(asyncio.shield(filling), 0.7)

        async with asyncio.timeout(DEADLINE):
            numbers = [(await anext(me)).payload[0] for _ in range(2_000)]  # type: ignore[index]
        assert numbers == list(range(2_000))
        await filling


async def test_a_client_that_does_not_read_is_not_a_relay_that_does_not_answer() -> None:
    timing = Timing(ping_interval=0.05, answer=0.05)

    async with (
        Relay(port=0) as relay,
        agent(relay.url) as alice,
        agent(relay.url, timing=timing, inbox_max_messages=3) as bob,
    ):
        losses: list[ClientEvent] = []
        bob.listen(losses.append)
        for number in range(20):
            alice.post(bob.peer_id, number)
        await asyncio.sleep(0.3)  # the application is busy, three times as long as a dead link
        async with asyncio.timeout(DEADLINE):
            payloads = [(await anext(bob)).payload for _ in range(20)]

        assert payloads == list(range(20))
        assert losses == []
        assert bob.is_connected


async def test_events_that_nobody_reads_end_their_iterator_and_no_more() -> None:
    stream = EventStream()
    stopped: list[bool] = []
    stream.stop = lambda: stopped.append(True)
    event = StateChanged(ConnectionState.CONNECTING)

    for _ in range(10_001):
        stream.put(event)

    assert stopped == [True]
    assert [await anext(stream) for _ in range(10_000)] == [event] * 10_000
    with pytest.raises(TryAgainError, match="10000 events were left unread"):
        await anext(stream)
