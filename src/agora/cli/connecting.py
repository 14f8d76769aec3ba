"""
A client with an outbox on disk, as far as it is to be had.

One process at a time may use an outbox. ``agora send`` beside ``agora listen``
goes on without it: what the relay takes at once need not be kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from agora.cli.options import Asked
from agora.client import Client, ClientEvent, ConnectionState, StateChanged
from agora.client.store import StoreInUseError
from agora.files import Config

__all__ = ["connect", "registered"]


async def connect(
    asked: Asked,
    config: Config,
    *,
    hear: Callable[[ClientEvent], object] = lambda event: None,
    patience: float = 0.0,
    **options: Any,
) -> tuple[Client, StoreInUseError | None]:
    """
    Make a client, connect it, and return it, to be closed by the caller.

    Args:
        asked: Where its outbox is, if it is to have one.
        config: Whose client it is.
        hear: Called with every event.
        patience: Seconds to wait for an outbox that is in use.
        options: More of :class:`~agora.client.Client`.

    Returns:
        The client; and if it has no outbox though one was asked for, why.

    Raises:
        AgoraError: As :meth:`Client.connect`.
    """
    path = asked.outbox_path
    client = asked.client(config, outbox=path, **options)
    client.listen(hear)
    try:
        await _connect_in_time(client, patience)
    except StoreInUseError as in_use:
        client = asked.client(config, **options)
        client.listen(hear)
        await client.connect()
        return client, in_use
    return client, None


async def registered(client: Client, *, is_patient: bool) -> None:
    """
    Wait until a client that was started has met its relay.

    Args:
        client: One whose ``connect_timeout`` is 0.
        is_patient: Whether to wait for a relay that is not there; else the first failure is final.

    Raises:
        AgoraError: Why it is not registered.
    """
    events = client.events()
    if client.is_connected:
        return
    async for event in events:
        match event:
            case StateChanged(ConnectionState.CONNECTED):
                return
            case StateChanged(state, error) if error is not None:
                if state is ConnectionState.CLOSED or not is_patient:
                    raise error


async def _connect_in_time(client: Client, patience: float) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    while True:
        try:
            return await client.connect()
        except StoreInUseError:
            if loop.time() >= deadline:
                raise
        await asyncio.sleep(_AGAIN)  # nobody tells when it is free


_AGAIN = 0.1
"""Seconds until it is looked again whether an outbox is free."""
