"""
The same plays with our own client: applications that send, and that handle what comes.

An application knows its messages by numbers of its own, for an envelope may
have to be signed anew; so here the ledger's ids are those numbers. All that a
client must know when it comes back is in its outbox on disk; the application
keeps its ledger, and looks into it for nothing that the client should know.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

from agora.canonical import Json
from agora.client import Client, Message, Receipt, Timing
from agora.errors import RefusedError
from tests.faults.ledger import Book, Entry, Event, digest, read_books
from tests.faults.part import Part

__all__ = ["ClientRecipient", "ClientSender"]

TIMING = Timing(register=2.0, ping_interval=1.0, answer=2.0, retry_first=0.05, retry_cap=0.2)


_MOST_WAITING = 200
"""Messages in its outbox with which an application goes on to make new ones."""


class _Application:
    """What both share: a client, a book, and what was in it at the start."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.chance = random.Random(part.seed)
        self.book = Book(part.book)
        self.past = read_books([part.book])
        self.is_stopping = False
        self.is_over = False

    def stop(self) -> None:
        """End when all is done."""
        self.is_stopping = True

    def client(self) -> Client:
        """Return a client whose outbox outlives this process."""
        return Client(
            self.part.url,
            self.part.keys,
            outbox=self.part.folder / f"{self.part.name}.outbox",
            presence=self.part.recipients or "none",
            rate_limit=None,
            connect_timeout=0,
            timing=TIMING,
            proxy=None,
        )

    def note(self, event: Event, *, id: str, sender: str, to: str, **members: str) -> None:
        """Write a line; all of one application count as one session, whatever its client does."""
        self.book.write(event, self.part.name, id=id, sender=sender, to=to, **members)


def _name(payload: Any) -> str:
    """Return the application's own name for a message."""
    return f"{payload[0]}/{payload[1]}"


def _number(entry: Entry) -> int:
    return int(entry.id.partition("/")[2] or 0)


class ClientSender(_Application):
    """Posts number after number to each recipient, and notes what becomes of each."""

    async def run(self) -> None:
        """Send until told to stop, and then until every message has its last word."""
        async with self.client() as client, asyncio.TaskGroup() as group:
            for receipt in self._take_up(client):
                self._note_attempt(receipt)  # it goes out again, and is answered again
                group.create_task(self._watch(receipt))
            number = 1 + max(map(_number, self.past), default=0)
            while not self.is_stopping:
                for to in self.part.recipients if len(client.outbox) < _MOST_WAITING else ():
                    group.create_task(self._watch(await self._post(client, to, number)))
                number += 1
                await asyncio.sleep(self.part.pace)
            # The group waits for the last words.
        self.is_over = True

    async def _post(self, client: Client, to: str, number: int) -> Receipt:
        payload: Json = [self.part.name, number, "x" * self.part.size]
        told = {"id": _name(payload), "sender": client.peer_id, "to": to}
        self.note(Event.SEND, digest=digest({"payload": payload}), **told)
        receipt = client.post(to, payload)
        await receipt.kept()
        self.note(Event.KEPT, **told)
        return receipt

    def _note_attempt(self, receipt: Receipt) -> None:
        envelope = receipt.outgoing.envelope
        told = {"id": _name(envelope.payload), "sender": envelope.sender, "to": receipt.to}
        self.note(Event.SEND, digest=digest({"payload": envelope.payload}), **told)

    async def _watch(self, receipt: Receipt) -> None:
        envelope = receipt.outgoing.envelope
        told = {"id": _name(envelope.payload), "sender": envelope.sender, "to": receipt.to}
        try:
            status = await receipt.settled()
        except RefusedError as refusal:
            self.note(Event.ERROR, detail=refusal.code, **told)
        else:
            self.note(Event.RECEIPT, detail=str(status), **told)

    def _take_up(self, client: Client) -> Iterator[Receipt]:
        """Yield what the outbox brought over, and note the fate of what it did not."""
        waiting = {}
        for receipt in client.outbox:
            waiting[_name(receipt.outgoing.envelope.payload), receipt.to] = receipt
        for entry, is_kept in _unsettled(self.past):
            if (entry.id, entry.to) in waiting:
                continue
            told = {"id": entry.id, "sender": entry.sender, "to": entry.to}
            if is_kept:  # its receipt came, and the end before it was noted
                self.note(Event.RECEIPT, detail="settled", **told)
            else:  # nobody was told that it would go out
                self.note(Event.ERROR, detail="not_kept", **told)
        yield from waiting.values()


def _unsettled(past: list[Entry]) -> Iterator[tuple[Entry, bool]]:
    """Yield the messages without a last word, and whether the outbox had said it has them."""
    sent: dict[tuple[str, str], Entry] = {}
    kept = set()
    for entry in past:
        message = (entry.id, entry.to)
        if entry.event is Event.SEND:
            sent[message] = entry
        elif entry.event is Event.KEPT:
            kept.add(message)
        elif entry.event in (Event.RECEIPT, Event.ERROR):
            sent.pop(message, None)
    for message, entry in sent.items():
        yield entry, message in kept


class ClientRecipient(_Application):
    """
    Handles what comes, one message after the other.

    The message that was handled last when the process was killed may come once
    more: its client may have died before it could note that. No other may.
    """

    async def run(self) -> None:
        """Handle messages until cancelled."""
        handed = [entry.id for entry in self.past if entry.event is Event.HANDED]
        last_of_before = handed[-1:]
        async with self.client() as client:
            async for message in client:
                told = {
                    "id": _name(message.payload),
                    "sender": message.sender,
                    "to": client.peer_id,
                }
                said = digest({"payload": message.payload})
                self.note(Event.DELIVERY, digest=said, **told)
                if self.chance.random() < self.part.pauses:
                    await asyncio.sleep(self.part.pause)
                await self._handle(message, told, may_be_again=told["id"] in last_of_before)
                if told["id"] in last_of_before:
                    last_of_before = []

    async def _handle(self, message: Message, told: dict[str, str], *, may_be_again: bool) -> None:
        if self.chance.random() < self.part.nacks:
            self.note(Event.NACK, **told)
            await message.nack(delay=0.1)
            return
        if not may_be_again:
            self.note(Event.HANDED, **told)
        self.note(Event.ACK, **told)  # which the client says when the next one is asked for
