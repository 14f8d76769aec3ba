"""
How ``agora top`` looks: an overview as text for a terminal, as wide and as high as there is room.

What a peer calls itself, and every code, passes :func:`agora.text.printable_line`; nothing is
read as markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from agora.cli.overview import Mailboxes, Overview, Peer
from agora.references import short_key
from agora.text import printable_line

__all__ = ["View"]

_BARS = " ▁▂▃▄▅▆▇█"

_OUTCOMES = ("delivered", "stored", "sent", "duplicate", "refused")


class View:
    """
    One overview, to be shown by rich.

    Args:
        overview: What is shown.
        url: Where it is from.
        note: What else is to be said, such as that the relay does not answer; empty for nothing.
        age: Seconds since it was true.
        height: Lines there are; None for as many as there is to show.
    """

    def __init__(
        self,
        overview: Overview,
        url: str,
        *,
        note: str = "",
        age: float = 0.0,
        height: int | None = None,
    ) -> None:
        self._seen = overview
        self._url = url
        self._note = note
        self._age = age
        self._height = height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        top = [*self._head(), *self._now(), *self._hour(width), *self._since_start(width)]
        yield from (_cut(line, width) for line in top)
        room = None if self._height is None else max(0, self._height - len(top))
        yield Group(*self._lists(room))

    # The top

    def _head(self) -> Iterator[Text]:
        seen = self._seen
        up = _span((seen.now - seen.started_at) / 1000)
        core = f", {printable_line(seen.core)}" if seen.core else ""
        line = Text.assemble(
            ("agora top  ", "bold"),
            (f"{short_key(printable_line(seen.relay))} at {self._url}", "cyan"),
            f"  {printable_line(seen.version)}{core}  up {up}",
        )
        yield line
        yield Text(self._note, "bold red" if self._age else "bold yellow") if self._note else Text()

    def _now(self) -> Iterator[Text]:
        seen = self._seen
        yield _figures(
            ("messages/s", _number(seen.rates.messages)),
            ("errors/s", _number(seen.rates.errors)),
            ("", f"{_size(seen.rates.bytes)}/s"),
        )
        yield _figures(
            ("peers online", str(seen.peers_online)),
            ("sessions", str(seen.sessions)),
            ("connections", str(seen.connections)),
        )
        yield Text()

    def _hour(self, width: int) -> Iterator[Text]:
        history, columns = self._seen.history, max(10, min(120, width - 24))
        minutes = len(history.messages) * history.step // 60
        rows: list[tuple[str, Sequence[int], str, bool]] = [
            ("messages", history.messages, "green", True),
            ("stored", history.stored, "blue", True),
            ("errors", history.errors, "red", True),
            ("peers", history.peers, "cyan", False),
        ]
        yield Text(f"the last {minutes} minutes", "dim")
        for name, steps, style, is_sum in rows:
            told = f"{sum(steps)}" if is_sum else f"most {max(steps, default=0)}"
            bars = _sparkline(steps, columns, is_sum)
            yield Text.assemble(f"{name:9}", (bars, style), f" {told}")
        yield Text()

    def _since_start(self, width: int) -> Iterator[Text]:
        totals = self._seen.totals
        yield Text("since the start", "dim")
        yield _figures(*((name, str(totals.messages.get(name, 0))) for name in _OUTCOMES))
        errors = sorted(totals.errors.items(), key=lambda item: (-item[1], item[0]))
        told = [(printable_line(code), str(count)) for code, count in errors if count]
        if told:
            line = _figures(*told)
            line.stylize("red")
            yield line
        yield Text()

    # The lists

    def _lists(self, room: int | None) -> Iterator[RenderableType]:
        seen = self._seen
        mailboxes = list(_mailbox_rows(seen.mailboxes, seen.now))
        peers = [_peer_row(peer, seen.now) for peer in seen.peers]
        errors: list[tuple[str, ...]] = [
            (_clock(one.at), printable_line(one.code), _short(one.peer))
            for one in sorted(seen.recent_errors, key=lambda one: -one.at)
        ]
        lists: list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]] = [
            (
                _mailboxes_title(seen.mailboxes, seen.now),
                ("recipient", "messages", "bytes", "oldest"),
                mailboxes,
            ),
            (f"peers online: {seen.peers_online}", ("peer", "sessions", "door", "since"), peers),
            ("errors, the last first", ("at", "code", "peer"), errors),
        ]
        shares = _shares(room, [len(rows) for _, _, rows in lists])
        for (title, head, rows), share in zip(lists, shares, strict=True):
            if share is not None:
                yield _table(title, head, rows, share)
                yield from [Text()] if room is None else []


def _mailboxes_title(mailboxes: Mailboxes | None, now: int) -> str:
    if mailboxes is None:
        return "mailboxes: they cannot be read now"
    if not mailboxes.count:
        return "mailboxes: no mail waits"
    oldest = _span((now - mailboxes.oldest_ms) / 1000)
    return (
        f"mailboxes: {mailboxes.count} with {mailboxes.messages} messages, "
        f"{_size(mailboxes.bytes)}, the oldest of {oldest} ago"
    )


def _mailbox_rows(mailboxes: Mailboxes | None, now: int) -> Iterator[tuple[str, ...]]:
    for one in mailboxes.largest if mailboxes else ():
        oldest = _span((now - one.oldest_ms) / 1000)
        yield _short(one.peer), str(one.messages), _size(one.bytes), oldest


def _peer_row(peer: Peer, now: int) -> tuple[str, ...]:
    # With a tilde, as everywhere: it is what a stranger calls itself.
    name = printable_line(peer.name or "").strip()[:_LONGEST_NAME]
    shown = f"~{name}{_short(peer.public_key)}" if name else _short(peer.public_key)
    since = _span((now - peer.since) / 1000)
    return shown, str(peer.sessions), printable_line(peer.door), since


_LONGEST_NAME = 30


def _table(
    title: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]], most: int
) -> RenderableType:
    """Draw a list; of more than *most* lines the rest is counted."""
    if not rows or most < 1:
        return _title(title)
    is_cut = len(rows) > most
    shown = rows[: most - 1] if is_cut else rows
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for number, heading in enumerate(head):
        is_number = heading in ("messages", "bytes", "sessions")
        table.add_column(
            heading,
            justify="right" if is_number else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=14 if not number and heading != "at" else None,
        )
    for row in shown:
        table.add_row(*map(Text, row))
    rest = [Text(f"and {len(rows) - len(shown)} more", "dim")] if is_cut else []
    return Group(_title(title), table, *rest)


def _title(title: str) -> Text:
    return Text(title, "bold", no_wrap=True, overflow="ellipsis")


def _shares(room: int | None, lengths: Sequence[int]) -> list[int | None]:
    """
    Divide *room* lines among lists of so many rows, each with a title and a line of heads.

    Returns:
        How many rows each may have; None for one that has no place at all.

    >>> _shares(None, [3, 0, 500]), _shares(20, [3, 0, 500]), _shares(2, [1, 1, 1])
    ([3, 0, 500], [3, 0, 12], [0, 0, None])
    """
    if room is None:
        return [*lengths]
    shares: list[int | None] = [0 if room > number else None for number in range(len(lengths))]
    left = room - sum(share is not None for share in shares)
    heads = sum(length > 0 for length in lengths)
    left -= heads
    while left > 0:
        hungry = [
            number
            for number, share in enumerate(shares)
            if share is not None and share < lengths[number]
        ]
        if not hungry:
            break
        for number in hungry[:left]:
            shares[number] = (shares[number] or 0) + 1
        left -= len(hungry)
    return shares


# Words


def _figures(*pairs: tuple[str, str]) -> Text:
    parts = (Text.assemble((value, "bold"), f" {name}" if name else "") for name, value in pairs)
    return Text("   ").join(parts)


def _sparkline(steps: Sequence[int], columns: int, is_sum: bool) -> str:
    """
    Draw numbers as a line of bars, several steps to a column.

    >>> _sparkline([0, 0, 1, 1, 2, 2], 3, True), _sparkline([], 3, True)
    (' ▄█', '')
    """
    parts = list(_parts(steps, columns))
    values = [sum(part) if is_sum else max(part) for part in parts]
    highest = max(values, default=0)
    # What is there at all is seen: the lowest bar is for nothing but nothing.
    most = len(_BARS) - 1
    return "".join(_BARS[-(-value * most // highest) if highest else 0] for value in values)


def _parts(steps: Sequence[int], columns: int) -> Iterable[Sequence[int]]:
    size = max(1, -(-len(steps) // columns))
    return (steps[start : start + size] for start in range(0, len(steps), size))


def _cut(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    line.no_wrap = True
    return line


def _short(peer: str | None) -> str:
    return short_key(printable_line(peer)) if peer else "–"


def _number(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _size(value: float) -> str:
    """
    Return a number of bytes as people read it.

    >>> _size(0), _size(999), _size(1_500), _size(20_000_000)
    ('0 B', '999 B', '1.5 kB', '20 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1_000:
            return f"{value:.1f} {unit}" if unit != "B" and value < 10 else f"{value:.0f} {unit}"
        value /= 1_000
    return f"{value:.1f} TB"


def _span(seconds: float) -> str:
    """
    Return a time in the two largest units that fit.

    >>> _span(3), _span(125), _span(90_000)
    ('3 s', '2 min', '1 d 1 h')
    """
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min"
    if whole < 86_400:
        return f"{whole // 3_600} h {whole % 3_600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3_600} h"


def _clock(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000).astimezone().strftime("%H:%M:%S")
