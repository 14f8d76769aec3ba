"""
Everything unsettled for one peer: who waits for word of it, and how it reaches the peer's sessions.

::

    offer ──► a session that is caught up: live, in memory     ack ──► "delivered"
      │                          │ no ack in time, or its session ends
      ▼                          ▼
    the mailbox ── committed ──► "stored" ── pages ──► sessions ── ack ──► removed

A live message is kept in memory until it is acked, or else stored; so the way
through needs no disk, and responsibility passes on only when the next holder
has it. Whatever a session was not sent at once it reads from the mailbox, which
alone bounds what waits: a slow reader costs disk, not memory.

Every message has a position, the order in which it was taken. A session gets
the positions in order; what it has nacked comes again behind them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from agora.codes import ErrorCode, ReceiptStatus
from agora.frames import encode_delivery
from agora.keys import PeerId
from agora.limits import Limits
from agora.protocol.relay.actions import (
    Action,
    CountNacks,
    Fetch,
    Mail,
    Ping,
    Receipt,
    Remove,
    Retain,
    Send,
    SessionId,
    Settle,
    Ticket,
    Withdraw,
)
from agora.protocol.relay.admission import ReplayWindow
from agora.protocol.relay.feed import InFlight, MailFeed
from agora.protocol.relay.holding import Held, Holding
from agora.protocol.relay.refusal import Refusal, duplicate
from agora.protocol.relay.removals import Removals

__all__ = ["Recipient"]


class Recipient:
    """
    What is under way to one peer.

    Args:
        peer: Whose mail it is.
        limits: What is admitted.
        taken: Where settled messages are remembered, so that repeats are known.
        has_mailbox: Whether the peer has a mailbox.
    """

    def __init__(
        self, peer: PeerId, limits: Limits, taken: ReplayWindow, *, has_mailbox: bool
    ) -> None:
        self.peer = peer
        self.has_mailbox = has_mailbox
        self._limits = limits
        self._taken = taken
        self._feeds: dict[SessionId, MailFeed] = {}
        self._held = Holding()
        # Dicts, not sets: an empty one is a third of the size, and most stay empty.
        self._settled: dict[str, None] = {}  # ids settled while a page of them may be on its way
        self._given_up: dict[str, None] = {}  # ids given up that a session still has
        self._removals = Removals(peer, max_unknown=limits.mailbox_max_messages)
        self._next_due = math.inf

    def change_limits(self, limits: Limits) -> None:
        """Go by other limits from now on; open sessions keep the window they were told of."""
        self._limits = limits

    @property
    def due(self) -> float:
        """When :meth:`pulse` next has something to do; infinity while it has nothing."""
        return self._next_due

    @property
    def is_idle(self) -> bool:
        """Whether nothing has to be remembered here."""
        return not self._feeds and not self._held and not self._removals

    # Sessions come and go

    def join(self, session: SessionId, *, can_ack: bool, is_empty: bool) -> list[Action]:
        """
        Open a feed: first everything unsettled, then what comes.

        Args:
            session: Whose feed it is.
            can_ack: Whether it speaks Agora/1.
            is_empty: Whether the mailbox was seen empty after all stores before now but
                those still held here: then there is nothing to read first.
        """
        feed = self._feeds[session] = MailFeed(
            session,
            can_ack=can_ack,
            max_messages=self._limits.window_messages,
            max_bytes=self._limits.window_bytes,
        )
        feed.is_caught_up = is_empty and not self._held
        return self._read_on(feed)

    def leave(self, session: SessionId) -> list[Action]:
        """Close a feed; without any other, what was live is stored, or refused."""
        if self._feeds.pop(session, None) is None:
            return []
        self._given_up = {one: None for one in self._given_up if self._is_with_a_feed(one)}
        return [] if self._feeds else self.put_away("its last session has ended")

    def put_away(self, why: str) -> list[Action]:
        """Store what is live, or refuse it where there is no mailbox: *why* goes to the sender."""
        if self.has_mailbox:
            return self._held.store_through(math.inf)
        live = [held for held in self._held if not held.is_storing]
        return [action for held in live for action in self._refuse_held(held, why)]

    # Messages come

    def offer(
        self, mail: Mail, ticket: Ticket | None, now: float, *, after: str | None = None
    ) -> list[Action]:
        """
        Take a message: to sessions at once if they can have it, else to the mailbox.

        Args:
            mail: The message, with its position.
            ticket: Who waits for word of it; without, it always goes to the mailbox.
            now: The time.
            after: Id of the message that it must not overtake.

        Raises:
            Refusal: ``unavailable`` when no session has room and there is no mailbox;
                ``rate_limited`` when it is under way too many times already.
        """
        if (first_copy := self._held.find(mail.envelope_id)) is not None:
            # Not known yet what becomes of the first copy: its answer is for both.
            return self._wait_too(first_copy, ticket)
        if mail.envelope_id in self._given_up:
            self._forget(mail.envelope_id)
        if self._is_with_a_feed(mail.envelope_id):
            return [Settle(ticket, duplicate(mail.envelope_id, self.peer))] if ticket else []
        takers, others = [], []
        for feed in self._feeds.values():
            # What has no id cannot be acked.
            if mail.envelope_id and ticket and feed.takes_live:
                takers.append(feed)
            elif feed.can_ack:
                others.append(feed)
        if not takers and not self.has_mailbox:
            raise _unavailable(mail, "it has too much unread already")
        held = self._held.add(mail, ticket, after=after)
        held.is_owed = ticket is None  # a bounce, which nobody would send again
        for feed in others:
            feed.miss()
        return self._go_live(held, takers, now) if takers else self._go_to_mailbox()

    def _wait_too(self, held: Held, ticket: Ticket | None) -> list[Action]:
        if len(held.tickets) >= _MAX_TICKETS:
            text = (
                f"Envelope {held.mail.envelope_id} is under way {len(held.tickets)} times already"
            )
            raise Refusal(ErrorCode.RATE_LIMITED, text, retry_after=self._limits.ack_timeout)
        held.tickets += [ticket] if ticket else []
        return []

    def _go_live(self, held: Held, takers: list[MailFeed], now: float) -> list[Action]:
        held.is_live = held.is_owed = True
        self._await_ack(held, now)
        for feed in takers:
            feed.send(held.mail)
            feed.cursor = held.mail.position
        return [Send(tuple([feed.session for feed in takers]), _delivery_text(held.mail))]

    def _go_to_mailbox(self) -> list[Action]:
        stores = self._held.store_through(math.inf)
        # Read behind the stores, in the order in which all are asked for.
        return stores + [action for feed in self._feeds.values() for action in self._read_on(feed)]

    def has_taken(self, envelope_id: str) -> bool:
        """Tell whether a message is under way here."""
        return self._held.find(envelope_id) is not None

    def stored(self, mail: Mail) -> list[Action]:
        """*mail* is committed: whoever waits for word of it gets that."""
        told: list[Action] = []
        if held := self._held.at(mail.position):  # else it was acked meanwhile, and told so
            self._held.let_go(held)
            told = self._answer_all(held, ReceiptStatus.STORED)
        return told + [action for feed in self._feeds.values() for action in _bring(feed, mail)]

    def not_stored(self, mail: Mail, refusal: Refusal, now: float) -> list[Action]:
        """*mail* could not be stored: a session may still ack it, else its sender keeps it."""
        held = self._held.at(mail.position)
        if held is None:
            return []
        if self._is_with_a_session(mail.position):
            held.is_storing = False
            self._await_ack(held, now)
            return []
        self._held.let_go(held)
        if refusal.code is ErrorCode.DUPLICATE:  # it is there: what follows it may come
            self._remember(mail.sender, mail.envelope_id)
        return [Settle(ticket, refusal) for ticket in held.tickets]

    # Mail goes out

    def fetched(self, session: SessionId, page: Sequence[Mail], *, is_last: bool) -> list[Action]:
        """A page of the mailbox has come for *session*; ``is_last``: nothing was behind it."""
        feed = self._feeds.get(session)
        if feed is None:
            return []
        has_news, feed.is_fetching, feed.has_news = feed.has_news, False, False
        actions: list[Action] = []
        unmarked = 0
        for mail in self._next_for(feed, page, is_last=is_last):
            if self._is_due(mail, feed):
                if not feed.has_room:
                    break
                feed.send(mail)
                actions.append(Send((session,), _delivery_text(mail, has_flags=feed.can_ack)))
                unmarked += 0 if feed.can_ack and mail.envelope_id else mail.size
            feed.cursor = max(feed.cursor, mail.position)
            if unmarked >= _CONFIRM_EVERY:
                actions.append(_marker(feed))
                unmarked = 0
        else:
            feed.is_caught_up = is_last and not has_news
        if unmarked:
            actions.append(_marker(feed))
        self._forget_settled()
        return actions + self._read_on(feed)

    def _next_for(self, feed: MailFeed, page: Sequence[Mail], *, is_last: bool) -> list[Mail]:
        """Return a page with what is between it and only in memory, by position."""
        end = math.inf if is_last else page[-1].position
        found = {mail.position: mail for mail in page}
        for held in self._held:
            # Only what is live: the rest is being stored, may be known there, and will be read.
            if held.is_live and feed.cursor < held.mail.position <= end:
                found.setdefault(held.mail.position, held.mail)
        return [found[position] for position in sorted(found)]

    def _is_due(self, mail: Mail, feed: MailFeed) -> bool:
        is_known = feed.has_in_flight(mail.position) or mail.position in feed.postponed
        is_settled = mail.envelope_id in self._settled or mail.envelope_id in self._removals
        return not is_known and not is_settled

    def _read_on(self, feed: MailFeed) -> list[Action]:
        if not feed.wants_page:
            return []
        if not self.has_mailbox:
            return self.fetched(feed.session, (), is_last=True)
        feed.is_fetching = True
        return [Fetch(feed.session, self.peer, feed.cursor, feed.room_messages, feed.room_bytes)]

    # Sessions settle

    def ack(self, session: SessionId, ids: Iterable[str]) -> list[Action]:
        """The peer has these messages, whichever session of it they went to."""
        feed = self._feeds.get(session)  # none where it only sends
        has_others = len(self._feeds) > (1 if feed else 0)
        actions: list[Action] = []
        for envelope_id in ids:
            if has_others:
                actions += self._withdraw(feed, envelope_id)
            held = self._held.find(envelope_id)
            if held is None or held.is_storing:
                self._remove(envelope_id, is_known=held is not None)
            entry = feed.release(envelope_id) if feed else None
            self._note_settled(envelope_id)
            if held is not None:
                self._held.let_go(held)
                if self._limits.retain and not held.is_storing:  # else it is, when it is removed
                    actions.append(Retain(held.mail))
                actions += self._answer_all(held, ReceiptStatus.DELIVERED)
            elif (sent := entry or self._sent(envelope_id)) is not None:
                self._remember(sent.sender, envelope_id)
        if self._removals:
            actions += self._removals.ask()
        if feed and feed.wants_page:
            actions += self._read_on(feed)
        return actions

    def _withdraw(self, settled_by: MailFeed | None, envelope_id: str) -> list[Action]:
        """Have the other sessions that were sent a message hear that it is settled."""
        return [
            Withdraw(feed.session, envelope_id)
            for feed in self._feeds.values()
            if feed is not settled_by and feed.in_flight(envelope_id)
        ]

    def _sent(self, envelope_id: str) -> InFlight | None:
        """Return what is known of a message that some session was sent."""
        for feed in self._feeds.values():
            if (sent := feed.in_flight(envelope_id)) is not None:
                return sent
        return None

    def let_go(self, session: SessionId, envelope_id: str) -> list[Action]:
        """*session* does not keep any more what another one has settled: its place is free."""
        feed = self._feeds.get(session)
        if feed is None:
            return []
        feed.release(envelope_id)
        return self._read_on(feed)

    def _remove(self, envelope_id: str, *, is_known: bool) -> None:
        """Have an acked message leave the mailbox, if it can be there."""
        is_known = is_known or self._is_with_a_feed(envelope_id)
        may_be_there = not all(feed.is_caught_up for feed in self._feeds.values())
        if self.has_mailbox and (is_known or may_be_there or not self._feeds):
            self._removals.add(envelope_id, is_known=is_known)

    def removed(self, ids: Sequence[str], now: float, *, has_worked: bool) -> list[Action]:
        """A job that was to remove acked messages has ended."""
        self._removals.done(ids, has_worked=has_worked)
        if has_worked:
            return self._removals.ask()
        self._next_due = min(self._next_due, now + _RETRY)
        return []

    def nack(
        self, session: SessionId, ids: Iterable[str], delay: float, now: float
    ) -> list[Action]:
        """*session* wants these messages later; they are stored, and come to it again."""
        feed = self._feeds.get(session)
        if feed is None:
            return []
        actions: list[Action] = []
        counted = []
        for envelope_id in ids:
            entry = feed.release(envelope_id)
            if entry is None:
                continue  # only what a session has can it put off
            feed.postpone(entry, now + delay)
            held = self._held.at(entry.position)
            if self.has_mailbox:
                counted.append(envelope_id)
                actions += self._held.store_through(entry.position) if held else []
            elif held is not None:
                actions += self._count_nack(held)
        if counted:
            actions.append(CountNacks(self.peer, tuple(counted)))
        self._next_due = min(self._next_due, now + delay)
        return actions + self.pulse(now) + self._read_on(feed)

    def confirmed(self, session: SessionId, pong_payload: bytes) -> list[Action]:
        """A pong has come: what could not be acked is settled by it."""
        feed = self._feeds.get(session)
        if feed is None:
            return []
        confirmed = feed.confirm(pong_payload)
        for entry in confirmed:
            self._note_settled(entry.envelope_id)
            self._remember(entry.sender, entry.envelope_id)
        positions = tuple(entry.position for entry in confirmed)
        actions: list[Action] = [Remove(self.peer, positions, is_settled=True)] if positions else []
        return actions + self._read_on(feed)

    def gave_up(self, mail: Mail) -> float:
        """
        *mail* has expired or died: it does not come again, unless it is sent again.

        Returns:
            When a session wanted it again; 0.0 when none has put it off.
        """
        wanted = [feed.postponed.get(mail.position, 0.0) for feed in self._feeds.values()]
        self._note_settled(mail.envelope_id)
        if self._is_with_a_feed(mail.envelope_id):
            self._given_up[mail.envelope_id] = None
        return max(wanted, default=0.0)

    def kept(self, mail: Mail, now: float, *, wanted_at: float) -> None:
        """*mail* could not be given up: it comes again to who does not have it, a little later."""
        if self.has_taken(mail.envelope_id):
            return  # it was sent again meanwhile, and is on its way
        self._given_up.pop(mail.envelope_id, None)
        self._settled.pop(mail.envelope_id, None)
        until = max(wanted_at, now + _RETRY)
        for feed in self._feeds.values():
            if not feed.has_in_flight(mail.position):
                feed.postpone(mail, until)
        self._next_due = min(self._next_due, until)

    def _forget(self, envelope_id: str) -> None:
        """Treat what was given up as if it had never been here: it is sent again."""
        self._given_up.pop(envelope_id, None)
        self._settled.pop(envelope_id, None)
        for feed in self._feeds.values():
            feed.release(envelope_id)

    # Time

    def pulse(self, now: float) -> list[Action]:
        """Let time pass: store what was not acked in time, send again what was put off."""
        if now < self._next_due:
            return []
        actions = self._held.store_late(now) + self._removals.ask()
        for feed in self._feeds.values():
            if feed.resume(now):
                actions += self._read_on(feed)
        postponed = [until for feed in self._feeds.values() for until in feed.postponed.values()]
        self._next_due = min(self._held.next_deadline(), *postponed, math.inf)
        return actions

    # What is held in memory

    def _await_ack(self, held: Held, now: float) -> None:
        if self.has_mailbox:  # else nothing can be done but wait
            held.deadline = now + self._limits.ack_timeout
            self._next_due = min(self._next_due, held.deadline)

    def _count_nack(self, held: Held) -> list[Action]:
        held.nacks += 1
        if held.nacks < self._limits.max_nacks:
            return []
        self.gave_up(held.mail)
        return self._refuse_held(held, f"it was put off {held.nacks} times")

    def _refuse_held(self, held: Held, why: str) -> list[Action]:
        self._held.let_go(held)
        return [Settle(ticket, _unavailable(held.mail, why)) for ticket in held.tickets]

    def _is_with_a_feed(self, envelope_id: str) -> bool:
        # A list, not a generator: of one or two feeds, for every message.
        return any([feed.has(envelope_id) for feed in self._feeds.values()])

    def _is_with_a_session(self, position: int) -> bool:
        return any(
            feed.has_in_flight(position) or position in feed.postponed
            for feed in self._feeds.values()
        )

    # Words

    def _answer_all(self, held: Held, status: ReceiptStatus) -> list[Action]:
        self._remember(held.mail.sender, held.mail.envelope_id)
        receipt = Receipt(held.mail.envelope_id, self.peer, status)
        answers: list[Action] = [Settle(ticket, receipt) for ticket in held.tickets[:1]]
        if len(held.tickets) > 1:
            of_repeat = replace(receipt, is_of_repeat=True)
            answers += [Settle(ticket, of_repeat) for ticket in held.tickets[1:]]
        return answers

    def _remember(self, sender: str, envelope_id: str) -> None:
        self._taken.add((sender, self.peer, envelope_id))

    def _note_settled(self, envelope_id: str) -> None:
        is_fetching = False
        for feed in self._feeds.values():
            feed.drop(envelope_id)
            is_fetching = is_fetching or feed.is_fetching
        if is_fetching and envelope_id:
            self._settled[envelope_id] = None

    def _forget_settled(self) -> None:
        if not any(feed.is_fetching for feed in self._feeds.values()):
            self._settled.clear()


_MAX_TICKETS = 1_000
"""How often one message may be sent again while it is under way; each wants its answer."""

_RETRY = 1.0
"""Seconds until a disk that could not remove or set aside a message is asked again."""

_CONFIRM_EVERY = 8_192
"""Bytes of mail behind which goes a ping: what breaks again and again gets on all the same."""


def _bring(feed: MailFeed, mail: Mail) -> list[Action]:
    """
    Send *mail*, which is committed, to a session that cannot ack and has all before it.

    Each such session gets it now: read from the mailbox, it might be there no more for
    the second one when the first has confirmed it.
    """
    if feed.can_ack or not feed.is_caught_up:
        return []  # it has been sent it, or will read it
    if not feed.has_room:
        feed.miss()
        return []
    feed.send(mail)
    feed.cursor = mail.position
    return [Send((feed.session,), _delivery_text(mail, has_flags=False)), _marker(feed)]


def _marker(feed: MailFeed) -> Ping:
    return Ping(feed.session, b"%d" % feed.cursor)


def _unavailable(mail: Mail, why: str) -> Refusal:
    return Refusal(
        ErrorCode.UNAVAILABLE,
        f"Failed to relay message: {why}",
        envelope_id=mail.envelope_id or None,
        to=mail.recipient,
    )


def _delivery_text(mail: Mail, *, has_flags: bool = True) -> str:
    """Return the frame that brings *mail*; the flags are for sessions of Agora/1."""
    if not has_flags:
        return encode_delivery(mail.sender, mail.text, mail.name)
    return encode_delivery(
        mail.sender,
        mail.text,
        mail.name,
        is_stored=mail.stored_ms > 0,
        confirm=mail.confirm,
        traceparent=mail.traceparent,
    )
