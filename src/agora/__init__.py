"""
Agora: signed messages between agents. A key is the address, a relay carries the envelopes.

The names here are the public ones and stay stable::

    async with agora.Client("ws://localhost:9470", agora.Identity.generate()) as me:
        await me.send(peer_id, {"text": "hello"})
        async for message in me:
            await message.reply({"text": "hi"})
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agora import sync
from agora.canonical import canonical_json
from agora.client import Client, Message, Receipt
from agora.envelope import Envelope, open_envelope
from agora.errors import AgoraError, EnvelopeError, MissingExtraError
from agora.identity import Identity
from agora.sealing import seal

if TYPE_CHECKING:
    from agora.relay import Relay

__all__ = [
    "AgoraError",
    "Client",
    "Envelope",
    "EnvelopeError",
    "Identity",
    "Message",
    "Receipt",
    "Relay",
    "canonical_json",
    "open_envelope",
    "seal",
    "sync",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # A client user has not installed what the relay needs; so it is imported when asked for.
    if name != "Relay":
        raise AttributeError(f"module 'agora' has no attribute {name!r}")
    try:
        from agora.relay import Relay
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{error.name} is not installed: install agora-relay[relay] to run a relay"
        ) from error
    return Relay
