"""Sending to a relay of Agora/1: many on their way, and the order kept whatever is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agora.codes import ReceiptStatus
from agora.envelope import EVERYONE
from agora.frames import (
    PONG,
    AnnouncedLimits,
    agora_members,
    encode_challenge,
    encode_error,
    encode_presence_changes,
    encode_receipt,
    encode_registered,
)
from agora.protocol.client.outbox import Outbox, Outgoing, Status
from agora.protocol.client.scribe import Scribe
from agora.protocol.client.session import (
    Changed,
    Event,
    Intake,
    Introduction,
    Lost,
    PeerSession,
    Reached,
    SeenIds,
    Timing,
)
from agora.protocol.proof import sign_challenge
from agora.protocol.relay.actions import SessionId
from agora.testing.conversation import Conversation, keys_of

ALICE, BOB, CAROL, RELAY = (keys_of(name) for name in ("alice", "bob", "carol", "relay"))
NOW_MS = 1_767_225_600_000


class Side:
    """A session of alice's at a relay of Agora/1, which is the test."""

    def __init__(self, *, timing: Timing | None = None, per_second: float | None = None) -> None:
        self.timing = timing or Timing(retry_first=5.0)
        self.per_second = per_second
        self.outbox = Outbox(max_messages=1_000, max_bytes=10_000_000)
        self.scribe = Scribe(ALICE, lambda: NOW_MS)
        self.intake = Intake(SeenIds(max_ids=100), timing=self.timing)
        self.connects()

    def connects(self) -> None:
        introduction = Introduction(nonce="c" * 64, audience="relay:1")
        self.session = PeerSession(
            ALICE,
            introduction,
            outbox=self.outbox,
            intake=self.intake,
            scribe=self.scribe,
            rate=None,
            timing=self.timing,
            now=0.0,
        )
        signature = sign_challenge(
            RELAY, client_nonce="c" * 64, nonce="a" * 64, public_key=ALICE.peer_id
        )
        self.hears(encode_challenge("a" * 64, RELAY.peer_id, signature))
        list(self.session.frames_to_send(now=0.0))
        limits = AnnouncedLimits(messages_per_second=self.per_second)
        more = agora_members(now_ms=NOW_MS, pending=0, peers_total=0, limits=limits)
        self.hears(encode_registered(ALICE.peer_id, SessionId("s"), [], RELAY.peer_id, more))

    def sends(self, payload: Any = "hi", to: str = BOB.peer_id) -> Outgoing:
        envelope = self.scribe.seal(type="publish", payload=payload, to=to)
        outgoing = Outgoing(to, envelope)
        self.outbox.add(outgoing)
        return outgoing

    def writes_any(self, now: float = 0.0) -> list[dict[str, Any]]:
        return [json.loads(frame) for frame in self.session.frames_to_send(now=now)]

    def writes(self, now: float = 0.0) -> list[dict[str, Any]]:
        return [frame for frame in self.writes_any(now) if frame != {"type": "ping"}]

    def hears(self, *texts: str, now: float = 0.0) -> list[Event]:
        return [event for text in texts for event in self.session.receive(text, now=now)]

    def hears_receipt(self, about: Outgoing, status: ReceiptStatus) -> list[Event]:
        return self.hears(encode_receipt(about.envelope.id, about.to, status))

    def hears_error(self, code: str, about: Outgoing, **members: Any) -> list[Event]:
        names = {"envelope_id": about.envelope.id, "to": about.to}
        return self.hears(encode_error(code, "no", **names | members))


def after(frames: list[dict[str, Any]]) -> list[str | None]:
    return [frame.get("after") for frame in frames]


def ids(frames: list[dict[str, Any]]) -> list[str]:
    return [frame["envelope"]["id"] for frame in frames]


# On the way


def test_many_messages_leave_at_once_each_naming_the_one_before_it_to_the_same_peer() -> None:
    side = Side()
    first, other, second = side.sends(1), side.sends(2, CAROL.peer_id), side.sends(3)

    frames = side.writes()

    assert ids(frames) == [each.envelope.id for each in (first, other, second)]
    assert after(frames) == [None, None, first.envelope.id]


def test_behind_one_that_is_answered_no_order_is_in_danger() -> None:
    side = Side()
    first = side.sends(1)
    side.writes()
    side.hears_receipt(first, ReceiptStatus.STORED)
    side.sends(2)

    assert after(side.writes()) == [None]


@pytest.mark.parametrize("status", ReceiptStatus)
def test_a_receipt_settles_a_message(status: ReceiptStatus) -> None:
    side = Side()
    outgoing = side.sends()
    side.writes()

    assert side.hears_receipt(outgoing, status) == [Changed(outgoing)]
    assert outgoing.status.value == status.value
    assert len(side.outbox) == 0


def test_a_broadcast_knows_how_many_got_it() -> None:
    side = Side()
    outgoing = side.sends(to=EVERYONE)

    assert [frame["type"] for frame in side.writes()] == ["broadcast"]
    side.hears(encode_receipt(outgoing.envelope.id, EVERYONE, ReceiptStatus.SENT, 7))
    assert (outgoing.status, outgoing.count) == (Status.SENT, 7)


def test_a_receipt_for_another_recipient_settles_nothing() -> None:
    side = Side()
    outgoing = side.sends()
    side.writes()

    assert side.hears(encode_receipt(outgoing.envelope.id, CAROL.peer_id, ReceiptStatus.SENT)) == []
    assert outgoing.status is Status.QUEUED


def test_no_more_is_on_its_way_to_a_peer_than_a_relay_has_in_flight_to_it() -> None:
    side = Side()
    for number in range(300):
        side.sends(number)

    assert len(side.writes()) == 256
    assert side.writes() == []
    side.hears_receipt(side.outbox.in_flight[0], ReceiptStatus.DELIVERED)
    assert len(side.writes()) == 1


def test_nor_more_bytes_but_for_a_single_message() -> None:
    side = Side()
    for _ in range(3):
        side.sends("x" * 600_000)

    assert len(side.writes()) == 1


# What is refused


def test_behind_one_that_has_to_wait_all_wait_in_order_and_leave_together() -> None:
    side = Side()
    messages = [side.sends(number) for number in range(3)]
    side.writes()

    side.hears_error("mailbox_full", messages[0])
    side.hears_error("out_of_order", messages[1])
    side.hears_error("out_of_order", messages[2])

    assert [message.why for message in messages] == ["mailbox_full"] * 3
    assert side.writes(now=4.9) == []
    frames = side.writes(now=5.0)
    assert ids(frames) == [message.envelope.id for message in messages]
    assert after(frames) == [None, *(message.envelope.id for message in messages[:2])]


def test_nothing_leaves_again_before_those_behind_it_are_answered() -> None:
    side = Side()
    first, second = side.sends(1), side.sends(2)
    side.writes()

    side.hears_error("unavailable", first)

    assert side.writes(now=5.0) == []
    side.hears_error("out_of_order", second)
    assert len(side.writes(now=5.0)) == 2


def test_the_wait_grows_by_attempts_not_by_messages() -> None:
    side = Side()
    messages = [side.sends(number) for number in range(5)]
    side.writes()
    for message in messages:
        side.hears_error("unknown_recipient", message)

    assert side.outbox.next_due(now=0.0) == 5.0


def test_behind_a_final_refusal_the_rest_leaves_again_soon() -> None:
    side = Side()
    refused, second, third = (side.sends(number) for number in range(3))
    side.writes()

    side.hears_error("too_large", refused)
    side.hears_error("out_of_order", second)
    side.hears_error("out_of_order", third)

    assert refused.status is Status.REFUSED
    assert side.writes() == []
    assert len(side.writes(now=0.1)) == 2


def test_once_limited_messages_leave_evenly_as_the_relay_announced() -> None:
    side = Side(per_second=4.0)
    messages = [side.sends(number) for number in range(100)]
    side.writes()
    for message in messages:
        side.hears_error("rate_limited", message, retry_after=1.0)

    assert side.writes(now=0.9) == []
    assert len(side.writes(now=1.0)) == 1
    assert len(side.writes(now=1.25)) == 1


def test_acks_that_are_too_many_for_the_relay_wait_and_are_said_again() -> None:
    side = Side()
    letter = Scribe(BOB, lambda: NOW_MS).seal(type="publish", payload=1, to=ALICE.peer_id)
    side.intake.take(letter)
    side.intake.ack(letter)
    [before] = side.writes()

    assert side.hears(encode_error("rate_limited", "too fast", retry_after=2.0)) == []
    assert side.writes(now=1.9) == []
    assert side.writes(now=2.0) == [before]


# Clocks


@pytest.mark.parametrize("code", ["stale", "from_the_future"])
def test_what_was_never_written_before_is_signed_anew_by_the_relays_clock(code: str) -> None:
    side = Side()
    outgoing = side.sends()
    side.writes()
    before = outgoing.envelope

    side.hears_error(code, outgoing, now_ms=NOW_MS + 9_000_000)

    [frame] = side.writes()
    assert outgoing.envelope.id == frame["envelope"]["id"] != before.id
    assert outgoing.envelope.timestamp_ms - (NOW_MS + 9_000_000) < 1_000


def test_what_was_signed_anew_once_is_not_again() -> None:
    side = Side()
    outgoing = side.sends()
    for _ in range(2):
        side.writes()
        side.hears_error("stale", outgoing, now_ms=NOW_MS + 9_000_000)

    assert outgoing.status is Status.REFUSED


def test_what_a_relay_may_have_already_is_not_signed_anew_but_refused() -> None:
    side = Side()
    outgoing = side.sends()
    side.writes()
    side.session.disconnected(1006, "")
    side.connects()
    side.writes()

    side.hears_error("stale", outgoing, now_ms=NOW_MS + 9_000_000)

    assert outgoing.refusal is not None
    assert outgoing.refusal.code == "stale"
    assert side.sends().envelope.timestamp_ms >= NOW_MS + 9_000_000  # the next is right


def test_many_signed_anew_in_one_moment_are_many() -> None:
    side = Side()
    messages = [side.sends("the same") for _ in range(10)]
    side.writes()
    for message in messages:
        side.hears_error("stale", message, now_ms=NOW_MS + 9_000_000)

    assert len({message.envelope.id for message in messages}) == 10


# Silence and loss


def test_what_had_no_answer_goes_out_again_as_it_was() -> None:
    side = Side()
    messages = [side.sends(number) for number in range(3)]
    before = side.writes()
    side.hears_receipt(messages[1], ReceiptStatus.DELIVERED)
    side.session.disconnected(1006, "")
    side.connects()

    assert ids(side.writes()) == [before[0]["envelope"]["id"], before[2]["envelope"]["id"]]


def test_after_a_cut_it_begins_with_few_and_doubles_with_each_round_of_answers() -> None:
    side = Side()
    messages = [side.sends(number) for number in range(100)]
    side.writes()
    side.session.disconnected(1006, "")
    side.connects()
    written = []

    for _ in range(4):
        written.append(len(side.writes()))
        for message in side.outbox.in_flight:
            side.hears_receipt(message, ReceiptStatus.DELIVERED)

    assert written == [4, 8, 16, 32]
    assert messages[59].status is Status.DELIVERED


def test_a_slow_recipient_is_no_dead_link_as_long_as_pings_are_answered() -> None:
    side = Side(timing=Timing(ping_interval=30.0, answer=10.0))
    side.sends()
    side.writes()
    side.hears(PONG)

    for now in (10.0, 20.0, 30.0):
        assert side.writes_any(now=now) == [{"type": "ping"}]
        assert side.hears(PONG, now=now) == []
        assert side.session.tick(now=now) == []


def test_a_link_that_answers_nothing_is_left_sooner_when_something_is_on_its_way() -> None:
    side = Side(timing=Timing(ping_interval=30.0, answer=10.0))
    side.sends()
    side.writes()

    assert side.session.tick(now=9.9) == []
    assert isinstance(side.session.tick(now=10.0)[-1], Lost)


def test_a_pong_says_what_has_reached_the_relay() -> None:
    side = Side()
    first, second = side.sends(1), side.sends(2, CAROL.peer_id)
    frames = side.writes_any()
    late = side.sends(3)
    side.writes()
    side.hears_receipt(first, ReceiptStatus.DELIVERED)

    assert frames[-1] == {"type": "ping"}
    assert side.hears(PONG) == [Reached(second)]
    assert side.writes_any() == [{"type": "ping"}]
    assert side.hears(PONG) == [Reached(late)]


def test_an_answer_about_a_message_that_was_taken_back_means_nothing() -> None:
    side = Side()
    outgoing = side.sends()
    side.writes()
    side.outbox.withdraw(outgoing)

    assert side.hears_error("unavailable", outgoing) == []


# Presence


def test_only_what_has_changed_is_told() -> None:
    side = Side()
    listed = encode_presence_changes([], [CAROL.peer_id])
    own = listed.replace('"online":[]', f'"online":[{{"publicKey":"{ALICE.peer_id}"}}]')
    come = listed.replace('"online":[]', f'"online":[{{"publicKey":"{BOB.peer_id}"}}]')

    assert side.hears(own) == []
    assert len(side.hears(come)) == 1
    assert side.hears(come) == []
    assert list(side.session.peers) == [BOB.peer_id]


# With our relay


def test_in_the_end_both_sides_know_that_it_was_processed() -> None:
    talk = Conversation()
    alice, bob = talk.agent("alice"), talk.agent("bob")
    for agent in (bob, alice):
        agent.connects()
        agent.talks()
    outgoing = alice.sends(bob.id, "hi", confirm=True)

    for agent in (alice, bob, bob, alice):
        agent.talks()

    assert (outgoing.status, outgoing.acknowledgement) == (Status.DELIVERED, "processed")
    assert alice.payloads() == []  # it is no message for the application


def test_a_message_that_nobody_fetched_bounces_and_comes_to_no_application() -> None:
    talk = Conversation(mailbox_max_age=60)
    alice, bob = talk.agent("alice"), talk.agent("bob")
    bob.connects()
    bob.talks()
    bob.loses_connection()
    alice.connects()
    outgoing = alice.sends(bob.id, "hi")
    alice.talks()
    assert outgoing.status is Status.STORED

    for _ in range(4):
        talk.pass_time(31)
        alice.ticks()
        alice.talks()

    assert outgoing.bounce == "expired"
    assert alice.payloads() == []
