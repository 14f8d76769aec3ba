"""
Agora: signed messages between agents. A key is the address, a relay carries the envelopes.

The names here are the public ones and stay stable::

    async with agora.Client("ws://localhost:9470", agora.Identity.generate()) as me:
        await me.send(peer_id, {"text": "hello"})
        async for message in me:
            await message.reply({"text": "hi"})
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from agora.canonical import canonical_json
from agora.envelope import Envelope, open_envelope
from agora.errors import (
    AgoraError,
    ClosedError,
    EnvelopeError,
    InputError,
    MissingExtraError,
    NoAnswerError,
    NotConnectedError,
    OutboxFullError,
    PeerReferenceError,
    RefusedError,
    RelayChangedError,
    TryAgainError,
)
from agora.identity import Identity
from agora.sealing import seal

if TYPE_CHECKING:
    from agora import sync
    from agora.client import Client, Message, Receipt
    from agora.known_relays import KnownRelays
    from agora.relay import Relay

__all__ = [
    "AgoraError",
    "Client",
    "ClosedError",
    "Envelope",
    "EnvelopeError",
    "Identity",
    "InputError",
    "KnownRelays",
    "Message",
    "MissingExtraError",
    "NoAnswerError",
    "NotConnectedError",
    "OutboxFullError",
    "PeerReferenceError",
    "Receipt",
    "RefusedError",
    "Relay",
    "RelayChangedError",
    "TryAgainError",
    "canonical_json",
    "open_envelope",
    "seal",
    "sync",
]

__version__ = "0.1.0"

# Imported when asked for: who seals envelopes needs no event loop, and a client user
# has not installed what the relay needs.
_SHELLS = {
    "Client": "agora.client",
    "KnownRelays": "agora.known_relays",
    "Message": "agora.client",
    "Receipt": "agora.client",
    "Relay": "agora.relay",
}


def __getattr__(name: str) -> Any:
    if name == "sync":
        return importlib.import_module("agora.sync")
    if name not in _SHELLS:
        raise AttributeError(f"module 'agora' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_SHELLS[name]), name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{error.name} is not installed: install agora-relay[relay] to run a relay"
        ) from error
