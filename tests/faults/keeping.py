"""
A process that keeps messages and ids until it is killed: ``python -m tests.faults.keeping``.

Given a path and a first number. It prints ``asked N`` before it asks the store for
something with number N, and ``kept N`` or ``saw N`` the moment that it is told so.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from queue import SimpleQueue

from agora.client.store import ClientStore
from agora.envelope import Envelope, seal
from agora.keys import KeyPair

__all__ = ["ALICE", "BOB", "BURST"]

ALICE = KeyPair.from_seed(bytes(range(32)))
BOB = KeyPair.from_seed(bytes(range(32, 64)))
BURST = 7
"""Messages that are asked for before any answer is waited for."""


class Keeper:
    """Keeps bursts of messages, and lets go of all but every third when they are kept."""

    def __init__(self, path: str) -> None:
        self._posted: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._awaited = 0
        self._store = ClientStore(path, peer_id=ALICE.peer_id)
        self._store.start(self._posted.put)

    def keep_for_ever(self, first: int) -> None:
        for start in itertools.count(first, BURST):
            numbers = range(start, start + BURST)
            places = {number: self._keep(number) for number in numbers}
            self._wait()
            for number, place in places.items():
                if number % 3 == 1:
                    say("asked", number)
                    self._store.renew(place, letter(number, "again"), self._hears("kept", number))
                elif number % 3 == 2:
                    say("let go", number)
                    self._store.let_go(place)

    def _keep(self, number: int) -> int:
        say("asked", number)
        self._store.saw(BOB.peer_id, str(number), self._hears("saw", number))
        hears = self._hears("kept", number)
        return self._store.keep(BOB.peer_id, letter(number, "first"), False, hears)

    def _hears(self, word: str, number: int) -> Callable[[Exception | None], None]:
        self._awaited += 1

        def hear(error: Exception | None) -> None:
            self._awaited -= 1
            say(word if error is None else f"not {word}", number)

        return hear

    def _wait(self) -> None:
        while self._awaited:
            self._posted.get()()


def letter(number: int, version: str) -> Envelope:
    payload = {"number": number, "version": version, "weight": "x" * 500}
    return seal(ALICE, type="publish", payload=payload, to=BOB.peer_id, timestamp_ms=1)


def say(word: str, number: int) -> None:
    print(f"{word}:{number}", flush=True)


if __name__ == "__main__":
    Keeper(sys.argv[1]).keep_for_ever(int(sys.argv[2]))
