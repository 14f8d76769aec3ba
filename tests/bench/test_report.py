"""Tables of results: what they came to, and whether runs agree."""

from __future__ import annotations

from dataclasses import fields, replace

from agora.bench.report import COLUMNS, CONDITIONS, comparison, groups, tables
from agora.bench.results import KINDS, Idle, Latency, from_members, to_members

ONE = Idle(
    relay="agora",
    dialect="agora/1",
    connections=1000,
    base_rss_mb=40.0,
    idle_rss_mb=50.0,
    kb_per_connection=10.0,
    after_64kb_rss_mb=52.0,
    kb_per_connection_after_64kb=12.0,
)
QUICK = Latency(
    relay="agora",
    dialect="reference",
    payload_bytes=500,
    pairs=4,
    rate_per_second=1000.0,
    messages=5000,
    lost=0,
    p50_ms=0.3,
    p90_ms=0.4,
    p99_ms=1.0,
    p999_ms=2.0,
    max_ms=3.0,
    left_late_p50_ms=0.05,
    left_late_p99_ms=0.1,
    relay_cpu_us_per_message=120.0,
    generator_cpu_us_per_message=60.0,
    verify_us=60.0,
)


def test_every_figure_and_condition_of_a_table_is_a_field_of_its_result() -> None:
    for bench, kind in KINDS.items():
        known = {declared.name for declared in fields(kind)}
        shown = {column.field for column in COLUMNS[bench]}

        assert shown <= known
        assert set(kind.conditions) <= known & CONDITIONS.keys()


def test_a_result_is_read_as_it_was_written() -> None:
    assert from_members(to_members(ONE)) == ONE


def test_runs_under_the_same_conditions_are_one_figure() -> None:
    other = replace(ONE, connections=100)
    found = groups([ONE, replace(ONE, kb_per_connection=12.0), other])

    assert [len(group.runs) for group in found] == [2, 1]
    assert [group.value("kb_per_connection") for group in found] == [11.0, 10.0]


def test_runs_stand_beside_what_they_came_to_and_how_far_they_are_apart() -> None:
    [table] = tables([ONE, replace(ONE, kb_per_connection=10.2)])
    lines = {first: rest for first, *rest in table.lines}

    assert table.title == "idle, agora, dialect agora/1, connections 1,000"
    assert table.head == ("", "run 1", "run 2", "together")
    assert lines["KB each"] == ["10.0", "10.2", "10.1"]
    assert table.lines[3] == ("— runs within", "", "", "2%")


def test_runs_that_are_far_apart_are_said_to_differ() -> None:
    [table] = tables([ONE, replace(ONE, kb_per_connection=20.0)])

    assert table.lines[3][-1] == "67%: differ"


def test_sizes_stand_beside_each_other() -> None:
    [table] = tables([replace(ONE, connections=number) for number in (100, 10_000)])

    assert table.title == "idle, agora, dialect agora/1"
    assert table.head == ("connections", "100", "10,000")


def test_what_could_not_be_seen_is_a_dash() -> None:
    [table] = tables([replace(ONE, kb_per_connection=None)])

    assert table.lines[2] == ("KB each", "–")


def test_relays_are_compared_under_the_same_conditions_alone() -> None:
    theirs = replace(QUICK, relay="theirs", p50_ms=0.6)
    elsewhere = replace(QUICK, rate_per_second=100.0)

    table = comparison([QUICK, theirs, elsewhere], "theirs")

    assert table.lines[0][1:] == ("p50 ms", "0.30", "0.60", "0.50")
    assert len(table.lines) == 3
