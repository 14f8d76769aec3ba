"""
Pictures of results, by matplotlib: one for each bench.

Each is one or two panels of lines: a figure against the size that grew. Latencies are
drawn as a curve over percentiles, a soak as memory over time. The library is handed in,
as it comes with an extra; colours are readable on light and on dark pages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agora.bench.report import CONDITIONS, Group, condition, groups
from agora.bench.results import Result, Soak

__all__ = ["PLOTS", "Line", "Panel", "draw", "panels"]

_COLOURS = ("#2a78c8", "#d1622b", "#3a9a5c", "#9659b8", "#b59a2c", "#7a7a7a")
_GREY = "#808080"


@dataclass(frozen=True, slots=True)
class Line:
    """Points that belong together, and what they are called."""

    label: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """One system of axes."""

    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    is_log_x: bool = True
    ticks: tuple[tuple[float, str], ...] = ()


PLOTS: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    "throughput": (
        ("payload_bytes", "messages_per_second", "messages/s"),
        ("payload_bytes", "relay_cpu_us_per_message", "relay µs/message"),
        ("pairs", "relay_cpu_us_per_message", "relay µs/message"),
        ("idle", "relay_cpu_us_per_message", "relay µs/message"),
    ),
    "latency": (),
    "idle": (
        ("connections", "kb_per_connection", "KB per connection"),
        ("connections", "kb_per_connection_after_64kb", "KB, after a frame of 64 KB each"),
    ),
    "join": (
        ("joins", "joins_per_second", "joins/s"),
        ("joins", "relay_cpu_us_per_join", "relay µs/join"),
    ),
    "broadcast": (("recipients", "relay_cpu_us_per_recipient", "relay µs/recipient"),),
    "mailbox": (
        ("messages", "accepts_per_second", "accepts/s"),
        ("messages", "drains_per_second", "drains/s"),
    ),
    "slow-reader": (("megabytes", "rss_growth_mb", "relay MB more"),),
    "soak": (),
}
"""Which figures are drawn against which sizes."""

_PERCENTILES = ((50.0, "p50_ms"), (90.0, "p90_ms"), (99.0, "p99_ms"), (99.9, "p999_ms"))


# What is drawn: pure


def panels(bench: str, results: Sequence[Result]) -> list[Panel]:
    """Return what there is to draw of a bench."""
    found = [group for group in groups(results) if group.bench == bench]
    if bench == "latency":
        return [_percentiles(found)]
    if bench == "soak":
        runs = [run for group in found for run in group.runs if isinstance(run, Soak)]
        return [_memory(runs)]
    asked = [_growth(found, *axes) for axes in PLOTS[bench]]
    shown = [panel for panel in asked if any(len(line.points) > 1 for line in panel.lines)]
    return shown or asked[:1]


def _growth(found: Sequence[Group], size: str, figure: str, label: str) -> Panel:
    """Return a figure against one size; runs that differ in something else are lines apart."""
    lines: dict[tuple[Any, ...], list[tuple[float, float]]] = {}
    for group in found:
        if (value := group.value(figure)) is not None:
            key = group.runs[0].condition_but(size)
            lines.setdefault(key, []).append((getattr(group.runs[0], size), value))
    longest = max((len(points) for points in lines.values()), default=0)
    # Beside what was measured at several sizes, one size alone says nothing of growth.
    grown = {key: points for key, points in lines.items() if len(points) > 1 or longest <= 1}
    names = _labels([dict(key) for key in grown])
    drawn = (Line(*line) for line in zip(names, map(_in_order, grown.values()), strict=True))
    return Panel(CONDITIONS[size], label, tuple(drawn))


def _in_order(points: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    return tuple(sorted(points))


def _labels(conditions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return for each line what sets it apart from the others."""
    varying = [
        name
        for name in (conditions[0] if conditions else ())
        if len({one[name] for one in conditions}) > 1
    ]
    return [
        ", ".join(f"{CONDITIONS.get(name, '')} {condition(one[name])}".strip() for name in varying)
        for one in conditions
    ]


def _percentiles(found: Sequence[Group]) -> Panel:
    names = _labels([dict(group.runs[0].condition_but()) for group in found])
    lines = [
        Line(name, tuple((_nines(percent), group.value(field)) for percent, field in _PERCENTILES))
        for name, group in zip(names, found, strict=True)
    ]
    ticks = tuple((_nines(percent), f"{percent:g} %") for percent, _ in _PERCENTILES)
    return Panel("messages no slower", "ms", tuple(lines), ticks=ticks)


def _nines(percent: float) -> float:
    """Return where a percentile stands on an axis on which each further nine is one step."""
    return 100 / (100 - percent)


def _memory(runs: Sequence[Soak]) -> Panel:
    lines = [
        Line(run.relay, tuple(zip(run.sampled_minutes, run.sampled_rss_mb, strict=True)))
        for run in runs
    ]
    return Panel("minutes", "relay MB", tuple(lines), is_log_x=False)


# Drawing


def draw(library: Any, bench: str, results: Sequence[Result], file: Path) -> None:
    """
    Draw a bench into *file*, as SVG or PNG by its name.

    Args:
        library: ``matplotlib.figure``.
        bench: Which bench.
        results: What was found; that of other benches is left out.
        file: Where to.
    """
    drawn = panels(bench, results)
    columns = min(2, len(drawn))
    lines = -(-len(drawn) // columns)
    figure = library.Figure(figsize=(4.4 * columns + 0.6, 3.2 * lines), layout="constrained")
    for place, panel in enumerate(drawn, start=1):
        _draw_panel(figure.add_subplot(lines, columns, place), panel)
    # Nothing in the file tells of the day, so that equal figures make equal files.
    metadata = {"Date": None} if file.suffix == ".svg" else {}
    figure.savefig(file, metadata=metadata, facecolor="white")


def _draw_panel(axes: Any, panel: Panel) -> None:
    for line, colour in zip(panel.lines, _colours(), strict=False):
        xs, ys = zip(*line.points, strict=True)
        axes.plot(xs, ys, marker="o", markersize=4, color=colour, label=line.label or None)
    sizes = sorted({x for line in panel.lines for x, _ in line.points})
    if panel.is_log_x and sizes and sizes[-1] > 0:
        _spread_sizes(axes, panel, sizes)
    highest = max((y for line in panel.lines for _, y in line.points), default=0.0)
    axes.set_ylim(0, 1.15 * highest or 1.0)
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    axes.grid(visible=True, color=_GREY, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if any(line.label for line in panel.lines):
        axes.legend(fontsize="small", frameon=False)


def _spread_sizes(axes: Any, panel: Panel, sizes: Sequence[float]) -> None:
    """Give each decade the same width, and each size that was measured a tick of its own."""
    smallest = next(size for size in sizes if size > 0)
    axes.set_xscale("symlog", linthresh=smallest, linscale=0.3)
    ticks = panel.ticks or tuple((size, condition(size)) for size in sizes)
    axes.set_xticks([x for x, _ in ticks], [text for _, text in ticks])
    axes.minorticks_off()


def _colours() -> Iterator[str]:
    while True:
        yield from _COLOURS
