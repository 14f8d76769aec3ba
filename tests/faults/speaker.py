"""
A peer that speaks Agora/1 frame by frame, written from the contract and from nothing else.

It signs with ``agora.keys`` and ``agora.envelope``, and has no other line in
common with our client or relay: what the two of them misunderstand alike is
seen here. Beside it, the same peer in the reference dialect.

The rule kept here: a speaker says only what the test tells it to; what it hears
and was not asked for stays, in order, until it is.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from agora.envelope import Envelope, seal
from agora.keys import KeyPair, verify

__all__ = [
    "DEADLINE",
    "TAKEN",
    "Frame",
    "Refused",
    "Speaker",
    "audience_of",
    "envelope_from",
    "now_ms",
    "opened",
    "proof",
    "reference_speaker",
    "speaker",
]

DEADLINE = 30.0
"""Seconds after which what a test waits for will not come."""

TAKEN = {"delivered", "stored"}
"""Receipts of a message that is in safe hands; which of the two may be a matter of moments."""

Frame = dict[str, Any]


class Refused(Exception):
    """The relay answered with an error, or closed; ``frame`` and ``close_code`` say which."""

    def __init__(self, frame: Frame | None, close_code: int | None) -> None:
        super().__init__(f"{frame}, closed with {close_code}")
        self.frame = frame or {}
        self.close_code = close_code

    @property
    def code(self) -> str | None:
        """The error's code."""
        return self.frame.get("code")


# What is signed


def now_ms() -> int:
    """Return the milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def audience_of(url: str) -> str:
    """Return the host and port that a client of *url* dialled, as section 2 writes them."""
    place = urlsplit(url)
    host = (place.hostname or "").lower().removesuffix(".")
    bracketed = f"[{host}]" if ":" in host else host
    return f"{bracketed}:{place.port or (443 if place.scheme == 'wss' else 80)}"


def proof(keys: KeyPair, *, audience: str, nonce: str, relay: str) -> str:
    """Sign what a client signs to prove its key."""
    return keys.sign(
        _signed(
            audience=audience,
            nonce=nonce,
            publicKey=keys.peer_id,
            purpose="agora/1 authenticate",
            relay=relay,
        )
    )


def is_genuine(challenge: Frame, *, client_nonce: str, public_key: str) -> bool:
    """Tell whether a relay signed its challenge, for this registration."""
    said = _signed(
        clientNonce=client_nonce,
        nonce=challenge["nonce"],
        publicKey=public_key,
        purpose="agora/1 challenge",
        relay=challenge["relay"],
    )
    return verify(challenge["relay"], challenge["signature"], said)


def _signed(**members: str) -> bytes:
    # Plain ASCII strings: here JSON with sorted names is canonical already.
    return json.dumps(members, sort_keys=True, separators=(",", ":")).encode()


def envelope_from(keys: KeyPair, to: str | Sequence[str], payload: Any, **members: Any) -> Envelope:
    """Sign an envelope that no other is equal to."""
    defaults: dict[str, Any] = {"type": "publish", "timestamp_ms": next(_moments)}
    return seal(keys, payload=payload, to=to, **defaults | members)


_moments = itertools.count(now_ms())


# The conversation


class Speaker:
    """
    One connection of one peer.

    Attributes:
        keys: Who it is.
        id: Its peer id.
        socket: The connection.
        challenge: What the relay asked it to prove; empty in the reference dialect.
        welcome: The ``registered`` frame; empty before.
    """

    def __init__(self, socket: ClientConnection, keys: KeyPair, audience: str) -> None:
        self.socket = socket
        self.keys = keys
        self.id = keys.peer_id
        self.audience = audience
        self.challenge: Frame = {}
        self.welcome: Frame = {}
        self._kept: deque[Frame] = deque()

    # Saying

    async def say(self, frame: object) -> None:
        """Write one frame, whatever it is."""
        await self.socket.send(json.dumps(frame))

    async def send(self, to: str, payload: Any = "hello", **members: Any) -> Envelope:
        """Sign and submit a message to one recipient."""
        envelope = envelope_from(self.keys, to, payload, **members)
        await self.submit(envelope, to)
        return envelope

    async def submit(self, envelope: Envelope, to: str | Sequence[str], **members: Any) -> None:
        """Submit an envelope; *members* go into the frame beside it."""
        said = {"type": "message", "to": to, "envelope": envelope.to_dict()}
        await self.say(said | members)

    async def ack(self, *ids: str) -> None:
        """Say that the application has these."""
        await self.say({"type": "ack", "ids": list(ids)})

    async def nack(self, *ids: str, delay_ms: int = 0) -> None:
        """Ask for these again, later."""
        await self.say({"type": "nack", "ids": list(ids), "delayMs": delay_ms})

    async def register(self, **members: Any) -> Frame:
        """Ask to be registered with proof, and return the challenge, checked."""
        client_nonce = os.urandom(32).hex()
        said = {"type": "register", "protocol": 1, "publicKey": self.id, "nonce": client_nonce}
        await self.say(said | members)
        self.challenge = await self.expect("challenge")
        assert is_genuine(self.challenge, client_nonce=client_nonce, public_key=self.id)
        return self.challenge

    async def register_unproven(self, **members: Any) -> Frame:
        """Register in the reference dialect, and return the ``registered`` frame."""
        await self.say({"type": "register", "publicKey": self.id} | members)
        self.welcome = await self.expect("registered")
        return self.welcome

    async def authenticate(self, **members: Any) -> Frame:
        """Prove the key, and return the ``registered`` frame; *members* go in place of ours."""
        signature = proof(
            self.keys,
            audience=self.audience,
            nonce=self.challenge["nonce"],
            relay=self.challenge["relay"],
        )
        await self.say({"type": "authenticate", "signature": signature} | members)
        self.welcome = await self.expect("registered")
        return self.welcome

    # Hearing

    async def hear(self) -> Frame:
        """Return the next frame."""
        return self._kept.popleft() if self._kept else await self._read()

    async def wait(self, *types: str, **members: Any) -> Frame:
        """Return the first frame of one of these types with these members; keep the others."""

        def fits(frame: Frame) -> bool:
            return frame.get("type") in types and members.items() <= frame.items()

        for frame in self._kept:
            if fits(frame):
                self._kept.remove(frame)
                return frame
        while not fits(frame := await self._read()):
            self._kept.append(frame)
        return frame

    async def expect(self, frame_type: str) -> Frame:
        """
        Return the next frame, which is of this type.

        Raises:
            Refused: When it is an error instead, or the connection closed.
        """
        frame: Frame | None = None
        try:
            frame = await self.hear()
            if frame["type"] == frame_type:
                return frame
        except ConnectionClosed:
            pass
        raise Refused(frame, await self.close_code())

    async def answer_to(self, envelope: Envelope, to: str | None = None) -> str:
        """Return what the relay said of a message: a receipt's status or an error's code."""
        named = {"id": envelope.id} | ({"to": to} if to else {})
        frame = await self.wait("receipt", "error", **named)
        answer: str = frame["status"] if frame["type"] == "receipt" else frame["code"]
        return answer

    async def messages(self, count: int, *, acks: bool = True) -> list[Frame]:
        """Return the next *count* messages, acked one by one unless told otherwise."""
        found = []
        for _ in range(count):
            found.append(await self.wait("message"))
            if acks:
                await self.ack(found[-1]["envelope"]["id"])
        return found

    async def payloads(self, count: int, *, acks: bool = True) -> list[Any]:
        """Return the payloads of the next *count* messages."""
        return [one["envelope"]["payload"] for one in await self.messages(count, acks=acks)]

    async def answers(self) -> list[Frame]:
        """Ping, and return what was heard and not asked for up to the pong."""
        await self.say({"type": "ping"})
        heard = []
        while (frame := await self.hear()) != {"type": "pong"}:
            heard.append(frame)
        return heard

    async def close_code(self) -> int | None:
        """Return with what code the relay closes; None when it does not in time."""
        try:
            async with asyncio.timeout(DEADLINE):
                while True:
                    self._kept.append(json.loads(await self.socket.recv()))
        except TimeoutError:
            return None
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006

    def drop(self) -> None:
        """End the connection without a word, as a process that is killed does."""
        self.socket.transport.abort()

    async def _read(self) -> Frame:
        async with asyncio.timeout(DEADLINE):
            frame: Frame = json.loads(await self.socket.recv())
        return frame


# Ways to begin one


@asynccontextmanager
async def opened(
    url: str, keys: KeyPair | None = None, *, audience: str | None = None, **options: Any
) -> AsyncIterator[Speaker]:
    """Connect, and say nothing yet. It answers WebSocket pings, and does nothing else by itself."""
    settings: dict[str, Any] = {
        "ping_interval": None,
        "compression": None,
        "max_size": None,
        "open_timeout": DEADLINE,
        "close_timeout": 1.0,
        "proxy": None,
    }
    async with connect(url, **settings | options) as socket:
        yield Speaker(socket, keys or KeyPair.generate(), audience or audience_of(url))


@asynccontextmanager
async def speaker(
    url: str, keys: KeyPair | None = None, *, audience: str | None = None, **register: Any
) -> AsyncIterator[Speaker]:
    """
    Connect and register with proof; a new peer unless *keys* are given.

    Args:
        url: The relay.
        keys: Who it is.
        audience: What it signs as the relay's host and port; what it dialled by default.
        register: More members for the ``register`` frame, or other ones.

    Raises:
        Refused: When the relay will not have it.
    """
    async with opened(url, keys, audience=audience) as peer:
        await peer.register(**{"presence": "none"} | register)
        await peer.authenticate()
        yield peer


@asynccontextmanager
async def reference_speaker(
    url: str, keys: KeyPair | None = None, **register: Any
) -> AsyncIterator[Speaker]:
    """
    Connect and register in the reference dialect: without proof, acks or receipts.

    Raises:
        Refused: When the relay will not have it.
    """
    async with opened(url, keys) as peer:
        await peer.register_unproven(**register)
        yield peer
