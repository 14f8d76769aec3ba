"""Mail for peers that are away: in order, kept until confirmed, safe from every kind of end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from websockets.frames import Opcode

from agora.keys import KeyPair
from agora.relay import Relay
from tests.relay.process import relay_process
from tests.support import RawPeer, letter, raw_peer
from tests.wire import Wire, frame, opened_wire


@pytest.fixture
def sleeper() -> KeyPair:
    """A peer that has a mailbox."""
    return KeyPair.generate()


def with_mailbox(*keys: KeyPair, **settings: Any) -> dict[str, Any]:
    """Return the settings of a relay that keeps mail for *keys*, as much as anyone sends."""
    no_bounds: dict[str, Any] = {"rate_limit_enabled": False, "mailbox_sender_share": 1.0}
    storage_peers = tuple(key.peer_id for key in keys)
    return {"port": 0, "storage_peers": storage_peers} | no_bounds | settings


async def send_numbers(sender: RawPeer, to: KeyPair, numbers: range) -> None:
    """Send *numbers* and wait until the relay has settled them all, without an error."""
    for number in numbers:
        await sender.send(to.peer_id, number)
    assert [f for f in await sender.answers() if f["type"] == "error"] == []


async def test_a_thousand_messages_wait_and_come_first_in_first_out(
    sleeper: KeyPair, tmp_path: Path
) -> None:
    async with Relay(**with_mailbox(sleeper, data_dir=tmp_path)) as relay:
        async with raw_peer(relay.url) as alice:
            await send_numbers(alice, sleeper, range(1_000))
        async with raw_peer(relay.url, sleeper) as peer:
            assert await peer.payloads(1_000) == list(range(1_000))


async def test_mail_that_was_taken_does_not_come_again(sleeper: KeyPair) -> None:
    async with Relay(**with_mailbox(sleeper)) as relay:
        async with raw_peer(relay.url) as alice:
            await send_numbers(alice, sleeper, range(10))
        async with raw_peer(relay.url, sleeper) as peer:
            await peer.payloads(10)
            await peer.answers()  # the pong that confirmed them went before this ping
        async with raw_peer(relay.url, sleeper) as peer:
            assert await peer.answers() == []


async def test_mail_comes_with_the_name_its_sender_had(sleeper: KeyPair) -> None:
    async with Relay(**with_mailbox(sleeper)) as relay:
        async with raw_peer(relay.url, name="Alice") as alice:
            envelope = await alice.send(sleeper.peer_id)
            await alice.answers()
        async with raw_peer(relay.url, sleeper) as peer:
            assert await peer.hear() == {
                "type": "message",
                "from": alice.id,
                "name": "Alice",
                "envelope": envelope.to_dict(),
            }


async def test_new_mail_follows_old_mail_in_order(sleeper: KeyPair) -> None:
    async with Relay(**with_mailbox(sleeper)) as relay, raw_peer(relay.url) as alice:
        await send_numbers(alice, sleeper, range(500))
        async with raw_peer(relay.url, sleeper) as peer:
            await send_numbers(alice, sleeper, range(500, 1_000))
            assert await peer.payloads(1_000) == list(range(1_000))


async def test_mail_survives_a_restart(sleeper: KeyPair, tmp_path: Path) -> None:
    settings = with_mailbox(sleeper, data_dir=tmp_path)

    async with Relay(**settings) as relay, raw_peer(relay.url) as alice:
        await send_numbers(alice, sleeper, range(100))
        before = relay.peer_id
    async with Relay(**settings) as relay, raw_peer(relay.url, sleeper) as peer:
        assert await peer.payloads(100) == list(range(100))
        assert relay.peer_id == before


async def test_mail_in_memory_does_not(sleeper: KeyPair, tmp_path: Path) -> None:
    settings = with_mailbox(sleeper, data_dir=tmp_path, memory=True)

    async with Relay(**settings) as relay, raw_peer(relay.url) as alice:
        await send_numbers(alice, sleeper, range(10))
        before = relay.peer_id
    async with Relay(**settings) as relay, raw_peer(relay.url, sleeper) as peer:
        assert await peer.answers() == []
        assert relay.peer_id == before  # the key is kept all the same


async def test_what_was_answered_survives_a_kill(sleeper: KeyPair, tmp_path: Path) -> None:
    settings = with_mailbox(sleeper, data_dir=tmp_path)
    answered = -1

    async with (
        relay_process(**settings) as doomed,
        raw_peer(doomed.url, close_timeout=0.1) as alice,
    ):
        for number in range(300):
            await alice.send(sleeper.peer_id, number)
            await alice.say({"type": "ping"})
        while answered < 150:
            assert await alice.hear() == {"type": "pong"}
            answered += 1
        await doomed.kill()
    async with relay_process(**settings) as heir, raw_peer(heir.url, sleeper) as peer:
        frames = await peer.answers()  # a page has come before the pong, or comes behind it
        numbers = [f["envelope"]["payload"] for f in frames if f["type"] == "message"]
        while not numbers or numbers[-1] < answered:
            numbers += await peer.payloads(1)
        peer.socket.transport.abort()  # there may be more, which is as well

    assert numbers == list(range(len(numbers)))


async def test_a_recipient_that_dies_without_reading_loses_nothing(sleeper: KeyPair) -> None:
    async with Relay(**with_mailbox(sleeper)) as relay:
        async with raw_peer(relay.url) as alice:
            await send_numbers(alice, sleeper, range(1_000))
        async with opened_wire(relay.url) as dying:
            dying.register(sleeper)
            assert json.loads((await dying.read()).data)["type"] == "registered"
            dying.abort()  # with a page of mail in its socket
        async with raw_peer(relay.url, sleeper) as peer:
            assert await peer.payloads(1_000) == list(range(1_000))


async def heard_before_ping(wire: Wire) -> tuple[list[Any], bytes]:
    """Read mail up to the WebSocket ping behind it; return payloads and the ping's payload."""
    payloads = []
    while (answer := await wire.read()).opcode is Opcode.TEXT:
        members = json.loads(answer.data)
        if members["type"] == "message":
            payloads.append(members["envelope"]["payload"])
    assert answer.opcode is Opcode.PING
    return payloads, answer.data


async def test_a_recipient_that_dies_in_the_middle_gets_the_rest_next_time(
    sleeper: KeyPair,
) -> None:
    async with Relay(**with_mailbox(sleeper, window_messages=10)) as relay:
        async with raw_peer(relay.url) as alice:
            await send_numbers(alice, sleeper, range(100))
        async with opened_wire(relay.url) as dying:
            dying.register(sleeper)
            for _ in range(5):
                page, marker = await heard_before_ping(dying)
                dying.write(frame(Opcode.PONG, marker))
            assert page == list(range(40, 50))
            await heard_before_ping(dying)  # a sixth, which it does not confirm
        async with raw_peer(relay.url, sleeper) as peer:
            assert await peer.payloads(50) == list(range(50, 100))


async def test_no_more_than_a_window_is_on_its_way_until_it_is_confirmed(sleeper: KeyPair) -> None:
    async with Relay(**with_mailbox(sleeper, window_messages=4)) as relay:
        async with raw_peer(relay.url) as alice:
            await send_numbers(alice, sleeper, range(10))
        async with opened_wire(relay.url) as wire:
            wire.register(sleeper)
            page, marker = await heard_before_ping(wire)
            assert page == [0, 1, 2, 3]

            wire.say({"type": "ping"})
            assert json.loads((await wire.read()).data) == {"type": "pong"}  # and no mail before

            wire.write(frame(Opcode.PONG, marker))
            assert (await heard_before_ping(wire))[0] == [4, 5, 6, 7]


async def test_what_is_on_its_way_is_confirmed_in_parts(sleeper: KeyPair) -> None:
    async with Relay(**with_mailbox(sleeper)) as relay:
        async with raw_peer(relay.url) as alice:
            await send_numbers(alice, sleeper, range(100))
        got: list[int] = []
        while len(got) < 100:
            async with opened_wire(relay.url) as wire:  # which breaks after every part
                wire.register(sleeper)
                part, marker = await heard_before_ping(wire)
                assert 0 < len(part) < 50
                got += part
                wire.write(frame(Opcode.PONG, marker))
                wire.say({"type": "ping"})
                while (await wire.read()).data != b'{"type":"pong"}':
                    pass

        assert got == list(range(100))


@pytest.mark.parametrize("payload", [b"", b"nonsense", b"\xff" * 125, b"9" * 125, b"-1", b"0"])
async def test_pongs_that_nobody_asked_for_confirm_no_mail_that_was_not_sent(
    sleeper: KeyPair, payload: bytes
) -> None:
    async with Relay(**with_mailbox(sleeper)) as relay, opened_wire(relay.url) as wire:
        wire.register(sleeper)
        wire.write(frame(Opcode.PONG, payload))
        wire.say({"type": "ping"})
        while json.loads((await wire.read()).data)["type"] != "pong":
            pass
        async with raw_peer(relay.url) as alice:
            await send_numbers(alice, sleeper, range(3))
        wire.abort()

        async with raw_peer(relay.url, sleeper) as peer:
            assert await peer.payloads(3) == [0, 1, 2]


async def test_both_sessions_of_a_storage_peer_get_what_comes(sleeper: KeyPair) -> None:
    async with (
        Relay(**with_mailbox(sleeper)) as relay,
        raw_peer(relay.url) as alice,
        raw_peer(relay.url, sleeper) as first,
        raw_peer(relay.url, sleeper) as second,
    ):
        await send_numbers(alice, sleeper, range(100))

        assert await first.payloads(100) == list(range(100))
        assert await second.payloads(100) == list(range(100))


async def test_a_full_mailbox_refuses_the_newest_and_keeps_the_oldest(sleeper: KeyPair) -> None:
    async with (
        Relay(**with_mailbox(sleeper, mailbox_max_messages=3)) as relay,
        raw_peer(relay.url) as alice,
    ):
        await send_numbers(alice, sleeper, range(3))
        refused = await alice.send(sleeper.peer_id, 3)
        (error,) = await alice.answers()
        assert (error["code"], error["id"]) == ("mailbox_full", refused.id)

        async with raw_peer(relay.url, sleeper) as peer:
            assert await peer.payloads(3) == [0, 1, 2]
            await peer.answers()  # they are confirmed, so there is room again
            again = {"type": "message", "to": sleeper.peer_id, "envelope": refused.to_dict()}
            await alice.say(again)
            assert await peer.payloads(1) == [3]


async def test_a_duplicate_of_waiting_mail_is_refused_also_after_a_restart(
    sleeper: KeyPair, tmp_path: Path
) -> None:
    settings = with_mailbox(sleeper, data_dir=tmp_path)
    sender = KeyPair.generate()
    envelope = letter(sender, sleeper.peer_id)
    submit = {"type": "message", "to": sleeper.peer_id, "envelope": envelope.to_dict()}

    async with Relay(**settings) as relay, raw_peer(relay.url, sender) as alice:
        await alice.say(submit)
        assert await alice.answers() == []
    async with Relay(**settings) as relay, raw_peer(relay.url, sender) as alice:
        await alice.say(submit)
        (error,) = await alice.answers()
        assert (error["code"], error["id"]) == ("duplicate", envelope.id)


async def test_a_storage_peer_is_listed_always_and_never_said_to_be_gone(sleeper: KeyPair) -> None:
    async with Relay(**with_mailbox(sleeper)) as relay, raw_peer(relay.url) as alice:
        assert alice.welcome["peers"] == [{"publicKey": sleeper.peer_id}]
        async with raw_peer(relay.url, sleeper):
            assert (await alice.hear())["type"] == "peer_online"

        assert await alice.answers() == []


async def test_a_broadcast_is_stored_for_nobody(sleeper: KeyPair) -> None:
    async with Relay(**with_mailbox(sleeper)) as relay:
        async with raw_peer(relay.url) as alice:
            envelope = letter(alice.keys, "*")
            await alice.say({"type": "broadcast", "envelope": envelope.to_dict()})
            assert await alice.answers() == []
        async with raw_peer(relay.url, sleeper) as peer:
            assert await peer.answers() == []


async def test_many_senders_are_each_kept_in_order(sleeper: KeyPair, tmp_path: Path) -> None:
    async def send_all(url: str, name: str) -> None:
        async with raw_peer(url) as sender:
            for number in range(100):
                await sender.send(sleeper.peer_id, [name, number])
            assert [f for f in await sender.answers() if f["type"] == "error"] == []

    async with Relay(**with_mailbox(sleeper, data_dir=tmp_path)) as relay:
        async with asyncio.TaskGroup() as group:
            for name in "abcde":
                group.create_task(send_all(relay.url, name))
        async with raw_peer(relay.url, sleeper) as peer:
            payloads = await peer.payloads(500)

    for name in "abcde":
        assert [p for p in payloads if p[0] == name] == [[name, n] for n in range(100)]
