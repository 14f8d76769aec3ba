"""A relay's routes for operators, served alone, and a client that asks them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import uvicorn
from litestar import Litestar

from agora.relay import Relay
from agora.relay.http.watch import routes

__all__ = ["ADMIN", "TOKEN", "watched"]

TOKEN = "a token that nobody guesses"
ADMIN = {"Authorization": f"Bearer {TOKEN}"}


@asynccontextmanager
async def watched(relay: Relay) -> AsyncIterator[httpx2.AsyncClient]:
    """Serve what an operator asks of *relay*; yield a client whose base is there."""
    app = Litestar(routes(relay.overview, admin_token=TOKEN), openapi_config=None)
    config = uvicorn.Config(app, port=0, lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False
        ) as client:
            yield client
    finally:
        server.should_exit = True
        await server.shutdown()
        await asyncio.sleep(0)
