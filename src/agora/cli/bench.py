"""
``agora bench``: what a relay costs, measured from outside by a load generator.

The relay is another process: one of our own, started for the bench and removed after
it, or whichever ``--relay`` names.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, TypeVar

import click

from agora.bench.letters import Dialect
from agora.bench.load.broadcast import broadcast
from agora.bench.load.idle import idle
from agora.bench.load.join import join_at_once
from agora.bench.load.latency import latency
from agora.bench.load.mailbox import mailbox
from agora.bench.load.slow_reader import slow_reader
from agora.bench.load.soak import soak
from agora.bench.load.throughput import throughput
from agora.bench.relays import Target, own_relay
from agora.bench.report import COLUMNS, groups, rows
from agora.bench.results import Result, to_members
from agora.bench.stage import Progress, Silent, Stage
from agora.cli.open_files import raise_open_files
from agora.cli.options import Asked, check_url, json_option
from agora.errors import MissingExtraError

__all__ = ["bench"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


@click.group()
@json_option
def bench() -> None:
    """
    Measure what a relay costs, in a process of its own.

    Starts a relay for it, with rate limits off and wide bounds, or measures the one
    that --relay names. Every figure has the generator's share and the price of one
    signature beside it, and is taken twice.
    """


# What all of them can be asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Which relay, spoken with how, how often, and what comes of the results."""

    relay: str | None
    relay_pid: int | None
    relay_option: tuple[str, ...]
    dialect: str
    runs: int
    options: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        pairs = (option.partition("=") for option in self.relay_option)
        object.__setattr__(self, "options", {name: value for name, _, value in pairs})

    @contextmanager
    def target(self) -> Iterator[Target]:
        """Have the relay for the length of a ``with`` block."""
        if self.relay:
            check_url(self.relay)
            yield Target(self.relay, self.relay_pid)
            return
        with own_relay(self.options) as target:
            click.echo(f"agora relay {' '.join(target.options)}", err=True)
            yield target


def _bench_options(dialect: Dialect, runs: int = 2) -> Callable[[_Command], _Command]:
    """Decorate a bench with the options that all have, its own usual dialect among them."""
    options = [
        click.option(
            "--relay", metavar="URL", help="measure this relay; else one is started for it"
        ),
        click.option(
            "--relay-pid",
            type=int,
            metavar="PID",
            help="its process here, to see its processor time and memory",
        ),
        click.option(
            "--relay-option",
            multiple=True,
            metavar="NAME=VALUE",
            help="a setting for the relay that is started, such as ack-timeout=2; "
            "repeatable; NAME alone for what takes no value",
        ),
        click.option(
            "--dialect",
            type=click.Choice([str(one) for one in Dialect]),
            default=str(dialect),
            show_default=True,
            help="what to speak; agora/1 proves keys, acks, and counts receipts",
        ),
        click.option(
            "--runs", type=click.IntRange(1), default=runs, show_default=True, help="how often"
        ),
        json_option,
    ]

    def decorate(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _number(
    name: str, default: float, help: str, *, least: float = 1
) -> Callable[[_Command], _Command]:
    whole = isinstance(default, int)
    kind: Any = click.IntRange(int(least)) if whole else click.FloatRange(least)
    metavar = "N" if whole else "NUMBER"
    return click.option(
        name, type=kind, default=default, show_default=True, help=help, metavar=metavar
    )


_payload = _number("--payload", 500, "bytes of each payload, as JSON", least=64)
_pairs = _number("--pairs", 4, "how many peers send, each to another one")


# The benches


@bench.command("throughput")
@_payload
@_pairs
@_number("--seconds", 5.0, "about how long each run takes", least=0.05)
@_bench_options(Dialect.REFERENCE)
@click.pass_obj
def _throughput(asked: Asked, /, payload: int, pairs: int, seconds: float, **options: Any) -> None:
    """As many messages as the relay takes."""

    def run(stage: Stage) -> Awaitable[Result]:
        return throughput(stage, payload_bytes=payload, pairs=pairs, seconds=seconds)

    _measure(asked, Asking(**options), run)


@bench.command("latency")
@_payload
@_pairs
@_number("--rate", 1000.0, "messages a second, of all pairs together", least=1)
@_number("--seconds", 5.0, "how long each run takes", least=0.05)
@_bench_options(Dialect.REFERENCE)
@click.pass_obj
def _latency(
    asked: Asked, /, payload: int, pairs: int, rate: float, seconds: float, **options: Any
) -> None:
    """
    How long a message takes at a given rate.

    An open loop: each message leaves when its time has come, and its latency counts
    from that time.
    """

    def run(stage: Stage) -> Awaitable[Result]:
        return latency(
            stage, payload_bytes=payload, pairs=pairs, rate_per_second=rate, seconds=seconds
        )

    _measure(asked, Asking(**options), run)


@bench.command("idle")
@_number("--connections", 1000, "registered peers that say nothing")
@_bench_options(Dialect.AGORA)
@click.pass_obj
def _idle(asked: Asked, /, connections: int, **options: Any) -> None:
    """Memory of connections on which nothing happens, also after a frame of 64 KB each."""

    def run(stage: Stage) -> Awaitable[Result]:
        return idle(stage, connections=connections)

    _measure(asked, Asking(**options), run, is_fresh=True)


@bench.command("join")
@_number("--joins", 1000, "how many peers come at once")
@click.option(
    "--presence",
    type=click.Choice(["none", "all"]),
    default="none",
    show_default=True,
    help="whom each wants to hear of; all, in the reference dialect",
)
@_bench_options(Dialect.AGORA)
@click.pass_obj
def _join(asked: Asked, /, joins: int, presence: str, **options: Any) -> None:
    """Many peers that come at once, and what the relay tells of them."""

    def run(stage: Stage) -> Awaitable[Result]:
        return join_at_once(stage, joins=joins, presence=presence == "all")

    _measure(asked, Asking(**options), run, is_fresh=True)


@bench.command("broadcast")
@_number("--recipients", 1000, "how many hear it")
@_number("--broadcasts", 200, "how many are told")
@_payload
@_bench_options(Dialect.AGORA)
@click.pass_obj
def _broadcast(
    asked: Asked, /, recipients: int, broadcasts: int, payload: int, **options: Any
) -> None:
    """One sender, and everyone hears it."""

    def run(stage: Stage) -> Awaitable[Result]:
        return broadcast(stage, recipients=recipients, broadcasts=broadcasts, payload_bytes=payload)

    _measure(asked, Asking(**options), run)


@bench.command("mailbox")
@_number("--messages", 10000, "how many, to all recipients together")
@_number("--recipients", 10, "how many peers are away")
@_payload
@_bench_options(Dialect.AGORA)
@click.pass_obj
def _mailbox(asked: Asked, /, messages: int, recipients: int, payload: int, **options: Any) -> None:
    """Messages to peers that are away, and their way to them."""

    def run(stage: Stage) -> Awaitable[Result]:
        return mailbox(stage, messages=messages, recipients=recipients, payload_bytes=payload)

    _measure(asked, Asking(**options), run, is_fresh=True)


@bench.command("slow-reader")
@_number("--megabytes", 50.0, "how much is sent to a peer that never reads", least=0.1)
@_number("--rate", 8.0, "megabytes a second", least=0.1)
@_bench_options(Dialect.AGORA)
@click.pass_obj
def _slow_reader(asked: Asked, /, megabytes: float, rate: float, **options: Any) -> None:
    """One peer that never reads, and how the others fare."""

    def run(stage: Stage) -> Awaitable[Result]:
        return slow_reader(stage, megabytes=megabytes, megabytes_per_second=rate)

    _measure(asked, Asking(**options), run, is_fresh=True)


@bench.command("soak")
@_number("--minutes", 30.0, "how long", least=0.01)
@_pairs
@_payload
@click.option(
    "--rate",
    type=click.FloatRange(1),
    metavar="NUMBER",
    help="messages a second; else half of what is measured first",
)
@_bench_options(Dialect.REFERENCE, runs=1)
@click.pass_obj
def _soak(
    asked: Asked, /, minutes: float, pairs: int, payload: int, rate: float | None, **options: Any
) -> None:
    """Half of what the relay can, for long: whether it stays as it was."""

    def run(stage: Stage) -> Awaitable[Result]:
        return soak(
            stage, minutes=minutes, pairs=pairs, payload_bytes=payload, rate_per_second=rate
        )

    _measure(asked, Asking(**options), run)


# Running, and showing what came of it

_Run = Callable[[Stage], Awaitable[Result]]


def _measure(asked: Asked, asking: Asking, run: _Run, *, is_fresh: bool = False) -> None:
    """Do the runs, each on a relay of its own where memory counts, and show them."""
    raise_open_files(_OPEN_FILES)
    results: list[Result] = []
    with _progress(asked) as progress:
        if is_fresh:
            for _ in range(asking.runs):
                with asking.target() as target:
                    results += _play(target, asking, progress, run, 1)
        else:
            with asking.target() as target:
                results += _play(target, asking, progress, run, asking.runs)
    show(asked, results)


_OPEN_FILES = 60_000


def _play(
    target: Target, asking: Asking, progress: Progress, run: _Run, times: int
) -> list[Result]:
    stage = Stage(target, Dialect(asking.dialect), progress)

    async def play() -> list[Result]:
        return [await run(stage) for _ in range(times)]

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(play())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] = import_module("uvloop").new_event_loop
    except ModuleNotFoundError:
        return None
    return factory


def show(asked: Asked, results: list[Result]) -> None:
    """Write results: objects for programs, tables for people."""
    if asked.as_json:
        for result in results:
            asked.say("", to_members(result))
        return
    table_of = _extra("rich.table").Table
    console = _extra("rich.console").Console()
    shown: dict[str, Any] = {}
    for group in groups(results):
        columns = COLUMNS[group.bench]
        if group.bench not in shown:
            table = shown[group.bench] = table_of(title=group.bench)
            for column in columns:
                table.add_column(column.heading, justify="right")
            table.add_column("runs")
        for row in rows(group):
            shown[group.bench].add_row(*row.cells, style="bold" if row.is_mean else None)
    for table in shown.values():
        console.print(table)


@contextmanager
def _progress(asked: Asked) -> Iterator[Progress]:
    """Draw bars on a terminal for the length of a ``with`` block."""
    if not sys.stderr.isatty():
        yield Silent()
        return
    rich = _extra("rich.progress")
    console = _extra("rich.console").Console(stderr=True)
    with rich.Progress(console=console, auto_refresh=False, transient=True) as bars:
        yield _Bars(bars)


class _Bars:
    """One bar at a time; drawn a few times a second, as drawing costs too."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._task: Any = None

    def begin(self, what: str, total: float) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(what, total=total)
        self._bars.refresh()

    def reached(self, done: float) -> None:
        self._bars.update(self._task, completed=done)


def _extra(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{error.name} is not installed: install agora-relay[bench] for agora bench, "
            "in the clone by pip install '.[bench]'"
        ) from error
