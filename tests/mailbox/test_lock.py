"""One relay to a data directory, until it ends, however it ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agora.errors import ConfigurationError
from agora.mailbox.lock import DirectoryLock

from .storing import storing


def test_a_directory_is_for_one_at_a_time_and_the_second_is_told_who_has_it(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)

    with pytest.raises(ConfigurationError) as caught:
        DirectoryLock(tmp_path)
    lock.close()

    assert str(caught.value) == (
        f"{tmp_path} is in use by a relay (process {os.getpid()}): "
        "stop it, or give another --data-dir"
    )


def test_a_directory_is_made_and_free_again_after_closing(tmp_path: Path) -> None:
    directory = tmp_path / "not" / "there"
    for _ in range(2):
        lock = DirectoryLock(directory)
        lock.close()
        lock.close()

    assert (directory / "lock").read_text() == ""


def test_another_process_is_refused_and_free_to_go_on_when_the_first_was_killed(
    tmp_path: Path,
) -> None:
    with storing("locked", tmp_path) as (process, said):
        said.readline()
        with pytest.raises(ConfigurationError, match=rf"\(process {process.pid}\)"):
            DirectoryLock(tmp_path)
        process.kill()
        process.wait()

        DirectoryLock(tmp_path).close()


def test_two_directories_are_two_locks(tmp_path: Path) -> None:
    first, second = DirectoryLock(tmp_path / "1"), DirectoryLock(tmp_path / "2")
    first.close()
    second.close()


def test_what_cannot_be_a_directory_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigurationError, match=r"cannot use .*file"):
        DirectoryLock(tmp_path / "file")
