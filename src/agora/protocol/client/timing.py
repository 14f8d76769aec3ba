"""How long a client waits for what."""

from __future__ import annotations

from dataclasses import dataclass

from agora.frames import MAX_NACK_DELAY

__all__ = ["Timing"]


@dataclass(frozen=True, slots=True)
class Timing:
    """
    How long a client waits, in seconds.

    Attributes:
        register: For ``registered``, after the connection is open.
        ping_interval: Silence after which the relay is pinged.
        answer: For the answer to a ping; then the link counts as dead.
        retry_first: Before a message that could not be taken is tried again.
        retry_cap: The most that this wait grows to, doubling each time; and the most
            that a relay can have us wait.
        nack_first: Before a message whose handler failed comes again.
        nack_cap: The most that this wait grows to, doubling each time; relays take
            an hour at most.
        blocked: For a WebSocket to open, where there is HTTP to fall back to.
        websocket_first: Before a WebSocket that was blocked is tried again.
        websocket_cap: The most that this wait grows to, doubling each time.
        stream: For the first event of a stream over HTTP; one that a proxy holds back
            longer is given up for long polls.
    """

    register: float = 10.0
    ping_interval: float = 30.0
    answer: float = 10.0
    retry_first: float = 5.0
    retry_cap: float = 300.0
    nack_first: float = 1.0
    nack_cap: float = MAX_NACK_DELAY
    blocked: float = 3.0
    websocket_first: float = 60.0
    websocket_cap: float = 3_600.0
    stream: float = 3.0
