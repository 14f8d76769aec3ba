"""What was taken lately, over a restart: for the mailboxes that it is about, and once."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from agora.protocol.relay.admission import Remembered
from agora.relay.taken_file import read_taken, write_taken

TAKEN = Remembered(("one", "", "two"), ((2.0, 1), (1.0, 3)))

MISCOUNTED = b'{"lastPosition":7,"atMs":5000,"ids":["one"],"marks":[[1.0,2]]}'


def write(path: Path, *, last_position: int = 7) -> None:
    write_taken(path, TAKEN, last_position=last_position, now_ms=5_000)


def test_what_was_written_is_read_and_is_older_by_the_time_between(tmp_path: Path) -> None:
    write(tmp_path / "taken-ids")

    read = read_taken(tmp_path / "taken-ids", last_position=7, now_ms=8_000)

    assert read == Remembered(TAKEN.ids, ((5.0, 1), (4.0, 3)))


def test_a_clock_that_went_back_makes_nothing_younger(tmp_path: Path) -> None:
    write(tmp_path / "taken-ids")

    assert read_taken(tmp_path / "taken-ids", last_position=7, now_ms=1_000) == TAKEN


def test_it_is_read_once_so_that_no_crash_brings_back_what_was_true_before(tmp_path: Path) -> None:
    write(tmp_path / "taken-ids")
    read_taken(tmp_path / "taken-ids", last_position=7, now_ms=8_000)

    assert list(tmp_path.iterdir()) == []
    assert read_taken(tmp_path / "taken-ids", last_position=7, now_ms=8_000) is None


def test_what_is_of_other_mailboxes_is_not_said_of_these(tmp_path: Path) -> None:
    write(tmp_path / "taken-ids", last_position=6)

    assert read_taken(tmp_path / "taken-ids", last_position=7, now_ms=8_000) is None


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b'{"lastPosition":7', MISCOUNTED])
def test_a_damaged_file_is_none_and_is_said(
    tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "taken-ids").write_bytes(data)

    assert read_taken(tmp_path / "taken-ids", last_position=7, now_ms=8_000) is None
    assert [record.message for record in caplog.records] == ["taken ids not read"]


def test_a_disk_that_takes_nothing_does_not_keep_a_relay_from_stopping(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "taken-ids").mkdir()
    write(tmp_path / "taken-ids")

    assert [record.message for record in caplog.records] == ["taken ids not kept"]


def test_it_is_for_the_relay_alone_to_read(tmp_path: Path) -> None:
    write(tmp_path / "taken-ids")

    assert stat.S_IMODE((tmp_path / "taken-ids").stat().st_mode) == 0o600
