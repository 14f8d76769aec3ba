"""
How mail lies in SQLite, and how a file of an older version becomes one of this.

The one rule: a file that is not ours, or is from a newer version, stays as it is.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

from agora.errors import ConfigurationError
from agora.mailbox.rows import checksum_of_stored, hash_of_id, hash_of_recipient

__all__ = ["SCHEMA_VERSION", "TABLES", "has_our_words", "prepare_schema"]

SCHEMA_VERSION = 3

TABLES = ("mail", "held", "dead_letter", "pin")

_MAIL = """
CREATE TABLE mail (
    position    INTEGER PRIMARY KEY AUTOINCREMENT,  -- the highest is known also after a removal
    recipient   TEXT    NOT NULL,
    sender      TEXT    NOT NULL,
    envelope_id TEXT    NOT NULL,                   -- '' for an opaque envelope
    name        TEXT,
    text        TEXT    NOT NULL,
    size        INTEGER NOT NULL,                   -- bytes of the text in UTF-8
    stored_ms   INTEGER NOT NULL
);
"""

_FROM_1_TO_2 = """
ALTER TABLE mail ADD COLUMN confirm INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mail ADD COLUMN nacks INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mail ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;  -- see rows.py; not over nacks
UPDATE mail SET checksum = checksum_of_stored(  -- of blobs, as they may not be UTF-8
    position, CAST(recipient AS BLOB), CAST(sender AS BLOB), CAST(envelope_id AS BLOB),
    CAST(name AS BLOB), CAST(text AS BLOB), size, stored_ms, confirm
);
CREATE INDEX mail_by_recipient ON mail (recipient);  -- and by position, as every index
CREATE INDEX mail_by_age ON mail (stored_ms);
CREATE UNIQUE INDEX mail_once ON mail (recipient, envelope_id, sender) WHERE envelope_id != '';
CREATE TABLE held (              -- kept in step by triggers, so that no bound needs a count:
    recipient TEXT    NOT NULL,  -- one sender's mail for one recipient; '' is every recipient,
    sender    TEXT    NOT NULL,  -- '' is every sender, so the row ('', '') is the whole store
    messages  INTEGER NOT NULL,
    bytes     INTEGER NOT NULL,
    PRIMARY KEY (recipient, sender)
) WITHOUT ROWID;
INSERT INTO held SELECT recipient, sender, count(*), sum(size) FROM mail GROUP BY 1, 2;
INSERT INTO held SELECT recipient, '', sum(messages), sum(bytes) FROM held GROUP BY 1;
INSERT INTO held SELECT '', sender, sum(messages), sum(bytes) FROM held GROUP BY 2;
CREATE TABLE dead_letter (
    position    INTEGER PRIMARY KEY,  -- that of the mail it was
    recipient   TEXT    NOT NULL,
    sender      TEXT    NOT NULL,
    envelope_id TEXT    NOT NULL,
    name        TEXT,
    text        TEXT    NOT NULL,
    size        INTEGER NOT NULL,
    stored_ms   INTEGER NOT NULL,
    confirm     INTEGER NOT NULL,
    nacks       INTEGER NOT NULL,
    checksum    INTEGER NOT NULL,     -- one that does not fit is that of damaged mail
    died_ms     INTEGER NOT NULL
);
CREATE INDEX dead_letter_by_recipient ON dead_letter (recipient);
CREATE INDEX dead_letter_by_age ON dead_letter (died_ms);
CREATE TABLE pin (
    peer      TEXT    PRIMARY KEY,
    pinned_ms INTEGER NOT NULL
);
CREATE TRIGGER mail_put AFTER INSERT ON mail BEGIN
    INSERT INTO held VALUES
        (new.recipient, new.sender, 1, new.size),
        (new.recipient, '',         1, new.size),
        ('',            new.sender, 1, new.size),
        ('',            '',         1, new.size)
    ON CONFLICT (recipient, sender) DO UPDATE
        SET messages = messages + excluded.messages, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER mail_taken AFTER DELETE ON mail BEGIN
    INSERT INTO held VALUES
        (old.recipient, old.sender, -1, -old.size),
        (old.recipient, '',         -1, -old.size),
        ('',            old.sender, -1, -old.size),
        ('',            '',         -1, -old.size)
    ON CONFLICT (recipient, sender) DO UPDATE
        SET messages = messages + excluded.messages, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER held_nothing AFTER UPDATE ON held WHEN new.messages = 0 BEGIN
    DELETE FROM held WHERE recipient = new.recipient AND sender = new.sender;
END;
"""

_FROM_2_TO_3 = """
DROP TRIGGER mail_put;           -- what is held is counted once a commit (counts.py), and mail is
DROP TRIGGER mail_taken;         -- found by hashes (rows.py): entries of 12 bytes instead of 250
DROP TRIGGER held_nothing;
DROP INDEX mail_by_recipient;
DROP INDEX mail_once;            -- whether mail waits already is looked up before it is put
ALTER TABLE mail ADD COLUMN recipient_hash INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mail ADD COLUMN id_hash INTEGER NOT NULL DEFAULT 0;
UPDATE mail SET recipient_hash = hash_of_recipient(CAST(recipient AS BLOB)),
                id_hash = hash_of_id(CAST(recipient AS BLOB), CAST(envelope_id AS BLOB));
CREATE INDEX mail_by_recipient ON mail (recipient_hash);
CREATE INDEX mail_by_id ON mail (id_hash) WHERE envelope_id != '';
"""

_OF_SCHEMA_1 = """
DROP INDEX mail_by_recipient;
DROP INDEX mail_by_age;
DROP INDEX mail_once;
DROP TABLE mailbox;
"""


def prepare_schema(database: sqlite3.Connection, name: str) -> None:
    """
    Make the tables where there are none, or bring older ones up to date, in one transaction.

    Args:
        database: What to prepare; in autocommit mode.
        name: What the file is called in messages.

    Raises:
        ConfigurationError: When a newer version or another program made it.
        sqlite3.Error: When it cannot be read or written; nothing was changed.
    """
    if _version(database) == SCHEMA_VERSION:
        _check_tables(database)  # and take no lock: another process may be writing for a while
        return
    database.execute("BEGIN IMMEDIATE")
    try:
        _bring_up(database, name)
        database.execute("COMMIT")
    finally:
        if database.in_transaction:
            database.execute("ROLLBACK")


def has_our_words(database: sqlite3.Connection) -> bool:
    """Tell whether the schema of a file of this version says what it should, and perhaps more."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as new:
        prepare_schema(new, "")
        return _words(new) <= _words(database)


def _words(database: sqlite3.Connection) -> set[tuple[str, ...]]:
    """Return all there is, without comments: those are of the version that made it."""
    rows = database.execute("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master")
    return {(*names, *re.sub("--.*", "", str(sql)).split()) for *names, sql in rows}


def _bring_up(database: sqlite3.Connection, name: str) -> None:
    version = _version(database)  # once more: another process may have been first
    if version > SCHEMA_VERSION:
        raise ConfigurationError(
            f"{name} has schema {version}, this version knows {SCHEMA_VERSION}: "
            "it was made by a newer relay"
        )
    if version == 0:
        if database.execute("SELECT 1 FROM sqlite_master").fetchone():
            raise ConfigurationError(f"{name} is a database of something else")
        _run(database, _MAIL)
    if 0 < version < SCHEMA_VERSION:
        database.execute("SELECT position FROM mail LIMIT 0")  # something else has none
    if version == 1:
        _run(database, _OF_SCHEMA_1)
    if version < 2:
        database.create_function("checksum_of_stored", -1, checksum_of_stored)
        _run(database, _FROM_1_TO_2)
    if version < SCHEMA_VERSION:
        database.create_function("hash_of_recipient", 1, hash_of_recipient)
        database.create_function("hash_of_id", 2, hash_of_id)
        _run(database, _FROM_2_TO_3)
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    _check_tables(database)


def _version(database: sqlite3.Connection) -> int:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    return int(version)


def _check_tables(database: sqlite3.Connection) -> None:
    for table in TABLES:
        database.execute(f"SELECT * FROM {table} LIMIT 0")  # noqa: S608  # the names are ours


def _run(database: sqlite3.Connection, statements: str) -> None:
    # Not executescript(), which would commit what was begun.
    statement = ""
    for line in statements.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            database.execute(statement)
            statement = ""
