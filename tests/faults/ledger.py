"""
What every peer said and heard, written down as it happened; and what must hold of it.

A `Book` is one process's pages of the ledger, a file that is only ever added
to. Each line is with the kernel before the peer goes on, so a kill of the
process takes nothing back (only a crash of the machine could, and none is made
here). `check` reads all books together and knows nothing of relays.

The rule kept here: a line is written *before* what it tells of is said to the
relay, and *after* it was heard. So a receipt in the ledger that no ack in the
ledger explains was given for nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

__all__ = ["Book", "Entry", "Event", "Verdict", "check", "digest", "read_books"]


class Event(StrEnum):
    """What may be in a ledger, and who writes it."""

    SEND = "send"
    """Sender: about to say this message on this session; once for each attempt."""
    KEPT = "kept"
    """Sender: the outbox on disk has it; until then nobody promised that it goes out."""
    RECEIPT = "receipt"
    """Sender: a receipt; ``detail`` is its status."""
    ERROR = "error"
    """Sender: an error about a message; ``detail`` is its code."""
    BOUNCE = "bounce"
    """Sender: the relay's envelope that gives a message up; ``detail`` is its code."""
    DELIVERY = "delivery"
    """Recipient: the relay brought this message."""
    HANDED = "handed"
    """Recipient: the application has it; a known id is never handed again."""
    ACK = "ack"
    """Recipient: about to ack it."""
    NACK = "nack"
    """Recipient: about to nack it."""
    OPENED = "opened"
    """Either: a session has begun."""
    DONE = "done"
    """Either: a session that was left in peace until all its answers had come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """
    One line.

    Attributes:
        event: What happened.
        session: On which connection, by a name that no other has.
        moment: When, in nanoseconds of the machine's one monotonic clock.
        id: The envelope's id.
        sender: Who signed it.
        to: Whom it is for.
        digest: What it says, by `digest`; of SEND and DELIVERY.
        detail: A status or a code.
    """

    event: Event
    session: str
    moment: int = 0
    id: str = ""
    sender: str = ""
    to: str = ""
    digest: str = ""
    detail: str = ""


def digest(envelope: dict[str, Any]) -> str:
    """Return what tells two envelopes apart that are not the same in every member."""
    text = json.dumps(envelope, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# Writing


class Book:
    """
    One process's lines, in a file that only grows.

    Args:
        path: The file; made if absent, added to otherwise.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def write(self, event: Event, session: str, **members: str) -> None:
        """Add one line; it outlives this process from the moment this returns."""
        entry = Entry(event=event, session=session, moment=time.monotonic_ns(), **members)
        told = {name: value for name, value in asdict(entry).items() if value}
        os.write(self._file, json.dumps(told).encode() + b"\n")


def read_books(paths: Iterable[Path]) -> list[Entry]:
    """Return the lines of all books, the oldest first."""
    entries = [entry for path in paths for entry in _read(path)]
    return sorted(entries, key=lambda entry: entry.moment)


def _read(path: Path) -> Iterator[Entry]:
    # The last line of a process that was killed while it wrote has no end; it was told to nobody.
    for line in path.read_text().split("\n")[:-1]:
        members = json.loads(line)
        yield Entry(**members | {"event": Event(members["event"])})


# Checking

_Message = tuple[str, str]
"""(id, recipient): one envelope to two recipients is two messages."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What is wrong, a sentence each, and how much there was of what.

    Attributes:
        violations: What must not be; empty when all is well.
        counts: How often each thing happened.
    """

    violations: tuple[str, ...]
    counts: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        counts = " · ".join(f"{count:,} {what}" for what, count in self.counts.items())
        wrong = "\n".join(self.violations[:20]) or "nothing lost, invented, doubled or overtaken"
        return f"ledger: {counts}\nledger: {wrong}"


def check(entries: Iterable[Entry]) -> Verdict:
    """
    Hold a history to the promise.

    * Nothing with a receipt ``stored``, ``delivered`` or ``duplicate`` is missing at
      the recipient's application, unless it bounced; ``delivered`` was acked before.
    * Nothing is invented: what was delivered was sent, by whom it says, as it was.
    * Nothing reaches an application twice.
    * First deliveries of one sender to one recipient come in the order of sending.
    * Each attempt got one receipt or error at most, and one exactly on a session that
      was left in peace; every message got a receipt, a final error or a bounce in the end.

    Senders are expected to say a message only when those before it, to the same
    recipient, were taken or are on their way on the same session (``after``).
    """
    history = list(entries)
    checks = (_lost, _acked_too_late, _invented, _doubled, _overtaken, _answered, _unsettled)
    violations = tuple(violation for one in checks for violation in one(history))
    return Verdict(violations, _counts(history))


_RESPONSIBLE = {"stored", "delivered", "duplicate", "settled"}
"""Receipts after which a sender forgets a message; *settled*: only its outbox knows which."""

_RETRYABLE = {"rate_limited", "out_of_order", "unknown_recipient", "mailbox_full", "unavailable"}
"""Errors after which it sends the message again."""


def _message(entry: Entry) -> _Message:
    return entry.id, entry.to


def _of(history: list[Entry], *events: Event) -> Iterator[Entry]:
    return (entry for entry in history if entry.event in events)


def _name(message: _Message) -> str:
    return f"{message[0][:12]} to @{message[1][-8:]}"


def _lost(history: list[Entry]) -> Iterator[str]:
    there = {_message(entry) for entry in _of(history, Event.HANDED, Event.BOUNCE)}
    for entry in _of(history, Event.RECEIPT):
        if entry.detail in _RESPONSIBLE and _message(entry) not in there:
            yield f"lost: {_name(_message(entry))} has a receipt `{entry.detail}`, and never came"


def _acked_too_late(history: list[Entry]) -> Iterator[str]:
    acked: dict[_Message, int] = {}
    for entry in _of(history, Event.ACK):
        acked.setdefault(_message(entry), entry.moment)
    for entry in _of(history, Event.RECEIPT):
        if entry.detail == "delivered" and not acked.get(_message(entry), 2**63) <= entry.moment:
            yield f"false: {_name(_message(entry))} was called delivered before anyone acked it"


def _invented(history: list[Entry]) -> Iterator[str]:
    sent: dict[_Message, Entry] = {}
    for entry in _of(history, Event.SEND):
        sent.setdefault(_message(entry), entry)
    for entry in _of(history, Event.DELIVERY):
        origin = sent.get(_message(entry))
        if origin is None or origin.moment > entry.moment:
            yield f"invented: {_name(_message(entry))} was delivered, and nobody had sent it"
        elif (origin.sender, origin.digest) != (entry.sender, entry.digest):
            yield f"changed: {_name(_message(entry))} did not come as it was sent"


def _doubled(history: list[Entry]) -> Iterator[str]:
    handed = Counter(_message(entry) for entry in _of(history, Event.HANDED))
    for message, times in handed.items():
        if times > 1:
            yield f"doubled: {_name(message)} reached the application {times} times"


def _overtaken(history: list[Entry]) -> Iterator[str]:
    numbers: dict[_Message, int] = {}
    for entry in _of(history, Event.SEND):
        numbers.setdefault(_message(entry), len(numbers))
    seen: set[_Message] = set()
    latest: dict[tuple[str, str], tuple[int, _Message]] = {}
    for entry in _of(history, Event.DELIVERY):
        message, pair = _message(entry), (entry.sender, entry.to)
        if message in seen or message not in numbers:
            continue
        seen.add(message)
        number, before = latest.get(pair, (-1, message))
        if numbers[message] < number:
            yield f"overtaken: {_name(before)} came before {_name(message)}, and was sent behind it"
        else:
            latest[pair] = (numbers[message], message)


def _answered(history: list[Entry]) -> Iterator[str]:
    balance: Counter[tuple[str, _Message]] = Counter()
    in_peace = {entry.session for entry in _of(history, Event.DONE)}
    for entry in _of(history, Event.SEND, Event.RECEIPT, Event.ERROR):
        balance[entry.session, _message(entry)] += 1 if entry.event is Event.SEND else -1
    for (session, message), left in balance.items():
        if left < 0:
            yield f"answered twice: {_name(message)} on {session}, {-left} more than asked"
        if left > 0 and session in in_peace:
            yield f"not answered: {_name(message)} on {session}"


def _unsettled(history: list[Entry]) -> Iterator[str]:
    settled = {_message(entry) for entry in _of(history, Event.RECEIPT, Event.BOUNCE)}
    refused = (entry for entry in _of(history, Event.ERROR) if entry.detail not in _RETRYABLE)
    settled |= {_message(entry) for entry in refused}
    for message in dict.fromkeys(_message(entry) for entry in _of(history, Event.SEND)):
        if message not in settled:
            yield f"unsettled: {_name(message)} was sent, and nothing final was ever said of it"


def _counts(history: list[Entry]) -> dict[str, int]:
    counts: defaultdict[str, int] = defaultdict(int)
    counts["messages"] = len({_message(entry) for entry in _of(history, Event.SEND)})
    for entry in history:
        label = f"{entry.event} {entry.detail}".strip()
        counts[_PLURALS.get(entry.event, label)] += 1
    deliveries = [_message(entry) for entry in _of(history, Event.DELIVERY)]
    counts["repeated deliveries"] = len(deliveries) - len(set(deliveries))
    return dict(counts)


_PLURALS = {
    Event.SEND: "attempts",
    Event.DELIVERY: "deliveries",
    Event.HANDED: "handed over",
    Event.ACK: "acks",
    Event.NACK: "nacks",
    Event.OPENED: "sessions",
    Event.DONE: "ended in peace",
}
