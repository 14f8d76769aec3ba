"""Acked mail in a file: nothing where none is kept, and never mail again that waits."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest

from agora.mailbox import AlreadyStoredError, SqliteMailbox
from agora.mailbox.archive import read_archive, write_archive
from agora.mailbox.backup import kept_at, restore
from agora.mailbox.damage import find_damage
from agora.mailbox.opening import MAILBOX_FILE, open_mailbox
from agora.mailbox.rescue import Rescued
from agora.protocol.relay.actions import Mail

from .storing import BOUNDS, CAROL, letter, waiting


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file in which a letter waits for carol, and two are retained."""
    path = tmp_path / "data" / MAILBOX_FILE
    with closing(SqliteMailbox(path, BOUNDS)) as mailbox:
        for position in (1, 2):
            mailbox.put(letter(position), now_ms=position)
        mailbox.remove(CAROL.peer_id, [1], acked_ms=10)
        mailbox.retain([letter(3)], acked_ms=20)
        mailbox.commit()
    return path


def retained(mailbox: SqliteMailbox) -> list[Mail]:
    """Return all that is retained of carol."""
    page = mailbox.retained(CAROL.peer_id, since_ms=0, after=0, max_messages=1_000, max_bytes=10**9)
    return list(page.mail)


def ids(mailbox: SqliteMailbox) -> list[str]:
    return [mail.envelope_id for mail in retained(mailbox)]


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as database:
        return {name for (name,) in database.execute("SELECT name FROM sqlite_master")}


KEPT = [letter(1).envelope_id, letter(3).envelope_id]


def test_a_relay_that_retains_nothing_has_no_table_for_it(tmp_path: Path) -> None:
    path = tmp_path / MAILBOX_FILE
    with closing(SqliteMailbox(path, BOUNDS)) as mailbox:
        mailbox.put(letter(1), now_ms=1)
        mailbox.remove(CAROL.peer_id, [1])
        mailbox.commit()
        mailbox.forget_retained(before_ms=9, now_ms=9, max_messages=9)
        mailbox.totals(largest=1)

        assert not mailbox.commit()

    assert not any("retained" in name for name in tables(path))


def test_what_is_retained_is_there_after_closing_and_its_places_go_on(path: Path) -> None:
    with closing(SqliteMailbox(path, BOUNDS)) as mailbox:
        before = retained(mailbox)
        mailbox.forget_retained(before_ms=99, now_ms=99, max_messages=9)
        mailbox.commit()
    with closing(SqliteMailbox(path, BOUNDS)) as mailbox:
        mailbox.retain([letter(4)], acked_ms=0)
        [after] = retained(mailbox)

    assert [(mail.envelope_id, mail.stored_ms) for mail in before] == list(
        zip(KEPT, (10, 20), strict=True)
    )
    assert after.position > before[-1].position


def test_a_file_with_retained_mail_is_sound_and_opened_as_it_is(path: Path) -> None:
    damage = find_damage(path)
    opened = open_mailbox(path.parent, BOUNDS)

    with closing(opened.mailbox) as mailbox:
        assert (damage, opened.accident, ids(mailbox)) == (None, None, KEPT)


def test_a_rescue_of_a_damaged_file_makes_no_mail_of_what_was_acked(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[:16] = b"\0" * 16  # no header: only what is on its pages can be read
    path.write_bytes(content)

    opened = open_mailbox(path.parent, BOUNDS)

    with closing(opened.mailbox) as mailbox:
        assert opened.accident is not None
        assert opened.accident.rescued == Rescued(mail=1)
        assert [mail.envelope_id for mail in waiting(mailbox)] == [letter(2).envelope_id]


def test_what_a_medium_has_damaged_is_left_out_and_the_log_has_its_id(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        flip = "UPDATE retained SET text = replace(text, 'hello', 'hellp') WHERE acked_ms = 10"
        database.execute(flip)

    with closing(SqliteMailbox(path, BOUNDS)) as mailbox:
        assert ids(mailbox) == KEPT[1:]
    assert "retained mail is damaged" in caplog.text


def test_an_archive_has_what_waits_and_not_what_was_acked(path: Path, tmp_path: Path) -> None:
    archive = BytesIO()
    write_archive(kept_at(path), archive, made_ms=0)
    archive.seek(0)
    with closing(SqliteMailbox(tmp_path / "new" / MAILBOX_FILE, BOUNDS)) as other:
        restored = restore(read_archive(archive), other)

        assert (restored.mail, retained(other)) == (1, [])
        assert [mail.envelope_id for mail in waiting(other)] == [letter(2).envelope_id]


def test_an_older_archive_brings_nothing_back_that_was_acked_since(path: Path) -> None:
    archive = BytesIO()
    write_archive(kept_at(path), archive, made_ms=0)
    archive.seek(0)
    with closing(SqliteMailbox(path, BOUNDS)) as mailbox:
        mailbox.remove(CAROL.peer_id, [2], acked_ms=30)
        mailbox.commit()
        restored = restore(read_archive(archive), mailbox)

        assert (restored.mail, restored.present, waiting(mailbox)) == (0, 1, [])


def test_a_table_that_was_made_in_what_was_undone_is_made_again(tmp_path: Path) -> None:
    with closing(SqliteMailbox(tmp_path / MAILBOX_FILE, BOUNDS)) as mailbox:
        mailbox.retain([letter(1)], acked_ms=0)
        mailbox.rollback()
        nothing = ids(mailbox)
        mailbox.retain([letter(1)], acked_ms=0)
        mailbox.commit()

        assert (nothing, ids(mailbox)) == ([], KEPT[:1])


def test_bounds_count_what_was_retained_before(path: Path) -> None:
    with closing(SqliteMailbox(path, replace(BOUNDS, retain_messages=2))) as mailbox:
        mailbox.retain([letter(4)], acked_ms=30)

        assert ids(mailbox) == [letter(3).envelope_id, letter(4).envelope_id]
        assert mailbox.totals(largest=0).retained == 2


def test_a_repeat_among_many_is_known_by_what_is_retained(path: Path) -> None:
    with closing(SqliteMailbox(path, BOUNDS)) as mailbox:
        with pytest.raises(AlreadyStoredError):
            mailbox.put(letter(1), now_ms=1)
        with pytest.raises(AlreadyStoredError):
            mailbox.put(letter(3), now_ms=1, is_owed=True)
