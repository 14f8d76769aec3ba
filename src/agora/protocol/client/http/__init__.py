"""
The conversation with a relay by HTTP requests, without I/O.

The client's core writes and reads frames, as over a WebSocket. ``calls`` makes
requests of the frames that it writes, ``answers`` makes frames of what comes back,
and ``exchange`` knows which requests are under way, and which one may go when.
What waits for the network is :mod:`agora.client.http_transport`.
"""

from agora.protocol.client.http.answers import Answer, Loss
from agora.protocol.client.http.calls import Call, events_query, leave_call
from agora.protocol.client.http.exchange import Exchange
from agora.protocol.client.http.renewal import Renewal

__all__ = ["Answer", "Call", "Exchange", "Loss", "Renewal", "events_query", "leave_call"]
