"""
A relay whose disk fails now and then, as disks do: ``python -m tests.faults.failing_relay SEED …``.

It is ``agora relay`` with the flags that follow, but for the commits of its
mailbox: some fail with nothing written, and some are the last thing that the
process does, so that nobody is told of what is there. Then it begins anew, in the
same process: nobody else would start it while the play comes to its end.
"""

from __future__ import annotations

import os
import random
import sqlite3
import sys
import threading

from agora.cli import main
from agora.mailbox import SqliteMailbox

__all__: list[str] = []

_FAILING = 0.1
"""How many of all commits fail."""

_DEADLY = 0.01
"""How many are followed by the end."""


def _let_commits_fail(seed: int) -> None:
    chance = random.Random(seed)
    commit = SqliteMailbox.commit

    def failing_commit(self: SqliteMailbox) -> bool:
        # Those of a relay that serves: one that cannot open its file says so, and does not start.
        is_serving = threading.current_thread().name == "agora-mailbox"
        fate = chance.random() if is_serving else 0.5
        if fate < _FAILING:
            raise sqlite3.OperationalError("disk I/O error")
        has_written = commit(self)
        if fate > 1 - _DEADLY:
            # As sudden as a kill: threads end where they are, and every file is closed.
            again = [sys.executable, "-m", "tests.faults.failing_relay", str(seed + 1)]
            os.execv(sys.executable, [*again, *sys.argv[1:]])
        return has_written

    SqliteMailbox.commit = failing_commit  # type: ignore[method-assign]


if __name__ == "__main__":
    _let_commits_fail(int(sys.argv.pop(1)))
    main()
