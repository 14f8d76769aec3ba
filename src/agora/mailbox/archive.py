"""
An archive of what a relay keeps: the lines of a file, in and out.

JSON objects, one a line, told apart by ``kind``: a ``begin``, pins, mail by position,
dead letters, a ``total`` of each, and an ``end`` with a checksum of all lines before
it. So it can be written and read as it comes, and one that was cut or
changed is known at its end: whoever reads it keeps nothing before that.

The one rule: whatever is in it, reading raises nothing but an :class:`ArchiveError`
that names the line.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from hashlib import sha256
from io import BufferedReader
from typing import IO, Annotated, cast

import msgspec
from msgspec import Meta

from agora.errors import InputError

__all__ = [
    "VERSION",
    "ArchiveError",
    "ArchivedLetter",
    "ArchivedMail",
    "ArchivedPin",
    "Begin",
    "End",
    "Entry",
    "Total",
    "read_archive",
    "unpacked",
    "write_archive",
]

VERSION = 1

_FORMAT = "agora-mailbox"

_MAX_LINE_BYTES = 67_108_864
"""Longest line taken: many times the largest frame that any relay should take."""

_Moment = Annotated[int, Meta(ge=0, le=2**53 - 1)]
_Position = Annotated[int, Meta(ge=1, le=2**53 - 1)]
_Peer = Annotated[str, Meta(pattern="^[0-9a-f]{88}$")]
_Name = Annotated[str, Meta(max_length=4096)]


class ArchiveError(InputError):
    """What is no archive of mailboxes, a damaged one, or one of a newer version."""

    code = "invalid_archive"


class Begin(msgspec.Struct, tag_field="kind", tag="begin", kw_only=True, rename="camel"):
    """The first line: what this is, and when it was made."""

    format: str
    version: int
    made_ms: _Moment


class ArchivedPin(msgspec.Struct, tag_field="kind", tag="pin", kw_only=True, rename="camel"):
    """A key that has proven itself, and when."""

    peer: _Peer
    pinned_ms: _Moment


class ArchivedMail(
    msgspec.Struct,
    tag_field="kind",
    tag="mail",
    kw_only=True,
    rename={"recipient": "to", "sender": "from", "stored_ms": "storedMs"},
    omit_defaults=True,
):
    """Mail that waits: the columns of its row, and its envelope as the text that it was."""

    position: _Position
    recipient: _Peer
    sender: _Peer
    id: str
    stored_ms: _Moment
    envelope: str
    name: _Name | None = None
    confirm: bool = False
    nacks: Annotated[int, Meta(ge=0, le=1000)] = 0


class ArchivedLetter(
    ArchivedMail, tag_field="kind", tag="deadLetter", kw_only=True, rename={"died_ms": "diedMs"}
):
    """Mail that was given up, and when."""

    died_ms: _Moment


class Total(msgspec.Struct, tag_field="kind", tag="total", kw_only=True, rename="camel"):
    """
    How much there was.

    Attributes:
        damaged: How much more was in the store, and is not here: it was not what was put.
    """

    pins: int
    mail: int
    dead_letters: int
    damaged: int


class End(msgspec.Struct, tag_field="kind", tag="end"):
    """The last line: the SHA-256 of all lines before it."""

    sha256: str


Entry = ArchivedPin | ArchivedMail | ArchivedLetter

_Line = Begin | ArchivedPin | ArchivedMail | ArchivedLetter | Total | End

_decoder: msgspec.json.Decoder[_Line] = msgspec.json.Decoder(_Line)


# Out


class _Tally:
    """What has gone by: its counts, and its checksum."""

    def __init__(self) -> None:
        self._counts: dict[type[Entry], int] = {}
        self._hash = sha256()

    def add(self, line: bytes) -> None:
        self._hash.update(line)

    def count(self, entry: Entry) -> None:
        self._counts[type(entry)] = self._counts.get(type(entry), 0) + 1

    def total(self, damaged: int) -> Total:
        return Total(
            pins=self._counts.get(ArchivedPin, 0),
            mail=self._counts.get(ArchivedMail, 0),
            dead_letters=self._counts.get(ArchivedLetter, 0),
            damaged=damaged,
        )

    def end(self) -> End:
        return End(self._hash.hexdigest())


def write_archive(entries: Iterable[Entry | None], to: IO[bytes], *, made_ms: int) -> Total:
    """
    Write an archive of *entries*, and return how much it was.

    Args:
        entries: What is to be in it; None for what is too damaged to be.
        to: Where to; it is not closed.
        made_ms: The time, in milliseconds since the Unix epoch.
    """
    tally, damaged = _Tally(), 0

    def write(line: msgspec.Struct) -> None:
        text = msgspec.json.encode(line) + b"\n"
        tally.add(text)
        to.write(text)

    write(Begin(format=_FORMAT, version=VERSION, made_ms=made_ms))
    for entry in entries:
        if entry is None:
            damaged += 1
        else:
            tally.count(entry)
            write(entry)
    total = tally.total(damaged)
    write(total)
    write(tally.end())
    return total


# In


def read_archive(source: IO[bytes]) -> Iterator[Entry]:
    """
    Yield what an archive holds; when it has yielded all, the archive was whole.

    Raises:
        ArchiveError: When it is none, or not whole: forget what it has yielded.
    """
    lines = _lines(source)
    tally = _Tally()
    number, text = next(lines, (1, b""))
    _check_begin(_read(text, number))
    tally.add(text)
    total: Total | None = None
    for number, text in lines:
        match _read(text, number):
            case End() as end:
                _check_end(end, total, tally)
                if next(lines, None) is not None:
                    raise ArchiveError(f"line {number + 1}: there is more behind the end")
                return
            case Begin():
                raise ArchiveError(f"line {number}: a second beginning")
            case Total() as total:
                pass
            case entry:
                tally.count(entry)
                yield entry
        tally.add(text)
    raise ArchiveError(f"it was cut behind line {number}: its end is missing")


def _lines(source: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    number = 0
    while True:
        try:
            line = source.readline(_MAX_LINE_BYTES + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ArchiveError(f"it cannot be unpacked behind line {number}: {error}") from error
        if not line:
            return
        number += 1
        if len(line) > _MAX_LINE_BYTES:
            raise ArchiveError(f"line {number} is longer than {_MAX_LINE_BYTES} bytes")
        yield number, line


def _read(line: bytes, number: int) -> _Line:
    if not line.endswith(b"\n"):
        raise ArchiveError(f"it was cut within line {number}")
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArchiveError(f"line {number}: {error}") from error


def _check_begin(begin: _Line) -> None:
    if not isinstance(begin, Begin) or begin.format != _FORMAT:
        raise ArchiveError("line 1: that is no archive of mailboxes")
    if begin.version != VERSION:
        raise ArchiveError(
            f"it is of version {begin.version}, this one knows {VERSION}: "
            "it was made by a newer relay"
        )


def _check_end(end: End, total: Total | None, tally: _Tally) -> None:
    if end != tally.end():
        raise ArchiveError("its checksum does not fit: it was changed since it was made")
    if total is None or total != tally.total(total.damaged):
        raise ArchiveError("its counts do not fit what is in it")


def unpacked(source: BufferedReader) -> IO[bytes]:
    """Return *source*, or what it is when unpacked where it is a gzip file."""
    is_packed = source.peek(2)[:2] == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(source)) if is_packed else source
