"""
The reference dialect against a naive model of lists: who gets what in which order, who hears whom.

After every step each session must have heard exactly what the model expects,
and the mailbox must hold exactly what nobody has confirmed.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from agora.envelope import EVERYONE, Envelope
from agora.frames import encode_broadcast
from agora.testing.conversation import Conversation, Speaker, keys_of

NAMES = ("alice", "bob", "carol", "dave", "eve")
STORAGE = ("dave",)
names = st.sampled_from(NAMES)
picks = st.integers(0, 1_000)
"""Which of those there are; taken modulo their number."""

MAX_PEERS, MAILBOX, WINDOW, RATE, BROADCAST_COST = 4, 5, 2, 4, 2
SECONDS_PER_TOKEN = 2.0


@dataclass
class Letter:
    """An envelope, and the one it was first addressed to; ``"*"`` for a broadcast."""

    sender: str
    to: str
    envelope: Envelope


@dataclass
class Mail:
    position: int
    letter: Letter


@dataclass
class Session:
    name: str
    speaker: Speaker
    expected: list[str] = field(default_factory=list)
    last_sent: int = 0
    unconfirmed: list[int] = field(default_factory=list)


class RelayMachine(RuleBasedStateMachine):
    """Peers with several sessions each, one of them with a mailbox, at a relay without rates."""

    limits: ClassVar[dict[str, Any]] = {"rate_limit_enabled": False}

    @initialize()
    def begin(self) -> None:
        self.talk = Conversation(
            storage_peers=STORAGE,
            max_peers=MAX_PEERS,
            mailbox_max_messages=MAILBOX,
            mailbox_sender_share=1.0,
            window_messages=WINDOW,
            heartbeat_interval=0,
            **self.limits,
        )
        self.sessions: list[Session] = []
        self.online: list[str] = []  # in the order they came
        self.letters: list[Letter] = []
        self.taken: set[tuple[str, str]] = set()
        self.mailbox: list[Mail] = []
        self.positions = 0
        self.tokens: dict[str, float] = defaultdict(lambda: RATE)

    # The model

    def tell(self, line: str, *, all_but: str) -> None:
        for session in self.sessions:
            if session.name != all_but:
                session.expected.append(line)

    def may_spend(self, name: str, cost: int) -> bool:
        return not self.limits.get("rate_limit_enabled", True) or self.tokens[name] >= cost

    def spend(self, name: str, cost: int) -> None:
        self.tokens[name] -= cost

    def outcome(self, session: Session, letter: Letter, to: str) -> str | None:
        """Take a genuine letter for *to*; return the code of the error, or None."""
        if not self.may_spend(session.name, 1):
            return "rate_limited"
        if session.name != letter.sender:
            return "sender_mismatch"
        if to != letter.to:
            return "recipient_mismatch"
        if (letter.envelope.id, to) in self.taken:
            return "duplicate"
        self.spend(session.name, 1)
        if to in STORAGE:
            self.positions += 1  # its own, whether there is room for it or not
            if len(self.mailbox) == MAILBOX:
                return "mailbox_full"
            self.mailbox.append(Mail(self.positions, letter))
            self.feed()
        elif to not in self.online:
            return "unknown_recipient"
        else:
            self.deliver(letter, [s for s in self.sessions if s.name == to])
        self.taken.add((letter.envelope.id, to))
        return None

    def deliver(self, letter: Letter, sessions: list[Session]) -> None:
        for session in sessions:
            session.expected.append(f"{letter.sender}: {letter.envelope.payload}")

    def feed(self) -> None:
        """Send every session of a storage peer what waits, in order, as far as there is room."""
        for session in self.sessions:
            for mail in self.mailbox if session.name in STORAGE else []:
                if mail.position > session.last_sent and len(session.unconfirmed) < WINDOW:
                    self.deliver(mail.letter, [session])
                    session.last_sent = mail.position
                    session.unconfirmed.append(mail.position)

    def confirm(self, session: Session, position: int) -> None:
        confirmed = [p for p in session.unconfirmed if p <= position]
        session.unconfirmed = [p for p in session.unconfirmed if p > position]
        self.mailbox = [mail for mail in self.mailbox if mail.position not in confirmed]
        self.feed()

    def answer(self, session: Session, code: str | None) -> None:
        if code is not None:
            session.expected.append(f"error {code}")

    def pick(self, number: int) -> Session:
        return self.sessions[number % len(self.sessions)]

    # Sessions come and go

    @rule(name=names)
    def someone_comes(self, name: str) -> None:
        speaker = self.talk.connect(name)
        speaker.answers_pings = False
        speaker.registers()
        is_first = name not in self.online
        if is_first and len(self.online) == MAX_PEERS:
            assert speaker.hears() == ["error at_capacity"]
            return
        others = [other for other in self.online if other != name]
        absent = [other for other in STORAGE if other not in (*others, name)]
        listed = ", ".join(others + absent)
        session = Session(name, speaker, [f"registered with {listed}" if listed else "registered"])
        if is_first:
            self.online.append(name)
            self.tell(f"{name} is online", all_but=name)
        self.sessions.append(session)
        self.feed()

    @precondition(lambda self: self.sessions)
    @rule(number=picks)
    def someone_goes(self, number: int) -> None:
        session = self.pick(number)
        session.speaker.leaves()
        self.sessions.remove(session)
        if session.name not in [other.name for other in self.sessions]:
            self.online.remove(session.name)
            if session.name not in STORAGE:
                self.tell(f"{session.name} is offline", all_but=session.name)

    # Messages

    @precondition(lambda self: self.sessions)
    @rule(number=picks, to=names)
    def someone_sends(self, number: int, to: str) -> None:
        session = self.pick(number)
        envelope = session.speaker.sends(keys_of(to).peer_id, f"letter {len(self.letters)}")
        letter = Letter(session.name, to, envelope)
        self.letters.append(letter)
        self.answer(session, self.outcome(session, letter, to))

    @precondition(lambda self: self.sessions)
    @rule(number=picks, count=st.integers(2, 4))
    def someone_sends_mail(self, number: int, count: int) -> None:
        for _ in range(count):
            self.someone_sends(number, STORAGE[0])

    @precondition(lambda self: self.sessions and self.letters)
    @rule(number=picks, which=picks, to=names)
    def someone_submits_a_letter_whosesoever(self, number: int, which: int, to: str) -> None:
        session, letter = self.pick(number), self.letters[which % len(self.letters)]
        session.speaker.submits(letter.envelope, keys_of(to).peer_id)
        self.answer(session, self.outcome(session, letter, to))

    @precondition(lambda self: self.sessions and self.letters)
    @rule(number=picks, which=picks)
    def someone_sends_the_same_again(self, number: int, which: int) -> None:
        letter = self.letters[which % len(self.letters)]
        for session in [session for session in self.sessions if session.name == letter.sender][:1]:
            session.speaker.submits(letter.envelope, keys_of(letter.to).peer_id)
            self.answer(session, self.outcome(session, letter, letter.to))

    @precondition(lambda self: self.sessions)
    @rule(number=picks, to=names)
    def someone_sends_what_was_tampered_with(self, number: int, to: str) -> None:
        session = self.pick(number)
        genuine = session.speaker.seals(keys_of(to).peer_id, "genuine").to_dict()
        frame = {"type": "message", "to": keys_of(to).peer_id}
        session.speaker.says(frame | {"envelope": genuine | {"payload": "forged"}})
        is_limited = not self.may_spend(session.name, 1)
        self.answer(session, "rate_limited" if is_limited else "invalid_envelope")

    @precondition(lambda self: self.sessions)
    @rule(number=picks, again=st.booleans())
    def someone_broadcasts(self, number: int, again: bool) -> None:
        session = self.pick(number)
        letter = Letter(
            session.name, EVERYONE, session.speaker.seals(EVERYONE, f"call {len(self.letters)}")
        )
        for _ in range(2 if again else 1):
            session.speaker.says(encode_broadcast(letter.envelope.wire_text))
            self.answer(session, self.broadcast_outcome(session, letter))

    def broadcast_outcome(self, session: Session, letter: Letter) -> str | None:
        if not self.may_spend(session.name, BROADCAST_COST):
            return "rate_limited"
        if (letter.envelope.id, EVERYONE) in self.taken:
            return "duplicate"
        self.spend(session.name, BROADCAST_COST)
        self.taken.add((letter.envelope.id, EVERYONE))
        self.deliver(letter, [other for other in self.sessions if other.name != session.name])
        return None

    # Pings and pongs

    @precondition(lambda self: self.sessions)
    @rule(number=picks)
    def someone_asks(self, number: int) -> None:
        session = self.pick(number)
        session.speaker.asks()
        session.expected.append("pong")

    @rule()
    def a_storage_peer_comes(self) -> None:
        self.someone_comes(STORAGE[0])

    @precondition(lambda self: any(session.unconfirmed for session in self.sessions))
    @rule(number=picks, which=picks)
    def someone_confirms_some_or_all_of_its_mail(self, number: int, which: int) -> None:
        holders = [session for session in self.sessions if session.unconfirmed]
        session = holders[number % len(holders)]
        payload = session.speaker.pings[which % len(session.speaker.pings)]
        session.speaker.pongs(payload)
        self.confirm(session, int(payload))

    @precondition(lambda self: self.sessions)
    @rule(
        number=picks,
        payload=st.sampled_from([b"", b"x", b"-1", b"0", b"1", b"5", b"9" * 30, b"\xff\xff"]),
    )
    def someone_answers_what_nobody_asked(self, number: int, payload: bytes) -> None:
        session = self.pick(number)
        session.speaker.pongs(payload)
        self.confirm(session, int(payload) if payload.isdigit() else 0)

    @rule(tokens=st.sampled_from([0.5, 1.0, 2.0]))
    def time_passes(self, tokens: float) -> None:
        self.talk.pass_time(tokens * SECONDS_PER_TOKEN)
        for name in NAMES:
            self.tokens[name] = min(RATE, self.tokens[name] + tokens)

    # What must hold

    @invariant()
    def everyone_has_heard_what_they_should_and_nothing_else(self) -> None:
        for session in self.sessions:
            expected, session.expected = session.expected, []
            assert session.speaker.hears() == expected

    @invariant()
    def mail_is_kept_in_order_until_it_is_confirmed(self) -> None:
        dave = keys_of("dave").peer_id
        page = self.talk.mailbox.page(dave, after=0, max_messages=100, max_bytes=10**6)
        assert [(mail.position, mail.envelope_id) for mail in page.mail] == [
            (mail.position, mail.letter.envelope.id) for mail in self.mailbox
        ]

    @invariant()
    def nobody_else_is_there(self) -> None:
        assert len(self.talk.node) == len(self.sessions)


class LimitedRelayMachine(RelayMachine):
    """The same with rates, in steps that both can count exactly."""

    limits: ClassVar[dict[str, Any]] = {
        "rate_limit_max_messages": RATE,
        "rate_limit_window_ms": int(RATE * SECONDS_PER_TOKEN * 1000),
        "broadcast_cost": BROADCAST_COST,
        "rate_limit_max_frames": 1_000_000,
    }


@pytest.mark.parametrize("machine", [RelayMachine, LimitedRelayMachine])
def test_the_relay_does_what_the_model_does(machine: type[RelayMachine]) -> None:
    run_state_machine_as_test(machine)
