"""
Mail as a row of a file, and the checksum that tells whether it is still what was put.

SQLite has no checksums of its own: a bit that flips inside a cell leaves a file that
is sound in its eyes, with other mail in it. CRC-32 notices every change within 32
bits, and all but one in four billion of the others; it is no guard against malice.

The one rule: whatever is in a row, this raises nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zlib import crc32

from agora.keys import PeerId
from agora.protocol.relay.actions import Mail

__all__ = ["COLUMNS", "checksum_of_stored", "decode", "is_sound", "mail_of", "row_of"]

COLUMNS = "position, recipient, sender, envelope_id, name, text, size, stored_ms, confirm, checksum"
"""What is read of a row; nacks are not, and the checksum is over those before it."""

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


def _checksum(columns: _Row) -> int:
    # A text that one bit made a blob, of the same bytes, is another here: b'…'.
    return crc32("\0".join(map(str, columns)).encode())


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
