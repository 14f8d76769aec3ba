"""
Where messages are in traces: who makes the spans, and what is remembered beside a mailbox.

A trace is told by whoever sends, as W3C's ``traceparent``, and told on to whoever gets
the message. A relay that makes spans of its own tells the place of its span instead. What
is in a mailbox has its place in memory alone, as a trace is not worth a write.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec.structs import replace

from agora.frames import Broadcast, Submit
from agora.protocol.relay.actions import Mail, Receipt, Ticket
from agora.protocol.relay.refusal import Refusal

__all__ = ["Places", "Trace", "Tracer"]


class Trace(Protocol):
    """One message on its way through this relay."""

    def verify(self) -> None:
        """Its signature is to be verified."""
        ...

    def verified(self) -> None:
        """It was, or need not be."""
        ...

    def send_on(self, to: str, ticket: Ticket) -> str:
        """It goes on to *to*; return where in the trace that is."""
        ...

    def end(self, refusal: Refusal | None = None) -> None:
        """It was taken, or refused as a whole."""
        ...


class Tracer(Protocol):
    """Who makes spans of what happens."""

    def begin(self, request: Submit | Broadcast) -> Trace:
        """A message has come."""
        ...

    def settled(self, ticket: Ticket, outcome: Receipt | Refusal) -> None:
        """It is known what became of it for one recipient."""
        ...


class Places:
    """
    The places in traces of mail that is in a mailbox.

    Args:
        most: How many are remembered; of more the oldest are forgotten, and that mail comes
            without.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._places: dict[int, str] = {}

    def keep(self, mail: Mail) -> None:
        """Remember the place of *mail*, if it has one."""
        if mail.traceparent is None:
            return
        self._places[mail.position] = mail.traceparent
        if len(self._places) > self._most:
            del self._places[next(iter(self._places))]

    def put_back(self, page: Sequence[Mail]) -> Sequence[Mail]:
        """Return mail as it was before it was put into the mailbox."""
        places = self._places
        if not places:
            return page
        return [
            replace(mail, traceparent=places[mail.position]) if mail.position in places else mail
            for mail in page
        ]
