"""
Traces that go on where a message is read: for a client with ``otel=True``.

It tells with each message which span was active where it was sent, and has each handler
of :meth:`Client.run <agora.Client.run>` at work inside a span that goes on from the
sender's, so that what is sent there is part of the same trace. Who reads messages in a
loop says so with :func:`continued`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import agora
from agora.client.message import Message
from agora.otel import context_at, place_of, trace

__all__ = ["active_place", "continued"]


def active_place() -> str | None:
    """Return the place of the span that is active here, as ``traceparent``; None without one."""
    span = trace.get_current_span()
    return place_of(span) if span.get_span_context().is_valid else None


@contextmanager
def continued(message: Message) -> Iterator[trace.Span]:
    """
    Go on with the trace of *message* for the length of a ``with`` block.

    >>> async for message in client:  # doctest: +SKIP
    ...     with continued(message) as span:
    ...         await message.reply({"text": "hi"})

    What the block raises is noted in the span.
    """
    tracer = trace.get_tracer("agora.client", agora.__version__)
    with tracer.start_as_current_span(
        "process",
        context_at(message.traceparent),
        kind=trace.SpanKind.CONSUMER,
        attributes={
            "messaging.system": "agora",
            "messaging.message.id": message.id,
            "agora.sender": message.sender,
        },
    ) as span:
        yield span
