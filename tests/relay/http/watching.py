"""An operator: asks a relay by HTTP for what is not for peers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2

from agora.relay import Relay
from tests.relay.http.talking import url_of

__all__ = ["ADMIN", "TOKEN", "watched"]

TOKEN = "a token that nobody guesses"
ADMIN = {"Authorization": f"Bearer {TOKEN}"}


@asynccontextmanager
async def watched(relay: Relay) -> AsyncIterator[httpx2.AsyncClient]:
    """Yield a client whose base is the HTTP port of *relay*."""
    url = url_of(relay)
    async with httpx2.AsyncClient(base_url=url, verify=False, trust_env=False) as client:
        yield client
