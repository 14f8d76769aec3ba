"""The client's shell: one connection that comes back by itself, and what hangs on it."""

from agora.client.client import Client
from agora.client.events import (
    ClientEvent,
    ConnectionState,
    PresenceChanged,
    StateChanged,
    Trouble,
)
from agora.client.message import Message
from agora.client.receipt import Receipt
from agora.protocol.outbox import Status
from agora.protocol.peer import Timing

__all__ = [
    "Client",
    "ClientEvent",
    "ConnectionState",
    "Message",
    "PresenceChanged",
    "Receipt",
    "StateChanged",
    "Status",
    "Timing",
    "Trouble",
]
