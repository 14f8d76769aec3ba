"""What holds for every test of the relay: it logs no fault and leaves no task behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from agora.relay import Relay
from tests.support import faults_in, other_tasks


@pytest.fixture(autouse=True)
def _no_fault_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert faults_in(caplog) == []


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    """A relay with default settings, on a free port."""
    async with Relay(port=0) as running:
        yield running
    assert other_tasks() == set()
