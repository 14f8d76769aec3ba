"""``agora relay`` as a service: settings read again at SIGHUP, and what systemd is told."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agora import sync
from agora.cli.service_manager import ServiceManager
from tests.cli.conftest import ALICE, BOB, DEADLINE, Shell
from tests.cli.test_relay import ended, event, running
from tests.tls import make_certificates

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")


def write_env(shell: Shell, *lines: str, name: str = ".env") -> Path:
    path = shell.home / name
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


# SIGHUP


def test_new_limits_count_at_once_and_sessions_stay(shell: Shell) -> None:
    write_env(shell, "AGORA_RATE_LIMIT_MAX_MESSAGES=1", "AGORA_STORAGE_PEERS=" + BOB.peer_id)
    with running(shell, "--port", "0") as (process, url), sync.Client(url, ALICE) as alice:
        write_env(shell, "AGORA_RATE_LIMIT_MAX_MESSAGES=500", "AGORA_MAX_NACKS=3")
        process.send_signal(signal.SIGHUP)
        told = event(process, "settings reloaded")
        waiting = event(process, "settings wait for a restart")
        sent = [alice.send(BOB.peer_id, number).status for number in range(3)]

    assert told["changed"] == "rate_limit_max_messages, max_nacks"
    assert (waiting["settings"], waiting["level"]) == ("storage_peers", "warning")
    assert sent == ["stored"] * 3


def test_flags_win_also_the_second_time(shell: Shell) -> None:
    with running(shell, "--port", "0", "--max-peers", "5") as (process, _):
        write_env(shell, "AGORA_MAX_PEERS=7")
        process.send_signal(signal.SIGHUP)

        assert event(process, "settings reloaded")["changed"] == "none"


def test_the_logs_change_too(shell: Shell) -> None:
    with shell.start("relay", "--port", "0") as process:
        assert process.stderr is not None
        next(line for line in process.stderr if "this machine" in line)
        write_env(shell, "AGORA_LOG_JSON=yes", "AGORA_LOG_LEVEL=debug")
        process.send_signal(signal.SIGHUP)

        assert event(process, "settings reloaded")["changed"] == "log_level, log_json"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("AGORA_MAX_PEERS=0", "AGORA_MAX_PEERS: max_peers of 0 is below its minimum of 1"),
        ("AGORA_LOG_LEVEL=loud", "AGORA_LOG_LEVEL: log_level of 'loud' is none of"),
        ("AGORA_TLS_CERT=gone.pem", "tls_cert and tls_key go together"),
    ],
)
def test_one_value_that_cannot_be_and_all_stays_as_it_was(
    shell: Shell, line: str, why: str
) -> None:
    with running(shell, "--port", "0") as (process, _):
        write_env(shell, "AGORA_MAX_NACKS=3", line)
        process.send_signal(signal.SIGHUP)
        refused = event(process, "settings not reloaded")
        write_env(shell, "AGORA_MAX_NACKS=3")
        process.send_signal(signal.SIGHUP)
        taken = event(process, "settings reloaded")

    assert refused["level"] == "error"
    assert why in refused["error"]
    assert taken["changed"] == "max_nacks"  # so it had not been before


def test_a_certificate_that_cannot_be_is_told_and_the_old_one_stays(shell: Shell) -> None:
    first = make_certificates(shell.home / "first", "localhost", "127.0.0.1")
    tls = ["--tls-cert", str(first.chain), "--tls-key", str(first.key)]
    with running(shell, "--port", "0", *tls) as (process, url):
        good = first.chain.read_bytes()
        first.chain.write_text("half a file")
        process.send_signal(signal.SIGHUP)
        refused = event(process, "settings not reloaded")
        with sync.Client(url, ALICE, tls=first.trusting()) as alice:
            assert alice.peer_id == ALICE.peer_id
        first.chain.write_bytes(good)
        process.send_signal(signal.SIGHUP)
        event(process, "settings reloaded")

    assert f"cannot use certificate {first.chain} with key {first.key}" in refused["error"]


def test_another_file_may_be_read_and_has_to_be_there(shell: Shell) -> None:
    path = write_env(shell, "AGORA_MAX_NACKS=3", name="relay.env")
    write_env(shell, "AGORA_PORT=nonsense")  # of which nothing is read
    with running(shell, "--port", "0", "--env-file", "relay.env") as (process, _):
        path.unlink()
        process.send_signal(signal.SIGHUP)
        refused = event(process, "settings not reloaded")
    never = shell.call("relay", "--env-file", "relay.env")

    assert f"{path}: " in refused["error"]
    assert (never.code, never.err.count("\n")) == (2, 1)
    assert str(path) in never.err


def test_a_pipe_in_the_place_of_the_file_holds_up_neither_a_reload_nor_the_stop(
    shell: Shell,
) -> None:
    with running(shell, "--port", "0") as (process, _):
        os.mkfifo(shell.home / ".env")
        process.send_signal(signal.SIGHUP)
        refused = event(process, "settings not reloaded")
        process.send_signal(signal.SIGTERM)
        code, _ = ended(process)
    never = shell.run("relay", "--env-file", str(shell.home / ".env"))

    assert refused["error"] == f"{(shell.home / '.env').resolve()}: not a regular file"
    assert code == 0
    assert (never.code, "not a regular file" in never.err) == (2, True)


def test_a_terminal_that_is_closed_stops_it(shell: Shell) -> None:
    ours, its = pty.openpty()
    with shell.start("relay", "--log-json", "--port", "0", stdin=its, start_new_session=True) as on:
        event(on, "for this machine only")
        os.close(its)
        os.close(ours)
        on.send_signal(signal.SIGHUP)  # as its terminal does, which it has not as a test's child
        code, log = ended(on)

    assert (code, json.loads(log.splitlines()[-1])["event"]) == (0, "stopped")


# What systemd is told


@contextmanager
def listening(name: str) -> Iterator[socket.socket]:
    """Be the service manager at an address: a path, or ``@`` and a name."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0", 1))
        manager.settimeout(DEADLINE)
        yield manager


def heard(manager: socket.socket) -> dict[str, str]:
    """Return the next that is said, by name."""
    said = manager.recv(4096).decode()
    return dict(line.split("=", 1) for line in said.splitlines())


def heard_with(name: str, manager: socket.socket) -> dict[str, str]:
    """Return the next that is said of *name*; signs of life may come between."""
    while name not in (said := heard(manager)):
        assert "WATCHDOG" in said
    return said


def test_systemd_is_told_that_it_is_ready_reloads_and_stops(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(shell.home / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with listening(path) as manager, running(shell, "--port", "0") as (process, url):
        ready = heard(manager)
        process.send_signal(signal.SIGHUP)
        reloading, again = heard(manager), heard(manager)
        process.terminate()
        stopping = heard(manager)
        code, _ = ended(process)

    assert ready == {"READY": "1", "STATUS": f"listening on {url}"}
    assert (reloading["RELOADING"], again["READY"]) == ("1", "1")
    assert 0 < int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    assert (stopping["STOPPING"], int(stopping["EXTEND_TIMEOUT_USEC"])) == ("1", 35_000_000)
    assert code == 0


@pytest.mark.skipif(sys.platform != "linux", reason="abstract addresses are Linux's")
def test_systemd_hears_that_it_lives_at_an_abstract_address_too(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"@agora-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    with listening(name) as manager, running(shell, "--port", "0") as (process, url):
        assert "READY" in heard(manager)
        with sync.Client(url, ALICE):
            while "connections: 1" not in (living := heard(manager))["STATUS"]:
                assert living["WATCHDOG"] == "1"
        process.terminate()
        heard_with("STOPPING", manager)
        ended(process)

    assert living == {"WATCHDOG": "1", "STATUS": f"listening on {url}, connections: 1"}


def test_a_service_manager_that_is_gone_is_told_of_in_the_log_and_no_more(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(shell.home / "gone"))
    with running(shell, "--port", "0") as (process, _):
        told = event(process, "service manager not told")
        process.terminate()
        code, _ = ended(process)

    assert (told["level"], told["error"], code) == ("warning", "No such file or directory", 0)


@pytest.mark.parametrize(
    ("variables", "interval"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_signs_of_life_are_given_twice_as_often_as_they_are_waited_for(
    variables: dict[str, str], interval: float | None
) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": "/run/notify", **variables})

    assert manager.watchdog_interval == interval


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative"])
def test_nothing_is_said_where_nobody_listens(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000"})

    manager.ready("listening")

    assert (manager.watchdog_interval, caplog.records) == (None, [])


def test_under_nohup_it_reloads_too(shell: Shell) -> None:
    command = [sys.executable, "-m", "agora", "relay", "--log-json", "--port", "0"]
    script = 'trap "" HUP; exec "$@"'
    with subprocess.Popen(
        ["sh", "-c", script, "sh", *command], cwd=shell.home, stderr=subprocess.PIPE, text=True
    ) as process:
        event(process, "for this machine only")
        process.send_signal(signal.SIGHUP)
        event(process, "settings reloaded")
        process.terminate()
        code, _ = ended(process)

    assert code == 0


# A socket that was open before


def test_a_socket_of_systemd_is_listened_on_and_outlives_the_relay(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as kept:
        url = f"ws://127.0.0.1:{kept.getsockname()[1]}"
        script = 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&0'
        command = [sys.executable, "-m", "agora", "relay", "--log-json"]
        told = []
        for _ in range(2):
            with subprocess.Popen(
                ["sh", "-c", script, "sh", *command],
                stdin=kept.fileno(),
                stderr=subprocess.PIPE,
                cwd=shell.home,
                text=True,
            ) as process:
                told.append(event(process, "listening")["url"])
                with sync.Client(url, ALICE) as alice:
                    assert alice.peer_id == ALICE.peer_id
                process.terminate()
                ended(process)

    assert told == [url, url]


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ("LISTEN_PID=$$ LISTEN_FDS=2", "LISTEN_FDS is 2: one socket is what a relay listens on"),
        ("LISTEN_PID=$$ LISTEN_FDS=1", "the socket of LISTEN_FDS is none: "),
    ],
)
def test_what_is_no_socket_to_listen_on_is_said(shell: Shell, variables: str, why: str) -> None:
    command = [sys.executable, "-m", "agora", "relay", "--port", "0"]
    script = f'{variables} exec "$@" 3</dev/null'

    ran = subprocess.run(
        ["sh", "-c", script, "sh", *command],
        cwd=shell.home,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )

    assert (ran.returncode, why in ran.stderr) == (2, True), ran.stderr


def test_a_socket_that_was_for_another_process_is_left(shell: Shell) -> None:
    command = [sys.executable, "-m", "agora", "relay", "--log-json", "--port", "0"]
    script = 'LISTEN_PID=1 LISTEN_FDS=1 exec "$@" 3</dev/null'
    with subprocess.Popen(
        ["sh", "-c", script, "sh", *command], cwd=shell.home, stderr=subprocess.PIPE, text=True
    ) as process:
        event(process, "for this machine only")
        process.terminate()
        code, _ = ended(process)

    assert code == 0
