"""
Mailboxes in one SQLite file: write-ahead log, synced at every commit.

``synchronous=FULL`` syncs the log before a commit returns, so what was
committed survives a loss of power (SQLite, "PRAGMA synchronous"). Other
processes may read and change the file at the same time: an operator's, never
a second relay's, for which :mod:`agora.mailbox.lock` cares.

The one rule: what is held is counted by triggers in the file itself, so that
nobody who changes it can forget to.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Generator, Iterable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from agora.errors import ConfigurationError
from agora.keys import PeerId
from agora.mailbox.base import (
    AlreadyStoredError,
    DeadLetter,
    MailboxBounds,
    MailboxFullError,
    MailboxSummary,
    OutOfOrderError,
    Page,
)
from agora.mailbox.fitting import NOTHING, Held, Holdings, check_room, cut_page
from agora.mailbox.lock import DirectoryLock
from agora.mailbox.rows import COLUMNS, decode, is_sound, mail_of, row_of
from agora.mailbox.schema import SCHEMA_VERSION, prepare_schema
from agora.protocol.relay.actions import Mail

__all__ = ["SCHEMA_VERSION", "SqliteMailbox"]

_log = logging.getLogger("agora.store")

_BUSY_TIMEOUT = 5.0
"""Seconds to wait for a commit of another process; an operator's takes milliseconds."""

_HOLDINGS = """
SELECT mailbox.messages, mailbox.bytes, share.messages, share.bytes, sender.bytes, store.bytes
FROM held AS store
LEFT JOIN held AS mailbox ON mailbox.recipient = ?1 AND mailbox.sender = ''
LEFT JOIN held AS share ON share.recipient = ?1 AND share.sender = ?2
LEFT JOIN held AS sender ON sender.recipient = '' AND sender.sender = ?2
WHERE store.recipient = '' AND store.sender = ''
"""

_PUT = f"INSERT INTO mail ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608  # ours

_NACK = (
    "UPDATE mail SET nacks = nacks + 1 "  # noqa: S608  # the columns are ours
    "WHERE recipient = ? AND envelope_id = ? AND envelope_id != '' "
    f"RETURNING {COLUMNS}, nacks"
)


class SqliteMailbox:
    """
    Keeps mail in a file.

    Args:
        path: The database file; made, with its folder, if absent. Readable by its owner alone.
        bounds: How much.
        lock: What holds its folder for this process alone; owned from here on.

    Raises:
        ConfigurationError: When it is not a mailbox database, a newer version made
            it, or it cannot be used; it is unchanged then.
    """

    def __init__(
        self, path: Path, bounds: MailboxBounds, *, lock: DirectoryLock | None = None
    ) -> None:
        self._bounds = bounds
        self._lock = lock
        self._seen = 0
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            self._database = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=_BUSY_TIMEOUT
            )
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(_why_not(path, error)) from error
        try:
            self._prepare(path)
        except sqlite3.Error as error:
            self._database.close()
            raise ConfigurationError(_why_not(path, error)) from error
        except ConfigurationError:
            self._database.close()
            raise

    # Mail

    def last_position(self) -> int:
        """Return the highest position that any mail ever had."""
        row = self._one("SELECT seq FROM sqlite_sequence WHERE name = 'mail'")
        return row[0] if row else 0

    def put(self, mail: Mail, *, now_ms: int, is_owed: bool = False, follows: int = 0) -> None:
        """Keep *mail*; see :meth:`Mailbox.put <agora.mailbox.base.Mailbox.put>`."""
        self._begin()
        size = mail.size
        try:
            self._check_order(mail, follows)
            if not is_owed:
                check_room(size, self._holdings(mail), self._bounds)
        except (OutOfOrderError, MailboxFullError):
            if self._has(mail):  # a repeat needs no room, and overtakes nothing
                raise _already_stored(mail) from None
            raise
        try:
            self._database.execute(_PUT, row_of(mail, size, now_ms))
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_UNIQUE:
                raise _already_stored(mail) from None
            raise  # another mail has its position, which is the caller's fault

    def page(self, recipient: str, *, after: int, max_messages: int, max_bytes: int) -> Page:
        """Return the mail behind *after*."""
        rows = self._database.execute(
            f"SELECT {COLUMNS} FROM mail "  # noqa: S608  # the columns are ours
            "WHERE recipient = ? AND position > ? ORDER BY position",
            (recipient, after),
        )
        with closing(self._sound(rows)) as behind:
            return cut_page(behind, max_messages=max_messages, max_bytes=max_bytes)

    def remove(self, recipient: str, positions: Iterable[int]) -> None:
        """Take messages out."""
        self._change_each(
            "DELETE FROM mail WHERE recipient = ? AND position = ?",
            ((recipient, position) for position in positions),
        )

    def remove_ids(self, recipient: str, ids: Iterable[str]) -> None:
        """Take messages out by envelope id."""
        self._change_each(
            "DELETE FROM mail WHERE recipient = ? AND envelope_id = ? AND envelope_id != ''",
            ((recipient, envelope_id) for envelope_id in ids),
        )

    def count(self, recipient: str) -> tuple[int, int]:
        """Return how many messages and bytes wait."""
        row = self._one(
            "SELECT messages, bytes FROM held WHERE recipient = ? AND sender = ''", recipient
        )
        return (row[0], row[1]) if row else (0, 0)

    # What is given up

    def nack(self, recipient: str, ids: Iterable[str], *, max_nacks: int) -> tuple[Mail, ...]:
        """Count one more nack for each message."""
        self._begin()
        rows = [
            row
            for envelope_id in dict.fromkeys(ids)
            for row in self._all(_NACK, recipient, envelope_id)
        ]
        self._set_aside([row for row in rows if not is_sound(row)])
        given_up = (mail_of(row) for row in rows if row[-1] >= max_nacks and is_sound(row))
        return tuple(sorted(given_up, key=lambda mail: mail.position))

    def bury(self, recipient: str, positions: Iterable[int], *, now_ms: int) -> None:
        """Set messages aside as dead letters."""
        found = [(recipient, position) for position in positions]
        self._change_each(
            "INSERT INTO dead_letter SELECT *, ? FROM mail WHERE recipient = ? AND position = ?",
            ((now_ms, *place) for place in dict.fromkeys(found)),
        )
        self._change_each("DELETE FROM mail WHERE recipient = ? AND position = ?", found)
        self._change(
            "DELETE FROM dead_letter WHERE position IN ("
            "SELECT position FROM dead_letter ORDER BY died_ms, position "
            "LIMIT max(0, (SELECT count(*) FROM dead_letter) - ?))",
            self._bounds.max_dead_letters,
        )

    def expired(self, *, before_ms: int, max_messages: int) -> tuple[Mail, ...]:
        """Return the oldest mail that was stored before *before_ms*."""
        rows = self._database.execute(
            f"SELECT {COLUMNS} FROM mail "  # noqa: S608  # the columns are ours
            "WHERE stored_ms < ? ORDER BY stored_ms, position",
            (before_ms,),
        )
        with closing(self._sound(rows)) as old:
            return tuple(islice(old, max_messages))

    def forget_dead_letters(self, *, before_ms: int) -> int:
        """Remove dead letters that died before *before_ms*."""
        return self._change("DELETE FROM dead_letter WHERE died_ms < ?", before_ms)

    # Pins

    def pin(self, peer: PeerId, *, now_ms: int) -> None:
        """Remember that *peer* has proven itself."""
        self._change("INSERT INTO pin VALUES (?, ?) ON CONFLICT DO NOTHING", peer, now_ms)

    def unpin(self, peer: PeerId) -> bool:
        """Forget it."""
        return self._change("DELETE FROM pin WHERE peer = ?", peer) > 0

    def pins(self) -> tuple[PeerId, ...]:
        """Return all pins."""
        return tuple(PeerId(peer) for (peer,) in self._all("SELECT peer FROM pin ORDER BY peer"))

    # For the operator

    def summaries(self) -> tuple[MailboxSummary, ...]:
        """Return what waits for each recipient."""
        rows = self._all(
            "SELECT recipient, sum(messages), sum(bytes), sum(oldest), sum(dead) FROM ("
            "SELECT recipient, messages, bytes, (SELECT min(stored_ms) FROM mail "
            "WHERE mail.recipient = held.recipient) AS oldest, 0 AS dead "
            "FROM held WHERE recipient != '' AND sender = '' "
            "UNION ALL SELECT recipient, 0, 0, 0, count(*) FROM dead_letter GROUP BY recipient"
            ") GROUP BY recipient ORDER BY recipient"
        )
        return tuple(MailboxSummary(*row) for row in rows)

    def dead_letters(self, recipient: str | None = None) -> tuple[DeadLetter, ...]:
        """Return dead letters, oldest first."""
        of_one = "" if recipient is None else "WHERE recipient = ? "
        rows = self._all(
            f"SELECT {COLUMNS}, nacks, died_ms FROM dead_letter {of_one}"  # noqa: S608  # both ours
            "ORDER BY died_ms, position",
            *(() if recipient is None else (recipient,)),
        )
        return tuple(
            DeadLetter(mail_of(row), nacks=row[-2], died_ms=row[-1], is_damaged=not is_sound(row))
            for row in rows
        )

    def purge(self, recipient: str, *, dead_letters_only: bool = False) -> int:
        """Remove all mail and dead letters of a recipient."""
        removed = self._change("DELETE FROM dead_letter WHERE recipient = ?", recipient)
        if not dead_letters_only:
            removed += self._change("DELETE FROM mail WHERE recipient = ?", recipient)
        return removed

    # Damage

    def set_damaged_aside(self) -> None:
        """Read all mail, and set aside what is not what was put any more; commit that."""
        rows = self._database.execute(f"SELECT {COLUMNS} FROM mail")  # noqa: S608  # ours
        self._set_aside([row for row in rows if not is_sound(row)])
        self.commit()

    def _sound(self, rows: sqlite3.Cursor) -> Generator[Mail, None, None]:
        """Yield mail as far as it is asked for; when closed, set aside what was damaged."""
        damaged: list[tuple[Any, ...]] = []
        try:
            # Closed, as an open one would hold on to the log as it is now, and refuse the
            # next transaction where another process has written.
            with closing(rows):
                for row in rows:
                    if is_sound(row):
                        yield mail_of(row)
                    else:
                        damaged.append(row)
        finally:
            self._set_aside(damaged)

    def _set_aside(self, damaged: Iterable[tuple[Any, ...]]) -> None:
        for row in damaged:
            mail = mail_of(row)
            fields = {"id": mail.envelope_id, "to": mail.recipient, "position": mail.position}
            _log.error("mail is damaged", extra={"fields": fields})
            self._try_to_bury(mail)

    def _try_to_bury(self, mail: Mail) -> None:
        """Bury it, unless what leads to it is damaged too: then it waits, and is passed over."""
        self._begin()
        self._database.execute("SAVEPOINT aside")
        try:
            self.bury(mail.recipient, [mail.position], now_ms=time.time_ns() // 1_000_000)
        except sqlite3.DatabaseError:
            if not self._database.in_transaction:
                raise  # a full disk has undone what was done before, which must be told
            self._database.execute("ROLLBACK TO aside")
        self._database.execute("RELEASE aside")

    # Safety

    def has_changed(self) -> bool:
        """Tell whether another process has changed something since the last call."""
        before = self._seen
        self._seen = self._data_version()
        return self._seen != before

    def commit(self) -> None:
        """Write and sync the changes."""
        if self._database.in_transaction:
            self._database.execute("COMMIT")

    def rollback(self) -> None:
        """Undo the changes."""
        if self._database.in_transaction:  # a full disk may have undone them by itself
            self._database.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file, and unlock its folder."""
        try:
            self.rollback()
            self._database.close()
        finally:
            if self._lock:
                self._lock.close()

    # Within

    def _prepare(self, path: Path) -> None:
        self._database.text_factory = decode
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        prepare_schema(self._database, str(path))
        self._seen = self._data_version()

    def _begin(self) -> None:
        if not self._database.in_transaction:
            self._database.execute("BEGIN IMMEDIATE")

    def _all(self, statement: str, *values: object) -> list[Any]:
        return self._database.execute(statement, values).fetchall()

    def _one(self, statement: str, *values: object) -> Any:
        rows = self._all(statement, *values)
        return rows[0] if rows else None

    def _change(self, statement: str, *values: object) -> int:
        self._begin()
        return self._database.execute(statement, values).rowcount

    def _change_each(self, statement: str, each: Iterable[tuple[object, ...]]) -> None:
        self._begin()
        self._database.executemany(statement, each)

    def _check_order(self, mail: Mail, follows: int) -> None:
        if follows and not self._one(
            "SELECT 1 FROM mail WHERE position = ? AND recipient = ?", follows, mail.recipient
        ):
            raise OutOfOrderError(f"what envelope {mail.envelope_id} follows does not wait")

    def _holdings(self, mail: Mail) -> Holdings:
        row = self._one(_HOLDINGS, mail.recipient, mail.sender)
        if row is None:
            return Holdings(NOTHING, NOTHING, 0, 0)
        counts = [count or 0 for count in row]
        return Holdings(Held(*counts[0:2]), Held(*counts[2:4]), counts[4], counts[5])

    def _has(self, mail: Mail) -> bool:
        found = self._one(
            "SELECT 1 FROM mail WHERE recipient = ? AND envelope_id = ? AND sender = ? "
            "AND envelope_id != ''",  # which the index is for
            mail.recipient,
            mail.envelope_id,
            mail.sender,
        )
        return found is not None

    def _data_version(self) -> int:
        return int(self._one("PRAGMA data_version")[0])


def _already_stored(mail: Mail) -> AlreadyStoredError:
    return AlreadyStoredError(f"envelope {mail.envelope_id} waits already")


def _why_not(path: Path, error: Exception) -> str:
    if "locked" in str(error):
        return f"{path} is in use by another relay: stop it, or give this one another --data-dir"
    return f"{path} is no usable mailbox database: {error}"
