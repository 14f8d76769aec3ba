"""Whatever bytes are in a file, what is read off it are rows, and a log is what it is."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agora.mailbox.carving import carve
from agora.mailbox.wal import Log, read_log

in_a_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

ROWS = [
    (1, "text", None, 1.5),
    (2, "x" * 5_000, b"\0\1", -1),
    (-3, "ü" * 40_000, 2**40, 0),
    (2**62, "", 1, 255),
    (7, "7", -129, 2**23),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.sqlite3"


@pytest.mark.parametrize("is_in_the_log", [False, True])
def test_every_row_of_a_sound_file_is_read(path: Path, is_in_the_log: bool) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(f"PRAGMA journal_mode = {'WAL' if is_in_the_log else 'DELETE'}")
        database.execute("CREATE TABLE some (a INTEGER PRIMARY KEY, b, c, d)")
        database.executemany("INSERT INTO some VALUES (?, ?, ?, ?)", ROWS)
        found = {(row.rowid, row.values) for row in carve(path, read_log(path))}

    assert found == {(row[0], (None, *row[1:])) for row in ROWS}


def test_what_was_deleted_is_not_read(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("CREATE TABLE some (a INTEGER PRIMARY KEY, b)")
        rows = [(number, "x" * 2_000) for number in range(200)]
        database.executemany("INSERT INTO some VALUES (?, ?)", rows)
        database.execute("DELETE FROM some WHERE a % 20 != 0 OR a < 100")

    assert {row.rowid for row in carve(path, Log())} == {100, 120, 140, 160, 180}


def leaf(cells: bytes) -> bytes:
    """Return a page that says it has one cell, which begins where *cells* do."""
    return struct.pack(">BHHHB", 13, 0, 1, 0, 0) + struct.pack(">H", 10) + cells


@in_a_folder
@given(pages=st.lists(st.binary(max_size=400), max_size=4))
def test_any_bytes_are_rows_or_none(path: Path, pages: list[bytes]) -> None:
    content = b"".join(leaf(cells).ljust(4096, b"\1")[:4096] for cells in pages)
    path.write_bytes(bytes(4096) + content)

    for row in carve(path, Log()):
        assert isinstance(row.rowid, int)


def test_a_row_that_goes_on_in_a_ring_of_pages_is_none(path: Path) -> None:
    # A payload of 16,000 bytes, which goes on in page 3, and from there in page 3.
    page = leaf(b"\xfd\x00\x01").ljust(4096, b"\0")
    page = page[:13] + bytes(4096 - 13)
    path.write_bytes(bytes(4096) + page + struct.pack(">I", 3) + bytes(4092))

    assert [row for row in carve(path, Log()) if row.values] == []


@in_a_folder
@given(
    log=st.one_of(
        st.binary(max_size=200),
        st.binary(max_size=200).map(lambda tail: struct.pack(">II", 0x377F0682, 3007000) + tail),
    ),
    index=st.binary(max_size=120),
)
def test_any_bytes_are_a_log(path: Path, log: bytes, index: bytes) -> None:
    Path(f"{path}-wal").write_bytes(log)
    Path(f"{path}-shm").write_bytes(index)

    assert isinstance(read_log(path), Log)


def test_where_no_log_is_nothing_is_wrong(path: Path) -> None:
    assert read_log(path) == Log()


def torn(path: Path, *, is_known: bool) -> Path:
    """Return a database whose last commit is torn; *is_known* if its index knows that commit."""
    copy = path.with_name("copy.sqlite3")
    log, index = Path(f"{path}-wal"), Path(f"{path}-shm")
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE t (x)")
        before, known = log.stat().st_size, index.read_bytes()
        database.execute("INSERT INTO t VALUES (zeroblob(20000))")
        content = bytearray(log.read_bytes())
        content[before + 100] ^= 1  # in the first frame of the last commit
        Path(f"{copy}-wal").write_bytes(content)
        Path(f"{copy}-shm").write_bytes(index.read_bytes() if is_known else known)
        copy.write_bytes(path.read_bytes())
    return copy


def test_a_commit_that_a_kill_cut_short_is_no_damage(path: Path) -> None:
    # SQLite writes the last frame of a long commit before the checksums of those it wrote twice.
    assert read_log(torn(path, is_known=False)).damage is None


def test_a_commit_that_was_synced_and_cannot_be_read_is_damage(path: Path) -> None:
    assert read_log(torn(path, is_known=True)).damage is not None
