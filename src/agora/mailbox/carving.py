"""
Rows read off the pages of a damaged SQLite file, without SQLite, which would give up.

It reads what a table's leaf pages hold, wherever they are, and needs none of
what leads to them: no header, no schema, no inner pages. What was removed is
not found again, except where the list of free pages is damaged too.

The one rule: whatever bytes are in the file, the answer is rows, perhaps none.
What they are worth is for the caller to check.

Source: SQLite, "Database File Format" sections 1.5, 1.6 and 2.1.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from agora.mailbox.wal import Log, log_path

__all__ = ["Row", "Value", "carve"]

Value = int | float | bytes | str | None
"""What a column holds; text that is not UTF-8 is bytes."""

_TABLE_LEAF = 13
_INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_CONSTANTS: dict[int, Value] = {0: None, 8: 0, 9: 1}


@dataclass(frozen=True, slots=True)
class Row:
    """One row of some table: its key, and its columns."""

    rowid: int
    values: tuple[Value, ...]


def carve(database: Path, log: Log) -> Iterator[Row]:
    """Yield every row that can be read off the file at *database* and its *log*."""
    with open(database, "rb") as file:
        if log_path(database).exists():
            with open(log_path(database), "rb") as log_file:
                yield from _carve(_Pages(file, log_file, log))
        else:
            yield from _carve(_Pages(file, file, Log(log.page_size)))


class _Pages:
    """The newest content of each page."""

    def __init__(self, file: BinaryIO, log_file: BinaryIO, log: Log) -> None:
        self._file = file
        self._log_file = log_file
        self._log = log
        self.size = log.page_size
        self._in_file = os.fstat(file.fileno()).st_size // self.size
        self.bytes = (self._in_file + len(log.pages)) * self.size

    def __contains__(self, number: int) -> bool:
        return 0 < number <= self._in_file or number in self._log.pages

    def __iter__(self) -> Iterator[int]:
        # Not up to the highest: in a damaged log a number can be anything.
        yield from range(1, self._in_file + 1)
        yield from (number for number in self._log.pages if number > self._in_file)

    def __getitem__(self, number: int) -> bytes:
        offset = self._log.pages.get(number)
        if offset is None:
            self._file.seek((number - 1) * self.size)
            return self._file.read(self.size)
        self._log_file.seek(offset)
        return self._log_file.read(self.size)


def _carve(pages: _Pages) -> Iterator[Row]:
    free = _free_pages(pages)
    for number in pages:
        if number != 1 and number not in free:  # the first holds the schema
            yield from _rows(pages, pages[number])


def _free_pages(pages: _Pages) -> set[int]:
    """Return the pages that hold nothing any more, as far as their list can be followed."""
    free: set[int] = set()
    head = pages[1]
    trunk = _number(head, 32) if head.startswith(b"SQLite format 3\0") else 0
    while trunk in pages and trunk not in free:
        free.add(trunk)
        content = pages[trunk]
        leaves = min(_number(content, 4), (pages.size - 8) // 4)
        free.update(_number(content, 8 + 4 * leaf) for leaf in range(leaves))
        trunk = _number(content, 0)
    return free


def _number(content: bytes, offset: int) -> int:
    return int.from_bytes(content[offset : offset + 4])


def _rows(pages: _Pages, page: bytes) -> Iterator[Row]:
    if len(page) < pages.size or page[0] != _TABLE_LEAF:
        return
    (cells,) = struct.unpack_from(">H", page, 3)
    for cell in range(min(cells, (pages.size - 8) // 2)):
        (start,) = struct.unpack_from(">H", page, 8 + 2 * cell)
        try:
            yield _row(pages, page, start)
        except (IndexError, ValueError):  # damaged: the next one may be sound
            continue


def _row(pages: _Pages, page: bytes, start: int) -> Row:
    size, place = _varint(page, start)
    rowid, place = _varint(page, place)
    if size > pages.bytes:
        raise ValueError("longer than the file")
    # What is longer than a page allows goes on in pages of its own (section 1.6).
    most = pages.size - 35
    local = size
    if size > most:
        least = (pages.size - 12) * 32 // 255 - 23
        local = least + (size - least) % (pages.size - 4)
        local = local if local <= most else least
    payload = page[place : place + local]
    if local < size:
        payload += _overflow(pages, _number(page, place + local), size - local)
    if len(payload) != size:
        raise ValueError("cut short")
    return Row(rowid - (1 << 64) if rowid >> 63 else rowid, tuple(_values(payload)))


def _overflow(pages: _Pages, number: int, size: int) -> bytes:
    parts: list[bytes] = []
    while size > 0:
        if number not in pages:
            raise ValueError("goes on at a page that is not there")
        content = pages[number]
        parts.append(content[4 : 4 + size])
        size -= pages.size - 4  # so that a ring of pages ends too
        number = _number(content, 0)
    return b"".join(parts)


def _values(payload: bytes) -> Iterator[Value]:
    place, types = 0, []
    end, place = _varint(payload, place)
    while place < end:
        kind, place = _varint(payload, place)
        types.append(kind)
    for kind in types:
        size = _size(kind)
        content = payload[place : place + size]
        if len(content) != size:
            raise ValueError("cut short")
        yield _value(kind, content)
        place += size


def _size(kind: int) -> int:
    if kind >= 12:
        return (kind - 12) // 2
    return 8 if kind == 7 else _INTEGER_BYTES.get(kind, 0)


def _value(kind: int, content: bytes) -> Value:
    if kind in _CONSTANTS:
        return _CONSTANTS[kind]
    if kind in _INTEGER_BYTES:
        return int.from_bytes(content, signed=True)
    if kind == 7:
        return float(struct.unpack(">d", content)[0])
    if kind < 12:
        raise ValueError("of no kind there is")
    if kind % 2 == 0:
        return content
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """Return the number at *place*, and where it ends (section 1.6: up to nine bytes)."""
    value = 0
    for byte in content[place : place + 8]:
        place += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place
    return value << 8 | content[place], place + 1
