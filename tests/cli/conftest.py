"""A home of one's own for every test of the command line, and two ways to run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agora.cli.program import program
from agora.files import Config, load_config, save_config
from agora.keys import KeyPair
from agora.references import Contact

ALICE = KeyPair.from_seed(bytes(range(32)))
BOB = KeyPair.from_seed(bytes(range(32, 64)))

DEADLINE = 30.0
"""Seconds after which a process that should have ended has not."""


@dataclass(frozen=True)
class Ran:
    """What came of a command."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The JSON objects of standard output, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def object(self) -> dict[str, Any]:
        """The one JSON object of standard output."""
        (only,) = self.objects
        return only

    @property
    def last(self) -> dict[str, Any]:
        """The last JSON object of standard output: how it ended."""
        return self.objects[-1]


class Shell:
    """Runs ``agora`` in a home of its own, as alice, who knows bob, or as bob."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.config = home / "config.json"

    def run(self, *arguments: str, given: str | bytes | None = None) -> Ran:
        """Run a command in this process."""
        result = CliRunner().invoke(program, arguments, input=given, prog_name="agora")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    @contextmanager
    def start(self, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
        """Run a command as a process, which is killed at the end of the block if it still runs."""
        command = [sys.executable, "-m", "agora", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        with subprocess.Popen(command, cwd=self.home, text=True, **pipes) as process:
            try:
                yield process
            finally:
                process.kill()

    def call(self, *arguments: str) -> Ran:
        """Run a command as a process, to its end."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=DEADLINE)
        return Ran(process.returncode, out, err)

    def call_closed(self, *arguments: str) -> Ran:
        """Run a command as a process that has no standard input."""
        command = [sys.executable, "-m", "agora", *arguments]
        ran = subprocess.run(
            ["sh", "-c", 'exec "$@" <&-', "sh", *command],
            capture_output=True,
            text=True,
            cwd=self.home,
            timeout=DEADLINE,
        )
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    def introduce(self) -> None:
        """Write the config files of alice, who knows bob, and of bob."""
        save_config(self.config, Config(ALICE).with_contact(Contact(BOB.peer_id, "bob")))
        save_config(self.home / "profiles" / "bob" / "config.json", Config(BOB).with_name("bob"))

    def load(self) -> Config:
        """Return alice's config as it is now."""
        return load_config(self.config)


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """Let processes be interrupted also where the tests themselves run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def empty_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A home where nothing was ever made."""
    for name in [name for name in os.environ if name.startswith("AGORA_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("AGORA_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return Shell(tmp_path)


@pytest.fixture
def shell(empty_shell: Shell) -> Shell:
    """The home of alice, who knows bob; bob's identity is the profile ``bob``."""
    empty_shell.introduce()
    return empty_shell
