"""``agora bench`` as people and programs use it."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agora.bench.plan import BENCHES
from agora.bench.record import read_record
from agora.bench.relays import own_relay
from agora.bench.results import KINDS, from_members
from tests.cli.conftest import DEADLINE, Shell

BRIEF = ["--seconds", "0.05", "--pairs", "1", "--runs", "1"]
RECORD = Path(__file__).parents[1] / "data" / "bench.jsonl"


@pytest.fixture(scope="module")
def relay_url() -> Iterator[str]:
    """Where a relay without limits on rates listens."""
    with own_relay() as relay:
        yield relay.url


def test_every_bench_is_a_command(empty_shell: Shell) -> None:
    shown = empty_shell.run("bench", "--help").out

    assert BENCHES.keys() == KINDS.keys()
    assert all(f"\n  {name} " in shown for name in [*BENCHES, "all"])


def test_a_bench_starts_a_relay_says_how_and_shows_a_table(empty_shell: Shell) -> None:
    shown = empty_shell.run("bench", "throughput", *BRIEF)

    assert shown.code == 0, shown.err
    assert "--no-rate-limit-enabled" in shown.err
    assert "relay µs/message" in shown.out
    assert "one verify µs" in shown.out


def test_a_relay_that_is_named_is_measured_and_none_is_started(
    empty_shell: Shell, relay_url: str
) -> None:
    shown = empty_shell.run("bench", "throughput", "--relay", relay_url, *BRIEF, "--json")

    assert (shown.code, shown.err) == (0, "")
    assert shown.object["relay"] == "relay"
    assert shown.object["relay_cpu_us_per_message"] is None


def test_programs_get_a_run_on_each_line_for_each_size(empty_shell: Shell, relay_url: str) -> None:
    sizes = ["--payload", "64,100", "--seconds", "0.05", "--runs", "2"]
    shown = empty_shell.run("bench", "throughput", "--relay", relay_url, *sizes, "--json")

    runs = [from_members(json.loads(line)) for line in shown.out.splitlines()]
    assert [dict(run.condition_but())["payload_bytes"] for run in runs] == [64, 64, 100, 100]


def test_two_relays_are_measured_in_turn_and_compared(empty_shell: Shell, relay_url: str) -> None:
    other = ["--against", relay_url, "--against-name", "theirs"]
    shown = empty_shell.run("bench", "latency", "--relay", relay_url, *other, *BRIEF)

    assert shown.code == 0, shown.err
    assert "against theirs" in shown.out
    assert "ratio" in shown.out


def test_a_setting_reaches_the_relay_that_is_started(empty_shell: Shell) -> None:
    option = ["--relay-option", "max-frame-bytes=1024", "--payload", "2000"]
    shown = empty_shell.run("bench", "throughput", *option, *BRIEF)

    assert shown.code == 1
    assert "1009" in shown.err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["throughput", "--payload", "1"], "--payload"),
        (["throughput", "--payload", "many"], "--payload"),
        (["join", "--presence", "some"], "--presence"),
        (["idle", "--relay", "http://x"], "no WebSocket URL"),
        (["idle", "--relay", "ws://x", "--relay-option", "port=1"], "--relay-option"),
        (["all", "--from", __file__], "no record"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    empty_shell: Shell, arguments: list[str], why: str
) -> None:
    shown = empty_shell.run("bench", *arguments)

    assert (shown.code, why in shown.err) == (2, True), shown.err


def test_where_no_relay_is_the_exit_code_says_so(empty_shell: Shell) -> None:
    shown = empty_shell.run("bench", "join", "--relay", "ws://127.0.0.1:1")

    assert (shown.code, "no relay at" in shown.err) == (6, True), shown.err


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_a_bench_is_drawn(empty_shell: Shell, relay_url: str, tmp_path: Path, suffix: str) -> None:
    picture = tmp_path / f"picture.{suffix}"
    shown = empty_shell.run(
        "bench", "throughput", "--relay", relay_url, *BRIEF, "--plot", str(picture)
    )

    assert shown.code == 0, shown.err
    assert picture.stat().st_size > 1000


def test_the_page_and_its_pictures_are_made_of_what_was_written_down(
    empty_shell: Shell, tmp_path: Path
) -> None:
    page, plots = tmp_path / "page.md", tmp_path / "plots"
    made = ["--page", str(page), "--plot", str(plots)]
    shown = empty_shell.run("bench", "all", "--from", str(RECORD), *made)

    assert (shown.code, shown.out) == (0, ""), shown.err
    assert {file.stem for file in plots.iterdir()} == set(BENCHES)
    assert all(f"](plots/{name}.svg)" in page.read_text() for name in BENCHES)


def test_what_was_written_down_is_shown_again(empty_shell: Shell) -> None:
    shown = empty_shell.run("bench", "all", "--from", str(RECORD))

    assert shown.code == 0, shown.err
    assert all(f"{name}, agora" in shown.out for name in BENCHES)


@pytest.mark.long
@pytest.mark.timeout(120)
def test_a_little_of_everything_makes_a_record(empty_shell: Shell, tmp_path: Path) -> None:
    kept = tmp_path / "record.jsonl"
    shown = empty_shell.run("bench", "all", "--quick", "--json", "--save", str(kept))

    head, *runs = shown.objects
    assert head["bench"] == "record"
    assert {run["bench"] for run in runs} == set(BENCHES)
    assert read_record(kept.read_text().splitlines()) == read_record(shown.out.splitlines())


def test_benches_that_fail_are_told_and_the_others_go_on(empty_shell: Shell) -> None:
    shown = empty_shell.run("bench", "all", "--quick", "--relay", "ws://127.0.0.1:1", "--json")

    assert shown.code == 1
    assert [line.get("bench") for line in shown.objects] == ["record", None]
    assert all(f"agora bench {name}" in shown.err for name in BENCHES)
    assert "8 benches could not be carried out" in shown.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_bench_that_is_stopped_leaves_no_relay_behind(
    empty_shell: Shell, number: signal.Signals, hears_ctrl_c: None
) -> None:
    with empty_shell.start("bench", "soak", "--rate", "10") as bench:
        children = Path(f"/proc/{bench.pid}/task/{bench.pid}/children")
        while not (relays := [pid for pid in children.read_text().split() if is_listening(pid)]):
            assert bench.poll() is None
        bench.send_signal(number)
        bench.wait(DEADLINE)

    assert bench.returncode == 130
    assert not Path(f"/proc/{relays[0]}").exists()


def is_listening(pid: str) -> bool:
    """Tell whether a relay can be reached on the port that it was started for."""
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    if "--port" not in words:
        return False  # it has only just been forked
    with (
        suppress(OSError),
        socket.create_connection(("127.0.0.1", int(words[words.index("--port") + 1]))),
    ):
        return True
    return False
