"""One connection of the relay: who may say what, and when."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from agora.codes import CloseCode, ErrorCode, ReceiptStatus
from agora.frames import ErrorAnswer, ListedPeer, PeerOnline, decode_answer
from agora.keys import PeerId
from agora.limits import Limits
from agora.protocol.relay.actions import (
    Action,
    Close,
    Note,
    Ping,
    Receipt,
    Send,
    SessionId,
    Store,
    Verify,
)
from agora.protocol.relay.refusal import Refusal
from agora.protocol.relay.router import Router, RouterConfig
from agora.protocol.relay.session import Door, RelaySession, State
from agora.testing.conversation import Conversation, keys_of

ALICE = keys_of("alice").peer_id
BOB = keys_of("bob").peer_id
REGISTER = f'{{"type":"register","publicKey":"{ALICE}"}}'
PING = '{"type":"ping"}'


def new_session(*, storage_peers: tuple[PeerId, ...] = (), **limits: Any) -> RelaySession:
    bounds = Limits(**limits)
    config = RouterConfig(identity=keys_of("relay"), storage_peers=storage_peers)
    return RelaySession(SessionId("s"), Router(bounds, config), bounds, Door("0" * 64), now=0.0)


def registered_session(**options: Any) -> RelaySession:
    session = new_session(**options)
    session.receive(REGISTER, now=0.0)
    return session


def texts(actions: Sequence[Action]) -> list[str]:
    return [action.text for action in actions if isinstance(action, Send)]


def error(actions: Sequence[Action]) -> ErrorAnswer:
    """Return the one error that was answered, and nothing else was."""
    [text] = texts(actions)
    answer = decode_answer(text)
    assert isinstance(answer, ErrorAnswer)
    return answer


# Time


def test_a_silent_connection_is_closed_at_its_deadline() -> None:
    session = new_session(register_timeout=10.0)

    assert session.tick(now=9.9) == []
    assert session.tick(now=10.0) == [Close(session.id, CloseCode.REGISTER_TIMEOUT)]


def test_pings_do_not_put_off_the_deadline_to_register() -> None:
    session = new_session(register_timeout=10.0)

    session.receive(PING, now=9.9)

    assert session.tick(now=10.0) == [Close(session.id, CloseCode.REGISTER_TIMEOUT)]


def test_a_registered_session_has_no_deadline() -> None:
    session = registered_session(register_timeout=10.0, heartbeat_interval=30.0)

    assert session.tick(now=29.9) == []


def test_a_silent_session_is_pinged_and_then_closed_as_idle() -> None:
    session = registered_session(heartbeat_interval=30.0)

    assert session.tick(now=30.0) == [Ping(session.id, b"")]
    assert session.tick(now=59.9) == []
    assert session.tick(now=60.0) == [Close(session.id, CloseCode.IDLE)]


@pytest.mark.parametrize("sign_of_life", ["frame", "pong", "ping"])
def test_any_sign_of_life_counts_against_idleness(sign_of_life: str) -> None:
    session = registered_session(heartbeat_interval=30.0)
    session.tick(now=30.0)

    match sign_of_life:
        case "frame":
            session.receive(PING, now=59.0)
        case "pong":
            session.receive_pong(b"", now=59.0)
        case "ping":
            session.hear(now=59.0)

    assert session.tick(now=60.0) == []
    assert session.tick(now=89.0) == [Ping(session.id, b"")]


def test_a_heartbeat_of_zero_is_none() -> None:
    session = registered_session(heartbeat_interval=0.0)

    assert session.tick(now=1e9) == []


# Registration


def test_a_registration_is_answered_with_everyone_who_is_there() -> None:
    talk = Conversation(storage_peers=["carol"])
    talk.join("bob")

    alice = talk.join("alice")

    assert alice.hears() == ["registered with bob, carol"]


def test_a_registration_tells_the_session_id_and_the_relays_own_key() -> None:
    relay = keys_of("relay").peer_id

    [text] = texts(new_session().receive(REGISTER, now=0.0))

    assert text == (
        f'{{"type":"registered","publicKey":"{ALICE}","sessionId":"s","peers":[],"relay":"{relay}"}}'
    )


@pytest.mark.parametrize(
    "frame",
    [
        '{"type":"register"}',
        '{"type":"register","publicKey":7}',
        f'{{"type":"register","publicKey":"{ALICE.upper()}"}}',
        f'{{"type":"register","publicKey":"{ALICE} "}}',
    ],
)
def test_what_is_no_peer_id_cannot_register(frame: str) -> None:
    session = new_session()

    answer = error(session.receive(frame, now=0.0))

    assert answer.code == "invalid_message"
    assert answer.message == "Invalid registration: missing or invalid publicKey"
    assert session.state is State.UNREGISTERED


def test_a_refused_registration_can_be_done_again() -> None:
    session = new_session()
    session.receive('{"type":"register"}', now=0.0)

    session.receive(REGISTER, now=0.0)

    assert session.state is State.REGISTERED


def test_a_second_registration_is_an_unknown_type() -> None:
    answer = error(registered_session().receive(REGISTER, now=0.0))

    assert (answer.code, answer.message) == (
        "invalid_message",
        "Unknown message type: register",
    )


def test_a_second_registration_without_a_key_is_an_unknown_type_too() -> None:
    answer = error(registered_session().receive('{"type":"register"}', now=0.0))

    assert answer.message == "Unknown message type: register"


def test_one_peer_too_many_is_refused_and_told_to_come_back_later() -> None:
    talk = Conversation(max_peers=1)
    talk.join("alice")

    bob = talk.join("bob")

    assert bob.hears() == ["error at_capacity"]
    assert bob.close_code is CloseCode.TRY_AGAIN_LATER


def test_another_session_of_a_peer_is_never_one_peer_too_many() -> None:
    talk = Conversation(max_peers=1)
    talk.join("alice")

    alice_again = talk.join("alice")

    assert alice_again.hears() == ["registered"]


@pytest.mark.parametrize(
    ("claimed", "shown"),
    [
        ("bob", "bob"),
        ("  bob\t", "bob"),
        ("b\x1b[31mob", "b[31mob"),
        ("\x00\x07", None),
        ("   ", None),
        ("", None),
        ("...125531b8", None),
        ("@125531b8", None),
        ("\ud800", "\ufffd"),
    ],
)
def test_a_display_name_is_cleaned(claimed: str, shown: str | None) -> None:
    talk = Conversation()
    [witness] = talk.meet("witness")

    talk.connect("bob").registers(claimed)

    assert witness.answers() == [PeerOnline(ListedPeer(BOB, shown))]


def test_a_name_that_is_too_long_is_refused() -> None:
    talk = Conversation(max_name_length=5)
    bob = talk.connect("bob")

    bob.registers("robert")

    assert bob.hears() == ["error invalid_message"]


# Before registration


def test_a_ping_is_answered_before_registration() -> None:
    assert texts(new_session().receive(PING, now=0.0)) == ['{"type":"pong"}']


@pytest.mark.parametrize(
    "frame",
    [
        f'{{"type":"message","to":"{BOB}","envelope":{{}}}}',
        '{"type":"message"}',
        '{"type":"broadcast","envelope":{}}',
        '{"type":"broadcast"}',
        '{"type":"nonsense"}',
        "{}",
        "[]",
        '"register"',
        "7",
    ],
)
def test_whatever_is_said_before_registration_is_refused(frame: str) -> None:
    session = new_session()

    answer = error(session.receive(frame, now=0.0))

    assert answer.code == "not_registered"
    assert answer.message == "Not registered: send registration message first"


def test_a_frame_that_came_too_early_does_not_keep_one_from_registering() -> None:
    talk = Conversation()
    alice = talk.connect("alice")

    alice.sends(alice, "too early")
    alice.registers()

    assert alice.hears() == ["error not_registered", "registered"]


def test_an_early_message_is_named_in_its_refusal() -> None:
    talk = Conversation()
    alice = talk.connect("alice")

    letter = alice.sends(BOB, "too early")
    [answer] = alice.answers()

    assert isinstance(answer, ErrorAnswer)
    assert (answer.envelope_id, answer.to) == (letter.id, BOB)


# Nonsense


@pytest.mark.parametrize("data", ["", "{", "null", "NaN", b"\xff", b"\xef\xbb\xbf{}", "[" * 600])
def test_what_is_not_json_is_refused(data: str | bytes) -> None:
    answer = error(registered_session().receive(data, now=0.0))

    assert (answer.code, answer.message) == ("invalid_message", "Invalid message format")


@pytest.mark.parametrize(
    ("type_member", "printed"),
    [
        ('{"type":"peers"}', "peers"),
        ('{"kind":"ping"}', "undefined"),
        ('{"type":null}', "null"),
        ('{"type":true}', "true"),
        ('{"type":1.50}', "1.5"),
        ('{"type":{"a":1}}', "[object Object]"),
        ('{"type":[1,[null,"a",[]],[],{}]}', "1,,a,,,[object Object]"),
        ("[]", "undefined"),
    ],
)
def test_an_unknown_type_is_printed_as_javascript_does(type_member: str, printed: str) -> None:
    answer = error(registered_session().receive(type_member, now=0.0))

    assert answer.message == f"Unknown message type: {printed}"


def test_a_type_nested_as_deep_as_json_may_be_is_refused_like_any_other() -> None:
    frame = '{"type":' + "[" * 510 + "]" * 510 + "}"

    answer = error(registered_session().receive(frame, now=0.0))

    assert answer.message == "Unknown message type: "


def test_a_long_type_is_not_echoed_in_full() -> None:
    answer = error(registered_session().receive(f'{{"type":"{"x" * 1000}"}}', now=0.0))

    assert answer.message == f"Unknown message type: {'x' * 200}…"


@pytest.mark.parametrize(
    ("frame", "frame_type", "member"),
    [
        ('{"type":"message","envelope":{}}', "message", "to"),
        ('{"type":"message","to":"","envelope":{}}', "message", "to"),
        ('{"type":"message","to":["x"],"envelope":{}}', "message", "to"),
        ('{"type":"message","to":"x"}', "message", "envelope"),
        ('{"type":"message","to":"x","envelope":null}', "message", "envelope"),
        ('{"type":"message","to":"x","envelope":"y"}', "message", "envelope"),
        ('{"type":"broadcast","envelope":0}', "broadcast", "envelope"),
    ],
)
def test_a_member_that_is_missing_or_wrong_is_named(
    frame: str, frame_type: str, member: str
) -> None:
    answer = error(registered_session().receive(frame, now=0.0))

    assert answer.message == f'Invalid {frame_type}: missing or invalid "{member}" field'


def test_an_array_is_an_envelope_that_names_nobody() -> None:
    frame = '{"type":"message","to":"x","envelope":[]}'

    answer = error(registered_session().receive(frame, now=0.0))

    assert answer.message == "Invalid envelope: invalid_routing_fields"


def test_a_binary_frame_is_read_as_a_text_frame_is() -> None:
    assert texts(new_session().receive(PING.encode(), now=0.0)) == ['{"type":"pong"}']


def test_an_exact_duplicate_of_a_name_counts_as_its_last_value() -> None:
    frame = '{"type":"message","type":"ping"}'

    assert texts(new_session().receive(frame, now=0.0)) == ['{"type":"pong"}']


def test_a_refusal_is_noted_without_a_word_of_what_was_said() -> None:
    session = registered_session()

    notes = [a for a in session.receive('{"type":"secret"}', now=0.0) if isinstance(a, Note)]

    assert notes == [Note("refused", {"session": "s", "code": "invalid_message"})]


# The end


def test_nothing_said_after_the_end_counts() -> None:
    session = registered_session()
    session.end(now=0.0)

    assert session.receive(PING, now=0.0) == []
    assert session.receive_pong(b"1", now=0.0) == []
    assert session.tick(now=1e9) == []


def test_a_session_leaves_once() -> None:
    session = registered_session()

    assert session.end(now=0.0) == [Note("left", {"session": "s", "peer": ALICE})]
    assert session.end(now=0.0) == []


def test_a_connection_that_never_registered_leaves_nobody() -> None:
    assert new_session().end(now=0.0) == []


# How many frames


def test_frames_over_the_rate_are_refused_and_told_how_long_to_wait() -> None:
    session = new_session(rate_limit_max_frames=2, rate_limit_window_ms=10_000)
    session.receive(PING, now=0.0)
    session.receive(PING, now=0.0)

    answer = error(session.receive("nonsense", now=0.0))

    assert (answer.code, answer.retry_after) == ("rate_limited", 5.0)


def test_whoever_waits_as_told_is_heard() -> None:
    session = new_session(rate_limit_max_frames=3, rate_limit_window_ms=10_000)
    for _ in range(3):
        session.receive("nonsense", now=0.0)
    told = error(session.receive("nonsense", now=0.1)).retry_after
    assert told is not None

    assert error(session.receive("nonsense", now=0.1 + told)).code == "invalid_message"


def test_pings_cost_as_much_as_nonsense() -> None:
    session = new_session(rate_limit_max_frames=1)
    session.receive(PING, now=0.0)

    assert error(session.receive("nonsense", now=0.0)).code == "rate_limited"


def test_a_ping_over_the_rate_is_answered_all_the_same() -> None:
    session = new_session(rate_limit_max_frames=1)
    session.receive("nonsense", now=0.0)

    assert texts(session.receive(PING, now=0.0)) == ['{"type":"pong"}']


def test_a_message_over_the_rate_of_frames_is_named_in_its_refusal() -> None:
    talk = Conversation(rate_limit_max_frames=1)
    alice = talk.join("alice")
    alice.hears()

    letter = alice.sends(BOB, "one too many")
    [answer] = alice.answers()

    assert isinstance(answer, ErrorAnswer)
    assert (answer.code, answer.envelope_id, answer.to) == ("rate_limited", letter.id, BOB)


def test_rates_that_are_switched_off_limit_nothing() -> None:
    session = new_session(rate_limit_enabled=False, rate_limit_max_frames=1)

    assert [texts(session.receive(PING, now=0.0)) for _ in range(3)] == [['{"type":"pong"}']] * 3


# Pongs and answers


def storing_session() -> tuple[RelaySession, list[Receipt]]:
    """Return a session that has sent one message, and the receipt that is to come for it."""
    session = registered_session(storage_peers=(BOB,))
    return session, [submit(session, 1)]


def submit(session: RelaySession, number: int) -> Receipt:
    """Send a message that is to be stored, and return the receipt that is to come."""
    letter = Conversation().connect("alice").seals(BOB, number)
    frame = f'{{"type":"message","to":"{BOB}","envelope":{letter.wire_text}}}'
    [to_verify] = session.receive(frame, now=0.0)
    assert isinstance(to_verify, Verify)
    assert to_verify.sealed.is_genuine
    [_] = [action for action in session.verified(now=0.0) if isinstance(action, Store)]
    return Receipt(letter.id, BOB, ReceiptStatus.STORED)


def test_a_pong_waits_for_what_is_being_stored() -> None:
    session, [receipt] = storing_session()

    assert session.receive(PING, now=0.0) == []
    assert session.settled(1, receipt) == [Send((session.id,), '{"type":"pong"}')]


def test_a_pong_does_not_wait_for_what_came_after_its_ping() -> None:
    session, [receipt] = storing_session()
    session.receive(PING, now=0.0)

    submit(session, 2)

    assert texts(session.settled(1, receipt)) == ['{"type":"pong"}']


def test_a_ping_waits_for_every_message_before_it() -> None:
    session, [receipt] = storing_session()
    later = submit(session, 2)
    session.receive(PING, now=0.0)

    assert session.settled(1, receipt) == []
    assert texts(session.settled(2, later)) == ['{"type":"pong"}']


def test_a_ping_waits_for_the_messages_before_it_in_whichever_order_they_are_settled() -> None:
    session, [receipt] = storing_session()
    later = submit(session, 2)
    session.receive(PING, now=0.0)

    assert session.settled(2, later) == []
    assert texts(session.settled(1, receipt)) == ['{"type":"pong"}']


def test_each_ping_that_waits_is_answered() -> None:
    session, [receipt] = storing_session()
    session.receive(PING, now=0.0)
    session.receive(PING, now=0.0)

    assert texts(session.settled(1, receipt)) == ['{"type":"pong"}'] * 2


def test_what_could_not_be_stored_is_said_before_the_pong() -> None:
    session, [receipt] = storing_session()
    session.receive(PING, now=0.0)
    refusal = Refusal(ErrorCode.MAILBOX_FULL, "full", envelope_id=receipt.envelope_id)

    told, pong = texts(session.settled(1, refusal))

    assert (told, pong) == (refusal.to_frame(), '{"type":"pong"}')


def test_a_message_is_answered_once() -> None:
    session, [receipt] = storing_session()
    refusal = Refusal(ErrorCode.UNAVAILABLE, "gone", envelope_id=receipt.envelope_id)
    session.settled(1, receipt)

    assert session.settled(1, refusal) == []


@pytest.mark.parametrize(
    "frame",
    [
        '{"type":"ack","ids":["x"]}',
        '{"type":"ack"}',
        '{"type":"nack","ids":["x"]}',
        '{"type":"watch","presence":"all"}',
        '{"type":"authenticate","signature":"x"}',
    ],
)
def test_the_frames_of_agora_1_are_unknown_to_a_session_of_the_reference(frame: str) -> None:
    answer = error(registered_session().receive(frame, now=0.0))

    frame_type = json.loads(frame)["type"]
    assert answer.message == f"Unknown message type: {frame_type}"


@pytest.mark.parametrize("member", ['"confirm":7', '"after":7', '"after":"x"', '"confirm":true'])
def test_the_flags_of_agora_1_mean_nothing_in_a_session_of_the_reference(member: str) -> None:
    alice, bob = Conversation().meet("alice", "bob")
    letter = alice.seals(bob.id, "hi")

    alice.says(f'{{"type":"message","to":"{bob.id}",{member},"envelope":{letter.wire_text}}}')

    assert bob.hears() == ["alice: hi"]
    assert alice.hears() == []
