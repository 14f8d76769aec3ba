"""
Which benches there are, what each can be asked, and what all of them together ask.

One table: the command line is made from it, and so is the page, whose every figure
has the command beside it that takes it again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from agora.bench.letters import Dialect
from agora.bench.load.broadcast import broadcast
from agora.bench.load.idle import idle
from agora.bench.load.join import join_at_once
from agora.bench.load.latency import latency
from agora.bench.load.mailbox import mailbox
from agora.bench.load.slow_reader import slow_reader
from agora.bench.load.soak import soak
from agora.bench.load.throughput import throughput
from agora.bench.results import Result
from agora.relay.config import SETTINGS

__all__ = ["BENCHES", "Bench", "Option", "Task", "full_plan", "quick_plan"]


@dataclass(frozen=True, slots=True)
class Option:
    """
    What a bench can be asked: several values make several measurements.

    Attributes:
        flag: Its name on the command line.
        argument: Its name as an argument of the bench.
        default: What it is unless given; None leaves it to the bench.
        help: What it is, with its unit.
        least: The smallest number that makes sense.
        choices: The words it may be, where it is no number.
    """

    flag: str
    argument: str
    default: int | float | str | None
    help: str
    least: float = 1
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bench:
    """One bench: how it is run, what it can be asked, and which dialect it usually speaks."""

    run: Callable[..., Awaitable[Result]]
    help: str
    options: tuple[Option, ...]
    dialect: Dialect = Dialect.AGORA
    runs: int = 2
    can_compare: bool = False


_PAYLOAD = Option("payload", "payload_bytes", 500, "bytes of each payload, as JSON", least=64)
_PAIRS = Option("pairs", "pairs", 4, "how many peers send, each to another one")
_SECONDS = Option("seconds", "seconds", 5.0, "about how long each run takes", least=0.05)

BENCHES: Mapping[str, Bench] = {
    "throughput": Bench(
        throughput,
        "As many messages as the relay takes.",
        (
            _PAYLOAD,
            _PAIRS,
            Option("idle", "idle", 0, "further connections that say nothing", least=0),
            _SECONDS,
            Option(
                "read-every",
                "read_every_ms",
                2.0,
                "milliseconds from one reading to the next; 0 reads each packet at once",
                least=0,
            ),
        ),
        dialect=Dialect.REFERENCE,
        can_compare=True,
    ),
    "latency": Bench(
        latency,
        "How long a message takes at a given rate. An open loop: each leaves when its time has "
        "come, and its latency counts from then.",
        (
            _PAYLOAD,
            _PAIRS,
            Option("rate", "rate_per_second", 1000.0, "messages a second, of all pairs together"),
            _SECONDS,
        ),
        dialect=Dialect.REFERENCE,
        can_compare=True,
    ),
    "idle": Bench(
        idle,
        "Memory of connections on which nothing happens; and after a frame of 64 KB on each.",
        (Option("connections", "connections", 1000, "registered peers that say nothing"),),
    ),
    "join": Bench(
        join_at_once,
        "Many peers that come at once, and what the relay tells of them.",
        (
            Option("joins", "joins", 1000, "how many peers come"),
            Option(
                "presence",
                "presence",
                "none",
                "of whom each wants to hear; always all in the reference dialect",
                choices=("none", "all"),
            ),
        ),
    ),
    "broadcast": Bench(
        broadcast,
        "One sender, and everyone hears it.",
        (
            Option("recipients", "recipients", 1000, "how many hear it"),
            Option("broadcasts", "broadcasts", 100, "how many are told"),
            _PAYLOAD,
        ),
    ),
    "mailbox": Bench(
        mailbox,
        "Messages to peers that are away, each receipt behind a sync; and their way to them.",
        (
            Option("messages", "messages", 10_000, "how many, to all recipients together"),
            Option("recipients", "recipients", 10, "how many peers are away"),
            _PAYLOAD,
        ),
    ),
    "slow-reader": Bench(
        slow_reader,
        "One peer that never reads, and how the others fare.",
        (
            Option("megabytes", "megabytes", 50.0, "how much is sent to it", least=0.1),
            Option("rate", "megabytes_per_second", 8.0, "megabytes a second", least=0.1),
        ),
    ),
    "soak": Bench(
        soak,
        "Half of what the relay can, for long: whether it stays as it was.",
        (
            Option("minutes", "minutes", 30.0, "how long", least=0.01),
            _PAIRS,
            _PAYLOAD,
            Option(
                "rate",
                "rate_per_second",
                None,
                "messages a second; else half of what is measured first",
            ),
        ),
        dialect=Dialect.REFERENCE,
        runs=1,
    ),
}
"""Every bench by its name, in the order of the page."""


@dataclass(frozen=True, slots=True)
class Task:
    """
    One command's worth of measuring.

    Attributes:
        bench: Its name.
        given: What it is asked, by flag; several values of one are measured in turn.
        dialect: What is spoken; the bench's usual one unless given.
        runs: How often each is run; as usual unless given.
        relay_options: Settings of a relay of our own.
        is_compared: Whether another relay is measured in turn, where one is given and
            the bench can compare.
    """

    bench: str
    given: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    dialect: Dialect | None = None
    runs: int | None = None
    relay_options: tuple[str, ...] = ()
    is_compared: bool = True

    @property
    def times(self) -> int:
        """How often each measurement is repeated."""
        return self.runs or BENCHES[self.bench].runs

    @property
    def spoken(self) -> Dialect:
        """The dialect."""
        return self.dialect or BENCHES[self.bench].dialect

    def measurements(self) -> Iterator[dict[str, Any]]:
        """Yield the arguments of the bench, for every combination of what is given."""
        options = {option.flag: option for option in BENCHES[self.bench].options}
        names = [options[flag].argument for flag in self.given]
        for values in product(*self.given.values()):
            yield dict(zip(names, values, strict=True))

    @property
    def command(self) -> str:
        """What to type to measure it again."""
        words = [f"--{flag} {','.join(map(_word, values))}" for flag, values in self.given.items()]
        if self.dialect:
            words.append(f"--dialect {self.dialect}")
        if self.runs:
            words.append(f"--runs {self.runs}")
        words += [f"--relay-option {option}" for option in self.relay_options]
        return " ".join(["agora bench", self.bench, *words])


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def full_plan(*, soak_minutes: float = 30.0) -> list[Task]:
    """Return everything, at three sizes; some twenty minutes, and the soak."""
    return [
        Task("throughput", {"payload": (100, 500, 1_000, 65_536)}),
        # Another relay is asked for what it can do: it may tell each of a thousand of all others.
        Task("throughput", {"pairs": (1, 50, 500)}, is_compared=False),
        Task("throughput", {"idle": (100, 1_000, 10_000)}, is_compared=False),
        Task("throughput", {"payload": (500,)}, dialect=Dialect.AGORA, is_compared=False),
        *_verified_once(),
        Task("latency", {"rate": (100.0, 1_000.0, 3_000.0)}),
        Task("latency", {"rate": (1_000.0,)}, dialect=Dialect.AGORA, is_compared=False),
        Task("idle", {"connections": (100, 1_000, 10_000)}),
        Task("idle", {"connections": (100, 1_000)}, dialect=Dialect.REFERENCE),
        Task("join", {"joins": (100, 1_000, 5_000, 10_000)}),
        Task("join", {"joins": (100, 1_000, 5_000), "presence": ("all",)}),
        Task("join", {"joins": (100, 1_000)}, dialect=Dialect.REFERENCE),
        Task("broadcast", {"recipients": (100, 1_000, 10_000)}),
        Task("mailbox", {"messages": (1_000, 100_000)}),
        Task("mailbox", {"messages": (1_000_000,)}, runs=1),
        Task("slow-reader", {"megabytes": (5.0, 50.0, 200.0)}, runs=1),
        Task("slow-reader", {"megabytes": (50.0,)}, dialect=Dialect.REFERENCE, runs=1),
        Task("soak", {"minutes": (soak_minutes,)}),
    ]


def quick_plan() -> list[Task]:
    """Return a little of everything, in seconds: to see that it works, not how fast it is."""
    return [
        Task("throughput", {"payload": (100, 500), "seconds": (0.1,)}, runs=2),
        Task("latency", {"rate": (200.0,), "seconds": (0.3,)}, runs=1),
        Task("idle", {"connections": (10,)}, runs=1),
        Task("join", {"joins": (20,), "presence": ("none", "all")}, runs=1),
        Task("broadcast", {"recipients": (10,), "broadcasts": (5,)}, runs=1),
        Task("mailbox", {"messages": (50,), "recipients": (2,)}, runs=1),
        Task("slow-reader", {"megabytes": (0.5,)}, runs=1),
        Task("soak", {"minutes": (0.02,), "rate": (200.0,)}, runs=1),
    ]


def _verified_once() -> list[Task]:
    """Return the same for a relay that trusts a proven session, where there is such a setting."""
    if "verify" not in SETTINGS:
        return []
    return [
        Task(
            "throughput",
            {"payload": (500,)},
            dialect=Dialect.AGORA,
            relay_options=("verify=session",),
            is_compared=False,
        )
    ]
