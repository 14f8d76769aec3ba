"""
The page of figures, docs/explanation/performance.md: written from a record, and never by hand.

Text that does not depend on figures is here; whatever is a number comes from the
record, with the command beside it that takes it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from textwrap import fill
from typing import Any, Literal

from agora.bench.plan import BENCHES, full_plan
from agora.bench.plot import PLOTS, panels
from agora.bench.record import Record
from agora.bench.report import (
    AGREEMENT,
    Group,
    Table,
    comparison,
    condition,
    groups,
    ratios,
    shown,
    tables,
)
from agora.bench.results import Result

__all__ = ["GOALS", "SECTIONS", "Goal", "performance_page"]


# What is aimed at


@dataclass(frozen=True, slots=True)
class Goal:
    """
    A figure that is aimed at.

    Attributes:
        what: What it is, in words.
        bench: Which bench finds it.
        figure: The field that holds it.
        sign: On which side of the bound it should be: ``≤``, ``≥`` or ``=``.
        bound: The bound.
        unit: Its unit, behind the bound.
        command: What takes it again.
        where: Under which conditions.
        decimals: How many are shown.
        is_ratio: Whether it counts in terms of the other relay.
    """

    what: str
    bench: str
    figure: str
    sign: Literal["≤", "≥", "="]
    bound: float
    unit: str
    command: str
    where: Mapping[str, Any] = field(default_factory=dict)
    decimals: int = 0
    is_ratio: bool = False

    @property
    def target(self) -> str:
        """What is aimed at, as people read it."""
        return self.unit if self.sign == "=" else f"{self.sign} {self.bound:,g} {self.unit}"

    def is_met_by(self, value: float) -> bool:
        """Tell whether a figure is what is aimed at."""
        if self.sign == "=":
            return value == self.bound
        return value <= self.bound if self.sign == "≤" else value >= self.bound


_MESSAGE = {"payload_bytes": 500, "idle": 0, "read_every_ms": 2.0, "dialect": "reference"}
_MANY, _ONE = {**_MESSAGE, "pairs": 4}, {**_MESSAGE, "pairs": 1}
_SESSION = {"relay": "agora --verify=session", "payload_bytes": 500}
_RATE = {"rate_per_second": 1000.0, "payload_bytes": 500, "dialect": "reference"}
_QUIET = {"connections": 1000, "dialect": "agora/1"}
_JOINS = {"joins": 5000, "dialect": "agora/1"}
_MAIL = {"messages": 100_000}
_STUCK = {"megabytes": 50.0, "dialect": "agora/1"}

_PER_VERIFY = "relay_cpu_per_verify"
_PROVEN = "agora bench throughput --dialect agora/1 --relay-option verify=session"
_BESIDE = "agora bench throughput --against URL --against-pid PID"
_FLEET = "agora bench join --joins 5000"
_BULK = "agora bench mailbox --messages 100000"

# fmt: off
GOALS = (
    Goal("processor time of the relay per verified 500-byte message, four pairs",
         "throughput", _PER_VERIFY, "≤", 1.5, "× one verify", "agora bench throughput",
         _MANY, decimals=2),
    Goal("the same, one pair",
         "throughput", _PER_VERIFY, "≤", 1.5, "× one verify", "agora bench throughput --pairs 1",
         _ONE, decimals=2),
    Goal("verified messages per second, beside the reference in the same run",
         "throughput", "messages_per_second", "≥", 4.5, "× the reference", _BESIDE,
         _MANY, decimals=2, is_ratio=True),
    Goal("processor time per message of a proven sender, `--verify session`",
         "throughput", _PER_VERIFY, "≤", 0.5, "× one verify", _PROVEN,
         _SESSION, decimals=2),
    Goal("latency at 1,000 messages/s: half of all",
         "latency", "p50_ms", "≤", 0.4, "ms", "agora bench latency", _RATE, decimals=2),
    Goal("latency at 1,000 messages/s: 99 of 100",
         "latency", "p99_ms", "≤", 1.5, "ms", "agora bench latency", _RATE, decimals=2),
    Goal("memory per idle connection",
         "idle", "kb_per_connection", "≤", 12, "KB", "agora bench idle", _QUIET, decimals=1),
    Goal("memory of the relay without connections",
         "idle", "base_rss_mb", "≤", 60, "MB", "agora bench idle", _QUIET, decimals=1),
    Goal("memory per idle connection after a frame of 64 KB on each",
         "idle", "kb_per_connection_after_64kb", "≤", 16, "KB", "agora bench idle",
         _QUIET, decimals=1),
    Goal("5,000 proven joins at once, `presence: none`",
         "join", "joins_per_second", "≥", 2000, "a second", _FLEET,
         {**_JOINS, "presence": "none"}),
    Goal("5,000 proven joins at once, `presence: all`",
         "join", "joins_per_second", "≥", 500, "a second", f"{_FLEET} --presence all",
         {**_JOINS, "presence": "all"}),
    Goal("fan-out: processor time per recipient of a broadcast",
         "broadcast", "relay_cpu_us_per_recipient", "≤", 8, "µs", "agora bench broadcast",
         {"recipients": 1000}, decimals=1),
    Goal("accepted for offline recipients, each receipt behind a sync",
         "mailbox", "accepts_per_second", "≥", 8000, "a second", _BULK, _MAIL),
    Goal("drained by recipients that return",
         "mailbox", "drains_per_second", "≥", 15_000, "a second", _BULK, _MAIL),
    Goal("memory of the relay for a peer that never reads, to whom 50 MB are sent",
         "slow-reader", "rss_growth_mb", "≤", 8, "MB more", "agora bench slow-reader",
         _STUCK, decimals=1),
    Goal("messages of its sender to others that were lost meanwhile",
         "slow-reader", "others_lost", "=", 0, "none", "agora bench slow-reader", _STUCK),
    Goal("half an hour at half load: memory, files and threads",
         "soak", "is_flat", "=", True, "flat", "agora bench soak"),
    Goal("messages lost in that half hour",
         "soak", "lost", "=", 0, "none", "agora bench soak"),
)
# fmt: on
"""What the relay is built to reach, each with the command that takes the figure."""


def _found(goal: Goal, record: Record) -> Any:
    """Return the figure of a goal; None where it was not measured."""
    for group in groups(record.results):
        if group.bench != goal.bench or not _fits(group, goal.where, record.against):
            continue
        if not goal.is_ratio:
            return group.value(goal.figure)
        for ratio in ratios(record.results, record.against or ""):
            if ratio.field == goal.figure and ratio.group == group:
                return ratio.ratio
    return None


def _fits(group: Group, where: Mapping[str, Any], against: str | None) -> bool:
    """Tell whether a group is of our relay, as it usually runs, under these conditions."""
    run = group.runs[0]
    if run.relay == against or ("relay" not in where and "--verify" in run.relay):
        return False
    return all(getattr(run, name) == value for name, value in where.items())


# The page


def performance_page(record: Record, plots: Mapping[str, str] | None = None) -> str:
    """
    Return the page as Markdown.

    Args:
        record: What was measured; one without results makes a page that says so.
        plots: Where the pictures are, as the page refers to them, by the benches' names.
    """
    page = _Page(record, plots or {})
    parts = [part for title, write in SECTIONS.items() for part in (f"## {title}\n", write(page))]
    return "\n".join([_INTRODUCTION, *parts]).rstrip() + "\n"


@dataclass(frozen=True, slots=True)
class _Page:
    record: Record
    plots: Mapping[str, str] = field(default_factory=dict)


_INTRODUCTION = """# Performance

<!-- Written by `agora bench all`; do not edit. -->

What the relay costs, what limits it, how that grows, and how to take every figure again. All of
this page comes out of one command.
"""


def _method(page: _Page) -> str:
    return f"""\
* The relay and the generator are two processes on one machine, with loopback between them. The
  relay is started for each run, with an empty folder for its mail, without limits on rates, and
  with bounds that are never met.
* **Processor time is what counts** (`/proc/PID/stat`, all threads): it is what a message costs
  wherever the relay runs. Rates per second depend on how many cores there are and who else uses
  them; they are told beside it.
* **The yardstick is one Ed25519 verification** by the library that the relay uses, measured on the
  same machine directly before and after each run, over as many bytes as a message signs. A relay
  has to make one for each message; "relay / verify" says how many it could have made in the time
  it took.
* The generator signs, frames and masks every message before the clock starts, writes many at a
  time with a bounded window under way (128 messages, 256 KB for each pair), and looks only at the
  headers of what comes. What it costs itself is told ("generator µs"), since it has to share the
  machine. It reads what has come every 2 ms, for a reader that is woken by every message
  (`--read-every 0`) costs itself and the relay that wakes it the time of the wakings.
* Latency is an open loop: messages leave when their time has come, whether or not others have
  arrived, and the time counts from when they should have left. A relay that stops for a moment
  cannot hide it. "Left late" is how far behind its time the generator itself was, which the
  latencies include.
* Messages are as clients write them: in the reference dialect the members of an envelope in the
  reference's order, in Agora/1 in our client's. Payloads are JSON with a text. In Agora/1 every
  message is acked, and counts when its sender has the receipt.
* Figures are taken twice and their mean is told, with how far the runs are apart; more than
  {AGREEMENT:.0%} of it is marked "differ". Where two relays are compared, their runs alternate.
* Memory is what is resident (`VmRSS`), in KB of 1024 bytes.
{_settings(page)}"""


def _settings(page: _Page) -> str:
    if not page.record.settings:
        return ""
    flags = " \\\n".join(f"    {flag}" for flag in page.record.settings.split())
    return f"\nThe settings of the relay:\n\n```text\nagora relay \\\n{flags}\n```\n"


def _machine(page: _Page) -> str:
    machine = page.record.machine
    if machine is None:
        return "Nothing has been measured for this page yet.\n"
    memory = f", {machine.memory_gb} GB" if machine.memory_gb else ""
    return _wrapped(
        f"{machine.cores} cores of {machine.processor}{memory}; {machine.system}, "
        f"{machine.python}; {machine.versions}. Measured on {page.record.taken}."
    )


def _goals(page: _Page) -> str:
    lines = []
    for goal in GOALS:
        value = _found(goal, page.record)
        verdict = "–" if value is None else "yes" if goal.is_met_by(value) else "**no**"
        figure = shown(value, goal.decimals)
        lines.append((goal.what, goal.target, figure, verdict, f"`{goal.command}`"))
    head = ("What", "Target", "Measured", "Met", "Again")
    table = _markdown(Table("", head, tuple(lines)))
    return table + _pace(page.record) + _ceiling(page.record)


_SET_AT_US = 56.0
"""What one verification took where the targets were set."""


def _pace(record: Record) -> str:
    """Return how fast the machine was, where that decides over a target in messages a second."""
    told = []
    for goal in (goal for goal in GOALS if goal.unit == "a second"):
        value, verify = (_found(one, record) for one in (goal, replace(goal, figure="verify_us")))
        if value is not None and verify and not goal.is_met_by(value):
            told.append(
                f"{value:,.0f} with one verification at {verify:.0f} µs are "
                f"{value * verify / _SET_AT_US:,.0f} at that pace ({goal.what})"
            )
    if not told:
        return ""
    return "\n" + _wrapped(
        f"Rates a second go with the pace of the machine, and these targets were set on one that "
        f"takes {_SET_AT_US:.0f} µs for a verification: {'; '.join(told)}."
    )


def _ceiling(record: Record) -> str:
    """Return how many messages there is processor time for, on the machine of the record."""
    if record.machine is None:
        return ""
    cores = record.machine.cores
    for group in groups(record.results):
        if group.bench != "throughput" or not _fits(group, _MANY, record.against):
            continue
        ours, verify, own = (group.value(name) for name in _SHARES)
        if ours is not None:
            return "\n" + _wrapped(
                f"The ceiling of the rate: {cores} cores have {cores},000,000 µs a second, of "
                f"which a message takes {ours:.0f} µs of the relay and {own:.0f} µs of the "
                f"generator, so no more than {cores * 1e6 / (ours + own):,.0f} messages a second "
                f"can pass here; a relay that did nothing but verify would be held at "
                f"{cores * 1e6 / (verify + own):,.0f}."
            )
    return ""


_SHARES = ("relay_cpu_us_per_message", "verify_us", "generator_cpu_us_per_message")


def _against(page: _Page) -> str:
    name = page.record.against
    if not name:
        return "No other relay was measured in this run.\n"
    return _markdown(comparison(page.record.results, name))


def _bench(name: str) -> Callable[[_Page], str]:
    """Return what writes the section of a bench."""

    def write(page: _Page) -> str:
        mine = [result for result in page.record.results if result.bench == name]
        parts = [_wrapped(BENCHES[name].help), *_pictures(name, page), *_tables(mine)]
        if growth := _growth(name, mine):
            parts.append(_wrapped(f"**How it grows.** {' '.join(growth)}"))
        parts += [_wrapped(f"**What limits it.** {_LIMITS[name]}"), _commands(name)]
        return "\n".join(parts)

    return write


def _pictures(name: str, page: _Page) -> list[str]:
    return [f"![The figures of {name}, drawn]({page.plots[name]})\n"] if name in page.plots else []


def _tables(results: Sequence[Result]) -> Iterator[str]:
    for table in tables(results):
        yield _wrapped(f"{table.title}:")
        yield _markdown(_turned(table))


def _turned(table: Table) -> Table:
    """Return a table with figures in columns: a page has room for that, and sizes are many."""
    head, *lines = zip(table.head, *table.lines, strict=True)
    return Table(table.title, ("", *head[1:]) if not head[0] else head, tuple(lines))


def _growth(name: str, results: Sequence[Result]) -> list[str]:
    """Return a sentence for each line of a picture: from the smallest size to the largest."""
    if not PLOTS[name] or not results:
        return []
    sentences = []
    for panel in panels(name, results):
        for line in panel.lines:
            points = [(x, y) for x, y in line.points if x > 0 and y > 0]
            if len(points) > 1:
                (x, y), (far_x, far_y) = points[0], points[-1]
                label = f" ({line.label})" if line.label else ""
                sizes = f"From {condition(x)} to {condition(far_x)} {panel.x_label}{label}"
                figures = f"{shown(y, 1)} to {shown(far_y, 1)} {panel.y_label}"
                sentences.append(f"{sizes}: {figures}, × {far_y / y:.2f}.")
    return sentences


_LIMITS = {
    "throughput": "One verification for each message, which threads make on all cores; what is "
    "left is reading, parsing and forwarding, in one thread. Bytes are hashed and copied, so large "
    "payloads cost by their size. Idle connections and further pairs cost nothing in the path of a "
    "message.",
    "latency": "Two wakings of a process and one verification. The tail belongs to the operating "
    "system, when more processes want to run than there are cores.",
    "idle": "What an open WebSocket and a session are made of; no task, no timer and no buffer of "
    "its own waits on a connection that says nothing.",
    "join": "Two signatures by the relay's side of a proof, one made and one verified, behind the "
    "WebSocket handshake, and the commit of a pin for a key that is new. With presence each "
    "join is told to those who watch, gathered over a tenth of a second.",
    "broadcast": "One system call for each recipient: the frame is made once.",
    "mailbox": "The disk: a receipt waits for a sync, which many messages share. Draining reads "
    "pages and waits for acks.",
    "slow-reader": "What is under way to one session is bounded; the rest waits on disk.",
    "soak": "Nothing should grow once the memory of ids is full.",
}
"""What keeps each from being faster, in words that do not depend on figures."""


def _commands(name: str) -> str:
    commands = [task.command for task in full_plan() if task.bench == name]
    return "\n".join(["```console", *(f"$ {command}" for command in commands), "```", ""])


def _again(page: _Page) -> str:
    return """\
```console
$ pip install '.[bench]'
$ agora bench all --page performance.md --plot plots   # half an hour, and the soak
$ agora bench all --save record.jsonl                  # the same, kept as it was found
$ agora bench all --from record.jsonl --page performance.md --plot plots
```

With `--against URL --against-pid PID --against-name NAME` another relay that speaks the reference
dialect is measured in turn with ours; `--relay URL --relay-pid PID` measures another one in place
of ours. A machine that does something else meanwhile shows: runs differ.
"""


def _wrapped(text: str) -> str:
    return fill(text, 100, break_long_words=False, break_on_hyphens=False) + "\n"


def _markdown(table: Table) -> str:
    rows = [table.head, ("---",) * len(table.head), *table.lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


SECTIONS: Mapping[str, Callable[[_Page], str]] = {
    "Against the targets": _goals,
    "Against another relay": _against,
    "Method": _method,
    "Machine": _machine,
    "Throughput": _bench("throughput"),
    "Latency": _bench("latency"),
    "Idle connections": _bench("idle"),
    "Joins": _bench("join"),
    "Broadcast": _bench("broadcast"),
    "Mailboxes": _bench("mailbox"),
    "A slow reader": _bench("slow-reader"),
    "Soak": _bench("soak"),
    "Take them again": _again,
}
"""The sections of the page, in their order, and what writes each."""
