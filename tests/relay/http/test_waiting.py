"""How long an answer is waited for: of a send, and of a poll for events."""

from __future__ import annotations

import asyncio

from agora.relay import Relay
from tests.relay.http.talking import HttpPeer, http_peer
from tests.support import raw_peer


async def poll(peer: HttpPeer, *, wait: float, last: str = "") -> tuple[list[str], str]:
    """Return the names of the events of one poll, and the id of the last."""
    headers = {"Last-Event-ID": last} if last else {}
    answer = await peer.ask("GET", "/v1/events", params={"wait": wait}, headers=headers)
    assert answer.status_code == 200, answer.text
    lines = [line.partition(": ") for line in answer.text.splitlines()]
    names = [value for field, _, value in lines if field == "event"]
    return names, [value for field, _, value in lines if field == "id"][-1]


async def test_a_send_is_answered_as_soon_as_the_relay_has_it_where_that_is_asked_for(
    relay: Relay,
) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob, bob.events() as mail:
        assert await bob.poll(wait=0) == []  # so it has read its mailbox to the end
        async with alice.events() as events:
            sent = await alice.send(bob.id, "read it later", wait=0)
            assert (sent["receipts"], sent["errors"], sent["pending"]) == ([], [], [bob.id])

            await bob.ack((await mail.next())[1]["envelope"]["id"])
            name, receipt = await events.next()

    assert (name, receipt["type"], receipt["status"]) == ("receipt", "receipt", "delivered")
    assert (receipt["to"], receipt["id"]) == (bob.id, receipt["id"])


async def test_what_is_refused_is_said_without_waiting(relay: Relay) -> None:
    async with http_peer(relay) as alice:
        letter = alice.letter("302a300506032b6570032100" + "d7" * 32)
        body = {"envelope": letter.to_dict(), "wait": 0}

        answer = await alice.ask("POST", "/v1/send", json=body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_recipient")


async def test_one_may_wait_a_little(relay: Relay) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob:
        sent = await alice.send(bob.id, "to a mailbox", wait=20)

    assert [receipt["status"] for receipt in sent["receipts"]] == ["stored"]


async def test_a_poll_ends_behind_what_there_is(relay: Relay) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob:
        await alice.send(bob.id, "waits")

        assert (await poll(bob, wait=0))[0] == ["presence", "message"]


async def test_a_poll_goes_on_from_the_one_before(relay: Relay) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob:
        await alice.send(bob.id, "first")
        _, last = await poll(bob, wait=0)
        assert (await poll(bob, wait=0.01, last=last))[0] == []

        async with asyncio.TaskGroup() as group:
            polling = group.create_task(poll(bob, wait=20, last=last))
            await alice.send(bob.id, "second", wait=0)

        assert polling.result()[0] == ["message"]


async def test_what_happens_between_two_polls_is_told_by_the_second(relay: Relay) -> None:
    async with http_peer(relay) as bob:
        _, last = await poll(bob, wait=0)
        async with raw_peer(relay.url):
            names, last = await poll(bob, wait=20, last=last)
        gone, _ = await poll(bob, wait=20, last=last)

    assert names == gone == ["presence"]


async def test_who_only_sends_hears_what_becomes_of_it_and_is_not_online(relay: Relay) -> None:
    async with (
        http_peer(relay) as alice,
        http_peer(relay) as bob,
        http_peer(relay) as witness,
        alice.events(receive="false") as events,
    ):
        assert await bob.poll(wait=0) == []  # so it has read its mailbox to the end
        await alice.send(bob.id, "hello", wait=0)
        (letter,) = await bob.poll()
        await bob.ack(letter["envelope"]["id"])

        assert (await events.next())[0] == "receipt"
        online = (await witness.get("/v1/peers"))["peers"]

    assert alice.id not in [peer["publicKey"] for peer in online if peer["online"]]


async def test_an_error_that_comes_late_is_not_that_of_another_message() -> None:
    async with (
        Relay(port=0, http_port=0, mailboxes="none", ack_timeout=60) as relay,
        http_peer(relay) as alice,
        http_peer(relay) as bob,
        alice.events(receive="false") as events,
    ):
        assert await bob.poll(wait=0) == []
        first, second = alice.letter(bob.id, 1), alice.letter(bob.id, 2)
        await alice.send_envelope(first, wait=0)
        async with asyncio.TaskGroup() as group:
            body = {"envelope": second.to_dict()}
            sending = group.create_task(alice.ask("POST", "/v1/send", json=body))
            assert len(await bob.poll()) >= 1
            while len(await bob.poll()) < 2:
                pass
            await bob.ask("DELETE", "/v1/disconnect")
        name, late = await events.next()

    assert [one["id"] for one in sending.result().json()["errors"]] == [second.id]
    assert (name, late["id"], late["code"]) == ("error", first.id, "unavailable")
