"""
What has gone wrong in other agent messengers and brokers, a test for each, quoted.

Those that need our client are in ``test_field_clients.py``.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agora.errors import AgoraError
from agora.keys import KeyPair
from agora.relay import Relay
from tests.faults.speaker import (
    TAKEN,
    Refused,
    Speaker,
    envelope_from,
    opened,
    proof,
    reference_speaker,
    speaker,
)
from tests.faults.stage import Target, free_port, relay_command
from tests.wire import opened_wire

ALICE, BOB, CAROL, MALLORY = (KeyPair.from_seed(bytes([number] * 32)) for number in (1, 2, 3, 4))


@asynccontextmanager
async def target(folder: Path, **settings: Any) -> AsyncIterator[Target]:
    """Run a relay in a process of its own, to be killed."""
    port = free_port()
    command = relay_command(port, folder / "relay", rate_limit_enabled=False, **settings)
    running = await Target(command, port, folder / "log").start()
    try:
        yield running
    finally:
        await running.kill()


async def send_all(alice: Speaker, to: str, count: int) -> list[str]:
    """Send numbers, and return what the relay said of each."""
    letters = [await alice.send(to, number) for number in range(count)]
    return [await alice.answer_to(letter) for letter in letters]


# Whose key, whose mail


async def test_nobody_registers_as_another_and_reads_their_mail(relay: Relay) -> None:
    """Seen: "register another's public key and read their mail"."""
    async with speaker(relay.url, ALICE) as alice:
        async with speaker(relay.url, BOB):
            pass
        assert await send_all(alice, BOB.peer_id, 1) == ["stored"]

        with pytest.raises(Refused, match="proof_required"):
            async with reference_speaker(relay.url, BOB):
                pass
        async with speaker(relay.url, BOB) as bob:
            assert await bob.payloads(1) == [0]


async def test_knowing_a_public_key_gives_nobody_a_session(relay: Relay) -> None:
    """Seen: "re-register with the public key, get a fresh token"."""
    async with speaker(relay.url, BOB) as bob, speaker(relay.url, ALICE) as alice:
        with pytest.raises(Refused, match="proof_required"):
            async with reference_speaker(relay.url, BOB):
                pass

        envelope = await alice.send(BOB.peer_id)
        assert await bob.payloads(1) == ["hello"]  # whose own session is as before
        assert await alice.answer_to(envelope) in TAKEN


async def test_a_proof_is_bound_to_a_challenge_an_audience_and_a_relay(relay: Relay) -> None:
    """Seen: "connect proof that can be replayed (own timestamp, no nonce, no audience)"."""
    async with opened(relay.url, ALICE) as alice:
        challenge = await alice.register()
        heard = proof(
            ALICE, audience=alice.audience, nonce=challenge["nonce"], relay=challenge["relay"]
        )
        await alice.authenticate(signature=heard)

    async with opened(relay.url, ALICE) as mallory:
        await mallory.register()
        with pytest.raises(Refused, match="proof_failed"):
            await mallory.authenticate(signature=heard)


async def test_a_replayed_proof_takes_over_nothing_here_nor_on_another_relay(
    relay: Relay,
) -> None:
    """Seen: "a replayed proof takes the identity over, on another relay too"."""
    async with Relay(port=0) as other, opened(other.url, ALICE) as alice:
        challenge = await alice.register()
        heard = proof(
            ALICE, audience=alice.audience, nonce=challenge["nonce"], relay=challenge["relay"]
        )
        await alice.authenticate(signature=heard)

        for url in (relay.url, other.url):
            async with opened(url, ALICE) as mallory:
                await mallory.register()
                with pytest.raises(Refused, match="proof_failed"):
                    await mallory.authenticate(signature=heard)
        assert await alice.answers() == []  # nobody took her place


async def test_nobody_acks_the_mail_of_another(relay: Relay) -> None:
    """Seen: "ack another's mail"."""
    async with speaker(relay.url, BOB):
        pass
    async with speaker(relay.url, ALICE) as alice, speaker(relay.url, MALLORY) as mallory:
        envelope = await alice.send(BOB.peer_id)
        assert await alice.answer_to(envelope) == "stored"
        await mallory.ack(envelope.id)
        await mallory.answers()

        async with speaker(relay.url, BOB) as bob:
            assert await bob.payloads(1) == ["hello"]


async def test_a_connection_that_was_refused_or_is_not_registered_has_nothing_relayed(
    relay: Relay,
) -> None:
    """Seen: "a refused or not yet registered connection still gets its frames relayed"."""
    async with speaker(relay.url, BOB) as bob:
        async with opened(relay.url, ALICE) as early:
            letter = await early.send(BOB.peer_id)
            assert await early.answer_to(letter) == "not_registered"
        async with opened(relay.url, ALICE) as refused:
            await refused.register()
            await refused.say({"type": "authenticate", "signature": "00" * 64})
            await refused.send(BOB.peer_id)
            assert await refused.close_code() == 4500

        assert await bob.answers() == []


# Ids and repeats


async def test_an_id_used_for_one_recipient_does_not_block_it_for_another(relay: Relay) -> None:
    """Seen: "an id used by one sender or recipient blocks another's message"."""
    both = [BOB.peer_id, CAROL.peer_id]
    envelope = envelope_from(ALICE, both, "to both")

    async with (
        speaker(relay.url, ALICE) as alice,
        speaker(relay.url, MALLORY) as mallory,
        speaker(relay.url, BOB) as bob,
        speaker(relay.url, CAROL) as carol,
    ):
        await mallory.submit(envelope, BOB.peer_id)
        assert await mallory.answer_to(envelope) == "sender_mismatch"
        for to in both:
            await alice.submit(envelope, to)

        assert await bob.payloads(1) == await carol.payloads(1) == ["to both"]
        assert {await alice.answer_to(envelope, to) for to in both} <= TAKEN


async def test_a_message_that_was_refused_is_no_duplicate_when_it_comes_again(
    relay: Relay,
) -> None:
    """Seen: "duplicate recorded before the message is accepted: the retry is lost"."""
    async with speaker(relay.url, ALICE) as alice:
        envelope = await alice.send(BOB.peer_id)
        assert await alice.answer_to(envelope) == "unknown_recipient"

        async with speaker(relay.url, BOB) as bob:
            await alice.submit(envelope, BOB.peer_id)
            assert await bob.payloads(1) == ["hello"]
            assert await alice.answer_to(envelope) in TAKEN


async def test_a_message_refused_by_a_full_mailbox_is_no_duplicate_either() -> None:
    """Seen: "duplicate recorded before the message is accepted: the retry is lost"."""
    async with (
        Relay(port=0, mailbox_max_messages=1) as relay,
        speaker(relay.url, ALICE) as alice,
    ):
        async with speaker(relay.url, BOB):
            pass
        first, second = [await alice.send(BOB.peer_id, number) for number in (1, 2)]
        assert await alice.answer_to(first) == "stored"
        assert await alice.answer_to(second) == "mailbox_full"

        async with speaker(relay.url, BOB) as bob:
            assert await bob.payloads(1) == [1]
            await alice.submit(second, BOB.peer_id)
            assert await bob.payloads(1) == [2]
            assert await alice.answer_to(second) in TAKEN


async def test_a_tampered_copy_under_the_same_id_does_not_swallow_the_genuine_one(
    relay: Relay,
) -> None:
    """Seen: "a tampered copy with the same id makes the relay swallow the genuine message"."""
    envelope = envelope_from(ALICE, BOB.peer_id, "genuine")
    copy = envelope.to_dict() | {"payload": "tampered"}

    async with speaker(relay.url, ALICE) as alice, speaker(relay.url, BOB) as bob:
        await alice.say({"type": "message", "to": BOB.peer_id, "envelope": copy})
        assert await alice.answer_to(envelope) == "invalid_envelope"
        await alice.submit(envelope, BOB.peer_id)

        assert await bob.payloads(1) == ["genuine"]
        assert await alice.answer_to(envelope) in TAKEN


async def test_copies_for_several_recipients_made_in_one_millisecond_are_all_delivered(
    relay: Relay,
) -> None:
    """Seen: "copies for several recipients made in the same millisecond collide"."""
    async with (
        speaker(relay.url, ALICE) as alice,
        speaker(relay.url, BOB) as bob,
        speaker(relay.url, CAROL) as carol,
    ):
        copies = {
            to: envelope_from(ALICE, to, "the same", timestamp_ms=alice.welcome["now"])
            for to in (BOB.peer_id, CAROL.peer_id)
        }
        for to, envelope in copies.items():
            await alice.submit(envelope, to)

        assert await bob.payloads(1) == await carol.payloads(1) == ["the same"]
        assert len({envelope.id for envelope in copies.values()}) == 2


# Mailboxes


async def test_mail_stays_until_its_recipient_has_acked(relay: Relay) -> None:
    """Seen: "mailbox cleared before the recipient acked"."""
    async with speaker(relay.url, BOB):
        pass
    async with speaker(relay.url, ALICE) as alice:
        assert await send_all(alice, BOB.peer_id, 3) == ["stored"] * 3

    for _ in range(3):
        async with speaker(relay.url, BOB) as bob:
            assert await bob.payloads(3, acks=False) == [0, 1, 2]
            bob.drop()
    async with speaker(relay.url, BOB) as bob:
        assert await bob.payloads(3) == [0, 1, 2]
        await bob.answers()
    async with speaker(relay.url, BOB) as bob:
        assert bob.welcome["pending"] == 0


async def test_draining_does_not_stop_at_the_end_of_a_window_or_page(relay: Relay) -> None:
    """Seen: "draining stops at a page limit"."""
    async with speaker(relay.url, BOB):
        pass
    async with speaker(relay.url, ALICE) as alice, speaker(relay.url, CAROL) as carol:
        for sender in (alice, carol):  # each may fill a quarter
            assert await send_all(sender, BOB.peer_id, 250) == ["stored"] * 250

    async with speaker(relay.url, BOB) as bob:
        assert bob.welcome["pending"] == 500 > bob.welcome["limits"]["window"]
        assert await bob.payloads(500) == [*range(250), *range(250)]


async def test_two_relays_do_not_share_a_data_directory(tmp_path: Path) -> None:
    """Seen: "two relays on one data directory corrupt it"."""
    async with Relay(port=0, data_dir=tmp_path) as relay:
        with pytest.raises(AgoraError, match="in use by a relay"):
            async with Relay(port=0, data_dir=tmp_path):
                pass

        async with speaker(relay.url, ALICE) as alice, speaker(relay.url, BOB) as bob:
            await alice.send(BOB.peer_id)
            assert await bob.payloads(1) == ["hello"]


async def test_a_file_that_tells_secrets_is_its_owners_alone(tmp_path: Path) -> None:
    """Seen: "private key file readable by others"."""
    async with Relay(port=0, data_dir=tmp_path / "relay"):
        files = [path for path in (tmp_path / "relay").rglob("*") if path.is_file()]

        assert files
        assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in files} == {0}


async def test_what_was_called_stored_survives_kill_9(tmp_path: Path) -> None:
    """Seen: "acked messages lost after kill -9"."""
    async with target(tmp_path) as relay:
        async with speaker(relay.url, BOB):
            pass
        async with speaker(relay.url, ALICE) as alice:
            assert await send_all(alice, BOB.peer_id, 200) == ["stored"] * 200
            await relay.kill()
        await relay.start()

        async with speaker(relay.url, BOB) as bob:
            assert await bob.payloads(200) == list(range(200))


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
async def test_one_flipped_bit_is_noticed_or_harmless_and_nothing_false_is_delivered(
    place: float, tmp_path: Path
) -> None:
    """Seen: "acked messages lost after kill -9, more after one flipped bit"."""
    async with target(tmp_path) as relay:
        async with speaker(relay.url, BOB):
            pass
        async with speaker(relay.url, ALICE) as alice:
            letters = [await alice.send(BOB.peer_id, number) for number in range(100)]
            assert {await alice.answer_to(letter) for letter in letters} == {"stored"}
        await relay.kill()
        database = flip_a_bit(tmp_path / "relay", place)
        await relay.start()
        sent = {letter.id: letter.to_dict() for letter in letters}
        async with speaker(relay.url, BOB) as bob:
            pending = bob.welcome["pending"]
            frames = await bob.messages(pending) if pending else []

        if pending < 100:  # said loudly, and the damaged file is kept for the operator
            assert [path for path in database.parent.iterdir() if path.name != database.name]
            assert relay.faults()
        for frame in frames:
            assert frame["envelope"] == sent[frame["envelope"]["id"]]


def flip_a_bit(folder: Path, place: float) -> Path:
    """Flip one bit of the database, which was folded into its one file before."""
    [database] = [path for path in folder.iterdir() if path.suffix in (".db", ".sqlite3")]
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    data = bytearray(database.read_bytes())
    data[int(len(data) * place)] ^= 0x10
    database.write_bytes(data)
    return database


# Sessions


async def test_the_end_of_an_older_session_leaves_the_newer_one_alone(relay: Relay) -> None:
    """Seen: "the cleanup of a displaced session removes the new one"."""
    async with speaker(relay.url, ALICE) as alice, speaker(relay.url, BOB, presence="all") as bob:
        async with speaker(relay.url, BOB):
            pass
        older = await bob.answers()

        envelope = await alice.send(BOB.peer_id)
        assert await bob.payloads(1) == ["hello"]
        assert await alice.answer_to(envelope) in TAKEN
        assert {frame["type"] for frame in older} <= {"presence"}


async def test_two_sessions_of_one_key_stand_beside_each_other(relay: Relay) -> None:
    """Seen: "two sessions of one key evict each other for ever"."""
    async with (
        speaker(relay.url, BOB) as first,
        speaker(relay.url, BOB) as second,
        speaker(relay.url, ALICE) as alice,
    ):
        for number in range(5):
            await alice.send(BOB.peer_id, number)
            assert await first.payloads(1) == await second.payloads(1) == [number]


async def test_nothing_is_missed_between_registering_and_being_there(relay: Relay) -> None:
    """Seen: "a message that arrives between 'register' and 'live' is missed"."""
    async with speaker(relay.url, BOB):
        pass
    async with speaker(relay.url, ALICE) as alice, asyncio.TaskGroup() as group:
        sending = group.create_task(send_all(alice, BOB.peer_id, 200))
        received: list[int] = []
        while len(received) < 200:  # it comes and goes while they are sent
            async with speaker(relay.url, BOB) as bob:
                received += await bob.payloads(min(20, 200 - len(received)))
                await bob.answers()  # so that the acks have come

        assert set(await sending) <= TAKEN
    assert sorted(set(received)) == list(range(200))
    assert received == sorted(received)


async def test_a_push_in_flight_outlives_the_session_that_replaces_its_own(relay: Relay) -> None:
    """Seen: "a push in flight is lost when its session is replaced"."""
    async with speaker(relay.url, ALICE) as alice, speaker(relay.url, BOB) as older:
        envelope = await alice.send(BOB.peer_id)
        await older.messages(1, acks=False)
        async with speaker(relay.url, BOB) as newer:
            older.drop()

            assert await newer.payloads(1) == ["hello"]
            assert await alice.answer_to(envelope) in TAKEN


async def test_a_reconnect_over_an_old_socket_that_is_still_open_is_not_deaf(
    relay: Relay,
) -> None:
    """Seen: "a reconnect over an old, still open socket leaves the agent deaf"."""
    async with (
        speaker(relay.url, ALICE) as alice,
        speaker(relay.url, BOB) as old,
        speaker(relay.url, BOB) as new,
    ):
        await alice.send(BOB.peer_id, "to the new one")
        assert await new.payloads(1) == ["to the new one"]
        await old.socket.close()
        await alice.send(BOB.peer_id, "and again")
        assert await new.payloads(1) == ["and again"]


async def test_a_recipient_that_dies_with_mail_in_its_socket_loses_none(relay: Relay) -> None:
    """Seen: "the recipient dies with mail in its socket: 680 of 1,000 lost"."""
    async with speaker(relay.url, ALICE) as alice:
        async with speaker(relay.url, BOB) as bob:
            sending = asyncio.gather(send_all(alice, BOB.peer_id, 240))
            await bob.messages(10)
            bob.drop()
        [statuses] = await sending
        assert set(statuses) <= TAKEN

    async with speaker(relay.url, BOB) as bob:
        rest = await bob.payloads(bob.welcome["pending"])
    assert rest[-1] == 239
    assert set(range(240)) - set(rest) <= set(range(10))


async def test_a_slow_reader_and_then_a_kill_of_the_relay_lose_nothing_that_has_a_receipt(
    tmp_path: Path,
) -> None:
    """Seen: "a slow reader, then the relay killed: 526 (979) of 1,000 lost"."""
    async with target(tmp_path, ack_timeout=0.2) as relay:
        async with speaker(relay.url, BOB), speaker(relay.url, ALICE) as alice:
            statuses = await send_all(alice, BOB.peer_id, 200)  # of which Bob reads none
            await relay.kill()
        await relay.start()

        assert statuses == ["stored"] * 200
        async with speaker(relay.url, BOB) as bob:
            assert await bob.payloads(200) == list(range(200))


# Everyone else


async def test_one_stuck_reader_is_no_burden_to_the_others(relay: Relay) -> None:
    """Seen: "one slow reader bloats or stalls all"."""
    async with (
        unread(relay) as stuck,
        speaker(relay.url, ALICE) as alice,
        speaker(relay.url, CAROL) as carol,
    ):
        for number in range(40):
            await alice.send(stuck.id, "x" * 100_000)
            await alice.send(CAROL.peer_id, number)
            assert await carol.payloads(1) == [number]


async def test_one_stuck_reader_blocks_neither_its_sender_nor_anyones_heartbeat() -> None:
    """Seen: "one stuck reader blocks its sender, and with it everyone's heartbeats"."""
    async with (
        Relay(port=0, heartbeat_interval=0.2, rate_limit_enabled=False) as relay,
        speaker(relay.url, ALICE) as alice,
        speaker(relay.url, CAROL) as carol,
        unread(relay) as stuck,
    ):
        for _ in range(40):
            await alice.send(stuck.id, "x" * 100_000)
            assert [f for f in await alice.answers() if f["type"] == "error"] == []
            await asyncio.sleep(0.02)  # so that heartbeats are due meanwhile

        assert await carol.answers() == []


@asynccontextmanager
async def unread(relay: Relay) -> AsyncIterator[Speaker]:
    """Register a peer that takes nothing in from then on."""
    async with opened(relay.url, BOB, max_queue=1) as stuck:
        await stuck.register()
        await stuck.authenticate()
        stuck.socket.transport.pause_reading()
        yield stuck
        stuck.drop()


async def test_bad_bytes_from_a_stranger_end_their_connection_and_nothing_else(
    tmp_path: Path,
) -> None:
    """Seen: "bad bytes from a stranger end the process"."""
    async with target(tmp_path) as relay, speaker(relay.url, ALICE) as alice:
        for _ in range(20):
            async with opened_wire(relay.url) as wire:
                wire.write(os.urandom(500))
                wire.writer.write_eof()
                await wire.read_to_end()

        assert await alice.answers() == []
        assert relay.starts == 1
        assert relay.faults() == []
