"""
A mailbox against a naive model of lists, in orders that nobody would think of.

::

    TestMyMailbox = mailbox_machine(MyMailbox).TestCase

Hypothesis makes up sequences of calls; after each, all that can be read must be
what the model says. Whatever is kept over a restart is closed and opened too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from msgspec.structs import replace

from agora.keys import PeerId
from agora.mailbox import (
    AlreadyStoredError,
    DeadLetter,
    Mailbox,
    MailboxBounds,
    MailboxFullError,
    MailboxSummary,
    OutOfOrderError,
    Put,
    StoreTotals,
)
from agora.protocol.relay.actions import Mail

__all__ = ["mailbox_machine"]

_RECIPIENTS = ("carol", "dave", "eve")
_SENDERS = (PeerId("alice"), PeerId("bob"), PeerId("carol"))
_BOUNDS = MailboxBounds(
    max_messages=5,
    max_bytes=60,
    sender_share=0.6,
    store_bytes=100,
    retain_messages=4,
    retain_bytes=60,
    retain_store_bytes=90,
)

_recipients = st.sampled_from(_RECIPIENTS)
_senders = st.sampled_from(_SENDERS)
_ids = st.sampled_from(["", "1", "2", "3", "4"])
_some_ids = st.lists(_ids, max_size=3)
_texts = st.sampled_from(["", "é", "x" * 10, "x" * 25, "x" * 61])
_moments = st.integers(0, 9)
_acked = st.one_of(st.none(), _moments)
_places = st.lists(st.integers(0, 40), max_size=3)
_puts = st.lists(
    st.builds(
        Put,
        st.builds(Mail, _recipients, _senders, _ids, _texts, position=st.just(0)),
        now_ms=_moments,
        is_owed=st.sampled_from([False, False, True]),
        follows=st.sampled_from([0, 0, -2, -1, 1, 2, 3]),  # below 0: that far back
    ),
    max_size=8,
)
"""Changes whose positions are still to be given."""


@dataclass
class _Waiting:
    mail: Mail
    nacks: int = 0


@dataclass
class _Model:
    """What is kept, in no order, found by looking at all of it."""

    waiting: list[_Waiting] = field(default_factory=list)
    retained: list[Mail] = field(default_factory=list)  # with the moments of their acks
    dead: list[DeadLetter] = field(default_factory=list)
    pins: set[PeerId] = field(default_factory=set)
    last_position: int = 0

    def of(self, recipient: str) -> list[Mail]:
        found = [w.mail for w in self.waiting if w.mail.recipient == recipient]
        return sorted(found, key=lambda mail: mail.position)

    def refusal(self, mail: Mail, *, is_owed: bool, follows: int) -> str | None:
        """Return why *mail* is refused: ``repeat``, ``order``, or the scope of the bound."""
        if any(_is_same(mail, other) for other in self.of(mail.recipient) + self.retained):
            return "repeat"
        mailbox = self.of(mail.recipient)
        if follows and follows not in [other.position for other in mailbox]:
            return "order"
        return None if is_owed else self.full(mail)

    def full(self, mail: Mail) -> str | None:
        """Return the scope of the bound that *mail* would pass."""
        mailbox = self.of(mail.recipient)
        share = [other for other in mailbox if other.sender == mail.sender]
        store = [w.mail for w in self.waiting]
        mine = [other for other in store if other.sender == mail.sender]
        bounds, part = _BOUNDS, _BOUNDS.sender_share
        if len(mailbox) + 1 > bounds.max_messages or _bytes(mailbox) + mail.size > bounds.max_bytes:
            return "mailbox"
        if share and (
            len(share) + 1 > bounds.max_messages * part
            or _bytes(share) + mail.size > bounds.max_bytes * part
        ):
            return "sender"
        free = bounds.store_bytes - _bytes(store) - mail.size
        if free < 0:
            return "store"
        return "sender" if _bytes(mine) + mail.size > free else None

    def take_out(self, recipient: str, positions: Iterable[int]) -> list[_Waiting]:
        gone = [
            w
            for w in self.waiting
            if w.mail.recipient == recipient and w.mail.position in list(positions)
        ]
        self.waiting = [w for w in self.waiting if w not in gone]
        return gone

    def retain(self, mail: Iterable[Mail], acked_ms: int) -> None:
        moment = max([acked_ms, *(one.stored_ms for one in self.retained)])
        touched = {}
        for one in mail:
            if not any(_is_same(one, other) for other in self.retained):
                self.retained.append(replace(one, position=0, stored_ms=moment))
                touched[one.recipient] = True
        for recipient in touched:
            while _is_over(
                self.retained_of(recipient), _BOUNDS.retain_messages, _BOUNDS.retain_bytes
            ):
                self.retained.remove(self.retained_of(recipient)[0])
        while _is_over(self.retained, 10**6, _BOUNDS.retain_store_bytes):
            del self.retained[0]

    def retained_of(self, recipient: str) -> list[Mail]:
        return [mail for mail in self.retained if mail.recipient == recipient]

    def summaries(self) -> list[MailboxSummary]:
        found = []
        for recipient in sorted(_RECIPIENTS):
            mail = self.of(recipient)
            dead = [d for d in self.dead if d.mail.recipient == recipient]
            retained = len(self.retained_of(recipient))
            oldest = min((m.stored_ms for m in mail), default=0)
            if mail or dead or retained:
                held = (len(mail), _bytes(mail), oldest)
                found.append(MailboxSummary(recipient, *held, len(dead), retained))
        return found

    def totals(self, *, largest: int) -> StoreTotals:
        mail = [w.mail for w in self.waiting]
        mailboxes = [
            MailboxSummary(to, len(mine), _bytes(mine), mine[0].stored_ms, 0)
            for to in _RECIPIENTS
            if (mine := self.of(to))
        ]
        return StoreTotals(
            len(mailboxes),
            len(mail),
            _bytes(mail),
            min((one.stored_ms for one in mail), default=0),
            len(self.dead),
            tuple(sorted(mailboxes, key=lambda one: (-one.bytes, one.recipient))[:largest]),
            len(self.retained),
            _bytes(self.retained),
        )


def _bytes(mail: Iterable[Mail]) -> int:
    return sum(one.size for one in mail)


def _is_same(one: Mail, other: Mail) -> bool:
    ends = (one.recipient, one.sender, one.envelope_id)
    return bool(one.envelope_id) and ends == (other.recipient, other.sender, other.envelope_id)


def _is_over(mail: list[Mail], max_messages: int, max_bytes: int) -> bool:
    return len(mail) > max_messages or _bytes(mail) > max_bytes


def _word(refusal: Exception | None) -> str | None:
    """Return how something was refused, as the model says it."""
    match refusal:
        case AlreadyStoredError():
            return "repeat"
        case OutOfOrderError():
            return "order"
        case MailboxFullError():
            return refusal.scope
    return None


def mailbox_machine(
    new_mailbox: Callable[[MailboxBounds], Mailbox],
    *,
    reopen: Callable[[Mailbox, MailboxBounds], Mailbox] | None = None,
) -> type[RuleBasedStateMachine]:
    """
    Return a state machine that holds mailboxes to the model.

    Args:
        new_mailbox: Makes an empty mailbox with these bounds, for each sequence anew.
        reopen: Closes a mailbox and opens what it kept; None where it keeps nothing.
    """

    class Machine(_MailboxMachine):
        def make(self) -> Mailbox:
            return new_mailbox(_BOUNDS)

        @precondition(lambda self: reopen is not None)
        @rule()
        def reopen(self) -> None:
            assert reopen is not None  # as the precondition says
            self.mailbox = reopen(self.mailbox, _BOUNDS)
            self.model = deepcopy(self.committed)

    return Machine


class _MailboxMachine(RuleBasedStateMachine):
    """Everything but how a mailbox comes to be."""

    mailbox: Mailbox

    def make(self) -> Mailbox:
        raise NotImplementedError

    @initialize()
    def begin(self) -> None:
        self.mailbox = self.make()
        self.model = _Model()
        self.committed = _Model()
        self.next_position = 1
        self.free: list[int] = []

    def teardown(self) -> None:
        if hasattr(self, "mailbox"):
            self.mailbox.close()

    # Mail

    @rule()
    def a_position_is_left_out(self) -> None:
        self.free.append(self.next_position)
        self.next_position += 1

    def position(self, is_late: bool) -> int:
        """Return one that no mail had: of those left out, where one comes late."""
        if is_late and self.free:
            return self.free.pop()
        self.next_position += 1
        return self.next_position - 1

    @rule(
        recipient=_recipients,
        sender=_senders,
        envelope_id=_ids,
        text=_texts,
        name=st.sampled_from([None, "", "Alice 👋"]),
        confirm=st.booleans(),
        now_ms=_moments,
        is_late=st.booleans(),
        is_owed=st.sampled_from([False, False, True]),
        follows=st.one_of(st.just(0), st.integers(-1, 40)),
    )
    def put(
        self,
        recipient: str,
        sender: PeerId,
        envelope_id: str,
        text: str,
        name: str | None,
        confirm: bool,
        now_ms: int,
        is_late: bool,
        is_owed: bool,
        follows: int,
    ) -> None:
        position = self.position(is_late)
        mail = Mail(recipient, sender, envelope_id, text, name, position, confirm)
        refusal = self.model.refusal(mail, is_owed=is_owed, follows=follows)

        assert self.outcome(mail, now_ms, is_owed, follows) == refusal

        if refusal is None:
            self.model.waiting.append(_Waiting(replace(mail, stored_ms=now_ms)))
            self.model.last_position = max(self.model.last_position, position)

    @rule(puts=_puts, is_late=st.booleans())
    def put_many(self, puts: list[Put], is_late: bool) -> None:
        placed, expected = [], []
        for put in puts:
            position = self.position(is_late)
            mail = replace(put.mail, position=position)
            follows = position + put.follows if put.follows < 0 else put.follows
            placed.append(Put(mail, put.now_ms, put.is_owed, follows))
            refusal = self.model.refusal(mail, is_owed=put.is_owed, follows=follows)
            expected.append(refusal)
            if refusal is None:
                self.model.waiting.append(_Waiting(replace(mail, stored_ms=put.now_ms)))
                self.model.last_position = max(self.model.last_position, position)

        assert [_word(refusal) for refusal in self.mailbox.put_many(placed)] == expected

    def outcome(self, mail: Mail, now_ms: int, is_owed: bool, follows: int) -> str | None:
        """Put *mail*, and say how it was refused, as the model does."""
        try:
            self.mailbox.put(mail, now_ms=now_ms, is_owed=is_owed, follows=follows)
        except (AlreadyStoredError, OutOfOrderError, MailboxFullError) as refusal:
            return _word(refusal)
        return None

    @rule(recipient=_recipients, positions=_places, acked_ms=_acked)
    def remove(self, recipient: str, positions: list[int], acked_ms: int | None) -> None:
        self.mailbox.remove(recipient, positions, acked_ms=acked_ms)
        self.take_out(recipient, positions, acked_ms)

    @rule(recipient=_recipients, ids=_some_ids, acked_ms=_acked)
    def remove_ids(self, recipient: str, ids: list[str], acked_ms: int | None) -> None:
        self.mailbox.remove_ids(recipient, ids, acked_ms=acked_ms)
        mine = [mail for mail in self.model.of(recipient) if mail.envelope_id]
        named = [mail.position for mail in mine if mail.envelope_id in ids]
        self.take_out(recipient, named, acked_ms)

    def take_out(self, recipient: str, positions: list[int], acked_ms: int | None) -> None:
        gone = [waiting.mail for waiting in self.model.take_out(recipient, positions)]
        if acked_ms is not None:
            self.model.retain(sorted(gone, key=lambda mail: mail.position), acked_ms)

    @rule(
        recipient=_recipients,
        after=st.integers(0, 30),
        max_messages=st.integers(1, 4),
        max_bytes=st.integers(0, 70),
    )
    def page(self, recipient: str, after: int, max_messages: int, max_bytes: int) -> None:
        behind = [mail for mail in self.model.of(recipient) if mail.position > after]
        fitting = behind[:max_messages]
        while len(fitting) > 1 and _bytes(fitting) > max_bytes:
            fitting.pop()

        page = self.mailbox.page(
            recipient, after=after, max_messages=max_messages, max_bytes=max_bytes
        )

        assert (list(page.mail), page.is_last) == (fitting, fitting == behind)

    # What is given up

    @rule(recipient=_recipients, ids=_some_ids, max_nacks=st.integers(1, 3))
    def nack(self, recipient: str, ids: list[str], max_nacks: int) -> None:
        expected = []
        for waiting in self.model.waiting:
            mail = waiting.mail
            if mail.recipient == recipient and mail.envelope_id and mail.envelope_id in ids:
                waiting.nacks += 1
                if waiting.nacks >= max_nacks:
                    expected.append(mail)

        given_up = self.mailbox.nack(recipient, ids, max_nacks=max_nacks)

        assert list(given_up) == sorted(expected, key=lambda mail: mail.position)

    @rule(recipient=_recipients, positions=_places, now_ms=_moments)
    def bury(self, recipient: str, positions: list[int], now_ms: int) -> None:
        self.mailbox.bury(recipient, positions, now_ms=now_ms)
        self.model.dead += [
            DeadLetter(gone.mail, gone.nacks, now_ms)
            for gone in self.model.take_out(recipient, positions)
        ]

    @rule(before_ms=_moments, max_messages=st.integers(1, 10))
    def expire(self, before_ms: int, max_messages: int) -> None:
        old = [w.mail for w in self.model.waiting if w.mail.stored_ms < before_ms]
        old.sort(key=lambda mail: (mail.stored_ms, mail.position))

        expired = self.mailbox.expired(before_ms=before_ms, max_messages=max_messages)

        assert list(expired) == old[:max_messages]
        for mail in expired:
            self.remove(mail.recipient, [mail.position], None)

    @rule(before_ms=_moments)
    def forget_dead_letters(self, before_ms: int) -> None:
        kept = [dead for dead in self.model.dead if dead.died_ms >= before_ms]

        forgotten = self.mailbox.forget_dead_letters(before_ms=before_ms)

        assert forgotten == len(self.model.dead) - len(kept)
        self.model.dead = kept

    # What was acked

    @rule(puts=_puts, acked_ms=_moments)
    def retain(self, puts: list[Put], acked_ms: int) -> None:
        mail = [put.mail for put in puts]
        self.mailbox.retain(mail, acked_ms=acked_ms)
        self.model.retain(mail, acked_ms)

    @rule(before_ms=_moments, now_ms=_moments, max_messages=st.integers(1, 4))
    def forget_retained(self, before_ms: int, now_ms: int, max_messages: int) -> None:
        kept = [replace(one, stored_ms=min(one.stored_ms, now_ms)) for one in self.model.retained]
        old = [one for one in kept if one.stored_ms < before_ms][:max_messages]

        forgotten = self.mailbox.forget_retained(
            before_ms=before_ms, now_ms=now_ms, max_messages=max_messages
        )

        assert forgotten == len(old)
        self.model.retained = kept[len(old) :]

    @rule(recipient=_recipients, since_ms=_moments, max_messages=st.integers(1, 3))
    def replay(self, recipient: str, since_ms: int, max_messages: int) -> None:
        found: list[Mail] = []
        is_last = False
        while not is_last:
            page = self.mailbox.retained(
                recipient,
                since_ms=since_ms,
                after=found[-1].position if found else 0,
                max_messages=max_messages,
                max_bytes=70,
            )
            found += page.mail
            is_last = page.is_last

        assert [replace(one, position=0) for one in found] == [
            one for one in self.model.retained_of(recipient) if one.stored_ms >= since_ms
        ]

    # Pins, and the operator

    @rule(peer=_senders, now_ms=_moments)
    def pin(self, peer: PeerId, now_ms: int) -> None:
        self.mailbox.pin(peer, now_ms=now_ms)
        self.model.pins.add(peer)

    @rule(peer=_senders)
    def unpin(self, peer: PeerId) -> None:
        assert self.mailbox.unpin(peer) == (peer in self.model.pins)
        self.model.pins.discard(peer)

    @rule(recipient=_recipients, dead_letters_only=st.booleans())
    def purge(self, recipient: str, dead_letters_only: bool) -> None:
        mail = [] if dead_letters_only else [m.position for m in self.model.of(recipient)]
        kept = [dead for dead in self.model.dead if dead.mail.recipient != recipient]

        purged = self.mailbox.purge(recipient, dead_letters_only=dead_letters_only)

        retained = [] if dead_letters_only else self.model.retained_of(recipient)
        assert purged == len(mail) + len(self.model.dead) - len(kept) + len(retained)
        self.model.dead = kept
        if not dead_letters_only:
            others = [one for one in self.model.retained if one.recipient != recipient]
            self.model.retained = others
        self.model.take_out(recipient, mail)

    # Safety

    @rule()
    def commit(self) -> None:
        self.mailbox.commit()
        self.committed = deepcopy(self.model)

    @rule()
    def rollback(self) -> None:
        self.mailbox.rollback()
        self.model = deepcopy(self.committed)

    # What must hold

    @invariant()
    def everyone_finds_their_mail(self) -> None:
        for recipient in _RECIPIENTS:
            page = self.mailbox.page(recipient, after=0, max_messages=10**6, max_bytes=10**6)
            expected = self.model.of(recipient)
            assert list(page.mail) == expected
            assert self.mailbox.count(recipient) == (len(expected), _bytes(expected))

    @invariant()
    def what_was_acked_is_there_in_its_order(self) -> None:
        for recipient in _RECIPIENTS:
            page = self.mailbox.retained(
                recipient, since_ms=0, after=0, max_messages=10**6, max_bytes=10**6
            )
            assert [replace(one, position=0) for one in page.mail] == (
                self.model.retained_of(recipient)
            )

    @invariant()
    def the_operator_sees_what_is_there(self) -> None:
        dead = sorted(self.model.dead, key=lambda d: (d.died_ms, d.mail.position))
        assert list(self.mailbox.dead_letters()) == dead
        for recipient in _RECIPIENTS:
            assert list(self.mailbox.dead_letters(recipient)) == [
                letter for letter in dead if letter.mail.recipient == recipient
            ]
        assert list(self.mailbox.summaries()) == self.model.summaries()
        for largest in (0, 1, 9):
            assert self.mailbox.totals(largest=largest) == self.model.totals(largest=largest)
        assert list(self.mailbox.pins()) == sorted(self.model.pins)

    @invariant()
    def the_last_position_is_known(self) -> None:
        assert self.mailbox.last_position() == self.model.last_position

    @invariant()
    def nobody_else_has_changed_anything(self) -> None:
        assert not self.mailbox.has_changed()
