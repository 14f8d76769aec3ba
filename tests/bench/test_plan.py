"""What all benches together ask, and of whom."""

from __future__ import annotations

import pytest

from agora.bench.letters import Dialect
from agora.bench.plan import BENCHES, Task, full_plan, quick_plan
from agora.bench.play import Relays, play
from agora.bench.relays import Target, own_relay
from agora.bench.stage import Silent


@pytest.mark.parametrize("plan", [full_plan(), quick_plan()], ids=["full", "quick"])
def test_a_plan_has_every_bench_and_asks_what_it_can_be_asked(plan: list[Task]) -> None:
    assert {task.bench for task in plan} == set(BENCHES)
    assert all(list(task.measurements()) for task in plan)


def test_another_relay_is_never_asked_for_what_only_ours_speaks() -> None:
    compared = [
        task for task in full_plan() if BENCHES[task.bench].can_compare and task.is_compared
    ]

    assert compared
    assert {task.spoken for task in compared} == {Dialect.REFERENCE}
    assert not any({"pairs", "idle"} & task.given.keys() for task in compared)


def test_several_values_are_measured_in_every_combination() -> None:
    task = Task("throughput", {"payload": (64, 100), "pairs": (1, 2)})

    assert [tuple(asked.values()) for asked in task.measurements()] == [
        (64, 1),
        (64, 2),
        (100, 1),
        (100, 2),
    ]
    assert task.command == "agora bench throughput --payload 64,100 --pairs 1,2"


def test_runs_of_two_relays_alternate() -> None:
    task = Task("throughput", {"seconds": (0.05,), "pairs": (1,)}, runs=2)
    with own_relay() as ours, own_relay() as theirs:
        named, other = Target(ours.url, name="ours"), Target(theirs.url, name="theirs")
        found = list(play(task, Relays(named, against=other), Silent()))

    assert [result.relay for result in found] == ["ours", "theirs", "ours", "theirs"]


def test_a_relay_that_was_told_otherwise_has_another_name() -> None:
    task = Task("join", {"joins": (1,)}, runs=1, relay_options=("ack-timeout=2",))

    [result] = play(task, Relays(options=("no-dedup-enabled",)), Silent())

    assert result.relay == "agora --no-dedup-enabled --ack-timeout=2"
