"""
Acked mail in SQLite, beside the mailboxes: a table of its own, made when the first is retained.

So a relay that retains nothing has no such table, and a relay of an older version
does not see it. Rows are numbered as they come and their moments never go back, so
that those of one recipient lie in an index in the order in which they are read.

The one rule: nothing here is ever put back into a mailbox.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import takewhile
from typing import Any

from msgspec.structs import replace

from agora.mailbox.base import MailboxBounds, Page
from agora.mailbox.fitting import Held, cut_page
from agora.mailbox.rows import (
    COLUMNS,
    hash_of_id,
    hash_of_recipient,
    mail_of,
    row_of,
    sound_mail_of,
)
from agora.protocol.relay.actions import Mail

__all__ = ["RetainedTable"]

_log = logging.getLogger("agora.store")

_SCHEMA = (
    # No other table has as many columns: by that a rescue knows this is no mail that waits.
    """
    CREATE TABLE IF NOT EXISTS retained (
        number         INTEGER PRIMARY KEY AUTOINCREMENT,  -- never again that of what is gone
        acked_ms       INTEGER NOT NULL,                   -- never below that of a lower number
        recipient_hash INTEGER NOT NULL,
        id_hash        INTEGER NOT NULL,
        position       INTEGER NOT NULL,                   -- from here on as in mail
        recipient      TEXT    NOT NULL,
        sender         TEXT    NOT NULL,
        envelope_id    TEXT    NOT NULL,
        name           TEXT,
        text           TEXT    NOT NULL,
        size           INTEGER NOT NULL,
        stored_ms      INTEGER NOT NULL,
        confirm        INTEGER NOT NULL,
        checksum       INTEGER NOT NULL
    )
    """,
    "CREATE INDEX IF NOT EXISTS retained_in_order ON retained (recipient_hash, acked_ms)",
    "CREATE INDEX IF NOT EXISTS retained_by_id ON retained (id_hash) WHERE envelope_id != ''",
    """
    CREATE TABLE IF NOT EXISTS retained_held (  -- '' is every recipient
        recipient TEXT    PRIMARY KEY,
        messages  INTEGER NOT NULL,
        bytes     INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    """
    CREATE TRIGGER IF NOT EXISTS retained_put AFTER INSERT ON retained BEGIN
        INSERT INTO retained_held VALUES (new.recipient, 1, new.size), ('', 1, new.size)
        ON CONFLICT (recipient) DO UPDATE
            SET messages = messages + 1, bytes = bytes + excluded.bytes;
    END
    """,
    """
    CREATE TRIGGER IF NOT EXISTS retained_gone AFTER DELETE ON retained BEGIN
        UPDATE retained_held SET messages = messages - 1, bytes = bytes - old.size
            WHERE recipient IN (old.recipient, '');
        DELETE FROM retained_held WHERE recipient = old.recipient AND messages = 0;
    END
    """,
)

_PUT = (
    f"INSERT INTO retained (acked_ms, recipient_hash, id_hash, {COLUMNS}) "  # noqa: S608  # ours
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

_THERE = (
    "SELECT recipient, envelope_id, sender FROM json_each(?) AS asked "
    "CROSS JOIN retained ON id_hash = asked.value WHERE envelope_id != ''"
)

_BEHIND = (
    f"SELECT {COLUMNS}, number, acked_ms FROM retained "  # noqa: S608  # the columns are ours
    "WHERE recipient_hash = ? AND acked_ms >= ? AND number > ? AND recipient = ? "
    "ORDER BY acked_ms, number"
)

_OLDEST = "SELECT number, size FROM retained ORDER BY number"

_MOMENTS = "SELECT number, acked_ms FROM retained ORDER BY number LIMIT ?"

_OLDEST_OF = (
    "SELECT number, size FROM retained WHERE recipient_hash = ? AND recipient = ? "
    "ORDER BY acked_ms, number"
)

_DROP = "DELETE FROM retained WHERE number = ?"


class RetainedTable:
    """
    What is retained in one database.

    Whoever undoes a transaction calls :meth:`undone`.

    Args:
        database: Where; its mailboxes are there too.
        begin: Begins a transaction, unless one was begun; called before something is changed.
    """

    def __init__(self, database: sqlite3.Connection, begin: Callable[[], None]) -> None:
        self._database = database
        self._begin = begin
        self._seen: bool | None = None

    def undone(self) -> None:
        """Look again whether the table is there: it may have been made in what was undone."""
        self._seen = None

    # In

    def keep(self, mail: Iterable[Mail], bounds: MailboxBounds, *, acked_ms: int) -> None:
        """Keep mail, and forget the oldest of what is more than the bounds allow."""
        self._begin()
        self._make()
        moment = max(acked_ms, self._last_moment())
        new = self._new(mail)
        self._database.executemany(_PUT, [_row(one, moment) for one in new])
        for recipient in {one.recipient: None for one in new}:
            self._trim_one(recipient, bounds)
        if new:
            self._trim_all(bounds)

    def _new(self, mail: Iterable[Mail]) -> list[Mail]:
        """Return what of *mail* is not here yet, each once."""
        mail = list(mail)
        there = self.ids(hash_of_id(one.recipient, one.envelope_id) for one in mail)
        new = []
        for one in mail:
            its_id = (one.recipient, one.envelope_id, one.sender)
            if its_id not in there:
                new.append(one)
                there |= {its_id} if one.envelope_id else set()  # without, nobody can tell
        return new

    def _trim_one(self, recipient: str, bounds: MailboxBounds) -> None:
        held = self.held(recipient)
        messages, size = held.messages - bounds.retain_messages, held.bytes - bounds.retain_bytes
        if messages > 0 or size > 0:
            self._drop(_OLDEST_OF, (hash_of_recipient(recipient), recipient), messages, size)

    def _trim_all(self, bounds: MailboxBounds) -> None:
        size = self.held("").bytes - bounds.retain_store_bytes
        if size > 0:
            self._drop(_OLDEST, (), 0, size)

    def _drop(self, oldest: str, values: tuple[object, ...], messages: int, size: int) -> None:
        """Forget the first of *oldest*: so many messages, and so many bytes, at least."""
        numbers = []
        with closing(self._database.execute(oldest, values)) as rows:
            for number, its_size in rows:
                if messages <= 0 and size <= 0:
                    break
                numbers.append((number,))
                messages, size = messages - 1, size - its_size
        self._database.executemany(_DROP, numbers)

    # Out

    def page(
        self, recipient: str, *, since_ms: int, after: int, max_messages: int, max_bytes: int
    ) -> Page:
        """Return a page of what is retained of one recipient."""
        if not self._is_made:
            return Page((), is_last=True)
        since_ms = max(since_ms, self._moment_behind(after))
        values = (hash_of_recipient(recipient), since_ms, after, recipient)
        with closing(self._database.execute(_BEHIND, values)) as rows:
            return cut_page(_sound(rows), max_messages=max_messages, max_bytes=max_bytes)

    def ids(self, hashes: Iterable[int]) -> set[tuple[str, str, str]]:
        """Return recipient, id and sender of what is retained that has one of these hashes."""
        return set(self._all(_THERE, json.dumps(list(hashes)))) if self._is_made else set()

    def held(self, recipient: str) -> Held:
        """Return how much of one recipient is retained; ``""`` is all of them."""
        rows = self._all("SELECT messages, bytes FROM retained_held WHERE recipient = ?", recipient)
        return Held(*rows[0]) if rows else Held(0, 0)

    def messages(self) -> dict[str, int]:
        """Return how many messages of each recipient are retained."""
        return dict(
            self._all("SELECT recipient, messages FROM retained_held WHERE recipient != ''")
        )

    # Away

    def forget(self, *, before_ms: int, now_ms: int, max_messages: int) -> int:
        """Forget what was acked before a moment, the oldest first."""
        if not self._is_made:
            return 0
        if self._last_moment() > now_ms:
            self._begin()
            self._database.execute(
                "UPDATE retained SET acked_ms = ? WHERE acked_ms > ?", (now_ms, now_ms)
            )
        with closing(self._database.execute(_MOMENTS, (max_messages,))) as rows:
            old = [(number,) for number, _ in takewhile(lambda row: row[1] < before_ms, rows)]
        if old:
            self._begin()
            self._database.executemany(_DROP, old)
        return len(old)

    def purge(self, recipient: str) -> int:
        """Forget all of one recipient."""
        if not self._is_made:
            return 0
        self._begin()
        values = (hash_of_recipient(recipient), recipient)
        statement = "DELETE FROM retained WHERE recipient_hash = ? AND recipient = ?"
        return self._database.execute(statement, values).rowcount

    # Within

    @property
    def _is_made(self) -> bool:
        if self._seen is None:
            found = self._database.execute("SELECT name FROM sqlite_master").fetchall()
            self._seen = ("retained_gone",) in found  # which is made last
        return self._seen

    def _make(self) -> None:
        if not self._is_made:
            for statement in _SCHEMA:
                self._database.execute(statement)
            self._seen = True

    def _all(self, statement: str, *values: object) -> list[Any]:
        return self._database.execute(statement, values).fetchall() if self._is_made else []

    def _last_moment(self) -> int:
        rows = self._all("SELECT acked_ms FROM retained ORDER BY number DESC LIMIT 1")
        return rows[0][0] if rows else 0

    def _moment_behind(self, number: int) -> int:
        """Return a moment before which nothing is that has a higher number than this."""
        rows = self._all(
            "SELECT acked_ms FROM retained WHERE number >= ? ORDER BY number LIMIT 1", number
        )
        return rows[0][0] if rows else 0


def _row(mail: Mail, acked_ms: int) -> tuple[object, ...]:
    hashes = hash_of_recipient(mail.recipient), hash_of_id(mail.recipient, mail.envelope_id)
    return (acked_ms, *hashes, *row_of(mail, mail.size, mail.stored_ms))


def _sound(rows: sqlite3.Cursor) -> Iterator[Mail]:
    """Yield mail as it is told; what was damaged is left out, and logged."""
    for row in rows:
        mail, number, acked_ms = sound_mail_of(row), row[-2], row[-1]
        if mail is not None:
            yield replace(mail, position=number, stored_ms=acked_ms)
            continue
        damaged = mail_of(row)
        fields = {"id": damaged.envelope_id, "to": damaged.recipient, "number": number}
        _log.error("retained mail is damaged", extra={"fields": fields})
