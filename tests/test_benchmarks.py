"""The scripts that measure do what they say; what they find is no matter here."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from benchmarks.mailbox import measure


def test_the_cost_of_a_mailbox_is_measured(tmp_path: Path) -> None:
    figures = measure(tmp_path, 100, batch=16)

    assert figures.waiting == 100
    assert [name for name, value in asdict(figures).items() if value <= 0] == []
