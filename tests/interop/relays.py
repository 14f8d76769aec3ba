"""Relays to act against: ours, and the reference's two, all set up in the same words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from agora.relay import Relay

from .reference import CURRENT_DIR, OLDER_DIR, reference_relay
from .replay import RunningRelay
from .situations import KEYS

__all__ = ["RelayKind", "open_relay"]

RelayKind = Literal["ours", "current", "older"]


@asynccontextmanager
async def open_relay(
    kind: RelayKind, data_dir: Path, settings: Mapping[str, Any]
) -> AsyncIterator[RunningRelay]:
    """
    Run a relay on a free port of this machine, or on the port in *settings*.

    Args:
        kind: Whose relay.
        data_dir: Where it keeps its mail.
        settings: Those of :class:`agora.Relay`, but that peers are called by their
            letters. The rate limit is off unless it is set.
    """
    named = {"port": 0, "rate_limit_enabled": False, **settings}
    named["storage_peers"] = [KEYS[name].peer_id for name in named.get("storage_peers", ())]
    if "identity" in named:
        named["identity"] = KEYS[named["identity"]]
    if kind == "ours":
        async with Relay(data_dir=data_dir, **named) as relay:
            yield relay
    else:
        directory = OLDER_DIR if kind == "older" else CURRENT_DIR
        async with reference_relay(directory, data_dir, named) as relay:
            yield relay
