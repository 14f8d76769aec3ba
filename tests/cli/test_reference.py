"""The pages of the command line are what the code says, and the help is all there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from agora import sync
from agora.build import is_compiled
from agora.cli.exits import EXIT_CODES, NotTakenError, exit_code
from agora.cli.settings import shown_default
from agora.errors import AgoraError, NoAnswerError, NotConnectedError, OutboxFullError
from agora.relay.config import SETTINGS, environment_names
from agora.testing import relay_in_thread
from tests.cli.conftest import ALICE, BOB, Shell
from tools.reference import JSON_OBJECTS, PAGES

FOLDER = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_says(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name](), "run make pages"


def test_the_help_of_the_relay_shows_every_default_unit_and_variable(empty_shell: Shell) -> None:
    shown = " ".join(empty_shell.run("relay", "--help").out.split())

    for declared in SETTINGS.values():
        if declared.name == "data_dir":
            continue  # a path of this machine, which has a test of its own
        names = " or ".join(environment_names(declared))
        assert f"[default: {shown_default(declared)}; {names}]" in shown, declared.name


@pytest.mark.parametrize(
    "arguments", [["--help"], ["-h"], ["send", "-h"], ["keys", "export", "-h"]]
)
def test_help_is_on_standard_output(empty_shell: Shell, arguments: list[str]) -> None:
    shown = empty_shell.run(*arguments)

    assert (shown.code, shown.err) == (0, "")
    assert shown.out.startswith("Usage: agora")


def test_the_version_is_said(empty_shell: Shell) -> None:
    core = "compiled" if is_compiled() else "pure"
    said = empty_shell.run("--version").out

    assert re.fullmatch(rf"agora, version \d+\.\d+\.\d+, {core} core\n", said)


def test_what_is_no_command_is_a_usage_error(empty_shell: Shell) -> None:
    assert empty_shell.run("serve").code == 2
    assert empty_shell.run("send", "bob", "hi", "--loudly").code == 2


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["sned", "bob"], "No such command 'sned'. Did you mean 'send'?"),
        (["--relay", "ws://x", "send"], "It goes after the command: agora send --relay"),
    ],
)
def test_what_was_probably_meant_is_said(
    empty_shell: Shell, arguments: list[str], advice: str
) -> None:
    failed = empty_shell.run(*arguments)

    assert (failed.code, advice in failed.err) == (2, True), failed.err


@pytest.mark.parametrize("arguments", [[], ["relay"], ["send"], ["peers"], ["keys"]])
def test_help_is_whole_and_points_to_no_file_that_is_not_installed(
    empty_shell: Shell, arguments: list[str]
) -> None:
    shown = empty_shell.run(*arguments, "--help").out
    listed = shown.partition("Commands:")[2]

    assert "docs/" not in shown
    assert "..." not in listed


def test_the_help_of_the_relay_names_the_folder_it_would_use(empty_shell: Shell) -> None:
    shown = "".join(empty_shell.call("relay", "--help").out.split())

    assert f"[default:{empty_shell.home / 'data' / 'agora' / 'relay'};" in shown


def test_ctrl_c_while_it_starts_leaves_no_traceback(empty_shell: Shell) -> None:
    script = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'agora.cli.program': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "from agora.cli import main; main()"
    )

    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert (ran.returncode, ran.stderr) == (130, "")


def test_every_code_of_the_command_line_is_on_its_page() -> None:
    page = PAGES["cli.md"]()
    codes = ["no_identity", "interrupted", "cannot_start", "unknown_peer", "no_answer", "error"]

    assert all(f"| `{code}` |" in page for code in codes)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AgoraError("x"), 1),
        (FileNotFoundError("x"), 1),
        (NotConnectedError("x"), 6),
        (NoAnswerError("x"), 7),
        (NotTakenError("unavailable", "x"), 8),
        (OutboxFullError("x"), 8),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
    ],
)
def test_an_error_ends_with_the_code_of_its_nearest_kin(error: BaseException, code: int) -> None:
    assert exit_code(error) == code


def test_every_error_there_is_has_an_exit_code() -> None:
    kinds = [AgoraError]
    for kind in kinds:
        kinds += kind.__subclasses__()

    assert all(exit_code(kind.__new__(kind)) in EXIT_CODES for kind in kinds)


def test_the_objects_for_programs_are_those_of_the_page(
    shell: Shell,
) -> None:
    stranger = "302a300506032b6570032100" + "ab" * 32
    key = str(shell.home / "key")
    # Bob reads nothing: after so long it is in his mailbox.
    with relay_in_thread(ack_timeout=0.1) as running, sync.Client(running.url, BOB, name="bob"):
        relay = ["--relay", running.url]
        written = {
            "whoami": shell.run("whoami", "--json"),
            "init": shell.run("init", "--json"),
            "init again": shell.run("init", "--name", "alice", "--json"),
            "send": shell.run("send", *relay, "bob", "hello", "--json"),
            "peers": shell.run("peers", *relay, "--json"),
            "peers add": shell.run("peers", "add", "carol", stranger, "--json"),
            "peers remove": shell.run("peers", "remove", "carol", "--json"),
            "ignore": shell.run("ignore", stranger, "--json"),
            "ignored": shell.run("ignored", "--json"),
            "unignore": shell.run("unignore", stranger, "--json"),
            "policy": shell.run("policy", "--json"),
            "keys": shell.run("keys", "--json"),
            "keys generate": shell.run("keys", "generate", f"{key}.json", "--json"),
            "keys export": shell.run("keys", "export", "--private-key", key, "--json"),
            "keys import": shell.run("keys", "import", key, "--json"),
        }

    for command, ran in written.items():
        documented = set(re.findall(r"`(\w+)`", JSON_OBJECTS[command.split(" again")[0]]))
        assert ran.code == 0, ran.err
        assert ran.object.keys() <= documented, command
    assert shell.load().identity.peer_id == ALICE.peer_id
