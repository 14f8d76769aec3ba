"""The client's shell: one connection that comes back by itself, and what hangs on it."""

from agora.client.client import Client
from agora.client.events import (
    Bounced,
    ClientEvent,
    ConnectionState,
    ContactRequest,
    PresenceChanged,
    StateChanged,
    TransportChanged,
    Trouble,
    Withheld,
)
from agora.client.message import Message
from agora.client.receipt import Receipt
from agora.client.relay_memory import RelayMemory
from agora.client.transport import TransportName
from agora.protocol.client.consent import ConsentRules, ConsentState, ContactPolicy, Guard
from agora.protocol.client.outbox import Status
from agora.protocol.client.session import Timing

__all__ = [
    "Bounced",
    "Client",
    "ClientEvent",
    "ConnectionState",
    "ConsentRules",
    "ConsentState",
    "ContactPolicy",
    "ContactRequest",
    "Guard",
    "Message",
    "PresenceChanged",
    "Receipt",
    "RelayMemory",
    "StateChanged",
    "Status",
    "Timing",
    "TransportChanged",
    "TransportName",
    "Trouble",
    "Withheld",
]
