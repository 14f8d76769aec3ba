"""
The one place that acts: carries out what the core decides, and tells it what came of it.

A node holds the sessions of one relay process. WebSocket connections and what
HTTP requests come in by are doors to it; the rules are all in :mod:`agora.protocol`.
"""

from __future__ import annotations

import logging
import math
import secrets
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, Protocol

from agora.codes import CloseCode
from agora.errors import TryAgainError
from agora.frames import ListedPeer, Register
from agora.keys import PeerId
from agora.limits import Limits
from agora.mailbox import Mailbox, MailboxBounds, Page
from agora.protocol.agenda import Agenda
from agora.protocol.proof import OVER_WEBSOCKET, Purposes
from agora.protocol.relay.actions import (
    Action,
    Bury,
    Close,
    CountNacks,
    Deliver,
    Fetch,
    Mail,
    Note,
    Pin,
    Ping,
    Remove,
    RemoveIds,
    Retain,
    Send,
    SendAll,
    SessionId,
    Settle,
    Store,
    Verify,
    Withdraw,
)
from agora.protocol.relay.admission import Remembered
from agora.protocol.relay.outcomes import Outcomes
from agora.protocol.relay.registry import Registry
from agora.protocol.relay.router import Router, RouterConfig
from agora.protocol.relay.session import Door, RelaySession
from agora.protocol.relay.tracing import Tracer
from agora.relay.metrics import ErrorRecord, Tally
from agora.relay.verifier import Verifier
from agora.relay.writer import PutMail, RemoveMail, RetainMail, Writer

__all__ = ["Connection", "Node", "PeerOnline"]

_log = logging.getLogger("agora.relay")


class Connection(Protocol):
    """What a node needs of a door. No method waits or raises."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes that were written and have not left."""
        ...

    def send(self, text: str) -> None:
        """Write one message."""
        ...

    def send_all(self, texts: tuple[str, ...]) -> None:
        """Write messages, in one go."""
        ...

    def ping(self, payload: bytes) -> None:
        """Write a WebSocket ping."""
        ...

    def withdraw(self, envelope_id: str) -> bool:
        """
        Hear that another session of its peer has acked a message that was written to it.

        Returns:
            Whether it kept that, and does so no longer.
        """
        ...

    def close(self, code: CloseCode) -> None:
        """Begin to close; nothing is written after it."""
        ...


@dataclass(eq=False, slots=True)
class _Seat:
    """
    An open connection, its session, and the bytes it may lag behind more than others.

    Its *door* is the kind of connection it is.
    """

    session: RelaySession
    connection: Connection
    door: str
    allowance: int = 0


class PeerOnline(NamedTuple):
    """
    A peer that is online, for its operator.

    Attributes:
        peer: Who it is.
        name: The display name it claims.
        sessions: How many it has.
        door: The door through which the first of them came.
        since_ms: When that was, in milliseconds since the Unix epoch.
    """

    peer: PeerId
    name: str | None
    sessions: int
    door: str
    since_ms: int


class Node:
    """
    The sessions of one relay process, and what they need done.

    Args:
        limits: What is admitted.
        config: Its identity and policies, and what it knew before.
        writer: Its mailboxes.
        verifier: What verifies signatures.
        clock: Seconds that only go forward.
        wall_ms: Milliseconds since the Unix epoch.
        tally: Where it counts what happens.
        tracer: Who makes spans of it; None where nobody does.
    """

    def __init__(
        self,
        limits: Limits,
        config: RouterConfig,
        *,
        writer: Writer,
        verifier: Verifier,
        clock: Callable[[], float],
        wall_ms: Callable[[], int],
        tally: Tally | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self._limits = limits
        self._writer = writer
        self._verifier = verifier
        self._clock = clock
        self._wall_ms = wall_ms
        now = clock()
        began_ms = wall_ms() - int(now * 1000)
        self._router = Router(limits, replace(config, wall_ms=began_ms), tracer=tracer)
        if config.taken is not None:
            self._router.mailroom.taken.remember(config.taken, now)
        self._tracer = tracer
        self._open: dict[SessionId, _Seat] = {}
        self._agenda = Agenda()
        self._to_do: deque[Action] = deque()
        self._is_acting = False
        self._storing_bytes = 0
        self._expired_at = now
        self._forget_at = now
        self._is_draining = False
        self.counts: Counter[str] = Counter()
        self._tally = tally or Tally()

    def __len__(self) -> int:
        """Count the open connections, registered or not."""
        return len(self._open)

    # What an operator sees

    @property
    def is_draining(self) -> bool:
        """Whether it takes nothing more: it is about to stop."""
        return self._is_draining

    @property
    def storing_bytes(self) -> int:
        """Bytes of mail that wait for the disk."""
        return self._storing_bytes

    @property
    def outcomes(self) -> Outcomes:
        """What senders were told of their messages."""
        return self._router.outcomes

    @property
    def registry(self) -> Registry:
        """Its open sessions, to be looked at."""
        return self._router.registry

    def peers_online(self, at_most: int) -> list[PeerOnline]:
        """Return the first peers that are online, in the order they came."""
        born_ms = self._wall_ms() - self._clock() * 1000  # of the clock
        first = islice(self._router.registry.presence, at_most)
        return [
            PeerOnline(
                entry.public_key,
                entry.name,
                len(entry.sessions),
                seat.door,
                round(born_ms + seat.session.opened_at * 1000),
            )
            for entry in first
            if (seat := self._open.get(entry.sessions[0]))  # else all are being closed
        ]

    def peers(
        self, own: PeerId, *, after: str, at_most: int
    ) -> tuple[list[tuple[ListedPeer, int | None]], int]:
        """
        Return a page of the peers that can be reached, and how many there are.

        By key, behind *after*, without *own*; each with when it was last seen, in ms
        since the Unix epoch, None while it is away.
        """
        page, total = self._router.registry.presence.page(own, after=after, at_most=at_most)
        told: list[tuple[ListedPeer, int | None]] = []
        for key, entry in page:
            seen_ms = None if entry is None else self._router.wall_ms(entry.last_seen)
            name = None if entry is None else entry.name
            told.append((ListedPeer(key, name, entry is not None), seen_ms))
        return told, total

    def replay(
        self,
        peer: PeerId,
        *,
        since_ms: int,
        after: int,
        max_messages: int,
        max_bytes: int,
        done: Callable[[Page | Exception], None],
    ) -> None:
        """
        Read a page of the mail of *peer* that was acked at *since_ms* or later.

        Args:
            peer: Whose it is.
            since_ms: A moment on the relay's clock; older than what is kept counts as that.
            after: The position of the last message of the page before.
            max_messages: The most to read.
            max_bytes: The most to read of their text, unless the first alone is longer.
            done: Gets the page, or why there is none.
        """
        oldest_ms = self._wall_ms() - int(self._limits.retain * 1000)
        self._writer.submit(
            lambda mailbox: mailbox.retained(
                peer,
                since_ms=max(since_ms, oldest_ms),
                after=after,
                max_messages=max_messages,
                max_bytes=max_bytes,
            ),
            done,
        )

    def taken(self) -> Remembered:
        """Return what is known as taken, for the node that comes after this one."""
        return self._router.mailroom.taken.remembered(self._clock())

    # What a door tells

    def open(
        self,
        connection: Connection,
        *,
        address: str = "",
        audiences: tuple[str, ...] = (),
        purposes: Purposes = OVER_WEBSOCKET,
        door: str = "websocket",
    ) -> SessionId:
        """
        Take a new connection; return the id to speak of it by.

        Args:
            connection: What to write to.
            address: Where it comes from, by which rates are counted.
            audiences: The names that this relay has on it (:mod:`agora.protocol.proof`).
            purposes: What a proof over it is signed for.
            door: What kind of connection it is.
        """
        session_id = SessionId(str(uuid.uuid4()))
        come_in = Door(secrets.token_hex(32), address, audiences, purposes)
        session = RelaySession(session_id, self._router, self._limits, come_in, now=self._clock())
        self._open[session_id] = _Seat(session, connection, door)
        self._tally.doors[door] += 1
        self._agenda.add(session_id, session.due)
        return session_id

    def resume(self, session_id: SessionId, register: Register) -> None:
        """Register a connection for a key that proved itself before, as its door remembers."""
        if seat := self._open.get(session_id):
            self._carry_out(seat.session.resume(register, now=self._clock()))

    def receive(self, session_id: SessionId, data: str | bytes) -> None:
        """Take a message that came on a connection."""
        if self._is_draining:
            return  # not taken, not answered: the client sends it again where it comes back
        if seat := self._open.get(session_id):
            self._carry_out(seat.session.receive(data, now=self._clock()))

    def receive_pong(self, session_id: SessionId, payload: bytes) -> None:
        """Take a WebSocket pong."""
        if seat := self._open.get(session_id):
            self._carry_out(seat.session.receive_pong(payload, now=self._clock()))

    def hear(self, session_id: SessionId) -> None:
        """Note a sign of life, such as a WebSocket ping; its pong is written already."""
        if seat := self._open.get(session_id):
            seat.session.hear(now=self._clock())
            self._check_reads(seat)

    def check_reads(self, session_id: SessionId) -> None:
        """Close a connection that reads too slowly; its door has just given it something itself."""
        if seat := self._open.get(session_id):
            self._check_reads(seat)

    def lost(self, session_id: SessionId) -> None:
        """Forget a connection that is gone."""
        if seat := self._open.pop(session_id, None):
            self._tally.doors[seat.door] -= 1
            self._carry_out(seat.session.end(now=self._clock()))

    def tick(self) -> None:
        """Let time pass for every session; to be called about once a second."""
        now = self._clock()
        for name in self._agenda.take_due(now):
            self._try(SessionId(name), lambda seat: self._look_after(seat, now))
        self._router.tick(now, self._wall_ms())
        self._look_for_changes()
        if self._limits.mailbox_max_age and now - self._expired_at >= _EXPIRE_EVERY:
            self._expired_at = now
            self._expire_mail()
        if now >= self._forget_at:
            self._forget_retained(now)

    def _look_after(self, seat: _Seat, now: float) -> None:
        self._carry_out(seat.session.tick(now=now))
        self._agenda.add(seat.session.id, seat.session.due)

    def _try(self, session_id: SessionId, step: Callable[[_Seat], None]) -> None:
        """Do something for a session that no connection has asked for now; a fault is its end."""
        seat = self._open.get(session_id)
        if seat is None:
            return
        try:
            step(seat)
        except Exception:
            # One of many that are done in a row: the others shall not suffer.
            _log.exception("session failed")
            self._close(session_id, CloseCode.INTERNAL_ERROR)

    def pulse(self) -> None:
        """Let a moment pass, for what cannot wait for a tick; about ten times a second."""
        self._carry_out(self._router.pulse(self._clock()))

    def change_limits(self, limits: Limits) -> None:
        """Go by other limits from now on, for who is here and who comes."""
        self._limits = limits
        self._router.change_limits(limits)
        self._agenda = Agenda()  # the heart may beat faster
        for session_id, seat in self._open.items():
            seat.session.change_limits(limits)
            self._agenda.add(session_id, seat.session.due)
        self._forget_at = self._clock()
        self._change(lambda mailbox: mailbox.change_bounds(MailboxBounds.of(limits)))

    def take_nothing_more(self) -> None:
        """Let messages go unread from now on; what was taken is stored and answered."""
        self._is_draining = True
        for seat in list(self._open.values()):
            self._carry_out(seat.session.take_all(now=self._clock()))
        self._carry_out(self._router.mailroom.put_away())

    def close_all(self, code: CloseCode) -> None:
        """
        Close every connection with *code*, as the last thing this node does.

        Nobody is told that the others go: all of them do, and on a full relay that
        would be the square of them in frames.
        """
        open_now, self._open = self._open, {}
        self._tally.doors.clear()
        for seat in open_now.values():
            seat.connection.close(code)

    # What the core asks for

    def _carry_out(self, actions: Iterable[Action]) -> None:
        # What an action leads to goes behind what is to be done already, not inside it: a session
        # that is closed is told of to the others, which may close the next, through all of them.
        self._to_do.extend(actions)
        if self._is_acting:
            return
        self._is_acting = True
        try:
            while self._to_do:
                self._act(self._to_do.popleft())
        finally:
            self._is_acting = False

    def _act(self, action: Action) -> None:
        _DOINGS[type(action)](self, action)

    def _verify(self, action: Verify) -> None:
        self._verifier.submit(action.sealed, partial(self._verified, action.session))

    def _verified(self, session_id: SessionId) -> None:
        self._try(session_id, self._take_verified)

    def _take_verified(self, seat: _Seat) -> None:
        self._carry_out(seat.session.verified(now=self._clock()))

    def _write(self, action: Send) -> None:
        for session_id in action.to:
            self._send(session_id, action.text)

    def _write_all(self, action: SendAll) -> None:
        size = sum(map(len, action.texts))
        for session_id in action.to:
            if connection := self._reach(session_id, size):
                connection.send_all(action.texts)

    def _settle(self, action: Settle) -> None:
        if self._tracer is not None:
            self._tracer.settled(action.ticket, action.outcome)
        if seat := self._open.get(action.ticket.session):
            self._carry_out(seat.session.settled(action.ticket.number, action.outcome))
        else:
            self._router.count_unheard(action.outcome)

    def _ping(self, action: Ping) -> None:
        if seat := self._open.get(action.session):
            seat.connection.ping(action.payload)

    def _withdraw(self, action: Withdraw) -> None:
        seat = self._open.get(action.session)
        if seat is not None and seat.connection.withdraw(action.envelope_id):
            self._carry_out(self._router.mailroom.let_go(action.session, action.envelope_id))

    def _send(self, session_id: SessionId, text: str) -> bool:
        """Write to a connection unless it is gone or reads too slowly; tell whether it took it."""
        connection = self._reach(session_id, len(text))
        if connection is None:
            return False
        connection.send(text)
        return True

    def _reach(self, session_id: SessionId, size: int) -> Connection | None:
        """Return a connection to write so much to; None when it is gone or reads too slowly."""
        seat = self._open.get(session_id)
        if seat is None or not self._check_reads(seat):
            return None
        if size > self._limits.max_unsent_bytes:
            # A list of ten thousand peers is no fault of who gets it: let there be time to read it.
            seat.allowance = size
        return seat.connection

    def _check_reads(self, seat: _Seat) -> bool:
        """Close a connection that reads too slowly; tell whether it stays."""
        if seat.connection.unsent_bytes <= self._limits.max_unsent_bytes + seat.allowance:
            return True
        self._close(seat.session.id, CloseCode.SLOW_CONSUMER)
        return False

    def _deliver(self, action: Deliver) -> None:
        # Every session is tried: a list, not a generator, so that `any` stops nothing.
        was_taken = any([self._send(session_id, action.text) for session_id in action.to])
        self._carry_out(self._router.mailroom.handed_over(action, was_taken=was_taken))

    def _end(self, action: Close) -> None:
        self._close(action.session, action.code)

    def _close(self, session_id: SessionId, code: CloseCode) -> None:
        # Left at once, not when the socket is gone: a closing session gets and sends nothing.
        if seat := self._open.pop(session_id, None):
            seat.connection.close(code)
            self._tally.doors[seat.door] -= 1
            self._tally.closes[code.name.lower()] += 1
            self._note(Note("closed", {"session": session_id, "code": int(code)}))
            self._carry_out(seat.session.end(now=self._clock()))

    # Mailboxes

    def _pin(self, action: Pin) -> None:
        now_ms = self._wall_ms()

        def pin(mailbox: Mailbox) -> int:
            mailbox.pin(action.peer, now_ms=now_ms)
            messages, _ = mailbox.count(action.peer)
            return messages

        self._writer.submit(pin, lambda result: self._pinned(action, result))

    def _pinned(self, action: Pin, result: int | Exception) -> None:
        pending = None if isinstance(result, Exception) else result
        self._log_failure(result)
        # Whether its connection still is there or not: what is on disk counts.
        self._router.pins.settle(action.peer, is_pinned=pending is not None)
        if seat := self._open.get(action.session):
            self._carry_out(seat.session.pinned(pending, now=self._clock()))

    def _store(self, action: Store) -> None:
        mail, now_ms = action.mail, self._wall_ms()
        if self._storing_bytes > self._limits.storing_max_bytes and not action.is_owed:
            error = TryAgainError(f"{self._storing_bytes} bytes of mail wait for the disk")
            self._carry_out(self._router.mailroom.not_stored(mail, error, self._clock()))
            return
        self._storing_bytes += mail.size
        self._writer.submit(
            PutMail(mail, now_ms, action.is_owed, action.follows),
            lambda result: self._stored(mail, result),
        )

    def _stored(self, mail: Mail, result: Exception | None) -> None:
        self._storing_bytes -= mail.size
        if result is None:
            self._carry_out(self._router.mailroom.stored(mail))
        else:
            self._carry_out(self._router.mailroom.not_stored(mail, result, self._clock()))

    def _fetch(self, action: Fetch) -> None:
        def page(mailbox: Mailbox) -> Page:
            return mailbox.page(
                action.peer,
                after=action.after,
                max_messages=action.max_messages,
                max_bytes=action.max_bytes,
            )

        self._writer.submit(page, lambda result: self._fetched(action, result))

    def _fetched(self, action: Fetch, result: Page | Exception) -> None:
        if isinstance(result, Exception):
            self._log_failure(result)
            # Its mail is safe but cannot be read now: coming back is the way to ask again.
            self._close(action.session, CloseCode.INTERNAL_ERROR)
            return
        self._carry_out(
            self._router.mailroom.fetched(action.session, result.mail, is_last=result.is_last)
        )

    def _remove(self, action: Remove) -> None:
        acked_ms = self._retained_ms() if action.is_settled else None
        work = RemoveMail(action.peer, positions=action.positions, acked_ms=acked_ms)
        self._take_out(work, self._log_failure)

    def _bury(self, action: Bury) -> None:
        now_ms = self._wall_ms()
        self._change(lambda mailbox: mailbox.bury(action.peer, action.positions, now_ms=now_ms))

    def _remove_ids(self, action: RemoveIds) -> None:
        peer, ids = action.peer, action.ids

        def removed(result: _Removed) -> None:
            self._log_failure(result)
            has_worked = not isinstance(result, Exception)
            senders = () if result is None or isinstance(result, Exception) else result
            self._carry_out(
                self._router.mailroom.removed(
                    peer, ids, self._clock(), has_worked=has_worked, senders=senders
                )
            )

        work = RemoveMail(peer, ids=ids, acked_ms=self._retained_ms())
        self._take_out(work, removed, nameless=action.nameless)

    def _take_out(
        self, work: RemoveMail, done: Callable[[_Removed], None], *, nameless: tuple[str, ...] = ()
    ) -> None:
        """Remove mail; where that fails with a copy retained, without: what was acked must go."""
        # What is known is removed together with what others remove, at a fraction of the cost.
        job: _Removal = partial(_remove_nameless, work, nameless) if nameless else work
        if work.acked_ms is None:
            self._writer.submit(job, done)
            return

        def without_copy(why: Exception, result: _Removed) -> None:
            if not isinstance(result, Exception):
                self._not_retained(work.recipient, len(work.ids or work.positions), str(why))
            done(result)

        def removed(result: _Removed) -> None:
            if not isinstance(result, Exception):
                done(result)
                return
            bare = replace(work, acked_ms=None)
            again: _Removal = partial(_remove_nameless, bare, nameless) if nameless else bare
            self._writer.submit(again, partial(without_copy, result))

        self._writer.submit(job, removed)

    def _retained_ms(self) -> int | None:
        """Return the moment at which what is acked now is retained; None where nothing is."""
        return self._wall_ms() if self._limits.retain else None

    def _retain(self, action: Retain) -> None:
        mail = action.mail
        if self._storing_bytes > self._limits.storing_max_bytes:
            why = f"{self._storing_bytes} bytes of mail wait for the disk"
            self._not_retained(mail.recipient, 1, why)
            return
        self._storing_bytes += mail.size

        def retained(result: Exception | None) -> None:
            self._storing_bytes -= mail.size
            if result is not None:
                self._not_retained(mail.recipient, 1, str(result))

        self._writer.submit(RetainMail(mail, self._wall_ms()), retained)

    def _not_retained(self, recipient: str, messages: int, why: str) -> None:
        before, count = self.counts["not_retained"], self.counts["not_retained"] + messages
        self.counts["not_retained"] = count
        if any(map(_is_milestone, range(before + 1, count + 1))):
            fields = {"to": recipient, "messages": messages, "error": why, "count": count}
            _log.error("acked mail not retained", extra={"fields": fields})

    def _count_nacks(self, action: CountNacks) -> None:
        most = self._limits.max_nacks
        self._writer.submit(
            lambda mailbox: mailbox.nack(action.peer, action.ids, max_nacks=most),
            lambda result: self._exhausted(result),
        )

    def _exhausted(self, result: tuple[Mail, ...] | Exception) -> None:
        if isinstance(result, Exception):
            self._log_failure(result)
        else:
            self._carry_out(self._router.mailroom.exhausted(result, self._clock(), self._wall_ms()))

    def _expire_mail(self) -> None:
        before_ms = self._wall_ms() - int(self._limits.mailbox_max_age * 1000)
        self._writer.submit(
            lambda mailbox: mailbox.expired(before_ms=before_ms, max_messages=_EXPIRE_AT_ONCE),
            self._expired,
        )
        self._change(lambda mailbox: mailbox.forget_dead_letters(before_ms=before_ms))

    def _expired(self, result: tuple[Mail, ...] | Exception) -> None:
        if isinstance(result, Exception):
            self._log_failure(result)
            return
        self._carry_out(self._router.mailroom.expired(result, self._clock(), self._wall_ms()))
        if len(result) == _EXPIRE_AT_ONCE:
            self._expired_at -= _EXPIRE_EVERY  # the next ones at the next tick

    def _forget_retained(self, now: float) -> None:
        """Forget what was retained for long enough: all, where nothing is any more."""
        now_ms, seconds = self._wall_ms(), self._limits.retain
        before_ms = now_ms - int(seconds * 1000) if seconds else _FOREVER_MS
        self._forget_at = now + _EXPIRE_EVERY if seconds else math.inf  # then once is enough

        def forgotten(result: int | Exception) -> None:
            self._log_failure(result)
            if isinstance(result, Exception) or result == _FORGET_AT_ONCE:
                self._forget_at = now  # the others, or once more, at the next tick

        self._writer.submit(
            lambda mailbox: mailbox.forget_retained(
                before_ms=before_ms, now_ms=now_ms, max_messages=_FORGET_AT_ONCE
            ),
            forgotten,
        )

    def _look_for_changes(self) -> None:
        """Take over what the operator has changed in the store, such as a pin."""

        def pins_if_changed(mailbox: Mailbox) -> tuple[PeerId, ...] | None:
            return mailbox.pins() if mailbox.has_changed() else None

        self._writer.submit(pins_if_changed, self._take_over)

    def _take_over(self, result: tuple[PeerId, ...] | Exception | None) -> None:
        if isinstance(result, Exception):
            self._log_failure(result)
        elif result is not None:
            self._router.pins.replace(result)

    def _change(self, work: Callable[[Mailbox], object]) -> None:
        self._writer.submit(work, self._log_failure)

    def _log_failure(self, result: object) -> None:
        if isinstance(result, Exception):
            _log.error("mailbox job failed", extra={"fields": {"error": str(result)}})

    def _note(self, note: Note) -> None:
        event = note.event
        self.counts[event] += 1
        level = logging.DEBUG if event in _FREQUENT else logging.INFO
        fields = note.fields
        if event == "refused":
            self._note_error(fields)
            fields = {**fields, "count": self.counts[event]}
            level = logging.INFO if _is_milestone(self.counts[event]) else logging.DEBUG
        if _log.isEnabledFor(level):
            _log.log(level, event, extra={"fields": {**fields}})

    def _note_error(self, fields: Mapping[str, str | int | float]) -> None:
        session, code = SessionId(str(fields["session"])), str(fields["code"])
        member = self._router.registry.get(session)
        peer = member.peer if member is not None else ""
        self._tally.note_error(ErrorRecord(self._wall_ms(), code, peer, session))


_DOINGS: Mapping[type[Action], Callable[[Node, Any], None]] = {
    Verify: Node._verify,
    Send: Node._write,
    SendAll: Node._write_all,
    Deliver: Node._deliver,
    Settle: Node._settle,
    Ping: Node._ping,
    Withdraw: Node._withdraw,
    Close: Node._end,
    Pin: Node._pin,
    Store: Node._store,
    Fetch: Node._fetch,
    Remove: Node._remove,
    RemoveIds: Node._remove_ids,
    Retain: Node._retain,
    CountNacks: Node._count_nacks,
    Bury: Node._bury,
    Note: Node._note,
}
"""How each action is carried out."""

_EXPIRE_EVERY = 60.0
"""Seconds between looks for mail that is too old."""

_EXPIRE_AT_ONCE = 500
"""Messages that are given up in one piece of work, so that others get their turn."""

_FORGET_AT_ONCE = 5_000
"""Retained messages that are forgotten in one piece of work; more come with every tick."""

_FOREVER_MS = 2**63 - 1
"""Milliseconds since the Unix epoch that nothing was acked behind."""

_FREQUENT = frozenset({"message", "stored", "broadcast"})


_Senders = tuple[tuple[PeerId, str], ...]
_Removed = _Senders | Exception | None
_Removal = Callable[[Mailbox], _Senders | None]


def _remove_nameless(work: RemoveMail, nameless: tuple[str, ...], mailbox: Mailbox) -> _Senders:
    """Remove mail, and return who sent what is *nameless* of it."""
    senders = mailbox.senders_of(work.recipient, nameless)
    work(mailbox)
    return senders


def _is_milestone(count: int) -> bool:
    """
    Tell whether the *count*-th refusal is worth a line at the usual level.

    The first twenty, then ever fewer: a flood of nonsense must not fill a disk.
    """
    return count <= 20 or count % 10 ** (len(str(count)) - 1) == 0
