"""``agora top``: what a relay does, in a terminal, for as long as one looks."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from threading import Event, Thread
from typing import Any
from urllib.parse import unquote

import click
import msgspec

from agora.cli.exits import NoFiguresError
from agora.cli.options import Asked, json_option, seconds
from agora.cli.overview import Overview, Source
from agora.cli.signals import ended_by_sigterm
from agora.errors import ConfigurationError, MissingExtraError

__all__ = ["top"]


@click.command(
    epilog="q or Ctrl-C ends it. Exit code 5: it wants another token; 6: no relay answers there; "
    "9: install agora-relay[relay]."
)
@json_option
@click.option(
    "--url",
    default="http://localhost:9471",
    show_default=True,
    metavar="URL",
    help="the relay's HTTP API, or its dashboard as the relay printed it, token and all",
)
@click.option(
    "--token",
    envvar="AGORA_ADMIN_TOKEN",
    show_envvar=True,
    metavar="TOKEN",
    help="the relay's admin token; everyone on a machine sees its command lines, so better "
    "by the environment",
)
@click.option(
    "--ca-file", metavar="FILE", help="further certificate authorities (PEM) to trust for https://"
)
@click.option(
    "--every",
    type=seconds,
    default="2",
    show_default=True,
    metavar="SECONDS",
    help="how often to look",
)
@click.option("--once", is_flag=True, help="look once, show all there is, and end")
@click.pass_obj
def top(
    asked: Asked, url: str, token: str | None, ca_file: str | None, every: float, once: bool
) -> None:
    """
    Watch a relay: its traffic, peers, mailboxes and errors.

    It lives through a restart of the relay. Where standard output is no terminal it
    looks once. With --json each look is one line, as GET /admin/overview gives it.
    """
    url, token = _without_token(url, token)
    if not token:
        raise ConfigurationError(
            "no admin token: give --token or AGORA_ADMIN_TOKEN; the relay prints the one it makes "
            "at its start, unless its setting admin_token has one"
        )
    source = Source(url, token, ca_file)
    first = source.fetch()
    with ended_by_sigterm():
        try:
            if asked.as_json:
                _write_lines(asked, source, first, None if once else every)
            elif once or not sys.stdout.isatty():
                _show_once(source, first)
            else:
                _show_live(source, first, every)
        except KeyboardInterrupt:
            return  # it was asked to end


def _without_token(url: str, token: str | None) -> tuple[str, str | None]:
    """Take the token out of an address that a relay printed; it wins over the environment's."""
    place, _, printed = url.partition("#token=")
    return (place.rstrip("/"), unquote(printed)) if printed else (url, token)


# For programs


def _write_lines(asked: Asked, source: Source, first: bytes, every: float | None) -> None:
    looks = _Looks(source, first)
    while True:
        if looks.news:
            asked.remark(looks.news)
        if looks.body is not None:
            source.read(looks.body)  # it is an overview, not just some answer
            asked.say("", msgspec.json.decode(looks.body))
        if every is None:
            return
        time.sleep(every)
        looks.again()


class _Looks:
    """
    Looks at a relay, one after the other, which may not answer for a while.

    Attributes:
        body: What it answered now; None where it did not.
        news: What is to be said of that; empty for nothing.
        failing_since: Since when it has not answered, on the clock that only goes forward.
    """

    def __init__(self, source: Source, first: bytes) -> None:
        self.body: bytes | None = first
        self.news = ""
        self.failing_since: float | None = None
        self._source = source

    def again(self) -> None:
        """
        Look again.

        Raises:
            AgoraError: When to try again does not help.
        """
        self.news = ""
        was_failing = self.failing_since is not None
        try:
            self.body = self._source.fetch()
        except NoFiguresError as error:
            self.body = None
            if not was_failing:
                self.failing_since = time.monotonic()
                self.news = f"{error}; trying again"
            return
        self.failing_since = None
        if was_failing:
            self.news = f"the relay at {self._source.url} answers again"


# For people


def _show_once(source: Source, body: bytes) -> None:
    console = _extra("rich.console").Console()
    console.print(_view(source.read(body), source.url), highlight=False)


def _view(overview: Overview, url: str, **options: Any) -> Any:
    return _extra("agora.cli.top_view").View(overview, url, **options)


def _show_live(source: Source, first: bytes, every: float) -> None:
    console = _extra("rich.console").Console()
    live = _extra("rich.live").Live(console=console, screen=True, auto_refresh=False)
    watch = _Watch(source, first, every)
    with live, _keys() as keys, watch:
        while not watch.is_over:
            now = time.monotonic()
            seen, note, age = watch.shown(now)
            view = _view(seen, source.url, note=note, age=age, height=console.size.height)
            live.update(view, refresh=True)
            if keys.pressed(_REDRAW) in _QUIT:
                return
    watch.raise_why()


_REDRAW = 0.5
"""Seconds until it is drawn again: the window may have another size, and time goes on."""

_END_OF_INPUT = "\x04"
_QUIT = ("q", "Q", _END_OF_INPUT)

_NEWS_FOR = 30.0
"""Seconds for which it is said that the relay has come back."""


@dataclass
class _Shown:
    """What is shown, since when it is true, and when the relay has come back."""

    overview: Overview
    at: float
    back_at: float | None = None
    has_restarted: bool = False


class _Watch:
    """
    Looks at a relay again and again, on a thread of its own: a relay that hangs hangs nothing here.

    Attributes:
        is_over: Whether to look again does not help.
    """

    def __init__(self, source: Source, first: bytes, every: float) -> None:
        self.is_over = False
        self._source = source
        self._every = every
        self._why: Exception | None = None
        self._problem = ""
        self._shown = _Shown(source.read(first), time.monotonic())
        self._stop = Event()
        self._thread = Thread(target=self._run, name="agora-top", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._stop.set()  # not joined: it may wait for an answer that nobody wants any more

    def shown(self, now: float) -> tuple[Overview, str, float]:
        """Return what to show, what to say beside it, and the seconds since it was true."""
        shown, problem = self._shown, self._problem
        if problem:
            age = now - shown.at
            note = f"! no answer for {age:.0f} s, trying again: {problem}"
            return shown.overview, note, max(age, 0.1)
        if shown.back_at is not None and now - shown.back_at < _NEWS_FOR:
            how = "the relay was restarted" if shown.has_restarted else "the relay answers again"
            return shown.overview, f"= {how}", 0.0
        return shown.overview, "", 0.0

    def raise_why(self) -> None:
        """Raise what has ended it, if anything did."""
        if self._why is not None:
            raise self._why

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            try:
                self._take(self._source.read(self._source.fetch()))
            except NoFiguresError as error:
                self._problem = str(error)
            except Exception as error:
                self._why, self.is_over = error, True
                return

    def _take(self, overview: Overview) -> None:
        before, now = self._shown, time.monotonic()
        has_restarted = overview.started_at != before.overview.started_at
        has_news = has_restarted or bool(self._problem)
        self._shown = _Shown(
            overview,
            now,
            now if has_news else before.back_at,
            has_restarted if has_news else before.has_restarted,
        )
        self._problem = ""


# The keyboard


class _NoKeys:
    """Where there is no keyboard: Ctrl-C ends it all the same."""

    def pressed(self, timeout: float) -> str:
        """Wait."""
        time.sleep(timeout)
        return ""


class _Keys:
    """The keyboard of a terminal."""

    def pressed(self, timeout: float) -> str:
        """Return the key that is pressed within *timeout* seconds; none is empty."""
        ready, _, _ = select.select([sys.stdin], [], [], timeout)
        if not ready:
            return ""
        return os.read(sys.stdin.fileno(), 1).decode(errors="replace") or _END_OF_INPUT


@contextmanager
def _keys() -> Iterator[_Keys | _NoKeys]:
    """Have single keys read for the length of a ``with`` block, where that can be."""
    try:
        import termios
        import tty
    except ModuleNotFoundError:  # Windows
        yield _NoKeys()
        return
    if not sys.stdin.isatty():
        yield _NoKeys()
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield _Keys()
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _extra(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{error.name} is not installed: install agora-relay[relay] for agora top, "
            "in the clone by pip install '.[relay]'"
        ) from error
