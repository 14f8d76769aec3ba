"""The page of figures: made of a record alone, whole, and with commands that can be typed."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import click
import pytest

from agora.bench.page import GOALS, SECTIONS, performance_page
from agora.bench.plan import BENCHES, full_plan, quick_plan
from agora.bench.plot import PLOTS, panels
from agora.bench.record import Record, read_record, record_lines
from agora.bench.results import Join, Soak, Throughput
from agora.cli.program import program
from agora.errors import InputError

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "performance.md"
RECORD = read_record((ROOT / "tests" / "data" / "bench.jsonl").read_text().splitlines())


def sections_of(page: str) -> dict[str, str]:
    """Return what stands under each heading of a page."""
    _, *parts = re.split(r"^## ", page, flags=re.MULTILINE)
    return {title: text for title, _, text in (part.partition("\n") for part in parts)}


def goals_of(page: str) -> dict[str, list[str]]:
    """Return the cells of the table of targets, by what they are about."""
    rows = sections_of(page)["Against the targets"].splitlines()[3:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if "|" in row]
    return {first: rest for first, *rest in cells}


# A record


def test_a_record_is_read_as_it_was_written() -> None:
    assert read_record(record_lines(RECORD)) == RECORD


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"bench": "throughput"}', "not JSON"])
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="no record"):
        read_record([text])


# The page


def test_every_goal_has_its_figure_from_the_record() -> None:
    goals = goals_of(performance_page(RECORD))

    assert len(goals) == len(GOALS)
    assert {verdict for _, _, verdict, _ in goals.values()} == {"yes"}
    assert goals[GOALS[0].what] == ["≤ 1.5 × one verify", "1.35", "yes", "`agora bench throughput`"]


def test_a_figure_beyond_its_target_is_not_called_met() -> None:
    slow = [
        replace(run, relay_cpu_per_verify=2.0) if isinstance(run, Throughput) else run
        for run in RECORD.results
    ]
    goals = goals_of(performance_page(replace(RECORD, results=tuple(slow))))

    assert goals[GOALS[0].what][1:3] == ["2.00", "**no**"]


def test_a_rate_that_a_slow_machine_missed_is_told_at_the_pace_of_its_target() -> None:
    slow = [
        replace(run, joins_per_second=1_600.0, verify_us=98.0) if isinstance(run, Join) else run
        for run in RECORD.results
    ]
    text = sections_of(performance_page(replace(RECORD, results=tuple(slow))))
    told = " ".join(text["Against the targets"].split())

    assert "1,600 with one verification at 98 µs are 2,800 at that pace" in told
    assert "at that pace" not in performance_page(RECORD)


def test_a_relay_that_lost_messages_or_grew_has_not_met_its_targets() -> None:
    lossy = [
        replace(run, lost=1, is_flat=False) if isinstance(run, Soak) else run
        for run in RECORD.results
    ]
    goals = goals_of(performance_page(replace(RECORD, results=tuple(lossy))))

    assert [verdict for _, _, verdict, command in goals.values() if "soak" in command] == [
        "**no**",
        "**no**",
    ]


def test_the_other_relay_is_not_taken_for_ours() -> None:
    theirs = [run for run in RECORD.results if run.relay == "reference"]
    goals = goals_of(performance_page(replace(RECORD, results=tuple(theirs))))

    assert {figure for _, figure, _, _ in goals.values()} == {"–"}


def test_a_page_without_figures_says_so() -> None:
    page = performance_page(Record())

    assert list(sections_of(page)) == list(SECTIONS)
    assert "Nothing has been measured" in sections_of(page)["Machine"]
    assert {figure for _, figure, _, _ in goals_of(page).values()} == {"–"}


def test_every_bench_tells_how_it_grows_what_limits_it_and_what_repeats_it() -> None:
    sections = sections_of(performance_page(RECORD, {name: f"{name}.svg" for name in PLOTS}))
    told = [text for text in sections.values() if "**What limits it.**" in text]

    assert len(told) == len(BENCHES)
    assert all("$ agora bench" in text and "![" in text for text in told)
    assert sum("**How it grows.**" in text for text in told) == 6  # no sizes in the other two
    growth = " ".join(sections["Idle connections"].split())
    assert (
        "From 100 to 10,000 connections (dialect agora/1): 9.6 to 9.6 KB per connection" in growth
    )


def test_the_machine_and_the_day_are_told() -> None:
    machine = sections_of(performance_page(RECORD))["Machine"]

    assert "2 cores of a processor, 16.0 GB" in machine
    assert "2026-01-31" in machine


def test_the_page_in_the_documents_has_every_section() -> None:
    assert list(sections_of(PAGE.read_text())) == list(SECTIONS)


@pytest.mark.parametrize(
    "command",
    sorted(
        {goal.command for goal in GOALS}
        | {task.command for task in [*full_plan(), *quick_plan()]}
        | set(re.findall(r"`(agora bench \w[^`]*)`", PAGE.read_text()))
    ),
)
def test_every_command_beside_a_figure_can_be_typed(command: str) -> None:
    words = shlex.split(command.replace("PID", "1"))[1:]
    context = click.Context(program)
    for name in words[:2]:
        group = context.command
        assert isinstance(group, click.Group)
        inner = group.get_command(context, name)
        assert inner is not None, name
        context = click.Context(inner, parent=context)

    context.command.parse_args(context, words[2:])  # it raises for what cannot be asked


# The pictures


@pytest.mark.parametrize("bench", BENCHES)
def test_every_bench_has_something_to_draw(bench: str) -> None:
    drawn = panels(bench, RECORD.results)

    assert drawn
    assert all(line.points for panel in drawn for line in panel.lines)


def test_lines_are_called_by_what_sets_them_apart() -> None:
    [memory, _] = panels("idle", RECORD.results)
    [rate, *_] = panels("throughput", RECORD.results)

    assert [line.label for line in memory.lines] == ["dialect agora/1", "dialect reference"]
    assert [line.label for line in rate.lines] == [""]
    assert [x for x, _ in rate.lines[0].points] == [100, 500, 1000, 65_536]
