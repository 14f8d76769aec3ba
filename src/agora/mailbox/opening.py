"""
How a relay opens its mailboxes: it alone, and also when the file is damaged.

A file that was damaged is never written again. It is set aside under a new
name, with its log, and what can be read of it is in the new file before that
takes its place; a crash at any step of this leaves one of the two there. Where
it is only mail that is damaged, and not what leads to it, the file stays, and
the mail becomes a dead letter.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from agora.errors import ConfigurationError
from agora.mailbox.base import NO_BOUNDS, MailboxBounds
from agora.mailbox.damage import CHECKED_BYTES, find_damage
from agora.mailbox.lock import DirectoryLock
from agora.mailbox.rescue import Rescued, rescue
from agora.mailbox.sqlite import SqliteMailbox
from agora.mailbox.wal import log_path

__all__ = ["MAILBOX_FILE", "Accident", "OpenedMailbox", "open_mailbox"]

MAILBOX_FILE = "mailbox.sqlite3"
"""What the file is called in a data directory."""

_ENDS = ("-wal", "-shm", "")
"""The parts of a database: its log goes first, as it must never meet another database."""


@dataclass(frozen=True, slots=True)
class Accident:
    """
    What happened to a mailbox file.

    Attributes:
        why: What was wrong with it.
        set_aside: Where it is now.
        rescued: What of it is in the new one; None when a crash cut the count off.
    """

    why: str
    set_aside: Path | None
    rescued: Rescued | None


@dataclass(frozen=True, slots=True)
class OpenedMailbox:
    """A mailbox, which unlocks its directory when it is closed, and what befell the old one."""

    mailbox: SqliteMailbox
    accident: Accident | None = None


def open_mailbox(data_dir: Path, bounds: MailboxBounds) -> OpenedMailbox:
    """
    Open the mailboxes in *data_dir* for one relay alone; what is not there is made.

    Raises:
        ConfigurationError: When another relay uses the directory, when the file is of
            a newer version or of something else, or cannot be used; it is left as it is.
    """
    lock = DirectoryLock(data_dir)
    path = data_dir / MAILBOX_FILE
    try:
        accident = _finish(path) or _start_anew(path)
        return OpenedMailbox(_open_sound(path, bounds, lock), accident)
    except (OSError, sqlite3.Error) as error:
        lock.close()
        raise ConfigurationError(f"cannot use {path}: {error}") from error
    except BaseException:
        lock.close()
        raise


def _open_sound(path: Path, bounds: MailboxBounds, lock: DirectoryLock) -> SqliteMailbox:
    mailbox = SqliteMailbox(path, bounds, lock=lock)
    try:
        if path.stat().st_size <= CHECKED_BYTES:
            mailbox.set_damaged_aside()
        mailbox.give_back_space()
    except BaseException:
        mailbox.close()
        raise
    return mailbox


# What is done about a damaged file


def _start_anew(path: Path) -> Accident | None:
    """Where the file is damaged, put one in its place that has what can be read of it."""
    if log_path(path).exists():
        path.touch(mode=0o600)  # of a log alone SQLite would make nothing, and remove it
    if not path.exists():
        _new(path).close()
        os.replace(_unfinished_path(path), path)  # so that a file without a schema is damaged
        return None
    why = find_damage(path)
    if why is None:
        return None
    unfinished = _unfinished_path(path)
    mailbox = _new(path)
    try:
        rescued = rescue(path, mailbox, now_ms=int(datetime.now(UTC).timestamp() * 1000))
    finally:
        mailbox.close()
    os.replace(unfinished, _rescued_path(path))  # from here on a crash is no matter
    return Accident(why, _exchange(path), rescued)


def _new(path: Path) -> SqliteMailbox:
    """Begin a file that is to be at *path* when it is whole."""
    unfinished = _unfinished_path(path)
    _remove(unfinished)
    return SqliteMailbox(unfinished, NO_BOUNDS)


def _unfinished_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.unfinished")


def _finish(path: Path) -> Accident | None:
    """Where a crash came between rescuing and exchanging, exchange."""
    if not _rescued_path(path).exists():
        return None
    return Accident("it was damaged, and a crash came", _exchange(path), None)


def _exchange(path: Path) -> Path | None:
    set_aside = _set_aside(path)
    os.replace(_rescued_path(path), path)
    _sync_directory(path.parent)
    return set_aside


def _rescued_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.rescued")


def _set_aside(path: Path) -> Path | None:
    """Give the damaged file and its log a new name; return that, if there was anything."""
    target = _free_name(path)
    is_there = False
    for end in _ENDS:
        with suppress(FileNotFoundError):
            os.rename(f"{path}{end}", f"{target}{end}")
            is_there = True
    return target if is_there else None


def _free_name(path: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    number = 0
    while True:
        more = f"-{number}" if number else ""
        target = path.with_name(f"{path.name}.corrupt-{stamp}{more}")
        if not any(Path(f"{target}{end}").exists() for end in _ENDS):
            return target
        number += 1


def _remove(path: Path) -> None:
    for end in _ENDS:
        Path(f"{path}{end}").unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    """Put the new names on the disk, where a directory can be opened (not on Windows)."""
    with suppress(PermissionError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
