"""
A peer for daily use: it keeps its key, comes back by itself, and loses no message, killed or not.

It greets each peer it sees once, answers greetings, prints what comes, and sends what
is typed: ``@125531b8 hello`` to one peer, also to one that has gone, for which the
message then waits; a line without ``@`` to everyone online. Ctrl-C or SIGTERM stops it.

The SDK signs and verifies, reconnects, keeps to a rate, and keeps on disk what could not
go yet, which key the relay has, and what has come before. This program says how much of
each, checks what others wrote before it uses it, and tells its user what happens: ``=``
state, ``>`` taken, ``<`` received, ``~`` waiting, ``!`` trouble.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import agora
from agora.canonical import Json
from agora.client import (
    Bounced,
    ClientEvent,
    ConnectionState,
    PresenceChanged,
    StateChanged,
    Status,
    Trouble,
)
from agora.errors import IdentityError, PeerReferenceError
from agora.keys import PeerId, is_peer_id
from agora.known_relays import KnownRelays
from agora.references import Contact, resolve, short_key
from agora.text import printable_line

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

RELAY_URL = "ws://localhost:9470"

IDENTITY_FILE = Path("agora_example.json")  # in the working directory; --identity names another
KNOWN_RELAYS_FILE = "known-relays.json"  # beside the identity, as is what waits to be sent
RATE_LIMIT = (50, 10.0)  # messages, seconds: a quarter of what a relay allows unless told otherwise
PATIENCE = 0.5  # seconds until a message is reported as kept waiting
IN_TURN = "for its turn, {} messages in {:g} s, or for an answer".format(*RATE_LIMIT)
MAX_TEXT = 4_000  # characters: a longer text is not taken
MAX_ANSWERS = 3  # to one peer until it goes, or two machines might thank each other for ever


def main() -> int:
    """Be a peer until a signal or a final refusal; return the exit code."""
    logging.basicConfig(level=logging.ERROR)  # the rest is told in this program's own words
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's "&" may have turned it off
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    exit_code = 0
    try:
        with claimed_identity(parse_arguments().identity) as (path, identity):
            asyncio.run(Agent(identity, path).run())
    except* KeyboardInterrupt:
        show("= stopped")
    except* agora.AgoraError as refused:
        for error in refused.exceptions:
            show(f"! {error}")
        exit_code = 1
    return exit_code


def parse_arguments() -> argparse.Namespace:
    """Read the command line: there is one option."""
    parser = argparse.ArgumentParser(description="An Agora peer for daily use.")
    parser.add_argument(
        "--identity",
        type=Path,
        metavar="FILE",
        help=f"where the key is kept (default: {IDENTITY_FILE}, or the first free one after it)",
    )
    return parser.parse_args()


class Agent:
    """One peer and its habits."""

    _tasks: asyncio.TaskGroup  # what takes time: waiting for the user, and for messages to go

    def __init__(self, identity: agora.Identity, path: Path) -> None:
        self._client = agora.Client(
            RELAY_URL,
            identity,
            outbox=path.with_suffix(".outbox.sqlite3"),
            known_relays=KnownRelays(path.with_name(KNOWN_RELAYS_FILE)),
            rate_limit=RATE_LIMIT,
            connect_timeout=0,  # it may come up before its relay does
        )
        self._known: dict[PeerId, Contact] = {}
        self._greeted: set[PeerId] = set()
        self._answers: Counter[PeerId] = Counter()

    async def run(self) -> None:
        """
        Receive until cancelled.

        Raises:
            ExceptionGroup: With the AgoraError for which coming back is no help, such as a
                URL that is none, or a relay that is not the one it was.
        """
        show(f"= this is {self._client.peer_id}")
        async with self._client, asyncio.TaskGroup() as self._tasks:
            # In time for all events: the client begins when this task first waits.
            self._client.listen(self._notice)
            self._follow_what_was_kept()
            self._tasks.create_task(self._send_what_is_typed())
            try:
                async for message in self._client:  # to ask for the next one acks this one
                    self._receive(message)
            finally:
                if count := len(self._client.outbox):
                    show(f"= kept for next time: {count} unsent")

    # What happens

    def _notice(self, event: ClientEvent) -> None:
        """Tell the user, and greet who is new. The client goes on when this returns."""
        match event:
            case StateChanged(ConnectionState.CONNECTED):
                show(f"= connected to {RELAY_URL}")
            case StateChanged(ConnectionState.CONNECTING, error):
                show(f"~ not connected: {error}")  # lost, or tried again in vain
            case PresenceChanged(peer, is_online):
                show(f"= {short_key(peer)} is {'online' if is_online else 'offline'}")
                self._known[peer] = Contact(peer)
                if is_online:
                    self._greet(peer)
                else:
                    del self._answers[peer]
            case Bounced(id_, code, recipient):
                show(f"! {short_key(recipient)} never got message {id_[:8]}: {code}")
            case Trouble(error):
                show(f"! {error}")

    def _greet(self, peer: PeerId) -> None:
        """Greet a peer, once and not at each of its returns."""
        if peer in self._greeted:
            return
        self._greeted.add(peer)
        self._post(peer, "Hello from agora_example.py!")

    def _receive(self, message: agora.Message) -> None:
        """Show a message; answer it unless it is an answer. The SDK has verified who sent it."""
        self._known[message.sender] = Contact(message.sender)
        text = read_text(message.payload)
        if text is None:
            show(f"! {short_key(message.sender)} sent something that is no text: ignored")
            return
        show(f"< {short_key(message.sender)}: {text}")
        # Only what answers nothing is answered, so two of us fall silent; the bound is for
        # others, whose answers do not say what they answer.
        if message.in_reply_to is None and self._answers[message.sender] < MAX_ANSWERS:
            self._answers[message.sender] += 1
            self._post(message.sender, "Hello back!", in_reply_to=message.id)

    # What is sent

    def _post(self, peer: PeerId, text: str, in_reply_to: str | None = None) -> None:
        """
        Put a message into the outbox, and tell later what became of it.

        Nothing waits here: an answer is in the outbox before its question counts as read.
        """
        try:
            receipt = self._client.post(peer, {"text": text}, in_reply_to=in_reply_to)
        except agora.AgoraError as error:
            show(f"! {short_key(peer)}: {text} (not sent: {error})")
        else:
            self._tasks.create_task(self._follow(short_key(peer), text, receipt))

    def _follow_what_was_kept(self) -> None:
        """Tell what becomes of what an earlier run could not send."""
        for receipt in self._client.outbox:
            text = read_text(receipt.outgoing.envelope.payload) or ""
            self._tasks.create_task(self._follow(short_key(receipt.to), text, receipt))

    async def _send_what_is_typed(self) -> None:
        """Send line by line; one that has to wait for the rate keeps the next from being read."""
        async for line in typed_lines():
            reference, _, text = line.partition(" ")
            if not (reference.startswith("@") or is_peer_id(reference)):
                await self._say("everyone", line, self._client.broadcast({"text": line}))
                continue
            try:
                peer = self._resolve(reference)
            except PeerReferenceError as error:
                show(f"! {error}")
            else:
                await self._say(short_key(peer), text, self._client.send(peer, {"text": text}))

    def _resolve(self, reference: str) -> str:
        """Return whom a reference means: any peer by its id, one we know by its short form."""
        return reference if is_peer_id(reference) else resolve(reference, self._known.values())

    async def _say(self, to: str, text: str, sending: Awaitable[agora.Receipt]) -> None:
        """Send what was typed; returns when the relay has had a word on it, or cannot yet."""
        loop = asyncio.get_running_loop()
        notice = loop.call_later(PATIENCE, show, f"~ {to}: {text} (waits: {IN_TURN})")
        try:
            receipt = await sending
        except agora.AgoraError as error:
            show(f"! {to}: {text} (not sent: {error})")
            return
        finally:
            notice.cancel()
        self._tasks.create_task(self._follow(to, text, receipt, patience=0))

    async def _follow(
        self, to: str, text: str, receipt: agora.Receipt, patience: float = PATIENCE
    ) -> None:
        """Tell what became of a message, and before that what it waits for, if it has to."""
        try:
            status = await receipt.settled(patience)
            if status is Status.QUEUED:
                why = receipt.why or (IN_TURN if self._client.is_connected else "not connected")
                show(f"~ {to}: {text} (waits: {why})")
                status = await receipt.settled()
        except agora.AgoraError as error:
            show(f"! {to}: {text} (not sent: {error})")
            return
        if status is not Status.QUEUED:  # as it is when this program ends
            show(f"> {to}: {text} ({status})")


def read_text(payload: Json) -> str | None:
    """Return what a payload of the form ``{"text": "…"}`` says; None for all others."""
    match payload:
        case {"text": str(text)} if len(text) <= MAX_TEXT:
            return text
        case _:
            return None


# The key


@contextmanager
def claimed_identity(path: Path | None) -> Iterator[tuple[Path, agora.Identity]]:
    """
    Give a file and the identity in it, made at the first run, and keep others off it meanwhile.

    Two programs with one key are one peer and never meet. So a second one that is
    started in the same folder gets a key of its own, in the file with the next number.

    Raises:
        IdentityError: When the file is damaged, open to others, or in use.
    """
    for candidate in [path] if path else numbered(IDENTITY_FILE):
        identity = agora.Identity.load_or_create(candidate)
        with open(candidate, "rb") as file:
            if lock(file):
                yield candidate, identity
                return
    raise IdentityError(f"{candidate} is in use: name another file with --identity")


def numbered(path: Path) -> list[Path]:
    """Return *path* and eight more, ``-2`` to ``-9``."""
    return [path, *(path.with_stem(f"{path.stem}-{number}") for number in range(2, 10))]


def lock(file: BinaryIO) -> bool:
    """Lock a file until it is closed, also by a crash; return False if another has."""
    try:
        if sys.platform == "win32":
            file.seek(2**30)  # far behind its end: what is locked there can still be read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


# The terminal


async def typed_lines() -> AsyncIterator[str]:
    """Yield the lines of standard input that say something; end with it."""
    if sys.stdin is None:  # started without one
        return
    descriptor = sys.stdin.fileno()
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    taken = threading.Semaphore(0)  # so that no more is read than is sent

    def read() -> None:
        # Unbuffered: at its exit the interpreter aborts when a thread holds the buffer's lock.
        with (
            suppress(OSError, RuntimeError),  # the terminal is gone, or the program over
            open(descriptor, "rb", buffering=0, closefd=False) as raw,
        ):
            for line in raw:
                loop.call_soon_threadsafe(lines.put_nowait, line.decode(errors="replace").strip())
                taken.acquire()
            loop.call_soon_threadsafe(lines.put_nowait, None)

    # A thread, because a terminal cannot be awaited on every platform; a daemon, because
    # nothing else ends a read.
    threading.Thread(target=read, daemon=True).start()
    while (line := await lines.get()) is not None:
        if line:
            yield line
        taken.release()


def show(text: str) -> None:
    """Print one line at once, without what could play tricks on a terminal."""
    encoding = sys.stdout.encoding or "utf-8"
    line = printable_line(text).encode(encoding, "backslashreplace").decode(encoding)
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
