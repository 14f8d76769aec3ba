"""
The write-ahead log of an SQLite file, looked at before SQLite does.

SQLite takes a log as far as its checksums hold and ignores the rest without a
word: right for a commit that a crash cut short, which nobody was told of. It is
wrong for one that was synced, for receipts were given for what is in it. Here
the two are told apart. Nothing is changed, and no lock is taken; nobody may have
the file open in this process, as closing it here would end SQLite's locks (POSIX).

Source: SQLite, "Database File Format" section 4, and "WAL-mode File Format".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

__all__ = ["Log", "log_path", "read_log"]

_HEADER = struct.Struct(">IIII8sII")
_FRAME = struct.Struct(">II8sII")
_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}
_VERSION = 3_007_000
_INDEX_HEADER_BYTES = 48


@dataclass(frozen=True, slots=True)
class Log:
    """
    What a write-ahead log holds.

    Attributes:
        page_size: Bytes of a page.
        pages: Where in the log the newest content of a page begins, by its number;
            of every commit, also those behind damage.
        damage: What is wrong with it; None when all that was synced can be read.
    """

    page_size: int = 4096
    pages: dict[int, int] = field(default_factory=dict)
    damage: str | None = None


@dataclass(frozen=True, slots=True)
class _Frame:
    number: int
    page: int
    is_commit: bool
    is_sound: bool  # it and all before it
    offset: int


@dataclass(frozen=True, slots=True)
class _Index:
    """What SQLite's shared memory, which outlives a kill, says of the log."""

    frames: int = 0
    in_database: int = 0
    salts: bytes = b""


def log_path(database: Path) -> Path:
    """Return where the log of a database is."""
    return database.with_name(f"{database.name}-wal")


def read_log(database: Path) -> Log:
    """
    Return what the log of the file at *database* holds; nothing, where there is none.

    A log that is not of SQLite at all is damaged, and holds nothing.
    """
    index = _read_index(database.with_name(f"{database.name}-shm"))
    try:
        with open(log_path(database), "rb") as file:
            return _read(file, index)
    except FileNotFoundError:
        return Log(damage=_missing(index, 0))


def _read(file: BinaryIO, index: _Index) -> Log:
    header = file.read(_HEADER.size)
    if not header.strip(b"\0"):  # made, and not yet written
        return Log(damage=_missing(index, 0))
    if len(header) < _HEADER.size:
        return Log(damage="its log ends in its header")
    magic, version, page_size, _, salts, *checksum = _HEADER.unpack(header)
    order = _MAGIC.get(magic, "<")
    is_sound = (
        magic in _MAGIC
        and version == _VERSION
        and _checksum(header[:24], (0, 0), order) == tuple(checksum)
    )
    if not is_sound:
        return _read_headless(file)
    frames = list(_frames(file, page_size, salts, tuple(checksum), order))
    return Log(page_size, _newest(frames), _damage(frames, index if index.salts == salts else None))


def _read_headless(file: BinaryIO) -> Log:
    """Read a log whose header is damaged, with the page size of all our files."""
    head = file.read(_FRAME.size)
    if len(head) < _FRAME.size:
        return Log()  # no page was written behind it
    file.seek(_HEADER.size)
    salts = _FRAME.unpack(head)[2]
    frames = list(_frames(file, Log().page_size, salts, None, "<"))
    return Log(pages=_newest(frames), damage="the header of its log is damaged")


def _frames(
    file: BinaryIO, page_size: int, salts: bytes, checksum: tuple[int, ...] | None, order: str
) -> Iterator[_Frame]:
    """Yield the frames that belong to the log, sound or not: those with its salts."""
    number = 0
    while len(head := file.read(_FRAME.size)) == _FRAME.size:
        offset = file.tell()
        content = file.read(page_size)
        if len(content) < page_size:
            return
        number += 1
        page, pages_after, its_salts, *its_checksum = _FRAME.unpack(head)
        if checksum is not None:
            checksum = _checksum(head[:8] + content, (checksum[0], checksum[1]), order)
            if its_salts != salts or checksum != tuple(its_checksum):
                checksum = None  # from here on none can hold, as each goes over those before it
        if its_salts == salts:
            yield _Frame(number, page, pages_after > 0, checksum is not None, offset)


def _newest(frames: list[_Frame]) -> dict[int, int]:
    """Return where each page is in the last commit that has it."""
    commits = [place for place, frame in enumerate(frames) if frame.is_commit]
    committed = frames[: commits[-1] + 1] if commits else []
    return {frame.page: frame.offset for frame in committed}


def _damage(frames: list[_Frame], index: _Index | None) -> str | None:
    sound = max((frame.number for frame in frames if frame.is_sound and frame.is_commit), default=0)
    if index is not None:
        # It knows what was synced. A commit behind that was cut short by a kill: SQLite writes
        # the last frame of a long one first, and then the checksums of those it wrote twice.
        return _missing(index, sound)
    if any(frame.is_commit and not frame.is_sound for frame in frames):
        return f"its log is damaged behind frame {sound}, and has commits there"
    return None


def _missing(index: _Index, sound: int) -> str | None:
    # Where every frame is in the database too, a log without any takes nothing back.
    if index.frames <= (sound or index.in_database):
        return None
    return f"its log has {sound} frames of {index.frames}"


def _checksum(content: bytes, start: tuple[int, int], order: str) -> tuple[int, int]:
    first, second = start
    for one, two in struct.iter_unpack(f"{order}II", content):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + two + first) & 0xFFFFFFFF
    return first, second


def _read_index(path: Path) -> _Index:
    try:
        with open(path, "rb") as file:
            content = file.read(2 * _INDEX_HEADER_BYTES + 4)
    except FileNotFoundError:
        return _Index()
    header = content[:_INDEX_HEADER_BYTES]
    is_whole = len(content) == 2 * _INDEX_HEADER_BYTES + 4 and content.startswith(header * 2)
    if not is_whole or struct.unpack_from("=I", header)[0] != _VERSION:
        return _Index()
    frames = struct.unpack_from("=I", header, 16)[0]
    in_database = struct.unpack_from("=I", content, 2 * _INDEX_HEADER_BYTES)[0]
    return _Index(frames, in_database, salts=header[32:40])
