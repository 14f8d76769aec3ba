"""Every mailbox keeps the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from agora.mailbox import Mailbox, MailboxBounds, MemoryMailbox, SqliteMailbox
from agora.testing.conformance import MailboxContract


class TestMemoryMailbox(MailboxContract):
    def new_mailbox(self, bounds: MailboxBounds) -> Mailbox:
        return MemoryMailbox(bounds)


class TestSqliteMailbox(MailboxContract):
    @pytest.fixture(autouse=True)
    def _in_a_folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "mailbox.sqlite3"

    def new_mailbox(self, bounds: MailboxBounds) -> Mailbox:
        return SqliteMailbox(self.path, bounds)
