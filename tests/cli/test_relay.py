"""``agora relay``: settings from everywhere, one line when it cannot start, a graceful stop."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
import trustme
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import agora
from agora import sync
from agora.build import is_compiled
from agora.testing import RelayInThread
from tests.cli.conftest import ALICE, BOB, DEADLINE, Shell

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")


@contextmanager
def running(shell: Shell, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a relay as a process, without the door that takes it as long again to open."""
    with shell.start("relay", "--log-json", "--no-http", *arguments) as process:
        yield process, event(process, "listening")["url"]


def event(process: subprocess.Popen[str], name: str) -> dict[str, Any]:
    """Read the log up to an event."""
    assert process.stderr is not None
    for line in process.stderr:
        members: dict[str, Any] = json.loads(line)
        if members["event"] == name:
            return members
    raise AssertionError(f"the log ended without {name!r}")


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the end; return the exit code and the rest of the log."""
    _, err = process.communicate(timeout=DEADLINE)
    return process.returncode, err


@posix_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_gracefully(shell: Shell, number: signal.Signals) -> None:
    with running(shell, "--port", "0") as (process, url), connect(url, proxy=None) as client:
        client.send(json.dumps({"type": "register", "publicKey": ALICE.peer_id}))
        client.recv(DEADLINE)
        process.send_signal(number)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(DEADLINE)
        code, log = ended(process)

    assert closed.value.rcvd is not None
    assert (code, closed.value.rcvd.code) == (0, 1001)
    assert json.loads(log.splitlines()[-1])["event"] == "stopped"


@posix_only
def test_a_second_signal_stops_it_at_once(shell: Shell) -> None:
    arguments = ["--port", "0", "--drain-timeout", "600"]
    with running(shell, *arguments) as (process, url), silent_client(url) as client:
        process.send_signal(signal.SIGTERM)
        client.recv(1)  # the relay says goodbye, and now waits for ours
        process.send_signal(signal.SIGTERM)
        code, _ = ended(process)

    assert code == -signal.SIGTERM


@contextmanager
def silent_client(url: str) -> Iterator[socket.socket]:
    """Open a WebSocket that never answers anything."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname or "", place.port or 0), DEADLINE) as client:
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        response = b""
        while not response.endswith(b"\r\n\r\n"):
            response += client.recv(1)
        yield client


def test_it_is_for_this_machine_and_says_how_to_open_it(shell: Shell) -> None:
    with running(shell, "--port", "0") as (process, url):
        told = event(process, "for this machine only")

    assert (urlsplit(url).hostname, told["level"]) == ("127.0.0.1", "info")
    assert told["hint"] == "--host 0.0.0.0 opens it to the network"


def test_http_is_served_unless_it_is_switched_off(shell: Shell) -> None:
    with shell.start("relay", "--log-json", "--port", "0") as process:
        url = event(process, "serving HTTP")["url"]
        with urlopen(f"{url}/openapi.json", timeout=DEADLINE) as answer:
            document = json.load(answer)
    with running(shell, "--port", "0", "--no-http", "--http-port", "1") as (process, _):
        assert event(process, "serving")["version"] == agora.__version__

    assert document["info"]["version"] == agora.__version__


def test_an_http_port_in_use_is_said_on_one_line(shell: Shell, agora_relay: RelayInThread) -> None:
    port = str(urlsplit(agora_relay.url).port)

    result = shell.call("relay", "--port", "0", "--http-port", port)

    assert result.code == 10
    assert f"cannot serve HTTP on port {port}" in result.err
    assert "--http-port" in result.err


def test_open_to_the_network_without_tls_it_says_so(shell: Shell) -> None:
    with running(shell, "--port", "0", "--host", "0.0.0.0") as (process, _):
        told = event(process, "open to the network without TLS")

    assert told["level"] == "warning"
    assert told["hint"] == "give --tls-cert, or put a proxy in front"


def test_people_read_the_hint_behind_the_event(shell: Shell) -> None:
    with shell.start("relay", "--port", "0") as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "this machine" in line)

    assert line.endswith("for this machine only: --host 0.0.0.0 opens it to the network\n")


def test_it_tells_what_it_serves(shell: Shell) -> None:
    with running(shell, "--port", "0", "--storage-peers", BOB.peer_id) as (process, _):
        kept = event(process, "serving")
    with running(shell, "--port", "0", "--memory", "--envelopes", "legacy") as (process, _):
        lost = event(process, "serving")

    folder = str(shell.home / "data" / "agora" / "relay")
    assert kept["version"] == agora.__version__
    assert kept["core"] == ("compiled" if is_compiled() else "pure")
    assert (kept["data_dir"], kept["mail"], kept["storage_peers"]) == (folder, "kept", 1)
    assert (lost["envelopes"], lost["mail"], lost["storage_peers"]) == ("legacy", "in memory", 0)


def test_a_variable_that_sets_nothing_is_told(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shell.home / ".env").write_text("AGORA_PROT=1\nOTHER=1\n")
    monkeypatch.setenv("AGORA_MAX_PEER", "1")
    monkeypatch.setenv("AGORA_CONFIG", "config.json")
    with shell.start("relay", "--log-json", "--port", "0") as process:
        first, second = (event(process, "unknown variable") for _ in range(2))

    assert (first["name"], first["hint"]) == ("AGORA_PROT", "did you mean AGORA_PORT?")
    assert (second["name"], second["hint"]) == ("AGORA_MAX_PEER", "did you mean AGORA_MAX_PEERS?")
    assert first["level"] == "warning"


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of another process is Linux's to show")
@pytest.mark.parametrize("most", [256, 4096])
def test_it_takes_the_open_files_that_its_connections_need(shell: Shell, most: int) -> None:
    import resource

    arguments = ["relay", "--log-json", "--port", "0", "--max-connections", "1000"]
    script = f'ulimit -Sn 128; ulimit -Hn {most}; exec "$@"'
    command = ["sh", "-c", script, "sh", sys.executable, "-m", "agora", *arguments]
    with subprocess.Popen(command, cwd=shell.home, stderr=subprocess.PIPE, text=True) as process:
        told = event(process, "too few open files" if most == 256 else "listening")
        event(process, "for this machine only")
        soft, _ = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        process.terminate()
        ended(process)

    assert soft == min(most, 1064)
    if most == 256:
        assert (told["level"], told["limit"], told["wanted"]) == ("warning", 256, 1064)


def test_mail_and_identity_outlive_a_restart_in_the_users_data_directory(shell: Shell) -> None:
    arguments = ["--port", "0", "--storage-peers", BOB.peer_id]
    with running(shell, *arguments) as (process, url), sync.Client(url, ALICE) as alice:
        before = alice.relay
        alice.send(BOB.peer_id, "stored")
        process.terminate()
        process.wait(DEADLINE)
    with running(shell, *arguments) as (_, url), sync.Client(url, BOB) as bob:
        assert (next(bob).payload, bob.relay) == ("stored", before)

    assert (shell.home / "data" / "agora" / "relay" / "mailbox.sqlite3").exists()


def test_flags_win_over_the_environment_and_that_over_dotenv(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        "# a comment",
        "AGORA_HOST='192.0.2.1'",
        "AGORA_PORT=1",
        'AGORA_STORAGE_DIR="kept here"',
    ]
    (shell.home / ".env").write_text("\n".join(lines))
    monkeypatch.setenv("AGORA_HOST", "localhost")
    monkeypatch.setenv("AGORA_PORT", "2")
    monkeypatch.setenv("AGORA_STORAGE_DIR", "")

    with running(shell, "--port", "0") as (_, url):
        assert urlsplit(url).hostname == "localhost"
    assert (shell.home / "kept here" / "mailbox.sqlite3").exists()


def test_storage_peers_are_a_list_and_the_flag_may_be_repeated(shell: Shell) -> None:
    other = "302a300506032b6570032100" + "ab" * 32
    peers = ["--storage-peers", f"{BOB.peer_id}, {other}", "--storage-peers", ALICE.peer_id]

    with (
        running(shell, "--port", "0", "--memory", *peers) as (_, url),
        sync.Client(url, ALICE) as me,
    ):
        receipts = me.send_group([BOB.peer_id, other], "stored")

    assert [receipt.status for receipt in receipts] == ["stored", "stored"]


def test_wss_works_with_a_certificate(shell: Shell) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    files = {name: str(shell.home / name) for name in ("ca", "cert", "key")}
    authority.cert_pem.write_to_path(files["ca"])
    issued.cert_chain_pems[0].write_to_path(files["cert"])
    issued.private_key_pem.write_to_path(files["key"])
    tls = ["--tls-cert", files["cert"], "--tls-key", files["key"]]
    with running(shell, "--port", "0", "--storage-peers", BOB.peer_id, *tls) as (_, url):
        trusted = shell.run("send", "--relay", url, "--ca-file", files["ca"], "bob", "hello")
        untrusted = shell.run("send", "--relay", url, "bob", "hello")

    assert url.startswith("wss://")
    assert (trusted.code, untrusted.code) == (0, 2)
    assert "does not verify" in untrusted.err


# What cannot be


@pytest.mark.parametrize(
    ("flag", "value", "why"),
    [
        ("--port", "70000", "port of 70000 is above its maximum of 65535"),
        ("--port", "-1", "port of -1 is below its minimum of 0"),
        ("--port", "abc", "'abc' is no whole number"),
        ("--port", "9" * 5000, "is no whole number"),
        ("--mailbox-max-age", "nan", "mailbox_max_age of nan is not finite"),
        ("--mailbox-max-age", "inf", "mailbox_max_age of inf is not finite"),
        ("--register-timeout", "1e300", "is above its maximum of 315360000"),
        ("--max-peers", "0", "max_peers of 0 is below its minimum of 1"),
        ("--max-peers", "1" + "0" * 30, "is above its maximum of 9007199254740991"),
        ("--max-peers", "1.5", "'1.5' is no whole number"),
        ("--envelopes", "lax", "envelopes of 'lax' is none of strict · legacy · open"),
        ("--log-level", "loud", "none of debug · info · warning · error"),
        ("--storage-peers", "bob", "storage_peers holds 'bob', which is no peer id"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_its_name(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, flag: str, value: str, why: str
) -> None:
    variable = "AGORA_" + flag.removeprefix("--").replace("-", "_").upper()

    by_flag = shell.run("relay", flag, value)
    monkeypatch.setenv(variable, value)
    by_environment = shell.run("relay")

    assert (by_flag.code, by_environment.code) == (2, 2)
    assert f"Invalid value for '{flag}': " in by_flag.err
    assert why in by_flag.err
    assert by_environment.err.startswith(f"agora: {variable}: ")
    assert why in by_environment.err


def test_a_truth_that_is_neither_is_refused(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGORA_RATE_LIMIT_ENABLED", "maybe")

    refused = shell.run("relay")

    assert (refused.code, "'maybe' is neither true nor false" in refused.err) == (2, True)


@pytest.mark.parametrize("line", ["AGORA_PROOF='required", "AGORA_PROOF", "export AGORA_PROOF"])
def test_a_line_of_dotenv_that_sets_nothing_is_refused(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(shell.home)
    (shell.home / ".env").write_text(f"# AGORA_PORT\nOTHER\nAGORA_PORT=0\n{line}\n")

    refused = shell.run("relay")

    assert refused.code == 2
    assert f"{shell.home / '.env'}: line 4: no NAME=value" in refused.err


def test_a_wrong_dotenv_is_named(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shell.home)
    for content in (b"AGORA_PORT=abc\n", b"AGORA_PORT=\xff\n"):
        Path(".env").write_bytes(content)
        refused = shell.run("relay")

        assert (refused.code, str(shell.home / ".env") in refused.err) == (2, True)


def test_a_certificate_needs_its_key(shell: Shell) -> None:
    refused = shell.run("relay", "--tls-cert", "cert.pem")

    assert (refused.code, "go together" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--host", "192.0.2.1"], "that is no address of this machine"),
        (["--host", "no-such-host.invalid"], "no address is called 'no-such-host.invalid'"),
        (["--host", "bad..host"], "no address is called 'bad..host'"),
        (["--tls-cert", "no.pem", "--tls-key", "no.pem"], "cannot use certificate no.pem"),
        (["--data-dir", "config.json"], "cannot use the relay's key in config.json: "),
    ],
)
def test_what_cannot_start_says_why_on_one_line(
    shell: Shell, arguments: list[str], why: str
) -> None:
    failed = shell.call("relay", "--no-http", "--port", "0", *arguments)

    assert failed.code == 10
    assert why in failed.err
    assert failed.err.count("\n") == 1


def test_a_port_in_use_is_said_on_one_line(shell: Shell, agora_relay: RelayInThread) -> None:
    port = str(urlsplit(agora_relay.url).port)

    failed = shell.call("relay", "--no-http", "--port", port)

    assert failed.code == 10
    assert failed.err == (
        f"agora: cannot listen on port {port} of 127.0.0.1: "
        "it is in use; stop what listens there, or give another --port\n"
    )


@pytest.mark.parametrize("module", ["dotenv", "platformdirs"])
def test_a_missing_extra_is_named_on_one_line(shell: Shell, module: str) -> None:
    script = (
        f"import sys; sys.modules[{module!r}] = None; sys.argv = ['agora', 'relay']; "
        "from agora.cli import main; main()"
    )

    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert ran.returncode == 9
    assert ran.stderr == (
        f"agora: {module} is not installed: install agora-relay[relay] to run a relay, "
        "in the clone by pip install '.[relay]'\n"
    )


def test_without_uvloop_asyncio_will_do(shell: Shell) -> None:
    script = (
        "import sys; sys.modules['uvloop'] = None; "
        "sys.argv = ['agora', 'relay', '--port', '0', '--log-json']; "
        "from agora.cli import main; main()"
    )
    command = [sys.executable, "-c", script]

    with subprocess.Popen(command, cwd=shell.home, stderr=subprocess.PIPE, text=True) as process:
        event(process, "listening")
        process.terminate()
        code, _ = ended(process)

    assert code == 0
