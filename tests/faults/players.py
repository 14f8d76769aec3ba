"""
Those who talk while the roof comes down: senders with an outbox, recipients with a memory.

Each is what the contract asks of a client, in the fewest lines: a sender holds
a message until it has a receipt and says it again on every new session; a
recipient acks what it has written down, and hands over no id twice. All that
they know is in their files, so they may be killed at any moment and go on.

As a program (``python -m tests.faults.players``) one player is a process of its
own; SIGTERM asks a sender to bring what it has to its end, and ends a recipient.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from websockets.exceptions import WebSocketException

from agora.envelope import Envelope, open_envelope
from tests.faults.agents import ClientRecipient, ClientSender
from tests.faults.ledger import Book, Event, digest, read_books
from tests.faults.part import Part
from tests.faults.speaker import (
    Frame,
    Refused,
    Speaker,
    envelope_from,
    opened,
)

__all__ = ["Player", "Recipient", "Sender", "player"]

WINDOW = 8
"""Messages that a sender has on their way to one recipient."""

_TROUBLE = (OSError, TimeoutError, WebSocketException, Refused)
"""What a fault looks like from here; after each, a player begins again."""

_AFTER_TROUBLE = 0.02
"""Seconds to wait then; more would only make the faults rarer."""

RETRYABLE = {"rate_limited", "out_of_order", "unknown_recipient", "mailbox_full", "unavailable"}


class _Player:
    """What senders and recipients share: a book, and beginning again."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.keys = part.keys
        self.chance = random.Random(part.seed)
        self.book = Book(part.book)
        self.session = ""

    async def run(self) -> None:
        """Play until there is nothing left to do, on one session after the other."""
        while not self.is_over:
            with suppress(*_TROUBLE):
                async with self._connected() as peer:
                    self.session = f"{self.part.name}/{time.monotonic_ns():x}"
                    self.book.write(Event.OPENED, self.session)
                    await self.converse(peer)
            await asyncio.sleep(_AFTER_TROUBLE)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Speaker]:
        # With a heartbeat of its own: a link may die without a word.
        async with opened(self.part.url, self.keys, ping_interval=1.0, ping_timeout=2.0) as peer:
            if self.part.dialect == "agora/1":
                await peer.register(presence="none")
                await peer.authenticate()
            else:
                await peer.register_unproven()
            yield peer

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return False

    async def converse(self, peer: Speaker) -> None:
        """Play on one session, until it breaks or all is done."""
        raise NotImplementedError


# Sending


@dataclass
class _Lane:
    """
    The messages to one recipient, in order.

    Attributes:
        to: Who that is.
        numbered: How many there ever were.
        pending: Those without a receipt, the oldest first.
        flying: Ids of those that were said on this session and not answered.
        has_failed: Whether one was refused, so that those behind it come again too.
    """

    to: str
    numbered: int = 0
    pending: deque[Envelope] = field(default_factory=deque)
    flying: set[str] = field(default_factory=set)
    has_failed: bool = False

    def begin(self) -> None:
        """Forget what was said on the session before."""
        self.flying.clear()
        self.has_failed = False

    def to_say(self) -> Iterator[tuple[Envelope, str | None]]:
        """Yield what can be said now, each with the id of the one that must go before."""
        if self.has_failed and self.flying:
            return  # first hear what became of those behind it
        self.has_failed = False
        before = None
        for envelope in list(self.pending)[:WINDOW]:
            if envelope.id not in self.flying:
                self.flying.add(envelope.id)
                yield envelope, before
            before = envelope.id

    def settle(self, identifier: str) -> None:
        """A message has its last word."""
        self.flying.discard(identifier)
        self.pending = deque(one for one in self.pending if one.id != identifier)

    def fail(self, identifier: str) -> None:
        """A message was refused for now."""
        self.flying.discard(identifier)
        self.has_failed = True


class Sender(_Player):
    """
    Sends numbers to each recipient, and holds each message until it has a receipt.

    Its outbox is a file of envelopes; which of them are settled its ledger tells.
    """

    def __init__(self, part: Part) -> None:
        super().__init__(part)
        self._outbox = part.folder / f"{part.name}.outbox"
        self._lanes = {to: _Lane(to) for to in part.recipients}
        self._is_stopping = False
        self._news = asyncio.Event()
        self._load()

    def stop(self) -> None:
        """Make no new messages, and end when the last has its receipt."""
        self._is_stopping = True
        self._news.set()

    @property
    def is_over(self) -> bool:
        """Whether every message has its last word, and no more will come."""
        return not any(lane.pending or self._wants_more(lane) for lane in self._lanes.values())

    async def converse(self, peer: Speaker) -> None:
        """Say all that has no receipt, then new messages, and take the answers."""
        for lane in self._lanes.values():
            lane.begin()
        try:
            async with asyncio.TaskGroup() as group:
                writing = group.create_task(self._write(peer))
                reading = group.create_task(self._read(peer))
                await writing
                reading.cancel()
        except* _TROUBLE as trouble:
            raise trouble.exceptions[0] from None
        self.book.write(Event.DONE, self.session)

    async def _write(self, peer: Speaker) -> None:
        while not self.is_over:
            self._news.clear()
            for lane in self._lanes.values():
                self._make_messages(lane)
                for envelope, before in lane.to_say():
                    await self._say(peer, lane.to, envelope, before)
            await self._news.wait()
            await asyncio.sleep(self.part.pace)

    async def _say(self, peer: Speaker, to: str, envelope: Envelope, before: str | None) -> None:
        told = {"id": envelope.id, "sender": peer.id, "to": to}
        self.book.write(Event.SEND, self.session, digest=digest(envelope.to_dict()), **told)
        await peer.submit(envelope, to, **{"after": before} if before else {})

    async def _read(self, peer: Speaker) -> None:
        while True:
            frame = await peer.hear()
            if frame["type"] == "message":
                await self._take_bounce(peer, frame)
            elif frame["type"] in ("receipt", "error"):
                await self._take_answer(frame)
            self._news.set()

    async def _take_answer(self, frame: Frame) -> None:
        told = {"id": frame["id"], "sender": self.keys.peer_id, "to": frame["to"]}
        lane = self._lanes[frame["to"]]
        if frame["type"] == "receipt":
            self.book.write(Event.RECEIPT, self.session, detail=frame["status"], **told)
            lane.settle(frame["id"])
            return
        self.book.write(Event.ERROR, self.session, detail=frame["code"], **told)
        if frame["code"] not in RETRYABLE:
            lane.settle(frame["id"])
            return
        lane.fail(frame["id"])
        await asyncio.sleep(frame.get("retryAfterMs", 20) / 1_000)

    async def _take_bounce(self, peer: Speaker, frame: Frame) -> None:
        bounce = open_envelope(frame["envelope"])
        assert bounce.sender == peer.welcome["relay"], "nobody else writes to a sender"
        assert isinstance(bounce.payload, dict), "as the contract has it"
        self.book.write(
            Event.BOUNCE,
            self.session,
            id=str(bounce.in_reply_to),
            sender=peer.id,
            to=str(bounce.payload["recipient"]),
            detail=str(bounce.payload["code"]),
        )
        await peer.ack(bounce.id)

    def _make_messages(self, lane: _Lane) -> None:
        while len(lane.pending) < WINDOW and self._wants_more(lane):
            padding = "x" * self.part.size
            envelope = envelope_from(self.keys, lane.to, [lane.numbered, padding])
            with self._outbox.open("a") as outbox:
                kept = {"to": lane.to, "id": envelope.id, "envelope": envelope.to_json()}
                outbox.write(json.dumps(kept) + "\n")
            lane.numbered += 1
            lane.pending.append(envelope)

    def _wants_more(self, lane: _Lane) -> bool:
        count = self.part.messages
        return not self._is_stopping and (count is None or lane.numbered < count)

    def _load(self) -> None:
        """Take up where a process that was killed had left."""
        if not self._outbox.exists():
            return
        settled = {
            (entry.id, entry.to)
            for entry in read_books([self.part.book])
            if entry.event is Event.RECEIPT
            or (entry.event is Event.ERROR and entry.detail not in RETRYABLE)
        }
        whole, _, torn = self._outbox.read_text().rpartition("\n")
        if torn:  # cut off by a kill, and said to nobody
            self._outbox.write_text(whole + "\n" * bool(whole))
        for line in whole.splitlines():
            members = json.loads(line)
            lane = self._lanes[members["to"]]
            lane.numbered += 1
            if (members["id"], lane.to) not in settled:
                lane.pending.append(open_envelope(members["envelope"]))


# Receiving


class Recipient(_Player):
    """Writes down what comes, hands over what is new, and acks; its ledger is its memory."""

    def __init__(self, part: Part) -> None:
        super().__init__(part)
        self._is_stopping = False
        self._has = {entry.id for entry in read_books([part.book]) if entry.event is Event.HANDED}

    def stop(self) -> None:
        """End with this session."""
        self._is_stopping = True

    @property
    def is_over(self) -> bool:
        """Whether it was told to end."""
        return self._is_stopping

    async def converse(self, peer: Speaker) -> None:
        """Take what comes."""
        while True:
            try:
                frame = await peer.hear()
            except TimeoutError:
                continue  # nothing to hear is no fault: a heartbeat finds a dead link
            if frame["type"] == "message":
                await self._take(peer, frame)

    async def _take(self, peer: Speaker, frame: Frame) -> None:
        # Not verified: whether it is what its sender signed, the digest tells the ledger.
        envelope = frame["envelope"]
        identifier = envelope["id"]
        told = {"id": identifier, "sender": envelope["from"], "to": peer.id}
        self.book.write(Event.DELIVERY, self.session, digest=digest(envelope), **told)
        is_new = identifier not in self._has
        if is_new and self.chance.random() < self.part.nacks:
            self.book.write(Event.NACK, self.session, **told)
            await peer.nack(identifier, delay_ms=self.chance.randrange(200))
            return
        if is_new and self.chance.random() < self.part.pauses:
            await asyncio.sleep(self.part.pause)
        if is_new:
            self.book.write(Event.HANDED, self.session, **told)
            self._has.add(identifier)
        if self.part.dialect == "agora/1":
            self.book.write(Event.ACK, self.session, **told)
            await peer.ack(identifier)


Player = Sender | Recipient | ClientSender | ClientRecipient


def player(part: Part) -> Player:
    """Return who plays a part."""
    if part.dialect == "client":
        return ClientSender(part) if part.recipients else ClientRecipient(part)
    return Sender(part) if part.recipients else Recipient(part)


# As a program


async def _play(part: Part) -> None:
    one = player(part)
    playing = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(one.run())

        def stop() -> None:
            one.stop()
            if not part.recipients:
                task.cancel()

        playing.add_signal_handler(signal.SIGTERM, stop)
        print("playing", flush=True)


if __name__ == "__main__":
    asyncio.run(_play(Part.from_json(sys.argv[1])))
