"""
What a damaged mailbox file still holds, put into a sound one.

The one rule: nothing is passed on that nobody signed (:mod:`agora.mailbox.genuine`).
An envelope that does not open, or is not the one its row says, is left out and
counted; of an opaque one only the row's checksum can tell.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from agora.keys import PeerId, is_peer_id
from agora.mailbox.base import AlreadyStoredError, Mailbox
from agora.mailbox.carving import Row, Value, carve
from agora.mailbox.genuine import HIGHEST_POSITION, is_genuine
from agora.mailbox.rows import is_sound, mail_of
from agora.mailbox.wal import read_log
from agora.protocol.relay.actions import Mail

__all__ = ["Rescued", "rescue"]


@dataclass(frozen=True, slots=True)
class Rescued:
    """
    How much of what was kept is kept again.

    Attributes:
        mail: Messages that wait again.
        dead_letters: Messages that had been given up.
        pins: Keys that are known to have proven themselves.
        damaged: Messages that were found, and were not what their sender had signed.
    """

    mail: int = 0
    dead_letters: int = 0
    pins: int = 0
    damaged: int = 0


def rescue(database: Path, into: Mailbox, *, now_ms: int) -> Rescued:
    """
    Copy what can be read of the file at *database*, of any schema there was, and commit it.

    Args:
        database: The damaged file, with its log beside it; it is left as it is.
        into: An empty mailbox; its bounds refuse nothing.
        now_ms: What to take for a moment that is damaged.
    """
    counts = Counter[str]()
    taken: set[int] = set()
    for row in carve(database, read_log(database)):
        if kept := _keep(row, into, now_ms, taken):
            counts[kept] += 1
    into.commit()
    return Rescued(**counts)


def _keep(row: Row, into: Mailbox, now_ms: int, taken: set[int]) -> str | None:
    """
    Put a row where it belongs; return what it counts as, if it is one of ours.

    A position in *taken* was found before: this is of an older page.
    """
    match row.values:
        case (str(peer), int(moment)) if is_peer_id(peer):
            into.pin(peer, now_ms=_moment(moment, now_ms))
            return "pins"
        case ("mail", int(position)) if 0 < position < HIGHEST_POSITION:
            _remember_position(position, into)
        case (None, *_) if len(row.values) in _COLUMNS_OF_MAIL:
            return _keep_mail(row, into, now_ms, taken)
    return None


_COLUMNS_OF_MAIL = (8, 11, 12, 13)
"""How many mail has in schema 1 and 2, a dead letter, and mail in schema 3."""

_HASHES = 2
"""How many columns at the end of mail in schema 3 tell nothing."""


def _keep_mail(row: Row, into: Mailbox, now_ms: int, taken: set[int]) -> str | None:
    values = row.values[:-_HASHES] if len(row.values) == _COLUMNS_OF_MAIL[-1] else row.values
    columns = (row.rowid, *values[1:], *(0, 0, None, None)[len(values) - 8 :])
    stored_ms, _, nacks, its_checksum, died_ms = columns[7:]
    mail = mail_of(columns)
    if not _is_genuine(mail, (*columns[:9], its_checksum)):
        return "damaged"
    if mail.position in taken:
        return None
    try:
        into.put(mail, now_ms=_moment(stored_ms, now_ms), is_owed=True)
    except AlreadyStoredError:
        return None
    taken.add(mail.position)
    if isinstance(nacks, int):
        _nack_again(mail, min(nacks, _MOST_NACKS), into)
    if died_ms is None:
        return "mail"
    into.bury(mail.recipient, [mail.position], now_ms=_moment(died_ms, now_ms))
    return "dead_letters"


_MOST_NACKS = 100
"""More is damage: a message is given up long before."""


def _nack_again(mail: Mail, times: int, into: Mailbox) -> None:
    for _ in range(times):
        into.nack(mail.recipient, [mail.envelope_id], max_nacks=_MOST_NACKS)


def _moment(value: object, now_ms: int) -> int:
    return value if isinstance(value, int) and 0 <= value <= now_ms else now_ms


def _remember_position(position: int, into: Mailbox) -> None:
    """Let *position* have been given: that outlives the mail that has it."""
    if position <= into.last_position():
        return
    nobody = Mail("nobody", PeerId("nobody"), "", "", position=position)
    into.put(nobody, now_ms=0, is_owed=True)
    into.remove(nobody.recipient, [position])


def _is_genuine(mail: Mail, row: tuple[Value, ...]) -> bool:
    if not is_genuine(mail):
        return False
    if mail.envelope_id:
        return True
    is_of_schema_1 = row[-1] is None  # which had no checksums
    return isinstance(row[5], str) if is_of_schema_1 else is_sound(row)
