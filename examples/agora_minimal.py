"""
A peer to read in one go: it greets the peers it sees, answers greetings, and prints what comes.

What goes over the WebSocket is written out here, one function for each thing that
happens; the SDK signs (`agora.seal`) and verifies (`agora.open_envelope`). There is a
new key at every start. When the relay is not there, or no longer there, the program
says so and ends with exit code 1: agora_example.py is the one that comes back.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

import agora
from agora.keys import PeerId, is_peer_id
from agora.text import extract_text, printable_line

RELAY_URL = "ws://localhost:9470"

MAX_FRAME_BYTES = 16 * 1024 * 1024  # a list of 10,000 peers is longer than the library's 1 MiB


def main() -> int:
    """Take part until Ctrl-C or until the relay is gone; return the exit code."""
    try:
        asyncio.run(take_part())
    except KeyboardInterrupt:
        return 0
    return 1


async def take_part() -> None:
    """Connect and converse; say in words why it did not work, or why it is over."""
    try:
        relay = await connect(RELAY_URL, max_size=MAX_FRAME_BYTES)
    except (OSError, ValueError, WebSocketException) as error:
        show(f"! no relay at {RELAY_URL}: {error}")
        show("! start one with `agora relay`, or edit RELAY_URL at the top of this file")
        return
    async with relay:
        try:
            await converse(relay, agora.Identity.generate())
        except ConnectionClosed as closed:
            show(f"! the connection is lost: {closed}")
        else:
            show("= the relay has closed the connection")


async def converse(relay: ClientConnection, identity: agora.Identity) -> None:
    """Register, then deal with one frame after the other until the relay says goodbye."""
    await relay.send(json.dumps({"type": "register", "publicKey": identity.peer_id}))
    greeted = {identity.peer_id}
    async for text in relay:
        frame = read_frame(text)
        match frame:
            case {"type": "registered"}:
                show(f"= registered at {RELAY_URL} as {short(identity.peer_id)}")
            case {"type": "peer_offline", "publicKey": peer}:
                show(f"= {short(peer)} has gone")
            case {"type": "message", "from": sender, "envelope": sealed}:
                await receive(relay, identity, sender, sealed)
            case {"type": "error", "message": message}:
                show(f"! the relay says: {message}")
        for peer in peers_seen(frame):
            if peer not in greeted:
                greeted.add(peer)
                await say(relay, identity, peer, "Hello from agora_minimal.py!")


def read_frame(text: str | bytes) -> Any:
    """Return what the relay sent; None when it is no JSON at all."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        show(f"! the relay sent something that is not JSON: {error}")
        return None


def peers_seen(frame: Any) -> list[PeerId]:
    """Return the peers that a frame says are online."""
    match frame:
        case {"type": "registered", "peers": [*entries]}:
            peers = [entry.get("publicKey") for entry in entries if isinstance(entry, dict)]
        case {"type": "peer_online", "publicKey": peer}:
            peers = [peer]
        case _:
            peers = []
    return [peer for peer in peers if is_peer_id(peer)]


async def receive(
    relay: ClientConnection, identity: agora.Identity, sender: object, sealed: Any
) -> None:
    """Print a message if it is genuine and for us, and answer it unless it is itself an answer."""
    try:
        envelope = agora.open_envelope(sealed)
    except agora.EnvelopeError as error:
        show(f"! dropped a message that is not genuine: {error}")
        return
    is_for_us = identity.peer_id in envelope.to or "*" in envelope.to
    if envelope.sender != sender or not is_for_us:
        show(f"! dropped a message of {short(envelope.sender)} that was meant for another")
        return
    show(f"< {short(envelope.sender)}: {extract_text(envelope.payload)}")
    # An answer says what it answers and is never answered: so two of us fall silent.
    if envelope.in_reply_to is None:
        await say(relay, identity, envelope.sender, "Hello back!", in_reply_to=envelope.id)


async def say(
    relay: ClientConnection,
    identity: agora.Identity,
    peer: str,
    text: str,
    in_reply_to: str | None = None,
) -> None:
    """Sign *text* and send it to one peer."""
    envelope = agora.seal(
        identity, type="publish", payload={"text": text}, to=peer, in_reply_to=in_reply_to
    )
    frame = {"type": "message", "to": peer, "envelope": envelope.to_dict()}
    await relay.send(json.dumps(frame))
    show(f"> {short(peer)}: {text}")


def short(peer: object) -> str:
    """Return what people call a peer without a name: the end of its id."""
    return f"@{str(peer)[-8:]}"


def show(text: str) -> None:
    """Print one line at once, without what could play tricks on a terminal."""
    encoding = sys.stdout.encoding or "utf-8"
    line = printable_line(text).encode(encoding, "backslashreplace").decode(encoding)
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
