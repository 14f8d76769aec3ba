"""
``agora bench``: what a relay costs, measured from outside by a load generator.

The relay is another process: one of our own, started for each run and removed after
it, or whichever ``--relay`` names. The commands are made from the table of benches in
:mod:`agora.bench.plan`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import click

from agora.bench.letters import Dialect
from agora.bench.measure import Machine
from agora.bench.page import performance_page
from agora.bench.plan import BENCHES, Bench, Option, Task, full_plan, quick_plan
from agora.bench.play import Relays, play
from agora.bench.record import Record, read_record
from agora.bench.relays import WIDE, Target, flags_of
from agora.bench.results import Result, to_members
from agora.cli.bench_output import (
    check_installed,
    progress_bars,
    show_tables,
    write_plot,
    write_plots,
)
from agora.cli.open_files import raise_open_files
from agora.cli.options import Asked, check_websocket_url, json_option
from agora.cli.output import Members, json_line, some
from agora.cli.signals import ended_by_sigterm
from agora.errors import AgoraError, ConfigurationError

__all__ = ["bench"]

_OPEN_FILES = 40_000
"""Connections of the largest bench, with room to spare."""


@click.group()
@json_option
def bench() -> None:
    """
    Measure what a relay costs, in a process of its own.

    Starts a relay for each run, with rate limits off and wide bounds, or measures the
    one that --relay names. Options that are sizes take several, with commas between
    them. Every figure has the generator's own share and the price of one signature
    beside it, and is taken twice.
    """


# Options


class _Several(click.ParamType[tuple[Any, ...]]):
    """One value or more, with commas between them."""

    name = "several"

    def __init__(self, option: Option) -> None:
        self._option = option
        if option.choices:
            self._kind: click.ParamType[Any] = click.Choice(option.choices)
        elif isinstance(option.default, int):
            self._kind = click.IntRange(int(option.least))
        else:
            self._kind = click.FloatRange(option.least)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """Read what was typed, or take what is read already."""
        if isinstance(value, tuple):
            return value
        return tuple(self._kind.convert(part, param, ctx) for part in str(value).split(","))


def _option(option: Option) -> click.Option:
    shown = "" if option.default is None else f"  [default: {_plain(option.default)}]"
    metavar = f"[{'|'.join(option.choices)}]" if option.choices else "N"
    return click.Option(
        [f"--{option.flag}", _asked(option)],
        type=_Several(option),
        metavar=f"{metavar},…",
        help=f"{option.help}{shown}",
    )


def _plain(value: float | str) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _relay_options(*, against: bool) -> list[click.Parameter]:
    """Return the options for which relays are measured."""
    options: list[click.Parameter] = [
        click.Option(
            ["--relay"],
            metavar="URL",
            help="measure this relay; else one is started for each run",
        ),
        click.Option(
            ["--relay-pid"],
            type=int,
            metavar="PID",
            help="its process here, to see its processor time and memory",
        ),
        click.Option(
            ["--relay-option"],
            multiple=True,
            metavar="NAME=VALUE",
            help="a setting for relays that are started, such as ack-timeout=2; NAME alone for "
            "what takes no value; repeatable",
        ),
    ]
    if against:
        options += [
            click.Option(["--against"], metavar="URL", help="measure this relay too, in turn"),
            click.Option(["--against-pid"], type=int, metavar="PID", help="its process here"),
            click.Option(
                ["--against-name"],
                metavar="NAME",
                default="the other",
                show_default=True,
                help="what to call it",
            ),
        ]
    return options


def _relays(
    relay: str | None,
    relay_pid: int | None,
    relay_option: tuple[str, ...],
    against: str | None = None,
    against_pid: int | None = None,
    against_name: str = "",
) -> Relays:
    for url in filter(None, (relay, against)):
        check_websocket_url(url)
    if relay and relay_option:
        raise ConfigurationError("--relay-option is for relays that are started here, not --relay")
    return Relays(
        Target(relay, relay_pid) if relay else None,
        relay_option,
        Target(against, against_pid, against_name) if against else None,
    )


# One bench


def _command(name: str, one: Bench) -> click.Command:
    """Make the command of a bench."""

    def measure(asked: Asked, /, dialect: str, runs: int, plot: str | None, **options: Any) -> None:
        given = {option.flag: options.pop(_asked(option)) for option in one.options}
        given = {flag: values for flag, values in given.items() if values}
        check_installed(tables=not asked.as_json, plots=plot is not None)
        relays = _relays(**options)
        task = Task(name, given, dialect=Dialect(dialect), runs=runs)
        results = list(_measure(asked, [task], relays))
        if plot:
            write_plot(name, results, Path(plot))
        if not asked.as_json:
            show_tables(results, relays.against.name if relays.against else None)

    options = [
        *map(_option, one.options),
        click.Option(
            ["--dialect"],
            type=click.Choice([str(dialect) for dialect in Dialect]),
            default=str(one.dialect),
            metavar=f"[{'|'.join(Dialect)}]",
            show_default=True,
            help="what to speak; agora/1 proves keys, acks, and counts receipts",
        ),
        click.Option(
            ["--runs"],
            type=click.IntRange(1),
            default=one.runs,
            metavar="N",
            show_default=True,
            help="how often to measure",
        ),
        *_relay_options(against=one.can_compare),
        click.Option(["--plot"], metavar="FILE", help="draw it, as SVG or PNG by the file's name"),
    ]
    made = click.Command(name, callback=click.pass_obj(measure), params=options, help=one.help)
    return json_option(made)


def _asked(option: Option) -> str:
    return f"asked_{option.argument}"


for _name, _bench in BENCHES.items():
    bench.add_command(_command(_name, _bench))


# All of them


def _all(
    asked: Asked,
    /,
    quick: bool,
    soak_minutes: float,
    save: str | None,
    read: str | None,
    page: str | None,
    plot: str | None,
    **options: Any,
) -> None:
    """
    Every bench at three sizes, and the page of figures.

    It takes about half an hour, and as long as the soak. --save (or --json) writes
    down what is found, --from reads it.
    """
    check_installed(tables=not asked.as_json, plots=plot is not None)
    failed: list[Task] = []
    if read:
        record = read_record(Path(read).read_text("utf-8").splitlines())
    else:
        relays = _relays(**options)
        plan = quick_plan() if quick else full_plan(soak_minutes=soak_minutes)
        with Path(save).open("w", encoding="utf-8") if save else nullcontext() as file:
            record = _measure_all(asked, plan, relays, file, failed)
    plots = write_plots(record.results, Path(plot)) if plot else {}
    if page:
        links = {
            name: os.path.relpath(file, Path(page).parent).replace(os.sep, "/")
            for name, file in plots.items()
        }
        Path(page).write_text(performance_page(record, links), "utf-8")
    if read is None or not (page or plot):
        _show(asked, record)
    if failed:
        raise AgoraError(f"{some(len(failed), 'bench', 'es')} could not be carried out, see above")


def _measure_all(
    asked: Asked, plan: list[Task], relays: Relays, file: TextIO | None, failed: list[Task]
) -> Record:
    """Measure what is planned; each thing found is written down at once."""
    record = Record(
        machine=Machine.here(),
        taken=datetime.now(UTC).strftime("%Y-%m-%d"),
        settings=" ".join(flags_of(WIDE)),
        against=relays.against.name if relays.against else None,
    )
    if asked.as_json:
        asked.say("", record.members())
    _write_down(file, record.members())
    found: list[Result] = []
    for result in _measure(asked, plan, relays, failed):
        _write_down(file, to_members(result))
        found.append(result)
    return replace(record, results=tuple(found))


def _write_down(file: TextIO | None, members: Members) -> None:
    if file:
        file.write(f"{json_line(members)}\n")
        file.flush()


def _show(asked: Asked, record: Record) -> None:
    if not asked.as_json:
        show_tables(record.results, record.against)


bench.add_command(
    json_option(
        click.Command(
            "all",
            callback=click.pass_obj(_all),
            help=_all.__doc__,
            params=[
                click.Option(["--quick"], is_flag=True, help="a little of everything, in seconds"),
                click.Option(
                    ["--soak-minutes"],
                    type=click.FloatRange(0.01),
                    default=30.0,
                    show_default=True,
                    metavar="N",
                    help="how long the soak is",
                ),
                click.Option(["--save"], metavar="FILE", help="write down what is found"),
                click.Option(
                    ["--from", "read"],
                    metavar="FILE",
                    help="take what was written down, measure nothing",
                ),
                click.Option(["--page"], metavar="FILE", help="write the page of figures"),
                click.Option(["--plot"], metavar="FOLDER", help="draw a picture for each bench"),
                *_relay_options(against=True),
            ],
        )
    )
)


def _measure(
    asked: Asked, tasks: Iterable[Task], relays: Relays, failed: list[Task] | None = None
) -> Iterator[Result]:
    """
    Carry out *tasks*; yield what is found, which programs get to read at once.

    What goes wrong ends it; with *failed* it is told, the task is put there, and the
    next one begins.
    """
    raise_open_files(_OPEN_FILES)
    if not relays.named:
        asked.remark(f"relays are started with {' '.join(flags_of(WIDE))}")
    with ended_by_sigterm(), progress_bars() as progress:
        for task in tasks:
            try:
                for result in play(task, relays, progress):
                    if asked.as_json:
                        asked.say("", to_members(result))
                    yield result
            except (AgoraError, OSError) as error:
                if failed is None:
                    raise
                failed.append(task)
                asked.remark(f"{task.command}: {error}")
