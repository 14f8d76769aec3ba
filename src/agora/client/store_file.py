"""
The file of a client's store: SQLite, write-ahead log, synced at every commit, for one process.

It belongs to one peer id and holds what that peer has still to say and what it
has heard. The rule kept here: no file is ever thrown away. What cannot be read
is set aside under another name, and whoever opened it is told.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from agora.errors import ConfigurationError
from agora.files import FilePath, sync_directory
from agora.keys import PeerId, is_peer_id
from agora.references import short_key

__all__ = ["SCHEMA_VERSION", "KeptRow", "Outcome", "StoreFile", "StoreInUseError"]

_log = logging.getLogger("agora.client")

Outcome = Literal["processed", "failed"]
"""What became of a message that was received."""

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE owner (peer_id TEXT NOT NULL);
CREATE TABLE outgoing (
    number    INTEGER PRIMARY KEY,  -- in the order of sending
    recipient TEXT    NOT NULL,
    confirm   INTEGER NOT NULL,
    envelope  BLOB    NOT NULL      -- JSON in UTF-8, signed
);
CREATE TABLE damaged (              -- what was outgoing and cannot be trusted
    recipient TEXT,
    confirm   INTEGER,
    envelope  BLOB,
    found_ms  INTEGER NOT NULL
);
CREATE TABLE seen (
    number  INTEGER PRIMARY KEY,    -- in the order of hearing
    key     BLOB    NOT NULL UNIQUE,  -- of sender and id; see _key
    seen_ms INTEGER NOT NULL,
    outcome TEXT    NOT NULL
);
"""

# As a file has them, word for word: other words are another SCHEMA_VERSION; comments are no words.
_TABLES = [" ".join(table.split()) for table in re.sub("--.*", "", _SCHEMA).split(";")][:-1]

_LOCK_TIMEOUT = 0.5
"""Seconds to wait for a client that is just closing on the same file."""

_PRUNE_EVERY = 1_000
"""Ids between two looks at which are too old or too many; so many may be above the bound."""


class StoreInUseError(ConfigurationError):
    """Another process has the store open; the message says what to do."""

    code = "store_in_use"


class _DamageError(Exception):
    """The file is none that can be read; the text says how that showed."""


@dataclass(frozen=True, slots=True)
class KeptRow:
    """A row of the outbox as it was found; nothing in it is checked."""

    number: int
    recipient: object
    envelope: object
    confirm: bool


class StoreFile:
    """
    The file, locked for as long as it is open, also against this process itself.

    One thread at a time changes it; one other may look up meanwhile, and sees what is committed.

    Args:
        path: The database file; made, with its folder, if absent. Readable by its owner alone.
        peer_id: Whose it is.
        seen_for: Seconds that ids are kept.
        max_seen: How many ids are kept, give or take a thousand; the oldest go.
        clock: Milliseconds since the Unix epoch.

    Attributes:
        set_aside: Where the file is now that was found damaged and replaced; None if it was not.
        lost: How many messages wait in that one; None where it cannot be told.

    Raises:
        StoreInUseError: When it is open already.
        ConfigurationError: When it is another peer's, made by a newer version or by
            another program, or cannot be written.
    """

    def __init__(
        self,
        path: FilePath,
        *,
        peer_id: PeerId,
        seen_for: float,
        max_seen: int,
        clock: Callable[[], int],
    ) -> None:
        self.set_aside: Path | None = None
        self.lost: int | None = None
        self._path = Path(os.path.realpath(path))  # a link stays a link
        self._peer_id = peer_id
        self._seen_for_ms = int(seen_for * 1000)
        self._max_seen = max_seen
        self._clock = clock
        self._until_prune = _PRUNE_EVERY
        with _naming(self._path):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _lock(self._path)
        try:
            with _naming(self._path):
                self._database = self._open_or_replace()
                self._reader = _connect(self._path)
        except BaseException:
            self._lock.close()
            raise

    # What is to be said

    def last_number(self) -> int:
        """Return the highest number of what waits; 0 where nothing does."""
        (number,) = self._reader.execute("SELECT coalesce(max(number), 0) FROM outgoing").fetchone()
        return int(number)

    def kept(self) -> list[KeptRow]:
        """Return what waits, oldest first."""
        rows = self._reader.execute(
            "SELECT number, recipient, envelope, confirm FROM outgoing ORDER BY number"
        ).fetchall()
        return [KeptRow(number, to, text, bool(confirm)) for number, to, text, confirm in rows]

    def put(self, number: int, recipient: str, envelope: bytes, confirm: bool) -> None:
        """Keep a message."""
        self._change(
            "INSERT INTO outgoing (number, recipient, envelope, confirm) VALUES (?, ?, ?, ?)",
            (number, recipient, envelope, confirm),
        )

    def replace(self, number: int, envelope: bytes) -> None:
        """Put another envelope in the place of one; without a message of that number nothing."""
        self._change("UPDATE outgoing SET envelope = ? WHERE number = ?", (envelope, number))

    def remove(self, number: int) -> None:
        """Let a message go."""
        self._change("DELETE FROM outgoing WHERE number = ?", (number,))

    def bury(self, number: int) -> None:
        """Move a message that cannot be trusted to where it is kept, but not sent."""
        self._change(
            "INSERT INTO damaged SELECT recipient, confirm, envelope, ? FROM outgoing "
            "WHERE number = ?",
            (self._clock(), number),
        )
        self.remove(number)

    # What was heard

    def remember(self, sender: str, envelope_id: str, outcome: Outcome) -> None:
        """Keep what became of an envelope that came, as the newest."""
        self._change(
            "INSERT OR REPLACE INTO seen (key, seen_ms, outcome) VALUES (?, ?, ?)",
            (_key(sender, envelope_id), self._clock(), outcome),
        )
        self._until_prune -= 1
        if self._until_prune <= 0:
            self.prune()

    def forget(self, sender: str, envelope_id: str) -> None:
        """Be as if it had never come."""
        self._change("DELETE FROM seen WHERE key = ?", (_key(sender, envelope_id),))

    def outcome_of(self, sender: str, envelope_id: str) -> Outcome | None:
        """Return what is committed about an envelope; None where it is not known."""
        try:
            row = self._reader.execute(
                "SELECT outcome FROM seen WHERE key = ?", (_key(sender, envelope_id),)
            ).fetchone()
        except sqlite3.Error as error:
            # Better a message twice than one that never arrives.
            _log.error("seen ids cannot be read", extra={"fields": {"error": str(error)}})
            return None
        if row is None:
            return None
        return "failed" if row[0] == "failed" else "processed"

    def prune(self) -> None:
        """Drop the ids that are too old or too many."""
        self._until_prune = _PRUNE_EVERY
        # Read from the oldest on, as far as the first that is young enough: no index, no scan.
        self._change(
            "DELETE FROM seen WHERE number < coalesce("
            "(SELECT number FROM seen WHERE seen_ms >= ? ORDER BY number LIMIT 1), 1 << 62)",
            (self._clock() - self._seen_for_ms,),
        )
        self._change(
            "DELETE FROM seen WHERE number <= (SELECT max(number) FROM seen) - ?",
            (self._max_seen,),
        )

    # Safety

    def commit(self) -> bool:
        """Write and sync the changes; tell whether there were any."""
        if not self._database.in_transaction:
            return False
        self._database.execute("COMMIT")
        return True

    def rollback(self) -> None:
        """Undo the changes."""
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")

    def close(self) -> None:
        """Undo what is not committed, close and unlock the file."""
        self.rollback()
        self._reader.close()
        self._database.close()
        self._lock.close()

    def _change(self, statement: str, values: tuple[object, ...]) -> None:
        if not self._database.in_transaction:
            self._database.execute("BEGIN IMMEDIATE")
        self._database.execute(statement, values)

    # Opening

    def _open_or_replace(self) -> sqlite3.Connection:
        try:
            return self._open()
        except _DamageError as damage:
            self.set_aside = _move_aside(self._path, self._clock())
            self.lost = _count_outgoing(self.set_aside)
            fields = {"path": str(self._path), "now_at": str(self.set_aside), "why": str(damage)}
            hint = "what it held is not sent, and not known as heard"
            fields |= {"messages": "unknown" if self.lost is None else str(self.lost), "hint": hint}
            _log.warning("damaged store set aside", extra={"fields": fields})
            return self._open()

    def _open(self) -> sqlite3.Connection:
        if not _files_of(self._path):
            _make(self._path, self._peer_id)
        elif not self._path.exists() or self._path.stat().st_size == 0:
            raise _DamageError("it is empty")  # as we never leave it: a new one is made whole
        with _damage_told():
            self._path.chmod(0o600)
            self._database = _connect(self._path)
            try:
                self._prepare()
            except BaseException:
                self._database.close()
                raise
        return self._database

    def _prepare(self) -> None:
        execute = self._database.execute
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        _check_schema(self._database, self._path)
        [(verdict,), *_] = execute("PRAGMA quick_check(1)")
        if verdict != "ok":
            raise _DamageError(str(verdict))
        self._check_owner()
        self.prune()
        self.commit()

    def _check_owner(self) -> None:
        owners = self._database.execute("SELECT peer_id FROM owner").fetchall()
        if len(owners) != 1 or not is_peer_id(owner := owners[0][0]):
            raise _DamageError("it does not say whose it is")
        if owner != self._peer_id:
            raise ConfigurationError(
                f"{self._path} is the store of {short_key(owner)}, and this is "
                f"{short_key(self._peer_id)}: give each identity a file of its own"
            )


def _key(sender: str, envelope_id: str) -> bytes:
    """Return 32 bytes for the 152 of both: a million ids are 125 MB, not half a gigabyte."""
    return sha256(f"{sender} {envelope_id}".encode()).digest()


def _lock(path: Path) -> sqlite3.Connection:
    """Lock the store, by a file beside it, until the process ends or closes what this returns."""
    # Not the database itself: locked so, it could not be read while it is being synced.
    file = Path(f"{path}.lock")
    file.touch(mode=0o600)
    connection = sqlite3.connect(
        file, isolation_level=None, timeout=_LOCK_TIMEOUT, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA journal_mode = MEMORY")  # nothing is ever written to it
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        connection.close()
        if _code(error) != sqlite3.SQLITE_BUSY:
            raise
        raise StoreInUseError(
            f"{path} is in use by another process: stop that one, or use another file"
        ) from None
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, isolation_level=None, timeout=_LOCK_TIMEOUT, check_same_thread=False
    )
    connection.text_factory = _lenient  # damaged text is looked at, and then refused, by us
    return connection


def _lenient(text: bytes) -> str:
    return text.decode(errors="replace")


def _make(path: Path, peer_id: PeerId) -> None:
    """Make an empty store; it has its name when it is whole, so that an empty file is a damage."""
    new = Path(f"{path}.new")
    for leftover in (new, Path(f"{new}-journal")):
        leftover.unlink(missing_ok=True)
    new.touch(mode=0o600)
    connection = sqlite3.connect(new, isolation_level=None)
    try:
        connection.execute("BEGIN")
        for statement in _TABLES:
            connection.execute(statement)
        connection.execute("INSERT INTO owner VALUES (?)", (peer_id,))
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    finally:
        connection.close()
    new.rename(path)
    sync_directory(path.parent)


def _check_schema(database: sqlite3.Connection, path: Path) -> None:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise ConfigurationError(
            f"{path} has schema {version}, this version knows {SCHEMA_VERSION}: it was made by "
            "a newer agora; use that one, or another file"
        )
    rows = database.execute("SELECT sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
    tables = {sql for (sql,) in rows}
    if tables.isdisjoint(_TABLES):
        raise ConfigurationError(f"{path} is a database of something else: use another file")
    if version != SCHEMA_VERSION or tables != set(_TABLES):
        raise _DamageError("its tables are not as they were made")


# Damage


def _code(error: BaseException) -> int:
    """Return SQLite's primary result code."""
    code: Any = getattr(error, "sqlite_errorcode", 0)
    return int(code) & 0xFF


@contextmanager
def _damage_told() -> Iterator[None]:
    """Let what SQLite says of a damaged file be one kind of exception."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if _code(error) not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise
        raise _DamageError(str(error)) from error
    except UnicodeDecodeError as error:  # of a table's name, in what SQLite says of it
        raise _DamageError("its tables are not as they were made") from error


def _files_of(path: Path) -> list[Path]:
    """Return those of the database's files that are there: itself, its log, the log's index."""
    files = (Path(f"{path}{ending}") for ending in ("", "-wal", "-shm"))
    return [file for file in files if os.path.lexists(file)]


def _move_aside(path: Path, now_ms: int) -> Path:
    """Give a database a name that tells when it was found damaged; its log goes with it."""
    moment = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y%m%dT%H%M%S%fZ")
    aside = Path(f"{path}.corrupt-{moment}")
    for file in _files_of(path):
        file.rename(f"{aside}{str(file).removeprefix(str(path))}")
    with suppress(OSError):
        sync_directory(path.parent)
    return aside


def _count_outgoing(path: Path) -> int | None:
    """Return how many messages wait in a damaged file, which is only read; None if nobody knows."""
    # Without a log it is opened so that none is made beside it; with one, that counts too.
    how = "mode=ro" if Path(f"{path}-wal").exists() else "immutable=1"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?{how}", uri=True)) as database:
            (count,) = database.execute("SELECT count(*) FROM outgoing").fetchone()
    except (sqlite3.Error, UnicodeDecodeError):
        return None
    return int(count)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let whatever else goes wrong be a `ConfigurationError` that names the file."""
    try:
        yield
    except (OSError, sqlite3.Error, _DamageError) as error:
        raise ConfigurationError(
            f"{path} cannot be used as a store: {error}: use another file, or mend this"
        ) from error
