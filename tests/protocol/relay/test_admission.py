"""Who gets in: the three policies, and the memory of what was taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from agora.canonical import Json, parse_json
from agora.envelope import Sealed, seal, seal_legacy
from agora.keys import PeerId
from agora.protocol.relay.admission import Parcel, ReplayWindow, admit, check_freshness
from agora.protocol.relay.policies import EnvelopePolicy
from agora.protocol.relay.refusal import Refusal
from agora.testing.conversation import keys_of

ALICE, BOB = keys_of("alice"), keys_of("bob")
STRICT, LEGACY, OPEN = EnvelopePolicy.STRICT, EnvelopePolicy.LEGACY, EnvelopePolicy.OPEN
MODERN = seal(ALICE, type="publish", payload="hi", to=BOB.peer_id, timestamp_ms=1)
OLDER = seal_legacy(ALICE, type="publish", payload="hi", timestamp_ms=1)


def let_in(
    value: Json,
    *,
    policy: EnvelopePolicy = STRICT,
    sender: PeerId = ALICE.peer_id,
    to: Sequence[str] = (BOB.peer_id,),
) -> Parcel:
    return admit(Sealed(value), sender=sender, recipients=tuple(to), policy=policy)


def refusal_of(value: Json, **options: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        let_in(value, **options)
    return caught.value


@pytest.mark.parametrize("policy", [STRICT, LEGACY, OPEN])
def test_every_policy_takes_a_genuine_envelope(policy: EnvelopePolicy) -> None:
    parcel = let_in(MODERN.to_dict(), policy=policy)

    assert (parcel.sender, parcel.envelope_id) == (ALICE.peer_id, MODERN.id)
    assert (parcel.text, parcel.open()) == (MODERN.wire_text, MODERN)


def test_members_that_are_not_signed_are_left_behind() -> None:
    parcel = let_in(MODERN.to_dict() | {"extra": 1})

    assert parse_json(parcel.text) == MODERN.to_dict()


@pytest.mark.parametrize("policy", [LEGACY, OPEN])
def test_an_envelope_of_the_older_dialect_is_taken_where_that_was_asked_for(
    policy: EnvelopePolicy,
) -> None:
    parcel = let_in(OLDER.to_dict(), policy=policy)

    assert (parcel.envelope_id, parse_json(parcel.text)) == (OLDER.id, OLDER.to_dict())


def test_an_envelope_of_the_older_dialect_is_refused_otherwise() -> None:
    refusal = refusal_of(OLDER.to_dict())

    assert (refusal.code, refusal.reason) == ("invalid_envelope", "invalid_routing_fields")


def test_an_envelope_of_the_older_dialect_is_verified_too() -> None:
    broken = OLDER.to_dict() | {"payload": "bye"}

    assert refusal_of(broken, policy=LEGACY).reason == "id_mismatch"


def test_nobody_sends_anothers_envelope_in_either_dialect() -> None:
    bob = BOB.peer_id

    assert refusal_of(MODERN.to_dict(), sender=bob).code == "sender_mismatch"
    assert refusal_of(OLDER.to_dict(), sender=bob, policy=LEGACY).code == "sender_mismatch"


def test_an_envelope_goes_to_none_but_those_it_names() -> None:
    assert refusal_of(MODERN.to_dict(), to=[ALICE.peer_id]).code == "recipient_mismatch"


def test_a_broadcast_needs_to_name_nobody() -> None:
    assert let_in(MODERN.to_dict(), to=[]).open() == MODERN


@pytest.mark.parametrize("value", ["hi", 7, True])
def test_what_is_no_object_is_no_envelope(value: Json) -> None:
    assert refusal_of(value).message == 'Invalid message: missing or invalid "envelope" field'
    assert refusal_of(value, to=[]).message == (
        'Invalid broadcast: missing or invalid "envelope" field'
    )


@pytest.mark.parametrize("value", ["hi", 7, [1], {"b": 1, "a": "\ud800"}, {"sender": "me"}])
def test_an_open_relay_takes_anything_and_says_nothing_of_its_id(value: Json) -> None:
    parcel = let_in(value, policy=OPEN)

    assert (parcel.envelope_id, parcel.open()) == ("", None)
    assert parse_json(parcel.text) == value


def test_an_envelope_goes_to_several_only_if_it_names_them_all() -> None:
    carol = keys_of("carol").peer_id
    letter = seal(ALICE, type="publish", payload="hi", to=[BOB.peer_id, carol], timestamp_ms=1)

    assert let_in(letter.to_dict(), to=[carol, BOB.peer_id]).open() == letter
    assert refusal_of(letter.to_dict(), to=[carol, ALICE.peer_id]).code == "recipient_mismatch"


def test_a_refusal_says_what_is_wrong_with_the_envelope() -> None:
    refusal = refusal_of(MODERN.to_dict() | {"signature": "00" * 64})

    assert (refusal.code, refusal.reason) == ("invalid_envelope", "signature_invalid")


# Freshness

DAY_MS = 86_400_000


def staleness_of(timestamp: Json, *, past: float = 60.0, future: float = 60.0) -> Refusal | None:
    try:
        check_freshness(Sealed({"timestamp": timestamp}), now_ms=DAY_MS, past=past, future=future)
    except Refusal as refusal:
        return refusal
    return None


@pytest.mark.parametrize("off_ms", [-60_000, 0, 60_000])
def test_an_envelope_within_its_time_is_fresh(off_ms: int) -> None:
    assert staleness_of(DAY_MS + off_ms) is None


@pytest.mark.parametrize(("off_ms", "code"), [(-60_001, "stale"), (60_001, "from_the_future")])
def test_an_envelope_out_of_its_time_is_refused_with_the_clock_that_counts(
    off_ms: int, code: str
) -> None:
    refusal = staleness_of(DAY_MS + off_ms)

    assert refusal is not None
    assert (refusal.code, refusal.now_ms) == (code, DAY_MS)


@pytest.mark.parametrize("timestamp", [0, -1e300, 1e300])
def test_a_bound_of_zero_is_none(timestamp: float) -> None:
    assert staleness_of(timestamp, past=0.0, future=0.0) is None


@pytest.mark.parametrize("timestamp", [None, "yesterday", True, []])
def test_what_has_no_timestamp_is_for_others_to_refuse(timestamp: Json) -> None:
    assert staleness_of(timestamp) is None


# Repeats

FIRST, SECOND, THIRD = (("alice", "bob", identifier) for identifier in "123")


def test_what_was_taken_is_known_until_the_window_is_over() -> None:
    window = ReplayWindow(max_ids=10, max_age=600.0)
    window.add(FIRST)
    window.forget_old(1.0)

    window.forget_old(601.0)
    assert window.has(FIRST)
    window.forget_old(601.1)
    assert not window.has(FIRST)


def test_what_came_later_is_known_for_longer() -> None:
    window = ReplayWindow(max_ids=10, max_age=600.0)
    window.add(FIRST)
    window.forget_old(1.0)
    window.add(SECOND)
    window.forget_old(2.0)

    window.forget_old(602.0)

    assert [window.has(FIRST), window.has(SECOND)] == [False, True]


def test_sender_recipient_and_id_together_make_a_repeat() -> None:
    window = ReplayWindow(max_ids=10, max_age=600.0)
    window.add(("alice", "bob", "1"))

    assert not window.has(("carol", "bob", "1"))
    assert not window.has(("alice", "carol", "1"))
    assert not window.has(("alice", "bob", "2"))


def test_at_the_bound_the_oldest_is_forgotten() -> None:
    window = ReplayWindow(max_ids=2, max_age=600.0)
    for key in (FIRST, SECOND, THIRD):
        window.add(key)

    assert [window.has(key) for key in (FIRST, SECOND, THIRD)] == [False, True, True]


def test_what_is_seen_again_is_no_younger() -> None:
    window = ReplayWindow(max_ids=2, max_age=600.0)
    for key in (FIRST, SECOND, FIRST, THIRD):
        window.add(key)

    assert not window.has(FIRST)
    assert len(window) == 2


def test_what_was_discarded_was_never_taken() -> None:
    window = ReplayWindow(max_ids=2, max_age=600.0)
    window.add(FIRST)

    window.discard(FIRST)
    window.discard(SECOND)

    assert not window.has(FIRST)


def test_what_is_too_old_takes_no_memory() -> None:
    window = ReplayWindow(max_ids=10, max_age=600.0)
    window.add(FIRST)
    window.forget_old(1.0)
    window.add(SECOND)

    window.forget_old(602.0)

    assert len(window) == 1


def test_what_was_taken_again_counts_from_then_on() -> None:
    window = ReplayWindow(max_ids=10, max_age=600.0)
    window.add(FIRST)
    for now in (1.0, 602.0):
        window.forget_old(now)
    window.add(FIRST)

    for now in (603.0, 1203.0):
        window.forget_old(now)

    assert window.has(FIRST)


def test_a_window_that_shrinks_keeps_the_latest() -> None:
    window = ReplayWindow(max_ids=3, max_age=600.0)
    for key in (FIRST, SECOND, THIRD):
        window.add(key)

    window.change(max_ids=1, max_age=600.0, is_enabled=True)
    assert [window.has(key) for key in (FIRST, SECOND, THIRD)] == [False, False, True]
    window.change(max_ids=1, max_age=600.0, is_enabled=False)
    assert len(window) == 0


def test_what_one_window_knew_another_knows_for_as_long_as_that_would_have() -> None:
    before, after = (ReplayWindow(max_ids=10, max_age=10.0) for _ in range(2))
    before.add(FIRST)
    before.forget_old(now=100.0)
    before.add(SECOND)

    after.remember(before.remembered(now=105.0).after(3.0), now=0.0)
    assert [after.has(key) for key in (FIRST, SECOND, THIRD)] == [True, True, False]
    after.forget_old(now=2.1)
    assert [after.has(key) for key in (FIRST, SECOND)] == [False, True]
    after.forget_old(now=7.1)
    assert [after.has(key) for key in (FIRST, SECOND)] == [False, False]


def test_what_was_discarded_no_other_window_knows() -> None:
    before, after = (ReplayWindow(max_ids=10, max_age=10.0) for _ in range(2))
    for key in (FIRST, SECOND):
        before.add(key)
    before.discard(FIRST)

    after.remember(before.remembered(now=0.0), now=0.0)

    assert [after.has(key) for key in (FIRST, SECOND)] == [False, True]


def test_a_window_remembers_no_more_of_another_than_it_may() -> None:
    before, after = ReplayWindow(max_ids=10, max_age=10.0), ReplayWindow(max_ids=2, max_age=10.0)
    for key in (FIRST, SECOND, THIRD):
        before.add(key)

    after.remember(before.remembered(now=0.0), now=0.0)

    assert [after.has(key) for key in (FIRST, SECOND, THIRD)] == [False, True, True]


def test_a_window_that_is_off_remembers_nothing_of_another() -> None:
    before = ReplayWindow(max_ids=10, max_age=10.0)
    before.add(FIRST)
    after = ReplayWindow(max_ids=10, max_age=10.0, is_enabled=False)

    after.remember(before.remembered(now=0.0), now=0.0)

    assert len(after) == 0
