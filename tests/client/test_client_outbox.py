"""The outbox on disk: what was given to ``send`` outlives the client, and goes out once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from agora.client.store import StoreInUseError
from agora.errors import NotConnectedError
from agora.keys import KeyPair
from agora.relay import Relay
from tests.client.talking import TAKEN
from tests.support import DEADLINE, agent, eventually

NOBODY = "ws://127.0.0.1:1"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.sqlite3"


async def test_what_waited_goes_out_with_the_next_client_in_order(relay: Relay, path: Path) -> None:
    keys = KeyPair.generate()

    async with agent(relay.url) as bob:
        async with agent(NOBODY, keys, outbox=path, connect_timeout=0) as alice:
            for number in range(20):
                await alice.send(bob.peer_id, number)
        async with agent(relay.url, keys, outbox=path) as alice:
            receipts = alice.outbox

            assert [(await anext(bob)).payload for _ in range(20)] == list(range(20))
            assert await receipts[0].settled(DEADLINE) in TAKEN


async def test_what_was_settled_does_not_go_out_again(relay: Relay, path: Path) -> None:
    keys = KeyPair.generate()

    async with agent(relay.url) as bob:
        async with agent(relay.url, keys, outbox=path) as alice:
            receipt = alice.post(bob.peer_id, 1)
            await (await anext(bob)).ack()
            assert await receipt.settled(DEADLINE) in TAKEN
        async with agent(relay.url, keys, outbox=path) as alice:
            assert alice.outbox == ()
            alice.post(bob.peer_id, 2)
            assert (await anext(bob)).payload == 2


async def test_what_was_read_is_not_read_again_by_the_next_client(path: Path) -> None:
    keys, relay_keys = KeyPair.generate(), KeyPair.generate()

    async with Relay(port=0, identity=relay_keys) as relay, agent(relay.url) as alice:
        async with agent(relay.url, keys, outbox=path) as bob:
            receipt = alice.post(keys.peer_id, "once")
            message = await anext(bob)
            await message.ack()
            await receipt.settled(DEADLINE)
            envelope = message.envelope
        async with agent(relay.url, keys, outbox=path) as bob:
            assert bob._intake.take(envelope) is False


async def test_a_message_given_to_send_survives_a_kill(relay: Relay, path: Path) -> None:
    seed = bytes(range(32))
    script = (
        "import agora, asyncio, sys\n"
        "async def main():\n"
        f"    keys = agora.keys.KeyPair.from_seed({seed!r})\n"
        f"    me = agora.Client({NOBODY!r}, keys, outbox={str(path)!r}, connect_timeout=0)\n"
        "    await me.connect()\n"
        "    for number in range(3):\n"
        "        await me.send(sys.argv[1], number)\n"
        "    print('given', flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    async with agent(relay.url) as bob:
        command = [sys.executable, "-c", script, bob.peer_id]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert await process.stdout.readline() == b"given\n"
        process.kill()
        await process.communicate()
        async with agent(relay.url, KeyPair.from_seed(seed), outbox=path):
            assert [(await anext(bob)).payload for _ in range(3)] == [0, 1, 2]


async def test_two_clients_do_not_share_an_outbox(relay: Relay, path: Path) -> None:
    keys = KeyPair.generate()

    async with agent(relay.url, keys, outbox=path):
        other = agent(relay.url, keys, outbox=path)
        with pytest.raises(StoreInUseError):
            await other.connect()
        await other.close()


async def test_nothing_is_sent_before_the_outbox_is_open(path: Path) -> None:
    me = agent(NOBODY, outbox=path)

    with pytest.raises(NotConnectedError, match="connect first"):
        await me.send(me.peer_id, "x")
    assert me.outbox == ()


async def test_a_request_is_not_asked_by_the_next_client(relay: Relay, path: Path) -> None:
    keys = KeyPair.generate()

    async with agent(NOBODY, keys, outbox=path, connect_timeout=0) as alice:
        asking = asyncio.get_running_loop().create_task(alice.request(keys.peer_id, "?"))
        await eventually(lambda: len(alice.outbox) == 1)
        asking.cancel()
        await asyncio.wait([asking])
    async with agent(relay.url, keys, outbox=path) as alice:
        assert alice.outbox == ()
