"""`make demo` plays to the end, says what it promises, and leaves nothing running."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.timeout(150)
def test_the_demo_ends_by_itself_tells_the_whole_story_and_leaves_nothing_running() -> None:
    # A process group of its own: whoever were left in it could still be signalled.
    with subprocess.Popen(
        [sys.executable, "-m", "demo"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as playing:
        told, complaints = playing.communicate(timeout=140)

    assert (playing.returncode, complaints) == (0, "")
    with pytest.raises(ProcessLookupError):
        os.killpg(playing.pid, 0)
    for promised in (
        "heard 'hello, Bob'",
        "receipt: delivered",
        "Bob has signed that it is processed",
        "market opens at nine",
        "sender_mismatch: ",
        "proof_required: ",
        "proof_failed: ",
        "queued (unknown_recipient)",
        "receipt: stored",
        "receipt: queued, in her outbox",
        "receipt is now: stored",
        "finds 'first things first' in her mailbox",
        "finds 'while no relay was there' in her mailbox",
        "Carol has signed that the last is processed",
    ):
        assert promised in told
