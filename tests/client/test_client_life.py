"""A client from its first connection to its end: what it says of itself, and what it leaves."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from agora.client import Client, ClientEvent, ConnectionState, StateChanged, Status, Timing
from agora.errors import (
    AgoraError,
    ClosedError,
    ConfigurationError,
    NoAnswerError,
    NotConnectedError,
    RefusedError,
)
from agora.keys import KeyPair
from agora.relay import Relay
from tests.client.fake_relay import fake_relay
from tests.support import DEADLINE, agent, eventually, letter, other_tasks, raw_peer

NOBODY = "ws://127.0.0.1:1"


def states_of(client: Any) -> list[ConnectionState]:
    """Return the list to which every state of *client* is added from now on."""
    found: list[ConnectionState] = []

    def note(event: ClientEvent) -> None:
        if isinstance(event, StateChanged) and event.state not in found[-1:]:
            found.append(event.state)

    client.listen(note)
    return found


# The beginning


async def test_a_client_that_enters_is_registered(relay: Relay) -> None:
    me = agent(relay.url)
    states = states_of(me)

    async with me:
        assert me.state is ConnectionState.CONNECTED
        assert me.is_connected
        assert me.error is None
    assert states == [ConnectionState.CONNECTED, ConnectionState.CLOSED]


async def test_connecting_to_nobody_ends_with_not_connected() -> None:
    me = agent(NOBODY, connect_timeout=0.1)

    with pytest.raises(NotConnectedError, match=r"not registered within 0\.1 s: no relay at"):
        await me.connect()
    assert me.state is ConnectionState.CLOSED


async def test_without_waiting_a_client_goes_on_trying_and_says_why_it_is_not_there() -> None:
    async with agent(NOBODY, connect_timeout=0) as me:
        await eventually(lambda: me.error is not None)

        assert me.state is ConnectionState.CONNECTING
        assert isinstance(me.error, NotConnectedError)
        assert NOBODY in str(me.error)


async def test_a_client_finds_a_relay_that_starts_later() -> None:
    async with Relay(port=0) as relay:
        port = relay.port
    async with agent(f"ws://127.0.0.1:{port}", connect_timeout=0) as me:
        await eventually(lambda: me.error is not None)
        async with Relay(port=port):
            await eventually(lambda: me.is_connected)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1:9470",
        "127.0.0.1:9470",
        "ws://",
        "ws://127.0.0.1:99999",
        "ws://[::1",
        "ws://" + "x" * 100 + ".example",
        "",
    ],
)
async def test_a_url_that_can_never_work_is_said_at_once(url: str) -> None:
    me = agent(url)

    with pytest.raises(ConfigurationError):
        async with asyncio.timeout(5):
            await me.connect()
    assert me.state is ConnectionState.CLOSED


async def test_a_relay_that_does_not_register_is_not_waited_for() -> None:
    timing = Timing(register=0.05)

    async with fake_relay() as relay, agent(relay.url, timing=timing, connect_timeout=0) as me:
        for _ in range(3):  # it tries again and again
            session = await relay.accept()
            assert (await session.hear())["type"] == "register"
        assert isinstance(me.error, NoAnswerError)


async def test_what_is_no_websocket_is_said_to_be_none() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NotConnectedError, match="answered HTTP 404"):
            await agent(f"ws://127.0.0.1:{port}", connect_timeout=0.1).connect()


async def test_a_client_that_shall_not_come_back_ends_with_its_first_loss() -> None:
    async with Relay(port=0) as relay:
        me = agent(relay.url, reconnect=False)
        await me.connect()
    with pytest.raises(NoAnswerError, match="1001"):
        async with asyncio.timeout(DEADLINE):
            await anext(me)
    assert me.state is ConnectionState.CLOSED


async def test_connecting_twice_is_harmless(relay: Relay) -> None:
    async with agent(relay.url) as me:
        await me.connect()

        assert me.is_connected


async def test_two_sessions_of_one_identity_live_side_by_side(relay: Relay) -> None:
    keys = KeyPair.generate()

    async with agent(relay.url, keys) as first, agent(relay.url, keys) as second:
        first.post(keys.peer_id, "both of us")

        assert (await anext(first)).payload == (await anext(second)).payload == "both of us"
        assert first.is_connected
        assert second.is_connected


# Coming back


async def test_a_lost_connection_is_told_and_comes_back(relay: Relay) -> None:
    keys = KeyPair.generate()

    async with Relay(port=0, identity=keys) as first:
        port = first.port
        me = agent(first.url)
        states = states_of(me)
        await me.connect()
    await eventually(lambda: not me.is_connected)
    assert isinstance(me.error, NoAnswerError)
    async with Relay(port=port, identity=keys):
        await eventually(lambda: me.is_connected)
        assert me.error is None
        await me.close()

    assert states == [
        ConnectionState.CONNECTED,
        ConnectionState.CONNECTING,
        ConnectionState.CONNECTED,
        ConnectionState.CLOSED,
    ]


async def test_the_waits_grow_until_a_registration_and_begin_anew_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("random.random", lambda: 0.1)  # so waits of 50, 100, 200 … ms
    moments: list[float] = []

    async with fake_relay() as relay, agent(relay.url, connect_timeout=0):
        for number in range(5):
            session = await relay.accept()
            moments.append(time.monotonic())
            if number == 3:
                await session.register()
            await session.socket.close()

    waits = [after - before for before, after in itertools.pairwise(moments)]
    assert waits[0] >= 0.05
    assert waits[1] >= 0.1
    assert waits[2] >= 0.2
    assert waits[3] < waits[2]  # registered meanwhile: from the beginning


async def test_a_final_refusal_ends_it_and_is_raised_wherever_the_client_is_used() -> None:
    async with fake_relay() as relay:
        me = agent(relay.url, connect_timeout=0)
        await me.connect()
        session = await relay.accept()
        await session.register()
        await session.socket.close(4501, "protocol_error")

        with pytest.raises(RefusedError, match="4501") as refusal:
            await asyncio.wait_for(anext(me), DEADLINE)
        assert refusal.value.code == "closed"
        assert me.state is ConnectionState.CLOSED
        for use in (
            me.send(me.peer_id, "x"),
            me.broadcast("x"),
            me.request(me.peer_id, "x"),
            me.connect(),
            me.run(),
        ):
            with pytest.raises(RefusedError):
                await use


async def test_a_registration_that_is_refused_for_good_is_raised_by_connect() -> None:
    async with fake_relay() as relay, asyncio.TaskGroup() as group:
        me = agent(relay.url)
        connecting = group.create_task(_error_of(me.connect()))
        session = await relay.accept()
        await session.hear()
        message = "Invalid registration: missing or invalid publicKey"
        await session.say({"type": "error", "message": message})

        assert isinstance(await connecting, RefusedError)


async def _error_of(awaitable: Any) -> Exception | None:
    try:
        await awaitable
    except AgoraError as error:
        return error
    return None


# The end


async def test_closing_ends_every_iterator(relay: Relay) -> None:
    me = agent(relay.url)
    await me.connect()

    async def read() -> list[Any]:
        return [message.payload async for message in me]

    async def watch() -> list[ClientEvent]:
        return [event async for event in me.events()]

    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(read()) for _ in range(3)]
        watchers = [group.create_task(watch()) for _ in range(3)]
        handling = group.create_task(me.run())
        await me.send(me.peer_id, "last")
        await eventually(lambda: any(task.done() or me.peers == {} for task in readers))
        await me.close()

    assert sorted(map(len, (task.result() for task in readers))) in ([0, 0, 0], [0, 0, 1])
    assert all(events.result()[-1].state == "closed" for events in watchers)  # type: ignore[union-attr]
    assert handling.done()


async def test_what_has_come_can_still_be_read_after_the_end(relay: Relay) -> None:
    me = agent(relay.url)
    await me.connect()
    async with raw_peer(relay.url) as alice:
        await eventually(lambda: len(me.peers) == 1)
        for number in range(3):
            await alice.send(me.peer_id, number)
    await eventually(lambda: me.peers == {})  # that she has gone comes behind the three
    await me.close()

    assert [message.payload async for message in me] == [0, 1, 2]


async def test_a_closed_client_cannot_be_used_again(relay: Relay) -> None:
    async with agent(relay.url) as me:
        pass

    for use in (me.send(me.peer_id, "x"), me.connect(), me.send_group([me.peer_id], "x")):
        with pytest.raises(ClosedError):
            await use
    with pytest.raises(StopAsyncIteration):
        await anext(me)
    assert [event async for event in me.events()] == [StateChanged(ConnectionState.CLOSED)]


async def test_closing_twice_or_before_connecting_is_harmless(relay: Relay) -> None:
    me = agent(relay.url)
    await me.close()
    await me.close()

    async with agent(relay.url) as other:
        await asyncio.gather(other.close(), other.close())


async def test_closing_ends_what_waits_for_a_receipt(relay: Relay) -> None:
    me = agent(relay.url)
    await me.connect()
    receipt = await me.send(KeyPair.generate().peer_id, "for nobody")
    settled, _ = await asyncio.gather(receipt.settled(), me.close())

    assert settled is Status.QUEUED


async def test_closing_says_how_much_is_lost_with_the_outbox(
    relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    async with agent(relay.url) as me:
        for _ in range(3):
            await me.send(KeyPair.generate().peer_id, "for nobody")

    assert "closed with 3 messages unsent, which are lost" in caplog.messages


async def test_a_client_may_be_closed_while_it_connects() -> None:
    async with fake_relay() as relay, asyncio.TaskGroup() as group:
        me = agent(relay.url)
        connecting = group.create_task(_error_of(me.connect()))
        await relay.accept()  # and it is never registered
        await me.close()

        assert isinstance(await connecting, ClosedError)


async def test_a_client_may_be_closed_in_the_middle_of_a_handshake() -> None:
    silent = asyncio.Event()

    async def hear_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        silent.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(hear_nothing, "127.0.0.1", 0) as server:
        me = agent(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", connect_timeout=0)
        await me.connect()
        await asyncio.wait_for(silent.wait(), DEADLINE)
        await me.close()


async def test_a_client_is_closed_in_time_though_its_relay_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agora.client.websocket._CLOSE_TIMEOUT", 0.1)

    async with fake_relay() as relay:
        me = agent(relay.url, connect_timeout=0)
        await me.connect()
        session = await relay.accept()
        await session.register()
        await eventually(lambda: me.is_connected)
        session.socket.transport.pause_reading()  # not even the goodbye is heard
        async with asyncio.timeout(5):
            await me.close()
        session.socket.transport.abort()


# Cancellation


async def test_connecting_may_be_cancelled_at_any_moment(relay: Relay) -> None:
    for steps in range(1, 40):
        me = agent(relay.url)
        connecting = asyncio.get_running_loop().create_task(me.connect())
        for _ in range(steps):
            await asyncio.sleep(0)  # one step of the loop
        connecting.cancel()
        await asyncio.wait([connecting])
        if not connecting.cancelled():
            await me.close()

        assert me.state is ConnectionState.CLOSED
        assert {task for task in other_tasks() if "agora client" in task.get_name()} == set()


async def test_closing_may_be_cancelled_and_drops_the_connection_then() -> None:
    async with fake_relay() as relay:
        me = agent(relay.url, connect_timeout=0)
        await me.connect()
        session = await relay.accept()
        await session.register()
        await eventually(lambda: me.is_connected)
        session.socket.transport.pause_reading()  # so that the goodbye takes time
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(me.close(), 0.05)
        async with asyncio.timeout(1):
            await me.close()

        assert me.state is ConnectionState.CLOSED
        session.socket.transport.abort()


async def test_sending_may_be_cancelled_and_the_message_goes_all_the_same(relay: Relay) -> None:
    async with agent(relay.url) as alice, agent(relay.url) as bob:
        for number in range(1, 20):  # a task that never ran has sent nothing
            sending = asyncio.get_running_loop().create_task(alice.send(bob.peer_id, number))
            for _ in range(number):
                await asyncio.sleep(0)
            sending.cancel()
            await asyncio.wait([sending])

        async with asyncio.timeout(DEADLINE):
            assert [(await anext(bob)).payload for _ in range(1, 20)] == list(range(1, 20))


async def test_receiving_may_be_cancelled_and_no_message_is_lost() -> None:
    async with fake_relay() as relay, agent(relay.url, connect_timeout=0) as me:
        session = await relay.accept()
        await session.register()
        sender, got = KeyPair.generate(), []
        for number in range(200):
            receiving = asyncio.get_running_loop().create_task(anext(me))
            envelope = letter(sender, me.peer_id, number)
            members = {"type": "message", "from": envelope.sender, "envelope": envelope.to_dict()}
            await session.say(members)
            for _ in range(number % 10):
                await asyncio.sleep(0)
            receiving.cancel()
            await asyncio.wait([receiving])
            if not receiving.cancelled():
                got.append(receiving.result().payload)
        while len(got) < 200:
            got.append((await asyncio.wait_for(anext(me), DEADLINE)).payload)

    assert got == list(range(200))


async def test_an_application_that_is_cancelled_leaves_nothing(relay: Relay) -> None:
    async def application() -> None:
        async with agent(relay.url) as me:
            async for _ in me:
                pass

    running = asyncio.get_running_loop().create_task(application())
    await eventually(lambda: relay.counts.get("registered") == 1)
    running.cancel()
    await asyncio.wait([running])

    assert running.cancelled()
    await eventually(lambda: relay.counts.get("left") == 1)


async def test_an_idle_client_costs_no_work(relay: Relay) -> None:
    async with agent(relay.url) as me, agent(NOBODY, connect_timeout=0) as seeker:
        await me.send(KeyPair.generate().peer_id, "waits for nobody")
        await eventually(lambda: seeker.error is not None)
        began = time.process_time()
        await asyncio.sleep(0.5)  # nothing is the point

        assert time.process_time() - began < 0.1


async def test_a_relay_that_talks_but_never_answers_is_left() -> None:
    async with fake_relay() as relay:
        me = agent(relay.url, connect_timeout=0, timing=Timing(ping_interval=0.05, answer=0.05))
        await me.connect()
        session = await relay.accept()
        await session.register()

        async def talk_on() -> None:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await session.socket.send('{"type":"something_new"}')
                    await asyncio.sleep(0.01)

        async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
            group.create_task(talk_on())
            await me.send(KeyPair.generate().peer_id, "is anybody there?")
            await relay.accept()  # it has come back, on a connection of its own

        assert len(me.outbox) == 1
        await me.close()


def test_a_path_in_place_of_an_identity_is_said_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"Identity\.load_or_create"):
        Client("ws://localhost:9470", "agent.json")  # type: ignore[arg-type]
