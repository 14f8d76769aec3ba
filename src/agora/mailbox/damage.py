"""
What is wrong with a mailbox file, found before anybody relies on it.

This looks at what leads to mail: pages, indexes, counts. What the mail says has
checksums of its own (:mod:`agora.mailbox.rows`), which are looked at when it is read.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from agora.mailbox.rows import decode
from agora.mailbox.schema import SCHEMA_VERSION, TABLES, has_our_words
from agora.mailbox.wal import read_log

__all__ = ["CHECKED_BYTES", "find_damage"]

CHECKED_BYTES = 1 << 28
"""
Bytes up to which a file, and the mail in it, is read as a whole at the start.

For 1 GiB out of the system's cache that takes about 12 s where messages are of 700 bytes,
2.5 s where they are of 20,000, and what the disk takes for it. Of a longer one the ends of each
table are looked at. Damage in between comes up when it is met: mail is set aside then;
in what leads to mail it fails the one job, and the next start would not find it either.
"""

_COUNTS = """
WITH share AS (SELECT recipient, sender, count(*) AS messages, sum(size) AS bytes
               FROM mail GROUP BY recipient, sender),
     counted AS (SELECT * FROM share
                 UNION ALL SELECT recipient, '', sum(messages), sum(bytes) FROM share GROUP BY 1
                 UNION ALL SELECT '', sender, sum(messages), sum(bytes) FROM share GROUP BY 2
                 UNION ALL SELECT '', '', sum(messages), sum(bytes) FROM share HAVING count(*))
SELECT (SELECT count(*) FROM held) = (SELECT count(*) FROM counted)
       AND NOT EXISTS (SELECT * FROM counted EXCEPT SELECT * FROM held)
"""
"""Whether ``held`` says what there is."""

_LAST_POSITION = """
SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'mail'), 0)
       >= max((SELECT coalesce(max(position), 0) FROM mail),
              (SELECT coalesce(max(position), 0) FROM dead_letter))
"""
"""Whether no mail that is there would get its position again."""


def find_damage(path: Path, *, checked_bytes: int = CHECKED_BYTES) -> str | None:
    """
    Say what is wrong with the database at *path*; None when nothing is, or none is there.

    Args:
        path: The file; it is left as it is. Nobody may have it open in this process.
        checked_bytes: Up to which size it is read as a whole.

    Raises:
        sqlite3.Error: When it cannot be read for another reason.
    """
    if not path.is_file():
        return None
    log = read_log(path)
    if log.damage:
        return log.damage
    if path.stat().st_size == 0:
        # A file that was just made has a schema: one without has lost what it had.
        return "it is empty, and its log is not" if log.pages else "it is empty"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            database.text_factory = decode
            return _check(database, path, is_long=path.stat().st_size > checked_bytes)
    except UnicodeDecodeError:  # SQLite says what is wrong with a name, and has the name in it
        return "a name in its schema is not UTF-8"
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in _NOT_DAMAGE:
            raise
        return str(error)


_NOT_DAMAGE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_READONLY,
}
"""What keeps one from reading a file that may well be sound."""


def _check(database: sqlite3.Connection, path: Path, *, is_long: bool) -> str | None:
    is_ours = _is_ours(database)  # if not, it is brought up to date later, or refused
    if is_ours and (damage := _check_head(database, path)):
        return damage
    if is_long:
        _read_ends(database)
        return None
    return _check_pages(database) or (_check_counts(database) if is_ours else None)


def _is_ours(database: sqlite3.Connection) -> bool:
    """Tell whether a relay of this version made it; one bit may make that look otherwise."""
    if _version(database) == SCHEMA_VERSION:
        return len(_tables(database)) >= len(TABLES) - 1
    return has_our_words(database)


def _check_head(database: sqlite3.Connection, path: Path) -> str | None:
    if _version(database) != SCHEMA_VERSION:
        return "its version is damaged"
    if not has_our_words(database):
        return "its schema is damaged"
    with open(path, "rb") as file:
        formats = file.read(20)[18:]
    # With a higher one SQLite would read it, and refuse to write ("File format version numbers").
    return "its header is damaged" if max(formats) > _HIGHEST_FORMAT else None


_HIGHEST_FORMAT = 2


def _version(database: sqlite3.Connection) -> int:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    return int(version)


def _check_pages(database: sqlite3.Connection) -> str | None:
    # Not quick_check, which takes an index as it is: mail that is in none would not be found.
    found: str = database.execute("PRAGMA integrity_check(1)").fetchone()[0]
    return None if found == "ok" else found


def _check_counts(database: sqlite3.Connection) -> str | None:
    if not database.execute(_COUNTS).fetchone()[0]:
        return "it does not hold what it says it holds"
    if not database.execute(_LAST_POSITION).fetchone()[0]:
        return "it does not know its last position"
    return None


def _read_ends(database: sqlite3.Connection) -> None:
    """Read the ends of each table, which raises where a page on the way is damaged."""
    for table in _tables(database):
        for order in ("ASC", "DESC"):
            statement = f"SELECT * FROM {table} ORDER BY 1 {order} LIMIT 1"  # noqa: S608  # ours
            database.execute(statement).fetchall()


def _tables(database: sqlite3.Connection) -> set[str]:
    """Return which of our tables are there; in a database of something else there is none."""
    names = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    return names.intersection(TABLES)
