"""
Peers of the load generator: one WebSocket each, read by frame headers alone.

A peer hands what it hears, a batch at a time, to whoever listens at the moment; it
answers pings by itself. An error frame, and the end of a connection that nobody
ended, are told at once: a figure with losses is no figure.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import Callable, Iterable
from typing import cast
from urllib.parse import urlsplit

from agora.bench.letters import Dialect, framed
from agora.bench.wire import (
    CLOSE,
    KEY_BYTES,
    MASK_BYTES,
    PING,
    PONG,
    TEXT,
    FrameReader,
    WireError,
    client_frame,
    handshake_request,
    is_accepted,
)
from agora.errors import AgoraError, NoAnswerError, NotConnectedError
from agora.frames import WATCH_ALL, WATCH_NONE, encode_register
from agora.keys import KeyPair, PeerId
from agora.protocol.proof import audience_of

__all__ = [
    "BenchError",
    "Listener",
    "Pause",
    "Peer",
    "connect",
    "is_delivery",
    "join",
    "part",
    "proof",
    "refusal_in",
    "register",
    "registration",
]

PATIENCE = 60.0
"""Seconds after which an answer counts as never coming."""

Listener = Callable[[list[bytes]], None]
OnLoss = Callable[[Exception], None]


class BenchError(AgoraError):
    """The relay did what makes the figure worthless; the message says what."""

    code = "bench"


def is_delivery(text: bytes) -> bool:
    """Tell whether a frame brings a message: by its first bytes, where relays put the type."""
    return b'"message"' in text[:24]


def refusal_in(text: bytes) -> BenchError | None:
    """Return what a frame that is an error makes of a run; None for any other frame."""
    return BenchError(f"the relay says {text[:300].decode()}") if b'"error"' in text[:24] else None


class Pause:
    """
    Has connections read together, once in a while, instead of at each packet.

    A generator that is woken for every message spends more on waking up than on
    reading, and so does the relay that wakes it.

    Args:
        interval: Seconds from one reading to the next.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._waiting: list[asyncio.Transport] = []

    def rest(self, transport: asyncio.Transport) -> None:
        """Read nothing more from *transport* until the next time."""
        transport.pause_reading()
        if not self._waiting:
            asyncio.get_running_loop().call_later(self._interval, self._read)
        self._waiting.append(transport)

    def _read(self) -> None:
        waiting, self._waiting = self._waiting, []
        for transport in waiting:
            if not transport.is_closing():
                transport.resume_reading()


class Peer(asyncio.Protocol):
    """
    One connection of one peer.

    Attributes:
        keys: Whose it is.
        listener: Who gets the text frames, a batch at a time.
        pause: How long it reads nothing after it has read something; None reads at once.
        frames: How many frames came.
        bytes: How many bytes came, after the handshake.
    """

    def __init__(self, keys: KeyPair) -> None:
        self.keys = keys
        self.listener: Listener = _ignore
        self.pause: Pause | None = None
        self._on_loss: OnLoss | None = None
        self._lost: Exception | None = None
        self.frames = 0
        self.bytes = 0
        self.transport: asyncio.Transport
        self._reader = FrameReader()
        self._head = b""
        self._opened: asyncio.Future[bytes] | None = None

    @property
    def id(self) -> PeerId:
        """Its peer id."""
        return self.keys.peer_id

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way out."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Hand on what came."""
        if self._opened is not None:
            self._read_head(data)
            return
        self.bytes += len(data)
        frames = self._reader.feed(data)
        self.frames += len(frames)
        texts = [payload for opcode, payload in frames if opcode == TEXT]
        if len(texts) != len(frames):
            self._control(frames)
        if texts:
            self.listener(texts)
        if self.pause:
            self.pause.rest(self.transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell of an end that nobody wanted."""
        lost = error or NotConnectedError("the relay ended the connection")
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(lost)
        self._lose(lost)

    def _control(self, frames: list[tuple[int, bytes]]) -> None:
        for opcode, payload in frames:
            if opcode == PING:
                self.transport.write(client_frame(payload, os.urandom(MASK_BYTES), PONG))
            elif opcode == CLOSE:
                code, reason = int.from_bytes(payload[:2], "big"), payload[2:].decode()
                self.transport.write(client_frame(payload[:2], os.urandom(MASK_BYTES), CLOSE))
                self._lose(BenchError(f"the relay closed with {code} {reason}"))

    def _lose(self, error: Exception) -> None:
        """Remember why it ended, the first reason of several, for whoever asks now or later."""
        self._lost = self._lost or error
        if self._on_loss is not None:
            self._on_loss(self._lost)

    def watch(self, on_loss: OnLoss | None) -> None:
        """Have the end of the connection told, at once if it was before; None: nobody cares."""
        self._on_loss = on_loss
        if self._lost is not None and on_loss is not None:
            on_loss(self._lost)

    # The handshake

    async def open(self, host: str, path: str) -> None:
        """Make a WebSocket of the connection."""
        key = os.urandom(KEY_BYTES)
        self._opened = asyncio.get_running_loop().create_future()
        self.transport.write(handshake_request(host, path, key))
        head = await self._opened
        self._opened = None
        if not is_accepted(head, key):
            raise WireError(f"no WebSocket there: {head[:80].decode('latin-1')!r}")

    def _read_head(self, data: bytes) -> None:
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if end and self._opened is not None and not self._opened.done():
            assert not rest, "a relay says nothing before it is spoken to"
            self._opened.set_result(head)

    # Saying and hearing

    async def ask(self, frame: bytes, *kinds: str) -> bytes:
        """
        Write a frame, and return the first frame of *kinds* that comes.

        Frames before it are dropped; those behind it go to the listener again.

        Raises:
            BenchError: When an error comes first.
        """
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        wanted = [f'"{kind}"'.encode() for kind in kinds]
        listener, on_loss = self.listener, self._on_loss

        def listen(texts: list[bytes]) -> None:
            if answer.done():
                return  # nobody waits any more
            for number, heard in enumerate(texts, start=1):
                if refusal := refusal_in(heard):
                    answer.set_exception(refusal)
                elif any(kind in heard[:24] for kind in wanted):
                    answer.set_result(heard)
                else:
                    continue
                self.listener = listener
                if number < len(texts):
                    listener(texts[number:])
                return

        def lose(error: Exception) -> None:
            if not answer.done():
                answer.set_exception(error)

        self.listener = listen
        self.watch(lose)
        try:
            self.transport.write(frame)
            async with asyncio.timeout(PATIENCE):
                return await answer
        except TimeoutError:
            raise NoAnswerError(f"no {' or '.join(kinds)} within {PATIENCE:g} s") from None
        finally:
            self._on_loss = on_loss

    def leave(self) -> None:
        """End the connection, without a word."""
        self._on_loss = None
        self.transport.abort()


def _ignore(texts: list[bytes]) -> None:
    """Hear nothing of it."""


# Coming


async def connect(url: str, keys: KeyPair, *, source: str | None = None) -> Peer:
    """
    Open a WebSocket for *keys*.

    Args:
        url: The relay's.
        keys: Whose it shall be.
        source: The address to come from, where one has too few ports.
    """
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    secure = ssl.create_default_context() if parts.scheme == "wss" else None
    try:
        _, peer = await loop.create_connection(
            lambda: Peer(keys),
            parts.hostname or "",
            parts.port or (443 if secure else 80),
            ssl=secure,
            local_addr=(source, 0) if source else None,
        )
    except OSError as error:
        raise NotConnectedError(f"no relay at {url}: {error}") from error
    await peer.open(parts.netloc, parts.path or "/")
    return peer


def registration(keys: KeyPair, dialect: Dialect, *, presence: bool = False) -> bytes:
    """
    Return the frame that asks to be registered, which can be made beforehand.

    Args:
        keys: Who asks.
        dialect: Whether to prove the key.
        presence: Whether to hear of everyone; in the reference dialect one always does.
    """
    if dialect is Dialect.REFERENCE:
        return framed(encode_register(keys.peer_id, None))
    watched = WATCH_ALL if presence else WATCH_NONE
    nonce = os.urandom(32).hex()
    return framed(encode_register(keys.peer_id, None, nonce=nonce, watched=watched))


def proof(keys: KeyPair, audience: str, challenge: dict[str, str]) -> bytes:
    """
    Return the frame that answers a challenge.

    What is signed is written here as it comes out of `agora.protocol.proof.sign_proof`, at
    a third of its cost, as this falls inside the clock; a test holds the two equal.
    """
    signed = (
        f'{{"audience":"{audience}","nonce":"{challenge["nonce"]}","publicKey":"{keys.peer_id}",'
        f'"purpose":"agora/1 authenticate","relay":"{challenge["relay"]}"}}'
    )
    signature = keys.sign(signed.encode())
    return framed(f'{{"type":"authenticate","signature":"{signature}","audience":"{audience}"}}')


async def register(peer: Peer, url: str, dialect: Dialect, asked: bytes | None = None) -> None:
    """
    Register a connected peer, and prove its key where the dialect has it.

    Args:
        peer: Who.
        url: What was dialled, which a proof names.
        dialect: What to speak.
        asked: The frame of `registration`, if it was made beforehand.
    """
    asked = asked or registration(peer.keys, dialect)
    if dialect is Dialect.REFERENCE:
        await peer.ask(asked, "registered")
        return
    challenge = json.loads(await peer.ask(asked, "challenge", "registered"))
    if challenge["type"] != "challenge":
        raise BenchError(
            f"the relay at {url} does not speak Agora/1: it registers peers without a proof"
        )
    await peer.ask(proof(peer.keys, audience_of(url), challenge), "registered")


async def join(
    url: str,
    dialect: Dialect,
    keys: KeyPair | None = None,
    *,
    presence: bool = False,
    source: str | None = None,
) -> Peer:
    """Connect and register; a new peer unless *keys* are given."""
    peer = await connect(url, keys or KeyPair.generate(), source=source)
    await register(peer, url, dialect, registration(peer.keys, dialect, presence=presence))
    return peer


async def part(peers: Iterable[Peer]) -> None:
    """Have peers leave, and return when their sockets are closed."""
    for peer in peers:
        peer.leave()
    await asyncio.sleep(0)  # the loop closes them in its next turn
