"""What holds for every test of the client: no fault is logged, no task and no socket is left."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from agora.relay import Relay
from tests.support import eventually, faults_in, other_tasks


@pytest.fixture(autouse=True)
def _no_fault_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check the log; a test that expects a fault there looks at it and clears it."""
    yield
    assert faults_in(caplog) == []


@pytest.fixture(autouse=True)
async def _nothing_is_left_running() -> AsyncIterator[None]:
    before = open_sockets()
    yield
    assert {task.get_name() for task in other_tasks()} == set()
    await eventually(lambda: open_sockets() <= before)


def open_sockets() -> set[str]:
    """Return the sockets that this process has open."""
    links = (os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
    return {link for link in links if link.startswith("socket:")}


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    """A relay with default settings, on a free port."""
    async with Relay(port=0) as running:
        yield running


@pytest.fixture(autouse=True)
def _backoff_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the jitter fall on its short side: the first wait is 10 ms."""
    monkeypatch.setattr("random.random", lambda: 0.02)
