"""Consent: who may speak, how often, and how often the same, on a clock moved by hand."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from agora.envelope import Envelope, open_envelope, seal
from agora.errors import ConfigurationError
from agora.keys import KeyPair
from agora.protocol.client.consent import (
    ADMIT,
    ANSWERS,
    ASK,
    ConsentRules,
    ConsentState,
    ContactPolicy,
    Guard,
    Later,
    Verdict,
    Withheld,
)

ME, BOB, CAROL, RELAY = (KeyPair.from_seed(bytes([n]) * 32) for n in range(4))
CROWD = [KeyPair.from_seed(n.to_bytes(32)) for n in range(1_000, 1_020)]
TOO_MANY = Later(retry_after=32.0)

_timestamps = itertools.count(1)


def letter(sender: KeyPair = BOB, payload: Any = "hello", **members: Any) -> Envelope:
    """Sign an envelope that no other is equal to."""
    defaults: dict[str, Any] = {"type": "publish", "timestamp_ms": next(_timestamps)}
    return seal(sender, payload=payload, to=ME.peer_id, **defaults | members)


def heartbeat(sender: KeyPair = BOB, payload: Any = "I live", **members: Any) -> Envelope:
    return letter(sender, payload, **{"type": "heartbeat"} | members)


def answer(sender: KeyPair = BOB, **members: Any) -> Envelope:
    return letter(sender, in_reply_to="ab" * 32, **members)


def guard(
    policy: ContactPolicy = ContactPolicy.OPEN, *, knows: tuple[KeyPair, ...] = (), **rules: Any
) -> Guard:
    contacts = {pair.peer_id for pair in knows}
    return Guard(policy, contacts=contacts, rules=ConsentRules(**rules))


def judged(guard: Guard, *envelopes: Envelope, now: float = 0.0) -> list[Verdict]:
    return [guard.judge(envelope, now=now) for envelope in envelopes]


# Who may write


@pytest.mark.parametrize(
    ("policy", "verdict"),
    [
        (ContactPolicy.OPEN, ADMIT),
        (ContactPolicy.CONTACTS, Withheld("not_a_contact")),
        (ContactPolicy.ASK, ASK),
    ],
)
def test_the_policy_decides_about_strangers_and_not_about_contacts(
    policy: ContactPolicy, verdict: Verdict
) -> None:
    here = guard(policy, knows=(BOB,))

    assert judged(here, letter(BOB), letter(CAROL)) == [ADMIT, verdict]


@pytest.mark.parametrize("policy", ContactPolicy)
def test_who_was_written_to_may_answer(policy: ContactPolicy) -> None:
    here = guard(policy)
    here.wrote_to(CAROL.peer_id)

    assert judged(here, letter(CAROL), answer(CAROL)) == [ADMIT, ADMIT]


@pytest.mark.parametrize("policy", ContactPolicy)
def test_an_ignored_peer_is_not_heard_whatever_else_is_said_of_it(policy: ContactPolicy) -> None:
    here = guard(policy, knows=(BOB,))
    here.relay = BOB.peer_id
    here.wrote_to(BOB.peer_id)
    here.ignore(BOB.peer_id)

    bounce = answer(BOB, type="error")
    assert judged(here, letter(BOB), answer(BOB), bounce) == [Withheld("ignored")] * 3


def test_who_is_asked_about_is_heard_when_it_is_allowed() -> None:
    here = guard(ContactPolicy.ASK)
    message = heartbeat(CAROL)
    assert judged(here, message) == [ASK]

    here.allow(CAROL.peer_id)

    assert judged(here, message) == [ADMIT]


def test_a_contact_may_come_while_the_guard_stands() -> None:
    contacts: set[str] = set()
    here = Guard(ContactPolicy.CONTACTS, contacts=contacts)  # type: ignore[arg-type]
    before = judged(here, letter(BOB))

    contacts.add(BOB.peer_id)

    assert (before, judged(here, letter(BOB))) == ([Withheld("not_a_contact")], [ADMIT])


def test_allowing_ignoring_and_unignoring_tell_whether_that_is_new() -> None:
    here = guard(ContactPolicy.CONTACTS)
    bob = BOB.peer_id

    assert [here.ignore(bob), here.ignore(bob), here.ignored] == [True, False, (bob,)]
    assert [here.unignore(bob), here.unignore(bob), here.ignored] == [True, False, ()]
    assert [here.allow(bob), here.allow(bob)] == [True, False]
    assert [here.ignore(bob), here.allow(bob)] == [True, True]
    assert judged(here, letter(BOB)) == [ADMIT]


def test_who_was_ignored_after_it_was_allowed_is_a_stranger_when_heard_again() -> None:
    here = guard(ContactPolicy.ASK)
    here.allow(BOB.peer_id)

    here.ignore(BOB.peer_id)
    here.unignore(BOB.peer_id)

    assert judged(here, letter(BOB)) == [ASK]


def test_whom_we_wrote_to_longest_ago_is_forgotten_first() -> None:
    here = guard(ContactPolicy.CONTACTS, max_written=2)
    for peer in (BOB, CAROL, BOB, ME):
        here.wrote_to(peer.peer_id)

    verdicts = judged(here, letter(BOB), letter(CAROL), letter(ME))
    assert verdicts == [ADMIT, Withheld("not_a_contact"), ADMIT]


# Bounces


@pytest.mark.parametrize("policy", ContactPolicy)
def test_a_bounce_of_our_relay_is_heard(policy: ContactPolicy) -> None:
    here = guard(policy, stranger_messages=1, sender_messages=1)
    here.relay = RELAY.peer_id

    assert judged(here, *(answer(RELAY, type="error") for _ in range(50))) == [ADMIT] * 50


@pytest.mark.parametrize(
    "message",
    [
        answer(CAROL, type="error"),
        letter(RELAY, type="error"),
        answer(RELAY, type="publish"),
    ],
    ids=["of another", "of no message", "of another type"],
)
def test_what_only_looks_like_a_bounce_is_judged_as_any_other(message: Envelope) -> None:
    here = guard(ContactPolicy.CONTACTS)
    here.relay = RELAY.peer_id

    assert judged(here, message) == [Withheld("not_a_contact")]


def test_there_are_no_bounces_without_a_relay_that_proved_its_key() -> None:
    assert judged(guard(ContactPolicy.ASK), answer(RELAY, type="error")) == [ASK]


# How often


@pytest.mark.parametrize("knows", [(), (BOB,)])
def test_one_sender_is_held_back_for_as_long_as_told(knows: tuple[KeyPair, ...]) -> None:
    here = guard(knows=knows, sender_messages=2, sender_window=64.0)
    messages = [letter() for _ in range(3)]

    assert judged(here, *messages) == [ADMIT, ADMIT, TOO_MANY]
    assert judged(here, messages[2], now=31.0) == [Later(1.0)]
    assert judged(here, messages[2], now=32.0) == [ADMIT]


def test_one_sender_uses_up_no_rate_of_another() -> None:
    here = guard(knows=(BOB, CAROL), sender_messages=1, sender_window=32.0)

    assert judged(here, letter(BOB), letter(BOB), letter(CAROL)) == [ADMIT, TOO_MANY, ADMIT]


def test_strangers_share_one_rate_and_contacts_do_not_notice() -> None:
    here = guard(knows=(BOB,), stranger_messages=3, stranger_window=96.0)

    verdicts = judged(here, *map(letter, CROWD))

    turns = [Later(min(32.0 * turn, 96.0)) for turn in range(1, len(CROWD) - 2)]
    assert verdicts == [ADMIT] * 3 + turns
    assert judged(here, letter(BOB)) == [ADMIT]


def test_a_burst_is_spread_so_that_each_message_is_put_off_once() -> None:
    here = guard(knows=(BOB,), sender_messages=2, sender_window=10.0)
    burst = [letter(BOB) for _ in range(8)]

    turns = [
        verdict.retry_after if isinstance(verdict, Later) else 0.0
        for verdict in judged(here, *burst)
    ]

    assert turns == [0.0, 0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0]
    for message, turn in zip(burst[2:], turns[2:], strict=True):
        assert judged(here, message, now=turn) == [ADMIT]


def test_a_stranger_held_back_by_its_own_rate_uses_up_none_of_all_others() -> None:
    here = guard(
        sender_messages=1, sender_window=32.0, stranger_messages=2, stranger_window=1_000.0
    )
    verdicts = judged(here, letter(BOB), letter(BOB), letter(BOB), letter(CAROL))

    assert verdicts == [ADMIT, TOO_MANY, Later(64.0), ADMIT]


def test_a_stranger_is_asked_about_only_as_often_as_it_may_write() -> None:
    here = guard(ContactPolicy.ASK, sender_messages=1, sender_window=32.0)

    assert judged(here, letter(), letter()) == [ASK, TOO_MANY]


def test_who_may_not_write_at_all_uses_up_nothing() -> None:
    here = guard(ContactPolicy.CONTACTS, sender_messages=1, stranger_messages=1)
    judged(here, letter(BOB), letter(CAROL))
    here.policy = ContactPolicy.OPEN

    assert judged(here, letter(BOB)) == [ADMIT]


def test_new_keys_reset_nobodys_count_though_the_table_is_full() -> None:
    here = guard(sender_messages=1, sender_window=32.0, stranger_messages=0, max_strangers=3)
    bob = judged(here, letter(BOB))

    crowd = judged(here, *map(letter, CROWD))

    assert bob == [ADMIT]
    assert crowd == [ADMIT] * 2 + [TOO_MANY] * (len(CROWD) - 2)
    assert judged(here, letter(BOB)) == [TOO_MANY]
    assert judged(here, *map(letter, CROWD[:2]), now=31.0) == [Later(1.0)] * 2


def test_a_full_table_has_room_again_when_rates_are_whole() -> None:
    here = guard(sender_messages=1, sender_window=32.0, stranger_messages=0, max_strangers=3)
    judged(here, *map(letter, CROWD))

    assert judged(here, *map(letter, CROWD[10:13]), now=32.0) == [ADMIT] * 3


def test_zero_is_any_number() -> None:
    here = guard(sender_messages=0, stranger_messages=0)

    assert judged(here, *(letter() for _ in range(1_000))) == [ADMIT] * 1_000


def test_each_message_of_ours_pays_for_its_answers() -> None:
    here = guard(sender_messages=1, sender_window=32.0)
    for _ in range(10):
        here.wrote_to(BOB.peer_id)

    answers = judged(here, *(answer() for _ in range(10 * ANSWERS)))

    assert answers == [ADMIT] * 10 * ANSWERS
    assert judged(here, letter(), answer()) == [ADMIT, TOO_MANY]


def test_what_answers_nothing_is_not_paid_for() -> None:
    here = guard(sender_messages=1, sender_window=32.0)
    here.wrote_to(BOB.peer_id)

    assert judged(here, letter(), letter()) == [ADMIT, TOO_MANY]


# How often the same


def test_a_repeat_is_withheld_for_the_window_after_its_first_sighting() -> None:
    here = guard(repeat_window=100.0)

    assert judged(here, heartbeat(), now=0.0) == [ADMIT]
    assert judged(here, heartbeat(), now=99.0) == [Withheld("repeated")]
    assert judged(here, heartbeat(), now=100.0) == [ADMIT]


@pytest.mark.parametrize(
    "other",
    [
        {"sender": CAROL},
        {"type": "announce"},
        {"payload": {"n": 2}},
        {"in_reply_to": "ab" * 32},
    ],
    ids=lambda members: next(iter(members)),
)
def test_another_sender_type_content_or_question_is_no_repeat(other: dict[str, Any]) -> None:
    here = guard()

    assert judged(here, heartbeat(), heartbeat(**other)) == [ADMIT, ADMIT]


def test_the_order_of_members_makes_no_other_content() -> None:
    here = guard()

    verdicts = judged(
        here, heartbeat(payload={"a": 1, "b": 2}), heartbeat(payload={"b": 2, "a": 1})
    )

    assert verdicts == [ADMIT, Withheld("repeated")]


def test_the_same_message_judged_again_is_no_repeat_of_itself() -> None:
    here = guard()
    message = heartbeat()

    assert judged(here, message, message, heartbeat()) == [ADMIT, ADMIT, Withheld("repeated")]


def test_what_came_too_often_is_not_remembered_as_said() -> None:
    here = guard(sender_messages=1, sender_window=32.0)
    judged(here, letter())

    assert judged(here, heartbeat()) == [TOO_MANY]
    assert judged(here, heartbeat(), now=32.0) == [ADMIT]


def test_a_conversation_may_repeat_itself() -> None:
    assert judged(guard(), letter(payload="yes"), letter(payload="yes")) == [ADMIT, ADMIT]


def test_of_all_types_repeats_can_be_withheld() -> None:
    here = guard(repeat_types=None)

    assert judged(here, letter(), letter()) == [ADMIT, Withheld("repeated")]


@pytest.mark.parametrize("nothing", [None, "", {}, [], {"text": ""}])
def test_a_message_without_content_repeats_nothing_unless_that_is_asked_for(nothing: Any) -> None:
    beats = [heartbeat(payload=nothing), heartbeat(payload=nothing)]

    assert judged(guard(), *beats) == [ADMIT, ADMIT]
    assert judged(guard(repeats_of_nothing=True), *beats) == [ADMIT, Withheld("repeated")]


@pytest.mark.parametrize("something", [0, False, "0", [None], {"text": " "}, {"a": ""}])
def test_content_that_is_falsy_is_content(something: Any) -> None:
    beats = [heartbeat(payload=something), heartbeat(payload=something)]

    assert judged(guard(), *beats) == [ADMIT, Withheld("repeated")]


def test_a_window_of_nothing_is_off() -> None:
    here = guard(repeat_window=0.0)

    assert judged(here, heartbeat(), heartbeat()) == [ADMIT, ADMIT]


def test_contents_are_bounded_and_strangers_push_out_none_of_those_known() -> None:
    here = guard(knows=(BOB,), max_contents=2)
    judged(here, heartbeat(BOB), heartbeat(CAROL), *map(heartbeat, CROWD))

    verdicts = judged(here, heartbeat(BOB), heartbeat(CAROL), heartbeat(CROWD[-1]))

    assert verdicts == [Withheld("repeated"), ADMIT, Withheld("repeated")]


def test_any_string_can_be_in_what_is_remembered() -> None:
    odd = open_envelope(heartbeat(payload={"\ud800": ["\udfff"]}, in_reply_to="\udc00\0").to_json())

    assert judged(guard(), odd, odd) == [ADMIT, ADMIT]


# State and rules


def test_what_a_guard_was_told_is_known_to_the_next() -> None:
    before = guard(ContactPolicy.CONTACTS)
    before.allow(BOB.peer_id)
    before.ignore(CAROL.peer_id)
    before.wrote_to(ME.peer_id)

    state = before.state()
    after = Guard(ContactPolicy.CONTACTS, state=state)

    assert state == ConsentState((BOB.peer_id,), (CAROL.peer_id,), (ME.peer_id,))
    assert after.state() == state
    verdicts = judged(after, letter(BOB), letter(CAROL), letter(ME), letter(RELAY))
    assert verdicts == [ADMIT, Withheld("ignored"), ADMIT, Withheld("not_a_contact")]


@pytest.mark.parametrize(
    "rules",
    [
        {"sender_messages": -1},
        {"sender_window": 0.0},
        {"repeat_window": float("nan")},
        {"max_contents": 0},
    ],
)
def test_a_rule_out_of_its_bounds_is_refused(rules: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(rules))):
        ConsentRules(**rules)
