"""
What a relay keeps, read out of its file while it goes on, and put into another.

Reading is one transaction: what is written meanwhile is not in it. Putting back is
one, too: all of it is there, or nothing. What is there already stays as it is, so
that doing it twice changes nothing the second time.

Mail keeps its position where that is free, and so its place in the order. From the
first that is not, all goes behind what is there, which keeps the order among them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from agora.keys import PeerId
from agora.mailbox.archive import ArchivedLetter, ArchivedMail, ArchivedPin, Entry
from agora.mailbox.base import MailboxBounds
from agora.mailbox.genuine import HIGHEST_POSITION, is_genuine
from agora.mailbox.rows import COLUMNS, decode, is_sound
from agora.mailbox.sqlite import SqliteMailbox
from agora.protocol.relay.actions import Mail
from agora.text import claimed_name

__all__ = ["TAKES_ALL", "Restored", "kept_at", "restore"]

TAKES_ALL = MailboxBounds(max_messages=2**53, max_bytes=2**53, max_dead_letters=2**53)
"""For what a relay had taken before: bounds that are smaller now refuse what is new."""


# Out


def kept_at(path: Path) -> Iterator[Entry | None]:
    """
    Yield all that the file at *path* holds at this moment; None for what is damaged.

    The file is of this version's schema. Its log cannot shrink until all was read.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.text_factory = decode
        database.execute("PRAGMA query_only = ON")
        database.execute("BEGIN")
        for peer, pinned_ms in database.execute("SELECT peer, pinned_ms FROM pin ORDER BY peer"):
            yield ArchivedPin(peer=peer, pinned_ms=pinned_ms)
        for row in _rows(database, "mail", "nacks"):
            yield ArchivedMail(**_members(row), nacks=row[-1]) if is_sound(row) else None
        for row in _rows(database, "dead_letter", "nacks, died_ms"):
            yield _letter(row) if is_sound(row) else None


def _rows(database: sqlite3.Connection, table: str, more: str) -> Iterable[tuple[Any, ...]]:
    return database.execute(
        f"SELECT {COLUMNS}, {more} FROM {table} ORDER BY position"  # noqa: S608  # ours
    )


def _letter(row: tuple[Any, ...]) -> ArchivedLetter:
    return ArchivedLetter(**_members(row), nacks=row[-2], died_ms=row[-1])


def _members(row: tuple[Any, ...]) -> dict[str, Any]:
    position, recipient, sender, envelope_id, name, text, _, stored_ms, confirm = row[:9]
    return {
        "position": position,
        "recipient": recipient,
        "sender": sender,
        "id": envelope_id,
        "stored_ms": stored_ms,
        "envelope": text,
        "name": name,
        "confirm": bool(confirm),
    }


# In


@dataclass(slots=True)
class Restored:
    """
    What came of an archive.

    Attributes:
        mail: Messages that wait again.
        dead_letters: Messages that had been given up.
        pins: Keys that are known to have proven themselves.
        present: How much of all that was there already.
        refused: Messages that are left out: they are not what their sender signed.
        refused_ids: The ids of the first of these.
    """

    mail: int = 0
    dead_letters: int = 0
    pins: int = 0
    present: int = 0
    refused: int = 0
    refused_ids: tuple[str, ...] = ()


def restore(entries: Iterable[Entry], into: SqliteMailbox) -> Restored:
    """
    Put what an archive holds into the mailboxes of a relay that has stopped, and commit it.

    Args:
        entries: From :func:`~agora.mailbox.archive.read_archive`; what that raises is
            raised, and nothing was changed then.
        into: With bounds that refuse nothing.
    """
    try:
        restored = _Restoring(into).all(entries)
        into.commit()
    except BaseException:
        into.rollback()
        raise
    return restored


class _Restoring:
    """One archive on its way into one store."""

    def __init__(self, store: SqliteMailbox) -> None:
        self._store = store
        self._pins = set(store.pins())
        self._is_moving = False  # whether a position was taken, so that all go behind
        self._done = Restored()

    def all(self, entries: Iterable[Entry]) -> Restored:
        for entry in entries:
            if isinstance(entry, ArchivedPin):
                self._pin(entry)
            else:
                self._put(entry)
        return self._done

    def _pin(self, entry: ArchivedPin) -> None:
        peer = PeerId(entry.peer)
        if peer in self._pins:
            self._done.present += 1
            return
        self._pins.add(peer)
        self._store.pin(peer, now_ms=entry.pinned_ms)
        self._done.pins += 1

    def _put(self, entry: ArchivedMail) -> None:
        mail = Mail(
            entry.recipient,
            PeerId(entry.sender),
            entry.id,
            entry.envelope,
            entry.name and claimed_name(entry.name),  # an archive is no relay that cleaned it
            entry.position,
            entry.confirm,
        )
        if not is_genuine(mail):
            self._refuse(mail)
        elif self._store.has(mail):
            self._done.present += 1
        else:
            self._put_new(entry, self._placed(mail))

    def _refuse(self, mail: Mail) -> None:
        self._done.refused += 1
        if len(self._done.refused_ids) < _MOST_SHOWN:
            self._done.refused_ids += (mail.envelope_id,)

    def _placed(self, mail: Mail) -> Mail:
        """Return *mail* at the position that it gets."""
        # One near the end of all positions would leave none for what comes later.
        has_room_behind = mail.position <= HIGHEST_POSITION // 2
        if not (has_room_behind and self._store.is_free(mail.position)):
            self._is_moving = True
        if not self._is_moving:
            return mail
        return replace(mail, position=self._store.last_position() + 1)

    def _put_new(self, entry: ArchivedMail, mail: Mail) -> None:
        self._store.put(mail, now_ms=entry.stored_ms, is_owed=True)
        for _ in range(entry.nacks):
            self._store.nack(mail.recipient, [mail.envelope_id], max_nacks=entry.nacks + 1)
        if isinstance(entry, ArchivedLetter):
            self._store.bury(mail.recipient, [mail.position], now_ms=entry.died_ms)
            self._done.dead_letters += 1
        else:
            self._done.mail += 1


_MOST_SHOWN = 20
"""Ids of refused mail that are told; the count tells the rest."""
