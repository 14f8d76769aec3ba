"""
The reference's real client and relays, and ours: `make interop REFERENCE=DIR`.

First that the recorded frames are what the reference says. Then its programs
and ours, each in every place: at our relay, at its own, and at its older one.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from agora.client import Client, ClientEvent, PresenceChanged, Status, Timing
from agora.envelope import open_envelope
from agora.keys import KeyPair

from .reference import (
    CURRENT_DIR,
    OLDER_DIR,
    needs_current,
    needs_older,
    reference_client,
    run_reference_cli,
)
from .relays import RelayKind, open_relay
from .replay import RunningRelay, replay
from .situations import KEYS, NOT_APPLICABLE, SITUATIONS, Situation

if not (CURRENT_DIR or OLDER_DIR):  # said once here instead of once for each test
    pytest.skip("needs the reference, built: see docs/howto/interop.md", allow_module_level=True)

A, B, C, D, R = (KEYS[name] for name in "ABCDR")

every_relay = pytest.mark.parametrize(
    "kind",
    [
        pytest.param("ours", marks=needs_current),
        pytest.param("current", marks=needs_current),
        pytest.param("older", marks=[needs_current, needs_older]),
    ],
)
their_relays = pytest.mark.parametrize(
    "kind",
    [pytest.param("current", marks=needs_current), pytest.param("older", marks=needs_older)],
)


def our_client(url: str, key_pair: KeyPair) -> Client:
    return Client(url, key_pair, rate_limit=None, timing=Timing(retry_first=0.1, retry_cap=1.0))


# The record


@pytest.mark.parametrize(
    "situation",
    [
        pytest.param(s, id=s.slug, marks=needs_older if s.dialect == "older" else needs_current)
        for s in SITUATIONS
        if s.title not in NOT_APPLICABLE
    ],
)
async def test_the_reference_relay_says_what_was_recorded(
    situation: Situation, tmp_path: Path
) -> None:
    def open_theirs(situation: Situation) -> AbstractAsyncContextManager[RunningRelay]:
        kind: RelayKind = "older" if situation.dialect == "older" else "current"
        return open_relay(kind, tmp_path, situation.relay)

    await replay(situation, open_theirs)


# One of theirs and one of ours


@every_relay
async def test_our_client_and_theirs_talk_with_each_other(kind: RelayKind, tmp_path: Path) -> None:
    async with (
        open_relay(kind, tmp_path, {}) as relay,
        reference_client(relay.url, A) as theirs,
        our_client(relay.url, B) as ours,
    ):
        await theirs.call("connect")
        question = await theirs.call("seal", "request", {"text": "é 😀", "n": 1e21}, [B.peer_id])
        assert await theirs.call("send", B.peer_id, question) == {"ok": True}
        message = await anext(ours)
        await message.reply({"text": "yes"})
        [answer, sender] = await theirs.event("message")

    assert message.envelope == open_envelope(question)
    assert sender == B.peer_id
    assert answer["inReplyTo"] == question["id"]
    assert answer["type"] == "response"
    assert answer["payload"] == {"text": "yes"}


@every_relay
async def test_each_sees_the_other_come_and_go(kind: RelayKind, tmp_path: Path) -> None:
    async with (
        open_relay(kind, tmp_path, {}) as relay,
        reference_client(relay.url, A) as theirs,
    ):
        await theirs.call("connect")
        async with our_client(relay.url, B) as ours:
            assert (await theirs.event("peer_online"))[0]["publicKey"] == B.peer_id
            assert A.peer_id in ours.peers
            changes: asyncio.Queue[ClientEvent] = asyncio.Queue()
            ours.listen(changes.put_nowait)
            async with reference_client(relay.url, C) as another:
                await another.call("connect")
                came = await changes.get()
                await another.call("disconnect")
                went = await changes.get()
        assert (await theirs.event("peer_offline"))[0]["publicKey"] == C.peer_id
        assert (await theirs.event("peer_offline"))[0]["publicKey"] == B.peer_id

    assert came == PresenceChanged(C.peer_id, is_online=True)
    assert went == PresenceChanged(C.peer_id, is_online=False)


@every_relay
async def test_both_come_back_when_the_relay_does(kind: RelayKind, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        async with open_relay(kind, tmp_path, {}) as relay:
            url = relay.url
            theirs = await stack.enter_async_context(reference_client(url, A))
            await theirs.call("connect")
            await theirs.event("connected")
            ours = await stack.enter_async_context(our_client(url, B))
        await theirs.event("disconnected")
        async with open_relay(kind, tmp_path, {"port": urlsplit(url).port}):
            await theirs.event("connected")
            receipt = await ours.send(A.peer_id, "back again")
            [message, _] = await theirs.event("message")
            assert await receipt.settled(timeout=20) is Status.SENT
            await theirs.call("disconnect")
            await ours.close()

    assert message["payload"] == "back again"


@every_relay
async def test_their_group_send_reaches_everyone(kind: RelayKind, tmp_path: Path) -> None:
    rounds = range(20)
    async with (
        open_relay(kind, tmp_path, {}) as relay,
        reference_client(relay.url, A) as theirs,
        our_client(relay.url, B) as first,
        our_client(relay.url, C) as second,
    ):
        await theirs.call("connect")
        group = [B.peer_id, C.peer_id]
        for number in rounds:
            await theirs.call("sendToRecipients", group, "publish", {"n": number})
        await theirs.call("sendToRecipients", [C.peer_id], "publish", "that was all")
        heard_first = [(await anext(first)).payload for _ in rounds]
        heard_second = []
        while (payload := (await anext(second)).payload) != "that was all":
            heard_second.append(payload)

    everything = [{"n": number} for number in rounds]
    assert heard_first == everything
    if kind == "current":
        # It knows envelopes by their id alone, and two of one millisecond have the same.
        assert [heard for heard in everything if heard in heard_second] == heard_second
    else:
        assert heard_second == everything


# Theirs at our relay


@needs_current
async def test_their_client_hears_our_broadcast(tmp_path: Path) -> None:
    async with (
        open_relay("ours", tmp_path, {}) as relay,
        reference_client(relay.url, A) as theirs,
        our_client(relay.url, B) as ours,
    ):
        await theirs.call("connect")
        await ours.broadcast({"text": "anyone here?"})
        [message, sender] = await theirs.event("message")

    assert (sender, message["to"]) == (B.peer_id, ["*"])


@needs_current
async def test_their_client_verifies_our_list_of_peers(tmp_path: Path) -> None:
    async with (
        open_relay("ours", tmp_path, {"identity": "R"}) as relay,
        reference_client(relay.url, A) as theirs,
        our_client(relay.url, B),
    ):
        await theirs.call("connect")
        request = await theirs.call("seal", "peer_list_request", {}, [R.peer_id])
        await theirs.call("send", R.peer_id, request)
        [answer, _] = await theirs.event("message")

    assert answer["inReplyTo"] == request["id"]
    assert [peer["publicKey"] for peer in answer["payload"]["peers"]] == [B.peer_id]


@needs_current
async def test_their_client_is_told_that_a_recipient_is_not_there(tmp_path: Path) -> None:
    async with (
        open_relay("ours", tmp_path, {}) as relay,
        reference_client(relay.url, A) as theirs,
    ):
        await theirs.call("connect")
        message = await theirs.call("seal", "publish", "hello?", [B.peer_id])
        await theirs.call("send", B.peer_id, message)
        [error] = await theirs.event("error")

    assert error == f"Relay error: Recipient not connected: {B.peer_id}"


@needs_current
async def test_their_client_finds_its_mail_and_finds_it_once(tmp_path: Path) -> None:
    async with (
        open_relay("ours", tmp_path, {"storage_peers": ["D"]}) as relay,
        our_client(relay.url, A) as ours,
        reference_client(relay.url, D) as theirs,
    ):
        for number in range(3):
            await ours.send(D.peer_id, number)
        await theirs.call("connect")
        heard = [(await theirs.event("message"))[0]["payload"] for _ in range(3)]
        # What it says now, it says behind the pong that confirms its mail.
        thanks = await theirs.call("seal", "publish", "thanks", [A.peer_id])
        await theirs.call("send", A.peer_id, thanks)
        await anext(ours)
        await theirs.call("disconnect")
        await theirs.event("disconnected")
        await theirs.call("connect")
        await ours.send(D.peer_id, "new")
        [first_after, _] = await theirs.event("message")

    assert heard == [0, 1, 2]
    assert first_after["payload"] == "new"


@needs_current
async def test_their_command_sends_once_and_tells_the_truth(tmp_path: Path) -> None:
    contacts = {"bob": B.peer_id, "carol": C.peer_id}
    async with (
        open_relay("ours", tmp_path, {}) as relay,
        our_client(relay.url, B) as ours,
    ):
        sent = await run_reference_cli(tmp_path, A, relay.url, contacts, "send", "bob", "hello")
        message = await anext(ours)
        failed = await run_reference_cli(tmp_path, A, relay.url, contacts, "send", "carol", "hello")

    assert sent[0] == 0
    assert (message.sender, message.payload) == (A.peer_id, {"text": "hello"})
    assert failed[0] == 1
    assert failed[1]["error"] == f"Recipient not connected: {C.peer_id}"


@needs_current
async def test_their_command_discovers_peers_at_our_relay(tmp_path: Path) -> None:
    # At its own relay it fails as soon as there is a peer: that answer does not verify.
    async with (
        open_relay("ours", tmp_path, {"identity": "R"}) as relay,
        our_client(relay.url, B),
    ):
        asked = ("peers", "discover", "--relay", relay.url, "--relay-pubkey", R.peer_id)
        code, found = await run_reference_cli(tmp_path, A, relay.url, {}, *asked)

    assert code == 0
    assert [peer["publicKey"] for peer in found["peers"]] == [B.peer_id]


# Ours at their relays


@their_relays
async def test_our_message_to_an_absent_peer_waits_until_it_comes(
    kind: RelayKind, tmp_path: Path
) -> None:
    async with (
        open_relay(kind, tmp_path, {}) as relay,
        our_client(relay.url, A) as sender,
    ):
        receipts = [await sender.send(B.peer_id, number) for number in range(3)]
        waiting = [(receipt.status, receipt.why) for receipt in receipts]
        async with our_client(relay.url, B) as absent:
            heard = [(await anext(absent)).payload for _ in receipts]
            fates = [await receipt.settled(timeout=20) for receipt in receipts]

    assert waiting[0] == (Status.QUEUED, "unknown_recipient")
    assert {status for status, _ in waiting} == {Status.QUEUED}
    assert heard == [0, 1, 2]
    # It has seen the first envelope, though it did not deliver it: what came was signed anew.
    assert fates == [Status.SENT] * 3


@their_relays
async def test_our_broadcast_reaches_everyone_at_their_relay(
    kind: RelayKind, tmp_path: Path
) -> None:
    async with (
        open_relay(kind, tmp_path, {}) as relay,
        our_client(relay.url, B) as first,
        our_client(relay.url, C) as second,
        our_client(relay.url, A) as sender,
    ):
        await sender.broadcast("anyone here?")
        heard = [(await anext(first)).payload, (await anext(second)).payload]

    assert heard == ["anyone here?"] * 2


@their_relays
async def test_our_group_send_reaches_everyone_at_their_relay(
    kind: RelayKind, tmp_path: Path
) -> None:
    rounds = range(50)
    async with (
        open_relay(kind, tmp_path, {}) as relay,
        our_client(relay.url, A) as sender,
        our_client(relay.url, B) as first,
        our_client(relay.url, C) as second,
    ):
        for number in rounds:
            await sender.send_group([B.peer_id, C.peer_id], number)
        heard = [[(await anext(client)).payload for _ in rounds] for client in (first, second)]

    assert heard == [list(rounds), list(rounds)]


@their_relays
async def test_our_client_gets_the_mail_their_relay_stored(kind: RelayKind, tmp_path: Path) -> None:
    async with (
        open_relay(kind, tmp_path, {"storage_peers": ["D"]}) as relay,
        our_client(relay.url, A) as sender,
    ):
        receipts = [await sender.send(D.peer_id, number) for number in range(5)]
        async with our_client(relay.url, D) as away:
            heard = [(await anext(away)).payload for _ in receipts]

    assert [receipt.status for receipt in receipts] == [Status.SENT] * 5
    assert sorted(heard, key=str) == list(range(5))


@their_relays
async def test_our_request_is_answered_through_their_relay(kind: RelayKind, tmp_path: Path) -> None:
    async with (
        open_relay(kind, tmp_path, {}) as relay,
        our_client(relay.url, A) as asker,
        reference_client(relay.url, B) as theirs,
    ):
        await theirs.call("connect")
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(asker.request(B.peer_id, "what time is it?", timeout=20))
            [question, _] = await theirs.event("message")
            answer = await theirs.call("seal", "response", "noon", [A.peer_id], question["id"])
            await theirs.call("send", A.peer_id, answer)

    assert asked.result().payload == "noon"
