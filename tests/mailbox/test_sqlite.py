"""Mail in a file: what is committed outlives a crash, and no file is opened that is not ours."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from agora.errors import ConfigurationError
from agora.mailbox import MailboxFullError, SqliteMailbox
from agora.mailbox.sqlite import SCHEMA_VERSION
from agora.protocol.actions import Mail

from .storing import ALICE, BATCH, CAROL

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "mailbox.sqlite3"


@contextmanager
def opened(path: Path, max_messages: int = 10**6) -> Iterator[SqliteMailbox]:
    mailbox = SqliteMailbox(path, max_messages=max_messages, max_bytes=10**9)
    try:
        yield mailbox
    finally:
        mailbox.close()


def mail(envelope_id: str) -> Mail:
    return Mail(CAROL, ALICE, envelope_id, "{}")


def ids(mailbox: SqliteMailbox) -> list[str]:
    page = mailbox.page(CAROL, after=0, max_messages=10**6, max_bytes=10**9)
    return [mail.envelope_id for mail in page.mail]


@contextmanager
def storing(how: str, path: Path) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """Run a process that stores mail; it is gone when the block is over."""
    command = [sys.executable, "-m", "tests.mailbox.storing", how, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout
        finally:
            process.kill()


# A crash


def test_what_was_committed_is_there_after_closing(path: Path) -> None:
    with opened(path) as mailbox:
        mailbox.put(mail("1"), now_ms=0)
        mailbox.commit()
        mailbox.put(mail("2"), now_ms=0)

    with opened(path) as mailbox:
        assert ids(mailbox) == ["1"]
        assert mailbox.count(CAROL) == (1, 2)


def test_bounds_count_what_was_stored_before(path: Path) -> None:
    with opened(path) as mailbox:
        mailbox.put(mail("1"), now_ms=0)
        mailbox.commit()

    with opened(path, max_messages=1) as mailbox, pytest.raises(MailboxFullError):
        mailbox.put(mail("2"), now_ms=0)


def test_positions_go_on_after_closing(path: Path) -> None:
    with opened(path) as mailbox:
        last = mailbox.put(mail("1"), now_ms=0).position
        mailbox.remove(CAROL, [last])
        mailbox.commit()

    with opened(path) as mailbox:
        assert mailbox.put(mail("2"), now_ms=0).position > last


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
        found = ids(mailbox)
        is_whole = mailbox.count(CAROL) == (len(found), 2 * len(found))

    # The last commit may be on the disk before it could be told.
    batches = [f"{number}.{part}" for number in range(committed + 2) for part in range(BATCH)]
    assert found in (batches, batches[:-BATCH])
    assert is_whole


def test_a_full_disk_loses_nothing_that_was_acknowledged(path: Path) -> None:
    with storing("until_full", path) as (process, said):
        lines = [line.rstrip("\n").split(",") for line in said]
        assert process.wait() == 0

    taken = [letter for letter, *heard in lines if heard == ["pong"]]
    refused = [letter for letter, *heard in lines if heard == ["error unavailable", "pong"]]
    assert len(taken) + len(refused) == len(lines)
    assert len(refused) > 1
    assert lines[-1][0] in taken  # there is room again
    with opened(path) as mailbox:
        assert ids(mailbox) == taken


# Whose file it is


def test_a_second_relay_on_the_same_file_is_refused(path: Path) -> None:
    with opened(path), pytest.raises(ConfigurationError, match="is in use by another relay: stop"):
        SqliteMailbox(path, max_messages=1, max_bytes=1)


def test_a_second_process_on_the_same_file_is_refused(path: Path) -> None:
    with storing("for_ever", path) as (_, said):
        said.readline()

        with pytest.raises(ConfigurationError, match="is in use by another relay: stop"):
            SqliteMailbox(path, max_messages=1, max_bytes=1)


def test_the_file_is_free_when_its_relay_was_killed(path: Path) -> None:
    with storing("for_ever", path) as (process, said):
        said.readline()
        process.kill()
        process.wait()

        with opened(path) as mailbox:
            assert ids(mailbox) != []


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
def test_nobody_else_can_read_the_mail(path: Path) -> None:
    with opened(path) as mailbox:
        mailbox.put(mail("1"), now_ms=0)
        mailbox.commit()

        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}

    assert modes == {"mailbox.sqlite3": 0o600, "mailbox.sqlite3-wal": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def database(path: Path, *statements: str) -> None:
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def made_by_a_newer_version(path: Path) -> None:
    database(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


def of_another_program(path: Path) -> None:
    database(path, "CREATE TABLE diary (day TEXT)")


def of_another_program_with_our_version(path: Path) -> None:
    database(path, "CREATE TABLE diary (day TEXT)", f"PRAGMA user_version = {SCHEMA_VERSION}")


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
        SqliteMailbox(path, max_messages=1, max_bytes=1)

    assert str(path) in str(caught.value)


def test_a_file_of_another_program_keeps_what_it_has(path: Path) -> None:
    of_another_program(path)

    with pytest.raises(ConfigurationError):
        SqliteMailbox(path, max_messages=1, max_bytes=1)

    connection = sqlite3.connect(path)
    tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
    connection.close()
    assert tables == [("diary",)]
