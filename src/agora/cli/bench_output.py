"""What `agora bench` shows: bars while it works, tables at the end, and pictures."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from agora.bench.plot import PLOTS, draw
from agora.bench.report import Table, comparison, tables
from agora.bench.results import Result
from agora.bench.stage import Progress, Silent
from agora.errors import MissingExtraError

__all__ = ["check_installed", "progress_bars", "show_tables", "write_plot", "write_plots"]


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Draw bars on a terminal for the length of a ``with`` block; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield Silent()
        return
    console = _extra("rich.console").Console(stderr=True)
    with _extra("rich.progress").Progress(
        console=console, auto_refresh=False, transient=True
    ) as bars:
        yield _Bars(bars)


class _Bars:
    """One bar at a time, drawn twice a second at most: drawing costs the generator time too."""

    _INTERVAL = 0.5

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._task: Any = None
        self._next = 0.0

    def begin(self, what: str, total: float) -> None:
        """Show a new bar in the place of the last."""
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(what, total=total)
        self.reached(0.0)

    def reached(self, done: float) -> None:
        """Draw how far it is, if it is time to."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._INTERVAL
            self._bars.update(self._task, completed=done)
            self._bars.refresh()


def check_installed(*, tables: bool, plots: bool) -> None:
    """
    Tell now, and not after half an hour, that a part is missing which will be needed.

    Raises:
        MissingExtraError: With what to install.
    """
    if tables:
        _extra("rich.table")
    if plots:
        _extra("matplotlib.figure")


def show_tables(results: Sequence[Result], against: str | None = None) -> None:
    """Write tables of results to standard output, and how they compare with another relay's."""
    console = _extra("rich.console").Console()
    for table in tables(results):
        _show(console, table)
    if against:
        _show(console, comparison(results, against))


def _show(console: Any, table: Table) -> None:
    drawn = _extra("rich.table").Table(box=_extra("rich.box").SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(table.head):
        drawn.add_column(heading, justify="right" if number else "left")
    for line in table.lines:
        drawn.add_row(*line)
    console.print(table.title, style="bold", markup=False, highlight=False)
    console.print(drawn)


def write_plot(bench: str, results: Sequence[Result], file: Path) -> None:
    """Draw one bench; the file's name says in which format."""
    draw(_extra("matplotlib.figure"), bench, results, file)


def write_plots(results: Sequence[Result], folder: Path) -> Mapping[str, Path]:
    """Draw every bench that has results; return the files by the benches' names."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for bench in PLOTS:
        if any(result.bench == bench for result in results):
            drawn[bench] = folder / f"{bench}.svg"
            write_plot(bench, results, drawn[bench])
    return drawn


def _extra(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        raise MissingExtraError(
            f"{package} is not installed: install agora-relay[bench] for agora bench, "
            "in the clone by pip install '.[bench]'"
        ) from error
