"""
What a relay counts, in the words of Prometheus: one table, from which the page of metrics is made.

The one rule: a label has only values that this table, or one of ours, knows beforehand;
no peer, no id, nothing that a stranger has said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

import agora
from agora.build import is_compiled
from agora.codes import CloseCode, ErrorCode
from agora.mailbox import StoreTotals
from agora.relay.metrics import Histogram
from agora.relay.overview import Look, Overview

__all__ = ["METRICS", "Metric", "expose"]

Kind = Literal["counter", "gauge", "histogram", "info"]
Samples = Iterable[tuple[tuple[str, ...], float | Histogram]]
"""Values, each with those of its labels."""


@dataclass(frozen=True, slots=True)
class Metric:
    """
    One metric.

    Attributes:
        name: What Prometheus knows it by, but for what the exposition appends to it:
            ``_total``, ``_info``, ``_bucket``.
        kind: What it is.
        help: What it counts, as a scrape tells it.
        worry: When an operator should look closer, as the page tells it.
        read: Returns its values.
        labels: The names of its labels.
        unit: The unit that its name ends with, if any.
    """

    name: str
    kind: Kind
    help: str
    worry: str
    read: Callable[[Overview, Look], Samples]
    labels: tuple[str, ...] = ()
    unit: str = ""

    @property
    def series(self) -> str:
        """The name by which a query asks for it."""
        return self.name + {"counter": "_total", "info": "_info"}.get(self.kind, "")


def expose(overview: Overview, look: Look, accept: str) -> tuple[bytes, str]:
    """
    Write all metrics in the form that *accept* asks for.

    Returns:
        The text, and its content type: OpenMetrics where that is accepted, else the
        text format of Prometheus.
    """
    encode, content_type = choose_encoder(accept)
    return encode(_Collector(overview, look)), content_type


class _Collector(Collector):
    """The metrics at one moment, and those of the process as every exporter names them."""

    def __init__(self, overview: Overview, look: Look) -> None:
        self._overview = overview
        self._look = look

    def collect(self) -> Iterator[Family]:
        for metric in METRICS:
            family = _family(metric, metric.read(self._overview, self._look))
            if family.samples:
                yield family
        yield from ProcessCollector(registry=None).collect()


def _family(metric: Metric, samples: Samples) -> Family:
    if metric.kind == "info":
        return InfoMetricFamily(metric.name, metric.help, dict(_info()))
    family = _FAMILIES[metric.kind](
        metric.name, metric.help, labels=metric.labels, unit=metric.unit
    )
    for values, value in samples:
        if isinstance(family, HistogramMetricFamily):
            assert isinstance(value, Histogram), "as its kind says"
            family.add_metric(values, list(_buckets(value)), value.sum)
        else:
            assert not isinstance(value, Histogram), "as its kind says"
            family.add_metric(values, value)
    return family


_FAMILIES: Mapping[
    str, type[CounterMetricFamily] | type[GaugeMetricFamily] | type[HistogramMetricFamily]
] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


def _buckets(histogram: Histogram) -> Iterator[tuple[str, float]]:
    total = 0
    # Copied, as the thread of the mailboxes may add to it meanwhile.
    for bound, count in zip([*histogram.bounds, None], [*histogram.counts], strict=True):
        total += count
        yield ("+Inf" if bound is None else str(bound)), total


# What is read


def _info() -> Iterator[tuple[str, str]]:
    yield "version", agora.__version__
    yield "core", "compiled" if is_compiled() else "pure"


def _one(read: Callable[[Overview, Look], float | Histogram | None]) -> _Read:
    """Read one value without labels; None where there is none."""

    def samples(overview: Overview, look: Look) -> Samples:
        value = read(overview, look)
        return [] if value is None else [((), value)]

    return samples


def _event(name: str) -> _Read:
    return _one(lambda overview, look: overview.counts[name])


def _stored(read: Callable[[StoreTotals], float]) -> _Read:
    return _one(lambda overview, look: None if look.store is None else read(look.store))


def _by(values: Callable[[Overview, Look], Mapping[str, float]]) -> _Read:
    """Read a value for each value of one label."""
    return lambda overview, look: [
        ((label,), value) for label, value in values(overview, look).items()
    ]


def _errors(overview: Overview, look: Look) -> Mapping[str, float]:
    errors = overview.metrics.tally.errors
    return {**dict.fromkeys(map(str, ErrorCode), 0), **errors}


def _closes(overview: Overview, look: Look) -> Mapping[str, float]:
    closes = overview.metrics.tally.closes
    return {code.name.lower(): closes[code.name.lower()] for code in CloseCode}


def _verified(overview: Overview, look: Look) -> Mapping[str, float]:
    counted = overview.metrics.verifications
    return {"loop": counted.on_loop, "process": counted.in_processes}


def _verify_seconds(overview: Overview, look: Look) -> Samples:
    counted = overview.metrics.verifications
    return [(("loop",), counted.loop_seconds), (("process",), counted.process_seconds)]


def _oldest_age(overview: Overview, look: Look) -> float | None:
    if look.store is None:
        return None
    oldest_ms = look.store.oldest_ms
    return max(0.0, (look.now_ms - oldest_ms) / 1000) if oldest_ms else 0.0


_Read = Callable[[Overview, Look], Samples]


METRICS: tuple[Metric, ...] = (
    Metric(
        "agora_build",
        "info",
        "Which relay this is.",
        "It changes without anybody having upgraded.",
        lambda overview, look: [],
        labels=("version", "core"),
    ),
    Metric(
        "agora_start_time_seconds",
        "gauge",
        "When the relay started, in seconds since the Unix epoch.",
        "It changes without anybody having restarted it.",
        _one(lambda overview, look: overview.started_ms / 1000),
        unit="seconds",
    ),
    Metric(
        "agora_draining",
        "gauge",
        "1 while the relay takes nothing more because it is stopping, else 0.",
        "It stays 1 for longer than `drain_timeout`.",
        _one(lambda overview, look: look.is_draining),
    ),
    # Messages
    Metric(
        "agora_messages_accepted",
        "counter",
        "Messages taken on, once for each recipient; a broadcast is none.",
        "It stands still while peers are online that usually talk.",
        _event("message"),
    ),
    Metric(
        "agora_messages",
        "counter",
        "What senders were told of their messages, once for each recipient, by outcome.",
        "`refused` grows against the others, or `stored` does while recipients are online: "
        "they do not ack.",
        _by(lambda overview, look: overview.outcomes),
        labels=("outcome",),
    ),
    Metric(
        "agora_broadcasts",
        "counter",
        "Broadcasts taken on; their outcome is `sent`.",
        "It grows fast: each goes to everyone.",
        _event("broadcast"),
    ),
    Metric(
        "agora_errors",
        "counter",
        "Error frames that sessions were answered with, by code.",
        "`unavailable` or `mailbox_full` grow: senders keep what you should; "
        "`proof_failed`: somebody tries keys, or `public_name` is wrong; `rate_limited`: a "
        "client runs wild.",
        _by(_errors),
        labels=("code",),
    ),
    Metric(
        "agora_given_up_messages",
        "counter",
        "Messages that were stored and then expired or were put off too often.",
        "It grows: somebody's agent does not come back, or fails again and again.",
        _event("gave_up"),
    ),
    Metric(
        "agora_lost_bounces",
        "counter",
        "Bounces that reached nobody, as the sender has no mailbox.",
        "It grows: senders do not learn what became of their messages.",
        _event("bounce_lost"),
    ),
    # Who is there
    Metric(
        "agora_connections",
        "gauge",
        "Open connections, registered or not, by the door through which they came.",
        "It nears `agora_connections_limit`.",
        _by(lambda overview, look: look.connections),
        labels=("door",),
    ),
    Metric(
        "agora_connections_limit",
        "gauge",
        "Connections that are let in: the setting `max_connections`.",
        "`agora_connections` nears it: those that come are turned away.",
        _one(lambda overview, look: overview.limits.max_connections),
    ),
    Metric(
        "agora_sessions",
        "gauge",
        "Registered sessions by dialect.",
        "It falls at once: a network, or a certificate that has expired.",
        _by(lambda overview, look: look.sessions),
        labels=("dialect",),
    ),
    Metric(
        "agora_peers_online",
        "gauge",
        "Peers with at least one session that gets mail.",
        "It falls at once.",
        _one(lambda overview, look: look.peers_online),
    ),
    Metric(
        "agora_pinned_keys",
        "gauge",
        "Keys that have proven themselves here, and must from then on.",
        "It grows faster than agents are made, or nears the setting `max_pins`.",
        _one(lambda overview, look: look.pins),
    ),
    Metric(
        "agora_registrations",
        "counter",
        "Sessions that were registered.",
        "It grows much faster than `agora_peers_online`: clients come and go all the time.",
        _event("registered"),
    ),
    Metric(
        "agora_closes",
        "counter",
        "Connections that the relay closed, by the name of the close code.",
        "`slow_consumer`: somebody does not read; `idle`: a network drops connections in silence; "
        "`internal_error`: our fault, see the log.",
        _by(_closes),
        labels=("code",),
    ),
    # Bytes
    Metric(
        "agora_received_bytes",
        "counter",
        "Bytes that came in, inside TLS, by door.",
        "It nears what the network carries.",
        _by(
            lambda overview, look: {
                "websocket": overview.metrics.websocket.received,
                "http": overview.metrics.http.received,
            }
        ),
        labels=("door",),
        unit="bytes",
    ),
    Metric(
        "agora_sent_bytes",
        "counter",
        "Bytes that went out, inside TLS, by door.",
        "It nears what the network carries.",
        _by(
            lambda overview, look: {
                "websocket": overview.metrics.websocket.sent,
                "http": overview.metrics.http.sent,
            }
        ),
        labels=("door",),
        unit="bytes",
    ),
    # Mailboxes
    Metric(
        "agora_mailboxes",
        "gauge",
        "Mailboxes that have mail.",
        "It grows without end: agents that were given up are still written to.",
        _stored(lambda store: store.mailboxes),
    ),
    Metric(
        "agora_mailbox_messages",
        "gauge",
        "Messages that wait in all mailboxes.",
        "It grows from day to day.",
        _stored(lambda store: store.messages),
    ),
    Metric(
        "agora_mailbox_bytes",
        "gauge",
        "Bytes of the messages that wait.",
        "It nears `agora_mailbox_limit_bytes`: then senders are refused.",
        _stored(lambda store: store.bytes),
        unit="bytes",
    ),
    Metric(
        "agora_mailbox_limit_bytes",
        "gauge",
        "Bytes that all mailboxes may hold together: the setting `store_max_bytes`.",
        "`agora_mailbox_bytes` nears it.",
        _one(lambda overview, look: overview.limits.store_max_bytes),
        unit="bytes",
    ),
    Metric(
        "agora_mailbox_oldest_age_seconds",
        "gauge",
        "For how long the oldest message has waited; 0 where none waits.",
        "It nears the setting `mailbox_max_age`: then mail expires unread.",
        _one(_oldest_age),
        unit="seconds",
    ),
    Metric(
        "agora_dead_letters",
        "gauge",
        "Messages that were given up and are kept for the operator.",
        "It grows: see `agora mailbox dead`.",
        _stored(lambda store: store.dead_letters),
    ),
    Metric(
        "agora_retained_messages",
        "gauge",
        "Messages that were acked and are kept for a replay: the setting `retain`.",
        "It grows no more, and the oldest are younger than `retain`: a bound is met.",
        _stored(lambda store: store.retained),
    ),
    Metric(
        "agora_retained_bytes",
        "gauge",
        "Bytes of the messages that are kept for a replay.",
        "It is at `retain_store_max_bytes`: then the oldest are removed before their time.",
        _stored(lambda store: store.retained_bytes),
        unit="bytes",
    ),
    Metric(
        "agora_unretained_messages",
        "counter",
        "Messages that were acked and could not be kept for a replay.",
        "It grows: the disk refuses, or does not keep up.",
        _event("not_retained"),
    ),
    # The disk
    Metric(
        "agora_commit_seconds",
        "histogram",
        "Time of a commit with its sync to disk; many messages share one.",
        "Its 99th percentile is above 0.1 s: the disk is slow, and so is every `stored`.",
        _one(lambda overview, look: overview.metrics.commits.seconds),
        unit="seconds",
    ),
    Metric(
        "agora_commit_jobs",
        "counter",
        "Pieces of work in these commits: mail put, mail removed.",
        "Divided by the commits it is more than some hundred: the disk does not keep up.",
        _one(lambda overview, look: overview.metrics.commits.jobs),
    ),
    Metric(
        "agora_commit_failures",
        "counter",
        "Commits of which nothing was kept; what was in them is tried again one by one.",
        "It grows at all.",
        _one(lambda overview, look: overview.metrics.commits.failures),
    ),
    Metric(
        "agora_disk_failing",
        "gauge",
        "1 where the last commit failed, else 0.",
        "It is 1: senders are told `unavailable`, and keep their messages.",
        _one(lambda overview, look: bool(overview.metrics.commits.failure)),
    ),
    Metric(
        "agora_disk_free_bytes",
        "gauge",
        "Bytes free where the mailboxes are; absent with mailboxes in memory.",
        "It is less than twice `agora_mailbox_limit_bytes` minus `agora_mailbox_bytes`.",
        _one(lambda overview, look: look.disk_free_bytes),
        unit="bytes",
    ),
    Metric(
        "agora_storing_bytes",
        "gauge",
        "Bytes of mail that wait for the disk.",
        "It nears the setting `storing_max_bytes`: then messages are refused.",
        _one(lambda overview, look: look.storing_bytes),
        unit="bytes",
    ),
    # The processor
    Metric(
        "agora_verifications",
        "counter",
        "Signatures verified, on the event loop or in a process beside it.",
        "It grows much faster than `agora_messages_accepted_total`: somebody sends forgeries.",
        _by(_verified),
        labels=("where",),
    ),
    Metric(
        "agora_verify_seconds",
        "histogram",
        "Time to verify: of one signature in sixteen on the loop; of each batch in a process, "
        "from handing it over until its last verdict.",
        "`process` is above 0.1 s: there are more signatures than cores for them.",
        _verify_seconds,
        labels=("where",),
        unit="seconds",
    ),
    Metric(
        "agora_verify_waiting",
        "gauge",
        "Signatures that wait to be verified.",
        "It stays above 200: raise the setting `verify_processes`.",
        _one(lambda overview, look: look.verifying),
    ),
    Metric(
        "agora_loop_lag_seconds",
        "histogram",
        "By how much a timer of the event loop came late, ten times a second.",
        "Its 99th percentile is above 0.1 s: the relay has more to do than one core can.",
        _one(lambda overview, look: overview.metrics.lag),
        unit="seconds",
    ),
)
"""Every metric, in the order in which they are written."""
