"""A client's store under kills: what was told as kept is there, in order, and nothing else is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import IO

import pytest

from agora.client.store import ClientStore, StoreInUseError
from agora.envelope import Envelope
from tests.faults.keeping import ALICE, BOB, BURST


@contextmanager
def keeping(path: Path, first: int) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """Run a process that keeps messages; it is killed at the end, if not before."""
    command = [sys.executable, "-m", "tests.faults.keeping", str(path), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # asked for
        try:
            yield process, process.stdout
        finally:
            process.kill()


def number_of(envelope: Envelope) -> int:
    assert isinstance(envelope.payload, dict)
    return int(str(envelope.payload["number"]))


class Ledger:
    """All that the processes said, through all of their lives."""

    def __init__(self) -> None:
        self.said: dict[str, set[int]] = {"asked": set(), "kept": set(), "saw": set()}
        self.said |= {"let go": set()}
        self.gone: set[int] = set()

    @property
    def next_number(self) -> int:
        return max(self.said["asked"], default=-1) + 1

    def live(self, path: Path, *, lines: int) -> None:
        """Let a process say so many lines, then kill it, and note all that it had said."""
        with keeping(path, self.next_number) as (process, said):
            for _ in range(lines):
                self.note(said.readline())
            process.kill()
            for line in said:
                self.note(line)

    def note(self, line: str) -> None:
        word, number = line.split(":")
        self.said[word].add(int(number))

    def check(self, path: Path) -> None:
        """Compare what was said with what the file holds."""
        store = ClientStore(path, peer_id=ALICE.peer_id)
        found = [number_of(kept.envelope) for kept in store.outgoing()]
        unseen = [n for n in self.said["saw"] if not store.has_seen(BOB.peer_id, str(n))]
        is_sound = (store.set_aside, store.damaged) == (None, ())
        store.close()

        assert is_sound
        assert unseen == []
        assert self.said["kept"] - self.said["let go"] - set(found) == set()
        assert set(found) - self.said["asked"] == set()
        assert found == sorted(set(found))
        assert self.gone & set(found) == set()
        self.gone = self.said["asked"] - set(found)


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(5, id="short"),
        pytest.param(100, id="long", marks=[pytest.mark.long, pytest.mark.timeout(600)]),
    ],
)
def test_a_client_killed_again_and_again_keeps_what_was_told_as_kept(
    tmp_path: Path, kills: int
) -> None:
    ledger, chance, path = Ledger(), Random(7), tmp_path / "store.sqlite3"

    for _ in range(kills):
        ledger.live(path, lines=chance.randrange(1, 60 * BURST))
        ledger.check(path)

    print({word: len(numbers) for word, numbers in ledger.said.items()})
    assert len(ledger.said["kept"]) > kills
    assert ledger.gone != set()


def test_a_living_process_holds_the_store_and_a_dead_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite3"
    with keeping(path, 0) as (process, said):
        said.readline()
        with pytest.raises(StoreInUseError, match="is in use by another process"):
            ClientStore(path, peer_id=ALICE.peer_id)
        process.kill()
        process.wait()

        ClientStore(path, peer_id=ALICE.peer_id).close()
