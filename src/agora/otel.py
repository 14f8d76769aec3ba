"""
OpenTelemetry, for a relay or a client that was told to trace: where spans go on, where they go to.

Imported by nobody else. Who makes which spans is in ``agora.client.tracing`` and
``agora.relay.tracing``; this is what both need.

Raises:
    MissingExtraError: When imported where OpenTelemetry is not installed.
"""

from __future__ import annotations

from collections.abc import Callable

from agora.errors import MissingExtraError

try:
    from opentelemetry import trace
    from opentelemetry.context import Context
except ModuleNotFoundError as error:
    raise MissingExtraError(
        f"{error.name} is not installed: install agora-relay[otel] to trace messages"
    ) from error

__all__ = ["context_at", "own_provider", "place_of", "trace"]


def place_of(span: trace.Span) -> str:
    """Return a span's place in its trace, as W3C's ``traceparent``."""
    place = span.get_span_context()
    return f"00-{place.trace_id:032x}-{place.span_id:016x}-{place.trace_flags & 0xFF:02x}"


def context_at(traceparent: str | None) -> Context:
    """Return the context in which a span goes on from a place; without one it begins a trace."""
    if traceparent is None:
        return Context()
    _, trace_id, span_id, flags = traceparent.split("-")
    place = trace.SpanContext(
        int(trace_id, 16),
        int(span_id, 16),
        is_remote=True,
        trace_flags=trace.TraceFlags(int(flags, 16)),
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(place), Context())


def own_provider(
    service: str, version: str, instance: str
) -> tuple[trace.TracerProvider, Callable[[], None]]:
    """
    Return what exports spans by OTLP over HTTP, to where the variables ``OTEL_*`` say.

    Args:
        service: The name of this program, unless ``OTEL_SERVICE_NAME`` has another.
        version: Its version.
        instance: Which one of several it is.

    Returns:
        It, and what ends it: that blocks until what is left is exported, some seconds at most.

    Raises:
        MissingExtraError: When what exports is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{error.name} is not installed: install agora-relay[otel] to trace messages"
        ) from error
    ours = {
        "service.name": service,
        "service.version": version,
        "service.instance.id": instance,
    }
    resource = Resource.create(ours).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider, provider.shutdown
