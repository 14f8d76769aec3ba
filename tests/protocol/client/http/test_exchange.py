"""Frames as requests, answers as frames: which request goes when, and what its answer means."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agora.codes import ABNORMAL_CLOSE, CloseCode
from agora.frames import (
    PING,
    Watched,
    encode_ack,
    encode_authenticate,
    encode_broadcast,
    encode_nack,
    encode_register,
    encode_submit,
    encode_watch,
)
from agora.keys import PeerId
from agora.protocol.client.http import Answer, Call, Exchange
from agora.testing.conversation import keys_of

ALICE, BOB, CAROL = (keys_of(name).peer_id for name in ("alice", "bob", "carol"))
NONCE = "a" * 64
SIGNATURE = "b" * 128

Frame = dict[str, Any]


def full(short: str) -> str:
    """Return the id of 64 digits that *short* stands for."""
    return short.rjust(64, "0")


def answer(status: int = 200, retry_after: float | None = None, **members: Any) -> Answer:
    return Answer(status, json.dumps(members), retry_after)


def refusal(code: str, status: int, **members: Any) -> Answer:
    if "id" in members:
        members["id"] = full(members["id"])
    return answer(status, error={"code": code, "message": f"no: {code}", **members})


def receipt(envelope_id: str, status: str = "delivered", to: str = BOB) -> Answer:
    told = {"type": "receipt", "id": full(envelope_id), "to": to, "status": status}
    return answer(receipts=[told], errors=[], pending=[])


PENDING = answer(202, receipts=[], errors=[], pending=[BOB])


def message(envelope_id: str, *, after: str | None = None, to: str = BOB) -> str:
    envelope = f'{{"id":"{full(envelope_id)}","payload":"grüße"}}'
    return encode_submit(to, envelope, after=None if after is None else full(after))


class Talk:
    """An exchange, and what the network would do."""

    def __init__(self) -> None:
        self.exchange = Exchange()

    def say(self, *texts: str, now: float = 0.0) -> list[Call]:
        """Have the core write frames; return the calls that are made at once."""
        for text in texts:
            self.exchange.say(text, now=now)
        return list(self.exchange.next_calls())

    def hear(self, call: Call, came: Answer, now: float = 0.0) -> list[Call]:
        """Have a call answered; return the calls that are made then."""
        self.exchange.hear(call, came, now=now)
        return list(self.exchange.next_calls())

    def told(self) -> list[Frame]:
        """Return what the core is told."""
        frames = [json.loads(text) for text in self.exchange.frames]
        self.exchange.frames.clear()
        return [shortened(frame) for frame in frames]

    def event(self, kind: str, now: float = 0.0, **members: Any) -> None:
        if "id" in members:
            members["id"] = full(members["id"])
        self.exchange.hear_event(kind, json.dumps(members), now=now)


def shortened(frame: Frame) -> Frame:
    return frame | {"id": frame["id"].lstrip("0")} if "id" in frame else frame


def begin(*, watched: Watched | None = None, **told: Any) -> Talk:
    """Return the exchange of somebody who has registered, and of whom the core knows it."""
    talk = Talk()
    options: Frame = {} if watched is None else {"watched": watched}
    register = encode_register(ALICE, "alice", nonce=NONCE, **options)
    (challenge,) = talk.say(register)
    talk.hear(challenge, answer(nonce=NONCE, relay=CAROL, signature=SIGNATURE, expiresAt=1))
    (proof,) = talk.say(encode_authenticate(SIGNATURE, "relay:9471"))
    talk.hear(proof, answer(token="T", expiresAt=1, **{"peers": [], **told}))
    talk.exchange.greet()
    if not told:
        talk.told()
    return talk


@pytest.fixture
def quick() -> Talk:
    """Somebody of whom none was too fast for long, so that several go at a time."""
    talk = begin()
    for number in range(100, 160):
        (call,) = talk.say(message(str(number), to=CAROL))
        talk.hear(call, receipt(str(number), to=CAROL))
    talk.told()
    return talk


@pytest.fixture
def talk() -> Talk:
    """Somebody who has registered."""
    return begin()


def body(call: Call) -> Frame:
    assert call.body is not None
    found: Frame = json.loads(call.body)
    return found


# Registration


def test_a_registration_is_a_challenge_and_a_proof() -> None:
    talk = Talk()
    (challenge,) = talk.say(encode_register(ALICE, "alice", nonce=NONCE))
    assert (challenge.method, challenge.path) == ("POST", "v1/challenge")
    assert body(challenge) == {"publicKey": ALICE, "nonce": NONCE}

    talk.hear(challenge, answer(nonce="c" * 64, relay=CAROL, signature=SIGNATURE, expiresAt=1))
    (told,) = talk.told()
    assert told | {"expiresAt": 1} == {
        "type": "challenge",
        "nonce": "c" * 64,
        "relay": CAROL,
        "signature": SIGNATURE,
        "expiresAt": 1,
    }

    (proof,) = talk.say(encode_authenticate(SIGNATURE, "relay:9471"))
    assert (proof.path, body(proof)) == (
        "v1/register",
        {
            "publicKey": ALICE,
            "nonce": "c" * 64,
            "signature": SIGNATURE,
            "audience": "relay:9471",
            "name": "alice",
        },
    )


def test_the_core_is_registered_when_events_reach_it_and_never_sees_the_token() -> None:
    talk = begin(relay=CAROL, pending=3, limits={"window": 256}, sessionId="s")

    registered = talk.told()[-1]

    assert registered["type"] == "registered"
    assert (registered["protocol"], registered["publicKey"]) == (1, ALICE)
    assert (registered["pending"], registered["limits"]) == (3, {"window": 256})
    assert "token" not in registered


def test_a_proof_that_is_refused_is_told_and_final() -> None:
    talk = Talk()
    (challenge,) = talk.say(encode_register(ALICE, None, nonce=NONCE))

    talk.hear(challenge, refusal("proof_failed", 401))

    assert [frame["code"] for frame in talk.told()] == ["proof_failed"]
    assert talk.exchange.loss is not None
    assert talk.exchange.loss.code == CloseCode.PROOF_FAILED


def test_who_is_turned_away_for_now_is_told_when_to_come_back() -> None:
    talk = Talk()
    (challenge,) = talk.say(encode_register(ALICE, None, nonce=NONCE))

    talk.hear(challenge, answer(503, 7.0, error={"code": "at_capacity", "message": "full"}))

    assert talk.exchange.loss is not None
    assert talk.exchange.loss.code == CloseCode.TRY_AGAIN_LATER
    assert talk.exchange.loss.retry_after == 7.0


# Sending


def test_a_message_is_sent_as_it_was_signed_and_answered_when_the_relay_has_it(talk: Talk) -> None:
    (call,) = talk.say(message("1", after="0"))

    assert (call.method, call.path, call.needs_token) == ("POST", "v1/send", True)
    assert call.body is not None
    assert f'"envelope":{{"id":"{full("1")}","payload":"grüße"}}' in call.body
    assert body(call) == {
        "wait": 0,
        "to": BOB,
        "after": full("0"),
        "envelope": {"id": full("1"), "payload": "grüße"},
    }


def test_a_broadcast_is_a_message_to_everyone(talk: Talk) -> None:
    (call,) = talk.say(encode_broadcast('{"id":"1"}'))

    assert body(call) == {"to": "*", "envelope": {"id": "1"}}


def test_a_receipt_in_the_answer_is_told(talk: Talk) -> None:
    (call,) = talk.say(message("1"))

    talk.hear(call, receipt("1", "stored"))

    assert talk.told() == [{"type": "receipt", "id": "1", "to": BOB, "status": "stored"}]


def test_a_receipt_that_is_not_known_yet_comes_as_an_event(talk: Talk) -> None:
    (call,) = talk.say(message("1"))
    talk.hear(call, PENDING)
    assert talk.told() == []

    talk.event("receipt", id="1", to=BOB, status="delivered")

    assert [frame["status"] for frame in talk.told()] == ["delivered"]
    talk.exchange.note_interrupted()
    assert list(talk.exchange.next_calls()) == []


def test_a_receipt_that_overtakes_its_answer_counts(talk: Talk) -> None:
    (call,) = talk.say(message("1"))
    talk.event("receipt", id="1", to=BOB, status="delivered")
    talk.hear(call, PENDING)

    talk.exchange.note_interrupted()

    assert list(talk.exchange.next_calls()) == []


def test_a_message_is_asked_after_where_events_were_interrupted(talk: Talk) -> None:
    (call,) = talk.say(message("1"))
    talk.hear(call, PENDING)

    talk.exchange.note_interrupted()

    assert list(talk.exchange.next_calls()) == [call]


def test_a_message_is_asked_after_where_the_relay_says_that_events_are_missing(
    talk: Talk,
) -> None:
    (call,) = talk.say(message("1"))
    talk.hear(call, PENDING)

    talk.exchange.hear_event("missed", '{"reason":"overflow"}', now=0.0)

    assert list(talk.exchange.next_calls()) == [call]


def test_a_message_of_which_no_word_comes_is_asked_after(talk: Talk) -> None:
    (call,) = talk.say(message("1"))
    talk.hear(call, PENDING, now=100.0)
    assert call not in talk.say(PING, now=114.0)

    assert call in talk.say(PING, now=116.0)


def test_some_sends_are_under_way_at_a_time_and_the_rest_waits(quick: Talk) -> None:
    calls = quick.say(*(message(str(number), to=CAROL) for number in range(20)))
    assert len(calls) == 8

    (next_call,) = quick.hear(calls[3], receipt("3", to=CAROL))

    assert next_call.name == (full("8"), CAROL)


def test_nobody_keeps_others_from_being_sent_to(talk: Talk) -> None:
    calls = talk.say(message("1"), message("2", after="1"), message("3", to=CAROL))

    assert [call.name for call in calls] == [(full("1"), BOB), (full("3"), CAROL)]


# Order


def too_fast(envelope_id: str) -> Answer:
    return refusal("out_of_order", 409, id=envelope_id, to=BOB)


def test_a_message_that_was_too_fast_goes_again_behind_the_one_before_it(quick: Talk) -> None:
    first, second = quick.say(message("1"), message("2", after="1"))
    quick.hear(first, receipt("1"))
    assert quick.hear(second, too_fast("2")) == [second]
    quick.hear(second, receipt("2"))

    assert [frame["id"] for frame in quick.told()] == ["1", "2"]


def test_messages_that_were_too_fast_go_fewer_at_a_time(quick: Talk) -> None:
    calls = quick.say(message("1"), *(message(str(n), after=str(n - 1)) for n in range(2, 9)))
    assert len(calls) == 8
    for call in calls[1:]:
        assert quick.hear(call, too_fast("2")) in ([], [calls[1]])

    assert quick.hear(calls[0], receipt("1")) == [calls[1]]
    assert quick.hear(calls[1], receipt("2")) == [calls[2]]


def test_a_message_behind_one_that_is_refused_is_told_to_be_out_of_order(quick: Talk) -> None:
    first, second = quick.say(message("1"), message("2", after="1"))
    quick.hear(first, refusal("mailbox_full", 503, id="1", to=BOB))

    quick.hear(second, too_fast("2"))

    assert [(frame["id"], frame["code"]) for frame in quick.told()] == [
        ("1", "mailbox_full"),
        ("2", "out_of_order"),
    ]


def test_a_relay_that_has_forgotten_the_one_before_is_believed_in_the_end(quick: Talk) -> None:
    first, second = quick.say(message("1"), message("2", after="1"))
    quick.hear(first, receipt("1"))
    quick.told()
    while quick.hear(second, too_fast("2")):
        pass

    assert [frame["code"] for frame in quick.told()] == ["out_of_order"]


# Pings


def test_a_ping_is_answered_behind_all_that_was_sent_before_it(talk: Talk) -> None:
    first, second = talk.say(message("1"), message("2", to=CAROL), PING)
    talk.hear(second, PENDING)
    assert talk.told() == []

    talk.hear(first, PENDING)

    assert talk.told() == [{"type": "pong"}]


def test_a_ping_behind_nothing_asks_the_relay(talk: Talk) -> None:
    (call,) = talk.say(PING)
    assert (call.method, call.path) == ("GET", "v1/peers?limit=1")
    assert talk.told() == []

    talk.hear(call, answer(peers=[]))

    assert talk.told() == [{"type": "pong"}]


def test_a_message_that_was_too_fast_holds_back_the_pong(quick: Talk) -> None:
    first, second = quick.say(message("1"), message("2", after="1"), PING)
    quick.hear(second, too_fast("2"))
    quick.hear(first, PENDING)
    assert quick.told() == []

    quick.hear(second, PENDING)

    assert quick.told() == [{"type": "pong"}]


# Acks


def test_acks_that_wait_for_the_one_before_them_go_as_one(talk: Talk) -> None:
    (first,) = talk.say(encode_ack(["1"]))
    assert (first.path, body(first)) == ("v1/ack", {"ids": ["1"]})
    assert talk.say(encode_ack(["2"]), encode_ack(["3", "4"]), encode_nack(["5"], 1.5)) == []

    (second,) = talk.hear(first, answer(success=True))
    (third,) = talk.hear(second, answer(success=True))

    assert body(second) == {"ids": ["2", "3", "4"]}
    assert (third.path, body(third)) == ("v1/nack", {"ids": ["5"], "delayMs": 1500})


def test_acks_that_are_too_many_are_told_to_be(talk: Talk) -> None:
    (call,) = talk.say(encode_ack(["1"]))

    talk.hear(call, refusal("rate_limited", 429, retryAfterMs=300))

    (told,) = talk.told()
    assert (told["type"], told["code"], told["retryAfterMs"]) == ("error", "rate_limited", 300)
    assert "id" not in told


def test_all_is_said_when_the_last_ack_is_answered(talk: Talk) -> None:
    (call,) = talk.say(encode_ack(["1"]))
    assert not talk.exchange.is_settled

    talk.hear(call, answer(success=True))

    assert talk.exchange.is_settled


# What is not answered as it should be


@pytest.mark.parametrize(
    ("came", "code"),
    [
        (refusal("rate_limited", 429, retryAfterMs=250), "rate_limited"),
        (refusal("unknown_recipient", 404, id="1", to=BOB), "unknown_recipient"),
        (Answer(413, "<html>too large</html>"), "too_large"),
        (Answer(429, "slow down", 2.0), "rate_limited"),
        (refusal("unavailable", 503, id="1", to=BOB), "unavailable"),
    ],
)
def test_an_error_about_a_message_names_it(talk: Talk, came: Answer, code: str) -> None:
    (call,) = talk.say(message("1"))

    talk.hear(call, came)

    (told,) = talk.told()
    assert (told["type"], told["code"], told["id"], told["to"]) == ("error", code, "1", BOB)
    assert talk.exchange.loss is None


def test_how_long_to_wait_is_told_also_where_only_the_header_says_it(talk: Talk) -> None:
    (call,) = talk.say(message("1"))

    talk.hear(call, Answer(429, "slow down", 2.0))

    assert talk.told()[0]["retryAfterMs"] == 2000


@pytest.mark.parametrize(
    "came",
    [
        Answer(502, "bad gateway"),
        Answer(503, "", 3.0),
        Answer(404, "<html>"),
        refusal("unavailable", 503, retryAfterMs=1000),
        refusal("internal_error", 500),
        refusal("request_timeout", 408),
    ],
)
def test_an_answer_that_says_nothing_of_the_message_ends_the_conversation(
    talk: Talk, came: Answer
) -> None:
    (call,) = talk.say(message("1"))

    assert talk.hear(call, came) == []

    assert talk.told() == []
    assert talk.exchange.loss is not None
    assert talk.exchange.loss.code == CloseCode.TRY_AGAIN_LATER


def test_a_call_without_an_answer_is_made_once_more(talk: Talk) -> None:
    (call,) = talk.say(message("1"))
    talk.exchange.fail(call, "reset")
    assert list(talk.exchange.next_calls()) == [call]
    assert talk.exchange.loss is None

    talk.exchange.fail(call, "reset")

    assert talk.exchange.loss is not None
    assert talk.exchange.loss.code == ABNORMAL_CLOSE


def test_a_token_that_is_not_taken_is_renewed_and_nothing_is_lost(talk: Talk) -> None:
    first, second = talk.say(message("1"), encode_ack(["2"]))[::-1]
    assert talk.hear(first, refusal("not_registered", 401, reason="expired_token")) == []
    assert talk.exchange.needs_proof
    assert talk.hear(second, refusal("not_registered", 401, reason="expired_token")) == []

    talk.exchange.renew("T2")

    assert set(talk.exchange.next_calls()) == {first, second}
    assert talk.exchange.token == "T2"
    assert talk.told() == []


def test_what_no_relay_says_is_no_end_of_the_world(talk: Talk) -> None:
    (call,) = talk.say(message("1"))
    talk.hear(call, Answer(200, "null"))
    talk.exchange.hear_event("message", "nonsense", now=0.0)
    talk.exchange.hear_event("receipt", "[]", now=0.0)
    talk.exchange.hear_event("presence", "{", now=0.0)
    talk.exchange.hear_event("news", "{}", now=0.0)

    assert talk.exchange.loss is None


# Events


def test_a_message_comes_as_the_frame_that_it_is(talk: Talk) -> None:
    data = json.dumps({"from": BOB, "envelope": {"id": "1", "payload": "\ud800"}})
    talk.exchange.hear_event("message", data, now=0.0)
    whole = json.dumps({"type": "message", "from": BOB, "envelope": {}})
    talk.exchange.hear_event("message", whole, now=0.0)

    assert talk.told() == [{"type": "message"} | json.loads(data), json.loads(whole)]


def test_an_event_that_says_nothing_is_how_a_stream_begins(talk: Talk) -> None:
    talk.exchange.hear_event("message", "", now=0.0)

    assert talk.told() == []


def peer(key: PeerId, **members: Any) -> Frame:
    return {"publicKey": key, "online": True} | members


def test_what_changed_while_there_were_no_events_is_told() -> None:
    talk = begin(peers=[peer(BOB), peer(CAROL)])
    talk.told()
    talk.event("presence", online=[peer(BOB), peer(CAROL)], offline=[])
    talk.exchange.note_interrupted()
    talk.told()

    talk.event("presence", online=[peer(CAROL)], offline=[])

    assert talk.told() == [{"type": "presence", "online": [peer(CAROL)], "offline": [BOB]}]


def test_a_change_is_told_as_it_is() -> None:
    talk = begin(peers=[peer(BOB)])
    talk.event("presence", online=[peer(BOB)], offline=[])
    talk.told()

    talk.event("presence", online=[peer(CAROL, name="carol")], offline=[])

    assert talk.told() == [
        {"type": "presence", "online": [peer(CAROL, name="carol")], "offline": []}
    ]


def test_who_is_not_watched_is_not_told() -> None:
    talk = begin(watched=Watched(peers=frozenset({BOB})), peers=[peer(BOB), peer(CAROL)])
    assert talk.told()[-1]["peers"] == [peer(BOB)]

    talk.event("presence", online=[peer(CAROL)], offline=[])

    assert talk.told()[-1]["online"] == []


def test_who_is_watched_from_now_on_is_asked_for() -> None:
    talk = begin(peers=[peer(BOB)])
    watched = Watched(peers=frozenset({CAROL}))

    talk.say(encode_watch(watched))

    assert talk.exchange.watched == watched


def test_events_that_are_too_many_are_asked_for_later_and_others_not_at_all(talk: Talk) -> None:
    assert talk.exchange.hear_no_events(Answer(429, "", 5.0)) == 5.0
    assert talk.exchange.loss is None

    talk.exchange.hear_no_events(refusal("not_registered", 401))
    assert talk.exchange.needs_proof
    talk.exchange.renew("T2")

    talk.exchange.hear_no_events(Answer(503, "", 2.0))
    assert talk.exchange.loss is not None
    assert talk.exchange.loss.retry_after == 2.0
