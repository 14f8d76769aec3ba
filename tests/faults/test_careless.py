"""The ledger, tried on a relay that is right, and on ones that are wrong in one way each."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults.careless import Fault
from tests.faults.ledger import Event, Verdict
from tests.faults.speaker import DEADLINE
from tests.faults.stage import Cast, Target, careless_relay, free_port, parts, until


async def played(fault: Fault, folder: Path) -> Verdict:
    """Let one recipient be there and another one come late, when the relay has been killed."""
    port = free_port()
    target = Target(careless_relay(port, folder / "relay", fault), port, folder / "log")
    late, *others = parts(target.url, folder, senders=2, recipients=2, seed=7, messages=20)
    before, behind = Cast(others), Cast([late, *others])
    try:
        await target.start()
        async with before.playing(), asyncio.timeout(DEADLINE):
            await until(lambda: before.count(Event.RECEIPT) >= 80)
        await target.kill()
        await target.start()
        async with behind.playing():
            return await behind.finish(patience=2.0)
    finally:
        await target.kill()


async def test_a_relay_that_is_right_is_found_to_be_right(tmp_path: Path) -> None:
    verdict = await played(Fault.NOTHING, tmp_path)

    assert verdict.violations == ()
    assert verdict.counts["messages"] == verdict.counts["handed over"] == 80
    assert verdict.counts["receipt stored"] >= 40


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.STORES_IN_MEMORY, "lost"),
        (Fault.TRUSTS_THE_SOCKET, "false"),
        (Fault.NEWEST_FIRST, "overtaken"),
        (Fault.ANSWERS_TWICE, "answered twice"),
        (Fault.CHANGES_MEMBERS, "changed"),
    ],
)
async def test_a_relay_that_is_wrong_is_found_out(fault: Fault, kind: str, tmp_path: Path) -> None:
    verdict = await played(fault, tmp_path)

    assert {violation.split(":")[0] for violation in verdict.violations} == {kind}
