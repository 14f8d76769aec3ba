"""The client's core, in conversation with our relay and with those of the reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agora.codes import CloseCode
from agora.envelope import EVERYONE, Envelope, seal
from agora.errors import FrameError, NoAnswerError, RefusedError
from agora.frames import ListedPeer, encode_delivery, encode_error, encode_registered
from agora.protocol.client.dialect import lacks_broadcast
from agora.protocol.client.outbox import Outbox, Outgoing, Status
from agora.protocol.client.scribe import Scribe
from agora.protocol.client.session import (
    Changed,
    Event,
    Incoming,
    Intake,
    Introduction,
    Lost,
    Opened,
    PeerSession,
    PeerState,
    PresenceChanged,
    Problem,
    SeenIds,
    Timing,
)
from agora.protocol.rates import TokenBucket
from agora.protocol.relay.actions import SessionId
from agora.testing.clock import ManualClock
from agora.testing.conversation import Agent, Conversation, RelayCore, keys_of

from .dialects import CurrentRelay, OlderRelay

ALICE, BOB, CAROL = (keys_of(name) for name in ("alice", "bob", "carol"))
RELAY = keys_of("relay").peer_id
PING, PONG = '{"type":"ping"}', '{"type":"pong"}'


def sealed(number: int, to: str = BOB.peer_id, *, by: Any = ALICE) -> Envelope:
    return seal(by, type="publish", payload=number, to=to, timestamp_ms=number)


class Side:
    """A session of alice's alone, whose relay is the test; registered unless told otherwise."""

    def __init__(
        self,
        *messages: Outgoing,
        relay: str | None = RELAY,
        registered: bool = True,
        **options: Any,
    ) -> None:
        self.outbox = Outbox(max_messages=100, max_bytes=1_000_000)
        for outgoing in messages:
            self.outbox.add(outgoing)
        timing = options.get("timing", Timing())
        settings = {
            "rate": None,
            "timing": timing,
            "intake": Intake(SeenIds(max_ids=100), timing=timing),
            "scribe": Scribe(ALICE, lambda: 1_000_000),
        } | options
        self.intake = settings["intake"]
        introduction = settings.pop("introduction", Introduction())
        self.session = PeerSession(ALICE, introduction, outbox=self.outbox, now=0.0, **settings)
        if registered:
            peers = [ListedPeer(BOB.peer_id)]
            text = encode_registered(ALICE.peer_id, SessionId("s"), peers, relay)  # type: ignore[arg-type]
            self.session.receive(text, now=0.0)

    def writing(self, now: float = 0.0) -> Iterator[str]:
        return self.session.frames_to_send(now=now)

    def writes(self, now: float = 0.0) -> list[str]:
        return list(self.writing(now))

    def hears(self, *texts: str, now: float = 0.0) -> list[Event]:
        return [event for text in texts for event in self.session.receive(text, now=now)]

    def hears_error(self, code: str, about: Outgoing | None = None, **members: Any) -> list[Event]:
        if about is not None:
            members |= {"envelope_id": about.envelope.id, "to": about.to}
        return self.hears(encode_error(code, "no", **members))


def to_bob(number: int = 1) -> Outgoing:
    return Outgoing(BOB.peer_id, sealed(number))


def to_carol(number: int = 1) -> Outgoing:
    return Outgoing(CAROL.peer_id, sealed(number, CAROL.peer_id))


def problems(events: list[Event]) -> list[str]:
    return [event.error.code for event in events if isinstance(event, Problem)]


# A conversation begins and ends


def test_nothing_is_said_before_the_relay_has_registered_us() -> None:
    side = Side(to_bob(), registered=False)

    assert side.writes(now=9.9) == []


def test_a_registered_session_knows_the_relay_and_who_is_there() -> None:
    side = Side(registered=False)

    events = side.hears(
        encode_registered(ALICE.peer_id, SessionId("s"), [ListedPeer(BOB.peer_id, "Bob")], RELAY)
    )

    bob = ListedPeer(BOB.peer_id, "Bob")
    assert events == [Opened(RELAY), PresenceChanged(bob, is_online=True)]
    assert side.session.peers == {BOB.peer_id: bob}


def test_a_relay_that_does_not_register_us_in_time_is_lost() -> None:
    side = Side(registered=False, timing=Timing(register=10.0))

    assert side.session.tick(now=9.9) == []
    assert side.session.next_wake(now=9.0) == 1.0
    [lost] = side.session.tick(now=10.0)
    assert isinstance(lost, Lost)
    assert (type(lost.error), lost.is_final) == (NoAnswerError, False)


def test_a_registration_refused_for_what_it_says_is_final() -> None:
    side = Side(registered=False)

    [lost] = side.hears(encode_error("invalid_message", "Invalid registration: no name"))

    assert isinstance(lost, Lost)
    assert lost.is_final


def test_a_relay_without_room_is_come_back_to() -> None:
    side = Side(registered=False)

    events = side.hears(encode_error("at_capacity", "Relay is at capacity (max 1 peers)"))
    [lost] = side.session.disconnected(CloseCode.TRY_AGAIN_LATER, "")

    assert problems(events) == ["at_capacity"]
    assert isinstance(lost, Lost)
    assert not lost.is_final


@pytest.mark.parametrize(("code", "is_final"), [(1001, False), (1006, False), (4501, True)])
def test_the_close_code_says_whether_to_come_back(code: int, is_final: bool) -> None:
    [_, lost] = Side().session.disconnected(code, "why")

    assert isinstance(lost, Lost)
    assert lost.is_final == is_final


def test_an_end_is_told_once() -> None:
    side = Side()
    side.session.disconnected(1006, "")

    assert side.session.disconnected(1006, "") == []
    assert side.session.tick(now=1e9) == []


def test_what_comes_after_the_end_counts_for_nothing() -> None:
    side = Side()
    side.session.disconnected(1006, "")

    assert side.hears(PONG, "nonsense") == []
    assert side.session.state is PeerState.CLOSED


def test_with_the_connection_everyone_is_gone() -> None:
    side = Side()

    gone, _ = side.session.disconnected(1006, "")

    assert gone == PresenceChanged(ListedPeer(BOB.peer_id), is_online=False)
    assert side.session.peers == {}


# Silence


def test_a_silent_relay_is_pinged_and_then_counts_as_gone() -> None:
    side = Side(timing=Timing(ping_interval=30.0, answer=10.0))

    assert side.writes(now=29.9) == []
    assert side.session.next_wake(now=29.0) == 1.0
    assert side.writes(now=30.0) == [PING]
    assert side.writes(now=31.0) == []
    assert side.session.tick(now=39.9) == []
    assert isinstance(side.session.tick(now=40.0)[-1], Lost)


def test_a_relay_that_answers_is_there() -> None:
    side = Side(timing=Timing(ping_interval=30.0, answer=10.0))
    side.writes(now=30.0)

    side.hears(PONG, now=39.0)

    assert side.session.tick(now=60.0) == []


def test_a_relay_that_cannot_be_written_to_counts_as_gone_too() -> None:
    side = Side(timing=Timing(ping_interval=30.0, answer=10.0))

    assert isinstance(side.session.tick(now=40.0)[-1], Lost)


def test_time_in_which_we_do_not_read_does_not_count_as_silence() -> None:
    side = Side(timing=Timing(ping_interval=30.0, answer=10.0))

    side.session.hear(now=39.0)

    assert side.session.tick(now=45.0) == []


# Sending


def test_a_ping_goes_behind_every_message() -> None:
    bob, carol = to_bob(), to_carol()

    frames = Side(bob, carol).writes()

    assert [frame == PING for frame in frames] == [False, True, False, True]
    assert bob.envelope.id in frames[0]
    assert carol.envelope.id in frames[2]


def test_a_message_is_sent_when_its_pong_has_come() -> None:
    outgoing = to_bob()
    side = Side(outgoing)
    side.writes()
    assert outgoing in side.session.in_flight

    events = side.hears(PONG)

    assert events == [Changed(outgoing)]
    assert outgoing.status is Status.SENT
    assert len(side.outbox) == 0


def test_messages_to_one_peer_are_written_one_by_one() -> None:
    side = Side(to_bob(1), to_bob(2))

    first = side.writes()
    side.hears(PONG)
    second = side.writes()

    assert (len(first), len(second)) == (2, 2)


def test_a_message_the_relay_takes_later_keeps_its_place() -> None:
    talk = Conversation(rate_limit_max_messages=2, rate_limit_window_ms=1000)
    [bob] = talk.meet("bob")
    alice = talk.agent("alice")
    alice.connects()
    alice.talks()
    for number in range(5):
        alice.sends(bob.id, str(number))

    for _ in range(10):
        alice.talks()
        talk.pass_time(0.3)

    assert bob.hears() == ["alice is online"] + [f"alice: {number}" for number in range(5)]


def test_messages_wait_while_there_is_no_connection() -> None:
    talk = Conversation()
    [bob] = talk.meet("bob")
    alice = talk.agent("alice")
    outgoing = alice.sends(bob.id, "hi")

    alice.connects()
    alice.talks()

    assert bob.hears() == ["alice is online", "alice: hi"]
    assert outgoing.status is Status.SENT


def test_a_final_refusal_is_told_and_the_message_let_go() -> None:
    refused, other = to_bob(), to_carol()
    side = Side(refused, other)
    side.writes()

    events = side.hears_error("sender_mismatch", refused)

    assert events == [Changed(refused)]
    assert refused.status is Status.REFUSED
    assert refused.refusal is not None
    assert refused.refusal.code == "sender_mismatch"
    assert list(side.outbox) == [other]


def test_a_duplicate_is_as_good_as_sent() -> None:
    outgoing = to_bob()
    side = Side(outgoing)
    side.writes()

    side.hears_error("duplicate", outgoing)

    assert outgoing.status is Status.SENT


def test_after_an_error_the_pong_says_nothing_more_of_that_message() -> None:
    refused, other = to_bob(), to_carol()
    side = Side(refused, other)
    side.writes()

    side.hears_error("unavailable", refused)
    assert side.hears(PONG) == []
    side.hears(PONG)

    assert (refused.status, other.status) == (Status.QUEUED, Status.SENT)


def test_an_error_about_an_unknown_envelope_blames_nobody() -> None:
    outgoing = to_bob()
    side = Side(outgoing)
    side.writes()

    events = side.hears_error("sender_mismatch", to_carol())

    assert problems(events) == ["sender_mismatch"]
    assert outgoing.status is Status.QUEUED


def test_an_error_to_another_recipient_of_the_same_envelope_blames_nobody() -> None:
    outgoing = to_bob()
    side = Side(outgoing)
    side.writes()

    events = side.hears(
        encode_error("unavailable", "no", envelope_id=outgoing.envelope.id, to=CAROL.peer_id)
    )

    assert problems(events) == ["unavailable"]
    assert outgoing in side.session.in_flight


def test_an_answer_that_is_quicker_than_the_writer_is_understood() -> None:
    outgoing = to_bob()
    side = Side(outgoing)

    writing = side.writing()
    next(writing)  # the message; its ping is not written yet
    side.hears_error("unavailable", outgoing)

    assert list(writing) == [PING]
    assert side.hears(PONG) == []  # it says nothing more
    assert outgoing.status is Status.QUEUED
    assert outgoing.why == "unavailable"


def test_nothing_is_written_once_the_conversation_is_over() -> None:
    bob, carol = to_bob(), to_carol()
    side = Side(bob, carol)
    writing = side.writing()
    next(writing)

    side.session.disconnected(1006, "")

    assert list(writing) == []
    assert carol not in side.session.in_flight


# What has to be tried again


def test_what_cannot_be_taken_now_is_tried_again_after_a_growing_wait() -> None:
    outgoing = to_carol()
    side = Side(outgoing, timing=Timing(retry_first=5.0, retry_cap=20.0, ping_interval=1e6))
    waits = []

    now = 0.0
    for _ in range(4):
        side.writes(now)
        error = encode_error("unknown_recipient", "no", envelope_id=outgoing.envelope.id)
        side.hears(error, PONG, now=now)
        waits.append(side.session.next_wake(now=now))
        now += waits[-1]

    assert waits == [5.0, 10.0, 20.0, 20.0]


def test_what_is_tried_again_keeps_its_id() -> None:
    outgoing = to_carol()
    before = outgoing.envelope
    side = Side(outgoing)
    side.writes()

    side.hears_error("unknown_recipient", outgoing)
    side.writes(now=5.0)

    assert outgoing.envelope is before


def test_what_todays_reference_could_not_deliver_is_signed_anew() -> None:
    outgoing = to_carol()
    before = outgoing.envelope
    side = Side(outgoing, relay=None)
    side.writes()

    side.hears('{"type":"error","message":"Recipient not connected: someone"}')
    side.writes(now=5.0)

    assert outgoing.envelope.id != before.id
    assert outgoing.envelope.payload == before.payload


def test_whoever_comes_is_not_kept_waiting() -> None:
    talk = Conversation()
    alice = talk.agent("alice")
    alice.connects()
    alice.sends(CAROL.peer_id, "1")
    alice.sends(CAROL.peer_id, "2")
    alice.talks()

    [carol] = talk.meet("carol")
    talk.pass_time(0.1)  # comings are told together
    alice.talks()

    assert carol.hears() == ["alice: 1", "alice: 2"]


def test_a_rate_holds_back_everything_until_it_is_over_and_costs_no_new_signature() -> None:
    limited, other = to_bob(), to_carol()
    side = Side(limited)
    side.writes()
    signed = limited.envelope

    side.hears_error("rate_limited", limited, retry_after=3.0)
    side.hears(PONG)
    side.outbox.add(other)

    assert side.writes(now=2.9) == []
    assert side.session.next_wake(now=2.0) == 1.0
    assert len(side.writes(now=3.0)) == 4
    assert limited.envelope is signed


def test_a_relay_cannot_make_us_wait_for_ever() -> None:
    outgoing = to_bob()
    side = Side(outgoing, timing=Timing(retry_cap=300.0))
    side.writes()

    side.hears_error("rate_limited", outgoing, retry_after=1e300)
    side.hears(PONG)

    assert len(side.writes(now=300.0)) == 2


def test_a_link_held_back_by_a_rate_is_not_a_dead_one() -> None:
    outgoing = to_bob()
    side = Side(outgoing, timing=Timing(answer=10.0))
    side.writes()

    side.hears_error("rate_limited", outgoing, retry_after=60.0)

    assert side.session.tick(now=69.0) == []


def test_a_relay_that_limits_frames_loses_nothing_and_mixes_nothing_up() -> None:
    talk = Conversation(rate_limit_max_frames=8, rate_limit_window_ms=1000)
    names = [f"peer {number}" for number in range(8)]
    peers = talk.meet(*names)
    alice = talk.agent("alice")
    alice.connects()
    for _ in range(2):
        for peer in peers:
            alice.sends(peer.id, "hi")

    for _ in range(100):
        alice.talks()
        talk.pass_time(0.1)
        alice.ticks()

    assert alice.is_connected
    assert [peer.hears()[1:] for peer in peers] == [["alice: hi", "alice: hi"]] * 8
    assert len(alice.outbox) == 0


def test_our_own_rate_holds_back_and_says_until_when() -> None:
    rate = TokenBucket(capacity=1, window=4.0, now=0.0)
    side = Side(to_bob(), to_carol(), rate=rate)

    assert len(side.writes()) == 2
    assert side.session.next_wake(now=1.0) == 3.0
    assert len(side.writes(now=4.0)) == 2


def test_a_broadcast_counts_for_ten_messages_of_our_own_rate() -> None:
    rate = TokenBucket(capacity=10, window=10.0, now=0.0)
    everyone = Outgoing(EVERYONE, sealed(1, EVERYONE))
    side = Side(everyone, to_bob(), rate=rate)

    assert len(side.writes()) == 2
    assert len(side.writes(now=1.0)) == 2


# When the connection is lost


def test_what_was_in_flight_is_sent_again_and_arrives_once() -> None:
    talk = Conversation()
    [bob] = talk.meet("bob")
    alice = talk.agent("alice")
    alice.connects()
    alice.talks()
    outgoing = alice.sends(bob.id, "hi")
    alice.writes()
    alice.carries_up()  # the relay has it; its word is lost
    alice.loses_connection()

    alice.connects()
    alice.talks()

    assert outgoing.status is Status.DUPLICATE
    assert bob.hears().count("alice: hi") == 1


def test_what_never_reached_the_relay_is_sent_again() -> None:
    talk = Conversation()
    [bob] = talk.meet("bob")
    alice = talk.agent("alice")
    alice.connects()
    alice.talks()
    alice.sends(bob.id, "hi")
    alice.writes()
    alice.loses_connection()

    alice.connects()
    alice.talks()

    assert bob.hears().count("alice: hi") == 1


def test_a_frame_that_was_too_big_is_not_sent_for_ever() -> None:
    small, large = to_carol(), Outgoing(BOB.peer_id, seal(
        ALICE, type="publish", payload="x" * 9000, to=BOB.peer_id, timestamp_ms=1
    ))  # fmt: skip
    side = Side(small, large)
    side.writes()

    events = side.session.disconnected(CloseCode.TOO_BIG, "")

    assert events[0] == Changed(large)
    assert large.refusal is not None
    assert large.refusal.code == "too_large"
    assert list(side.outbox) == [small]


# The reference


def agent_of(relay: RelayCore, name: str, clock: ManualClock) -> Agent:
    agent = Agent(relay, keys_of(name), clock)
    agent.connects()
    agent.talks()
    return agent


@pytest.mark.parametrize("dialect", [CurrentRelay, OlderRelay])
def test_an_error_without_an_id_is_about_the_first_message_not_yet_answered(
    dialect: type[CurrentRelay] | type[OlderRelay],
) -> None:
    relay, clock = dialect(), ManualClock()
    bob, alice = agent_of(relay, "bob", clock), agent_of(relay, "alice", clock)
    messages = [alice.sends(to, "hi") for to in (BOB.peer_id, CAROL.peer_id, ALICE.peer_id)]

    alice.talks()
    bob.talks()

    assert [outgoing.status for outgoing in messages] == [Status.SENT, Status.QUEUED, Status.SENT]
    assert messages[1].why == "unknown_recipient"
    assert bob.payloads() == alice.payloads() == ["hi"]


@pytest.mark.parametrize("dialect", [CurrentRelay, OlderRelay])
def test_a_peer_of_the_reference_gets_what_it_missed(
    dialect: type[CurrentRelay] | type[OlderRelay],
) -> None:
    relay, clock = dialect(), ManualClock()
    alice = agent_of(relay, "alice", clock)
    for number in range(3):
        alice.sends(BOB.peer_id, number)
    alice.talks()

    bob = agent_of(relay, "bob", clock)
    alice.talks()
    bob.talks()

    assert bob.payloads() == [0, 1, 2]


def test_a_second_error_before_a_pong_is_not_about_the_next_message() -> None:
    first, second = to_bob(), to_carol()
    side = Side(first, second, relay=None)
    side.writes()

    side.hears('{"type":"error","message":"Recipient not connected: someone"}')
    events = side.hears('{"type":"error","message":"Invalid message format"}')

    assert problems(events) == ["invalid_message"]
    assert second in side.session.in_flight


def test_an_error_before_a_ping_of_silence_is_answered_blames_nobody() -> None:
    outgoing = to_bob()
    side = Side(relay=None)
    assert side.writes(now=30.0) == [PING]
    side.outbox.add(outgoing)
    side.writes(now=30.0)

    events = side.hears('{"type":"error","message":"Invalid message format"}')

    assert problems(events) == ["invalid_message"]
    assert outgoing in side.session.in_flight


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Recipient not connected", "unknown_recipient"),
        ("Recipient not connected: 302a", "unknown_recipient"),
        ("Failed to relay message", "unavailable"),
        ("Not registered: send registration message first", "not_registered"),
        ("Invalid envelope: id_mismatch", "invalid_envelope"),
        ("Envelope sender does not match registered public key", "sender_mismatch"),
        ("Envelope recipients do not include requested relay recipient", "recipient_mismatch"),
        ("Unknown message type: broadcast", "invalid_message"),
    ],
)
def test_what_the_reference_says_without_a_code_is_understood(text: str, code: str) -> None:
    outgoing = to_bob()
    side = Side(outgoing, relay=None)
    side.writes()

    side.hears(f'{{"type":"error","message":"{text}"}}')

    assert code == (outgoing.refusal.code if outgoing.refusal else outgoing.why)


def test_a_relay_without_broadcast_refuses_it_recognisably() -> None:
    alice = agent_of(CurrentRelay(), "alice", ManualClock())
    outgoing = alice.sends(EVERYONE, "hear, hear")

    alice.talks()

    assert outgoing.refusal is not None
    assert lacks_broadcast(outgoing.refusal)


def test_an_id_that_the_reference_may_have_spent_for_nothing_is_not_used_again() -> None:
    relay, clock = CurrentRelay(), ManualClock()
    alice = agent_of(relay, "alice", clock)
    outgoing = alice.sends(BOB.peer_id, "hi")
    alice.writes()
    alice.carries_up()  # bob is not there: the relay remembers the id, and its error is lost
    alice.loses_connection()

    bob = agent_of(relay, "bob", clock)
    alice.connects()
    alice.talks()
    bob.talks()

    assert outgoing.status is Status.SENT
    assert bob.payloads() == ["hi"]


@pytest.mark.parametrize("dialect", [CurrentRelay, OlderRelay])
def test_what_was_on_its_way_to_a_peer_that_is_there_arrives_once(
    dialect: type[CurrentRelay] | type[OlderRelay],
) -> None:
    relay, clock = dialect(), ManualClock()
    bob, alice = agent_of(relay, "bob", clock), agent_of(relay, "alice", clock)
    alice.sends(BOB.peer_id, "hi")
    alice.writes()
    alice.carries_up()
    alice.loses_connection()

    alice.connects()
    alice.talks()
    bob.talks()

    assert bob.payloads() == ["hi"]


# Receiving


def delivery(envelope: Envelope, name: str | None = None) -> str:
    return encode_delivery(envelope.sender, envelope.wire_text, name)


def test_a_genuine_message_to_us_is_handed_over_with_the_claimed_name() -> None:
    letter = sealed(1, ALICE.peer_id, by=BOB)

    assert Side().hears(delivery(letter, "Bob")) == [Incoming(letter, "Bob")]


def test_a_broadcast_is_to_us_too() -> None:
    letter = sealed(1, EVERYONE, by=BOB)

    assert Side().hears(delivery(letter)) == [Incoming(letter, None)]


def test_a_message_is_handed_over_once_also_after_a_new_connection() -> None:
    intake = Intake(SeenIds(max_ids=10), timing=Timing())
    letter = sealed(1, ALICE.peer_id, by=BOB)
    Side(intake=intake).hears(delivery(letter))

    assert Side(intake=intake).hears(delivery(letter)) == []


def test_a_message_that_names_others_is_kept_back() -> None:
    events = Side().hears(delivery(sealed(1, CAROL.peer_id, by=BOB)))

    assert problems(events) == ["not_addressed"]


def test_a_message_from_someone_else_than_the_relay_says_is_kept_back() -> None:
    letter = sealed(1, ALICE.peer_id, by=BOB)

    events = Side().hears(encode_delivery(CAROL.peer_id, letter.wire_text, None))

    [problem] = events
    assert isinstance(problem, Problem)
    assert "does not match relay from field" in str(problem.error)


@pytest.mark.parametrize("envelope", ["{}", "null", "[]", '"text"', "7"])
def test_what_is_no_envelope_is_kept_back(envelope: str) -> None:
    events = Side().hears(f'{{"type":"message","from":"x","envelope":{envelope}}}')

    assert problems(events) == ["invalid_envelope"]


@pytest.mark.parametrize("data", ["", "{", "null", b"\xff", '{"type":"message"}', "[" * 600])
def test_what_is_no_frame_is_a_problem_and_no_more(data: str | bytes) -> None:
    side = Side()

    [problem] = side.session.receive(data, now=0.0)

    assert isinstance(problem, Problem)
    assert isinstance(problem.error, FrameError)
    assert side.session.state is PeerState.REGISTERED


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"receipt","id":"x","to":"y","status":"eaten"}',
        "[]",
        "{}",
        "7",
        '{"type":' + "[" * 510 + "]" * 510 + "}",
    ],
)
def test_frames_of_other_versions_are_ignored(text: str) -> None:
    assert Side().hears(text) == []


def test_who_comes_and_goes_is_told() -> None:
    side, carol = Side(), ListedPeer(CAROL.peer_id, "Carol")

    events = side.hears(
        f'{{"type":"peer_online","publicKey":"{CAROL.peer_id}","name":"Carol"}}',
        f'{{"type":"peer_offline","publicKey":"{CAROL.peer_id}"}}',
    )

    assert events == [
        PresenceChanged(carol, is_online=True),
        PresenceChanged(carol, is_online=False),
    ]


def test_who_was_not_there_does_not_go() -> None:
    assert Side().hears(f'{{"type":"peer_offline","publicKey":"{CAROL.peer_id}"}}') == []


def test_refused_means_a_reason_for_people_and_one_for_programs() -> None:
    outgoing = to_bob()
    side = Side(outgoing)
    side.writes()
    side.hears_error("invalid_envelope", outgoing)

    assert isinstance(outgoing.refusal, RefusedError)
    assert str(outgoing.refusal) == "no (invalid_envelope)"
    assert outgoing.refusal.envelope_id == outgoing.envelope.id


# A relay that does not behave


def test_a_relay_that_talks_but_never_answers_is_given_up_in_the_end() -> None:
    outgoing = to_bob()
    side = Side(outgoing, timing=Timing(answer=10.0))
    side.writes()

    for second in range(1, 60):
        side.hears('{"type":"something_new"}', now=float(second))
        assert side.session.tick(now=float(second)) == []

    assert any(isinstance(event, Lost) for event in side.session.tick(now=60.0))


def test_time_in_which_we_do_not_read_is_not_held_against_the_relay() -> None:
    side = Side(to_bob(), timing=Timing(answer=10.0))
    side.writes()

    for minute in range(1, 10):
        side.session.hear(now=60.0 * minute)
        assert side.session.tick(now=60.0 * minute + 9.0) == []


def test_a_second_registration_is_not_listened_to() -> None:
    side = Side()

    assert side.hears(encode_registered(ALICE.peer_id, SessionId("s"), [], None)) == []
    assert list(side.session.peers) == [BOB.peer_id]


def test_a_relay_that_asks_for_next_to_no_wait_gets_some_peace() -> None:
    outgoing = to_bob()
    side = Side(outgoing)
    side.writes()

    side.hears_error("rate_limited", outgoing, retry_after=0.001)
    side.hears(PONG)

    assert side.writes(now=0.04) == []
    assert len(side.writes(now=0.06)) == 2
