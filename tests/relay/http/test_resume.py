"""Answers that get lost on their way: what was told in them is told again to who comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agora.keys import KeyPair
from agora.relay import Relay
from tests.relay.http.talking import HttpPeer, http_peer
from tests.support import raw_peer

Told = list[tuple[str, dict[str, Any], str]]
"""Events, each with its name, its data and its id."""


async def poll(peer: HttpPeer, last: str = "", *, wait: float = 20, **query: str) -> Told:
    """Return the events of one poll; the first is nameless, as it says where the answer begins."""
    headers = {"Last-Event-ID": last} if last else {}
    answer = await peer.ask("GET", "/v1/events", params={"wait": wait} | query, headers=headers)
    assert answer.status_code == 200, answer.text
    found, last = [], ""
    for block in filter(None, answer.text.split("\n\n")):
        fields = dict(line.partition(": ")[::2] for line in block.splitlines())
        last = fields.get("id", last)
        found.append((fields.get("event", ""), json.loads(fields.get("data", "{}")), last))
    return found


def names(told: Told) -> list[str]:
    """Return the names of events, without that of the beginning."""
    return [name for name, _, _ in told if name]


async def open_mailbox(peer: HttpPeer) -> None:
    """Have *peer* read its mailbox to the end, so that mail to it waits for its ack alone."""
    assert await peer.poll(wait=0) == []


async def late_receipt(alice: HttpPeer, bob: HttpPeer) -> str:
    """Have a receipt come for *alice* that no request waits for; return its envelope's id."""
    envelope = alice.letter(bob.id)
    await alice.send_envelope(envelope, wait=0)
    await bob.payloads()
    return envelope.id


async def test_a_poll_whose_answer_got_lost_is_answered_again(relay: Relay) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob:
        await open_mailbox(bob)
        first = (await poll(alice, presence="none", wait=0))[-1][2]
        envelope_id = await late_receipt(alice, bob)
        lost = await poll(alice, first, presence="none")
        again = await poll(alice, first, presence="none")
        behind = await poll(alice, again[-1][2], presence="none", wait=0.01)

    assert again == lost
    assert [(name, data["id"]) for name, data, _ in again[1:]] == [("receipt", envelope_id)]
    assert names(behind) == []


async def test_presence_in_an_answer_that_got_lost_is_told_again(relay: Relay) -> None:
    async with http_peer(relay) as alice:
        first = (await poll(alice))[-1][2]
        async with raw_peer(relay.url):
            lost = await poll(alice, first)
            again = await poll(alice, first)

    assert names(lost) == ["presence"]
    assert again == lost


async def test_a_broadcast_in_an_answer_that_got_lost_is_told_again(relay: Relay) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob:
        first = (await poll(bob, presence="none", wait=0))[-1][2]
        await alice.send("*", "to all")
        lost = await poll(bob, first, presence="none")
        again = await poll(bob, first, presence="none")
        behind = await poll(bob, again[-1][2], presence="none", wait=0.01)

    assert names(lost) == ["message"]
    assert (again, names(behind)) == (lost, [])


async def test_what_a_dead_stream_was_told_comes_again(relay: Relay) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob:
        await open_mailbox(bob)
        async with alice.events() as dead, alice.events() as witness:
            last = await dead.begin()
            envelope_id = await late_receipt(alice, bob)
            await bob.send(alice.id, "and mail", wait=0)
            told = [await witness.next() for _ in range(2)]  # so the dead one was told of it, too
        async with alice.events(last=last) as resumed:
            again = [await resumed.next() for _ in range(2)]

    assert [name for name, _ in again] == ["receipt", "message"]
    assert again == told
    assert again[0][1]["id"] == envelope_id


async def test_events_are_told_in_order_so_that_no_id_hides_what_came_before(relay: Relay) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob:
        await open_mailbox(bob)
        await open_mailbox(alice)
        first = (await poll(alice, presence="none", wait=0))[-1][2]
        for number in range(3):
            await bob.send(alice.id, number, wait=0)
            await late_receipt(alice, bob)
        told = await poll(alice, first, presence="none")
        half = await poll(alice, told[3][2], presence="none")

    assert names(told) == ["message", "receipt"] * 3
    assert half[1:] == told[4:]


async def test_who_comes_back_for_more_than_is_kept_is_told_that_something_is_missing() -> None:
    async with (
        Relay(port=0, http_port=0, http_backlog_bytes=1024) as relay,
        http_peer(relay) as alice,
        http_peer(relay) as bob,
    ):
        await open_mailbox(bob)
        first = (await poll(alice, presence="none", wait=0))[-1][2]
        ids = [await late_receipt(alice, bob) for _ in range(10)]
        _, missed, *kept = await poll(alice, first, presence="none")

    assert (missed[0], missed[1]) == ("missed", {"reason": "overflow"})
    assert [data["id"] for _, data, _ in kept] == ids[-len(kept) :]
    assert 0 < len(kept) < 10


@pytest.mark.parametrize("last", ["00000000-2", "nonsense", "-", "1-" + "9" * 50])
async def test_who_goes_on_from_what_is_unknown_is_told_so(relay: Relay, last: str) -> None:
    async with http_peer(relay) as alice:
        told = await poll(alice, last, wait=0)

    assert names(told) == ["missed", "presence"]
    assert told[1][1] == {"reason": "unknown"}


async def test_an_id_that_is_ahead_holds_nothing_back(relay: Relay) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob:
        session = (await poll(bob, presence="none", wait=0))[-1][2].partition("-")[0]
        await alice.send(bob.id, "here", wait=0)

        assert names(await poll(bob, f"{session}-99", presence="none")) == ["missed", "message"]


async def test_who_names_no_event_is_not_told_again_what_was_told(relay: Relay) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob:
        await open_mailbox(bob)
        await open_mailbox(alice)  # from now on it is told what nobody waits for
        await late_receipt(alice, bob)
        assert names(await poll(alice, presence="none")) == ["receipt"]
        assert names(await poll(alice, presence="none", wait=0.01)) == []


async def test_two_streams_that_go_on_from_one_event_both_get_all(relay: Relay) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob:
        await open_mailbox(bob)
        first = (await poll(alice, presence="none", wait=0))[-1][2]
        envelope_id = await late_receipt(alice, bob)
        async with alice.events(last=first) as one, alice.events(last=first) as other:
            told = [(await each.next())[1]["id"] for each in (one, other)]

    assert told == [envelope_id] * 2


async def test_a_stream_that_goes_on_begins_with_the_present_state_all_the_same(
    relay: Relay,
) -> None:
    carol = KeyPair.generate()
    async with http_peer(relay) as alice:
        async with raw_peer(relay.url, carol), alice.events("all") as dead:
            online = (await dead.next())[1]["online"]
            assert [one["publicKey"] for one in online] == [carol.peer_id]
        async with alice.events("all", last=dead.last) as resumed:
            assert (await resumed.next())[1]["online"] == []


async def test_who_polls_for_no_presence_any_more_is_told_none_that_would_take_room(
    relay: Relay,
) -> None:
    carol = KeyPair.generate()
    async with (
        http_peer(relay) as alice,
        http_peer(relay) as witness,
        witness.events(carol.peer_id) as events,
    ):
        await events.next()
        await poll(alice, wait=0)
        before = [await poll(alice, presence="none", wait=0) for _ in range(2)][-1]
        async with raw_peer(relay.url, carol):
            assert (await events.next())[1]["online"]
        after = [await poll(alice, presence="none", wait=0) for _ in range(2)]

    assert after == [before] * 2
