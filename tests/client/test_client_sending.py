"""What an application sends: receipts that mean what they say, and an outbox that loses nothing."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from agora.canonical import Json
from agora.client import Client, ConnectionState, Status, Timing, Trouble
from agora.envelope import open_envelope
from agora.errors import (
    CanonicalJSONError,
    ClosedError,
    InputError,
    NoAnswerError,
    OutboxFullError,
    PeerReferenceError,
    RefusedError,
)
from agora.keys import KeyPair
from agora.references import Contact
from agora.relay import Relay
from tests.client.fake_relay import fake_relay
from tests.client.talking import TAKEN, take, there
from tests.support import DEADLINE, agent, eventually, raw_peer

QUICK = Timing(retry_first=0.05, retry_cap=0.2)


async def payloads(client: Client, count: int) -> list[Json]:
    """Return the payloads of the next *count* messages."""
    async with asyncio.timeout(DEADLINE):
        return [(await anext(client)).payload for _ in range(count)]


# Receipts


async def test_a_message_arrives_and_its_receipt_says_delivered(relay: Relay) -> None:
    async with agent(relay.url) as alice, there(relay.url) as bob:
        sending = alice.send(bob.peer_id, {"text": "hello"}, type="greeting")
        receipt, message = await asyncio.gather(sending, take(bob))

        assert receipt.status is Status.DELIVERED
        assert (receipt.id, receipt.to) == (message.id, bob.peer_id)
        assert (message.sender, message.type) == (alice.peer_id, "greeting")
        assert (message.payload, message.text) == ({"text": "hello"}, "hello")
        assert await receipt.settled() is Status.DELIVERED
        assert alice.outbox == ()


async def test_a_message_for_a_peer_that_is_offline_is_queued_and_goes_out_when_it_comes(
    relay: Relay,
) -> None:
    later = KeyPair.generate()

    async with agent(relay.url) as alice:
        receipt = await alice.send(later.peer_id, "early")
        assert (receipt.status, receipt.why) == (Status.QUEUED, "unknown_recipient")
        assert alice.outbox == (receipt,)
        assert await receipt.settled(timeout=0.01) is Status.QUEUED
        first_id = receipt.id

        async with agent(relay.url, later) as bob:
            message = await take(bob)
            assert message.payload == "early"
            assert await receipt.settled() in TAKEN
            assert message.id == receipt.id == first_id


async def test_messages_for_an_offline_peer_keep_their_order(relay: Relay) -> None:
    later = KeyPair.generate()

    async with agent(relay.url) as alice:
        for number in range(50):
            assert (await alice.send(later.peer_id, number)).status is Status.QUEUED
        async with agent(relay.url, later) as bob:
            assert await payloads(bob, 50) == list(range(50))


async def test_a_peer_that_is_offline_does_not_hold_up_the_others(relay: Relay) -> None:
    async with agent(relay.url) as alice, there(relay.url) as bob:
        for number in range(10):
            await alice.send(KeyPair.generate().peer_id, "waits")
            alice.post(bob.peer_id, number)

            assert (await take(bob)).payload == number
        await eventually(lambda: len(alice.outbox) == 10)


async def test_a_message_that_waits_is_tried_again_by_itself_signed_anew() -> None:
    later = KeyPair.generate().peer_id

    async with fake_relay() as relay, agent(relay.url, timing=QUICK, connect_timeout=0) as alice:
        session = await relay.accept()
        await session.register()
        await eventually(lambda: alice.is_connected)
        sending = asyncio.gather(alice.send(later, "again"), session.refuse(message=NOT_HERE))
        receipt, first = await sending
        assert receipt.status is Status.QUEUED

        second = await session.take()  # though nobody said that the peer is there
        assert open_envelope(second).payload == "again"
        assert second["id"] == receipt.id != first["id"]  # the first is spent at the reference
        assert await receipt.settled() is Status.SENT


NOT_HERE = "Recipient not connected"


async def test_a_final_refusal_raises_and_stays_in_the_receipt() -> None:
    async with fake_relay() as relay, agent(relay.url, connect_timeout=0) as alice:
        session = await relay.accept()
        await session.register()
        await eventually(lambda: alice.is_connected)
        refusing = session.refuse(message="Invalid envelope: id_mismatch", code="invalid_envelope")
        sending = asyncio.gather(alice.send(alice.peer_id, "x"), refusing, return_exceptions=True)
        refusal, _ = await sending

        assert isinstance(refusal, RefusedError)
        assert refusal.code == "invalid_envelope"
        assert "id_mismatch" in str(refusal)
        assert alice.outbox == ()


async def test_a_duplicate_counts_as_sent() -> None:
    async with fake_relay() as relay, agent(relay.url, connect_timeout=0) as alice:
        session = await relay.accept()
        await session.register()
        await eventually(lambda: alice.is_connected)
        refusing = session.refuse(message="Duplicate envelope", code="duplicate")
        receipt, _ = await asyncio.gather(alice.send(alice.peer_id, "x"), refusing)

        assert receipt.status is Status.SENT


async def test_a_broadcast_reaches_everyone_who_is_online(relay: Relay) -> None:
    async with agent(relay.url) as alice, there(relay.url) as bob, there(relay.url) as carol:
        receipt = await alice.broadcast({"text": "anyone here?"})

        assert receipt.status is Status.SENT
        for listener in (bob, carol):
            message = await anext(listener)
            assert message.to == ("*",)
            assert message.payload == {"text": "anyone here?"}


async def test_a_relay_without_broadcast_gets_one_message_for_each_peer() -> None:
    peers = [KeyPair.generate().peer_id for _ in range(3)]

    async with fake_relay() as relay, agent(relay.url, connect_timeout=0) as alice:
        session = await relay.accept()
        await session.register(*peers)
        await eventually(lambda: alice.is_connected)

        async def take_all() -> list[Any]:
            await session.refuse(message="Unknown message type: broadcast")
            return [await session.take() for _ in peers]

        receipt, envelopes = await asyncio.gather(alice.broadcast("hi"), take_all())

    assert receipt.status is Status.SENT
    assert [envelope["to"] for envelope in envelopes] == [[peer] for peer in peers]
    assert len({envelope["timestamp"] for envelope in envelopes}) == 3


# To whom


async def test_a_group_gets_one_envelope_each_and_sees_all_recipients(relay: Relay) -> None:
    async with agent(relay.url) as alice, there(relay.url) as bob, there(relay.url) as carol:
        recipients = (bob.peer_id, carol.peer_id)
        sending = alice.send_group([*recipients, bob.peer_id], "all of you")
        receipts, first, second = await asyncio.gather(sending, take(bob), take(carol))

        assert [receipt.status for receipt in receipts] == [Status.DELIVERED] * 2
        assert first.to == second.to == recipients
        assert first.timestamp_ms != second.timestamp_ms
        assert first.id != second.id


async def test_one_of_a_group_who_is_offline_keeps_nobody_else_waiting(relay: Relay) -> None:
    absent = KeyPair.generate().peer_id

    async with agent(relay.url) as alice, there(relay.url) as bob:
        sending = alice.send_group([absent, bob.peer_id], "both")
        receipts, _ = await asyncio.gather(sending, take(bob))

        assert [receipt.status for receipt in receipts] == [Status.QUEUED, Status.DELIVERED]


async def test_peers_are_found_by_contact_and_by_short_reference(relay: Relay) -> None:
    async with there(relay.url) as bob, agent(relay.url, contacts={"bob": bob.peer_id}) as alice:
        for reference in ("bob", f"bob@{bob.peer_id[-8:]}", f"@{bob.peer_id[-8:]}", bob.peer_id):
            alice.post(reference, reference)
            assert (await take(bob)).payload == reference


async def test_a_name_that_a_peer_claims_is_nobodys_address(relay: Relay) -> None:
    async with agent(relay.url, name="bank"), agent(relay.url) as alice:
        assert [peer.name for peer in alice.peers.values()] == ["bank"]
        for reference in ("bank", "@00000000", "", "nobody"):
            with pytest.raises(PeerReferenceError):
                await alice.send(reference, "my secret")


async def test_contacts_may_be_a_list() -> None:
    bob = KeyPair.generate().peer_id
    client = agent("ws://127.0.0.1:1", contacts=[Contact(bob, "bob")])

    assert client.resolve("bob") == bob


# What cannot be sent


async def test_what_json_cannot_hold_is_refused_at_once(relay: Relay) -> None:
    async with agent(relay.url) as alice:
        for payload in (object(), {1: 2}, b"bytes", {"deep": _nested(600)}):
            with pytest.raises(CanonicalJSONError):
                await alice.send(alice.peer_id, payload)  # type: ignore[arg-type]
        assert alice.outbox == ()


def _nested(depth: int) -> Json:
    value: Json = None
    for _ in range(depth):
        value = [value]
    return value


async def test_a_message_that_is_too_large_is_refused_with_the_numbers(relay: Relay) -> None:
    async with agent(relay.url, max_frame_bytes=10_000) as alice:
        with pytest.raises(InputError, match="exceeds max_frame_bytes of 10000"):
            await alice.send(alice.peer_id, "x" * 10_000)

        alice.post(alice.peer_id, "x" * 9_000)
        assert (await take(alice)).payload == "x" * 9_000


async def test_a_message_too_large_for_this_relay_is_refused_at_once() -> None:
    async with Relay(port=0, max_frame_bytes=4096) as relay, agent(relay.url) as alice:
        with pytest.raises(InputError, match="exceeds max_frame_bytes of 4096"):
            await alice.send(alice.peer_id, "x" * 5_000)


async def test_a_message_that_turns_out_too_large_is_given_up_and_the_rest_goes_on() -> None:
    async with (
        Relay(port=0, max_frame_bytes=4096) as relay,
        agent(relay.url, connect_timeout=0) as alice,
    ):
        refused = alice.post(alice.peer_id, "x" * 5_000)  # before it knows what this relay takes
        alice.post(alice.peer_id, "small")

        assert (await take(alice)).payload == "small"
        with pytest.raises(RefusedError, match="too big for this relay") as refusal:
            await refused.settled()
        assert refusal.value.code == "too_large"


async def test_a_full_outbox_refuses_the_newest_and_keeps_the_rest() -> None:
    later = KeyPair.generate()

    async with Relay(port=0) as relay, agent(relay.url, outbox_max_messages=3) as alice:
        for number in range(3):
            await alice.send(later.peer_id, number)
        with pytest.raises(OutboxFullError, match="3 messages of at most 3"):
            await alice.send(later.peer_id, 3)

        async with agent(relay.url, later) as bob:
            assert [(await take(bob)).payload for _ in range(3)] == [0, 1, 2]
            await eventually(lambda: alice.outbox == ())
            alice.post(later.peer_id, 3)
            assert (await take(bob)).payload == 3


async def test_an_outbox_is_bounded_in_bytes_too() -> None:
    later = KeyPair.generate().peer_id

    async with Relay(port=0) as relay, agent(relay.url, outbox_max_bytes=5_000) as alice:
        await alice.send(later, "x" * 3_000)
        with pytest.raises(OutboxFullError, match="of at most 5000"):
            await alice.send(later, "x" * 3_000)


# Rates


async def test_our_own_rate_paces_what_is_sent_and_loses_nothing(relay: Relay) -> None:
    async with agent(relay.url, rate_limit=(5, 0.5)) as alice, there(relay.url) as bob:
        began = time.monotonic()
        for number in range(10):
            alice.post(bob.peer_id, number)

        assert await payloads(bob, 10) == list(range(10))
        assert time.monotonic() - began >= 0.45  # five at once, then one each tenth of a second


async def test_the_relays_rate_is_kept_to_as_told_and_nothing_is_lost() -> None:
    settings: dict[str, Any] = {"rate_limit_max_messages": 5, "rate_limit_window_ms": 300}

    async with (
        Relay(port=0, **settings) as relay,
        agent(relay.url, rate_limit=None) as alice,
        there(relay.url) as bob,
    ):
        receipts = [alice.post(bob.peer_id, number) for number in range(15)]

        assert [(await take(bob)).payload for _ in range(15)] == list(range(15))
        async with asyncio.timeout(DEADLINE):
            assert {await receipt.settled() for receipt in receipts} == {Status.DELIVERED}


# Requests


async def test_a_request_returns_its_reply_which_comes_nowhere_else(relay: Relay) -> None:
    async with agent(relay.url) as alice, there(relay.url) as bob:

        async def answer() -> None:
            question = await anext(bob)
            await question.reply({"answer": 42})
            bob.post(alice.peer_id, "something else")

        async with asyncio.TaskGroup() as group:
            group.create_task(answer())
            reply = await alice.request(bob.peer_id, {"question": "?"}, timeout=DEADLINE)

        assert (reply.payload, reply.type) == ({"answer": 42}, "response")
        assert (await anext(alice)).payload == "something else"


async def test_many_requests_at_once_get_each_their_own_reply(relay: Relay) -> None:
    async with agent(relay.url) as alice, there(relay.url) as bob:

        @bob.on("request")
        async def double(message: Any) -> None:
            await message.reply(message.payload * 2)

        async with asyncio.TaskGroup() as group:
            running = group.create_task(bob.run())
            numbers = range(30)
            asked = [alice.request(bob.peer_id, number, timeout=DEADLINE) for number in numbers]
            replies = await asyncio.gather(*asked)
            running.cancel()

        assert [reply.payload for reply in replies] == [number * 2 for number in numbers]


async def test_a_request_without_a_reply_ends_and_the_late_reply_comes_as_a_message(
    relay: Relay,
) -> None:
    async with agent(relay.url) as alice, there(relay.url) as bob:
        with pytest.raises(NoAnswerError, match="no reply") as late:
            await alice.request(bob.peer_id, "?", timeout=0.05)
        assert isinstance(late.value, TimeoutError)

        bob.post(alice.peer_id, "late", in_reply_to=(await anext(bob)).id)
        assert (await anext(alice)).payload == "late"


async def test_a_reply_counts_only_from_the_peer_that_was_asked(relay: Relay) -> None:
    async with (
        agent(relay.url) as alice,
        there(relay.url) as bob,
        agent(relay.url) as mallory,
        asyncio.TaskGroup() as group,
    ):
        asking = group.create_task(alice.request(bob.peer_id, "?", timeout=DEADLINE))
        question = await anext(bob)
        mallory.post(alice.peer_id, "forged", in_reply_to=question.id)
        assert (await anext(alice)).payload == "forged"

        await question.reply("genuine")
        assert (await asking).payload == "genuine"


async def test_a_request_to_a_peer_that_comes_later_is_answered_all_the_same(relay: Relay) -> None:
    later = KeyPair.generate()

    async with agent(relay.url) as alice, asyncio.TaskGroup() as group:
        asking = group.create_task(alice.request(later.peer_id, "?", timeout=DEADLINE))
        await eventually(lambda: [r.why for r in alice.outbox] == ["unknown_recipient"])
        async with agent(relay.url, later) as bob:
            await (await anext(bob)).reply("here now")
            assert (await asking).payload == "here now"


async def test_a_request_that_is_refused_raises_the_refusal() -> None:
    async with fake_relay() as relay, agent(relay.url, connect_timeout=0) as alice:
        session = await relay.accept()
        await session.register()
        refusing = session.refuse(message="no", code="sender_mismatch")
        asking = alice.request(alice.peer_id, "?", timeout=DEADLINE)
        refusal, _ = await asyncio.gather(asking, refusing, return_exceptions=True)

        assert isinstance(refusal, RefusedError)


async def test_a_request_ends_when_its_client_is_closed(relay: Relay) -> None:
    async with there(relay.url) as bob:
        alice = agent(relay.url)
        await alice.connect()

        async def close() -> None:
            await anext(bob)
            await alice.close()

        asking = alice.request(bob.peer_id, "?", timeout=60)
        ended, _ = await asyncio.gather(asking, close(), return_exceptions=True)
        assert isinstance(ended, ClosedError)


# While there is no connection


async def test_messages_sent_while_disconnected_go_out_when_the_relay_is_back() -> None:
    keys = KeyPair.generate()

    async with Relay(port=0, identity=keys) as relay:
        port = relay.port
        alice, bob = agent(relay.url), agent(relay.url)
        await alice.connect()
        await bob.connect()
        sending = asyncio.gather(alice.send(bob.peer_id, 0), take(bob))
        assert (await sending)[0].status in TAKEN
    await eventually(lambda: not (alice.is_connected or bob.is_connected))
    receipts = [await alice.send(bob.peer_id, number) for number in range(1, 50)]
    assert {receipt.status for receipt in receipts} == {Status.QUEUED}

    async with Relay(port=port, identity=keys):
        assert [(await take(bob)).payload for _ in range(49)] == list(range(1, 50))
        async with asyncio.timeout(DEADLINE):
            assert {await receipt.settled() for receipt in receipts} <= set(TAKEN)
        alice.post(bob.peer_id, "last")
        assert await payloads(bob, 1) == ["last"]  # and nothing twice before it
        await alice.close()
        await bob.close()


async def test_a_relay_that_restarts_in_the_middle_loses_nothing_and_doubles_nothing() -> None:
    keys = KeyPair.generate()

    async with Relay(port=0, identity=keys) as relay:
        port = relay.port
        alice, bob = agent(relay.url, rate_limit=None), agent(relay.url)
        await alice.connect()
        await bob.connect()
        for number in range(150):
            alice.post(bob.peer_id, number)
        first = await payloads(bob, 20)
    async with Relay(port=port, identity=keys):
        rest = await payloads(bob, 130)
        alice.post(bob.peer_id, "last")

        assert await payloads(bob, 1) == ["last"]
        assert first + rest == list(range(150))
        await alice.close()
        await bob.close()


async def test_send_returns_at_once_when_the_connection_is_lost_meanwhile() -> None:
    async with fake_relay() as relay, agent(relay.url, connect_timeout=0) as alice:
        session = await relay.accept()
        await session.register()
        await eventually(lambda: alice.is_connected)
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:  # an answer may take ten
            sending = group.create_task(alice.send(alice.peer_id, "x"))
            await session.hear()
            session.socket.transport.abort()

            assert (await sending).status is Status.QUEUED


async def test_the_first_message_may_be_sent_before_there_is_a_connection(relay: Relay) -> None:
    async with agent(relay.url, connect_timeout=0) as alice:
        receipt = await alice.send(alice.peer_id, "early")
        assert receipt.status is Status.QUEUED

        assert (await take(alice)).payload == "early"
        assert await receipt.settled() in TAKEN


async def test_a_loop_of_sends_without_a_connection_leaves_others_their_turn() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with agent("ws://127.0.0.1:1", connect_timeout=0) as alice, asyncio.TaskGroup() as group:
        running = group.create_task(other())
        for number in range(100):
            await alice.send(alice.peer_id, number)
        running.cancel()

    assert turns >= 100


async def test_nothing_is_sent_before_registered_came() -> None:
    async with fake_relay() as relay, agent(relay.url, connect_timeout=0) as alice:
        await alice.send(alice.peer_id, "early")
        session = await relay.accept()
        assert (await session.hear_any())["type"] == "register"
        pong = await session.socket.ping()
        await asyncio.wait_for(pong, DEADLINE)  # what it had to write before would be here
        await session.say({"type": "registered", "publicKey": alice.peer_id, "peers": []})

        assert (await session.hear_any())["type"] == "message"


async def test_a_registration_refused_for_room_is_tried_again_and_said() -> None:
    async with fake_relay() as relay, agent(relay.url, connect_timeout=0) as alice:
        troubles: list[Any] = []
        alice.listen(lambda event: troubles.append(event) if isinstance(event, Trouble) else None)
        for _ in range(2):
            session = await relay.accept()
            await session.hear()
            await session.say({"type": "error", "message": "Relay is at capacity (max 1 peers)"})
            await session.socket.close(1013)
        session = await relay.accept()
        await session.register()
        await eventually(lambda: alice.is_connected)

        assert [trouble.error.code for trouble in troubles] == ["at_capacity"] * 2
        assert alice.state is ConnectionState.CONNECTED


async def test_a_name_is_claimed_at_registration(relay: Relay) -> None:
    async with raw_peer(relay.url) as observer, agent(relay.url, name="weather") as me:
        assert await observer.hear() == {
            "type": "peer_online",
            "publicKey": me.peer_id,
            "name": "weather",
        }


async def test_a_request_that_was_given_up_does_not_go_out_later(relay: Relay) -> None:
    keys = KeyPair.generate()
    async with agent(relay.url) as me:
        with pytest.raises(NoAnswerError, match="unknown_recipient"):
            await me.request(keys.peer_id, "are you there?", timeout=0.2)
        assert me.outbox == ()

        async with agent(relay.url, keys) as late:
            me.post(keys.peer_id, "then this")
            assert (await anext(late)).payload == "then this"


async def test_a_number_that_would_change_on_the_way_is_not_sent(relay: Relay) -> None:
    async with agent(relay.url) as me:
        with pytest.raises(InputError, match="9007199254740993 would arrive as 9007199254740992"):
            await me.send(me.peer_id, {"amount": 2**53 + 1})
