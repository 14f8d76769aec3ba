"""
The relay that is measured: one of our own in another process, or whichever is named.

Our own gets a folder that is removed afterwards, a free port of this machine, and
bounds so wide that none of them is what is measured.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import agora
from agora.errors import NotConnectedError

__all__ = ["WIDE", "Target", "flags_of", "own_relay"]

WIDE: Mapping[str, str] = {
    "log-level": "warning",
    "no-rate-limit-enabled": "",
    "max-connections": "100000",
    "max-peers": "100000",
    "max-pins-per-address": "10000000",
    "max-pins": "10000000",
    "mailbox-max-messages": "10000000",
    "mailbox-max-bytes": "1099511627776",
    "store-max-bytes": "4398046511104",
    "mailbox-sender-share": "1",
    "drain-timeout": "0.5",
}
"""
Settings of a relay of our own: bounds that no bench meets, and a log of warnings alone. At
its end it waits for nobody for long.
"""

_PATIENCE = 30.0
_STOPPING = 15.0


@dataclass(frozen=True, slots=True)
class Target:
    """
    A relay to be measured.

    Attributes:
        url: Where it is.
        pid: Its process, to see what it spends; None where that is not known.
        name: What figures call it.
        options: With which options it was started, as they are typed.
        is_own: Whether we started it.
    """

    url: str
    pid: int | None = None
    name: str = "relay"
    options: tuple[str, ...] = ()
    is_own: bool = False


@contextmanager
def own_relay(options: Mapping[str, str] | None = None) -> Iterator[Target]:
    """
    Run ``agora relay`` for the length of a ``with`` block.

    Args:
        options: Settings beside `WIDE`, or instead of some of it, by the names of
            their flags; an empty text for a flag that takes no value.
    """
    flags = tuple(flags_of({**WIDE, **(options or {})}))
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="agora-bench-") as folder:
        command = [sys.executable, "-m", "agora", "relay", "--port", str(port)]
        command += ["--data-dir", str(Path(folder, "data")), *flags]
        with (
            Path(folder, "log").open("w+b") as log,
            subprocess.Popen(  # noqa: S603  # our own command
                command,
                cwd=folder,
                env=_environment(),
                stdout=subprocess.DEVNULL,
                stderr=log,
            ) as process,
        ):
            try:
                _wait_until_it_listens(process, port, Path(log.name))
                yield Target(f"ws://127.0.0.1:{port}", process.pid, "agora", flags, is_own=True)
            finally:
                _stop(process)


def flags_of(settings: Mapping[str, str]) -> Iterator[str]:
    """Yield settings as they are typed."""
    for name, value in settings.items():
        yield f"--{name}={value}" if value else f"--{name}"


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def _environment() -> dict[str, str]:
    """Return our environment without settings of relays, and with the package that runs here."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AGORA_")}
    here = str(Path(agora.__file__).parents[1])
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, [here, kept.get("PYTHONPATH")]))}


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.02)
    said = log.read_text("utf-8", "replace").strip()
    raise NotConnectedError(f"the relay has not started: {said or 'it says nothing'}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End it as an operator does; one that does not hear is killed."""
    process.terminate()
    try:
        process.wait(_STOPPING)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
