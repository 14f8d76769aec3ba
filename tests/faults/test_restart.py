"""A relay that is restarted under clients that go on sending, in real processes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.restart import measure

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM is no goodbye there")


@pytest.mark.parametrize("is_activated", [False, True])
async def test_over_a_restart_each_message_arrives_once_and_in_order(
    tmp_path: Path, is_activated: bool
) -> None:
    seen = await measure(
        pairs=4,
        restarts=1,
        rate=100,
        folder=tmp_path,
        is_activated=is_activated,
        between=0.3,
    )

    assert (seen.lost, seen.repeated, seen.disordered) == (0, 0, 0)
    assert seen.sent > 200


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_over_many_restarts_too_and_with_more_clients(tmp_path: Path) -> None:
    seen = await measure(pairs=100, restarts=10, rate=5, folder=tmp_path)

    assert (seen.lost, seen.repeated, seen.disordered) == (0, 0, 0)
