"""
One relay to a data directory: a lock that is let go when its process ends, however it ends.

What is locked is the file ``lock`` in the directory; it stays there, unlocked, as
removing it would let two processes lock two files of that name. Its text is the
process that has it, for the message to the one that comes second.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from agora.errors import ConfigurationError

__all__ = ["DirectoryLock"]


class DirectoryLock:
    """
    Holds a data directory for this process alone.

    Args:
        directory: Made if absent.

    Raises:
        ConfigurationError: When another relay has it, also one of this process, or
            when it cannot be locked.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / "lock"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ConfigurationError(f"cannot use {path}: {error.strerror}") from error
        try:
            _lock(self._descriptor)
        except BlockingIOError as error:
            holder = _read_holder(self._descriptor)
            os.close(self._descriptor)
            raise ConfigurationError(
                f"{directory} is in use by a relay{holder}: stop it, or give another --data-dir"
            ) from error
        except OSError as error:
            os.close(self._descriptor)
            raise ConfigurationError(f"cannot lock {path}: {error.strerror}") from error
        self._is_held = True
        _write_holder(self._descriptor, f"{os.getpid()}\n")

    def close(self) -> None:
        """Let it go. Doing it twice is harmless."""
        if self._is_held:
            self._is_held = False
            _write_holder(self._descriptor, "")
            os.close(self._descriptor)


def _read_holder(descriptor: int) -> str:
    text = os.pread(descriptor, 20, 0) if hasattr(os, "pread") else os.read(descriptor, 20)
    number = text.strip()
    return f" (process {int(number)})" if number.isdigit() else ""


def _write_holder(descriptor: int, text: str) -> None:
    with suppress(OSError):  # a full disk: the lock is what counts
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, text.encode())


if sys.platform == "win32":
    import msvcrt

    _BEHIND_THE_TEXT = 1024  # a locked byte cannot be read by others

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _BEHIND_THE_TEXT, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError from error
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
