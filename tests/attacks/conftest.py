"""What holds for every attack: none of them is logged as a fault of the relay."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from agora.relay import Relay
from tests.support import faults_in


@pytest.fixture(autouse=True)
def _no_fault_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert faults_in(caplog) == []


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    """A relay that stores what is not acked at once, and has no limits of rate."""
    async with Relay(port=0, ack_timeout=0.2, rate_limit_enabled=False) as running:
        yield running
