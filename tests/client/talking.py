"""Clients that have read their mailbox: from then on a relay hands live mail over without it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from agora.client import Client, ClientEvent, Message, Status
from tests.support import DEADLINE, agent

__all__ = ["TAKEN", "events_of", "take", "there"]

TAKEN = (Status.DELIVERED, Status.STORED)
"""What becomes of a message to a peer of Agora/1 that may just have come."""


@asynccontextmanager
async def there(url: str, *args: Any, **options: Any) -> AsyncIterator[Client]:
    """Connect a client, and have it read its mailbox to the end: from now on mail is delivered."""
    async with agent(url, *args, **options) as client:
        status = Status.QUEUED
        while status is not Status.DELIVERED:
            receipt = client.post(client.peer_id, "am I there?")
            await take(client)
            status = await receipt.settled(DEADLINE)
        yield client


async def take(client: Client) -> Message:
    """Return the next message, and be done with it."""
    async with asyncio.timeout(DEADLINE):
        message = await anext(client)
    await message.ack()
    return message


def events_of(client: Client) -> list[ClientEvent]:
    """Return the list to which every event of *client* is added from now on."""
    found: list[ClientEvent] = []
    client.listen(found.append)
    return found
