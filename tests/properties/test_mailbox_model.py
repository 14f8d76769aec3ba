"""Every mailbox does what the model does."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from hypothesis.stateful import run_state_machine_as_test

from agora.mailbox import Mailbox, MailboxBounds, MemoryMailbox, SqliteMailbox
from agora.testing.mailbox_model import mailbox_machine


def test_a_mailbox_in_memory_does_what_the_model_does() -> None:
    run_state_machine_as_test(mailbox_machine(MemoryMailbox))


def test_a_mailbox_in_a_file_does_what_the_model_does(tmp_path: Path) -> None:
    numbers = count()
    paths: dict[Mailbox, Path] = {}

    def opened(path: Path, bounds: MailboxBounds) -> Mailbox:
        mailbox = SqliteMailbox(path, bounds)
        paths[mailbox] = path
        return mailbox

    def reopened(mailbox: Mailbox, bounds: MailboxBounds) -> Mailbox:
        mailbox.close()
        return opened(paths[mailbox], bounds)

    run_state_machine_as_test(
        mailbox_machine(
            lambda bounds: opened(tmp_path / f"{next(numbers)}.sqlite3", bounds), reopen=reopened
        )
    )
