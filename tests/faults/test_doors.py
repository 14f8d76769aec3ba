"""Agents at both doors of a relay that is restarted and killed under them, in real processes."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from agora.client import Client
from agora.keys import KeyPair, PeerId
from tests.faults.agents import TIMING
from tests.faults.stage import PATIENCE, Target, free_port, relay_command
from tests.relay.http.talking import HttpPeer
from tests.support import agent

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM is no goodbye there")


_PACE = 0.2
"""Seconds between two messages of one agent to each of the others."""

_MOST_WAITING = 200
"""Messages in its outbox with which an agent makes no new ones."""


@dataclass
class Play:
    """Who writes to whom, and what of it came."""

    peers: list[PeerId] = field(default_factory=list)
    accepted: set[tuple[str, int, str]] = field(default_factory=set)
    came: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    is_over: bool = False

    def others(self, own: PeerId) -> list[PeerId]:
        """Return all whom one writes to."""
        return [peer for peer in self.peers if peer != own]

    @property
    def has_all(self) -> bool:
        """Whether all came that was accepted."""
        return self.accepted <= self.came.keys()


# With our client


async def client_sends(client: Client, play: Play) -> None:
    """Send number after number to everyone; each is accepted when its receipt says so."""

    async def send(to: PeerId, number: int) -> None:
        await client.post(to, number).settled()
        play.accepted.add((client.peer_id, number, to))

    async with asyncio.TaskGroup() as group:
        for number in itertools.count():
            if play.is_over:
                return
            for to in play.others(client.peer_id) if len(client.outbox) < _MOST_WAITING else ():
                group.create_task(send(to, number))
            await asyncio.sleep(_PACE)


async def client_receives(client: Client, play: Play) -> None:
    """Note what comes."""
    async for message in client:
        assert isinstance(message.payload, int)
        play.came[message.sender, message.payload, client.peer_id] += 1


# With HTTP alone


class Careful(HttpPeer):
    """An agent written from the API's document: it asks again until it is answered."""

    async def insist(self, ask: Callable[[], Awaitable[httpx2.Response]]) -> dict[str, Any]:
        """Return what is answered in the end; who is not known registers anew."""
        while True:
            with suppress(httpx2.HTTPError):
                answer = await ask()
                if answer.is_success:
                    return dict(answer.json())
                assert answer.status_code in (401, 409, 503), answer.text
                if answer.status_code == 401:
                    await self.register()
            await asyncio.sleep(0.02)

    async def sends(self, play: Play) -> None:
        """Send number after number to everyone, the same envelope until there is a receipt."""
        for number in itertools.count():
            if play.is_over:
                return
            for to in play.others(self.id):
                body = {"envelope": self.letter(to, number).to_dict()}
                told: dict[str, Any] = {}
                while not told.get("receipts"):
                    told = await self.insist(partial(self.ask, "POST", "/v1/send", json=body))
                play.accepted.add((self.id, number, to))

    async def receives(self, play: Play) -> None:
        """Note what comes and was not handled before, and ack it."""
        handled: set[str] = set()
        while True:
            told = await self.insist(partial(self.ask, "GET", "/v1/messages?wait=1"))
            for envelope in (one["envelope"] for one in told["messages"]):
                if envelope["id"] not in handled:
                    handled.add(envelope["id"])
                    play.came[envelope["from"], envelope["payload"], self.id] += 1
            ids = {"ids": [one["envelope"]["id"] for one in told["messages"]]}
            if ids["ids"]:
                await self.insist(partial(self.ask, "POST", "/v1/ack", json=ids))


async def run(folder: Path, ends: list[str], *, between: float) -> Play:
    """Have all write to all while the relay ends in these ways, one after the other."""
    play, port, http_port = Play(), free_port(), free_port()
    url = f"http://127.0.0.1:{http_port}"
    command = relay_command(
        port, folder / "relay", http_port=http_port, rate_limit_enabled=False, ack_timeout=0.5
    )
    target = await Target(command, port, folder / "relay.log").start()
    try:
        async with AsyncExitStack() as stack, httpx2.AsyncClient(timeout=10) as http:
            clients = [
                await stack.enter_async_context(agent(one, timing=TIMING))
                for one in (target.url, target.url, url, url)
            ]
            careful = Careful(url, http, KeyPair.generate())
            await careful.register()
            play.peers = [*(client.peer_id for client in clients), careful.id]
            async with asyncio.TaskGroup() as group:
                readers = [group.create_task(client_receives(one, play)) for one in clients]
                readers.append(group.create_task(careful.receives(play)))
                senders = [group.create_task(client_sends(one, play)) for one in clients]
                senders.append(group.create_task(careful.sends(play)))
                for end in ends:
                    await asyncio.sleep(between)
                    await (target.stop() if end == "SIGTERM" else target.kill())
                    await target.start()
                await asyncio.sleep(between)
                play.is_over = True
                async with asyncio.timeout(PATIENCE):
                    await asyncio.gather(*senders)
                    while not play.has_all:  # noqa: ASYNC110  # no agent knows of the others
                        await asyncio.sleep(0.02)
                for reader in readers:
                    reader.cancel()
    finally:
        await target.kill()
    assert target.faults() == []
    return play


async def test_at_both_doors_each_message_arrives_once_over_a_restart_and_a_kill(
    tmp_path: Path,
) -> None:
    play = await run(tmp_path, ["SIGTERM", "SIGKILL"], between=0.3)

    assert set(play.came) == play.accepted
    assert set(play.came.values()) == {1}
    assert {(sender, to) for sender, _, to in play.came} == set(
        itertools.permutations(play.peers, 2)
    )


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_at_both_doors_each_message_arrives_once_over_many_of_them(tmp_path: Path) -> None:
    play = await run(tmp_path, ["SIGTERM", "SIGKILL"] * 8, between=2.0)

    assert set(play.came) == play.accepted
    assert set(play.came.values()) == {1}
