"""
A connection without a socket: what a node writes waits here until HTTP requests take it.

Mail stays until it is acked, so a poll whose answer got lost loses nothing; the
session's window bounds it. What is not for the window (a broadcast, which
nobody acks) is given once. Answers go to the request that asked. Events have the order
in which all of it came, and who lost some goes on from the number of the last that it has:
what needs no ack is in a :class:`~agora.relay.http.backlog.Backlog`.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import merge
from typing import Any

import msgspec

from agora.codes import CloseCode
from agora.frames import Watched
from agora.keys import PeerId
from agora.protocol.relay.actions import SessionId
from agora.relay.http.backlog import Backlog, Told
from agora.relay.http.errors import ErrorFrame

__all__ = ["Asked", "Letter", "Postbox", "Reader"]


@dataclass(eq=False, slots=True)
class Letter:
    """
    One message that waits.

    Attributes:
        number: Its place among all that came by this postbox.
        id: The envelope's id; None where it has none that counts.
        text: The ``message`` frame.
        is_for_once: Whether it is not to be acked, and goes when it was given.
        was_given: Whether a request has got it.
    """

    number: int
    id: str | None
    text: str
    is_for_once: bool
    was_given: bool = False


@dataclass(eq=False, slots=True)
class Asked:
    """
    A frame that was given to the node, and what has come back.

    Attributes:
        id: The id that its envelope claims.
        open: The recipients for which there is no answer yet.
        receipts: ``receipt`` frames.
        errors: ``error`` frames.
        reached: Set when the node has it, and has refused what it refuses.
        done: Set when nothing is open any more.
    """

    id: str | None
    open: set[str]
    receipts: list[str] = field(default_factory=list)
    errors: list[ErrorFrame] = field(default_factory=list)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def take_error(self, error: ErrorFrame) -> None:
        """Note a refusal, for one recipient or, where it names none that is open, for all."""
        self.errors.append(error)
        if error.to in self.open:
            self.open.discard(error.to)
        else:
            self.open.clear()
        self._check()

    def take_receipt(self, text: str, to: str) -> None:
        """Note a receipt."""
        self.receipts.append(text)
        self.open.discard(to)
        self._check()

    def end(self) -> None:
        """Let nobody wait any more."""
        self.reached.set()
        self.done.set()

    def _check(self) -> None:
        if not self.open:
            self.end()


@dataclass(eq=False, slots=True)
class Reader:
    """
    Who gets events: where it is in a postbox.

    Attributes:
        watched: Whose presence it is told.
        mail_after: Number of the letter behind which it begins, and then of what it got last.
        told_after: The same of what needs no ack.
        state_after: Presence up to this number is older than the state with which it begins.
        unread_bytes: Bytes of what needs no ack that it has not got.
    """

    watched: Watched
    mail_after: int
    told_after: int
    state_after: int = 0
    unread_bytes: int = 0

    def read(self, told: Told) -> str:
        """Return what of a frame is for it; nothing where that is empty."""
        if not told.text.startswith(_PRESENCE):
            return told.text
        if told.number <= self.state_after:
            return ""
        return told.text if self.watched.everyone else _only(self.watched.peers, told.text)


_PRESENCE = '{"type":"presence"'


def _only(peers: frozenset[PeerId], text: str) -> str:
    """Return a ``presence`` frame without others than *peers*; nothing where that is empty."""
    frame = json.loads(text)
    come = [one for one in frame["online"] if one["publicKey"] in peers]
    gone = [one for one in frame["offline"] if one in peers]
    changes = {"type": "presence", "online": come, "offline": gone}
    return msgspec.json.encode(changes).decode() if come or gone else ""


class Postbox:
    """
    The :class:`~agora.relay.node.Connection` of a node's session that HTTP requests share.

    Args:
        peer: Whose session it is.
        answer_ping: Has the node hear a pong; called with its payload.
        tell_late: Called with each receipt or error that came when nobody waited for it any more.
        backlog_bytes: How much is kept of what needs no ack when all who listen have it.

    Attributes:
        session: The id of its session, once it has one.
        greeting: The frame that answered the registration last: ``challenge`` or ``registered``.
        refusal: Why there is no session.
        close_code: With what the node has closed it; None while it is open.
        changed: Set whenever something comes.
    """

    def __init__(
        self,
        peer: PeerId,
        answer_ping: Callable[[Postbox, bytes], None],
        tell_late: Callable[[str], None] = lambda text: None,
        backlog_bytes: int = 0,
    ) -> None:
        self.session = SessionId("")
        self.greeting = ""
        self.refusal: ErrorFrame | None = None
        self.close_code: CloseCode | None = None
        self.changed = asyncio.Event()
        self._peer = peer
        self._answer_ping = answer_ping
        self._tell_late = tell_late
        self._pinged: deque[Asked] = deque()
        self._letters: dict[int, Letter] = {}
        self._last = 0
        self._ungiven_bytes = 0
        self._asked: list[Asked] = []
        self._readers: set[Reader] = set()
        self._backlog = Backlog(backlog_bytes)
        self._told = 0  # the last that any reader got of what needs no ack
        self._markers: deque[tuple[int, bytes]] = deque()  # pings behind what has no id

    # Connection, for the node

    @property
    def unsent_bytes(self) -> int:
        """Bytes that no request has got; what waits to be acked is bounded by the window."""
        # The longest way behind, not all ways together: what several have to read is kept once.
        behind = max([one.unread_bytes for one in self._readers], default=0)
        return self._ungiven_bytes + behind

    def send(self, text: str) -> None:
        """Take one frame."""
        kind = text[9 : text.find('"', 9)]  # every frame begins with {"type":"
        _TAKES.get(kind, Postbox._take_greeting)(self, text)

    def send_all(self, texts: tuple[str, ...]) -> None:
        """Take frames."""
        for text in texts:
            self.send(text)

    def ping(self, payload: bytes) -> None:
        """Answer, as the door itself is alive; but a marker only when what is before it is gone."""
        if payload and self._letters:
            self._markers.append((self._last, payload))
            self._answer_markers()
        else:
            self._answer_ping(self, payload)

    def withdraw(self, envelope_id: str) -> bool:
        """Let go of what another session has settled, as if this one had."""
        self.settle([envelope_id])
        return True

    def close(self, code: CloseCode) -> None:
        """Note that the session is over: whoever waits hears of it."""
        self.close_code = code
        for asked in self._asked:
            asked.end()
        self.changed.set()

    def hang_up(self) -> None:
        """End it from this side."""
        self.close(CloseCode.NORMAL)

    # Mail, for requests

    @property
    def is_open(self) -> bool:
        """Whether its session is."""
        return self.close_code is None

    @property
    def has_letters(self) -> bool:
        """Whether anything waits."""
        return bool(self._letters)

    @property
    def count(self) -> int:
        """How many wait."""
        return len(self._letters)

    def letters(self, *, after: int = 0) -> Iterator[Letter]:
        """Yield what waits, the oldest first."""
        return (letter for letter in list(self._letters.values()) if letter.number > after)

    def give(self, letters: Iterable[Letter]) -> None:
        """Note that a request gets these."""
        for letter in letters:
            if not letter.was_given:
                letter.was_given = True
                self._ungiven_bytes -= len(letter.text)
            if letter.is_for_once:
                self._letters.pop(letter.number, None)
        self._answer_markers()

    def settle(self, ids: Iterable[str]) -> None:
        """Let go of what was acked, or put off."""
        settled = set(ids)
        for letter in [one for one in self._letters.values() if one.id in settled]:
            del self._letters[letter.number]
            if not letter.was_given:
                self._ungiven_bytes -= len(letter.text)
        self._answer_markers()

    # Events, for requests

    @property
    def last(self) -> int:
        """Number of the last that came."""
        return self._last

    def knows(self, number: int) -> bool:
        """Tell whether all that came behind a number can be told."""
        return self._backlog.forgotten <= number <= self._last

    def reader(self, watched: Watched, *, after: int | None) -> Reader:
        """
        Return who gets the events behind a number.

        With None it gets what waits to be acked, and what nobody was told of the rest.
        """
        if after is None:
            return Reader(watched, 0, self._told)
        return Reader(watched, after, after)

    def start_of(self, reader: Reader) -> int:
        """Return the number behind which all is that *reader* has not got."""
        first = next(self.letters(after=reader.mail_after), None)
        return reader.told_after if first is None else min(first.number - 1, reader.told_after)

    @contextmanager
    def reading(self, reader: Reader) -> Iterator[None]:
        """Keep all that *reader* has not got for the length of a ``with`` block."""
        reader.unread_bytes = sum(len(one.text) for one in self._backlog.after(reader.told_after))
        self._readers.add(reader)
        try:
            yield
        finally:
            self._readers.discard(reader)
            self._forget()

    def take(self, reader: Reader, *, at_most: int) -> list[Told]:
        """Return the next events for *reader*, of some *at_most* bytes, which then it has."""
        told: Iterable[Told | Letter] = self._backlog.after(reader.told_after)
        waiting = list(self.letters(after=reader.mail_after))
        taken: list[Told] = []
        size = 0
        for one in merge(told, waiting, key=lambda one: one.number):
            if size > at_most:
                break
            text = (
                self._give_event(one, reader)
                if isinstance(one, Letter)
                else self._read(one, reader)
            )
            if text:
                taken.append(Told(one.number, text))
                size += len(text)
        self._answer_markers()
        self._forget()
        return taken

    # Answers, for requests

    def tell(self, text: str) -> None:
        """Have every reader get a frame that needs no ack."""
        self._last += 1
        self._keep(self._last, text)
        self._forget()
        self.changed.set()

    def expect_pong(self, asked: Asked) -> None:
        """A ``ping`` goes to the node behind *asked*: its ``pong`` says that it was reached."""
        self._pinged.append(asked)

    @contextmanager
    def asking(self, asked: Asked) -> Iterator[None]:
        """Have *asked* get its answers for the length of a ``with`` block."""
        self._asked.append(asked)
        try:
            yield
        finally:
            self._asked.remove(asked)

    # From here on, private

    def _give_event(self, letter: Letter, reader: Reader) -> str:
        reader.mail_after = letter.number
        if letter.is_for_once:
            reader.told_after = max(reader.told_after, letter.number)
            self._told = max(self._told, letter.number)
            self._keep(letter.number, letter.text)
        self.give([letter])
        return letter.text

    def _read(self, told: Told, reader: Reader) -> str:
        reader.told_after = told.number
        reader.unread_bytes -= len(told.text)
        self._told = max(self._told, told.number)
        return reader.read(told)

    def _keep(self, number: int, text: str) -> None:
        self._backlog.keep(number, text)
        for reader in self._readers:
            if reader.told_after < number:
                reader.unread_bytes += len(text)

    def _forget(self) -> None:
        read = min([one.told_after for one in self._readers], default=self._last)
        self._backlog.forget(up_to=read)

    def _take_letter(self, text: str) -> None:
        envelope_id, is_for_once = _read_letter(text, self._peer)
        self._last += 1
        self._letters[self._last] = Letter(self._last, envelope_id, text, is_for_once)
        self._ungiven_bytes += len(text)
        self.changed.set()

    def _take_receipt(self, text: str) -> None:
        receipt = _RECEIPT.decode(text)
        for asked in self._asked:
            if asked.id == receipt.id and receipt.to in asked.open:
                asked.take_receipt(text, receipt.to)
                return
        self._tell_late(text)

    def _take_error(self, text: str) -> None:
        error = _ERROR.decode(text)
        self.refusal = error
        self.changed.set()
        exact = [one for one in self._asked if one.id == error.id and error.to in one.open]
        # One that names no recipient is of a frame as a whole; without an id of that given last.
        likely = [one for one in reversed(self._asked) if one.id == error.id]
        if error.id is None:
            likely = likely or self._asked[-1:]
        for asked in (exact or likely)[:1]:
            asked.take_error(error)
        if error.id is not None and not (exact or likely):
            self._tell_late(text)

    def _take_pong(self, text: str) -> None:
        if self._pinged:
            self._pinged.popleft().reached.set()

    def _take_greeting(self, text: str) -> None:
        self.greeting = text
        self.refusal = None
        self.changed.set()

    def _answer_markers(self) -> None:
        first = next(iter(self._letters.values()), None)
        while self._markers and (first is None or self._markers[0][0] < first.number):
            _, payload = self._markers.popleft()
            self._answer_ping(self, payload)


_TAKES: dict[str, Callable[[Postbox, str], None]] = {
    "message": Postbox._take_letter,
    "receipt": Postbox._take_receipt,
    "error": Postbox._take_error,
    "presence": Postbox.tell,
    "pong": Postbox._take_pong,
}


class _Receipt(msgspec.Struct):
    id: str
    to: str


class _Ends(msgspec.Struct):
    id: Any = None
    to: Any = None


class _Delivery(msgspec.Struct):
    envelope: _Ends


_RECEIPT = msgspec.json.Decoder(_Receipt)
_ERROR = msgspec.json.Decoder(ErrorFrame)
_DELIVERY = msgspec.json.Decoder(_Delivery)


def _read_letter(text: str, peer: PeerId) -> tuple[str | None, bool]:
    """Return the id of a message's envelope, and whether it is no mail of *peer* to be acked."""
    try:
        ends = _DELIVERY.decode(text).envelope
        envelope_id, to = ends.id, ends.to
    except msgspec.MsgspecError:  # half a surrogate, or an envelope that is none
        envelope = json.loads(text).get("envelope")
        members = envelope if isinstance(envelope, dict) else {}
        envelope_id, to = members.get("id"), members.get("to")
    has_id = isinstance(envelope_id, str) and bool(envelope_id)
    is_named = peer in to if isinstance(to, list) else to in (peer, None)
    return (envelope_id if has_id else None), not (has_id and is_named)
