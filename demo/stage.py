"""
What the demo needs behind the scenes: a relay and example scripts as processes, and a transcript.

Nothing here outlives the demo: processes end with it, files are in a temporary folder.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"

_IS_TERMINAL = sys.stdout.isatty() and "NO_COLOR" not in os.environ


def scene(title: str) -> None:
    """Begin a new scene of the transcript."""
    line = f"── {title} " + "─" * max(0, 72 - len(title))
    print(f"\n\033[1m{line}\033[0m" if _IS_TERMINAL else f"\n{line}", flush=True)


def tell(who: str, what: str) -> None:
    """Write one line of the transcript."""
    padded, shown = f"{who:>10}", _shortened(what)
    print(f"\033[36m{padded}\033[0m  {shown}" if _IS_TERMINAL else f"{padded}  {shown}", flush=True)


def _shortened(line: str) -> str:
    """Shorten keys as everywhere, and other long hex, and what does not fit a screen."""
    line = re.sub(r"302a300506032b6570032100[0-9a-f]{56}([0-9a-f]{8})", r"@\1", line)
    line = re.sub(r"([0-9a-f]{8})[0-9a-f]{56,}", r"\1…", line)
    return line if len(line) <= _COLUMNS else line[: _COLUMNS - 1] + "…"


_COLUMNS = 100


class Process:
    """A process on the stage; what it prints can be waited for."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process
        self._lines: list[str] = []
        self._changed = asyncio.Event()

    async def read(self, *, aloud: bool) -> None:
        """Collect its lines until it ends; *aloud* puts them into the transcript."""
        assert self._process.stdout is not None  # piped
        async for raw in self._process.stdout:
            line = raw.decode(errors="replace").rstrip()
            self._lines.append(line)
            self._changed.set()
            if aloud and line:
                tell(self.name, line)

    async def line(self, pattern: str) -> str:
        """Return the first line that has *pattern*; waits for it."""
        async with asyncio.timeout(30):
            while True:
                for line in self._lines:
                    if re.search(pattern, line):
                        return line
                self._changed.clear()
                await self._changed.wait()

    async def stop(self) -> int:
        """Ask it to stop, as a service manager does; return its exit code."""
        if self._process.returncode is None:
            self._process.terminate()
        async with asyncio.timeout(20):
            return await self._process.wait()

    async def die(self) -> None:
        """End it at once, as a power cut does."""
        self.kill()
        async with asyncio.timeout(20):
            await self._process.wait()

    def kill(self) -> None:
        """Have it ended at once, if it still runs."""
        if self._process.returncode is None:
            self._process.kill()


@asynccontextmanager
async def process(name: str, *arguments: str, folder: Path, aloud: bool) -> AsyncIterator[Process]:
    """Run a Python process for the length of a block."""
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-u",
        *arguments,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    actor = Process(name, started)
    async with asyncio.TaskGroup() as group:
        group.create_task(actor.read(aloud=aloud))
        try:
            yield actor
            await actor.stop()
        finally:
            actor.kill()


@asynccontextmanager
async def relay(folder: Path, *, port: int) -> AsyncIterator[tuple[str, Process]]:
    """Run `agora relay` on the embedded defaults; yield its URL, and the process."""
    command = ["-m", "agora", "relay", "--port", str(port), "--data-dir", str(folder / "relay")]
    async with process("relay", *command, "--log-json", folder=folder, aloud=False) as running:
        listening = json.loads(await running.line('"listening"'))
        yield listening["url"], running


@asynccontextmanager
async def example(script: str, url: str, folder: Path) -> AsyncIterator[Process]:
    """Run one of the examples, as a user would who has edited its RELAY_URL."""
    home = folder / script.removesuffix(".py")
    home.mkdir(exist_ok=True)
    text = (EXAMPLES / script).read_text()
    edited = re.sub(r"^RELAY_URL = .*$", f'RELAY_URL = "{url}"', text, flags=re.MULTILINE)
    (home / script).write_text(edited)
    name = script.removeprefix("agora_").removesuffix(".py")
    async with process(name, script, folder=home, aloud=True) as running:
        yield running
