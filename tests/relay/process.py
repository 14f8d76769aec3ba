"""A relay in a process of its own, to kill it and to measure it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.support import DEADLINE

__all__ = ["RelayProcess", "relay_process"]

_PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from agora.relay import Relay

async def serve(settings):
    if "data_dir" in settings:
        settings["data_dir"] = Path(settings["data_dir"])
    async with Relay(**settings) as relay:
        print(relay.url, flush=True)
        await asyncio.Event().wait()

asyncio.run(serve(json.loads(sys.argv[1])))
"""


@dataclass(frozen=True, slots=True)
class RelayProcess:
    """
    A running relay.

    Attributes:
        url: Where it listens.
        process: The process, to send signals to.
    """

    url: str
    process: asyncio.subprocess.Process

    async def kill(self) -> None:
        """End it as a loss of power does: SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


@asynccontextmanager
async def relay_process(**settings: Any) -> AsyncIterator[RelayProcess]:
    """Run a relay with *settings* on a free port; it is killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _PROGRAM,
        json.dumps({"port": 0} | settings, default=str),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None  # as asked
    try:
        async with asyncio.timeout(DEADLINE):
            url = (await process.stdout.readline()).decode().strip()
        yield RelayProcess(url, process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
