"""The play itself: prove, talk, pose in vain, wait, sleep through a kill, wake up, and confirm."""

from __future__ import annotations

import asyncio
import json
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

import agora
from agora.known_relays import KnownRelays
from agora.protocol.proof import sign_proof
from demo.stage import Process, example, relay, scene, tell

LAST_WORD = "while no relay was there"


async def main() -> None:
    """Play all scenes in a temporary folder, then leave nothing behind."""
    with tempfile.TemporaryDirectory(prefix="agora-demo-") as folder:
        async with asyncio.timeout(120):
            await Play(Path(folder)).run()
    print("\nThat was Agora. Run one yourself: .venv/bin/agora relay, then examples/README.md")


class Play:
    """Four agents with files of their own, a relay, and Mallory, who has no key but hers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._alice, self._bob, self._carol, self._dora, self._mallory = (
            agora.Identity.generate() for _ in range(5)
        )

    async def run(self) -> None:
        """Play the scenes, one after the other."""
        scene("A relay opens, with its mailboxes on SQLite")
        async with relay(self._folder, port=0) as (url, process):
            tell("relay", f"listening on {url}")
            await self._greet(url)
            await self._the_examples_talk(url)
            await self._a_forger_fails(url)
            await self._impostors_fail(url)
            await self._a_message_waits_in_the_outbox(url)
            await self._carol_sleeps(url, process)

    @asynccontextmanager
    async def _agent(
        self, url: str, identity: agora.Identity, name: str, **options: Any
    ) -> AsyncIterator[agora.Client]:
        """Connect an agent, whose unsent messages and known relays are in files of its own."""
        async with agora.Client(
            url,
            identity,
            name=name,
            outbox=self._folder / f"{name}.outbox.sqlite3",
            known_relays=KnownRelays(self._folder / f"{name}.known-relays.json"),
            **options,
        ) as client:
            yield client

    async def _greet(self, url: str) -> None:
        """Two agents talk; the relay says what became of each message, and so does its reader."""
        scene("Alice and Bob prove their keys to the relay, and it proves its own")
        async with (
            self._agent(url, self._alice, "alice") as alice,
            self._agent(url, self._bob, "bob") as bob,
        ):
            alice.post(bob.peer_id, {"text": "hello, Bob"})
            heard = await anext(bob)
            tell("bob", f"heard {heard.text!r} from @{heard.sender[-8:]}, verified")
            bob.post(alice.peer_id, {"text": "hello, Alice"}, in_reply_to=heard.id)
            answer = await anext(alice)
            tell("alice", f"heard {answer.text!r}")
            await heard.ack()
            await answer.ack()
            receipt = alice.post(bob.peer_id, {"text": "lunch at noon?"}, confirm=True)
            await (await anext(bob)).ack()
            tell("alice", f"{'lunch at noon?':<26} receipt: {await receipt.settled(10)}")
            tell("alice", f"and Bob has signed that it is {await receipt.confirmed(10)}")

    async def _the_examples_talk(self, url: str) -> None:
        """The three scripts of examples/, each in a process and a folder of its own."""
        scene("The three examples join, greet whom they see, and hear a broadcast")
        scripts = ("agora_example.py", "agora_minimal.py", "agora_20_line.py")
        async with (
            self._agent(url, agora.Identity.generate(), "crier", receive=False) as crier,
            AsyncExitStack() as stage,
        ):
            running = [
                await stage.enter_async_context(example(script, url, self._folder))
                for script in scripts
            ]
            await _peers_have_joined(crier, len(scripts))
            tell("crier", "broadcasts: market opens at nine")
            await crier.broadcast({"text": "market opens at nine"})
            for script in running:
                await script.line("market opens at nine")

    async def _a_forger_fails(self, url: str) -> None:
        """Nobody speaks for a key without it: not by passing on what another has signed."""
        scene("Mallory has an envelope of Alice's, and sends it on with another sum")
        signed = agora.seal(self._alice, type="publish", payload={"pay": 10}, to=self._bob.peer_id)
        forged = signed.to_dict() | {"payload": {"pay": 10_000}}
        async with connect(url) as wire:
            await _ask(wire, {"type": "register", "publicKey": self._mallory.peer_id})
            message = {"type": "message", "to": self._bob.peer_id, "envelope": forged}
            _tell_refusal(await _ask(wire, message))

    async def _impostors_fail(self, url: str) -> None:
        """A key is public, so anybody may claim it; to prove it takes the private half."""
        scene("Mallory claims to be Alice: without a proof, then with one of her own")
        claim = {"type": "register", "publicKey": self._alice.peer_id}
        async with connect(url) as wire:
            _tell_refusal(await _ask(wire, claim))
        async with connect(url) as wire:
            nonce = secrets.token_hex(32)
            challenge = await _ask(wire, claim | {"protocol": 1, "nonce": nonce})
            proof = sign_proof(
                self._mallory,
                audience=url.removeprefix("ws://"),
                nonce=challenge["nonce"],
                relay=challenge["relay"],
            )
            _tell_refusal(await _ask(wire, {"type": "authenticate", "signature": proof}))

    async def _a_message_waits_in_the_outbox(self, url: str) -> None:
        """Nobody has seen Dora's key yet: the relay keeps nothing for it, Alice's client does."""
        scene("Dora was never here; Alice's client keeps her message until she comes")
        async with self._agent(url, self._alice, "alice") as alice:
            receipt = await alice.send(self._dora.peer_id, {"text": "are you there?"})
            what = f"receipt: {receipt.status} ({receipt.why})"
            tell("alice", f"{'are you there?':<26} {what}")
            async with self._agent(url, self._dora, "dora") as newcomer:
                heard = await anext(newcomer)
                tell("dora", f"comes, and hears {heard.text!r}")
                await heard.ack()
                tell("alice", f"receipt is now: {await receipt.settled(10)}")

    async def _carol_sleeps(self, url: str, process: Process) -> None:
        """What has a receipt outlives the relay; what has none yet, Alice's own client keeps."""
        scene("Carol proves her key once, and sleeps; from now on she has a mailbox")
        async with self._agent(url, self._carol, "carol"):
            tell("carol", "was here, and is gone")
        async with self._agent(url, self._alice, "alice") as alice:
            carol = self._carol.peer_id
            for text in ("first things first", "then the second"):
                receipt = await alice.send(carol, {"text": text})
                tell("alice", f"{text:<26} receipt: {receipt.status}")

            scene("The relay is killed with SIGKILL, and started again")
            await process.die()
            tell("relay", "is no more")
            last = await alice.send(carol, {"text": LAST_WORD}, confirm=True)
            tell("alice", f"{LAST_WORD:<26} receipt: {last.status}, in her outbox")
            async with relay(self._folder, port=int(url.rpartition(":")[2])):
                tell("relay", "is back on the same data directory, with the same key")
                tell("alice", f"receipt is now: {await last.settled(30)}")
                await self._carol_wakes(url, last)

    async def _carol_wakes(self, url: str, last: agora.Receipt) -> None:
        scene("Carol wakes up")
        async with self._agent(url, self._carol, "carol") as carol:
            async for message in carol:
                tell("carol", f"finds {message.text!r} in her mailbox")
                if message.text == LAST_WORD:
                    await message.ack()
                    break
            tell("alice", f"Carol has signed that the last is {await last.confirmed(10)}")


async def _peers_have_joined(client: agora.Client, count: int) -> None:
    """Wait until *count* peers are online."""
    events = client.events()  # from here on, so that none is missed
    while len(client.peers) < count:
        await anext(events)


async def _ask(wire: ClientConnection, frame: dict[str, Any]) -> dict[str, Any]:
    """Write a frame by hand, and return what the relay makes of it."""
    await wire.send(json.dumps(frame))
    answer: dict[str, Any] = json.loads(await wire.recv())
    return answer


def _tell_refusal(answer: dict[str, Any]) -> None:
    tell("relay", f"{answer['code']}: {answer['message']}")


if __name__ == "__main__":
    asyncio.run(main())
