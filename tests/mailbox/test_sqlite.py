"""Mail in a file: what is committed outlives a crash, and no file is opened that is not ours."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from agora.errors import ConfigurationError
from agora.mailbox import (
    AlreadyStoredError,
    MailboxBounds,
    MailboxFullError,
    Put,
    SqliteMailbox,
)
from agora.mailbox.damage import find_damage
from agora.mailbox.schema import SCHEMA_VERSION
from agora.protocol.relay.actions import Mail

from .storing import ALICE, BATCH, BOB, BOUNDS, CAROL, letter, storing, waiting


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "mailbox.sqlite3"


@contextmanager
def opened(path: Path, bounds: MailboxBounds = BOUNDS) -> Iterator[SqliteMailbox]:
    mailbox = SqliteMailbox(path, bounds)
    try:
        yield mailbox
    finally:
        mailbox.close()


# A crash


def test_what_was_committed_is_there_after_closing(path: Path) -> None:
    with opened(path) as mailbox:
        mailbox.put(letter(1), now_ms=5)
        mailbox.commit()
        mailbox.put(letter(2), now_ms=5)

    with opened(path) as mailbox:
        assert waiting(mailbox) == [replace(letter(1), stored_ms=5)]
        assert mailbox.count(CAROL.peer_id) == (1, letter(1).size)


def test_bounds_count_what_was_stored_before(path: Path) -> None:
    with opened(path) as mailbox:
        mailbox.put(letter(1), now_ms=0)
        mailbox.commit()

    one = MailboxBounds(max_messages=1, max_bytes=10**6)
    with opened(path, one) as mailbox, pytest.raises(MailboxFullError):
        mailbox.put(letter(2), now_ms=0)


def test_more_than_fits_into_one_statement_is_put_found_and_taken_out(path: Path) -> None:
    mail = [Mail("carol", ALICE.peer_id, f"id {n}", "{}", position=n) for n in range(1, 1_001)]
    more = [replace(one, position=one.position + 1_000) for one in mail]

    with opened(path) as mailbox:
        mailbox.put_many([Put(one, 0, follows=max(0, one.position - 9)) for one in mail])
        again = mailbox.put_many([Put(one, 0, follows=one.position - 1_000) for one in more])
        nacked = mailbox.nack("carol", [one.envelope_id for one in mail], max_nacks=1)
        mailbox.remove_ids("carol", [f"id {n}" for n in range(301, 1_001)])
        mailbox.remove("carol", range(1, 299))
        mailbox.bury("carol", [299, 299, 300], now_ms=1)
        mailbox.commit()
        held = mailbox.count("carol")

    assert {type(refusal) for refusal in again} == {AlreadyStoredError}
    assert [one.position for one in nacked] == list(range(1, 1_001))
    assert held == (0, 0)
    assert find_damage(path) is None


def test_the_last_position_nacks_dead_letters_and_pins_are_there_after_closing(path: Path) -> None:
    with opened(path) as mailbox:
        for position in (1, 2, 9):
            mailbox.put(letter(position), now_ms=0)
        mailbox.nack(CAROL.peer_id, [letter(1).envelope_id], max_nacks=9)
        mailbox.bury(CAROL.peer_id, [2], now_ms=7)
        mailbox.remove(CAROL.peer_id, [9])
        mailbox.pin(CAROL.peer_id, now_ms=0)
        mailbox.commit()

    with opened(path) as mailbox:
        assert mailbox.last_position() == 9
        assert len(mailbox.nack(CAROL.peer_id, [letter(1).envelope_id], max_nacks=2)) == 1
        assert [dead.died_ms for dead in mailbox.dead_letters()] == [7]
        assert mailbox.pins() == (CAROL.peer_id,)


@pytest.mark.parametrize("kill_after", [1, 7, 40])
def test_a_killed_process_leaves_what_it_committed_and_nothing_else(
    path: Path, kill_after: int
) -> None:
    with storing("for_ever", path) as (process, said):
        for _ in range(kill_after):
            committed = int(said.readline())
        process.send_signal(signal.SIGKILL)
        process.wait()
        committed = max([committed, *map(int, said)])

    with opened(path) as mailbox:
        found = [mail.position for mail in waiting(mailbox)]
        held = mailbox.count(CAROL.peer_id)
        is_whole = held == (len(found), sum(letter(position).size for position in found))

    # The last commit may be on the disk before it could be told.
    sure = list(range(1, BATCH * (committed + 1) + 1))
    assert found in (sure, [*sure, *range(len(sure) + 1, len(sure) + BATCH + 1)])
    assert is_whole


def test_a_full_disk_loses_nothing_that_was_committed_and_leaves_a_mailbox_that_works(
    path: Path,
) -> None:
    with storing("until_full", path) as (process, said):
        lines = [line.split() for line in said]
        assert process.wait() == 0

    taken = [int(position) for position, outcome in lines if outcome == "taken"]
    assert len(lines) == 41
    assert 1 < len(taken) < 40
    assert lines[-1] == ["41", "taken"]  # there is room again
    with opened(path) as mailbox:
        assert [mail.position for mail in waiting(mailbox)] == taken


# Other processes


def test_another_process_may_read_and_change_what_is_there(path: Path) -> None:
    with opened(path) as relay, opened(path) as operator:
        relay.put(letter(1), now_ms=0)
        relay.put(letter(2, to=BOB), now_ms=0)
        relay.pin(BOB.peer_id, now_ms=0)
        relay.commit()

        assert [summary.messages for summary in operator.summaries()] == [1, 1]
        operator.purge(BOB.peer_id)
        operator.unpin(BOB.peer_id)
        operator.commit()

        assert (waiting(relay, BOB.peer_id), relay.pins()) == ([], ())
        assert relay.count(BOB.peer_id) == (0, 0)
        relay.put(letter(3), now_ms=0)
        relay.commit()
        assert [mail.position for mail in waiting(operator)] == [1, 3]


def test_a_change_by_another_process_is_told_once(path: Path) -> None:
    with opened(path) as relay, opened(path) as operator:
        operator.pin(BOB.peer_id, now_ms=0)
        before = relay.has_changed()
        operator.commit()

        assert (before, relay.has_changed(), relay.has_changed()) == (False, True, False)


def test_bounds_count_what_another_process_has_changed(path: Path) -> None:
    two = MailboxBounds(max_messages=2, max_bytes=10**6)
    with opened(path, two) as relay, opened(path, two) as operator:
        relay.put(letter(1), now_ms=0)
        relay.put(letter(2), now_ms=0)
        relay.commit()
        operator.purge(CAROL.peer_id)
        operator.commit()
        relay.put(letter(3), now_ms=0)
        relay.commit()
        operator.put(letter(4), now_ms=0)
        operator.commit()

        with pytest.raises(MailboxFullError):
            relay.put(letter(5), now_ms=0)

        assert relay.count(CAROL.peer_id) == (2, letter(3).size + letter(4).size)


def test_a_page_that_was_not_read_to_its_end_does_not_hold_up_what_comes_next(path: Path) -> None:
    with opened(path) as relay, opened(path) as operator:
        for position in range(1, 10):
            relay.put(letter(position), now_ms=0)
        relay.commit()
        relay.page(CAROL.peer_id, after=0, max_messages=1, max_bytes=1)
        operator.purge(CAROL.peer_id)
        operator.commit()

        relay.put(letter(10), now_ms=0)
        relay.commit()

        assert [mail.position for mail in waiting(relay)] == [10]


# Whose file it is


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
def test_nobody_else_can_read_the_mail(path: Path) -> None:
    with opened(path) as mailbox:
        mailbox.put(letter(1), now_ms=0)
        mailbox.commit()

        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}

    assert modes == {f"mailbox.sqlite3{end}": 0o600 for end in ("", "-wal", "-shm")}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def database(path: Path, script: str) -> None:
    path.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


def made_by_a_newer_version(path: Path) -> None:
    database(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


def of_another_program(path: Path) -> None:
    database(path, "CREATE TABLE diary (day TEXT)")


def of_another_program_with_our_version(path: Path) -> None:
    database(path, f"CREATE TABLE diary (day TEXT); PRAGMA user_version = {SCHEMA_VERSION}")


def of_another_program_with_the_version_before(path: Path) -> None:
    database(path, f"CREATE TABLE diary (day TEXT); PRAGMA user_version = {SCHEMA_VERSION - 1}")


def of_another_program_with_the_first_version(path: Path) -> None:
    database(path, "CREATE TABLE diary (day TEXT); PRAGMA user_version = 1")


def that_is_no_database(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("Dear diary, " * 100)


def that_is_a_folder(path: Path) -> None:
    path.mkdir(parents=True)


def in_what_is_no_folder(path: Path) -> None:
    path.parent.write_text("")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (made_by_a_newer_version, "it was made by a newer relay"),
        (of_another_program, "is a database of something else"),
        (of_another_program_with_our_version, "is no usable mailbox database: no such table: mail"),
        (of_another_program_with_the_version_before, "no such table: mail"),
        (of_another_program_with_the_first_version, "no such table: mail"),
        (that_is_no_database, "is no usable mailbox database: file is not a database"),
        (that_is_a_folder, "is no usable mailbox database"),
        (in_what_is_no_folder, "is no usable mailbox database"),
    ],
)
def test_a_file_is_refused_and_the_message_names_it(
    path: Path, make: Callable[[Path], None], why: str
) -> None:
    make(path)

    with pytest.raises(ConfigurationError, match=why) as caught:
        SqliteMailbox(path, BOUNDS)

    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        of_another_program,
        of_another_program_with_the_version_before,
        of_another_program_with_the_first_version,
        made_by_a_newer_version,
    ],
)
def test_a_file_that_is_refused_keeps_what_it_has(path: Path, make: Callable[[Path], None]) -> None:
    make(path)
    with closing(sqlite3.connect(path)) as connection:
        before = "\n".join(connection.iterdump())

    with pytest.raises(ConfigurationError):
        SqliteMailbox(path, BOUNDS)

    with closing(sqlite3.connect(path)) as connection:
        assert "\n".join(connection.iterdump()) == before


def test_what_has_failed_halfway_cannot_be_committed(path: Path) -> None:
    with opened(path) as mailbox:
        mailbox.put(letter(2), now_ms=0)
        mailbox.commit()
        with pytest.raises(sqlite3.IntegrityError):  # a position that is taken: a caller's fault
            mailbox.put_many([Put(letter(1), 0), Put(letter(2, to=BOB), 0)])

        with pytest.raises(sqlite3.DatabaseError, match="halfway"):
            mailbox.commit()
        mailbox.rollback()
        mailbox.put(letter(3), now_ms=0)
        mailbox.commit()

        assert [mail.position for mail in waiting(mailbox)] == [2, 3]
        assert mailbox.count(CAROL.peer_id) == (2, letter(2).size + letter(3).size)


# Schemas 1 and 2


SCHEMA_1 = """
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
INSERT INTO mail VALUES (1, 'carol', 'alice', 'a', 'Alice', 'one', 3, 11);
INSERT INTO mail VALUES (2, 'carol', 'alice', '', NULL, 'zwölf', 6, 12);
INSERT INTO mail VALUES (3, 'carol', 'bob', 'a', NULL, 'three', 5, 13);
INSERT INTO mail VALUES (4, 'dave', 'alice', 'd', NULL, 'four', 4, 14);
INSERT INTO mail VALUES (8, 'dave', 'alice', 'e', NULL, 'eight', 5, 15);
DELETE FROM mail WHERE position = 8;
INSERT INTO mailbox VALUES ('carol', 3, 14), ('dave', 1, 4);
PRAGMA journal_mode = WAL;
PRAGMA user_version = 1;
"""


SCHEMA_2 = """
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
ALTER TABLE mail ADD COLUMN confirm INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mail ADD COLUMN nacks INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mail ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;  -- see rows.py; not over nacks
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
INSERT INTO mail VALUES (1, 'carol', 'alice', 'a', 'Alice', 'one', 3, 11, 0, 2, 757073029);
INSERT INTO mail VALUES (2, 'carol', 'alice', '', NULL, 'zwölf', 6, 12, 0, 0, 2448458638);
INSERT INTO mail VALUES (3, 'carol', 'bob', 'a', NULL, 'three', 5, 13, 0, 0, 2781806166);
INSERT INTO mail VALUES (4, 'dave', 'alice', 'd', NULL, 'four', 4, 14, 0, 0, 2089884361);
INSERT INTO mail VALUES (8, 'dave', 'alice', 'e', NULL, 'eight', 5, 15, 0, 0, 2684740409);
DELETE FROM mail WHERE position = 8;
INSERT INTO dead_letter VALUES (5, 'carol', 'bob', 'x', NULL, '{}', 2, 9, 0, 3, 1393513852, 16);
INSERT INTO pin VALUES ('carol', 10);
PRAGMA journal_mode = WAL;
PRAGMA user_version = 2;
"""

of_an_older_schema = pytest.mark.parametrize("script", [SCHEMA_1, SCHEMA_2], ids=["1", "2"])


@of_an_older_schema
def test_a_file_of_an_older_schema_is_brought_up_to_date_with_its_mail(
    path: Path, script: str
) -> None:
    database(path, script)

    with opened(path) as mailbox:
        mail = waiting(mailbox, "carol")
        last = mailbox.last_position()
        summaries = mailbox.summaries()

    alice, bob = (mail[0].sender, mail[2].sender)
    assert mail == [
        Mail("carol", alice, "a", "one", "Alice", 1, confirm=False, stored_ms=11),
        Mail("carol", alice, "", "zwölf", None, 2, confirm=False, stored_ms=12),
        Mail("carol", bob, "a", "three", None, 3, confirm=False, stored_ms=13),
    ]
    assert ((alice, bob), last) == (("alice", "bob"), 8)
    assert [(s.recipient, s.messages, s.bytes) for s in summaries] == [
        ("carol", 3, 14),
        ("dave", 1, 4),
    ]


@pytest.mark.parametrize(
    ("bounds", "scope"),
    [
        (MailboxBounds(max_messages=3, max_bytes=1000), "mailbox"),
        (MailboxBounds(max_messages=8, max_bytes=1000, sender_share=0.25), "sender"),
        (MailboxBounds(max_messages=9, max_bytes=1000, store_bytes=31), "sender"),
        (MailboxBounds(max_messages=9, max_bytes=1000, store_bytes=19), "store"),
    ],
)
@of_an_older_schema
def test_bounds_count_what_was_stored_in_an_older_schema(
    path: Path, script: str, bounds: MailboxBounds, scope: str
) -> None:
    database(path, script)

    with opened(path, bounds) as mailbox:
        mail = Mail("carol", ALICE.peer_id, "new", "12", position=9)
        alice = waiting(mailbox, "carol")[0].sender
        with pytest.raises(MailboxFullError) as caught:
            mailbox.put(replace(mail, sender=alice), now_ms=0)

    assert caught.value.scope == scope


@of_an_older_schema
def test_what_waits_in_an_older_schema_is_found_by_id_and_is_no_damage(
    path: Path, script: str
) -> None:
    database(path, script)

    with opened(path) as mailbox:
        mailbox.set_damaged_aside()
        alice = waiting(mailbox, "carol")[0].sender
        with pytest.raises(AlreadyStoredError):
            mailbox.put(Mail("carol", alice, "a", "again", position=9), now_ms=0)
        mailbox.remove_ids("carol", ["a"])
        mailbox.commit()

        assert [mail.position for mail in waiting(mailbox, "carol")] == [2]
        assert mailbox.count("carol") == (1, 6)
    assert find_damage(path) is None


def test_nacks_dead_letters_and_pins_of_schema_2_stay(path: Path) -> None:
    database(path, SCHEMA_2)

    with opened(path) as mailbox:
        [first] = mailbox.dead_letters()
        nacked = mailbox.nack("carol", ["a"], max_nacks=3)
        pins = mailbox.pins()

    assert (first.mail.position, first.nacks, first.died_ms, first.is_damaged) == (5, 3, 16, False)
    assert [mail.position for mail in nacked] == [1]
    assert pins == ("carol",)


@of_an_older_schema
def test_a_file_of_an_older_schema_becomes_what_a_new_one_is(
    path: Path, tmp_path: Path, script: str
) -> None:
    database(path, script)
    new = tmp_path / "new.sqlite3"
    schemas = []

    for made in (path, new):
        with opened(made), closing(sqlite3.connect(made)) as connection:
            rows = connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name")
            schemas.append(
                {name: " ".join((sql or "").split("--")[0].split()) for name, sql in rows}
            )

    assert schemas[0] == schemas[1]


@of_an_older_schema
def test_opening_twice_changes_nothing(path: Path, script: str) -> None:
    database(path, script)
    dumps = []

    for _ in range(2):
        with opened(path), closing(sqlite3.connect(path)) as connection:
            dumps.append("\n".join(connection.iterdump()))

    assert dumps[0] == dumps[1]
