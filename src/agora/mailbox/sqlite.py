"""
Mailboxes in one SQLite file: write-ahead log, synced at every commit.

``synchronous=FULL`` syncs the log before a commit returns, so what was
committed survives a loss of power (SQLite, "PRAGMA synchronous"). Other
processes may read and change the file at the same time: an operator's, never
a second relay's, for which :mod:`agora.mailbox.lock` cares.

The one rule: one statement for all that a call is about, wherever there can be
many. Each step of a statement lets go of the interpreter and takes it back, and
the event loop, which runs beside this, makes us wait for it.
"""

from __future__ import annotations

import logging
import re
import sqlite3
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

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
    Put,
    Refusal,
    StoreTotals,
)
from agora.mailbox.counts import Counts
from agora.mailbox.fitting import check_room, cut_page
from agora.mailbox.lock import DirectoryLock
from agora.mailbox.retained_sqlite import RetainedTable
from agora.mailbox.retaining import Retaining
from agora.mailbox.rows import (
    COLUMNS,
    decode,
    hash_of_id,
    hash_of_recipient,
    is_sound,
    mail_of,
    row_of,
    sound_mail_of,
)
from agora.mailbox.schema import SCHEMA_VERSION, prepare_schema
from agora.protocol.relay.actions import Mail

__all__ = ["SCHEMA_VERSION", "SqliteMailbox"]

_log = logging.getLogger("agora.store")

_BUSY_TIMEOUT = 5.0
"""Seconds to wait for a commit of another process; an operator's takes milliseconds."""

_SETTINGS = (
    "synchronous = FULL",  # a commit is synced before it returns
    "wal_autocheckpoint = 4000",  # pages, 16 MB: about one stall of 40 ms in 8,000 messages
    "journal_size_limit = 33554432",  # bytes of the log that outlive a long transaction
    "cache_size = -4000",  # KiB, and in them what a commit has changed: more saves no reads
    "secure_delete = FAST",  # pages that become free are not written for it
)

_Value = TypeVar("_Value", int, str)

_LONGEST_PART = 256
"""Values in one statement."""

_MOST_FREE_PAGES = 4_096
"""Pages of 4 KiB that may stay free: mail that comes fills them again."""

_PUT = (
    f"INSERT INTO mail ({COLUMNS}, recipient_hash, id_hash) "  # noqa: S608  # the columns are ours
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

_THERE = "SELECT recipient, envelope_id, sender FROM mail WHERE {id_hash} AND envelope_id != ''"
"""Which mail of these hashes waits: what was put before, if anything."""

_WAITING = "SELECT position, recipient FROM mail WHERE {position}"

_AT = "{position} AND recipient = ?"

_NAMED = "{id_hash} AND envelope_id != '' AND recipient = ? AND {envelope_id}"

_NACK = f"UPDATE mail SET nacks = nacks + 1 WHERE {_NAMED} RETURNING {COLUMNS}, nacks"  # noqa: S608  # ours

_SENDERS = f"SELECT CAST(sender AS TEXT), CAST(envelope_id AS TEXT) FROM mail WHERE {_NAMED}"  # noqa: S608  # ours

_OF = "recipient_hash = ? AND recipient = ?"

_BURY = f"""
INSERT INTO dead_letter
SELECT position, recipient, sender, envelope_id, name, text, size, stored_ms, confirm,
       nacks, checksum, ?
FROM mail WHERE {_AT}
"""  # noqa: S608  # ours


class SqliteMailbox(Retaining):
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

    _retained: RetainedTable

    def __init__(
        self, path: Path, bounds: MailboxBounds, *, lock: DirectoryLock | None = None
    ) -> None:
        self._bounds = bounds
        self._lock = lock
        self._is_torn = False
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
        [refusal] = self.put_many([Put(mail, now_ms, is_owed, follows)])
        if refusal:
            raise refusal

    def put_many(self, puts: Sequence[Put]) -> list[Refusal | None]:
        """Keep what can be kept of *puts*."""
        self._begin()
        self._counts.read((put.mail.recipient, put.mail.sender) for put in puts)
        hashes = [hash_of_id(put.mail.recipient, put.mail.envelope_id) for put in puts]
        beside = self._beside(puts, hashes)
        refusals: list[Refusal | None] = []
        rows: list[tuple[object, ...]] = []
        for put, id_hash in zip(puts, hashes, strict=True):
            mail, size = put.mail, put.mail.size
            refusals.append(self._refusal(put, size, beside))
            if refusals[-1] is None:
                self._counts.add(mail.recipient, mail.sender, 1, size)
                row = row_of(mail, size, put.now_ms)
                rows.append((*row, hash_of_recipient(mail.recipient), id_hash))
        self._is_torn = True
        self._database.executemany(_PUT, rows)  # a statement for each: some may fail, all count
        self._is_torn = False
        return refusals

    def page(self, recipient: str, *, after: int, max_messages: int, max_bytes: int) -> Page:
        """Return the mail behind *after*."""
        is_alone = not self._database.in_transaction
        self._database.text_factory = str  # which is quick, and raises at what is not UTF-8
        try:
            return self._page(recipient, after, max_messages, max_bytes)
        except sqlite3.OperationalError:
            if not (is_alone or self._database.in_transaction):
                raise  # a full disk has undone what was done before, which must be told
            self._database.text_factory = decode
            return self._page(recipient, after, max_messages, max_bytes)
        finally:
            self._database.text_factory = decode

    def remove(
        self, recipient: str, positions: Iterable[int], *, acked_ms: int | None = None
    ) -> None:
        """Take messages out."""
        for part in _parts(positions):
            self._settle(acked_ms, _among(_AT, part), *part, recipient)

    def remove_ids(
        self, recipient: str, ids: Iterable[str], *, acked_ms: int | None = None
    ) -> None:
        """Take messages out by envelope id."""
        for part in _parts(ids):
            self._settle(acked_ms, _among(_NAMED, part), *_named(recipient, part))

    def senders_of(self, recipient: str, ids: Iterable[str]) -> tuple[tuple[PeerId, str], ...]:
        """Return who sent messages, each with its id."""
        return tuple(
            (PeerId(sender), envelope_id)
            for part in _parts(ids)
            for sender, envelope_id in self._all(_among(_SENDERS, part), *_named(recipient, part))
        )

    def count(self, recipient: str) -> tuple[int, int]:
        """Return how many messages and bytes wait."""
        if self._database.in_transaction:
            held = self._counts.of(recipient)
            return held.messages, held.bytes
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
            for part in _parts(ids)
            for row in self._all(_among(_NACK, part), *_named(recipient, part))
        ]
        self._set_aside([row for row in rows if not is_sound(row)])
        given_up = (mail_of(row) for row in rows if row[-1] >= max_nacks and is_sound(row))
        return tuple(sorted(given_up, key=lambda mail: mail.position))

    def bury(self, recipient: str, positions: Iterable[int], *, now_ms: int) -> None:
        """Set messages aside as dead letters."""
        for part in _parts(positions):
            self._change(_among(_BURY, part), now_ms, *part, recipient)
            self._take_out(_among(_AT, part), *part, recipient)
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
        self._counts.write()
        rows = self._all(
            "SELECT recipient, sum(messages), sum(bytes), sum(oldest), sum(dead) FROM ("
            "SELECT recipient, messages, bytes, (SELECT min(stored_ms) FROM mail "
            "WHERE recipient_hash = hash_of_recipient(held.recipient) "
            "AND mail.recipient = held.recipient) AS oldest, 0 AS dead "
            "FROM held WHERE recipient != '' AND sender = '' "
            "UNION ALL SELECT recipient, 0, 0, 0, count(*) FROM dead_letter GROUP BY recipient"
            ") GROUP BY recipient ORDER BY recipient"
        )
        found = {row[0]: MailboxSummary(*row) for row in rows}
        for recipient, messages in self._retained.messages().items():
            summary = found.get(recipient, MailboxSummary(recipient, 0, 0, 0, 0))
            found[recipient] = replace(summary, retained=messages)
        return tuple(found[recipient] for recipient in sorted(found))

    def totals(self, *, largest: int) -> StoreTotals:
        """Return what is kept all in all."""
        self._counts.write()
        found = self._one(
            "SELECT count(*), sum(messages), sum(bytes), (SELECT min(stored_ms) FROM mail), "
            "(SELECT count(*) FROM dead_letter) FROM held WHERE recipient != '' AND sender = ''"
        )
        mailboxes, messages, size, oldest_ms, dead = (number or 0 for number in found)
        retained = self._retained.held("")
        return StoreTotals(
            mailboxes,
            messages,
            size,
            oldest_ms,
            dead,
            self._largest(largest),
            retained.messages,
            retained.bytes,
        )

    def _largest(self, most: int) -> tuple[MailboxSummary, ...]:
        rows = self._all(
            "SELECT recipient, messages, bytes, coalesce((SELECT stored_ms FROM mail "
            "WHERE recipient_hash = hash_of_recipient(held.recipient) "
            "AND mail.recipient = held.recipient ORDER BY position LIMIT 1), 0) "
            "FROM held WHERE recipient != '' AND sender = '' "
            "ORDER BY bytes DESC, recipient LIMIT ?",
            most,
        )
        return tuple(
            MailboxSummary(recipient, messages, size, oldest_ms, 0)
            for recipient, messages, size, oldest_ms in rows
        )

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
        """Remove all that is kept of a recipient, or its dead letters alone."""
        removed = self._change("DELETE FROM dead_letter WHERE recipient = ?", recipient)
        if not dead_letters_only:
            removed += self._take_out(_OF, hash_of_recipient(recipient), recipient)
            removed += self._retained.purge(recipient)
        return removed

    # For what was kept elsewhere

    def has(self, mail: Mail) -> bool:
        """Tell whether this message waits, was given up or is retained, at whatever position."""
        key, value = ("id_hash", hash_of_id(mail.recipient, mail.envelope_id))
        if not mail.envelope_id:  # then only its text tells it from another
            key, value = ("recipient_hash", hash_of_recipient(mail.recipient))
        same = (
            "recipient = ? AND sender = ? AND envelope_id = ? AND (envelope_id != '' OR text = ?)"
        )
        said = (mail.recipient, mail.sender, mail.envelope_id, mail.text)
        return bool(
            self._one(f"SELECT 1 FROM mail WHERE {key} = ? AND {same}", value, *said)  # noqa: S608
            or self._one(f"SELECT 1 FROM dead_letter WHERE {same}", *said)  # noqa: S608  # ours
            or self._is_retained(mail)
        )

    def _is_retained(self, mail: Mail) -> bool:
        ids = self._retained.ids([hash_of_id(mail.recipient, mail.envelope_id)])
        return (mail.recipient, mail.envelope_id, mail.sender) in ids

    def is_free(self, position: int) -> bool:
        """Tell whether no mail and no dead letter has this position."""
        tables = ("mail", "dead_letter")
        statement = "SELECT 1 FROM {} WHERE position = ?"
        return not any(self._one(statement.format(table), position) for table in tables)

    # At the start of a relay

    def give_back_space(self) -> None:
        """Make the file as small as what it holds, where that is a fraction of it."""
        free, pages = self._one("PRAGMA freelist_count")[0], self._one("PRAGMA page_count")[0]
        if free > _MOST_FREE_PAGES and free * 4 > pages * 3:
            with suppress(sqlite3.DatabaseError):  # there is no disk for it, or damage on the way
                self._database.execute("VACUUM")

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
                    mail = sound_mail_of(row)
                    if mail is None:
                        damaged.append(row)
                    else:
                        yield mail
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
        self._counts.write()  # so that what comes now can be undone alone
        self._database.execute("SAVEPOINT aside")
        try:
            self.bury(mail.recipient, [mail.position], now_ms=time.time_ns() // 1_000_000)
        except sqlite3.DatabaseError:
            if not self._database.in_transaction:
                raise  # a full disk has undone what was done before, which must be told
            self._database.execute("ROLLBACK TO aside")
            self._counts.forget()
        self._database.execute("RELEASE aside")

    # Safety

    def change_bounds(self, bounds: MailboxBounds) -> None:
        """Go by other bounds from now on."""
        self._bounds = bounds

    def has_changed(self) -> bool:
        """Tell whether another process has changed something since the last call."""
        before = self._seen
        self._seen = self._data_version()
        return self._seen != before

    def touch(self) -> None:
        """Write the version of the tables once more: a page of the log, which is synced."""
        self._begin()
        self._database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def commit(self) -> bool:
        """Write and sync the changes."""
        if self._is_torn:
            raise sqlite3.DatabaseError("a change has failed halfway: it is to be undone")
        if not self._database.in_transaction:
            return False
        self._counts.write()
        self._database.execute("COMMIT")
        self._counts.committed()
        return True

    def rollback(self) -> None:
        """Undo the changes."""
        self._counts.forget()
        self._retained.undone()
        self._is_torn = False
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
        self._database.create_function("hash_of_recipient", 1, hash_of_recipient)
        self._database.execute("PRAGMA journal_mode = WAL")
        for setting in _SETTINGS:
            self._database.execute(f"PRAGMA {setting}")
        prepare_schema(self._database, str(path))
        self._counts = Counts(self._database)
        self._retained = RetainedTable(self._database, self._begin)
        self._seen = self._data_version()

    def _begin(self) -> None:
        if not self._database.in_transaction:
            self._database.execute("BEGIN IMMEDIATE")
            self._counts.begin()

    def _all(self, statement: str, *values: object) -> list[Any]:
        return self._database.execute(statement, values).fetchall()

    def _one(self, statement: str, *values: object) -> Any:
        rows = self._all(statement, *values)
        return rows[0] if rows else None

    def _change(self, statement: str, *values: object) -> int:
        self._begin()
        return self._database.execute(statement, values).rowcount

    def _settle(self, acked_ms: int | None, condition: str, *values: object) -> None:
        """Delete mail; retain it where it was acked and that is wanted."""
        if acked_ms is not None:
            rows = self._database.execute(
                f"SELECT {COLUMNS} FROM mail WHERE {condition} ORDER BY position",  # noqa: S608
                values,
            )
            with closing(self._sound(rows)) as mail:
                self.retain(list(mail), acked_ms=acked_ms)
        self._take_out(condition, *values)

    def _take_out(self, condition: str, *values: object) -> int:
        """Delete mail, and count it; return how much it was."""
        self._begin()
        gone = self._all(
            f"DELETE FROM mail WHERE {condition} "  # noqa: S608  # the conditions are ours
            "RETURNING CAST(recipient AS TEXT), CAST(sender AS TEXT), CAST(size AS INTEGER)",
            *values,
        )
        self._counts.read((recipient, sender) for recipient, sender, _ in gone)
        for recipient, sender, size in gone:
            self._counts.add(recipient, sender, -1, -size)
        return len(gone)

    def _page(self, recipient: str, after: int, max_messages: int, max_bytes: int) -> Page:
        rows = self._database.execute(
            f"SELECT {COLUMNS} FROM mail "  # noqa: S608  # the columns are ours
            "WHERE recipient_hash = ? AND position > ? AND recipient = ? ORDER BY position",
            (hash_of_recipient(recipient), after, recipient),
        )
        with closing(self._sound(rows)) as behind:
            return cut_page(behind, max_messages=max_messages, max_bytes=max_bytes)

    def _beside(self, puts: Sequence[Put], hashes: list[int]) -> set[object]:
        """Return which mail that *puts* repeat or follow is here: both are looked up in this."""
        beside: set[object] = {*self._retained.ids(hashes)}
        follows = [put.follows for put in puts if put.follows]
        for statement, values in ((_THERE, hashes), (_WAITING, follows)):
            for part in _parts(values):
                beside.update(self._all(_among(statement, part), *part))
        return beside

    def _refusal(self, put: Put, size: int, beside: set[object]) -> Refusal | None:
        """Say why there is no place for mail; if there is, those behind it stand beside it."""
        mail = put.mail
        recipient, sender, envelope_id = mail.recipient, mail.sender, mail.envelope_id
        if (recipient, envelope_id, sender) in beside:
            return AlreadyStoredError(f"envelope {envelope_id} waits or was acked already")
        if put.follows and (put.follows, recipient) not in beside:
            return OutOfOrderError(f"what envelope {envelope_id} follows does not wait")
        if not put.is_owed:
            try:
                check_room(size, self._counts.holdings(recipient, sender), self._bounds)
            except MailboxFullError as full:
                return full
        beside.add((mail.position, recipient))
        if envelope_id:
            beside.add((recipient, envelope_id, sender))
        return None

    def _data_version(self) -> int:
        return int(self._one("PRAGMA data_version")[0])


def _parts(values: Iterable[_Value]) -> Iterator[list[_Value]]:
    """
    Yield *values*, each once, in lists of as many as a power of two.

    What is missing to that is the last one again: a statement is prepared for each length,
    and for one value alone it costs half of what it does where SQLite has to read a list.
    """
    rest = list(dict.fromkeys(values))
    for start in range(0, len(rest), _LONGEST_PART):
        part = rest[start : start + _LONGEST_PART]
        length = 1 << (len(part) - 1).bit_length()
        yield part + part[-1:] * (length - len(part))


def _among(statement: str, part: Sequence[object]) -> str:
    """Return a statement in which a column in braces is to be one of as many values."""
    return _with_marks(statement, len(part))


@lru_cache
def _with_marks(statement: str, count: int) -> str:
    marks = ", ".join("?" * count)
    return re.sub(r"{(\w+)}", rf"\1 IN ({marks})", statement)


def _named(recipient: str, ids: list[str]) -> list[object]:
    """Return the values of ``_NAMED``."""
    return [*(hash_of_id(recipient, one) for one in ids), recipient, *ids]


def _why_not(path: Path, error: Exception) -> str:
    if "locked" in str(error):
        return f"{path} is in use by a relay: stop it, or give another --data-dir"
    return f"{path} is no usable mailbox database: {error}"
