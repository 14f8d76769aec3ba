"""A relay with both doors open."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agora.relay import Relay
from tests.support import other_tasks


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    """A relay with default settings, on free ports."""
    async with Relay(port=0, http_port=0) as running:
        yield running
    assert other_tasks() == set()
