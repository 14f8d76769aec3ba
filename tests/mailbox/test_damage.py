"""Mail that a medium has damaged is never delivered, and never lost without a word."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from agora.mailbox import SqliteMailbox
from agora.mailbox.damage import find_damage
from agora.mailbox.opening import MAILBOX_FILE, OpenedMailbox, open_mailbox
from agora.mailbox.rows import hash_of_recipient

from .storing import ALICE, BOB, BOUNDS, CAROL, letter, waiting
from .test_sqlite import SCHEMA_1

FLIPPED = "UPDATE mail SET text = replace(text, 'hello', 'hellp') WHERE position = 2"
NOT_UTF_8 = "UPDATE mail SET text = CAST(x'ff' || text AS TEXT) WHERE position = 2"
A_BLOB = "UPDATE mail SET text = CAST(text AS BLOB) WHERE position = 2"
OTHER_NAME = "UPDATE mail SET name = 'mallory' WHERE position = 2"

damaged_in_any_way = pytest.mark.parametrize("damage", [FLIPPED, NOT_UTF_8, A_BLOB, OTHER_NAME])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file in which three messages wait for carol, stored one after the other."""
    path = tmp_path / MAILBOX_FILE
    with closing(SqliteMailbox(path, BOUNDS)) as mailbox:
        for position in (1, 2, 3):
            mailbox.put(letter(position), now_ms=position)
        mailbox.commit()
    return path


@pytest.fixture
def mailbox(path: Path) -> Iterator[SqliteMailbox]:
    with closing(SqliteMailbox(path, BOUNDS)) as mailbox:
        yield mailbox


LETTERS = [replace(letter(position), stored_ms=position) for position in (1, 2, 3)]


def change(path: Path, statement: str) -> None:
    """Change the file behind the back of its mailbox, as a medium does."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(statement)


def positions(mailbox: SqliteMailbox) -> list[int]:
    return [mail.position for mail in waiting(mailbox)]


def damaged(mailbox: SqliteMailbox) -> list[int]:
    """Return the positions of what is known to be damaged."""
    return [dead.mail.position for dead in mailbox.dead_letters() if dead.is_damaged]


def page(mailbox: SqliteMailbox) -> list[int]:
    return positions(mailbox)


def expired(mailbox: SqliteMailbox) -> list[int]:
    return [mail.position for mail in mailbox.expired(before_ms=9, max_messages=9)]


def nacked(mailbox: SqliteMailbox) -> list[int]:
    ids = [letter(position).envelope_id for position in (1, 2, 3)]
    return [mail.position for mail in mailbox.nack(CAROL.peer_id, ids, max_nacks=1)]


# While the mailbox is open


@damaged_in_any_way
@pytest.mark.parametrize("read", [page, expired, nacked])
def test_damaged_mail_is_not_returned_and_becomes_a_dead_letter_and_the_log_has_its_id(
    mailbox: SqliteMailbox,
    path: Path,
    read: Callable[[SqliteMailbox], list[int]],
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    change(path, damage)

    found = read(mailbox)
    mailbox.commit()

    assert (found, positions(mailbox), damaged(mailbox)) == ([1, 3], [1, 3], [2])
    assert mailbox.count(CAROL.peer_id)[0] == 2
    [record] = caplog.records
    assert (record.getMessage(), record.levelno) == ("mail is damaged", logging.ERROR)
    assert vars(record)["fields"] == {
        "id": letter(2).envelope_id,
        "to": CAROL.peer_id,
        "position": 2,
    }


def test_what_is_behind_damaged_mail_is_on_the_same_page(
    mailbox: SqliteMailbox, path: Path
) -> None:
    change(path, FLIPPED)

    first = mailbox.page(CAROL.peer_id, after=0, max_messages=2, max_bytes=10**6)

    assert ([mail.position for mail in first.mail], first.is_last) == ([1, 3], True)


def test_a_page_that_ends_before_damaged_mail_says_that_more_waits(
    mailbox: SqliteMailbox, path: Path
) -> None:
    change(path, FLIPPED)

    first = mailbox.page(CAROL.peer_id, after=0, max_messages=1, max_bytes=10**6)
    second = mailbox.page(CAROL.peer_id, after=1, max_messages=1, max_bytes=10**6)

    assert ([mail.position for mail in first.mail], first.is_last) == ([1], False)
    assert ([mail.position for mail in second.mail], second.is_last) == ([3], True)


def test_mail_whose_setting_aside_was_undone_is_set_aside_when_it_is_met_again(
    mailbox: SqliteMailbox, path: Path
) -> None:
    change(path, FLIPPED)
    page(mailbox)
    mailbox.rollback()

    assert (page(mailbox), damaged(mailbox)) == ([1, 3], [2])


def test_a_damaged_mailbox_that_cannot_be_changed_is_passed_over_and_nothing_else_undone(
    mailbox: SqliteMailbox, path: Path
) -> None:
    change(path, FLIPPED)
    # What leads to mail is damaged too, so that it cannot be removed.
    change(path, "DROP TABLE dead_letter")
    mailbox.put(letter(4), now_ms=4)

    found = page(mailbox)
    mailbox.commit()

    assert found == [1, 3, 4]
    assert mailbox.count(CAROL.peer_id)[0] == 4


def test_a_dead_letter_that_is_damaged_later_is_shown_as_that(
    mailbox: SqliteMailbox, path: Path
) -> None:
    mailbox.bury(CAROL.peer_id, [1, 2], now_ms=9)
    mailbox.commit()
    change(path, NOT_UTF_8.replace("mail", "dead_letter"))

    assert [dead.is_damaged for dead in mailbox.dead_letters()] == [False, True]


# At the start


def opened(path: Path) -> tuple[OpenedMailbox, SqliteMailbox]:
    result = open_mailbox(path.parent, BOUNDS)
    assert isinstance(result.mailbox, SqliteMailbox)
    return result, result.mailbox


@damaged_in_any_way
def test_damaged_mail_is_set_aside_at_the_start_and_the_file_stays(
    path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    change(path, damage)

    for _ in range(2):
        result, again = opened(path)
        found = (positions(again), damaged(again))
        again.close()

        assert result.accident is None
        assert found == ([1, 3], [2])
    assert [record.getMessage() for record in caplog.records] == ["mail is damaged"]


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ("UPDATE held SET messages = 99 WHERE sender != ''", "it does not hold what it says"),
        ("DELETE FROM held", "it does not hold what it says"),
        ("INSERT INTO held VALUES ('nobody', '', 1, 1)", "it does not hold what it says"),
        ("UPDATE mail SET size = size + 1", "it does not hold what it says"),
        ("PRAGMA user_version = 7", "its version is damaged"),
        ("PRAGMA user_version = 2", "its version is damaged"),
        ("PRAGMA user_version = 0", "its version is damaged"),
        ("UPDATE sqlite_sequence SET seq = 2", "it does not know its last position"),
        ("DELETE FROM sqlite_sequence", "it does not know its last position"),
    ],
)
def test_what_leads_to_mail_is_made_anew_where_it_is_damaged(
    path: Path, damage: str, why: str
) -> None:
    change(path, damage)

    result, again = opened(path)
    found = (waiting(again), again.last_position())
    held = again.count(CAROL.peer_id)
    again.close()

    assert result.accident is not None
    assert why in result.accident.why
    assert found == (LETTERS, 3)
    assert held == (3, sum(mail.size for mail in LETTERS))


def test_a_store_that_is_empty_again_is_sound(path: Path) -> None:
    with closing(SqliteMailbox(path, BOUNDS)) as mailbox:
        mailbox.purge(CAROL.peer_id)
        mailbox.commit()

    assert find_damage(path) is None


def test_mail_that_an_index_does_not_lead_to_any_more_is_found_again(path: Path) -> None:
    content = path.read_bytes()
    with closing(sqlite3.connect(path)) as database:
        [root] = database.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'mail_by_recipient'"
        ).fetchone()
    page_of_index = content[(root - 1) * 4096 : root * 4096]
    entry = hash_of_recipient(CAROL.peer_id)
    flipped = page_of_index.replace(entry.to_bytes(6), (entry ^ 1).to_bytes(6), 1)
    path.write_bytes(content.replace(page_of_index, flipped))

    result, again = opened(path)
    found = waiting(again)
    again.close()

    assert result.accident is not None
    assert found == LETTERS


@pytest.mark.parametrize(
    ("words", "damaged_words"),
    [
        (b"mail_by_age ON mail", b"mail_by_age ON m\xa5il"),  # which SQLite cannot even say
        (b"table" + b"mail" * 2, b"table" + b"maim" + b"mail"),
        (b"CREATE TABLE mail (", b"CREATE TABLE maim ("),
        (b"mail (recipient_hash)", b"mail (recipient_hasi)"),
        (b"mail (id_hash)", b"mail (confirm)"),
        (b"died_ms     INTEGER", b"died_m\xf3     INTEGER"),
        (b"SQLite format 3\0\x10\0\2\2", b"SQLite format 3\0\x10\0\6\2"),  # not to be written
    ],
)
def test_damage_of_the_head_of_a_file_is_noticed(
    path: Path, words: bytes, damaged_words: bytes
) -> None:
    content = path.read_bytes()
    assert words in content
    path.write_bytes(content.replace(words, damaged_words, 1))

    result, again = opened(path)
    found = waiting(again)
    again.close()

    assert result.accident is not None
    assert found == LETTERS


@pytest.mark.parametrize(
    ("envelope_id", "is_kept"),
    [("", False), (letter(1, to=BOB).envelope_id, True)],
    ids=["opaque", "signed"],
)
def test_where_a_file_is_made_anew_only_opaque_mail_needs_its_checksum(
    path: Path, envelope_id: str, is_kept: bool
) -> None:
    mail = replace(letter(1, to=BOB), position=4, envelope_id=envelope_id)
    with closing(SqliteMailbox(path, BOUNDS)) as mailbox:
        mailbox.put(mail, now_ms=4)
        mailbox.commit()
    change(path, "UPDATE mail SET name = 'mallory' WHERE position = 4")
    change(path, "DELETE FROM held")

    result, again = opened(path)
    found = waiting(again, BOB.peer_id)
    again.close()

    assert result.accident is not None
    assert result.accident.rescued is not None
    assert result.accident.rescued.damaged == (0 if is_kept else 1)
    assert len(found) == is_kept


# Schema 1, which had no checksums


def test_what_is_not_utf_8_in_schema_1_is_set_aside_too(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.executescript(SCHEMA_1)
    change(path, "UPDATE mail SET text = CAST(x'ff' || text AS TEXT) WHERE position = 2")

    result, mailbox = opened(path)
    found = [mail.position for mail in waiting(mailbox, "carol")]
    dead = damaged(mailbox)
    mailbox.close()

    assert result.accident is None
    assert (found, dead) == ([1, 3], [2])


def test_pins_outlive_damaged_mail(path: Path) -> None:
    with closing(SqliteMailbox(path, BOUNDS)) as mailbox:
        mailbox.pin(ALICE.peer_id, now_ms=0)
        mailbox.commit()
    change(path, NOT_UTF_8)

    _, again = opened(path)
    pins = again.pins()
    again.close()

    assert pins == (ALICE.peer_id,)
