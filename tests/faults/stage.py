"""
A relay to be killed, and processes that play parts: what a loop of faults is made of.

A `Target` is a relay process that comes back at the same address with the same
files. A `Cast` is all who talk through it; at the end of a play its ledger is read.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Thread
from typing import Any, Self

from tests.faults.careless import Fault
from tests.faults.ledger import Event, Verdict, check, read_books
from tests.faults.part import Part
from tests.faults.players import Player, player
from tests.faults.speaker import DEADLINE

__all__ = [
    "PATIENCE",
    "Cast",
    "Target",
    "careless_relay",
    "free_port",
    "parts",
    "relay_command",
    "until",
]

ROOT = Path(__file__).parents[2]

PATIENCE = 60.0
"""Seconds in which everything must have come to its end when the weather is fair again."""


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


# The relay


def relay_command(
    port: int, folder: Path, *, program: tuple[str, ...] = ("agora",), **settings: Any
) -> list[str]:
    """
    Return how ``agora relay`` is started with these settings, logging as JSON.

    It serves HTTP where they name a port for it: that door takes as long again to open.

    *program* is the module to run in place of ``agora``, and its own arguments.
    """
    given = {"port": port, "data_dir": folder, "http": "http_port" in settings} | settings
    flags = [flag for name, value in given.items() for flag in _flag(name, value)]
    return [sys.executable, "-m", *program, "relay", "--log-json", *flags]


def _flag(name: str, value: Any) -> list[str]:
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    return [f"--{option}", ",".join(value) if isinstance(value, tuple) else str(value)]


def careless_relay(port: int, folder: Path, fault: Fault = Fault.NOTHING) -> list[str]:
    """Return how the relay for trying the ledger is started."""
    folder.mkdir(exist_ok=True)
    where = str(folder / "careless.db")
    return [sys.executable, "-m", "tests.faults.careless", str(port), where, fault]


class Target:
    """
    A relay process, to be killed and started again.

    Args:
        command: What runs it; it listens on *port*.
        port: Where.
        log: The file that its standard error goes to.

    Attributes:
        url: Where it listens, whenever it does.
        starts: How often it was started.
    """

    def __init__(self, command: list[str], port: int, log: Path) -> None:
        self.url = f"ws://127.0.0.1:{port}"
        self.starts = 0
        self.log = log
        self._command = command
        self._port = port
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The process, which is running."""
        assert self._process is not None, "it runs"
        return self._process.pid

    async def launch(self, *, max_file_bytes: int | None = None) -> None:
        """
        Start it, and do not wait.

        Args:
            max_file_bytes: With how full a disk, see `fill_disk`; None for none of that.
        """
        reading, writing = os.pipe()
        self._process = await asyncio.create_subprocess_exec(
            *self._command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=writing
        )
        if max_file_bytes is not None:
            self.fill_disk(max_file_bytes)
        os.close(writing)
        self.starts += 1
        # Through a pipe: a log file of its own would be held to the bound on its files too.
        Thread(target=_copy, args=(reading, self.log), daemon=True).start()

    async def start(self, *, max_file_bytes: int | None = None) -> Self:
        """Start it; returns when it listens. The argument is that of `launch`."""
        await self.launch(max_file_bytes=max_file_bytes)
        assert self._process is not None, "it was just started"
        async with asyncio.timeout(DEADLINE):
            while not await self._is_listening():
                assert self._process.returncode is None, self.log.read_text()[-2_000:]
                await asyncio.sleep(0.01)
        return self

    async def kill(self) -> None:
        """End it as a loss of power does: SIGKILL. Nothing happens when it does not run."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def stop(self) -> None:
        """End it as an operator does: SIGTERM. Nothing happens when it does not run."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()

    def stand_still(self) -> None:
        """Stop it where it is: SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on: SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def fill_disk(self, size: int) -> None:
        """Let no file of it grow beyond *size* bytes: each write that would is refused."""
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (size, hard))

    def free_disk(self) -> None:
        """Let files grow again."""
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (hard, hard))

    def faults(self) -> list[str]:
        """Return what it logged as a fault of its own, and what it said that is no log at all."""
        lines = [line for line in self.log.read_text().splitlines() if line]
        return [line for line in lines if not line.startswith("{") or _is_error(line)]

    async def _is_listening(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return False
        writer.transport.abort()
        return True


def _copy(reading: int, log: Path) -> None:
    with open(reading, "rb") as said, log.open("ab") as kept:
        for line in said:
            kept.write(line)
            kept.flush()


def _is_error(line: str) -> bool:
    return bool(json.loads(line)["level"] in {"error", "critical"})


# Those who talk


def parts(
    url: str, folder: Path, *, senders: int, recipients: int, seed: int, **members: Any
) -> list[Part]:
    """Return the parts of a play in which every sender writes to every recipient."""

    def part(number: int, role: str) -> Part:
        key = (seed * 1_000 + number).to_bytes(32).hex()
        return Part(url=url, folder=folder, name=f"{role}{number}", seed=key, **members)

    readers = [part(number, "recipient") for number in range(recipients)]
    names = tuple(reader.keys.peer_id for reader in readers)
    writers = [part(recipients + number, "sender") for number in range(senders)]
    return [*readers, *(replace(writer, recipients=names) for writer in writers)]


@dataclass
class Cast:
    """
    All who play.

    Attributes:
        parts: Who they are.
        players: Those that play in this process.
        processes: Those that play in a process of their own, by name.
    """

    parts: list[Part]
    players: list[Player] = field(default_factory=list)
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)

    @asynccontextmanager
    async def playing(self, *, in_processes: bool = False) -> AsyncIterator[Self]:
        """Let them talk for the length of a block, behind which they are gone."""
        if in_processes:
            try:
                for part in self.parts:
                    await self.enter(part)
                yield self
            finally:
                for part in self.parts:
                    await self.kill(part)
            return
        self.players = [player(part) for part in self.parts]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one.run()) for one in self.players]
                yield self
                for task in tasks:
                    task.cancel()
        finally:
            # Not sooner: a player that is still ending writes in it, and a file number that was
            # let go of is an error that looks like a fault of the network, or another's book.
            for one in self.players:
                one.book.close()

    async def enter(self, part: Part) -> None:
        """Start the process of one player, or start it again; returns when it can be stopped."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.faults.players", part.to_json()),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        self.processes[part.name] = process
        assert process.stdout is not None, "as asked"
        async with asyncio.timeout(PATIENCE):  # it has its whole past to read
            assert await process.stdout.readline() == b"playing\n"

    async def kill(self, part: Part) -> None:
        """End the process of one player: SIGKILL. Nothing happens when it is over."""
        process = self.processes[part.name]
        if process.returncode is None:
            process.kill()
        await process.wait()

    async def finish(self, patience: float = PATIENCE) -> Verdict:
        """
        Let senders bring what they have to its end and recipients get all of it; then judge.

        Returns after *patience* in any case: what is missing then is in the verdict.
        """
        for one in filter(_sends, self.players):
            one.stop()
        writers = [part.name for part in self.parts if part.recipients]
        senders = [process for name, process in self.processes.items() if name in writers]
        for process in senders:
            if process.returncode is None:
                process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                for process in senders:
                    assert await process.wait() == 0, "a sender ends when all is settled"
                await until(lambda: all(one.is_over for one in self.players if _sends(one)))
                await until(lambda: not self._is_missing_something(), every=0.2)
        return self.verdict()

    def verdict(self) -> Verdict:
        """Judge what is in the books now."""
        return check(read_books(part.book for part in self.parts))

    def count(self, event: Event) -> int:
        """Return how often something has happened so far."""
        return sum(entry.event is event for entry in read_books(part.book for part in self.parts))

    def _is_missing_something(self) -> bool:
        return any(violation.startswith("lost") for violation in self.verdict().violations)


def _sends(one: Player) -> bool:
    return bool(one.part.recipients)


async def until(condition: Callable[[], bool], *, every: float = 0.02) -> bool:
    """Wait for a condition that has no event to wait for; the caller has the deadline."""
    while not condition():  # noqa: ASYNC110  # as the first line says
        await asyncio.sleep(every)
    return True
