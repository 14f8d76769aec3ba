"""
The reference's real programs, run from where they were fetched and built.

``AGORA_REFERENCE_DIR`` names the built rookdaemon/agora, and
``AGORA_REFERENCE_OLD_DIR`` the built older rookdaemon/agora-relay; see
docs/howto/interop.md. Where one is not set, its tests are skipped: nothing here
stands in for the reference.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agora.keys import KeyPair

__all__ = [
    "CURRENT_DIR",
    "OLDER_DIR",
    "ReferenceClient",
    "ReferenceRelay",
    "needs_current",
    "needs_older",
    "reference_client",
    "reference_relay",
    "run_reference_cli",
]

CURRENT_DIR = os.environ.get("AGORA_REFERENCE_DIR", "")
OLDER_DIR = os.environ.get("AGORA_REFERENCE_OLD_DIR", "")

needs_current = pytest.mark.skipif(
    not CURRENT_DIR, reason="AGORA_REFERENCE_DIR is not set (docs/howto/interop.md)"
)
needs_older = pytest.mark.skipif(
    not OLDER_DIR, reason="AGORA_REFERENCE_OLD_DIR is not set (docs/howto/interop.md)"
)

_HERE = Path(__file__).parent
_PATIENCE = 20.0  # seconds; a Node process that starts on a busy machine


@dataclass(frozen=True, slots=True)
class ReferenceRelay:
    """The reference's relay, listening."""

    url: str


@asynccontextmanager
async def reference_relay(
    directory: str, data_dir: Path, settings: Mapping[str, Any]
) -> AsyncIterator[ReferenceRelay]:
    """Run the relay built in *directory*; *settings* are in the words of ``agora.Relay``."""
    told = {**settings, "data_dir": str(data_dir)}
    if isinstance(identity := settings.get("identity"), KeyPair):
        told["identity"] = _key_members(identity)
    async with _node("reference_relay.mjs", directory, told) as node:
        yield ReferenceRelay((await _read_line(node))["url"])


def _key_members(key_pair: KeyPair) -> dict[str, str]:
    return {"publicKey": key_pair.public_key, "privateKey": key_pair.private_key}


class ReferenceClient:
    """The reference's ``RelayClient`` in its own process."""

    def __init__(self, node: asyncio.subprocess.Process) -> None:
        self._node = node
        self._emitted: list[tuple[str, list[Any]]] = []

    async def call(self, method: str, *given: object) -> Any:
        """
        Call a method of the client, or ``seal`` for the reference's ``createEnvelope``.

        Raises:
            RuntimeError: When it threw.
        """
        assert self._node.stdin is not None
        self._node.stdin.write(json.dumps({"call": method, "with": given}).encode() + b"\n")
        while "emitted" in (line := await _read_line(self._node)):
            self._emitted.append((line["emitted"], line["with"]))
        if "threw" in line:
            raise RuntimeError(line["threw"])
        return line["returned"]

    async def event(self, name: str) -> list[Any]:
        """Wait for the next event of this *name*; return what came with it. Others are dropped."""
        while True:
            if self._emitted:
                emitted, given = self._emitted.pop(0)
            else:
                line = await _read_line(self._node)
                emitted, given = line["emitted"], line["with"]
            if emitted == name:
                return given


@asynccontextmanager
async def reference_client(
    url: str, key_pair: KeyPair, **config: object
) -> AsyncIterator[ReferenceClient]:
    """Run a ``RelayClient`` of the reference for *key_pair*; it is not connected yet."""
    full = {"relayUrl": url, **_key_members(key_pair), **config}
    async with _node("reference_client.mjs", CURRENT_DIR, full) as node:
        yield ReferenceClient(node)


async def run_reference_cli(
    folder: Path, key_pair: KeyPair, relay_url: str, contacts: Mapping[str, str], *arguments: str
) -> tuple[int, Any]:
    """
    Run the reference's ``agora`` command as *key_pair*.

    Returns:
        Its exit code, and the JSON it printed, or else what it said on stderr.
    """
    config = folder / "config.json"
    peers = {name: {"publicKey": key, "name": name} for name, key in contacts.items()}
    members = {"identity": _key_members(key_pair), "relay": relay_url, "peers": peers}
    config.write_text(json.dumps(members), "utf-8")
    node = await asyncio.create_subprocess_exec(
        _node_program(),
        str(Path(CURRENT_DIR, "dist", "cli.js")),
        *arguments,
        "--config",
        str(config),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(_PATIENCE):
        out, err = await node.communicate()
    assert node.returncode is not None
    return node.returncode, json.loads(out) if out.strip() else err.decode()


@asynccontextmanager
async def _node(
    script: str, directory: str, options: Mapping[str, Any]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run one of our scripts; it ends when its stdin does."""
    node = await asyncio.create_subprocess_exec(
        _node_program(),
        str(_HERE / script),
        directory,
        json.dumps(options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=2**24,
    )
    try:
        yield node
    finally:
        assert node.stdin is not None
        node.stdin.close()
        try:
            async with asyncio.timeout(_PATIENCE):
                await node.wait()
        except TimeoutError:
            node.kill()
            await node.wait()
            raise


async def _read_line(node: asyncio.subprocess.Process) -> Any:
    assert node.stdout is not None
    async with asyncio.timeout(_PATIENCE):
        line = await node.stdout.readline()
    assert line, f"the reference's process ended with code {await node.wait()}"
    return json.loads(line)


def _node_program() -> str:
    program = shutil.which("node")
    assert program is not None, "make interop needs Node 20 or newer on the PATH"
    return program
