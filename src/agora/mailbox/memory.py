"""
A mailbox in memory: for ``--memory``, and for tests.

Every change is made with the way back beside it; :meth:`MemoryMailbox.rollback` goes that way.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from msgspec.structs import replace

from agora.keys import PeerId
from agora.mailbox.ages import Ages
from agora.mailbox.base import (
    AlreadyStoredError,
    DeadLetter,
    MailboxBounds,
    MailboxFullError,
    MailboxSummary,
    OutOfOrderError,
    Page,
    Put,
    Refusal,
    StoreTotals,
)
from agora.mailbox.fitting import Held, Holdings, check_room, cut_page
from agora.mailbox.retained_memory import RetainedMemory
from agora.mailbox.retaining import Retaining
from agora.protocol.relay.actions import Mail

__all__ = ["MemoryMailbox"]

_ALL = ""
"""Stands for every recipient, or every sender, where holdings are counted; no peer is called so."""


_FOREVER = 2**63
"""Milliseconds since the Unix epoch that no mail is stored behind."""


@dataclass(slots=True)
class _Waiting:
    """Mail, and how often it was nacked."""

    mail: Mail
    nacks: int = 0


class MemoryMailbox(Retaining):
    """
    Keeps mail until the process ends.

    Args:
        bounds: How much.
    """

    _retained: RetainedMemory

    def __init__(self, bounds: MailboxBounds) -> None:
        self._bounds = bounds
        self._waiting: dict[int, _Waiting] = {}  # by position
        self._order: dict[str, list[int]] = {}  # positions by recipient
        self._ids: dict[tuple[str, str], dict[str, int]] = {}  # (recipient, id): position by sender
        self._held: dict[tuple[str, str], Held] = {}
        self._ages = Ages()
        self._dead: dict[int, DeadLetter] = {}
        self._pins: dict[PeerId, int] = {}
        self._last_position = 0
        self._undo: list[Callable[[], object]] = []
        self._retained = RetainedMemory(self._do)

    # Mail

    def last_position(self) -> int:
        """Return the highest position that any mail ever had."""
        return self._last_position

    def put(self, mail: Mail, *, now_ms: int, is_owed: bool = False, follows: int = 0) -> None:
        """Keep *mail*; see :meth:`Mailbox.put <agora.mailbox.base.Mailbox.put>`."""
        if mail.sender in self._ids.get((mail.recipient, mail.envelope_id), {}):
            raise AlreadyStoredError(f"envelope {mail.envelope_id} waits already")
        if self._retained.has(mail):
            raise AlreadyStoredError(f"envelope {mail.envelope_id} was acked")
        if follows and not self._waits(mail.recipient, follows):
            raise OutOfOrderError(f"what envelope {mail.envelope_id} follows does not wait")
        if not is_owed:
            check_room(mail.size, self._holdings(mail), self._bounds)
        waiting = _Waiting(replace(mail, stored_ms=now_ms, traceparent=None))
        self._do(partial(self._add, waiting), partial(self._drop, waiting))
        highest = max(self._last_position, mail.position)
        self._do(
            partial(self._set_last_position, highest),
            partial(self._set_last_position, self._last_position),
        )

    def put_many(self, puts: Sequence[Put]) -> list[Refusal | None]:
        """Keep what can be kept of *puts*."""
        return [self._outcome(put) for put in puts]

    def page(self, recipient: str, *, after: int, max_messages: int, max_bytes: int) -> Page:
        """Return the mail behind *after*."""
        order = self._order.get(recipient, [])
        behind = range(bisect_right(order, after), len(order))
        return cut_page(
            (self._waiting[order[place]].mail for place in behind),
            max_messages=max_messages,
            max_bytes=max_bytes,
        )

    def remove(
        self, recipient: str, positions: Iterable[int], *, acked_ms: int | None = None
    ) -> None:
        """Take messages out."""
        gone = [self._take_out(recipient, position) for position in sorted(positions)]
        if acked_ms is not None:
            self.retain([waiting.mail for waiting in gone if waiting], acked_ms=acked_ms)

    def remove_ids(
        self, recipient: str, ids: Iterable[str], *, acked_ms: int | None = None
    ) -> None:
        """Take messages out by envelope id."""
        positions = [waiting.mail.position for waiting in self._with_ids(recipient, ids)]
        self.remove(recipient, positions, acked_ms=acked_ms)

    def senders_of(self, recipient: str, ids: Iterable[str]) -> tuple[tuple[PeerId, str], ...]:
        """Return who sent messages, each with its id."""
        found = (waiting.mail for waiting in self._with_ids(recipient, ids))
        return tuple((mail.sender, mail.envelope_id) for mail in found)

    def count(self, recipient: str) -> tuple[int, int]:
        """Return how many messages and bytes wait."""
        held = self._holding(recipient, _ALL)
        return held.messages, held.bytes

    # What is given up

    def nack(self, recipient: str, ids: Iterable[str], *, max_nacks: int) -> tuple[Mail, ...]:
        """Count one more nack for each message."""
        nacked = sorted(self._with_ids(recipient, ids), key=lambda found: found.mail.position)
        for waiting in nacked:
            self._do(
                partial(setattr, waiting, "nacks", waiting.nacks + 1),
                partial(setattr, waiting, "nacks", waiting.nacks),
            )
        return tuple(waiting.mail for waiting in nacked if waiting.nacks >= max_nacks)

    def bury(self, recipient: str, positions: Iterable[int], *, now_ms: int) -> None:
        """Set messages aside as dead letters."""
        for position in positions:
            if waiting := self._take_out(recipient, position):
                letter = DeadLetter(waiting.mail, waiting.nacks, now_ms)
                self._do(
                    partial(self._dead.__setitem__, position, letter),
                    partial(self._dead.__delitem__, position),
                )
        oldest = sorted(self._dead, key=lambda position: (self._dead[position].died_ms, position))
        self._forget(oldest[: max(0, len(oldest) - self._bounds.max_dead_letters)])

    def expired(self, *, before_ms: int, max_messages: int) -> tuple[Mail, ...]:
        """Return the oldest mail that was stored before *before_ms*."""
        positions = self._ages.oldest(before_ms, max_messages, self._stored_ms)
        return tuple(self._waiting[position].mail for position in positions)

    def forget_dead_letters(self, *, before_ms: int) -> int:
        """Remove dead letters that died before *before_ms*."""
        old = [position for position, dead in self._dead.items() if dead.died_ms < before_ms]
        self._forget(old)
        return len(old)

    # Pins

    def pin(self, peer: PeerId, *, now_ms: int) -> None:
        """Remember that *peer* has proven itself."""
        if peer not in self._pins:
            self._do(
                partial(self._pins.__setitem__, peer, now_ms),
                partial(self._pins.__delitem__, peer),
            )

    def unpin(self, peer: PeerId) -> bool:
        """Forget it."""
        if peer not in self._pins:
            return False
        self._do(
            partial(self._pins.__delitem__, peer),
            partial(self._pins.__setitem__, peer, self._pins[peer]),
        )
        return True

    def pins(self) -> tuple[PeerId, ...]:
        """Return all pins."""
        return tuple(sorted(self._pins))

    # For the operator

    def summaries(self) -> tuple[MailboxSummary, ...]:
        """Return what is kept of each recipient."""
        dead = [letter.mail.recipient for letter in self._dead.values()]
        retained = self._retained.messages()
        return tuple(
            MailboxSummary(
                recipient,
                *self.count(recipient),
                self._oldest(recipient),
                dead.count(recipient),
                retained.get(recipient, 0),
            )
            for recipient in sorted({*self._order, *dead, *retained})
        )

    def totals(self, *, largest: int) -> StoreTotals:
        """Return what is kept all in all."""
        all_of_it, retained = self._holding(_ALL, _ALL), self._retained.held("")
        by_size = sorted(self._order, key=lambda one: (-self._holding(one, _ALL).bytes, one))
        oldest = self._ages.oldest(_FOREVER, 1, self._stored_ms)
        return StoreTotals(
            len(self._order),
            all_of_it.messages,
            all_of_it.bytes,
            self._waiting[oldest[0]].mail.stored_ms if oldest else 0,
            len(self._dead),
            tuple(map(self._summary, by_size[:largest])),
            retained.messages,
            retained.bytes,
        )

    def _summary(self, recipient: str) -> MailboxSummary:
        held, first = self._holding(recipient, _ALL), self._order[recipient][0]
        oldest_ms = self._waiting[first].mail.stored_ms
        return MailboxSummary(recipient, held.messages, held.bytes, oldest_ms, 0)

    def dead_letters(self, recipient: str | None = None) -> tuple[DeadLetter, ...]:
        """Return dead letters, oldest first."""
        wanted = [d for d in self._dead.values() if recipient in (None, d.mail.recipient)]
        return tuple(sorted(wanted, key=lambda dead: (dead.died_ms, dead.mail.position)))

    def purge(self, recipient: str, *, dead_letters_only: bool = False) -> int:
        """Remove all that is kept of a recipient, or its dead letters alone."""
        dead = [d.mail.position for d in self.dead_letters(recipient)]
        mail = [] if dead_letters_only else self._positions(recipient)
        self._forget(dead)
        self.remove(recipient, mail)
        retained = 0 if dead_letters_only else self._retained.purge(recipient)
        return len(dead) + len(mail) + retained

    # Safety

    def change_bounds(self, bounds: MailboxBounds) -> None:
        """Go by other bounds from now on."""
        self._bounds = bounds

    def has_changed(self) -> bool:
        """Tell that nobody else has changed anything: nobody can."""
        return False

    def touch(self) -> None:
        """Do nothing: there is no disk that could refuse it."""

    def commit(self) -> bool:
        """Keep the changes."""
        has_changes = bool(self._undo)
        self._undo.clear()
        return has_changes

    def rollback(self) -> None:
        """Undo the changes, the latest first."""
        while self._undo:
            self._undo.pop()()

    def close(self) -> None:
        """Forget everything."""
        self._undo.clear()
        self._retained = RetainedMemory(self._do)
        for kept in (self._waiting, self._order, self._ids, self._held, self._dead, self._pins):
            kept.clear()

    # Within

    def _outcome(self, put: Put) -> Refusal | None:
        try:
            self.put(put.mail, now_ms=put.now_ms, is_owed=put.is_owed, follows=put.follows)
        except (AlreadyStoredError, MailboxFullError, OutOfOrderError) as refusal:
            return refusal
        return None

    def _do(self, change: Callable[[], object], undo: Callable[[], object]) -> None:
        change()
        self._undo.append(undo)

    def _holdings(self, mail: Mail) -> Holdings:
        return Holdings(
            mailbox=self._holding(mail.recipient, _ALL),
            of_sender=self._holding(mail.recipient, mail.sender),
            sender=self._holding(_ALL, mail.sender),
            store=self._holding(_ALL, _ALL),
        )

    def _holding(self, recipient: str, sender: str) -> Held:
        return self._held.get((recipient, sender), Held(0, 0))

    def _positions(self, recipient: str) -> list[int]:
        return list(self._order.get(recipient, []))

    def _oldest(self, recipient: str) -> int:
        moments = (self._waiting[at].mail.stored_ms for at in self._order.get(recipient, []))
        return min(moments, default=0)

    def _stored_ms(self, position: int) -> int | None:
        waiting = self._waiting.get(position)
        return waiting.mail.stored_ms if waiting else None

    def _with_ids(self, recipient: str, ids: Iterable[str]) -> Iterator[_Waiting]:
        for envelope_id in dict.fromkeys(ids):
            for position in self._ids.get((recipient, envelope_id), {}).values():
                yield self._waiting[position]

    def _waits(self, recipient: str, position: int) -> bool:
        waiting = self._waiting.get(position)
        return waiting is not None and waiting.mail.recipient == recipient

    def _take_out(self, recipient: str, position: int) -> _Waiting | None:
        if not self._waits(recipient, position):
            return None
        waiting = self._waiting[position]
        self._do(partial(self._drop, waiting), partial(self._add, waiting))
        return waiting

    def _forget(self, dead: Iterable[int]) -> None:
        for position in dead:
            self._do(
                partial(self._dead.__delitem__, position),
                partial(self._dead.__setitem__, position, self._dead[position]),
            )

    def _set_last_position(self, position: int) -> None:
        self._last_position = position

    def _add(self, waiting: _Waiting) -> None:
        mail = waiting.mail
        self._waiting[mail.position] = waiting
        insort(self._order.setdefault(mail.recipient, []), mail.position)
        if mail.envelope_id:
            by_sender = self._ids.setdefault((mail.recipient, mail.envelope_id), {})
            by_sender[mail.sender] = mail.position
        self._ages.add(mail.stored_ms, mail.position)
        self._count(mail, +1)

    def _drop(self, waiting: _Waiting) -> None:
        mail = waiting.mail
        del self._waiting[mail.position]
        order = self._order[mail.recipient]
        del order[bisect_right(order, mail.position) - 1]
        if not order:
            del self._order[mail.recipient]
        if mail.envelope_id:
            by_sender = self._ids[mail.recipient, mail.envelope_id]
            del by_sender[mail.sender]
            if not by_sender:
                del self._ids[mail.recipient, mail.envelope_id]
        self._ages.drop(self._stored_ms)
        self._count(mail, -1)

    def _count(self, mail: Mail, sign: int) -> None:
        for recipient in (mail.recipient, _ALL):
            for sender in (mail.sender, _ALL):
                held = self._held.pop((recipient, sender), Held(0, 0))
                now = Held(held.messages + sign, held.bytes + sign * mail.size)
                if now.messages:
                    self._held[recipient, sender] = now
