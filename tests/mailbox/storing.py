"""
A process that stores mail until it is stopped, for the tests to kill: ``python -m``.

``for_ever PATH`` commits three messages at a time and says so, then puts one
more that it never commits. ``until_full PATH`` stores until its disk is full,
and once more when there is room again. ``locked DIRECTORY`` has a data directory
for itself. Each prints one line for each thing done, the moment that it is done.
"""

from __future__ import annotations

import itertools
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO

from agora.envelope import seal
from agora.keys import KeyPair
from agora.mailbox import MailboxBounds, SqliteMailbox
from agora.mailbox.lock import DirectoryLock
from agora.protocol.relay.actions import Mail

ALICE, BOB, CAROL = (KeyPair.from_seed(sha256(name).digest()) for name in (b"a", b"b", b"c"))
BATCH = 3
BOUNDS = MailboxBounds(max_messages=10**6, max_bytes=10**9)
ROOT = Path(__file__).parents[2]


def letter(position: int, text: str = "hello", *, to: KeyPair = CAROL) -> Mail:
    """Return mail of alice that is genuine, the same for the same arguments."""
    envelope = seal(
        ALICE, type="publish", payload={"text": text}, to=to.peer_id, timestamp_ms=position
    )
    return Mail(
        to.peer_id, ALICE.peer_id, envelope.id, envelope.to_json(), "alice", position, confirm=True
    )


def waiting(mailbox: SqliteMailbox, recipient: str = CAROL.peer_id) -> list[Mail]:
    """Return all mail of a recipient, in order."""
    page = mailbox.page(recipient, after=0, max_messages=10**6, max_bytes=10**9)
    return list(page.mail)


@contextmanager
def storing(how: str, path: Path) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """Run a process that stores mail; it is gone when the block is over."""
    command = [sys.executable, "-m", "tests.mailbox.storing", how, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout
        finally:
            process.kill()


def for_ever(path: Path) -> None:
    mailbox = SqliteMailbox(path, BOUNDS)
    for number in itertools.count():
        for part in range(BATCH):
            mailbox.put(letter(BATCH * number + part + 1), now_ms=0)
        mailbox.commit()
        mailbox.put(letter(10**9 + number), now_ms=0)
        print(number, flush=True)
        mailbox.rollback()


def until_full(path: Path) -> None:
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    mailbox = SqliteMailbox(path, BOUNDS)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, unlimited[1]))
    for position in range(1, 41):
        store_one(mailbox, position)
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    store_one(mailbox, 41)


def store_one(mailbox: SqliteMailbox, position: int) -> None:
    try:
        mailbox.put(letter(position, "x" * 10_000), now_ms=0)
        mailbox.commit()
        print(position, "taken", flush=True)
    except sqlite3.Error:
        mailbox.rollback()
        print(position, "refused", flush=True)


def locked(directory: Path) -> None:
    lock = DirectoryLock(directory)
    print("locked", flush=True)
    signal.pause()
    lock.close()


if __name__ == "__main__":
    what = {"for_ever": for_ever, "until_full": until_full, "locked": locked}[sys.argv[1]]
    what(Path(sys.argv[2]))
