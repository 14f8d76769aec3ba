"""One write that fails at one moment, and what those beside and behind it are told."""

from __future__ import annotations

import asyncio
import threading

import pytest

from agora.keys import KeyPair
from agora.mailbox import MemoryMailbox, Page
from agora.protocol.relay.actions import Mail
from agora.relay import Relay
from tests.faults.speaker import DEADLINE, envelope_from, speaker
from tests.support import faults_in

ALICE, BOB, CAROL = (KeyPair.from_seed(bytes([number] * 32)) for number in (1, 2, 3))


class StuckMailbox(MemoryMailbox):
    """
    A mailbox on a disk that hangs, and then cannot take one message.

    Attributes:
        goes_on: Set when the disk no longer hangs.
        is_broken: Whether it still refuses what is called unlucky.
        reads: Cleared, whoever reads waits for it.
        is_read: Set when somebody reads.
    """

    goes_on = threading.Event()
    is_broken = True
    reads = threading.Event()
    is_read = threading.Event()

    def put(self, mail: Mail, *, now_ms: int, is_owed: bool = False, follows: int = 0) -> None:
        """Keep *mail*, but for what is called unlucky."""
        if "unlucky" in mail.text and self.is_broken:
            self.goes_on.wait(DEADLINE)
            raise OSError("no space left on device")
        super().put(mail, now_ms=now_ms, is_owed=is_owed, follows=follows)

    def page(self, recipient: str, *, after: int, max_messages: int, max_bytes: int) -> Page:
        """Return the mail behind *after*, when the disk reads."""
        self.is_read.set()
        self.reads.wait(DEADLINE)
        return super().page(recipient, after=after, max_messages=max_messages, max_bytes=max_bytes)


@pytest.fixture(autouse=True)
def _stuck_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give relays of a test this mailbox."""
    monkeypatch.setattr(StuckMailbox, "goes_on", threading.Event())
    monkeypatch.setattr(StuckMailbox, "is_broken", True)
    monkeypatch.setattr(StuckMailbox, "reads", threading.Event())
    monkeypatch.setattr(StuckMailbox, "is_read", threading.Event())
    StuckMailbox.reads.set()
    monkeypatch.setattr("agora.relay.server.MemoryMailbox", StuckMailbox)


def expect_faults(caplog: pytest.LogCaptureFixture) -> None:
    """See that the failure was logged, as it should be."""
    assert faults_in(caplog) != []
    caplog.clear()


async def test_a_message_does_not_overtake_one_that_could_not_be_stored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second, third = (envelope_from(ALICE, BOB.peer_id, w) for w in ("unlucky", "2", "3"))

    async with Relay(port=0) as relay, speaker(relay.url, ALICE) as alice:
        async with speaker(relay.url, BOB):
            pass
        await alice.submit(first, BOB.peer_id)
        await alice.submit(second, BOB.peer_id, after=first.id)
        await alice.submit(third, BOB.peer_id, after=second.id)
        assert await alice.answers() == []  # all three are under way
        StuckMailbox.goes_on.set()

        assert await alice.answer_to(first) == "unavailable"
        assert await alice.answer_to(second) == "out_of_order"
        assert await alice.answer_to(third) == "out_of_order"

        StuckMailbox.is_broken = False
        await alice.submit(first, BOB.peer_id)
        await alice.submit(second, BOB.peer_id, after=first.id)
        assert await alice.answer_to(first) == await alice.answer_to(second) == "stored"
        async with speaker(relay.url, BOB) as bob:
            assert await bob.payloads(2) == ["unlucky", "2"]
    expect_faults(caplog)


async def test_a_message_that_could_not_be_stored_harms_none_from_other_senders(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        Relay(port=0) as relay,
        speaker(relay.url, ALICE) as alice,
        speaker(relay.url, CAROL) as carol,
    ):
        async with speaker(relay.url, BOB):
            pass
        unlucky = await alice.send(BOB.peer_id, "unlucky")
        lucky = await carol.send(BOB.peer_id, "lucky")
        assert await carol.answers() == []
        StuckMailbox.goes_on.set()

        assert await alice.answer_to(unlucky) == "unavailable"
        assert await carol.answer_to(lucky) == "stored"
        StuckMailbox.is_broken = False
        await alice.submit(unlucky, BOB.peer_id)
        assert await alice.answer_to(unlucky) == "stored"
    expect_faults(caplog)


async def test_a_message_is_not_stored_before_a_live_one_that_was_taken_first() -> None:
    """Else a kill at this moment keeps the second alone, and it comes before the first."""
    async with (
        Relay(port=0, ack_timeout=3_600) as relay,
        speaker(relay.url, ALICE) as alice,
        speaker(relay.url, BOB) as bob,
    ):
        nacked = await alice.send(BOB.peer_id, "not now")
        await bob.messages(1, acks=False)
        await bob.nack(nacked.id, delay_ms=200)
        assert await alice.answer_to(nacked) == "stored"
        first = await alice.send(BOB.peer_id, "live")
        await bob.messages(1, acks=False)

        StuckMailbox.is_read.clear()
        StuckMailbox.reads.clear()
        assert await asyncio.to_thread(StuckMailbox.is_read.wait, DEADLINE)  # the nacked one is due
        second = envelope_from(ALICE, BOB.peer_id, "by way of the mailbox")
        await alice.submit(second, BOB.peer_id, after=first.id)
        assert await alice.answers() == []
        StuckMailbox.reads.set()

        receipt = await alice.wait("receipt")
        assert (receipt["id"], receipt["status"]) == (first.id, "stored")
        assert await alice.answer_to(second) == "stored"
