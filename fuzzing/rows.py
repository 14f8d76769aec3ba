"""Any bytes in a mailbox file: the relay opens it, and brings what was stored or nothing of it."""

from __future__ import annotations

import logging
import sqlite3
import tempfile
from collections.abc import Hashable
from contextlib import closing
from pathlib import Path

from agora.errors import ConfigurationError
from agora.keys import KeyPair
from agora.mailbox import MailboxBounds
from agora.mailbox.opening import MAILBOX_FILE, open_mailbox
from agora.protocol.relay.actions import Mail
from fuzzing.material import KEYS, envelopes
from fuzzing.mutation import main

__all__ = ["CORPUS", "TOKENS", "target"]

TOKENS = [b"\x00", b"\xff" * 8, b"\x0d", b"\x05", b"mail", b"SQLite format 3\x00", b"DELETE", b"'"]

_BOUNDS = MailboxBounds(max_messages=1_000, max_bytes=1 << 20)
_RECIPIENT = KeyPair.from_seed(b"other".ljust(32, b"\0")).peer_id
_STORED = {envelope.id: envelope.wire_text for envelope in envelopes()}


def _database() -> bytes:
    """Return a mailbox file with mail in it, all folded into the one file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        mailbox = open_mailbox(path, _BOUNDS).mailbox
        for position, (identifier, text) in enumerate(_STORED.items(), start=1):
            mail = Mail(_RECIPIENT, KEYS.peer_id, identifier, text, position=position)
            mailbox.put(mail, now_ms=1)
        mailbox.pin(KEYS.peer_id, now_ms=1)
        mailbox.commit()
        mailbox.close()
        with closing(sqlite3.connect(path / MAILBOX_FILE)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return (path / MAILBOX_FILE).read_bytes()


CORPUS = [_database()]


def target(data: bytes) -> Hashable:
    """Hold the invariant to *data*."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / MAILBOX_FILE).write_bytes(data)
        try:
            opened = open_mailbox(Path(folder), _BOUNDS)
        except ConfigurationError as error:
            return str(error).partition(folder)[2][:40]
        with closing(opened.mailbox) as mailbox:
            page = mailbox.page(_RECIPIENT, after=0, max_messages=1_000, max_bytes=1 << 20)
            for mail in page.mail:
                assert mail.text == _STORED.get(mail.envelope_id), "nobody stored this"
            assert mailbox.pins() == (KEYS.peer_id,) or opened.accident, "so is a missing pin"
            is_told = opened.accident or any(dead.is_damaged for dead in mailbox.dead_letters())
            assert len(page.mail) == len(_STORED) or is_told, "what is missing is told"
            mailbox.put(_one_more(mailbox.last_position()), now_ms=2)
            mailbox.commit()
        return opened.accident is not None, len(page.mail)


def _one_more(after: int) -> Mail:
    """Return new mail, for a mailbox must be of use again."""
    return Mail(_RECIPIENT, KEYS.peer_id, "ab" * 32, "{}", position=after + 1)


if __name__ == "__main__":
    logging.disable()  # that mail is damaged is what this is about
    main(target, CORPUS, tokens=TOKENS)
