"""
Mailboxes in one SQLite file: write-ahead log, synced at every commit, one writer.

``synchronous=FULL`` syncs the log before a commit returns, so what was
committed survives a loss of power (SQLite, "PRAGMA synchronous"). The file is
locked for as long as it is open: a second relay on it refuses to start.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from agora.errors import ConfigurationError
from agora.keys import PeerId
from agora.mailbox.base import AlreadyStoredError, Page
from agora.mailbox.memory import check_room, cut_page
from agora.protocol.actions import Mail

__all__ = ["SCHEMA_VERSION", "SqliteMailbox"]

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE mail (
    position    INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice, also after a removal
    recipient   TEXT    NOT NULL,
    sender      TEXT    NOT NULL,
    envelope_id TEXT    NOT NULL,                   -- '' for an opaque envelope
    name        TEXT,
    text        TEXT    NOT NULL,
    size        INTEGER NOT NULL,                   -- bytes of the text in UTF-8
    stored_ms   INTEGER NOT NULL
);
CREATE INDEX mail_by_recipient ON mail (recipient, position);
CREATE INDEX mail_by_age ON mail (stored_ms);
CREATE UNIQUE INDEX mail_once ON mail (recipient, sender, envelope_id) WHERE envelope_id != '';
CREATE TABLE mailbox (                              -- kept in step, so that no bound needs a count
    recipient TEXT    PRIMARY KEY,
    messages  INTEGER NOT NULL,
    bytes     INTEGER NOT NULL
);
"""


_LOCK_TIMEOUT = 0.5
"""Seconds to wait for a relay that is just stopping on the same file."""


class SqliteMailbox:
    """
    Keeps mail in a file.

    Args:
        path: The database file; made, with its folder, if absent. Readable by its owner alone.
        max_messages: Messages one mailbox holds.
        max_bytes: Bytes of text one mailbox holds.

    Raises:
        ConfigurationError: When another relay has the file open, when it is not a
            mailbox database, or when a newer version made it.
    """

    def __init__(self, path: Path, *, max_messages: int, max_bytes: int) -> None:
        self._path = path
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            self._database = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=_LOCK_TIMEOUT
            )
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(_why_not(path, error)) from error
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._database.close()
            raise ConfigurationError(_why_not(path, error)) from error
        except ConfigurationError:
            self._database.close()
            raise

    def put(self, mail: Mail, *, now_ms: int) -> Mail:
        """Add *mail*; see :meth:`Mailbox.put <agora.mailbox.base.Mailbox.put>`."""
        self._begin()
        if self._has(mail):
            raise AlreadyStoredError(f"envelope {mail.envelope_id} waits already")
        check_room(mail, *self.count(mail.recipient), self._max_messages, self._max_bytes)
        cursor = self._database.execute(
            "INSERT INTO mail (recipient, sender, envelope_id, name, text, size, stored_ms) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*_columns(mail), mail.size, now_ms),
        )
        self._adjust(mail.recipient, +1, mail.size)
        assert cursor.lastrowid is not None  # an INSERT has one
        return replace(mail, position=cursor.lastrowid)

    def page(self, recipient: str, *, after: int, max_messages: int, max_bytes: int) -> Page:
        """Return the oldest mail behind *after*."""
        rows = self._database.execute(
            "SELECT recipient, sender, envelope_id, text, name, position FROM mail "
            "WHERE recipient = ? AND position > ? ORDER BY position LIMIT ?",
            (recipient, after, max_messages + 1),  # one more, to know whether this is the last page
        )
        # Not a list: rows are read as far as they fit, and no further.
        behind = (Mail(row[0], PeerId(row[1]), *row[2:]) for row in rows)
        return cut_page(behind, max_messages=max_messages, max_bytes=max_bytes)

    def remove(self, recipient: str, positions: Iterable[int]) -> None:
        """Take messages out."""
        self._begin()
        for position in positions:
            removed = self._database.execute(
                "DELETE FROM mail WHERE recipient = ? AND position = ? RETURNING size",
                (recipient, position),
            ).fetchall()
            for (size,) in removed:
                self._adjust(recipient, -1, -size)

    def expire(self, *, before_ms: int) -> int:
        """Remove what was stored before *before_ms*."""
        self._begin()
        removed = self._database.execute(
            "DELETE FROM mail WHERE stored_ms < ? RETURNING recipient, size",
            (before_ms,),
        ).fetchall()
        for recipient, size in removed:
            self._adjust(recipient, -1, -size)
        return len(removed)

    def count(self, recipient: str) -> tuple[int, int]:
        """Return how many messages and bytes wait."""
        row = self._database.execute(
            "SELECT messages, bytes FROM mailbox WHERE recipient = ?", (recipient,)
        ).fetchone()
        return row or (0, 0)

    def commit(self) -> None:
        """Write and sync the changes."""
        if self._database.in_transaction:
            self._database.execute("COMMIT")

    def rollback(self) -> None:
        """Undo the changes."""
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")

    def close(self) -> None:
        """Unlock and close the file."""
        self.rollback()
        self._database.close()

    def _prepare(self) -> None:
        execute = self._database.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute("BEGIN IMMEDIATE")  # takes the lock, and keeps it while the file is open
        (version,) = execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise ConfigurationError(
                f"{self._path} has schema {version}, this version knows {SCHEMA_VERSION}: "
                "it was made by a newer relay"
            )
        if version == 0:
            self._make_tables()
        execute("SELECT position FROM mail LIMIT 0")  # a database of something else has none
        execute("COMMIT")

    def _make_tables(self) -> None:
        if self._database.execute("SELECT 1 FROM sqlite_master").fetchone():
            raise ConfigurationError(f"{self._path} is a database of something else")
        for statement in _SCHEMA.split(";"):
            self._database.execute(statement)
        self._database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _begin(self) -> None:
        if not self._database.in_transaction:
            self._database.execute("BEGIN IMMEDIATE")

    def _has(self, mail: Mail) -> bool:
        found = self._database.execute(
            "SELECT 1 FROM mail WHERE recipient = ? AND sender = ? AND envelope_id = ? "
            "AND envelope_id != ''",  # which the index is for
            (mail.recipient, mail.sender, mail.envelope_id),
        )
        return found.fetchone() is not None

    def _adjust(self, recipient: str, messages: int, size: int) -> None:
        self._database.execute(
            "INSERT INTO mailbox VALUES (?1, ?2, ?3) ON CONFLICT (recipient) DO UPDATE "
            "SET messages = messages + ?2, bytes = bytes + ?3",
            (recipient, messages, size),
        )


def _columns(mail: Mail) -> tuple[str | None, ...]:
    return (mail.recipient, mail.sender, mail.envelope_id, mail.name, mail.text)


def _why_not(path: Path, error: Exception) -> str:
    if "locked" in str(error):
        return f"{path} is in use by another relay: stop it, or give this one another --data-dir"
    return f"{path} is no usable mailbox database: {error}"
