"""What travels on the WebSocket, byte for byte; any bytes at all: tests/properties."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import agora.frames
from agora.codes import ReceiptStatus
from agora.envelope import Sealed, open_envelope
from agora.errors import FrameError
from agora.frames import (
    MAX_IDS,
    MAX_NACK_DELAY_MS,
    PING,
    PONG,
    WATCH_ALL,
    WATCH_NONE,
    Ack,
    AnnouncedLimits,
    Authenticate,
    Broadcast,
    Challenge,
    Delivery,
    ErrorAnswer,
    ListedPeer,
    Nack,
    PeerOffline,
    PeerOnline,
    Ping,
    Pong,
    PresenceAnswer,
    ReceiptAnswer,
    Register,
    Registered,
    Submit,
    UnknownAnswer,
    UnknownRequest,
    Watch,
    Watched,
    agora_members,
    answers,
    decode_answer,
    decode_request,
    encode_ack,
    encode_authenticate,
    encode_broadcast,
    encode_challenge,
    encode_delivery,
    encode_error,
    encode_nack,
    encode_presence,
    encode_presence_changes,
    encode_receipt,
    encode_register,
    encode_registered,
    encode_submit,
    encode_watch,
    is_nonce,
    requests,
)
from agora.protocol.proof import is_genuine_challenge, proven_audience
from agora.protocol.relay.actions import SessionId
from agora.testing.conversation import keys_of

ALICE, BOB, RELAY = (keys_of(name).peer_id for name in ("alice", "bob", "relay"))
ID, OTHER_ID = "0123456789abcdef" * 4, "fedcba9876543210" * 4
NONCE, SIGNATURE = "5a" * 32, "0f" * 64


def test_the_package_exports_all_that_its_modules_do() -> None:
    shared = {"PROTOCOL", "decode_request", "is_nonce"}
    exported = {*requests.__all__, *answers.__all__, *shared} - {"decode_in_full"}

    assert set(agora.frames.__all__) == exported


def refused(text: str, *, protocol: int = 1) -> FrameError:
    """Return the error of a request that must not be read."""
    with pytest.raises(FrameError) as caught:
        decode_request(text, protocol=protocol)
    return caught.value


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


# Writing, in Agora/1


def test_a_registration_with_proof_says_what_it_wants() -> None:
    assert encode_register(ALICE, None, nonce=NONCE) == (
        f'{{"type":"register","publicKey":"{ALICE}","protocol":1,"nonce":"{NONCE}",'
        f'"presence":"all"}}'
    )
    text = encode_register(ALICE, "Al", nonce=NONCE, watched=WATCH_NONE, receives=False)
    assert text == (
        f'{{"type":"register","publicKey":"{ALICE}","name":"Al","protocol":1,"nonce":"{NONCE}",'
        f'"presence":"none","receive":false}}'
    )


def test_proof_is_asked_for_and_given() -> None:
    assert encode_challenge(NONCE, RELAY, SIGNATURE) == (
        f'{{"type":"challenge","nonce":"{NONCE}","relay":"{RELAY}","signature":"{SIGNATURE}"}}'
    )
    assert encode_authenticate(SIGNATURE, "localhost:9470") == (
        f'{{"type":"authenticate","signature":"{SIGNATURE}","audience":"localhost:9470"}}'
    )


def test_a_message_says_what_it_wants_before_the_envelope() -> None:
    assert encode_submit(BOB, "{}", confirm=True, after=ID) == (
        f'{{"type":"message","to":"{BOB}","confirm":true,"after":"{ID}","envelope":{{}}}}'
    )
    assert encode_delivery(ALICE, "{}", "Al", is_stored=True, confirm=True) == (
        f'{{"type":"message","from":"{ALICE}","name":"Al","stored":true,"confirm":true,'
        f'"envelope":{{}}}}'
    )


def test_acks_and_nacks_name_ids() -> None:
    assert encode_ack([ID, OTHER_ID]) == f'{{"type":"ack","ids":["{ID}","{OTHER_ID}"]}}'
    assert encode_nack([ID], 1.001) == f'{{"type":"nack","ids":["{ID}"],"delayMs":1001}}'


def test_the_watched_are_named_in_one_order() -> None:
    both = sorted([ALICE, BOB])

    assert encode_watch(WATCH_ALL) == '{"type":"watch","presence":"all"}'
    assert encode_watch(Watched()) == '{"type":"watch","presence":"none"}'
    assert encode_watch(Watched(peers=frozenset(both))) == (
        f'{{"type":"watch","presence":["{both[0]}","{both[1]}"]}}'
    )


def test_a_receipt_counts_where_it_is_for_a_broadcast() -> None:
    assert encode_receipt(ID, BOB, ReceiptStatus.STORED) == (
        f'{{"type":"receipt","id":"{ID}","to":"{BOB}","status":"stored"}}'
    )
    assert encode_receipt(ID, "*", ReceiptStatus.SENT, 0) == (
        f'{{"type":"receipt","id":"{ID}","to":"*","status":"sent","count":0}}'
    )


def test_changes_of_presence_are_two_lists() -> None:
    assert encode_presence_changes([ListedPeer(ALICE, "Al")], [BOB]) == (
        f'{{"type":"presence","online":[{{"publicKey":"{ALICE}","name":"Al"}}],'
        f'"offline":["{BOB}"]}}'
    )


def test_a_welcome_of_agora_says_who_is_online_and_what_is_admitted() -> None:
    limits = AnnouncedLimits(max_frame_bytes=262144, window=256, retention_seconds=0)
    more = agora_members(now_ms=1_700_000_000_000, pending=2, peers_total=3, limits=limits)
    peers = [ListedPeer(BOB, "Bob"), ListedPeer(RELAY, is_online=False)]

    assert encode_registered(ALICE, SessionId("s"), peers, RELAY, more) == (
        f'{{"type":"registered","publicKey":"{ALICE}","sessionId":"s",'
        f'"peers":[{{"publicKey":"{BOB}","name":"Bob","online":true}},'
        f'{{"publicKey":"{RELAY}","online":false}}],"relay":"{RELAY}","protocol":1,'
        f'"peersTotal":3,"now":1700000000000,"pending":2,'
        f'"limits":{{"maxFrameBytes":262144,"window":256,"retentionSeconds":0}}}}'
    )


def test_an_error_about_time_or_room_says_more() -> None:
    assert encode_error("stale", "no", now_ms=7).endswith('"code":"stale","now":7}')
    assert encode_error("mailbox_full", "no", scope="store").endswith(',"scope":"store"}')


# Reading what clients say


def test_every_request_is_read() -> None:
    assert decode_request(encode_register(ALICE, "Al")) == Register(ALICE, "Al")
    assert decode_request(encode_submit(BOB, '{"a":1}')) == Submit((BOB,), Sealed({"a": 1}))
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
    error = refused(f'{{"type":"message","to":7,"envelope":{{"id":"{ID}"}}}}')
    assert (error.frame_type, error.envelope_id, error.to) == ("message", ID, None)

    error = refused(f'{{"type":"message","to":"{BOB}"}}')
    assert (error.to, error.envelope_id) == (BOB, None)


# Reading what clients say, in Agora/1


def registration(**members: object) -> str:
    given = {"protocol": 1, "nonce": NONCE} | members
    return json.dumps({"type": "register", "publicKey": ALICE} | given)


@pytest.mark.parametrize("protocol", [1, 1.0, 2])
def test_a_client_of_this_version_or_a_later_one_proves_itself(protocol: object) -> None:
    assert decode_request(registration(protocol=protocol)) == Register(ALICE, nonce=NONCE)


@pytest.mark.parametrize("protocol", [0, 0.5, -1, True, "1", None, [1], {}])
def test_any_other_version_is_the_reference_dialect_which_proves_nothing(protocol: object) -> None:
    text = registration(protocol=protocol, presence=7, receive=7)

    assert decode_request(text) == Register(ALICE)


@pytest.mark.parametrize("nonce", [None, 7, "", "5a" * 31, "5a" * 33, "5A" * 32, "zz" * 32])
def test_a_registration_without_a_nonce_is_refused(nonce: object) -> None:
    error = refused(registration(nonce=nonce))

    assert (str(error), error.frame_type) == (
        "Invalid registration: missing or invalid nonce",
        "register",
    )


def test_a_nonce_is_32_bytes_in_lower_case_hex() -> None:
    assert is_nonce(NONCE)
    assert not is_nonce(NONCE + "\n")


@pytest.mark.parametrize(
    ("presence", "watched"),
    [
        ("all", WATCH_ALL),
        ("none", WATCH_NONE),
        ([], WATCH_NONE),
        ([BOB, BOB], Watched(peers=frozenset({BOB}))),
    ],
)
def test_everyone_nobody_or_some_are_watched(presence: object, watched: Watched) -> None:
    text = json.dumps({"type": "watch", "presence": presence})

    assert decode_request(registration(presence=presence)) == Register(
        ALICE, nonce=NONCE, watched=watched
    )
    assert decode_request(text) == Watch(watched)


@pytest.mark.parametrize("presence", [None, 7, "some", {}, [BOB, "x"], [None], BOB])
def test_who_is_watched_is_told_by_peer_ids(presence: object) -> None:
    text = json.dumps({"type": "watch", "presence": presence})
    why = ': "presence" is neither "all" nor "none" nor peer ids'

    assert str(refused(registration(presence=presence))) == f"Invalid register{why}"
    assert str(refused(text)) == f"Invalid watch{why}"


def test_a_registration_watches_everyone_unless_it_says_otherwise() -> None:
    assert isinstance(request := decode_request(registration()), Register)
    assert ALICE in request.watched
    assert refused('{"type":"watch"}').frame_type == "watch"


def test_a_session_may_only_send() -> None:
    assert decode_request(registration(receive=False)) == Register(
        ALICE, nonce=NONCE, receives=False
    )
    assert str(refused(registration(receive="no"))) == "Invalid registration: invalid receive"


def test_a_proof_may_leave_out_what_was_dialled() -> None:
    proof = {"type": "authenticate", "signature": SIGNATURE}

    assert decode_request(json.dumps(proof)) == Authenticate(SIGNATURE)
    assert decode_request(json.dumps(proof | {"audience": 7})) == Authenticate(SIGNATURE)
    assert str(refused('{"type":"authenticate"}')) == (
        'Invalid authenticate: missing or invalid "signature" field'
    )


def message(**members: object) -> str:
    return json.dumps({"type": "message", "to": BOB, "envelope": {"id": ID}} | members)


def test_a_message_may_have_several_recipients_each_once() -> None:
    envelope = Sealed({"id": ID})

    assert decode_request(message(to=[BOB, ALICE, BOB])) == Submit((BOB, ALICE), envelope)
    assert decode_request(message(to=[BOB])) == Submit((BOB,), envelope)


@pytest.mark.parametrize("to", [[], [""], [BOB, 7], [[BOB]], [None], {}, "", None])
def test_a_list_without_recipients_is_refused(to: object) -> None:
    error = refused(message(to=to))

    assert str(error) == 'Invalid message: missing or invalid "to" field'
    assert (error.envelope_id, error.to) == (ID, None)


@pytest.mark.parametrize("member", ["confirm", "after"])
@pytest.mark.parametrize("value", [None, 7, [], {}])
def test_what_a_message_asks_for_is_never_guessed(member: str, value: object) -> None:
    error = refused(message(**{member: value}))

    assert str(error) == f'Invalid message: missing or invalid "{member}" field'
    assert (error.envelope_id, error.to) == (ID, BOB)


def test_the_reference_dialect_has_one_recipient_and_asks_for_nothing() -> None:
    plain = Submit((BOB,), Sealed({"id": ID}))

    assert decode_request(message(confirm=True, after=7), protocol=0) == plain
    assert str(refused(message(to=[BOB], envelope=None), protocol=0)) == (
        'Invalid message: missing or invalid "to" field'
    )


@pytest.mark.parametrize("kind", ["authenticate", "ack", "nack", "watch"])
def test_the_reference_dialect_has_no_such_frame(kind: str) -> None:
    assert decode_request(f'{{"type":"{kind}"}}', protocol=0) == UnknownRequest(kind)


def test_an_ack_names_each_id_once() -> None:
    assert decode_request(json.dumps({"type": "ack", "ids": [ID, OTHER_ID, ID]})) == Ack(
        (ID, OTHER_ID)
    )


def named(count: int) -> list[str]:
    return [f"{number:064x}" for number in range(count)]


@pytest.mark.parametrize("kind", ["ack", "nack"])
@pytest.mark.parametrize("ids", [None, ID, [], [7], [""], [ID, None], named(MAX_IDS + 1)])
def test_ids_are_texts_at_least_one_and_not_too_many(kind: str, ids: object) -> None:
    assert str(refused(json.dumps({"type": kind, "ids": ids}))) == (
        f'Invalid {kind}: missing or invalid "ids" field'
    )


def test_as_many_ids_as_may_be_are_read() -> None:
    assert decode_request(encode_ack(named(MAX_IDS))) == Ack(tuple(named(MAX_IDS)))


@pytest.mark.parametrize(("delay_ms", "delay"), [(0, 0.0), (1500, 1.5), (MAX_NACK_DELAY_MS, 3600)])
def test_a_nack_waits_for_up_to_an_hour(delay_ms: int, delay: float) -> None:
    text = json.dumps({"type": "nack", "ids": [ID], "delayMs": delay_ms})

    assert decode_request(text) == Nack((ID,), delay)


def test_a_nack_that_says_nothing_does_not_wait() -> None:
    assert decode_request(json.dumps({"type": "nack", "ids": [ID]})) == Nack((ID,), 0.0)


@pytest.mark.parametrize("delay_ms", [-1, MAX_NACK_DELAY_MS + 1, True, "5", None, []])
def test_a_nack_cannot_wait_for_anything_else(delay_ms: object) -> None:
    assert str(refused(json.dumps({"type": "nack", "ids": [ID], "delayMs": delay_ms}))) == (
        'Invalid nack: missing or invalid "delayMs" field'
    )


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


# Reading what relays say, in Agora/1


@pytest.mark.parametrize(
    "wrong", [{"nonce": "5A" * 32}, {"nonce": None}, {"relay": "x"}, {"signature": 7}]
)
def test_a_challenge_that_lacks_something_is_refused(wrong: dict[str, object]) -> None:
    whole = {"type": "challenge", "nonce": NONCE, "relay": RELAY, "signature": SIGNATURE}

    assert decode_answer(json.dumps(whole)) == Challenge(NONCE, RELAY, SIGNATURE)
    with pytest.raises(FrameError, match="a challenge without nonce, relay or signature"):
        decode_answer(json.dumps(whole | wrong))


def welcome(**members: object) -> object:
    peers = [{"publicKey": BOB, "online": False}]
    return decode_answer(json.dumps({"type": "registered", "peers": peers} | members))


def test_the_clock_the_mail_and_the_limits_count_in_agora_alone() -> None:
    told = {"now": 7, "pending": 2, "peersTotal": 5, "limits": {"window": 9, "maxRecipients": "x"}}
    peers = (ListedPeer(BOB, is_online=False),)

    assert welcome(**told) == Registered(peers)
    assert welcome(**told, protocol=1) == Registered(
        peers,
        protocol=1,
        now_ms=7,
        pending=2,
        peers_total=5,
        limits=AnnouncedLimits(window=9),
    )


@pytest.mark.parametrize("protocol", [0, 2, True, "1", None, []])
def test_a_relay_that_does_not_say_agora_1_speaks_the_reference_dialect(protocol: object) -> None:
    assert welcome(protocol=protocol, peersTotal=5) == Registered(
        (ListedPeer(BOB, is_online=False),)
    )


@pytest.mark.parametrize("total", [None, 0, -5, "5", True, 1])
def test_there_are_never_fewer_peers_than_are_listed(total: object) -> None:
    answer = welcome(protocol=1, peersTotal=total, pending=-1)

    assert isinstance(answer, Registered)
    assert (answer.peers_total, answer.pending) == (1, 0)


def test_a_receipt_is_read_with_its_count() -> None:
    assert decode_answer(encode_receipt(ID, BOB, ReceiptStatus.DELIVERED)) == ReceiptAnswer(
        ID, BOB, ReceiptStatus.DELIVERED
    )
    assert decode_answer(encode_receipt(ID, "*", ReceiptStatus.SENT, 3)) == ReceiptAnswer(
        ID, "*", ReceiptStatus.SENT, 3
    )


@pytest.mark.parametrize("status", ["lost", "DELIVERED", None, 7, ["stored"], {}])
def test_a_receipt_of_a_status_we_do_not_know_is_not_understood(status: object) -> None:
    text = json.dumps({"type": "receipt", "id": ID, "to": BOB, "status": status})

    assert isinstance(decode_answer(text), UnknownAnswer)


@pytest.mark.parametrize("wrong", [{"id": None}, {"to": None}, {"id": 7}, {"to": [BOB]}])
def test_a_receipt_for_nothing_or_nobody_is_refused(wrong: dict[str, object]) -> None:
    whole = {"type": "receipt", "id": ID, "to": BOB, "status": "stored"}

    with pytest.raises(FrameError, match="a receipt without id or to"):
        decode_answer(json.dumps(whole | wrong))


def test_changes_of_presence_are_read_as_far_as_they_are_peers() -> None:
    text = json.dumps(
        {
            "type": "presence",
            "online": [{"publicKey": ALICE, "name": "Al"}, {"publicKey": "x"}, 7],
            "offline": [BOB, "x", None],
        }
    )

    assert decode_answer(text) == PresenceAnswer((ListedPeer(ALICE, "Al"),), (BOB,))
    assert decode_answer('{"type":"presence","offline":7}') == PresenceAnswer()


def test_a_delivery_is_stored_or_to_be_confirmed_only_if_it_says_so() -> None:
    bare = {"type": "message", "from": BOB, "envelope": {}}

    assert decode_answer(json.dumps(bare | {"stored": True, "confirm": True})) == Delivery(
        BOB, Sealed({}), is_stored=True, confirm=True
    )
    assert decode_answer(json.dumps(bare | {"stored": 1, "confirm": "true"})) == Delivery(
        BOB, Sealed({})
    )


def test_an_error_tells_the_clock_of_the_relay() -> None:
    assert decode_answer(encode_error("stale", "no", now_ms=7)) == ErrorAnswer(
        "no", "stale", now_ms=7
    )
    assert decode_answer('{"type":"error","message":"no","now":"7"}') == ErrorAnswer("no")


# The page


PAGE = (Path(__file__).parents[1] / "docs" / "reference" / "protocol.md").read_text("utf-8")


def shown(side: str) -> list[str]:
    """Return the frames that the page shows of a ``client`` or a ``relay``."""
    return re.findall(rf"^```json {side}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_every_frame_that_the_page_shows_can_be_read() -> None:
    requests_shown = [decode_request(text) for text in shown("client")]
    answers_shown = [decode_answer(text) for text in shown("relay")]

    assert {type(request) for request in requests_shown} == {
        Register, Authenticate, Submit, Ack, Nack, Watch
    }  # fmt: skip
    assert {type(answer) for answer in answers_shown} == {
        Challenge, Registered, Delivery, ReceiptAnswer, PresenceAnswer, ErrorAnswer
    }  # fmt: skip


def test_the_registration_that_the_page_shows_proves_both_keys() -> None:
    register, authenticate, *_ = map(decode_request, shown("client"))
    challenge, *_ = map(decode_answer, shown("relay"))
    assert isinstance(register, Register)
    assert isinstance(authenticate, Authenticate)
    assert isinstance(challenge, Challenge)

    assert is_genuine_challenge(
        challenge.relay,
        challenge.signature,
        client_nonce=f"{register.nonce}",
        nonce=challenge.nonce,
        public_key=register.public_key,
    )
    assert authenticate.audience == proven_audience(
        register.public_key,
        authenticate.signature,
        audiences=[f"{authenticate.audience}"],
        nonce=challenge.nonce,
        relay=challenge.relay,
    )


def test_the_envelopes_that_the_page_shows_are_genuine() -> None:
    read = [*map(decode_request, shown("client")), *map(decode_answer, shown("relay"))]
    carrying = [frame for frame in read if isinstance(frame, Submit | Delivery)]

    assert len({open_envelope(frame.envelope).id for frame in carrying}) == 1


@pytest.mark.parametrize(
    ("ways", "decode", "unknown"),
    [
        ("client to relay", decode_request, UnknownRequest),
        ("relay to client", decode_answer, UnknownAnswer),
    ],
)
def test_every_frame_that_the_page_lists_is_known(
    ways: str,
    decode: Callable[[str], object],
    unknown: type[UnknownRequest] | type[UnknownAnswer],
) -> None:
    tables = re.findall(rf"^(?:## |\| ){ways}.*?^\|---.*?\n\n", PAGE, re.DOTALL | re.I | re.M)
    cells = [line.split("|")[1] for table in tables for line in table.splitlines() if "|" in line]
    listed = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}

    def is_known(name: str) -> bool:
        try:
            return decode(json.dumps({"type": name, "publicKey": ALICE})) != unknown(name)
        except FrameError:
            return True  # it lacks its members

    assert (len(tables), len(listed) > 6) == (2, True)
    assert [name for name in listed if not is_known(name)] == []
