"""Whoever is not the owner of a key cannot read its mail, settle it, or stand in its way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agora.keys import KeyPair
from agora.relay import Relay
from tests.faults.speaker import (
    TAKEN,
    Refused,
    Speaker,
    envelope_from,
    opened,
    reference_speaker,
    speaker,
)

ALICE, BOB, CAROL, MALLORY = (KeyPair.from_seed(bytes([number] * 32)) for number in (1, 2, 3, 4))


async def leave_mail(relay: Relay, *payloads: object) -> list[str]:
    """Have Alice leave mail for Bob, who has proven himself and is away; return its ids."""
    async with speaker(relay.url, BOB):
        pass
    ids = []
    async with speaker(relay.url, ALICE) as alice:
        for payload in payloads:
            envelope = await alice.send(BOB.peer_id, payload)
            assert await alice.answer_to(envelope) == "stored"
            ids.append(envelope.id)
    return ids


async def live(sender: Speaker, recipient: Speaker) -> None:
    """Send until nothing goes by way of the mailbox any more, as it may when one has just come."""
    status = ""
    while status != "delivered":
        envelope = await sender.send(recipient.id, "are you there?")
        await recipient.payloads(1)
        status = await sender.answer_to(envelope)


async def mail_of(relay: Relay, keys: KeyPair) -> list[Any]:
    """Return the payloads of all that waits for a peer, without acking it."""
    async with speaker(relay.url, keys) as peer:
        return await peer.payloads(peer.welcome["pending"], acks=False)


# Draining another's mailbox


async def test_nobody_gets_the_mail_of_a_proven_key_without_its_proof(relay: Relay) -> None:
    await leave_mail(relay, "for Bob alone")

    with pytest.raises(Refused, match="proof_required"):
        async with reference_speaker(relay.url, BOB):
            pass
    async with opened(relay.url, BOB) as mallory:
        await mallory.register()
        with pytest.raises(Refused, match="proof_failed"):
            await mallory.authenticate(signature=MALLORY.sign(b""))

    assert await mail_of(relay, BOB) == ["for Bob alone"]


async def test_a_listed_key_that_proves_itself_has_its_mail_to_itself_from_then_on() -> None:
    async with Relay(port=0, storage_peers=(BOB.peer_id,)) as relay:
        async with speaker(relay.url, BOB):
            pass
        with pytest.raises(Refused, match="proof_required"):
            async with reference_speaker(relay.url, BOB):
                pass


async def test_mail_for_one_recipient_of_many_is_not_brought_to_the_others(relay: Relay) -> None:
    async with speaker(relay.url, MALLORY) as mallory, speaker(relay.url, ALICE) as alice:
        await leave_mail(relay)
        envelope = envelope_from(ALICE, [BOB.peer_id, MALLORY.peer_id], "for both by name")
        await alice.submit(envelope, BOB.peer_id)

        assert await alice.answer_to(envelope, BOB.peer_id) == "stored"
        assert await mallory.answers() == []


# Settling another's mail


@pytest.mark.parametrize("word", ["ack", "nack"])
async def test_stored_mail_is_not_settled_by_a_stranger(word: str, relay: Relay) -> None:
    [waiting] = await leave_mail(relay, "for Bob")

    async with speaker(relay.url, MALLORY) as mallory:
        for _ in range(12):  # more often than a message may be nacked
            await mallory.say({"type": word, "ids": [waiting], "delayMs": 0})
        assert await mallory.answers() == []

    assert await mail_of(relay, BOB) == ["for Bob"]


@pytest.mark.parametrize("word", ["ack", "nack"])
async def test_live_mail_is_not_settled_by_a_stranger(word: str, relay: Relay) -> None:
    async with (
        speaker(relay.url, ALICE) as alice,
        speaker(relay.url, BOB) as bob,
        speaker(relay.url, MALLORY) as mallory,
    ):
        envelope = await alice.send(BOB.peer_id, "for Bob")
        [frame] = await bob.messages(1, acks=False)
        for _ in range(12):
            await mallory.say({"type": word, "ids": [envelope.id], "delayMs": 0})
        assert await mallory.answers() == []

        assert await alice.answer_to(envelope) == "stored"  # not delivered: Bob was silent
        assert frame["envelope"]["payload"] == "for Bob"
    assert await mail_of(relay, BOB) == ["for Bob"]


async def test_a_sender_cannot_ack_what_it_sent(relay: Relay) -> None:
    async with speaker(relay.url, ALICE) as alice, speaker(relay.url, BOB) as bob:
        envelope = await alice.send(BOB.peer_id)
        await alice.ack(envelope.id)

        assert await alice.answer_to(envelope) == "stored"
        assert await bob.payloads(1) == ["hello"]


async def test_a_recipient_of_many_settles_its_own_copy_alone(relay: Relay) -> None:
    async with (
        speaker(relay.url, ALICE) as alice,
        speaker(relay.url, MALLORY) as mallory,
        speaker(relay.url, BOB) as bob,
    ):
        both = [BOB.peer_id, MALLORY.peer_id]
        envelope = envelope_from(ALICE, both, "to both")
        await alice.submit(envelope, both)
        assert await mallory.payloads(1) == ["to both"]

        assert await alice.answer_to(envelope, MALLORY.peer_id) in TAKEN
        assert await alice.answer_to(envelope, BOB.peer_id) == "stored"
        assert await bob.payloads(1) == ["to both"]


async def test_a_session_that_only_sends_settles_nothing(relay: Relay) -> None:
    [waiting] = await leave_mail(relay, "for Bob")

    async with speaker(relay.url, BOB, receive=False) as sending:
        await sending.nack(waiting)
        await sending.answers()

    assert await mail_of(relay, BOB) == ["for Bob"]


# Standing in the way: ids


def tampered(members: dict[str, Any]) -> list[dict[str, Any]]:
    """Return copies of an envelope that are not what was signed, all under its id."""
    return [
        members | {"payload": "other words"},
        members | {"signature": "00" * 64},
        members | {"signature": MALLORY.sign(b"anything")},
        members | {"from": MALLORY.peer_id},
        members | {"to": [BOB.peer_id, MALLORY.peer_id]},
        members | {"timestamp": members["timestamp"] + 1},
        members | {"type": "request"},
        {name: value for name, value in members.items() if name != "signature"},
    ]


@pytest.mark.parametrize("number", range(8))
async def test_a_tampered_copy_does_not_take_the_place_of_the_genuine_one(
    number: int, relay: Relay
) -> None:
    envelope = envelope_from(ALICE, BOB.peer_id, "genuine")
    copy = tampered(envelope.to_dict())[number]

    async with (
        speaker(relay.url, ALICE) as alice,
        speaker(relay.url, MALLORY) as mallory,
        speaker(relay.url, BOB) as bob,
    ):
        for liar in (mallory, alice):
            await liar.say({"type": "message", "to": BOB.peer_id, "envelope": copy})
            assert (await liar.wait("error"))["code"] in ("invalid_envelope", "sender_mismatch")
        await alice.submit(envelope, BOB.peer_id)

        assert await bob.payloads(1) == ["genuine"]
        assert await alice.answer_to(envelope) in TAKEN


async def test_a_genuine_copy_from_a_thief_is_refused_and_blocks_nothing(relay: Relay) -> None:
    envelope = envelope_from(ALICE, BOB.peer_id, "genuine")

    async with (
        speaker(relay.url, ALICE) as alice,
        speaker(relay.url, MALLORY) as mallory,
        speaker(relay.url, BOB) as bob,
    ):
        await mallory.submit(envelope, BOB.peer_id)
        assert await mallory.answer_to(envelope) == "sender_mismatch"
        await alice.submit(envelope, BOB.peer_id)

        assert await bob.payloads(1) == ["genuine"]
        assert await alice.answer_to(envelope) in TAKEN


async def test_an_envelope_goes_to_nobody_whom_it_does_not_name(relay: Relay) -> None:
    envelope = envelope_from(ALICE, BOB.peer_id, "for Bob")

    async with speaker(relay.url, ALICE) as alice, speaker(relay.url, CAROL) as carol:
        await alice.submit(envelope, CAROL.peer_id)
        assert await alice.answer_to(envelope) == "recipient_mismatch"
        await alice.submit(envelope, [BOB.peer_id, CAROL.peer_id])
        assert await alice.answer_to(envelope, CAROL.peer_id) == "recipient_mismatch"

        assert await carol.answers() == []


async def test_one_envelope_to_two_recipients_is_two_deliveries(relay: Relay) -> None:
    both = [BOB.peer_id, CAROL.peer_id]
    envelope = envelope_from(ALICE, both, "to both")

    async with (
        speaker(relay.url, ALICE) as alice,
        speaker(relay.url, BOB) as bob,
        speaker(relay.url, CAROL) as carol,
    ):
        for to, peer in ((BOB.peer_id, bob), (CAROL.peer_id, carol)):
            await alice.submit(envelope, to)  # the second has the id of the first
            assert await peer.payloads(1) == ["to both"]
            assert await alice.answer_to(envelope, to) in TAKEN


async def test_an_old_message_said_again_by_its_sender_is_a_duplicate_and_comes_once(
    relay: Relay,
) -> None:
    async with speaker(relay.url, ALICE) as alice, speaker(relay.url, BOB) as bob:
        envelope = await alice.send(BOB.peer_id)
        assert await bob.payloads(1) == ["hello"]
        assert await alice.answer_to(envelope) in TAKEN
        await alice.submit(envelope, BOB.peer_id)

        assert await alice.answer_to(envelope) == "duplicate"
        assert await bob.answers() == []


async def test_a_copy_of_a_message_in_flight_waits_for_the_answer_of_the_first(
    relay: Relay,
) -> None:
    async with speaker(relay.url, ALICE) as alice, speaker(relay.url, BOB) as bob:
        await live(alice, bob)
        envelope = await alice.send(BOB.peer_id)
        async with speaker(relay.url, ALICE) as again:
            await again.submit(envelope, BOB.peer_id)
            assert await again.answers() == []
            assert await bob.payloads(1) == ["hello"]

            told = await alice.answer_to(envelope)
            assert told in TAKEN
            assert await again.answer_to(envelope) == told
        assert await bob.answers() == []


# Standing in the way: room


async def test_one_sender_cannot_fill_the_mailbox_of_another() -> None:
    async with Relay(port=0, mailbox_max_messages=40, rate_limit_enabled=False) as relay:
        await leave_mail(relay)
        async with speaker(relay.url, MALLORY) as mallory:
            letters = [await mallory.send(BOB.peer_id, number) for number in range(20)]
            answers = [await mallory.answer_to(one) for one in letters]
            assert answers == ["stored"] * 10 + ["mailbox_full"] * 10

        assert len(await leave_mail(relay, "there is room for Alice")) == 1


async def test_a_full_mailbox_throws_nothing_older_away() -> None:
    async with Relay(
        port=0, mailbox_max_messages=8, mailbox_sender_share=1.0, rate_limit_enabled=False
    ) as relay:
        await leave_mail(relay, *range(8))
        async with speaker(relay.url, MALLORY) as mallory:
            letter = await mallory.send(BOB.peer_id, "me too")
            assert await mallory.answer_to(letter) == "mailbox_full"

        assert await mail_of(relay, BOB) == list(range(8))


async def test_a_reader_that_nacks_for_ever_ends_in_a_bounce_and_not_in_a_loop() -> None:
    async with (
        Relay(port=0, max_nacks=3, ack_timeout=0.2) as relay,
        speaker(relay.url, ALICE) as alice,
        speaker(relay.url, BOB) as bob,
    ):
        envelope = await alice.send(BOB.peer_id)
        for _ in range(3):
            [frame] = await bob.messages(1, acks=False)
            await bob.nack(frame["envelope"]["id"])

        assert await alice.answer_to(envelope) == "stored"
        bounce = (await alice.wait("message"))["envelope"]
        assert (bounce["type"], bounce["inReplyTo"]) == ("error", envelope.id)
        assert bounce["payload"] == {"code": "undeliverable", "recipient": BOB.peer_id}
        assert bounce["from"] == alice.welcome["relay"]
        assert await bob.answers() == []


async def test_nobody_can_sign_a_bounce_but_the_relay(relay: Relay) -> None:
    async with speaker(relay.url, ALICE) as alice, speaker(relay.url, MALLORY) as mallory:
        payload = {"code": "expired", "recipient": BOB.peer_id}
        await mallory.send(ALICE.peer_id, payload, type="error", in_reply_to="ab" * 32)

        [frame] = await alice.messages(1)
        assert frame["from"] == frame["envelope"]["from"] == MALLORY.peer_id
        assert frame["from"] != alice.welcome["relay"]


async def said_to(peer: Speaker) -> set[str]:
    """Return the types of what a peer has heard up to now."""
    return {frame["type"] for frame in await peer.answers()}


async def test_a_session_without_proof_has_no_acks_to_give(relay: Relay) -> None:
    async with (
        speaker(relay.url, ALICE) as alice,
        reference_speaker(relay.url, MALLORY) as mallory,
        speaker(relay.url, BOB) as bob,
    ):
        envelope = await alice.send(BOB.peer_id)
        await mallory.ack(envelope.id)

        assert "error" in await said_to(mallory)
        assert await alice.answer_to(envelope) == "stored"
        assert await bob.payloads(1) == ["hello"]


# Words that no file can hold

IMPOSSIBLE = ["\ud800", "\udfff\ud800", "\x00", "a" * 200_000, "'; DROP TABLE mail; --"]


@pytest.mark.parametrize("word", ["ack", "nack"])
@pytest.mark.parametrize("impossible", IMPOSSIBLE, ids=lambda text: ascii(text[:24]))
async def test_an_id_that_no_file_can_hold_fails_nobodys_storing(
    impossible: str, word: str, tmp_path: Path
) -> None:
    async with Relay(port=0, data_dir=tmp_path, rate_limit_enabled=False) as relay:
        async with speaker(relay.url, BOB):
            pass
        async with speaker(relay.url, ALICE) as alice, speaker(relay.url, MALLORY) as mallory:
            letters = []
            for number in range(30):  # so that some of both are in one commit
                await mallory.say({"type": word, "ids": [impossible], "delayMs": 0})
                letters.append(await alice.send(BOB.peer_id, number))
            answers = [await alice.answer_to(letter) for letter in letters]

        assert answers == ["stored"] * 30


@pytest.mark.parametrize("impossible", IMPOSSIBLE, ids=lambda text: ascii(text[:24]))
async def test_a_name_that_no_file_can_hold_keeps_no_mail_from_being_stored(
    impossible: str, tmp_path: Path
) -> None:
    async with Relay(port=0, data_dir=tmp_path) as relay:
        async with speaker(relay.url, BOB):
            pass
        async with speaker(relay.url, ALICE, name=impossible[:64]) as alice:
            envelope = await alice.send(BOB.peer_id, impossible[:1_000])
            assert await alice.answer_to(envelope) == "stored"

        assert await mail_of(relay, BOB) == [envelope.payload]
