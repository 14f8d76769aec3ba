"""Consent: any envelope gets a verdict, and no flood changes what becomes of those known."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agora.envelope import Envelope, seal
from agora.keys import KeyPair
from agora.protocol.client.consent import (
    ADMIT,
    ASK,
    Admit,
    Ask,
    ConsentRules,
    ContactPolicy,
    Guard,
    Later,
    Verdict,
    Withheld,
)

PEERS = [KeyPair.from_seed(bytes([n]) * 32) for n in range(6)]
KNOWN, STRANGERS = PEERS[:3], PEERS[3:]
RULES = ConsentRules(
    sender_messages=3,
    sender_window=10.0,
    stranger_messages=4,
    stranger_window=10.0,
    max_strangers=2,
    repeat_window=15.0,
    max_contents=3,
    max_written=2,
)

_timestamps = itertools.count(1)


@dataclass(frozen=True)
class Coming:
    """A message that comes at a moment."""

    envelope: Envelope
    at: float


def sealed(sender: KeyPair, **members: Any) -> Envelope:
    return seal(sender, to=PEERS[0].peer_id, timestamp_ms=next(_timestamps), **members)


def envelopes(senders: list[KeyPair]) -> st.SearchStrategy[Envelope]:
    return st.builds(
        sealed,
        st.sampled_from(senders),
        type=st.sampled_from(["publish", "heartbeat", "error", "ack"]) | st.text(max_size=3),
        payload=st.sampled_from([None, "", "x", {"text": ""}, 0])
        | st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
        in_reply_to=st.none() | st.text(max_size=3),
    )


def comings(senders: list[KeyPair]) -> st.SearchStrategy[list[Coming]]:
    moments = st.floats(0, 40)
    several = st.lists(st.builds(Coming, envelopes(senders), moments), max_size=30)
    return several.map(lambda found: sorted(found, key=lambda coming: coming.at))


def guards() -> st.SearchStrategy[Guard]:
    def make(policy: ContactPolicy, ignored: set[int], written: list[int]) -> Guard:
        guard = Guard(
            policy,
            contacts={pair.peer_id for pair in KNOWN},
            ignored={PEERS[n].peer_id for n in ignored},
            rules=RULES,
        )
        guard.relay = PEERS[-1].peer_id
        for n in written:
            guard.wrote_to(PEERS[n].peer_id)
        return guard

    some = st.integers(0, len(PEERS) - 1)
    return st.builds(make, st.sampled_from(ContactPolicy), st.sets(some), st.lists(some))


def fresh() -> Guard:
    return Guard(contacts={pair.peer_id for pair in KNOWN}, rules=RULES)


def judge(guard: Guard, coming: list[Coming]) -> list[Verdict]:
    return [guard.judge(one.envelope, now=one.at) for one in coming]


@given(guards(), st.lists(st.builds(Coming, envelopes(PEERS), st.floats(-1e9, 1e9)), max_size=30))
def test_any_envelope_at_any_moment_gets_a_verdict(guard: Guard, coming: list[Coming]) -> None:
    for verdict in judge(guard, coming):
        assert isinstance(verdict, Admit | Ask | Withheld | Later)
        assert not isinstance(verdict, Later) or verdict.retry_after > 0


@given(guards(), comings(PEERS))
def test_who_is_ignored_is_never_heard_and_nobody_else_is_withheld_for_it(
    guard: Guard, coming: list[Coming]
) -> None:
    for one, verdict in zip(coming, judge(guard, coming), strict=True):
        is_ignored = one.envelope.sender in guard.ignored
        assert is_ignored == (verdict == Withheld("ignored"))


@given(guards(), comings(PEERS))
def test_a_stranger_is_heard_only_where_everybody_is(guard: Guard, coming: list[Coming]) -> None:
    for one, verdict in zip(coming, judge(guard, coming), strict=True):
        is_stranger = not guard.knows(one.envelope.sender) and one.envelope.sender != guard.relay
        if is_stranger and guard.policy is not ContactPolicy.OPEN:
            assert verdict != ADMIT
        assert verdict != ASK or (is_stranger or one.envelope.sender == guard.relay)


@given(comings(KNOWN), comings(STRANGERS))
def test_no_flood_of_strangers_changes_a_verdict_on_somebody_known(
    known: list[Coming], flood: list[Coming]
) -> None:
    alone = judge(fresh(), known)

    both = sorted([*known, *flood], key=lambda coming: coming.at)
    verdicts = dict(zip(map(id, both), judge(fresh(), both), strict=True))

    assert [verdicts[id(one)] for one in known] == alone


@given(comings(PEERS))
def test_nobody_is_heard_more_often_than_the_rules_say(coming: list[Coming]) -> None:
    verdicts = judge(fresh(), coming)

    admitted = [one for one, verdict in zip(coming, verdicts, strict=True) if verdict == ADMIT]
    rate = RULES.sender_messages / RULES.sender_window
    for first, last in itertools.combinations(admitted, 2):
        between = [one for one in admitted if first.at <= one.at <= last.at]
        most = RULES.sender_messages + rate * (last.at - first.at) + 1e-6
        assert max(Counter(one.envelope.sender for one in between).values()) <= most


@given(comings(KNOWN))
def test_whoever_known_waits_exactly_as_told_is_not_told_to_wait_again(
    coming: list[Coming],
) -> None:
    guard = fresh()
    verdicts = judge(guard, coming)

    for one, verdict in zip(coming[-1:], verdicts[-1:], strict=True):
        if isinstance(verdict, Later):
            again = guard.judge(one.envelope, now=one.at + verdict.retry_after)
            assert not isinstance(again, Later)


@given(guards())
def test_what_a_guard_was_told_survives_a_file(guard: Guard) -> None:
    copy = Guard(guard.policy, state=guard.state(), rules=RULES)

    assert copy.state() == guard.state()
