"""
What a crowd costs: work is counted in lines, which no other load on the machine changes.

A line counts each time it is come to, so once for each turn of a loop within it. What is
done in one go by the interpreter itself, such as joining a thousand texts, counts as one; so
what is held here is that no step walks through a crowd.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from agora.frames import WATCH_ALL, WATCH_NONE, PresenceAnswer, Registered, Watched, decode_answer
from agora.keys import PUBLIC_KEY_PREFIX, PeerId
from agora.limits import Limits
from agora.protocol.relay.actions import Action, Send, SendAll, SessionId
from agora.protocol.relay.budgets import Budgets
from agora.protocol.relay.pins import Pins
from agora.protocol.relay.policies import ProofPolicy
from agora.protocol.relay.registry import Member, Registry
from agora.testing.conversation import Conversation, keys_of

FEW, MANY = 1_100, 2_200

A_WALK = 100
"""Lines that make no walk through the crowd, of whom the one has a thousand more than the other."""


def peer(number: int) -> PeerId:
    return PeerId(PUBLIC_KEY_PREFIX + f"{10**9 + number:064x}")


class Crowd:
    """A registry, and so many who have joined it; *watched* None is the reference dialect."""

    def __init__(self, size: int, watched: Watched | None) -> None:
        limits = Limits()
        self.registry = Registry(
            limits,
            relay=keys_of("relay").peer_id,
            proof=ProofPolicy.OPTIONAL,
            storage_peers=(),
            pins=Pins(limits),
            budgets=Budgets(limits),
        )
        for number in range(size):
            self.join(number, watched)
        self.registry.pulse(2.0)

    def join(self, number: int, watched: Watched | None) -> list[Action]:
        name, is_proven = SessionId(f"{number:06}"), watched is not None
        member = Member(name, peer(number), None, "here", is_proven, True)
        return self.registry.join(member, watched or WATCH_ALL, 0, now_ms=10**12, now=1.0)

    def leave(self, number: int) -> list[Action]:
        return self.registry.leave(SessionId(f"{number:06}"), 1.0)


def work_of(step: Callable[[], object]) -> int:
    """Return how many lines *step* takes."""
    count = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    # What the collector happens to end meanwhile, left by other tests, is not the step's work.
    before, is_collecting = sys.gettrace(), gc.isenabled()
    gc.disable()
    sys.settrace(trace)
    try:
        step()
    finally:
        sys.settrace(before)
        if is_collecting:
            gc.enable()
    return count


def welcome(actions: list[Action]) -> Registered:
    first = actions[0]
    assert isinstance(first, Send)
    answer = decode_answer(first.text)
    assert isinstance(answer, Registered)
    return answer


def test_a_walk_is_more_work_through_more() -> None:
    few, many = range(FEW), range(MANY)

    assert work_of(lambda: [one for one in many]) > work_of(lambda: [one for one in few]) + A_WALK
    assert work_of(lambda: sum(one for one in many)) > work_of(lambda: sum(few)) + A_WALK


@pytest.mark.parametrize("watched", [WATCH_NONE, WATCH_ALL], ids=["none", "all"])
def test_a_join_is_the_same_work_however_many_are_online(watched: Watched) -> None:
    few, many = Crowd(FEW, watched), Crowd(MANY, watched)

    of_few = work_of(lambda: few.join(MANY, watched))
    assert work_of(lambda: many.join(MANY, watched)) < of_few + A_WALK


@pytest.mark.parametrize("watched", [WATCH_NONE, WATCH_ALL, None], ids=["none", "all", "reference"])
def test_to_leave_is_the_same_work_however_many_are_online(watched: Watched | None) -> None:
    few, many = Crowd(FEW, watched), Crowd(MANY, watched)

    assert work_of(lambda: many.leave(0)) < work_of(lambda: few.leave(0)) + A_WALK


def test_of_many_a_thousand_are_listed_and_all_are_counted() -> None:
    answer = welcome(Crowd(FEW, WATCH_ALL).join(FEW, WATCH_ALL))

    assert [one.public_key for one in answer.peers] == [peer(number) for number in range(1_000)]
    assert answer.peers_total == FEW


def test_a_join_is_one_frame_to_the_newcomer_whoever_watches() -> None:
    for watched in (WATCH_NONE, WATCH_ALL, None):
        frames = [one for one in Crowd(100, watched).join(100, watched) if isinstance(one, Send)]
        assert [len(frame.to) for frame in frames] == [1]


def test_all_who_join_and_leave_in_a_moment_are_one_frame_to_each_who_watches() -> None:
    crowd = Crowd(100, WATCH_ALL)
    for number in range(200):
        crowd.join(1_000 + number, WATCH_NONE)
    for number in range(50):
        crowd.leave(number)

    [told] = crowd.registry.pulse(2.0)
    assert isinstance(told, Send)
    assert len(told.to) == 50
    answer = decode_answer(told.text)
    assert isinstance(answer, PresenceAnswer)
    assert [len(answer.online), len(answer.offline)] == [200, 50]


def test_all_who_join_and_leave_in_a_moment_are_one_write_to_each_of_the_reference() -> None:
    crowd = Crowd(100, None)
    for number in range(200):
        crowd.join(1_000 + number, WATCH_NONE)
    for number in range(50):
        crowd.leave(number)

    [told] = crowd.registry.pulse(2.0)
    assert isinstance(told, SendAll)
    assert [len(told.to), len(told.texts)] == [50, 250]


def test_a_second_in_which_nothing_happens_is_the_same_work_however_many_are_there() -> None:
    def idle(count: int) -> int:
        talk = Conversation(rate_limit_enabled=False)
        talk.meet_proven(*(f"peer {number}" for number in range(count)))
        talk.clock.advance(1.0)
        return work_of(talk.node.tick) + work_of(talk.node.pulse)

    assert idle(3) == idle(60)
