"""
An example at work: copied into a folder, its constants edited as a user would, run, and read.

Whatever a test expects it waits for, as a line of output and up to a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest

import agora
from tests.support import raw_peer

__all__ = ["EXAMPLES", "NAMES", "Script", "copy_example", "messages_among", "running"]

EXAMPLES = Path(__file__).parents[2] / "examples"

NAMES = ("agora_20_line", "agora_minimal", "agora_example")

DEADLINE = 30.0
"""Seconds after which a line will not come; an interpreter starts meanwhile, on a busy machine."""

_LONGEST_LINE = 1024 * 1024


def copy_example(name: str, folder: Path, relay_url: str, **constants: object) -> Path:
    """Put an example into *folder*, with the relay's URL and other constants of its own."""
    text = (EXAMPLES / f"{name}.py").read_text()
    for constant, value in {"RELAY_URL": relay_url, **constants}.items():
        literal = json.dumps(value) if isinstance(value, str) else repr(value)
        [line] = re.findall(rf"^{constant} = .*$", text, re.M)
        text = text.replace(line, f"{constant} = {literal}")
    copy = folder / f"{name}.py"
    copy.write_text(text)
    return copy


class Script:
    """
    A running example.

    Attributes:
        name: Which one.
        process: The interpreter; standard error is joined to its output.
        lines: What it has printed, as far as it was read.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.process = process
        self.lines: list[str] = []

    async def says(self, text: str, *, times: int = 1) -> str:
        """Return the line that holds *text*, the *times*-th of them; wait for it."""
        return (await self.until(lambda line: text in line, times, text))[-1]

    async def hears(self, suffix: str, *, times: int) -> list[str]:
        """Wait for as many messages of the peer whose id ends so, and return their texts."""
        found = await self.until(
            lambda line: self._message(line, suffix) is not None, times, f"messages of @{suffix}"
        )
        return [self._message(line, suffix) or "" for line in found]

    async def until(self, fits: Callable[[str], bool], times: int, what: str) -> list[str]:
        """Read until so many lines fit, and return them; fail when they do not come."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE):
                is_running = True
                while is_running:
                    found = [line for line in self.lines if fits(line)]
                    if len(found) >= times:
                        return found
                    is_running = await self._read_line()
        said = "\n".join(self.lines)
        pytest.fail(f"{self.name} never said {what!r}, but:\n{said}")

    async def suffix(self) -> str:
        """Return the end of its peer id, once it has said who it is."""
        if self.name == "agora_20_line":
            frame = json.loads(await self.says('"registered"'))
            return str(frame["publicKey"][-8:])
        introduction = await self.says("= registered" if self.name == "agora_minimal" else "= this")
        return introduction[-8:]

    async def registered(self) -> str:
        """Wait until the relay has registered it; return the end of its peer id."""
        signs = {"agora_20_line": '"registered"', "agora_minimal": "= registered"}
        await self.says(signs.get(self.name, "= connected"))
        return await self.suffix()

    async def type(self, line: str) -> None:
        """Type a line at its terminal."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        await self.process.stdin.drain()

    async def ends(self) -> int:
        """Wait for its end; return the exit code. All it said can then be read in `lines`."""
        async with asyncio.timeout(DEADLINE):
            while await self._read_line():
                pass
            return await self.process.wait()

    async def stop(self, signal: int) -> int:
        """Send a signal, and wait for the end."""
        self.process.send_signal(signal)
        return await self.ends()

    async def _read_line(self) -> bool:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if line:
            self.lines.append(line.decode().rstrip("\n"))
        return bool(line)

    def _message(self, line: str, suffix: str) -> str | None:
        """Return what a line says that peer wrote, in the way of this example."""
        if self.name != "agora_20_line":
            start = f"< @{suffix}: "
            return line.removeprefix(start) if line.startswith(start) else None
        frame = json.loads(line)
        if frame["type"] != "message" or not frame["from"].endswith(suffix):
            return None
        return json.dumps(frame["envelope"].get("payload"))


@contextlib.asynccontextmanager
async def running(
    script: Path,
    *arguments: str,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: int = asyncio.subprocess.DEVNULL,
    prepare: Callable[[], object] | None = None,
) -> AsyncIterator[Script]:
    """
    Run a copied example until the block ends; by default in its folder and without input.

    *prepare* is called in the new process, before the interpreter starts.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error"),  # what a library warns about, users would see
        str(script),
        *arguments,
        cwd=folder or script.parent,
        env={**os.environ, **(environment or {})},
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=_LONGEST_LINE,
        preexec_fn=prepare,
    )
    try:
        yield Script(script.stem, process)
    finally:
        if process.returncode is None:
            process.kill()
        if process.stdin is not None:
            process.stdin.close()
        await process.communicate()  # what it still had to say, so that its pipes are closed


async def messages_among(relay: agora.Relay, scripts: list[Script]) -> int:
    """
    Let what these examples say to each other run out, and return how many messages it was.

    An observer is greeted by each, and sends each what is printed and not answered,
    several times over. What one did before is with the relay a round later, so that
    a conversation without an end would have grown.
    """
    rounds = 3
    async with raw_peer(relay.url) as observer:
        await observer.payloads(len(scripts))
        for number in range(rounds):
            for peer in observer.welcome["peers"]:
                answer = {"text": f"round {number}"}
                await observer.send(peer["publicKey"], answer, in_reply_to="0" * 64)
            for script in scripts:
                await script.says(f"round {number}")
    return relay.counts["message"] - (1 + rounds) * len(scripts)
