"""
Results for people: a table of each bench, runs beside what they came to together.

Pure text and numbers; `rich` draws it. A figure of two runs is their mean, and how far
they are apart is told: more than `AGREEMENT` is no agreement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agora.bench.figures import spread
from agora.bench.results import KINDS, Result

__all__ = ["AGREEMENT", "COLUMNS", "Column", "Group", "Row", "groups", "rows", "shown"]

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


_RELAY = (Column("relay", "relay"), Column("dialect", "dialect"))
_VERIFY = Column("verify_us", "one verify µs", 1)
_GENERATOR = "generator µs"

COLUMNS: dict[str, tuple[Column, ...]] = {
    "throughput": (
        *_RELAY,
        Column("payload_bytes", "payload B"),
        Column("pairs", "pairs"),
        Column("messages_per_second", "messages/s", is_compared=True),
        Column("relay_cpu_us_per_message", "relay µs/message", 1, is_compared=True),
        Column("generator_cpu_us_per_message", _GENERATOR, 1),
        _VERIFY,
        Column("relay_cpu_per_verify", "relay / verify", 2, is_compared=True),
    ),
    "latency": (
        *_RELAY,
        Column("payload_bytes", "payload B"),
        Column("rate_per_second", "messages/s"),
        Column("p50_ms", "p50 ms", 2, is_compared=True),
        Column("p90_ms", "p90 ms", 2),
        Column("p99_ms", "p99 ms", 2),
        Column("p999_ms", "p99.9 ms", 2),
        Column("max_ms", "max ms", 2),
        Column("lost", "lost"),
        Column("relay_cpu_us_per_message", "relay µs/message", 1, is_compared=True),
        Column("generator_cpu_us_per_message", _GENERATOR, 1),
    ),
    "idle": (
        *_RELAY,
        Column("connections", "connections"),
        Column("base_rss_mb", "base MB", 1),
        Column("idle_rss_mb", "MB", 1),
        Column("kb_per_connection", "KB each", 1, is_compared=True),
        Column("kb_per_connection_after_64kb", "KB each after 64 KB", 1, is_compared=True),
    ),
    "join": (
        *_RELAY,
        Column("presence", "presence"),
        Column("joins", "joins"),
        Column("joins_per_second", "joins/s", is_compared=True),
        Column("relay_cpu_us_per_join", "relay µs/join", is_compared=True),
        Column("generator_cpu_us_per_join", _GENERATOR),
        Column("frames_sent", "frames sent"),
        Column("kb_sent", "KB sent"),
        _VERIFY,
    ),
    "broadcast": (
        *_RELAY,
        Column("recipients", "recipients"),
        Column("payload_bytes", "payload B"),
        Column("deliveries_per_second", "deliveries/s", is_compared=True),
        Column("relay_cpu_us_per_recipient", "relay µs/recipient", 2, is_compared=True),
        Column("generator_cpu_us_per_recipient", _GENERATOR, 2),
        _VERIFY,
    ),
    "mailbox": (
        *_RELAY,
        Column("messages", "messages"),
        Column("recipients", "recipients"),
        Column("accepts_per_second", "accepts/s", is_compared=True),
        Column("accept_relay_cpu_us_per_message", "relay µs", 1),
        Column("drains_per_second", "drains/s", is_compared=True),
        Column("drain_relay_cpu_us_per_message", "relay µs", 1),
        Column("rss_before_mb", "MB before", 1),
        Column("rss_stored_mb", "stored", 1),
        Column("rss_drained_mb", "drained", 1),
        _VERIFY,
    ),
    "slow-reader": (
        *_RELAY,
        Column("megabytes", "MB sent"),
        Column("rss_growth_mb", "relay MB more", 1, is_compared=True),
        Column("others_lost", "others lost"),
        Column("others_p50_ms", "others p50 ms", 2),
        Column("others_p99_ms", "p99 ms", 2),
        Column("others_max_ms", "max ms", 2),
    ),
    "soak": (
        *_RELAY,
        Column("minutes", "minutes", 1),
        Column("rate_per_second", "messages/s"),
        Column("lost", "lost"),
        Column("rss_first_mb", "MB first", 1),
        Column("rss_last_mb", "last", 1),
        Column("rss_mb_per_hour", "MB/hour", 2),
        Column("rss_mb_per_hour_error", "±", 2),
        Column("files_first", "files first"),
        Column("files_last", "last"),
        Column("threads_first", "threads first"),
        Column("threads_last", "last"),
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

    @property
    def apart(self) -> float | None:
        """How far the runs are apart in the figure in which they differ most; None for one."""
        if len(self.runs) < 2:
            return None
        compared = [column.field for column in COLUMNS[self.bench] if column.is_compared]
        values = [[getattr(run, field) for run in self.runs] for field in compared]
        known = [several for several in values if None not in several]
        return max((spread(several) for several in known), default=None)

    @property
    def agreement(self) -> str:
        """Whether the runs agree, in words."""
        if self.apart is None:
            return ""
        verdict = "agree" if self.apart <= AGREEMENT else "differ"
        return f"{verdict}: within {self.apart:.0%}"


def groups(results: Sequence[Result]) -> list[Group]:
    """Return the runs that repeat each other together, benches in their usual order."""
    found: dict[tuple[Any, ...], list[Result]] = {}
    for result in results:
        found.setdefault(result.condition, []).append(result)
    order = list(KINDS)
    together = [Group(tuple(runs)) for runs in found.values()]
    return sorted(together, key=lambda group: order.index(group.bench))


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table."""

    cells: tuple[str, ...]
    is_mean: bool


def rows(group: Group) -> list[Row]:
    """Return each run, and with several what they came to."""
    columns = COLUMNS[group.bench]
    several = len(group.runs) > 1
    made = [
        Row((*(shown(getattr(run, one.field), one.decimals) for one in columns), ""), False)
        for run in (group.runs if several else ())
    ]
    mean = (shown(group.value(one.field), one.decimals) for one in columns)
    return [*made, Row((*mean, group.agreement), True)]


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
