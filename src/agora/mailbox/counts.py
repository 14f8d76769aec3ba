"""
What a mailbox file holds, counted: who has how much for whom.

The counts of whom a commit is about are in memory for its length, and in the
table ``held`` when it ends: a thousand messages of one sender for one recipient
write four rows, not four thousand. What was read stays for the next commit, unless
another process has changed the file or a transaction was undone.

The one rule: whoever takes mail out or puts it in says so here, in the same
transaction; :mod:`agora.mailbox.damage` compares both at the start.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from agora.mailbox.fitting import Held, Holdings

__all__ = ["Counts"]

_ALL = ""
"""Stands for every recipient, or every sender; no peer is called so."""

_MOST = 4_000
"""Counts that are remembered from one commit to the next, in about 2 MB."""

_Place = tuple[str, str]
"""A recipient and a sender, either of which may be ``_ALL``."""

_READ = """
SELECT held.recipient, held.sender, messages, bytes
FROM json_each(?) AS asked CROSS JOIN held
ON held.recipient = json_extract(asked.value, '$[0]')
AND held.sender = json_extract(asked.value, '$[1]')
"""

_WRITE = """
INSERT INTO held VALUES (?, ?, ?, ?) ON CONFLICT (recipient, sender)
DO UPDATE SET messages = excluded.messages, bytes = excluded.bytes
"""

_FORGET = "DELETE FROM held WHERE recipient = ? AND sender = ?"


class Counts:
    """
    The table ``held`` of one connection.

    Args:
        database: Its connection. Everything here but :meth:`forget` is done in a transaction.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._held: dict[_Place, Held] = {}
        self._pairs: dict[_Place, Holdings] = {}  # of the same counts
        self._changed: set[_Place] = set()
        self._is_committed = True
        self._version = -1

    def begin(self) -> None:
        """A transaction has begun: keep of what is known what still holds."""
        [(version,)] = self._database.execute("PRAGMA data_version").fetchall()
        # A full disk may have undone the transaction before, without a word to us.
        if version != self._version or not self._is_committed:
            self.forget()
        self._version = version

    def read(self, pairs: Iterable[_Place]) -> None:
        """Look up what these recipients have of these senders, and all in all, in one go."""
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._pairs]
        wanted = dict.fromkeys(place for pair in new for place in _places(*pair))
        missing = [place for place in wanted if place not in self._held]
        if missing:
            self._held.update((place, Held(0, 0)) for place in missing)
            for recipient, sender, messages, size in self._find(missing):
                self._held[recipient, sender] = Held(messages, size)
        for pair in new:
            self._pairs[pair] = Holdings(*(self._held[place] for place in _places(*pair)))

    def _find(self, places: list[_Place]) -> list[tuple[str, str, int, int]]:
        return self._database.execute(_READ, (json.dumps(places),)).fetchall()

    def holdings(self, recipient: str, sender: str) -> Holdings:
        """Return what a message has to fit beside, of a pair that was read."""
        return self._pairs[recipient, sender]

    def of(self, recipient: str) -> Held:
        """Return what waits for a recipient."""
        self.read([(recipient, _ALL)])
        return self._held[recipient, _ALL]

    def add(self, recipient: str, sender: str, messages: int, size: int) -> None:
        """Count messages, of a pair that was read; fewer than none are such as have left."""
        self._is_committed = False
        self._changed.add((recipient, sender))
        for held in self._pairs[recipient, sender]:
            held.messages += messages
            held.bytes += size

    def write(self) -> None:
        """Put into the table what has changed."""
        # In the order of the table, so that each of its pages is looked for once.
        places = sorted({place for pair in self._changed for place in _places(*pair)})
        rows = [(*place, self._held[place].messages, self._held[place].bytes) for place in places]
        self._database.executemany(_WRITE, [row for row in rows if row[2]])
        self._database.executemany(_FORGET, [row[:2] for row in rows if not row[2]])
        self._changed.clear()

    def committed(self) -> None:
        """The transaction has ended well, after :meth:`write`."""
        self._is_committed = True
        if len(self._held) > _MOST:
            self.forget()

    def forget(self) -> None:
        """A transaction was undone, or a part of it: read everything anew."""
        self._held.clear()
        self._pairs.clear()
        self._changed.clear()
        self._is_committed = True


def _places(recipient: str, sender: str) -> tuple[_Place, ...]:
    """Return where mail of a pair counts, in the order of ``Holdings``."""
    return (recipient, _ALL), (recipient, sender), (_ALL, sender), (_ALL, _ALL)
