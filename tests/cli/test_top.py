"""``agora top``: a real relay, looked at once, live in a terminal, and through a restart."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Self
from urllib.parse import quote

import pytest

from agora import sync
from agora.keys import KeyPair
from agora.testing import RelayInThread, relay_in_thread
from tests.cli.conftest import ALICE, BOB, DEADLINE, Shell

TOKEN = "a token that nobody guesses"

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="a terminal of POSIX")


@pytest.fixture
def relay() -> Iterator[RelayInThread]:
    """A relay with both doors and an operator."""
    with relay_in_thread(http_port=0, admin_token=TOKEN) as running:
        yield running


def url_of(relay: RelayInThread) -> str:
    """Return where its HTTP is."""
    assert relay.http_url is not None
    return relay.http_url


def look(shell: Shell, relay: RelayInThread, *options: str) -> Any:
    """Run the command once."""
    return shell.run("top", "--once", "--url", url_of(relay), "--token", TOKEN, *options)


def leave_word(relay: RelayInThread, count: int = 3) -> None:
    """Have bob known, and alice write to him while he is away."""
    with sync.Client(relay.url, BOB):
        pass
    with sync.Client(relay.url, ALICE) as alice:
        for number in range(count):
            alice.send(BOB.peer_id, {"number": number})


# Once


def test_one_look_shows_who_is_there_what_waits_and_what_went_wrong(
    shell: Shell, relay: RelayInThread
) -> None:
    leave_word(relay)
    with sync.Client(relay.url, ALICE, name="weather") as alice:
        assert alice.send(KeyPair.generate().peer_id, "hello").why == "unknown_recipient"
        shown = look(shell, relay)

    assert (shown.code, shown.err) == (0, "")
    assert "3 stored" in shown.out
    assert "mailboxes: 1 with 3 messages" in shown.out
    assert f"@{BOB.peer_id[-8:]}" in shown.out
    assert f"~weather@{ALICE.peer_id[-8:]}" in shown.out
    assert "unknown_recipient" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80


def test_a_relay_where_nothing_happens_can_be_looked_at(shell: Shell, relay: RelayInThread) -> None:
    shown = look(shell, relay)

    assert shown.code == 0
    assert "mailboxes: no mail waits" in shown.out


def test_what_a_peer_calls_itself_does_nothing_to_a_terminal(
    shell: Shell, relay: RelayInThread
) -> None:
    name = "\x1b[31m[bold]wide\u202e"
    with sync.Client(relay.url, ALICE, name=name):
        shown = look(shell, relay)
        as_json = look(shell, relay, "--json")

    assert "\x1b" not in shown.out
    assert "\u202e" not in shown.out
    assert "[bold]wide" in shown.out
    assert as_json.out.isascii()


def test_for_programs_a_look_is_what_the_relay_answers(shell: Shell, relay: RelayInThread) -> None:
    leave_word(relay)
    seen = look(shell, relay, "--json").object

    assert seen["relay"] == relay.relay.peer_id
    assert seen["totals"]["messages"]["stored"] == 3
    assert len(seen["history"]["messages"]) == 360


def test_the_token_may_be_in_the_environment(
    shell: Shell, relay: RelayInThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGORA_ADMIN_TOKEN", TOKEN)

    assert shell.run("top", "--once", "--url", url_of(relay)).code == 0


def test_the_address_that_a_relay_prints_is_taken_as_it_is(
    shell: Shell, relay: RelayInThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGORA_ADMIN_TOKEN", "one of another relay")
    printed = f"{url_of(relay)}/#token={quote(TOKEN)}"

    shown = shell.run("top", "--once", "--url", printed)

    assert shown.code == 0
    assert "token" not in shown.out


@posix_only
@pytest.mark.parametrize("given", [{}, {"AGORA_ADMIN_TOKEN": TOKEN}])
def test_the_relay_prints_the_token_that_it_made_and_no_other(
    shell: Shell, given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AGORA_ADMIN_TOKEN", raising=False)
    arguments = ["relay", "--port", "0", "--http-port", "0", "--memory"]
    with shell.start(*arguments, env={**os.environ, **given}) as process:
        assert process.stderr is not None
        while "serving HTTP" not in (line := process.stderr.readline()):
            assert line
        url = line.split("url=")[1].strip()
        while "for this machine only" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=DEADLINE)

    printed = re.findall(r"dashboard (\S+)/#token=(\S+) ", out)
    assert [place for place, _ in printed] == ([] if given else [url])
    assert all(len(token) >= 32 and token not in err for _, token in printed)


# What can be wrong


def test_a_wrong_token_is_refused_and_said_to_be(shell: Shell, relay: RelayInThread) -> None:
    ended = shell.run("top", "--once", "--url", url_of(relay), "--token", "another token")

    assert ended.code == 5
    assert "--token or AGORA_ADMIN_TOKEN" in ended.err


def test_without_a_token_nothing_is_asked(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGORA_ADMIN_TOKEN", raising=False)
    ended = shell.run("top", "--once", "--url", "http://localhost:1")

    assert ended.code == 2
    assert "no admin token" in ended.err


def test_where_no_relay_is_that_is_said(shell: Shell) -> None:
    ended = shell.run("top", "--once", "--url", "http://localhost:1", "--token", TOKEN)

    assert ended.code == 6
    assert "no relay answers at http://localhost:1" in ended.err
    assert "--relay" not in ended.err


@pytest.mark.parametrize("url", ["ws://localhost:9470", "localhost:9471", "http://", "http://[::"])
def test_what_is_no_url_of_http_is_refused(shell: Shell, url: str) -> None:
    assert shell.run("top", "--once", "--url", url, "--token", TOKEN).code == 2


class _Stranger(BaseHTTPRequestHandler):
    """Something else that speaks HTTP."""

    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
        self.server.asked.append(self.path)
        status, body = self.server.answers
        self.send_response(status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    """Where that is, and what it was asked for."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Stranger)
        self.answers = (status, body)
        self.asked: list[str] = []


@contextmanager
def stranger(status: int, body: bytes) -> Iterator[str]:
    """Serve something that is no relay; yield its URL."""
    with _Server(status, body) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
            assert server.asked == ["/admin/overview"]  # the token goes nowhere else
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"{}"), (200, b"<html>"), (404, b"no"), (302, b""), (200, b"")]
)
def test_what_is_no_relay_is_said_to_be_none(shell: Shell, status: int, body: bytes) -> None:
    with stranger(status, body) as url:
        ended = shell.run("top", "--once", "--url", url, "--token", TOKEN)

    assert ended.code == 1
    assert f"what answers at {url}" in ended.err


def test_a_relay_that_cannot_answer_now_is_one_all_the_same(shell: Shell) -> None:
    with stranger(503, b"{}") as url:
        ended = shell.run("top", "--once", "--url", url, "--token", TOKEN)

    assert ended.code == 6
    assert "cannot answer now" in ended.err


# For as long as one looks


@contextmanager
def lines_of(shell: Shell, relay: RelayInThread) -> Iterator[subprocess.Popen[str]]:
    """Run the command for programs, which looks as often as it can."""
    options = ["--json", "--every", "0.05", "--url", url_of(relay), "--token", TOKEN]
    with shell.start("top", *options) as process:
        yield process


@posix_only
def test_it_lives_through_a_restart_says_so_and_ends_well(
    shell: Shell, relay: RelayInThread
) -> None:
    with lines_of(shell, relay) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = json.loads(process.stdout.readline())
        relay.stop()
        gone = process.stderr.readline()
        relay.start()
        back = process.stderr.readline()
        seen = json.loads(process.stdout.readline())
        while seen["startedAt"] == first["startedAt"]:
            seen = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE)

    assert "no relay answers" in gone
    assert "trying again" in gone
    assert "answers again" in back
    assert process.returncode == 0


class Terminal:
    """A terminal of 80 columns and 24 lines, with a command in it."""

    def __init__(self, *arguments: str) -> None:
        import fcntl
        import pty
        import struct
        import termios

        self.shown = ""
        self._own, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agora", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
            start_new_session=True,
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)

    def waits_for(self, text: str) -> None:
        """Read until *text* is shown."""
        until = time.monotonic() + DEADLINE
        while text not in self.shown:
            assert time.monotonic() < until, self.shown
            self.shown += self._read()

    def types(self, keys: str) -> None:
        """Press keys."""
        os.write(self._own, keys.encode())

    def ends(self) -> int:
        """Wait until the command has ended; return its exit code."""
        while text := self._read():
            self.shown += text
        os.close(self._own)
        return self.process.wait(DEADLINE)

    def _read(self) -> str:
        try:
            return os.read(self._own, 65_536).decode(errors="replace")
        except OSError:  # its other end is closed
            return ""


@posix_only
def test_in_a_terminal_it_goes_on_until_q_is_pressed(relay: RelayInThread) -> None:
    leave_word(relay)
    with Terminal("top", "--every", "0.1", "--url", url_of(relay), "--token", TOKEN) as terminal:
        terminal.waits_for("mailboxes: 1 with 3 messages")
        relay.stop()
        terminal.waits_for("trying again")
        relay.start()
        terminal.waits_for("the relay was restarted")
        terminal.types("q")
        code = terminal.ends()

    assert code == 0
    assert {"\x1b[?1049l", "\x1b[?25h"} <= set(re.findall(r"\x1b\[\?\d+[hl]", terminal.shown[-80:]))


@posix_only
def test_in_a_terminal_ctrl_c_ends_it_as_well(relay: RelayInThread) -> None:
    with Terminal("top", "--url", url_of(relay), "--token", TOKEN) as terminal:
        terminal.waits_for("no mail waits")
        terminal.process.send_signal(signal.SIGINT)
        code = terminal.ends()

    assert code == 0
    assert "Traceback" not in terminal.shown


@posix_only
def test_a_token_that_is_good_no_more_ends_it_with_the_reason(relay: RelayInThread) -> None:
    with Terminal("top", "--every", "0.1", "--url", url_of(relay), "--token", TOKEN) as terminal:
        terminal.waits_for("no mail waits")
        relay.stop()
        port = int(url_of(relay).rpartition(":")[2])
        with relay_in_thread(http_port=port, admin_token="quite another token"):
            code = terminal.ends()

    assert code == 5
    assert "wants its admin token" in terminal.shown
