"""
Spans of what a relay does with a message.

::

    whatever was active where it was sent
    └── accept                from the frame's coming until it is routed, or refused
        ├── verify            while its signature is verified
        └── deliver or store  one for each recipient, until it is known what became of it
            └── …             whatever the recipient makes of it

They have ids in them, never what a message says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import agora
from agora.codes import ReceiptStatus
from agora.frames import Broadcast, Submit
from agora.keys import PeerId, is_peer_id
from agora.otel import context_at, own_provider, place_of, trace
from agora.protocol.relay.actions import Receipt, SessionId, Ticket
from agora.protocol.relay.refusal import Refusal
from agora.sealed import Sealed

__all__ = ["RelayTracer"]

_Key = tuple[SessionId, int]


class RelayTracer:
    """
    Makes the spans of one relay; a :class:`~agora.protocol.relay.tracing.Tracer`.

    Args:
        provider: Where they go.
        end: Ends the provider, where that is for this alone.
    """

    def __init__(
        self, provider: trace.TracerProvider, end: Callable[[], None] = lambda: None
    ) -> None:
        self._end = end
        self._tracer = provider.get_tracer("agora.relay", agora.__version__)
        self._open: dict[_Key, trace.Span] = {}

    @classmethod
    def start(cls, provider: trace.TracerProvider | None, peer: PeerId) -> Self:
        """
        Return one with *provider*, or with that of the process, or with one of its own.

        *peer* is the relay's, by which several are told apart.

        Raises:
            MissingExtraError: When what exports is not installed.
        """
        found = provider or trace.get_tracer_provider()
        if not isinstance(found, trace.ProxyTracerProvider):
            return cls(found)
        return cls(*own_provider("agora-relay", agora.__version__, peer))

    def close(self) -> None:
        """Have what is left exported. Blocks until then, for some seconds at most."""
        self._end()

    def begin(self, request: Submit | Broadcast) -> _Trace:
        """Begin a span for a message that has come, where its sender was in a trace."""
        traceparent = request.traceparent if isinstance(request, Submit) else None
        span = self._tracer.start_span(
            "accept",
            context_at(traceparent),
            kind=trace.SpanKind.CONSUMER,
            attributes=_attributes(request.envelope),
        )
        return _Trace(self._tracer, span, self._open)

    def settled(self, ticket: Ticket, outcome: Receipt | Refusal) -> None:
        """End the span of one recipient; its name says who has the message now."""
        span = self._open.pop((ticket.session, ticket.number), None)
        if span is None:
            return
        if isinstance(outcome, Refusal):
            _refuse(span, outcome)
        else:
            span.update_name("store" if outcome.status is ReceiptStatus.STORED else "deliver")
            span.set_attribute("agora.outcome", str(outcome.status))
        span.end()


class _Trace:
    """One message's spans."""

    def __init__(
        self, tracer: trace.Tracer, span: trace.Span, is_open: dict[_Key, trace.Span]
    ) -> None:
        self._tracer = tracer
        self._span = span
        self._context = trace.set_span_in_context(span)
        self._open = is_open
        self._verifying: trace.Span | None = None

    def verify(self) -> None:
        """Begin the span of its signature."""
        self._verifying = self._tracer.start_span("verify", self._context)

    def verified(self) -> None:
        """End that."""
        if self._verifying is not None:
            self._verifying.end()

    def send_on(self, to: str, ticket: Ticket) -> str:
        """Begin the span of one recipient, and return its place."""
        attributes = {"messaging.destination.name": to} if is_peer_id(to) else {}
        span = self._tracer.start_span(
            "deliver", self._context, kind=trace.SpanKind.PRODUCER, attributes=attributes
        )
        self._open[ticket.session, ticket.number] = span
        return place_of(span)

    def end(self, refusal: Refusal | None = None) -> None:
        """End the whole: it was taken, or refused."""
        if refusal is not None:
            _refuse(self._span, refusal)
        self._span.end()


def _attributes(envelope: Sealed) -> dict[str, str]:
    # Claims, some of them not looked at yet: what is no id is left out.
    claimed = {
        "messaging.message.id": envelope.claimed_id,
        "agora.sender": envelope.claimed_sender,
    }
    sender = claimed["agora.sender"]
    if not is_peer_id(sender):
        del claimed["agora.sender"]
    known = {name: value for name, value in claimed.items() if value is not None}
    return {"messaging.system": "agora", **known}


def _refuse(span: trace.Span, refusal: Refusal) -> None:
    span.set_attribute("agora.outcome", "refused")
    span.set_attribute("error.type", str(refusal.code))
    span.set_status(trace.Status(trace.StatusCode.ERROR, str(refusal.code)))
