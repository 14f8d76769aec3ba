"""
What a relay counts: plain numbers that grow where a thing happens, and are read when asked for.

Nothing here waits, and nothing knows who asks: the words of Prometheus are in
:mod:`agora.relay.http.exposition`, those of an operator in :mod:`agora.relay.overview`.

The one rule: what every message pays for is a number that is added to. Times are taken
once for a commit, a batch of signatures, a timer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = [
    "HISTORY_STEP",
    "HISTORY_STEPS",
    "Commits",
    "ErrorRecord",
    "Histogram",
    "History",
    "Metrics",
    "Rates",
    "Sample",
    "Tally",
    "Traffic",
    "Verifications",
]


class Histogram:
    """
    How often a value fell between which bounds.

    Attributes:
        bounds: Upper ends of all parts but the last, which has none; in order.
        counts: How many values fell into each part.
        sum: All values together.

    >>> lag = Histogram((0.01, 0.1))
    >>> for value in (0.01, 0.02, 5.0):
    ...     lag.observe(value)
    >>> lag.counts, lag.sum
    ([1, 1, 1], 5.03)
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


# What happens at a node


_MAX_RECENT_ERRORS = 100
"""Errors that are remembered one by one; of more, the oldest are only counted."""


class ErrorRecord(NamedTuple):
    """
    An error that a session was answered with.

    Attributes:
        at_ms: When, in milliseconds since the Unix epoch.
        code: Its code.
        peer: Whom the session spoke for; ``""`` where that was not known yet.
        session: The session's id.
    """

    at_ms: int
    code: str
    peer: str
    session: str


class Tally:
    """
    What has happened at a node since its start.

    Attributes:
        errors: Error frames, by code; those about a message are an outcome of it too.
        closes: Connections that the relay closed, by the name of the code.
        doors: Connections that are open, by the door through which they came.
        recent_errors: The last errors, the newest last.
    """

    def __init__(self) -> None:
        self.errors: Counter[str] = Counter()
        self.closes: Counter[str] = Counter()
        self.doors: Counter[str] = Counter()
        self.recent_errors: deque[ErrorRecord] = deque(maxlen=_MAX_RECENT_ERRORS)

    def note_error(self, error: ErrorRecord) -> None:
        """Count an error, and remember it for a while."""
        self.errors[error.code] += 1
        self.recent_errors.append(error)


@dataclass(slots=True)
class Traffic:
    """Bytes that came in and went out through one door, as they were on the wire inside TLS."""

    received: int = 0
    sent: int = 0


# What takes time


class Commits:
    """
    What the thread that writes the mailboxes has to tell of its disk.

    Attributes:
        seconds: How long a commit took, with its sync; of those that had something to write.
        jobs: Pieces of work in all of these.
        failures: Commits that failed.
        failure: Why the last one failed; empty when it worked.
        worked_at: When one has worked last, on the clock of *committed*; None before the first.
    """

    def __init__(self) -> None:
        self.seconds = Histogram(_DISK_BOUNDS)
        self.jobs = 0
        self.failures = 0
        self.failure = ""
        self.worked_at: float | None = None

    def committed(self, jobs: int, *, started: float, ended: float) -> None:
        """Count a commit that has written something."""
        self.seconds.observe(ended - started)
        self.jobs += jobs
        self.failure = ""
        self.worked_at = ended

    def failed(self, error: Exception) -> None:
        """Count a commit of which nothing was kept."""
        self.failures += 1
        self.failure = str(error) or type(error).__name__


_DISK_BOUNDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
"""Seconds: a good disk syncs in one millisecond, a spinning one in ten, a sick one in any time."""


class Verifications:
    """
    Signatures that were verified, and how long that took.

    Attributes:
        on_loop: How many the event loop has verified.
        in_processes: How many the processes beside it have.
        loop_seconds: How long one took the loop: of every sixteenth, the first among them.
        process_seconds: From handing a batch to a process until its last verdict has come.
    """

    def __init__(self) -> None:
        self.on_loop = 0
        self.in_processes = 0
        self.loop_seconds = Histogram(_VERIFY_BOUNDS)
        self.process_seconds = Histogram(_VERIFY_BOUNDS)


_VERIFY_BOUNDS = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25),
)
"""Seconds: a signature takes 60 us on one core of today, a batch of 192 some ten milliseconds."""

_LAG_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Seconds: what a timer is late by. A turn of the loop ends after a millisecond or few."""


# What was, and how fast it goes


class Sample(NamedTuple):
    """What had happened by a moment; ``peers`` is how many were online in it."""

    messages: int = 0
    errors: int = 0
    stored: int = 0
    bytes: int = 0
    peers: int = 0


HISTORY_STEP = 10
"""Seconds of traffic that make one point of the charts."""

HISTORY_STEPS = 360
"""Points that are kept: an hour."""


class History:
    """
    The traffic of the last hour, in steps of ten seconds.

    A step in which the relay had no time to look counts as empty, and what happened in
    it counts in the next.

    Attributes:
        until_ms: When the last whole step ended, in milliseconds since the Unix epoch.
        steps: What happened in each, the last one last; empty ones where the relay has
            not run for an hour.

    Args:
        now_ms: When it begins.
    """

    def __init__(self, now_ms: int) -> None:
        self.until_ms = now_ms
        self.steps: deque[Sample] = deque([Sample()] * HISTORY_STEPS, maxlen=HISTORY_STEPS)
        self._before = Sample()

    def take(self, sample: Sample, now_ms: int) -> None:
        """Look at the clock: if a step is over, note what has happened in it."""
        ended = (now_ms - self.until_ms) // (HISTORY_STEP * 1000)
        if ended < 1:
            self.until_ms = min(self.until_ms, now_ms)  # the time of day was set back
            return
        missed = min(ended - 1, HISTORY_STEPS)
        self.steps.extend([Sample(peers=sample.peers)] * missed)
        self.steps.append(_between(self._before, sample))
        self._before = sample
        self.until_ms += ended * HISTORY_STEP * 1000


def _between(before: Sample, after: Sample) -> Sample:
    """Return what has happened between two moments."""
    return Sample(
        after.messages - before.messages,
        after.errors - before.errors,
        after.stored - before.stored,
        after.bytes - before.bytes,
        after.peers,
    )


class Rates:
    """How much happens in a second, over the last ten."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Sample]] = deque()

    def take(self, sample: Sample, now: float) -> None:
        """Note what has happened until *now*, in seconds on a clock that only goes forward."""
        self._samples.append((now, sample))
        # One that is older stays, so that the whole time is between it and now.
        while len(self._samples) > 2 and self._samples[1][0] <= now - _RATES_OVER:
            self._samples.popleft()

    def until(self, sample: Sample, now: float) -> dict[str, float]:
        """Return messages, errors and bytes a second, until *now*."""
        since, before = self._samples[0] if self._samples else (now, sample)
        seconds = max(now - since, 1.0)
        happened = _between(before, sample)
        return {
            name: round(getattr(happened, name) / seconds, 3)
            for name in ("messages", "errors", "bytes")
        }


_RATES_OVER = 10.0
"""Seconds over which a rate is taken."""


# All of it


@dataclass(slots=True)
class Metrics:
    """
    All that one relay counts, each part given to whoever adds to it.

    Attributes:
        tally: What happens at its node.
        commits: Its mailboxes' disk.
        verifications: Its signatures.
        lag: By how many seconds its timer comes late: the loop had no time.
        websocket: Bytes of its WebSockets.
        http: Bytes of its HTTP door.
    """

    tally: Tally = field(default_factory=Tally)
    commits: Commits = field(default_factory=Commits)
    verifications: Verifications = field(default_factory=Verifications)
    lag: Histogram = field(default_factory=lambda: Histogram(_LAG_BOUNDS))
    websocket: Traffic = field(default_factory=Traffic)
    http: Traffic = field(default_factory=Traffic)
