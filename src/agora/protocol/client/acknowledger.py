"""
Signed acknowledgements: an envelope of type ``ack`` that says what became of another.

The sender of a message asks for it (``confirm``), and its recipient's client
sends it when the application is done. As ids are content hashes, it proves
what was received, with no trust in the relay.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from agora.envelope import Envelope
from agora.errors import OutboxFullError
from agora.keys import PeerId
from agora.protocol.client.outbox import Outbox, Outgoing
from agora.protocol.client.scribe import Scribe
from agora.protocol.client.seen import Outcome
from agora.protocol.rates import TokenBucket

__all__ = ["Acknowledger", "acknowledged_outcome"]


class Acknowledger:
    """
    Acknowledges what senders asked to have acknowledged, within reason.

    What is left out is not lost: whoever sends the message again is told then.

    Args:
        outbox: Where acknowledgements go; they are not kept on disk, nor waited with.
        scribe: Signs them.
        rate: A budget of their own, so that they take nothing from the application's.
        clock: Seconds on a clock that only goes forward.
        admits: Whom they may be sent to.
    """

    def __init__(
        self,
        outbox: Outbox,
        scribe: Scribe,
        *,
        rate: TokenBucket,
        clock: Callable[[], float],
        admits: Callable[[PeerId], bool] = lambda sender: True,
    ) -> None:
        self._outbox = outbox
        self._scribe = scribe
        self._rate = rate
        self._clock = clock
        self._admits = admits

    def acknowledge(self, envelope: Envelope, outcome: Outcome) -> None:
        """Tell the sender of *envelope* what became of it."""
        if envelope.type in _NEVER or not self._admits(envelope.sender):
            return
        if self._rate.take(now=self._clock()) > 0:
            return
        answer = self._scribe.seal(
            type="ack",
            payload={"status": outcome},
            to=envelope.sender,
            in_reply_to=envelope.id,
        )
        with suppress(OutboxFullError):  # what the application has to say goes first
            self._outbox.add(Outgoing(envelope.sender, answer, is_durable=False, is_fleeting=True))


_NEVER = ("ack", "error")
"""Types that are never acknowledged: two clients would go on for ever."""


def acknowledged_outcome(envelope: Envelope) -> Outcome | None:
    """Return what an envelope acknowledges; None for one that is no acknowledgement."""
    if envelope.type != "ack" or not isinstance(envelope.payload, dict):
        return None
    match envelope.payload.get("status"):
        case "processed":
            return "processed"
        case "failed":
            return "failed"
        case _:
            return None
