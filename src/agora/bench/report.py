"""
Results for people: a table of each bench, runs beside what they came to together.

Pure text and numbers; the command line and the page draw them. A figure of two runs is
their mean, and how far they are apart is told: more than `AGREEMENT` is no agreement.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agora.bench.figures import spread
from agora.bench.results import KINDS, Result

__all__ = [
    "AGREEMENT",
    "COLUMNS",
    "CONDITIONS",
    "Column",
    "Group",
    "Ratio",
    "Table",
    "comparison",
    "condition",
    "groups",
    "ratios",
    "shown",
    "tables",
]

AGREEMENT = 0.10
"""How far two runs may be apart, as a part of their mean, and still be said to agree."""


@dataclass(frozen=True, slots=True)
class Column:
    """One figure: the field of the result, its heading, and how many decimals are meant."""

    field: str
    heading: str
    decimals: int = 0
    is_compared: bool = False
    """Whether two runs that differ in it do not agree."""


_VERIFY = Column("verify_us", "one verify µs", 1)
_GENERATOR = "generator µs"

CONDITIONS: dict[str, str] = {
    "dialect": "dialect",
    "payload_bytes": "payload bytes",
    "pairs": "pairs",
    "idle": "idle connections",
    "read_every_ms": "ms between reads",
    "rate_per_second": "messages/s asked",
    "connections": "connections",
    "presence": "presence",
    "joins": "joins at once",
    "recipients": "recipients",
    "messages": "messages",
    "megabytes": "MB sent",
    "minutes": "minutes",
}
"""What conditions are called."""

COLUMNS: dict[str, tuple[Column, ...]] = {
    "throughput": (
        Column("messages_per_second", "messages/s", is_compared=True),
        Column("relay_cpu_us_per_message", "relay µs/message", 1, is_compared=True),
        Column("generator_cpu_us_per_message", _GENERATOR, 1),
        _VERIFY,
        Column("relay_cpu_per_verify", "relay / verify", 2, is_compared=True),
    ),
    "latency": (
        Column("p50_ms", "p50 ms", 2, is_compared=True),
        Column("p90_ms", "p90 ms", 2),
        Column("p99_ms", "p99 ms", 2),
        Column("p999_ms", "p99.9 ms", 2),
        Column("max_ms", "max ms", 2),
        Column("left_late_p50_ms", "left late, p50 ms", 2),
        Column("left_late_p99_ms", "left late, p99 ms", 2),
        Column("lost", "lost"),
        Column("relay_cpu_us_per_message", "relay µs/message", 1, is_compared=True),
        Column("generator_cpu_us_per_message", _GENERATOR, 1),
    ),
    "idle": (
        Column("base_rss_mb", "relay MB without", 1),
        Column("idle_rss_mb", "relay MB with", 1),
        Column("kb_per_connection", "KB each", 1, is_compared=True),
        Column("kb_per_connection_after_64kb", "KB each after 64 KB", 1, is_compared=True),
    ),
    "join": (
        Column("joins_per_second", "joins/s", is_compared=True),
        Column("relay_cpu_us_per_join", "relay µs/join", is_compared=True),
        Column("generator_cpu_us_per_join", _GENERATOR),
        Column("frames_sent", "frames sent"),
        Column("kb_sent", "KB sent"),
        _VERIFY,
    ),
    "broadcast": (
        Column("deliveries_per_second", "deliveries/s", is_compared=True),
        Column("relay_cpu_us_per_recipient", "relay µs/recipient", 2, is_compared=True),
        Column("generator_cpu_us_per_recipient", _GENERATOR, 2),
        _VERIFY,
    ),
    "mailbox": (
        Column("accepts_per_second", "accepts/s", is_compared=True),
        Column("accept_relay_cpu_us_per_message", "relay µs/accept", 1, is_compared=True),
        Column("drains_per_second", "drains/s", is_compared=True),
        Column("drain_relay_cpu_us_per_message", "relay µs/drain", 1, is_compared=True),
        Column("rss_before_mb", "relay MB before", 1),
        Column("rss_stored_mb", "relay MB, all stored", 1),
        Column("rss_drained_mb", "relay MB, all drained", 1),
        _VERIFY,
    ),
    "slow-reader": (
        Column("rss_growth_mb", "relay MB more", 1, is_compared=True),
        Column("others_lost", "others lost"),
        Column("others_p50_ms", "others p50 ms", 2),
        Column("others_p99_ms", "others p99 ms", 2),
        Column("others_max_ms", "others max ms", 2),
    ),
    "soak": (
        Column("rate_per_second", "messages/s"),
        Column("lost", "lost"),
        Column("rss_first_mb", "relay MB at first", 1),
        Column("rss_last_mb", "relay MB at last", 1),
        Column("rss_mb_per_hour", "MB/hour, second half", 2),
        Column("rss_mb_per_hour_error", "± MB/hour", 2),
        Column("files_first", "open files at first"),
        Column("files_last", "open files at last"),
        Column("threads_first", "threads at first"),
        Column("threads_last", "threads at last"),
        Column("is_flat", "flat"),
    ),
}
"""What is shown of each bench; everything else is in the JSON."""


@dataclass(frozen=True, slots=True)
class Group:
    """Runs of one bench under the same conditions."""

    runs: tuple[Result, ...]

    @property
    def bench(self) -> str:
        """The bench they are of."""
        return self.runs[0].bench

    def value(self, field: str) -> Any:
        """Return what the runs came to: the mean of numbers, else what the first says."""
        values = [getattr(run, field) for run in self.runs]
        if any(value is None for value in values):
            return None
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            return sum(values) / len(values)
        return values[0]

    def apart(self, field: str) -> float | None:
        """Return how far the runs are apart in a figure; None for one run, or an unseen figure."""
        values = [getattr(run, field) for run in self.runs]
        return None if len(values) < 2 or None in values else spread(values)


def groups(results: Sequence[Result]) -> list[Group]:
    """Return the runs that repeat each other together, benches in their usual order."""
    found: dict[tuple[Any, ...], list[Result]] = {}
    for result in results:
        found.setdefault(result.condition, []).append(result)
    order = list(KINDS)
    together = [Group(tuple(runs)) for runs in found.values()]
    return sorted(together, key=lambda group: order.index(group.bench))


@dataclass(frozen=True, slots=True)
class Table:
    """Figures in lines, what was measured in columns."""

    title: str
    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def tables(results: Sequence[Result]) -> list[Table]:
    """Return a table for each bench, relay and dialect."""
    together: dict[tuple[str, str, str], list[Group]] = {}
    for group in groups(results):
        first = group.runs[0]
        together.setdefault((first.bench, first.relay, first.dialect), []).append(group)
    return [_table(several) for several in together.values()]


def _table(several: list[Group]) -> Table:
    first = several[0].runs[0]
    varying = [name for name in first.conditions if len({_of(one, name) for one in several}) > 1]
    fixed = [name for name in first.conditions if name not in varying]
    title = [first.bench, first.relay, f"dialect {first.dialect}"]
    title += [f"{CONDITIONS[name]} {condition(_of(several[0], name))}" for name in fixed]
    if varying:
        head, *more = [_condition_line(several, name) for name in varying]
    else:
        head, more = _heads_of_runs(several[0]), []
    return Table(", ".join(title), head, (*more, *_figure_lines(several)))


def _of(group: Group, field: str) -> Any:
    return getattr(group.runs[0], field)


def _condition_line(several: list[Group], name: str) -> tuple[str, ...]:
    return (CONDITIONS[name], *(condition(_of(group, name)) for group in several))


def _heads_of_runs(group: Group) -> tuple[str, ...]:
    runs = [f"run {number}" for number, _ in enumerate(group.runs, start=1)]
    return ("", *runs, "together") if len(runs) > 1 else ("", *runs)


def _figure_lines(several: list[Group]) -> Iterator[tuple[str, ...]]:
    """Yield a line for each figure; where runs are compared, one more for how they agree."""
    alone = several[0] if len(several) == 1 and len(several[0].runs) > 1 else None
    for column in COLUMNS[several[0].bench]:
        runs = [getattr(run, column.field) for run in alone.runs] if alone else []
        values = [*runs, *(group.value(column.field) for group in several)]
        yield (column.heading, *(shown(value, column.decimals) for value in values))
        apart = [group.apart(column.field) for group in several]
        if column.is_compared and any(one is not None for one in apart):
            yield (_RUNS_WITHIN, *([""] * len(runs)), *map(_agreement, apart))


_RUNS_WITHIN = "— runs within"


def _agreement(apart: float | None) -> str:
    if apart is None:
        return ""
    return f"{apart:.0%}" if apart <= AGREEMENT else f"{apart:.0%}: differ"


# One relay against another


@dataclass(frozen=True, slots=True)
class Ratio:
    """What one relay does in terms of the other, under the same conditions, in the same run."""

    group: Group
    field: str
    ours: float
    theirs: float

    @property
    def bench(self) -> str:
        """The bench that found it."""
        return self.group.bench

    @property
    def conditions(self) -> str:
        """What was asked, in words."""
        run = self.group.runs[0]
        return ", ".join(
            f"{CONDITIONS[name]} {condition(_of(self.group, name))}" for name in run.conditions
        )

    @property
    def figure(self) -> str:
        """What is compared, in words."""
        columns = COLUMNS[self.bench]
        return next(column.heading for column in columns if column.field == self.field)

    @property
    def ratio(self) -> float:
        """How many times theirs ours is."""
        return self.ours / self.theirs


_RATIOS = {
    "throughput": ("messages_per_second", "relay_cpu_us_per_message"),
    "latency": ("p50_ms", "p99_ms", "relay_cpu_us_per_message"),
}


def ratios(results: Sequence[Result], name: str) -> list[Ratio]:
    """Return how other relays compare with the one called *name*."""
    found = groups(results)
    theirs = {_but_the_relay(group): group for group in found if _of(group, "relay") == name}
    made = []
    for group in found:
        other = theirs.get(_but_the_relay(group))
        if other is None or other is group:
            continue
        for field in _RATIOS.get(group.bench, ()):
            ours, its = group.value(field), other.value(field)
            if ours is not None and its:
                made.append(Ratio(group, field, ours, its))
    return made


def comparison(results: Sequence[Result], name: str) -> Table:
    """Return all ratios of our relay to the one called *name*, as a table."""
    lines = [
        (
            f"{one.bench}, {one.conditions}",
            one.figure,
            *(shown(value, 2) for value in (one.ours, one.theirs, one.ratio)),
        )
        for one in ratios(results, name)
    ]
    return Table(f"against {name}", ("", "", "ours", name, "ratio"), tuple(lines))


def _but_the_relay(group: Group) -> tuple[Any, ...]:
    return (group.bench, *group.runs[0].condition_but("relay"))


def condition(value: Any) -> str:
    """
    Return what was asked, as people read it.

    >>> condition(10_000), condition(0.5), condition(1000.0), condition("none")
    ('10,000', '0.5', '1,000', 'none')
    """
    return str(value) if isinstance(value, str) else f"{value:,g}" if value < 1e6 else f"{value:,}"


def shown(value: Any, decimals: int = 0) -> str:
    """
    Return a figure as people read it.

    >>> shown(12345.678), shown(0.4567, 2), shown(None), shown(True)
    ('12,346', '0.46', '–', 'yes')
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:,.{decimals}f}"
    return str(value)
