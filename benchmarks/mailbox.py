"""
What a relay's mailbox file costs, per message: ``python -m benchmarks.mailbox``.

For each number of waiting messages it fills a file, puts more, reads pages and
removes what they held, and opens the file again, by the jobs that a node submits,
and with a commit for each batch, as the one thread that writes does it. CPU is all
that this thread used, in Python, SQLite and the system; beside it stands the cost of
one Ed25519 verification in the same run, for machines differ and neighbours disturb.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from agora.envelope import open_envelope, seal
from agora.keys import KeyPair, PeerId
from agora.mailbox import Mailbox, MailboxBounds, Page
from agora.mailbox.opening import MAILBOX_FILE, open_mailbox
from agora.protocol.relay.actions import Mail
from agora.relay.writer import Job, PutMail, RemoveMail, commit_together

__all__ = ["Figures", "measure"]

SIZES = (1_000, 100_000, 1_000_000)
BOUNDS = MailboxBounds(max_messages=10**9, max_bytes=10**15)

MEASURED = 20_000
"""Messages that are put, and that are drained, for a figure; fewer where fewer wait."""

PER_MAILBOX = 1_000
"""Messages that wait for one recipient: the bound of a relay that is told nothing else."""

SENDERS = 16
PAGE = 64
"""Messages of a page: the window of a session."""

_PREFIX = "302a300506032b6570032100"


@dataclass(frozen=True)
class Figures:
    """
    What was measured, in microseconds per message unless the name has another unit.

    Attributes:
        waiting: Messages that waited before.
        put: CPU, of the commit a share.
        put_wall: The time that passed.
        longest_commit_ms: The longest stall of receipts: most often a checkpoint.
        page: CPU of reading.
        remove: CPU of removing, of the commit a share.
        drain_wall: The time that passed for reading and removing.
        verify: CPU of one verification of a message of this size.
        start_s: Seconds that opening the file took, with what that checks.
        file_mb: Megabytes of the file when all had been put.
        drained_mb: Megabytes of the file at the end.
    """

    waiting: int
    put: float
    put_wall: float
    longest_commit_ms: float
    page: float
    remove: float
    drain_wall: float
    verify: float
    start_s: float
    file_mb: float
    drained_mb: float


class _Clock:
    """Adds up what is spent in its ``with`` blocks, and knows the longest of them."""

    def __init__(self) -> None:
        self.cpu = self.wall = self.longest = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        cpu, wall = time.thread_time(), time.perf_counter()
        yield
        passed = time.perf_counter() - wall
        self.cpu += time.thread_time() - cpu
        self.wall += passed
        self.longest = max(self.longest, passed)


def measure(folder: Path, waiting: int, *, batch: int) -> Figures:
    """Measure with *waiting* messages in a file in *folder*, so many changes a commit."""
    count = min(MEASURED, 4 * waiting)
    letters = _Letters(waiting)
    putting, reading, removing = _Clock(), _Clock(), _Clock()
    with closing(open_mailbox(folder, BOUNDS).mailbox) as mailbox:
        _put(mailbox, letters.some(1, waiting), 1_000, _Clock())
        _put(mailbox, letters.some(waiting + 1, waiting + count), batch, putting)
        file_mb = _megabytes(folder)
        drained = _drain(mailbox, letters.recipients, count, batch, reading, removing)
    opening = _Clock()
    with opening.running():
        opened = open_mailbox(folder, BOUNDS)
    opened.mailbox.close()
    return Figures(
        waiting=waiting,
        put=putting.cpu / count * 1e6,
        put_wall=putting.wall / count * 1e6,
        longest_commit_ms=putting.longest * 1e3,
        page=reading.cpu / drained * 1e6,
        remove=removing.cpu / drained * 1e6,
        drain_wall=(reading.wall + removing.wall) / drained * 1e6,
        verify=_cost_of_a_verification(),
        start_s=opening.wall,
        file_mb=file_mb,
        drained_mb=_megabytes(folder),
    )


class _Letters:
    """Mail of 500 bytes of payload, from a few senders to as many recipients as it takes."""

    def __init__(self, waiting: int) -> None:
        self.recipients = [_name(f"r{n}") for n in range(max(1, waiting // PER_MAILBOX))]
        self._senders = [_name(f"s{n}") for n in range(SENDERS)]
        self._text = _envelope_text()

    def some(self, first: int, last: int) -> Iterator[Mail]:
        """Return mail of these positions, each behind that of others, as mail comes."""
        for position in range(first, last + 1):
            to = self.recipients[position * 7919 % len(self.recipients)]
            identifier = sha256(str(position).encode()).hexdigest()
            sender = self._senders[position % SENDERS]
            text = identifier + self._text[len(identifier) :]
            yield Mail(to, sender, identifier, text, "alice", position, confirm=True)


def _name(seed: str) -> PeerId:
    return PeerId(_PREFIX + sha256(seed.encode()).hexdigest())


def _envelope_text() -> str:
    keys = KeyPair.from_seed(b"\1" * 32)
    payload = {"text": "x" * 489}
    return seal(keys, type="publish", payload=payload, to=keys.peer_id, timestamp_ms=1).to_json()


def _put(mailbox: Mailbox, mail: Iterable[Mail], batch: int, clock: _Clock) -> None:
    jobs: list[Job] = []
    for one in mail:
        jobs.append((PutMail(one, 1_700_000_000_000 + one.position), _nobody))
        if len(jobs) == batch:
            _do(mailbox, jobs, clock)
            jobs = []
    _do(mailbox, jobs, clock)


def _do(mailbox: Mailbox, jobs: list[Job], clock: _Clock) -> None:
    with clock.running():
        results = commit_together(mailbox, jobs)
    assert all(result is None for _, result in results), "all of it has its place"


def _drain(
    mailbox: Mailbox, recipients: list[PeerId], count: int, batch: int, read: _Clock, take: _Clock
) -> int:
    """Read and remove at least *count* messages, as many recipients as it takes at once."""
    at_once = max(1, batch // PAGE)
    drained = 0
    for start in range(0, len(recipients), at_once):
        after = dict.fromkeys(recipients[start : start + at_once], 0)
        while after and drained < count:
            removals: list[Job] = []
            for recipient, behind in list(after.items()):
                with read.running():
                    page = _page(mailbox, recipient, behind)
                removals += [
                    (RemoveMail(recipient, (one.envelope_id,)), _nobody) for one in page.mail
                ]
                after[recipient] = page.mail[-1].position if page.mail else behind
                if page.is_last:
                    del after[recipient]
            _do(mailbox, removals, take)
            drained += len(removals)
    return drained


def _page(mailbox: Mailbox, recipient: str, after: int) -> Page:
    return mailbox.page(recipient, after=after, max_messages=PAGE, max_bytes=1 << 20)


def _cost_of_a_verification(times: int = 500) -> float:
    text = _envelope_text()
    clock = _Clock()
    with clock.running():
        for _ in range(times):
            open_envelope(text)
    return clock.cpu / times * 1e6


def _nobody(result: object) -> None:
    """Tell nobody."""


def _megabytes(folder: Path) -> float:
    return (folder / MAILBOX_FILE).stat().st_size / 1e6


def main() -> None:
    """Measure what the command line asks for, and print it."""
    parser = argparse.ArgumentParser(description="What a relay's mailbox file costs per message.")
    parser.add_argument("sizes", nargs="*", type=int, default=SIZES, help="messages that wait")
    parser.add_argument("--batch", type=int, default=256, help="changes per commit")
    parser.add_argument("--folder", type=Path, help="where the file is made, and removed again")
    parser.add_argument("--json", action="store_true", help="print one object per size")
    asked = parser.parse_args()
    for waiting in asked.sizes:
        folder = Path(tempfile.mkdtemp(dir=asked.folder))
        try:
            figures = asdict(measure(folder, waiting, batch=asked.batch))
        finally:
            shutil.rmtree(folder)
        if asked.json:
            print(json.dumps(figures), flush=True)
        else:
            print("  ".join(f"{name} {value:,.6g}" for name, value in figures.items()), flush=True)


if __name__ == "__main__":
    main()
