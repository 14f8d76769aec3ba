"""A ledger under kills: what has a receipt arrives, in order, once, and nothing is invented."""

from __future__ import annotations

import asyncio
import random
import socket
from pathlib import Path
from typing import Any

import pytest

from agora.client import Client, Receipt, Status
from agora.keys import KeyPair
from tests.relay.process import relay_process
from tests.support import DEADLINE, agent, eventually


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


class Ledger:
    """One sender that counts, one recipient that notes, and what each of them knows."""

    def __init__(self, sender: Client, recipient: Client) -> None:
        self.receipts: list[Receipt] = []
        self.received: list[Any] = []
        self._sender = sender
        self._recipient = recipient

    async def send(self) -> None:
        """Send number after number, ten at a time, until cancelled."""
        to = self._recipient.peer_id
        while True:
            numbers = range(len(self.receipts), len(self.receipts) + 10)
            self.receipts += await asyncio.gather(*(self._sender.send(to, n) for n in numbers))
            for receipt in self.receipts[-10:]:
                await receipt.settled()

    async def receive(self) -> None:
        """Note what comes, until cancelled."""
        async for message in self._recipient:
            self.received.append(message.payload)


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(4, id="short"),
        pytest.param(100, id="long", marks=[pytest.mark.long, pytest.mark.timeout(600)]),
    ],
)
async def test_a_relay_killed_again_and_again_loses_nothing_that_has_a_receipt(
    kills: int, tmp_path: Path
) -> None:
    chance, sleeper, port = random.Random(3), KeyPair.generate(), free_port()
    url = f"ws://127.0.0.1:{port}"
    settings: dict[str, Any] = {
        "port": port,
        "data_dir": tmp_path,
        "storage_peers": (sleeper.peer_id,),
        "rate_limit_enabled": False,
    }
    alice = agent(url, connect_timeout=0, rate_limit=None)
    bob = agent(url, sleeper, connect_timeout=0)
    ledger = Ledger(alice, bob)

    async with alice, bob, asyncio.TaskGroup() as group:
        receiving = group.create_task(ledger.receive())
        sending = group.create_task(ledger.send())
        for _ in range(kills):
            async with relay_process(**settings) as relay:
                await eventually(lambda: alice.is_connected and bob.is_connected)
                await asyncio.sleep(chance.random() * 0.2)  # the relay's life
                await relay.kill()
        sending.cancel()
        async with relay_process(**settings), asyncio.timeout(DEADLINE):
            await eventually(lambda: alice.outbox == ())
            assert {await receipt.settled() for receipt in ledger.receipts} == {Status.SENT}
            last = await alice.send(sleeper.peer_id, "last")
            assert last.status is Status.SENT
            await eventually(lambda: ledger.received[-1:] == ["last"])
        receiving.cancel()

    sent = len(ledger.received) - 1
    assert ledger.received == [*range(sent), "last"]
    assert sent in {len(ledger.receipts), len(ledger.receipts) + 10}  # ten may be cancelled
