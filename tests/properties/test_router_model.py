"""
The promises of Agora/1 against a naive ledger: who was promised what, and what came of it.

The ledger does not foretell what the relay does, only what it may say: a receipt
has to be true, a message may go to its recipient alone, once and in order, and
what is in a mailbox leaves it for one of four reasons. Peers of both dialects,
a disk that is slow or broken, a clock and a relay that is killed play along.
"""

from __future__ import annotations

import gc
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from agora.canonical import Json, parse_json
from agora.codes import CloseCode
from agora.envelope import EVERYONE, Envelope, Sealed, open_envelope
from agora.frames import WATCH_NONE, Answer, Delivery, ErrorAnswer, ReceiptAnswer
from agora.keys import PeerId
from agora.mailbox import MailboxBounds, MemoryMailbox, Put, Refusal, SqliteMailbox
from agora.protocol.relay.actions import Mail
from agora.protocol.relay.policies import MailboxPolicy
from agora.protocol.relay.recipient import Recipient
from agora.testing.conversation import Conversation, Speaker, keys_of

NAMES = ("alice", "bob", "carol", "dave")
KEYS = {name: keys_of(name).peer_id for name in NAMES}
RELAY = keys_of("relay").peer_id
STORAGE = "dave"
MAILBOX, WINDOW, MAX_NACKS = 6, 3, 2
ACK_TIMEOUT, MAX_DELAY, WEEK = 5.0, 20.0, 604_800.0
BOUNDS = MailboxBounds(max_messages=MAILBOX, max_bytes=10**6, sender_share=0.5)

names = st.sampled_from(NAMES)
recipients = st.sampled_from(("bob", "bob", *NAMES))
picks = st.integers(0, 1_000)
"""Which of those there are; taken modulo their number."""

lately = st.integers(1, 4)
"""Which of those there are, counted from the latest."""

rarely = st.integers(0, 7).map(lambda number: number == 7)
"""Whether something happens that leaves little of what was going on."""

Place = tuple[str, PeerId]
"""One message for one recipient: envelope id and peer."""


# What plays along


class Fragile:
    """A mailbox that takes nothing while ``is_broken``."""

    is_broken = False

    def put(self, mail: Mail, *, now_ms: int, is_owed: bool = False, follows: int = 0) -> None:
        if self.is_broken:
            raise OSError("cannot be written")
        super().put(mail, now_ms=now_ms, is_owed=is_owed, follows=follows)  # type: ignore[misc]

    def put_many(self, puts: Sequence[Put]) -> list[Refusal | None]:
        if self.is_broken:
            raise OSError("cannot be written")
        return super().put_many(puts)  # type: ignore[misc,no-any-return]


class FragileMemory(Fragile, MemoryMailbox):
    """One that forgets at the end."""


class FragileFile(Fragile, SqliteMailbox):
    """One that does not."""


@dataclass(eq=False)
class Session:
    """
    One connection, and what it has seen.

    Attributes:
        owed: Answers it may still get, by message and recipient.
        pongs_owed: Answers to its pings.
        got: How often each message came.
        nacked: How often it put each of them off.
        in_flight: What it has and has not settled.
        newest: The latest message of each sender that came for the first time.
    """

    name: str
    speaker: Speaker
    is_proven: bool
    receives: bool = True
    owed: Counter[tuple[str, str]] = field(default_factory=Counter)
    pongs_owed: int = 0
    got: Counter[str] = field(default_factory=Counter)
    nacked: Counter[str] = field(default_factory=Counter)
    in_flight: set[str] = field(default_factory=set)
    newest: dict[str, int] = field(default_factory=dict)

    @property
    def peer(self) -> PeerId:
        return self.speaker.id


# The ledger


class PromiseMachine(RuleBasedStateMachine):
    """Every key that has proven itself has a mailbox, in memory."""

    mailboxes: ClassVar[MailboxPolicy] = MailboxPolicy.PROVEN

    def open_mailbox(self) -> Fragile:
        return FragileMemory(BOUNDS)

    def reopen_mailbox(self) -> None:
        """Do what the end of a process does to a mailbox."""

    @initialize()
    def begin(self) -> None:
        self.mailbox = self.open_mailbox()
        assert isinstance(self.mailbox, MemoryMailbox | SqliteMailbox)
        self.talk = Conversation(
            mailbox=self.mailbox,
            mailboxes=self.mailboxes,
            storage_peers=[STORAGE],
            rate_limit_enabled=False,
            heartbeat_interval=0.0,
            freshness_past=0.0,
            dedup_max_age=1e8,
            ack_timeout=ACK_TIMEOUT,
            max_nacks=MAX_NACKS,
            window_messages=WINDOW,
            mailbox_max_age=WEEK,
        )
        self.sessions: list[Session] = []
        self.proven: set[str] = set()
        self.letters: list[tuple[str, Envelope]] = []
        self.turns = itertools.count(1)
        self.accepted: dict[Place, int] = {}  # what the relay has taken, as far as we know
        self.acked: set[Place] = set()
        self.confirmed: set[Place] = set()  # by a pong
        self.nacks: Counter[Place] = Counter()
        self.settled: set[Place] = set()  # what may be called a duplicate
        self.kept: dict[Place, int] = {}  # what is in the mailbox, and since when
        self.given_up: set[Place] = set()  # too old, or put off too often
        self.died_before: set[Place] = set()  # given up in an earlier life
        self.bounces: set[Place] = set()
        self.was_full: set[PeerId] = set()
        self.sure_nacks: Counter[Place] = Counter()  # counted whatever came after
        self.the_room_fills()

    def the_room_fills(self) -> None:
        """Have some there from the start: what is rare needs more than one of them."""
        for name in ("alice", "bob", "bob"):
            self.someone_proves_its_key(name)
        for name in ("carol", STORAGE):
            self.someone_comes_in_the_reference_dialect(name)

    # What is known

    def pick(self, number: int) -> Session:
        return self.sessions[number % len(self.sessions)]

    def has_mailbox(self, peer: str) -> bool:
        name = self.talk.name_of(peer)
        is_open = self.mailboxes is MailboxPolicy.PROVEN
        return name == STORAGE or (is_open and name in self.proven)

    def sessions_of(self, peer: str) -> list[Session]:
        return [one for one in self.sessions if one.peer == peer and one.receives]

    def mail_now(self) -> Iterator[tuple[Place, int]]:
        """Return what is in the mailbox, and when it was put there."""
        assert isinstance(self.mailbox, MemoryMailbox | SqliteMailbox)
        for peer in KEYS.values():
            page = self.mailbox.page(peer, after=0, max_messages=1_000, max_bytes=10**9)
            for mail in page.mail:
                yield (mail.envelope_id, peer), mail.stored_ms
                if mail.sender == RELAY:
                    self.bounces.add(bounced_in(open_envelope(Sealed(parse_json(mail.text)))))
            if len(page.mail) >= MAILBOX * BOUNDS.sender_share:
                self.was_full.add(peer)

    def accept(self, place: Place) -> None:
        """Note what the relay may take now; unless it has it, that is another life."""
        if place in self.given_up:
            self.end_life(place)
        if place not in self.accepted:
            self.accepted[place] = next(self.turns)
            self.acked.discard(place)
            self.confirmed.discard(place)
            self.given_up.discard(place)
            del self.nacks[place], self.sure_nacks[place]

    def end_life(self, place: Place) -> None:
        """Forget what was given up, but that it may have a bounce: each may get it anew."""
        self.died_before.add(place)
        self.accepted.pop(place, None)
        for session in self.sessions_of(place[1]):
            session.in_flight.discard(place[0])
            del session.got[place[0]], session.nacked[place[0]]

    # Who is there

    def enter(self, session: Session) -> None:
        session.speaker.answers_pings = session.is_proven
        self.sessions.append(session)

    @rule(name=names)
    def someone_proves_its_key(self, name: str) -> None:
        if self.talk.disk.is_held:
            return  # it would be there only later
        speaker = self.talk.prove(name, watched=WATCH_NONE)
        if name not in self.proven:
            self.proven.add(name)
            for session in [one for one in self.sessions if one.name == name]:
                assert session.speaker.close_code is CloseCode.PROOF_REQUIRED
                self.take_what_came(session)
                self.sessions.remove(session)
        self.enter(Session(name, speaker, is_proven=True))

    @rule(name=names)
    def someone_who_only_sends_comes(self, name: str) -> None:
        if name in self.proven and not self.talk.disk.is_held:
            speaker = self.talk.prove(name, watched=WATCH_NONE, receives=False)
            self.enter(Session(name, speaker, is_proven=True, receives=False))

    @rule(name=names)
    def someone_comes_in_the_reference_dialect(self, name: str) -> None:
        speaker = self.talk.connect(name)
        speaker.answers_pings = False
        speaker.registers()
        if name in self.proven:
            assert speaker.hears() == ["error proof_required"]
            assert speaker.close_code is CloseCode.PROOF_REQUIRED
        else:
            self.enter(Session(name, speaker, is_proven=False))

    @precondition(lambda self: len(self.sessions) > 2)
    @rule(number=picks)
    def someone_goes(self, number: int) -> None:
        session = self.pick(number)
        self.sessions.remove(session)
        session.speaker.leaves()
        if not self.sessions_of(session.peer) and not self.has_mailbox(session.peer):
            self.lose_what_was_live(session.peer)

    def lose_what_was_live(self, peer: str) -> None:
        """Forget what a peer without a mailbox did not settle: its senders were told."""
        for place in [one for one in self.accepted if one[1] == peer]:
            if place not in self.settled:
                del self.accepted[place]

    # What is said

    @precondition(lambda self: self.sessions)
    @rule(number=picks, to=recipients)
    def someone_sends(self, number: int, to: str) -> None:
        self.send(self.pick(number), [to])

    @precondition(lambda self: self.sessions)
    @rule(number=picks, to=recipients, count=st.integers(2, 5))
    def someone_sends_a_lot(self, number: int, to: str, count: int) -> None:
        for _ in range(count):
            self.send(self.pick(number), [to])

    @precondition(lambda self: any(one.is_proven for one in self.sessions))
    @rule(number=picks, to=st.lists(names, min_size=1, max_size=4, unique=True))
    def someone_sends_to_several(self, number: int, to: list[str]) -> None:
        proven = [one for one in self.sessions if one.is_proven]
        self.send(proven[number % len(proven)], to, as_list=True)

    def send(self, session: Session, to: list[str], *, as_list: bool = False) -> None:
        payload = len(self.letters)
        envelope = session.speaker.seals([KEYS[name] for name in to], payload)
        self.letters.append((session.name, envelope))
        self.submit(session, envelope, list[str](map(KEYS.__getitem__, to)), as_list=as_list)

    @precondition(lambda self: self.sessions and self.letters)
    @rule(number=picks, which=lately, as_list=st.booleans())
    def someone_sends_the_same_again(self, number: int, which: int, as_list: bool) -> None:
        sender, envelope = self.letters[-min(which, len(self.letters))]
        own = [one for one in self.sessions if one.name == sender]
        if own:
            session = own[number % len(own)]
            to = list(envelope.to) if as_list and session.is_proven else [envelope.to[0]]
            self.submit(session, envelope, to, as_list=len(to) > 1)

    @precondition(lambda self: any(one.is_proven for one in self.sessions) and self.letters)
    @rule(number=picks, which=lately)
    def someone_sends_something_behind_another(self, number: int, which: int) -> None:
        proven = [one for one in self.sessions if one.is_proven]
        session = proven[number % len(proven)]
        _, before = self.letters[-min(which, len(self.letters))]
        to = PeerId(before.to[0])
        envelope = session.speaker.seals(to, len(self.letters))
        was_taken = (before.id, to) in self.accepted or (before.id, to) in self.settled
        self.letters.append((session.name, envelope))
        self.submit(session, envelope, [to], after=before.id)
        is_in_order = (envelope.id, to) in self.accepted or before.sender != session.peer
        assert was_taken or not is_in_order or before.sender != session.peer

    def submit(
        self,
        session: Session,
        envelope: Envelope,
        to: list[str],
        *,
        as_list: bool = False,
        **more: str,
    ) -> None:
        for peer in to:
            session.owed[envelope.id, peer] += 1
            self.accept((envelope.id, PeerId(peer)))
        recipients: Json = [*to] if as_list else to[0]
        frame: dict[str, Json] = {"type": "message", "to": recipients, **more}
        session.speaker.says(frame | {"envelope": envelope.to_dict()})
        self.take_all_that_came()

    @precondition(lambda self: self.sessions)
    @rule(number=picks)
    def someone_tells_everyone(self, number: int) -> None:
        session = self.pick(number)
        session.owed[session.speaker.broadcasts(len(self.letters)).id, EVERYONE] += 1

    @precondition(lambda self: self.sessions)
    @rule(number=picks)
    def someone_asks(self, number: int) -> None:
        session = self.pick(number)
        session.pongs_owed += 1
        session.speaker.asks()

    # What is settled

    @precondition(lambda self: any(one.in_flight for one in self.sessions if one.is_proven))
    @rule(number=picks, which=st.lists(picks, min_size=1, max_size=3))
    def someone_acks_what_it_has(self, number: int, which: list[int]) -> None:
        holders = [one for one in self.sessions if one.is_proven and one.in_flight]
        session = holders[number % len(holders)]
        held = sorted(session.in_flight)
        self.ack(session, {held[one % len(held)] for one in which})

    @precondition(lambda self: any(one.is_proven for one in self.sessions) and self.accepted)
    @rule(number=picks, which=lately)
    def someone_acks_anything(self, number: int, which: int) -> None:
        proven = [one for one in self.sessions if one.is_proven]
        session = proven[number % len(proven)]
        known = [envelope_id for envelope_id, peer in self.accepted if peer == session.peer]
        of_others = [envelope_id for envelope_id, peer in self.accepted if peer != session.peer]
        self.ack(session, {*known[-which:][:1], *of_others[-which:][:1], "no such id"})

    def ack(self, session: Session, ids: Iterable[str]) -> None:
        known = list(ids)
        for envelope_id in known:
            place = (envelope_id, session.peer)
            if place in self.accepted or envelope_id in session.in_flight:
                self.settled.add(place)  # though it was refused when another put it off too often
            if place in self.accepted:
                self.acked.add(place)
            session.in_flight.discard(envelope_id)
        session.speaker.says({"type": "ack", "ids": [*known]})

    @precondition(lambda self: any(one.in_flight for one in self.sessions if one.is_proven))
    @rule(number=picks, which=picks, delay=st.sampled_from([0.0, 1.0, MAX_DELAY]))
    def someone_puts_something_off(self, number: int, which: int, delay: float) -> None:
        holders = [one for one in self.sessions if one.is_proven and one.in_flight]
        session = holders[number % len(holders)]
        held = sorted(session.in_flight, key=lambda one: (-self.nacks[one, session.peer], one))
        envelope_id = held[which % min(2, len(held))]
        session.in_flight.discard(envelope_id)
        session.nacked[envelope_id] += 1
        self.nacks[envelope_id, session.peer] += 1
        is_sure = not (self.mailbox.is_broken or self.talk.disk.is_held)
        self.sure_nacks[envelope_id, session.peer] += is_sure
        members: dict[str, Json] = {"ids": [envelope_id, "no such id"], "delayMs": delay * 1000}
        session.speaker.says({"type": "nack"} | members)

    @precondition(lambda self: any(one.speaker.pings for one in self.sessions))
    @rule(number=picks)
    def someone_confirms_all_it_has(self, number: int) -> None:
        holders = [one for one in self.sessions if one.speaker.pings]
        session = holders[number % len(holders)]
        confirmed = {(envelope_id, session.peer) for envelope_id in session.in_flight}
        session.in_flight.clear()
        self.confirmed |= confirmed
        last, session.speaker.pings = session.speaker.pings[-1], []
        session.speaker.pongs(last)

    # What happens around them

    @rule(seconds=st.sampled_from([0.1, 1.0, ACK_TIMEOUT]))
    def time_passes(self, seconds: float) -> None:
        self.talk.pass_time(seconds)

    @precondition(lambda self: not self.talk.disk.is_held)
    @rule(does=rarely)
    def a_week_passes(self, does: bool) -> None:
        if does:
            self.talk.pass_time(WEEK + 100.0)

    @rule()
    def the_disk_is_busy(self) -> None:
        self.talk.disk.is_held = True

    @precondition(lambda self: self.sessions)
    @rule(number=picks, to=recipients)
    def something_is_to_be_stored_while_the_disk_is_busy(self, number: int, to: str) -> None:
        self.talk.disk.is_held = True
        self.send(self.pick(number), [to])
        self.talk.pass_time(ACK_TIMEOUT)

    @rule(is_broken=st.booleans())
    def the_disk_works_on(self, is_broken: bool) -> None:
        self.mailbox.is_broken = is_broken
        self.talk.disk.is_held = False
        self.talk.settle()

    @rule(does=rarely)
    def the_relay_is_killed(self, does: bool) -> None:
        if not does:
            return
        self.take_all_that_came()
        self.sessions.clear()
        self.reopen_mailbox()
        self.talk.restart()
        kept = dict(self.mail_now())
        assert set(self.kept) <= set(kept)
        self.accepted = {place: turn for place, turn in self.accepted.items() if place in kept}
        self.acked -= set(kept)  # what was to be removed is there again
        self.the_room_fills()

    # What must hold after every step

    @invariant()
    def what_is_said_is_true(self) -> None:
        self.take_all_that_came()

    def take_all_that_came(self) -> None:
        self.look_into_the_mailbox()
        for session in self.sessions:
            self.take_what_came(session)

    def take_what_came(self, session: Session) -> None:
        for answer in session.speaker.answers():
            self.take(session, answer)
        assert len(session.in_flight) <= WINDOW or not self.has_window(session)

    def has_window(self, session: Session) -> bool:
        return session.is_proven or self.has_mailbox(session.peer)

    def take(self, session: Session, answer: Answer) -> None:
        match answer:
            case Delivery(sender, envelope):
                self.take_delivery(session, PeerId(sender), open_envelope(envelope))
            case ReceiptAnswer(envelope_id, to, status):
                assert session.is_proven
                self.take_answer(session, (envelope_id, PeerId(to)))
                self.check_receipt((envelope_id, PeerId(to)), status)
            case ErrorAnswer(envelope_id=str(envelope_id), to=str(to), code=str(code)):
                self.take_answer(session, (envelope_id, PeerId(to)))
                self.check_error((envelope_id, PeerId(to)), code)
            case ErrorAnswer(code=code):
                assert code == "proof_required"
            case _:
                session.pongs_owed -= type(answer).__name__ == "Pong"
                assert session.pongs_owed >= 0

    def take_answer(self, session: Session, place: Place) -> None:
        """Each frame is answered once for each recipient, to who sent it."""
        assert session.owed[place] > 0
        session.owed[place] -= 1

    def check_receipt(self, place: Place, status: str) -> None:
        match status:
            case "delivered":
                assert place in self.acked
            case "stored":
                assert self.has_mailbox(place[1])
                assert place in self.kept or self.may_be_gone(place)
            case "sent":
                assert place[1] == EVERYONE or not self.has_mailbox(place[1])
                self.settled.add(place)
            case "duplicate":
                assert place in self.settled

    def check_error(self, place: Place, code: str) -> None:
        match code:
            case "unknown_recipient":
                assert not self.has_mailbox(place[1])
            case "mailbox_full":
                assert self.has_mailbox(place[1])
            case "unavailable":
                assert self.mailbox.is_broken or not self.has_mailbox(place[1])
                if self.nacks[place] >= MAX_NACKS and not self.has_mailbox(place[1]):
                    self.given_up.add(place)
            case "duplicate":
                assert place in self.settled
                return
            case _:
                assert code == "out_of_order"
        self.accepted.pop(place, None)  # its sender keeps it: it may be sent anew

    def take_delivery(self, session: Session, sender: PeerId, envelope: Envelope) -> None:
        assert session.receives
        if sender == RELAY:
            self.check_bounce(session, envelope)
        elif envelope.to == (EVERYONE,):
            assert sender != session.peer
            session.got[envelope.id] += 1
            assert session.got[envelope.id] == 1
            return
        place = (envelope.id, session.peer)
        assert place in self.accepted, "it was not for this peer, or it was taken back"
        assert place not in self.acked, "another session has it for all"
        session.got[envelope.id] += 1
        assert session.got[envelope.id] <= 1 + session.nacked[envelope.id]
        if session.got[envelope.id] == 1:
            assert session.newest.get(sender, 0) < self.accepted[place], "out of order"
            session.newest[sender] = self.accepted[place]
        if self.has_window(session):
            session.in_flight.add(envelope.id)
        else:
            self.settled.add(place)

    def check_bounce(self, session: Session, envelope: Envelope) -> None:
        assert envelope.type == "error"
        place = bounced_in(envelope)
        has_died = place in self.given_up or place in self.died_before
        assert has_died or self.nacks[place] >= MAX_NACKS
        assert any(sender == session.name and place[0] == one.id for sender, one in self.letters)
        self.accept((envelope.id, session.peer))

    # Mail

    def may_be_gone(self, place: Place) -> bool:
        """Tell whether what was stored may be there no more."""
        is_dead = self.nacks[place] >= MAX_NACKS  # it may be stored and dead at once
        was_taken = place in self.acked or place in self.confirmed
        return was_taken or is_dead or place in self.given_up

    def look_into_the_mailbox(self) -> None:
        """What was stored stays until it was acked, confirmed, given up or too old."""
        now = dict(self.mail_now())
        oldest_ms = self.talk.clock.wall_ms() - int(WEEK * 1000)
        for place in [one for one in self.kept if one not in now]:
            was_taken = place in self.acked or place in self.confirmed
            is_dead = self.nacks[place] >= MAX_NACKS
            if not was_taken and (is_dead or self.kept[place] < oldest_ms):
                self.given_up.add(place)
            assert self.may_be_gone(place), "it is lost"
            del self.kept[place]
            if place in self.given_up:
                self.check_is_told(place)
        self.kept |= now
        self.settled |= set(now)

    def check_is_told(self, place: Place) -> None:
        """Who sent what was given up has a bounce, if there was any room for it."""
        senders = [KEYS[name] for name, letter in self.letters if letter.id == place[0]]
        for sender in senders:  # none of a bounce
            has_room = self.has_mailbox(sender) and sender not in self.was_full
            assert place in self.bounces or not has_room or self.mailbox.is_broken

    @rule(does=rarely)
    def it_becomes_quiet(self, does: bool) -> None:
        if does:
            self.all_becomes_quiet()

    def all_becomes_quiet(self) -> None:
        """With the disk at work and time for all that was put off, nothing is left open."""
        self.the_disk_works_on(is_broken=False)
        self.talk.pass_time(ACK_TIMEOUT)
        self.talk.pass_time(MAX_DELAY)
        self.talk.pass_time(ACK_TIMEOUT)
        self.take_all_that_came()
        for place in self.kept:
            assert place not in self.acked, "it stays for ever"
            assert self.sure_nacks[place] < MAX_NACKS, "it comes for ever"
        for session in self.sessions:
            self.check_is_answered(session)
            self.check_has_its_mail(session)

    def check_is_answered(self, session: Session) -> None:
        waits = {to for (_, to), count in session.owed.items() if count}
        if session.is_proven:  # a peer without a mailbox may take its time
            known = {to for to in waits if self.has_mailbox(to) or not self.sessions_of(to)}
            assert known == set()
        if not waits:
            assert session.pongs_owed == 0

    def check_has_its_mail(self, session: Session) -> None:
        if not session.receives or len(session.in_flight) >= WINDOW:
            return
        for envelope_id, peer in self.kept:
            if peer == session.peer:
                assert session.got[envelope_id] == 1 + session.nacked[envelope_id], (
                    "it does not come"
                )

    def teardown(self) -> None:
        if hasattr(self, "mailbox"):
            self.all_becomes_quiet()


def bounced_in(bounce: Envelope) -> Place:
    """Return what a bounce is about."""
    assert isinstance(bounce.payload, dict)
    return bounce.in_reply_to or "", PeerId(str(bounce.payload["recipient"]))


class ListedMachine(PromiseMachine):
    """Only the listed storage peer has a mailbox."""

    mailboxes = MailboxPolicy.LISTED


class FileMachine(PromiseMachine):
    """Mail is kept in a file, which is opened anew when the relay is."""

    def open_mailbox(self) -> Fragile:
        self.folder = TemporaryDirectory()
        return FragileFile(Path(self.folder.name) / "mailbox.sqlite3", BOUNDS)

    def reopen_mailbox(self) -> None:
        assert isinstance(self.mailbox, FragileFile)
        self.mailbox.close()
        self.mailbox = self.talk.mailbox = FragileFile(
            Path(self.folder.name) / "mailbox.sqlite3", BOUNDS
        )

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "folder"):
            assert isinstance(self.mailbox, FragileFile)
            self.mailbox.close()
            self.folder.cleanup()


@pytest.mark.parametrize("machine", [PromiseMachine, ListedMachine])
def test_the_relay_keeps_its_promises(machine: type[PromiseMachine]) -> None:
    run_state_machine_as_test(machine, settings=settings(stateful_step_count=50))


def test_the_relay_keeps_its_promises_with_a_file_too() -> None:
    run_state_machine_as_test(FileMachine, settings=settings(max_examples=25))


# What was found in the ledger itself


@pytest.mark.parametrize("kind", [PromiseMachine, ListedMachine])
def test_the_ledger_begins_anew_with_what_is_sent_again_after_it_was_given_up(
    kind: type[PromiseMachine],
) -> None:
    machine = kind()
    machine.begin()
    alice = machine.sessions[0]
    machine.send(alice, ["bob"])
    for _ in range(MAX_NACKS):  # one session of two: the other has it still
        machine.someone_puts_something_off(0, 0, 0.0)
        machine.what_is_said_is_true()

    machine.someone_sends_the_same_again(0, 1, as_list=False)
    machine.time_passes(ACK_TIMEOUT)
    machine.someone_puts_something_off(0, 0, 0.0)

    machine.teardown()


@pytest.mark.parametrize("kind", [PromiseMachine, FileMachine])
def test_a_broken_disk_takes_nothing_wherever_mail_is_kept(kind: type[PromiseMachine]) -> None:
    machine = kind()
    machine.begin()
    machine.the_disk_works_on(is_broken=True)

    machine.send(machine.sessions[0], [STORAGE])

    assert (machine.accepted, dict(machine.mail_now())) == ({}, {})
    machine.teardown()


def test_what_is_settled_leaves_nothing_behind() -> None:
    talk = Conversation(ack_timeout=ACK_TIMEOUT)
    alice, bob, carol = talk.meet_proven("alice", "bob", "carol")
    acked, put_off = alice.sends(bob, "1"), alice.sends(bob, "2")
    bob.acks(acked)
    bob.nacks(put_off, delay=MAX_DELAY)
    carol.sends(bob, "3")
    with talk.busy_disk():
        for speaker in (alice, bob, carol):
            speaker.leaves()
    carol_again = talk.prove("carol")
    carol_again.sends(bob, "4")
    carol_again.sends(keys_of("nobody").peer_id, "5")
    carol_again.leaves()

    gc.collect()
    left = [thing for thing in gc.get_objects() if isinstance(thing, Recipient)]

    assert [one for one in left if one.peer in (alice.id, bob.id, carol.id)] == []
    assert len(talk.node) == 0
