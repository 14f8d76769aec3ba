"""`make demo` plays to the end, says what it promises, and leaves nothing running."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.timeout(150)
def test_the_demo_ends_by_itself_and_tells_the_whole_story() -> None:
    played = subprocess.run(
        [sys.executable, "-m", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=140
    )

    assert played.returncode == 0, played.stderr
    for promised in (
        "heard 'hello, Bob'",
        "market opens at nine",
        "(sender_mismatch)",
        "Invalid envelope: id_mismatch (invalid_envelope)",
        "queued (unknown_recipient)",
        "receipt is now: sent",
        "finds 'and a third' in her mailbox",
    ):
        assert promised in played.stdout
