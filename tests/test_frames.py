"""What travels on the WebSocket, byte for byte; any bytes at all: tests/properties."""

from __future__ import annotations

import json

import pytest

from agora.envelope import Sealed
from agora.errors import FrameError
from agora.frames import (
    PING,
    PONG,
    Broadcast,
    Delivery,
    ErrorAnswer,
    ListedPeer,
    PeerOffline,
    PeerOnline,
    Ping,
    Pong,
    Register,
    Registered,
    Submit,
    UnknownAnswer,
    UnknownRequest,
    decode_answer,
    decode_request,
    encode_broadcast,
    encode_delivery,
    encode_error,
    encode_presence,
    encode_register,
    encode_registered,
    encode_submit,
)
from agora.protocol.actions import SessionId
from agora.testing.conversation import keys_of

ALICE, BOB = keys_of("alice").peer_id, keys_of("bob").peer_id
ID = "0123456789abcdef" * 4


# Writing


def test_a_registration_leaves_out_the_name_that_is_not_there() -> None:
    assert encode_register(ALICE, None) == f'{{"type":"register","publicKey":"{ALICE}"}}'
    assert (
        encode_register(ALICE, "Al") == f'{{"type":"register","publicKey":"{ALICE}","name":"Al"}}'
    )


def test_a_message_carries_the_envelope_as_it_is() -> None:
    assert encode_submit(BOB, '{"b":1,"a":2}') == (
        f'{{"type":"message","to":"{BOB}","envelope":{{"b":1,"a":2}}}}'
    )
    assert encode_broadcast("{}") == '{"type":"broadcast","envelope":{}}'


def test_a_welcome_names_the_session_the_peers_and_the_relay() -> None:
    peers = [ListedPeer(BOB, "Bob"), ListedPeer(ALICE)]

    assert json.loads(encode_registered(ALICE, SessionId("s"), peers, BOB)) == {
        "type": "registered",
        "publicKey": ALICE,
        "sessionId": "s",
        "peers": [{"publicKey": BOB, "name": "Bob"}, {"publicKey": ALICE}],
        "relay": BOB,
    }


def test_a_delivery_names_the_sender_and_escapes_its_name() -> None:
    assert encode_delivery(ALICE, "{}", None) == (
        f'{{"type":"message","from":"{ALICE}","envelope":{{}}}}'
    )
    assert encode_delivery(ALICE, "{}", '"') == (
        f'{{"type":"message","from":"{ALICE}","name":"\\"","envelope":{{}}}}'
    )


def test_presence_is_one_frame_for_each_peer() -> None:
    peer = ListedPeer(ALICE, "Al")

    assert encode_presence(peer, is_online=True) == (
        f'{{"type":"peer_online","publicKey":"{ALICE}","name":"Al"}}'
    )
    assert encode_presence(ListedPeer(ALICE), is_online=False) == (
        f'{{"type":"peer_offline","publicKey":"{ALICE}"}}'
    )


def test_an_error_has_a_message_for_people_a_code_for_programs_and_what_is_known() -> None:
    assert encode_error("duplicate", "no") == '{"type":"error","message":"no","code":"duplicate"}'
    text = encode_error("rate_limited", "no", envelope_id=ID, to=BOB, reason="why", retry_after=1.5)
    assert json.loads(text) == {
        "type": "error",
        "message": "no",
        "code": "rate_limited",
        "reason": "why",
        "id": ID,
        "to": BOB,
        "retryAfterMs": 1500,
    }


@pytest.mark.parametrize(
    ("seconds", "milliseconds"), [(0.0, 1), (1e-9, 1), (0.001, 1), (0.0011, 2), (2.5, 2500)]
)
def test_a_wait_is_told_in_whole_milliseconds_never_too_short(
    seconds: float, milliseconds: int
) -> None:
    text = encode_error("rate_limited", "no", retry_after=seconds)

    assert json.loads(text)["retryAfterMs"] == milliseconds


def test_lone_surrogates_leave_as_escapes() -> None:
    assert encode_register(ALICE, "\ud800").endswith('"name":"\\ud800"}')


# Reading what clients say


def test_every_request_is_read() -> None:
    assert decode_request(encode_register(ALICE, "Al")) == Register(ALICE, "Al")
    assert decode_request(encode_submit(BOB, '{"a":1}')) == Submit(BOB, Sealed({"a": 1}))
    assert decode_request(encode_broadcast("{}")) == Broadcast(Sealed({}))
    assert decode_request(PING) == Ping()


def test_members_nobody_knows_are_ignored() -> None:
    assert decode_request('{"type":"ping","protocol":7}') == Ping()


@pytest.mark.parametrize("name", ["7", "null", "[]", "{}"])
def test_a_name_that_is_no_text_is_none(name: str) -> None:
    frame = f'{{"type":"register","publicKey":"{ALICE}","name":{name}}}'

    assert decode_request(frame) == Register(ALICE, None)


@pytest.mark.parametrize(
    "frame", ["[]", '"ping"', "7", "true", "{}", '{"type":null}', '{"type":["ping"]}']
)
def test_a_frame_of_no_type_we_know_is_unknown(frame: str) -> None:
    assert isinstance(decode_request(frame), UnknownRequest)
    assert isinstance(decode_answer(frame), UnknownAnswer)


@pytest.mark.parametrize("frame", ["null", "", "{", b"\xff{}", '{"type":NaN}'])
def test_what_is_not_json_or_nothing_is_no_frame(frame: str | bytes) -> None:
    for decode in (decode_request, decode_answer):
        with pytest.raises(FrameError, match="Invalid message format"):
            decode(frame)


def test_a_frame_that_is_refused_names_as_much_as_could_be_read() -> None:
    with pytest.raises(FrameError) as caught:
        decode_request(f'{{"type":"message","to":7,"envelope":{{"id":"{ID}"}}}}')
    assert (caught.value.frame_type, caught.value.envelope_id) == ("message", ID)

    with pytest.raises(FrameError) as caught:
        decode_request(f'{{"type":"message","to":"{BOB}"}}')
    assert (caught.value.to, caught.value.envelope_id) == (BOB, None)


# Reading what relays say


def test_every_answer_is_read() -> None:
    peer = ListedPeer(BOB, "Bob")

    assert decode_answer(encode_registered(ALICE, SessionId("s"), [peer], BOB)) == Registered(
        (peer,), "s", BOB
    )
    assert decode_answer(encode_delivery(BOB, "{}", "Bob")) == Delivery(BOB, Sealed({}), "Bob")
    assert decode_answer(encode_presence(peer, is_online=True)) == PeerOnline(peer)
    assert decode_answer(encode_presence(peer, is_online=False)) == PeerOffline(peer)
    assert decode_answer(PONG) == Pong()


def test_an_error_of_ours_is_read_with_all_it_tells() -> None:
    text = encode_error("rate_limited", "no", envelope_id=ID, to=BOB, retry_after=1.5)

    assert decode_answer(text) == ErrorAnswer("no", "rate_limited", ID, BOB, 1.5)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"type":"error","message":"no"}', ErrorAnswer("no")),
        ('{"type":"error","code":"x","message":"no"}', ErrorAnswer("no", "x")),
        ('{"type":"error"}', ErrorAnswer("Unknown error")),
        ('{"type":"error","message":7,"code":7,"id":7,"to":7}', ErrorAnswer("Unknown error")),
        ('{"type":"error","message":"no","retryAfterMs":true}', ErrorAnswer("no")),
        ('{"type":"error","message":"no","retryAfterMs":-5}', ErrorAnswer("no", retry_after=0.0)),
    ],
)
def test_an_error_of_another_relay_is_read_as_far_as_it_goes(text: str, answer: object) -> None:
    assert decode_answer(text) == answer


def test_a_welcome_without_a_list_or_a_session_is_a_welcome() -> None:
    assert decode_answer('{"type":"registered"}') == Registered()


def test_entries_of_a_list_that_are_no_peers_are_left_out() -> None:
    text = f'{{"type":"registered","peers":[7,{{}},{{"publicKey":"x"}},{{"publicKey":"{BOB}"}}]}}'

    assert decode_answer(text) == Registered((ListedPeer(BOB),))


def test_presence_of_no_peer_id_is_not_understood() -> None:
    assert isinstance(decode_answer('{"type":"peer_online","publicKey":"x"}'), UnknownAnswer)


@pytest.mark.parametrize(
    "frame", ['{"type":"message","envelope":{}}', f'{{"type":"message","from":"{BOB}"}}']
)
def test_a_delivery_without_sender_or_envelope_is_refused(frame: str) -> None:
    with pytest.raises(FrameError, match='a message without "from" or "envelope"'):
        decode_answer(frame)
