"""
Mail as a row of a file, and the checksum that tells whether it is still what was put.

SQLite has no checksums of its own: a bit that flips inside a cell leaves a file that
is sound in its eyes, with other mail in it. CRC-32 notices every change within 32
bits, and all but one in four billion of the others; it is no guard against malice.

The one rule: whatever is in a row, this raises nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any
from zlib import crc32

from agora.keys import PeerId
from agora.protocol.relay.actions import Mail

__all__ = [
    "COLUMNS",
    "checksum_of_stored",
    "decode",
    "hash_of_id",
    "hash_of_recipient",
    "is_sound",
    "mail_of",
    "row_of",
    "sound_mail_of",
]

COLUMNS = "position, recipient, sender, envelope_id, name, text, size, stored_ms, confirm, checksum"
"""What is read of a row; nacks and hashes are not, and the checksum is over those before it."""

_Row = Sequence[Any]


def row_of(mail: Mail, size: int, now_ms: int) -> tuple[object, ...]:
    """Return the ``COLUMNS`` of *mail*."""
    columns = (
        mail.position,
        mail.recipient,
        mail.sender,
        mail.envelope_id,
        mail.name,
        mail.text,
        size,
        now_ms,
        int(mail.confirm),
    )
    return (*columns, _checksum(columns))


@lru_cache(maxsize=4096)
def hash_of_recipient(recipient: str | bytes) -> int:
    """
    Return a number of 6 bytes for a recipient, to be looked up by in place of 88 letters.

    Nothing relies on it being another for another recipient. It is a cryptographic hash
    as whoever could make keys of one hash would slow down the reading of another's mail.
    """
    return int.from_bytes(_digest(recipient))


def hash_of_id(recipient: str | bytes, envelope_id: str | bytes) -> int:
    """
    Return a number of 8 bytes for an id of one recipient's mail.

    The first three are of the recipient, so that the entries of one mailbox lie together
    in an index, as what is put and what is removed at one time is of few of them.
    """
    return hash_of_recipient(recipient) >> 25 << 40 | int.from_bytes(_digest(envelope_id)[:5])


def _digest(text: str | bytes) -> bytes:
    return blake2b(text.encode() if isinstance(text, str) else text, digest_size=6).digest()


def checksum_of_stored(*columns: object) -> int:
    """Return the checksum of a row that has none, text given as bytes; -1 where it is not UTF-8."""
    try:
        return _checksum(
            [column.decode() if isinstance(column, bytes) else column for column in columns]
        )
    except UnicodeDecodeError:
        return -1  # which fits nothing


def is_sound(row: _Row) -> bool:
    """Tell whether a row that begins with ``COLUMNS`` is what was put."""
    return bool(_checksum(row[:9]) == row[9])


def sound_mail_of(row: _Row) -> Mail | None:
    """Return the mail of a row that begins with ``COLUMNS``, at the least cost; None if damaged."""
    if not is_sound(row):
        return None
    # Named by place, and not asked for their types: what is sound has those it was put with.
    return Mail(row[1], row[2], row[3], row[5], row[4], row[0], row[8] == 1, row[7])


def _checksum(columns: _Row) -> int:
    # A text that one bit made a blob, of the same bytes, is another here: b'…'.
    position, recipient, sender, envelope_id, name, text, size, stored_ms, confirm = columns
    head = f"{position}\0{recipient}\0{sender}\0{envelope_id}\0{name}"
    return crc32(f"{head}\0{text}\0{size}\0{stored_ms}\0{confirm}".encode())


def mail_of(row: _Row) -> Mail:
    """Return the mail of a row that begins with ``COLUMNS``; of a damaged one, what can be read."""
    position, recipient, sender, envelope_id, name, text, _, stored_ms, confirm = row[:9]
    return Mail(
        _text(recipient),
        PeerId(_text(sender)),
        _text(envelope_id),
        _text(text),
        None if name is None else _text(name),
        position,
        bool(confirm),
        stored_ms if isinstance(stored_ms, int) else 0,
    )


def _text(column: object) -> str:
    return decode(column) if isinstance(column, bytes) else str(column)


def decode(content: bytes) -> str:
    """Return the text of a cell, also where it is not UTF-8: then no checksum fits it any more."""
    return content.decode(errors="replace")
