"""What the tests of the examples have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import agora


@pytest.fixture
async def relay() -> AsyncIterator[agora.Relay]:
    """A relay of today's settings, on a free port."""
    async with agora.Relay(port=0) as relay:
        yield relay
