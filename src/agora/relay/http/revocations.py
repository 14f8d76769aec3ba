"""
The tokens that are good no longer before they end: revoked at once, written down before it is told.

What the disk does not take is revoked all the same, for as long as the relay runs, and is
written down as soon as the disk takes it. A token that has ended is forgotten: nobody can
use it anyway.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from pathlib import Path
from threading import Lock

from agora.errors import ConfigurationError
from agora.files import new_file
from agora.relay.http.errors import at_capacity
from agora.relay.http.shares import Shares

__all__ = ["Revocations"]


class Revocations:
    """
    The tokens that are revoked, each until it expires.

    Only :meth:`write` and :meth:`tidy` wait for the disk, and may be called in any thread.

    Args:
        path: Where they are written down; None keeps them in memory.
        most: How many there may be.
        most_of_address: How many from one network address.
        clock: Seconds since the Unix epoch.

    Raises:
        ConfigurationError: When the file cannot be read.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        most: int,
        most_of_address: int,
        clock: Callable[[], float],
    ) -> None:
        self._path = path
        self._most = most
        what = "revoked tokens from one address"
        self._shares = Shares(what, most=most_of_address, retry_after=_RETRY_AFTER)
        self._clock = clock
        self._writing = Lock()
        self._until: dict[str, int] = {}
        self._addresses: dict[str, str] = {}  # of those that were revoked in this run
        self._unwritten: dict[str, int] = {}
        self._lines = 0
        self._is_whole = True  # whether a line may be written behind what the file has
        if path is not None and path.exists():
            self._read(path)
        self._ends = [(until, jti) for jti, until in self._until.items()]
        heapify(self._ends)
        self.forget_expired(at_most=len(self._ends))

    def __contains__(self, jti: object) -> bool:
        return jti in self._until

    def __len__(self) -> int:
        return len(self._until)

    @property
    def is_behind(self) -> bool:
        """Whether there are some that are not written down."""
        return bool(self._unwritten)

    def change(self, *, most: int, most_of_address: int) -> None:
        """Go by other bounds from now on; what is revoked beyond them stays so."""
        self._most = most
        self._shares.most = most_of_address

    def add(self, jti: str, until: int, address: str = "") -> None:
        """
        Have a token be good no longer, which would end at *until*; :meth:`write` is to follow.

        Raises:
            ApiError: ``at_capacity``.
        """
        if jti in self._until:
            return
        self.forget_expired()
        if len(self._until) >= self._most:
            raise at_capacity(self._most, "revoked tokens", retry_after=_RETRY_AFTER)
        self._shares.take(address)
        self._addresses[jti] = address
        self._until[jti] = until
        heappush(self._ends, (until, jti))
        if self._path is not None:
            self._unwritten[jti] = until

    def forget_expired(self, *, at_most: int = 1_000) -> None:
        """Forget what has ended by itself, some of it at a time."""
        now = self._clock()
        while self._ends and self._ends[0][0] <= now and at_most > 0:
            _, jti = heappop(self._ends)
            at_most -= 1
            del self._until[jti]
            self._unwritten.pop(jti, None)
            if (address := self._addresses.pop(jti, None)) is not None:
                self._shares.give_back(address)

    def write(self) -> None:
        """
        Write down what is not; waits for the disk.

        Raises:
            OSError: When it does not take that; it stays to be written.
        """
        if self._path is None:
            return
        with self._writing:
            lines = dict(self._unwritten)  # more may be added meanwhile
            if not lines:
                return
            if self._is_whole:
                self._append(self._path, lines)
            else:
                self._write_anew(self._path)
            for jti in lines:
                self._unwritten.pop(jti, None)

    def tidy(self) -> None:
        """
        Write down what is not, and the file anew if most of it has ended; waits for the disk.

        Raises:
            OSError: When the disk does not take that.
        """
        self.write()
        if self._path is not None and self._lines > 2 * len(self._until):
            with self._writing:
                # What is added meanwhile is in it or appended behind it: to have both is no harm.
                self._write_anew(self._path)

    def _read(self, path: Path) -> None:
        try:
            text = path.read_text("utf-8", errors="replace")  # a crash may have left anything
        except OSError as error:
            raise ConfigurationError(
                f"cannot use {path}: {error.strerror}; without it revoked tokens are good again, "
                "each until it ends"
            ) from error
        self._is_whole = not text or text.endswith("\n")
        for line in text.splitlines():
            until, _, jti = line.partition(" ")
            self._lines += 1
            if until.isdigit() and jti:  # else it is half a line
                self._until[jti] = int(until)

    def _append(self, path: Path, lines: dict[str, int]) -> None:
        self._is_whole = False  # until all of it is there
        with open(path, "a", opener=_private) as file:
            file.write(_text(lines))
            file.flush()
            os.fsync(file.fileno())
        self._is_whole = True
        self._lines += len(lines)

    def _write_anew(self, path: Path) -> None:
        lines = dict(self._until)
        with new_file(path, overwrite=True) as file:
            file.write(_text(lines).encode())
        self._is_whole = True
        self._lines = len(lines)


_RETRY_AFTER = 60.0
"""Seconds to wait where no more can be revoked: by then some will have ended."""


def _text(lines: dict[str, int]) -> str:
    return "".join([f"{until} {jti}\n" for jti, until in lines.items()])


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
