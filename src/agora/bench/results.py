"""
What benches find: one frozen value for each run, with the unit of every field in its name.

None stands for what could not be seen, such as the memory of a relay whose process is
not known. Figures are written as JSON and read back: the page is made from either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

__all__ = [
    "KINDS",
    "Broadcast",
    "Idle",
    "Join",
    "Latency",
    "MailboxRun",
    "Result",
    "SlowReader",
    "Soak",
    "Throughput",
    "from_members",
    "to_members",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """
    One run of a bench.

    Attributes:
        relay: The name of the relay.
        dialect: What was spoken with it.
    """

    bench: ClassVar[str]
    conditions: ClassVar[tuple[str, ...]] = ()
    """The fields that say what was asked; runs that agree in them are repetitions."""

    relay: str
    dialect: str

    @property
    def condition(self) -> tuple[Any, ...]:
        """What was asked: equal for runs that repeat each other."""
        return (self.bench, *self.condition_but())

    def condition_but(self, *left_out: str) -> tuple[tuple[str, Any], ...]:
        """Return what was asked, field by field, but for some."""
        names = ("relay", "dialect", *self.conditions)
        return tuple((name, getattr(self, name)) for name in names if name not in left_out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput(Result):
    """As many messages as the relay takes, between pairs of peers, in a bounded window."""

    bench = "throughput"
    conditions = ("payload_bytes", "pairs", "idle", "read_every_ms")

    payload_bytes: int
    pairs: int
    idle: int
    read_every_ms: float
    messages: int
    seconds: float
    messages_per_second: float
    relay_cpu_us_per_message: float | None
    generator_cpu_us_per_message: float
    verify_us: float
    verify_drift: float
    relay_cpu_per_verify: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency(Result):
    """Messages that leave by the clock; the time of each counts from when it should have left."""

    bench = "latency"
    conditions = ("payload_bytes", "pairs", "rate_per_second")

    payload_bytes: int
    pairs: int
    rate_per_second: float
    messages: int
    lost: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    left_late_p50_ms: float
    left_late_p99_ms: float
    relay_cpu_us_per_message: float | None
    generator_cpu_us_per_message: float
    verify_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle(Result):
    """Registered connections on which nothing happens."""

    bench = "idle"
    conditions = ("connections",)

    connections: int
    base_rss_mb: float | None
    idle_rss_mb: float | None
    kb_per_connection: float | None
    after_64kb_rss_mb: float | None
    kb_per_connection_after_64kb: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Join(Result):
    """Peers that connect and register at once."""

    bench = "join"
    conditions = ("presence", "joins")

    presence: str
    joins: int
    seconds: float
    joins_per_second: float
    relay_cpu_us_per_join: float | None
    generator_cpu_us_per_join: float
    frames_sent: int
    kb_sent: float
    verify_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Broadcast(Result):
    """One sender, and everyone hears it."""

    bench = "broadcast"
    conditions = ("payload_bytes", "recipients")

    payload_bytes: int
    recipients: int
    broadcasts: int
    seconds: float
    deliveries_per_second: float
    relay_cpu_us_per_recipient: float | None
    generator_cpu_us_per_recipient: float
    verify_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxRun(Result):
    """Messages to peers that are away, each receipt behind a sync; then they come for them."""

    bench = "mailbox"
    conditions = ("payload_bytes", "recipients", "messages")

    payload_bytes: int
    recipients: int
    messages: int
    accepts_per_second: float
    accept_relay_cpu_us_per_message: float | None
    drains_per_second: float
    drain_relay_cpu_us_per_message: float | None
    rss_before_mb: float | None
    rss_stored_mb: float | None
    rss_drained_mb: float | None
    verify_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowReader(Result):
    """One peer that never reads, and what its sender's other messages have to suffer."""

    bench = "slow-reader"
    conditions = ("megabytes",)

    megabytes: float
    rss_before_mb: float | None
    rss_peak_mb: float | None
    rss_growth_mb: float | None
    others_sent: int
    others_lost: int
    others_p50_ms: float
    others_p99_ms: float
    others_max_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Soak(Result):
    """Half of what the relay can, for long; slopes are those of the second half, per hour."""

    bench = "soak"
    conditions = ("minutes",)

    minutes: float
    rate_per_second: float
    messages: int
    lost: int
    relay_cpu_us_per_message: float | None
    rss_first_mb: float | None
    rss_last_mb: float | None
    rss_mb_per_hour: float | None
    rss_mb_per_hour_error: float | None
    files_first: int | None
    files_last: int | None
    threads_first: int | None
    threads_last: int | None
    is_flat: bool | None
    sampled_minutes: tuple[float, ...]
    sampled_rss_mb: tuple[float, ...]


KINDS: Mapping[str, type[Result]] = {
    kind.bench: kind
    for kind in (Throughput, Latency, Idle, Join, Broadcast, MailboxRun, SlowReader, Soak)
}
"""Every kind of result by the name of its bench, in the order of the page."""


def to_members(result: Result) -> dict[str, Any]:
    """Return a result as the members of a JSON object."""
    return {"bench": result.bench, **asdict(result)}


def from_members(members: Mapping[str, Any]) -> Result:
    """Return the result that `to_members` was given."""
    kind = KINDS[members["bench"]]
    known = {declared.name for declared in fields(kind)}
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in members.items()
        if name in known
    }
    read: Callable[..., Result] = kind
    return read(**values)
