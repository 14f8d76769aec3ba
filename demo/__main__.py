"""The play itself: register, greet, broadcast, go, come back, find mail; and one forger."""

from __future__ import annotations

import asyncio
import json
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from websockets.asyncio.client import connect

import agora
from agora.client import Status
from demo.stage import example, relay, scene, tell

LAST_WORD = "and a third"


async def main() -> None:
    """Play all scenes in a temporary folder, then leave nothing behind."""
    with tempfile.TemporaryDirectory(prefix="agora-demo-") as folder:
        async with asyncio.timeout(120):
            await play(Path(folder))
    print("\nThat was Agora. Run one yourself: .venv/bin/agora relay, then examples/README.md")


async def play(folder: Path) -> None:
    """Carol is a storage peer: the relay keeps her mail. Alice and Bob are not."""
    alice, bob, carol = (agora.Identity.generate() for _ in range(3))

    scene("A relay opens, with its mailboxes on SQLite")
    async with AsyncExitStack() as day:
        url = await day.enter_async_context(relay(folder, port=0, storage_peers=carol.peer_id))
        tell("relay", f"listening on {url}")
        await greet(url, alice, bob)
        await the_examples_talk(url, folder)
        await a_forger_fails(url, alice, bob)
        await a_message_waits_in_the_outbox(url, alice, bob)
        await mail_for_carol(url, alice, carol)

    scene("The relay is stopped, and started again")
    port = int(url.rpartition(":")[2])
    async with relay(folder, port=port, storage_peers=carol.peer_id):
        tell("relay", "back on the same data directory")
        await carol_comes_back(url, carol)


async def greet(url: str, alice: agora.Identity, bob: agora.Identity) -> None:
    """Two agents find each other by presence, and talk."""
    scene("Alice and Bob register; each message is signed by its sender")
    async with (
        agora.Client(url, alice, name="alice") as me,
        agora.Client(url, bob, name="bob") as friend,
    ):
        receipt = await me.send(bob.peer_id, {"text": "hello, Bob"})
        tell("alice", f"hello, Bob               receipt: {receipt.status}")
        message = await anext(friend)
        tell("bob", f"heard {message.text!r} from @{message.sender[-8:]}, verified")
        await message.reply({"text": "hello, Alice"})
        tell("alice", f"heard {(await anext(me)).text!r}")


async def the_examples_talk(url: str, folder: Path) -> None:
    """The three scripts of examples/, each in a process and a folder of its own."""
    scene("The three examples join, greet whom they see, and hear a broadcast")
    scripts = ("agora_example.py", "agora_minimal.py", "agora_20_line.py")
    async with AsyncExitStack() as stage, agora.Client(url, agora.Identity.generate()) as crier:
        running = [await stage.enter_async_context(example(s, url, folder)) for s in scripts]
        await peers_have_joined(crier, len(scripts))
        tell("crier", "broadcasts: market opens at nine")
        await crier.broadcast({"text": "market opens at nine"})
        for script in running:
            await script.line("market opens at nine")


async def peers_have_joined(client: agora.Client, count: int) -> None:
    """Wait until *count* peers are online; Carol is listed always, and does not count."""
    if len(client.peers) > count:
        return
    async for _ in client.events():
        if len(client.peers) > count:
            return


async def a_forger_fails(url: str, alice: agora.Identity, bob: agora.Identity) -> None:
    """Nobody speaks for a key without it: not by another's envelope, and not by changing one."""
    scene("Mallory has an envelope of Alice's, and sends it on with another sum")
    signed = agora.seal(alice, type="publish", payload={"pay": 10}, to=bob.peer_id)
    forged = signed.to_dict() | {"payload": {"pay": 10_000}}
    await refused(url, agora.Identity.generate().peer_id, bob.peer_id, forged)
    # Now Mallory claims to be Alice: her key is public, after all.
    await refused(url, alice.peer_id, bob.peer_id, forged)


async def refused(url: str, registered_as: str, to: str, envelope: object) -> None:
    """Send an envelope by hand, and tell what the relay makes of it."""
    async with connect(url) as wire:
        await wire.send(json.dumps({"type": "register", "publicKey": registered_as}))
        await wire.recv()
        await wire.send(json.dumps({"type": "message", "to": to, "envelope": envelope}))
        answer = json.loads(await wire.recv())
        tell("relay", f"{answer['message']} ({answer['code']})")


async def a_message_waits_in_the_outbox(
    url: str, alice: agora.Identity, bob: agora.Identity
) -> None:
    """Bob has no mailbox at the relay, so Alice's own client keeps what she says."""
    scene("Bob is away; Alice's client keeps her message until he comes")
    async with agora.Client(url, alice, name="alice") as me:
        receipt = await me.send(bob.peer_id, {"text": "are you there?"})
        tell("alice", f"are you there?           receipt: {receipt.status} ({receipt.why})")
        async with agora.Client(url, bob, name="bob") as friend:
            tell("bob", f"comes, and hears {(await anext(friend)).text!r}")
            tell("alice", f"receipt is now: {await receipt.settled(timeout=10)}")


async def mail_for_carol(url: str, alice: agora.Identity, carol: agora.Identity) -> None:
    """Carol is a storage peer: what is for her is committed to disk before it counts as sent."""
    scene("Carol is away too, but the relay keeps her mail")
    async with agora.Client(url, alice, name="alice") as me:
        for text in ("first things first", "then the second", LAST_WORD):
            receipt = await me.send(carol.peer_id, {"text": text})
            assert receipt.status is Status.SENT, receipt
            tell("alice", f"{text:<24} receipt: {receipt.status}")


async def carol_comes_back(url: str, carol: agora.Identity) -> None:
    """Her mail has outlived the relay's restart, in order."""
    async with agora.Client(url, carol, name="carol") as me:
        async for message in me:
            tell("carol", f"finds {message.text!r} in her mailbox")
            if message.text == LAST_WORD:
                return


if __name__ == "__main__":
    asyncio.run(main())
