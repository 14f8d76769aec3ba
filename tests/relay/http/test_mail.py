"""Mail by HTTP: to peers with sockets and without, at once or when they come."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from agora.keys import KeyPair
from agora.relay import Relay
from tests.relay.http.talking import HttpPeer, http_peer, is_online
from tests.support import DEADLINE, agent, raw_peer


async def test_a_message_comes_to_whoever_polls(relay: Relay) -> None:
    async with http_peer(relay, name="alice") as alice, http_peer(relay) as bob:
        assert await bob.poll(wait=0) == []  # and so is online
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(alice.send(bob.id, {"n": 1}))
            [message] = await bob.poll()
            await bob.ack(message["envelope"]["id"])
        sent = sending.result()

    assert (message["from"], message["name"]) == (alice.id, "alice")
    assert message["envelope"]["payload"] == {"n": 1}
    assert [(one["to"], one["status"]) for one in sent["receipts"]] == [(bob.id, "delivered")]


async def test_mail_waits_for_a_peer_that_is_away(relay: Relay) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob:
        sent = await alice.send(bob.id, "while you slept")

        assert sent["receipts"][0]["status"] == "stored"
        assert await bob.payloads(wait=0) == ["while you slept"]
        assert await bob.payloads(wait=0) == []


async def test_mail_comes_again_until_it_is_acked(relay: Relay) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob:
        await alice.send(bob.id, "once")

        assert await bob.payloads(ack=False) == ["once"]
        assert await bob.payloads() == ["once"]
        assert await bob.payloads(wait=0) == []


async def test_a_limit_leaves_the_rest_and_says_so(relay: Relay) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob:
        for number in range(3):
            await alice.send(bob.id, number)
        first = await bob.get("/v1/messages", params={"limit": 2})
        await bob.ack(*[one["envelope"]["id"] for one in first["messages"]])
        rest = await bob.get("/v1/messages", params={"limit": 2})

    assert [one["envelope"]["payload"] for one in first["messages"]] == [0, 1]
    assert first["hasMore"] is True
    assert [one["envelope"]["payload"] for one in rest["messages"]] == [2]
    assert rest["hasMore"] is False


async def test_a_message_goes_from_http_to_a_websocket(relay: Relay) -> None:
    async with http_peer(relay) as alice, agent(relay.url) as bob, asyncio.TaskGroup() as group:
        sending = group.create_task(alice.send(bob.peer_id, "up"))
        async with asyncio.timeout(DEADLINE):
            message = await anext(aiter(bob))
            await message.ack()
        sent = await sending

    assert message.payload == "up"
    assert sent["receipts"][0]["status"] == "delivered"


async def test_a_message_goes_from_a_websocket_to_http(relay: Relay) -> None:
    async with http_peer(relay) as bob, raw_peer(relay.url) as alice:
        await alice.send(bob.id, "down")

        assert await bob.payloads() == ["down"]


async def test_one_request_reaches_several_and_answers_for_each(relay: Relay) -> None:
    nobody = KeyPair.generate().peer_id
    async with http_peer(relay) as alice, http_peer(relay) as bob, http_peer(relay) as carol:
        envelope = alice.letter([bob.id, carol.id, nobody], "all of you")
        sent = await alice.send_envelope(envelope)

    assert {one["to"]: one["status"] for one in sent["receipts"]} == {
        bob.id: "stored",
        carol.id: "stored",
    }
    assert [(one["to"], one["code"]) for one in sent["errors"]] == [(nobody, "unknown_recipient")]


async def test_where_nobody_gets_it_the_status_says_why(relay: Relay) -> None:
    async with http_peer(relay) as alice:
        nobody = KeyPair.generate().peer_id
        envelope = alice.letter(nobody)
        answer = await alice.ask("POST", "/v1/send", json={"envelope": envelope.to_dict()})

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "unknown_recipient"
    assert answer.json()["errors"][0]["to"] == nobody


async def test_sending_again_is_harmless(relay: Relay) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob:
        envelope = alice.letter(bob.id, "twice")
        first = await alice.send_envelope(envelope)
        second = await alice.send_envelope(envelope)

        assert first["receipts"][0]["status"] == "stored"
        assert second["receipts"][0]["status"] == "duplicate"
        assert await bob.payloads() == ["twice"]


async def test_one_envelope_sent_twice_at_once_gets_two_answers(relay: Relay) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob:
        envelope = alice.letter(bob.id, "twice")
        answers = await asyncio.gather(*[alice.send_envelope(envelope) for _ in range(5)])

        assert {one["receipts"][0]["status"] for one in answers} <= {"stored", "duplicate"}
        assert await bob.payloads() == ["twice"]


async def test_a_broadcast_comes_once_to_all_who_are_there(relay: Relay) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob, raw_peer(relay.url) as carol:
        assert await bob.poll(wait=0) == []  # and so is there
        envelope = alice.letter("*", "everyone")
        sent = await alice.send_envelope(envelope, to="*")

        assert sent["receipts"][0] == {
            "type": "receipt",
            "id": envelope.id,
            "to": "*",
            "status": "sent",
            "count": 2,
        }
        assert await bob.payloads(ack=False) == ["everyone"]
        assert await bob.payloads(wait=0) == []
        assert await carol.payloads(1) == ["everyone"]


async def test_what_is_for_one_is_not_told_to_everyone(relay: Relay) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob:
        body = {"envelope": alice.letter(bob.id, "for Bob").to_dict(), "to": "*"}
        answer = await alice.ask("POST", "/v1/send", json=body)

    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "recipient_mismatch"


async def test_a_message_keeps_the_numbers_that_were_signed(relay: Relay) -> None:
    payload = [1.0, 1e21, 5e-324, -0.0, 2**53]
    async with http_peer(relay) as alice, http_peer(relay) as bob:
        envelope = alice.letter(bob.id, payload)
        body = f'{{"envelope":{envelope.to_json()}}}'
        answer = await alice.ask(
            "POST", "/v1/send", content=body, headers={"Content-Type": "application/json"}
        )

        assert answer.status_code == 200, answer.text
        [message] = await bob.poll()
        assert message["envelope"]["id"] == envelope.id


async def test_mail_that_was_put_off_comes_again(relay: Relay) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob:
        await alice.send(bob.id, "not now")
        [message] = await bob.poll()
        await bob.post("/v1/nack", {"ids": [message["envelope"]["id"]], "delayMs": 0})

        assert await bob.payloads() == ["not now"]


async def test_polls_of_one_token_at_once_all_get_the_mail(relay: Relay) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob, asyncio.TaskGroup() as group:
        polls = [group.create_task(bob.poll()) for _ in range(3)]
        await is_online(alice, bob)
        group.create_task(alice.send(bob.id, "one"))
        found = await asyncio.gather(*polls)
        await bob.ack(found[0][0]["envelope"]["id"])

    assert [[one["envelope"]["payload"] for one in each] for each in found] == [["one"]] * 3


async def test_two_tokens_of_one_key_both_get_the_mail_and_one_ack_settles_it(
    relay: Relay,
) -> None:
    async with (
        http_peer(relay) as alice,
        http_peer(relay) as bob,
        http_peer(relay, bob.keys) as other,
    ):
        await asyncio.gather(bob.poll(wait=0), other.poll(wait=0))
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(alice.send(bob.id, "both"))
            [[message], [same]] = await asyncio.gather(bob.poll(), other.poll())
            await other.ack(message["envelope"]["id"])

        assert same["envelope"] == message["envelope"]
        assert sending.result()["receipts"][0]["status"] == "delivered"


async def test_what_one_token_has_acked_comes_to_no_other_again(relay: Relay) -> None:
    async with (
        http_peer(relay) as alice,
        http_peer(relay) as bob,
        http_peer(relay, bob.keys) as other,
    ):
        await asyncio.gather(bob.poll(wait=0), other.poll(wait=0))
        async with asyncio.TaskGroup() as group:
            group.create_task(alice.send(bob.id, "once"))
            [message] = await bob.poll()
            await bob.ack(message["envelope"]["id"])

        assert await other.poll(wait=0) == []


async def test_mail_and_token_outlive_the_relay(tmp_path: Path) -> None:
    keys = KeyPair.generate()
    settings: dict[str, Any] = {"port": 0, "data_dir": tmp_path}
    async with Relay(**settings, http_port=0) as relay, http_peer(relay) as alice:
        port = int(alice.url.rpartition(":")[2])
        async with http_peer(relay, keys) as bob:
            await alice.send(bob.id, "before")
            [message] = await bob.poll()
            token = bob.token

    async with (
        Relay(**settings, http_port=port) as relay,
        http_peer(relay, keys, register=False) as bob,
    ):
        bob.token = token
        assert [one["envelope"] for one in await bob.poll()] == [message["envelope"]]
        await bob.ack(message["envelope"]["id"])
        assert await bob.payloads(wait=0) == []


async def test_an_ack_counts_when_the_relay_has_restarted_since_the_poll(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"port": 0, "data_dir": tmp_path}
    async with Relay(**settings, http_port=0) as relay:
        async with http_peer(relay) as alice, http_peer(relay) as bob:
            await alice.send(bob.id, "before")
            [message] = await bob.poll()
        port = int(bob.url.rpartition(":")[2])

    async with (
        Relay(**settings, http_port=port) as relay,
        http_peer(relay, bob.keys, register=False) as again,
    ):
        again.token = bob.token
        await again.ack(message["envelope"]["id"])

        assert await again.payloads(wait=0) == []


async def test_order_is_kept_among_requests_that_name_the_one_before(relay: Relay) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob:
        first, second = alice.letter(bob.id, 1), alice.letter(bob.id, 2)
        early = await alice.ask(
            "POST", "/v1/send", json={"envelope": second.to_dict(), "after": first.id}
        )
        await alice.send_envelope(first)
        await alice.send_envelope(second, after=first.id)

        assert (early.status_code, early.json()["error"]["code"]) == (409, "out_of_order")
        assert await bob.payloads() == [1, 2]


async def test_what_nobody_answers_in_time_is_told_as_pending() -> None:
    async with (
        Relay(port=0, http_port=0, mailboxes="none", http_max_wait=0.05) as relay,
        http_peer(relay) as alice,
        http_peer(relay) as bob,
    ):
        assert await bob.poll(wait=0) == []  # and so has a session
        sent = await alice.ask(
            "POST", "/v1/send", json={"envelope": alice.letter(bob.id).to_dict()}
        )

    assert sent.status_code == 202
    assert json.loads(sent.text) == {"receipts": [], "errors": [], "pending": [bob.id]}


async def test_what_a_websocket_has_acked_comes_to_no_token_of_its_key_again(relay: Relay) -> None:
    keys = KeyPair.generate()
    async with (
        http_peer(relay) as alice,
        http_peer(relay, keys) as bob,
        agent(relay.url, keys) as socket,
    ):
        assert await bob.poll(wait=0) == []
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(alice.send(bob.id, "once"))
            assert len(await bob.poll()) == 1
            await (await anext(socket)).ack()
        assert sending.result()["receipts"][0]["status"] == "delivered"

        assert await bob.poll(wait=0) == []


async def test_what_waited_and_was_acked_over_a_websocket_frees_the_window_of_a_token() -> None:
    keys = KeyPair.generate()
    async with (
        Relay(port=0, http_port=0, window_messages=2) as relay,
        http_peer(relay) as alice,
        http_peer(relay, keys) as bob,
    ):
        for number in range(4):
            await alice.send(bob.id, number)
        assert len(await bob.poll()) == 2
        async with agent(relay.url, keys) as socket:
            for _ in range(4):
                await (await anext(socket)).ack()
        await eventually_empty(bob)


async def eventually_empty(peer: HttpPeer) -> None:
    """Return when nothing waits for *peer*, as it finds by looking."""
    async with asyncio.timeout(DEADLINE):
        while await peer.poll(wait=0):
            pass


async def test_what_was_acked_before_a_restart_is_known_after_it(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"port": 0, "data_dir": tmp_path}
    async with Relay(**settings, http_port=0) as relay:
        async with http_peer(relay) as alice, http_peer(relay) as bob:
            letter = alice.letter(bob.id)
            await alice.send_envelope(letter)
            assert await bob.payloads() == ["hello"]
        port = int(bob.url.rpartition(":")[2])

    async with (
        Relay(**settings, http_port=port) as relay,
        http_peer(relay, alice.keys) as alice,
        http_peer(relay, bob.keys) as bob,
    ):
        sent = await alice.send_envelope(letter)

        assert [receipt["status"] for receipt in sent["receipts"]] == ["duplicate"]
        assert await bob.poll(wait=0) == []
