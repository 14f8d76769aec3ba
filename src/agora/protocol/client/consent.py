"""
Who may speak to us, how often, and how often the same: judged before the application sees it.

The judge takes verified envelopes alone, and any of them gets a verdict. The
rule kept here: those whom we know and those whom we do not are counted apart,
so that no flood of new keys, which are free, ever changes what becomes of a
message from somebody known.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable
from dataclasses import dataclass, fields
from enum import StrEnum
from hashlib import sha256
from typing import Final, Literal, TypeAlias

from agora.canonical import Json, canonical_text
from agora.envelope import Envelope
from agora.keys import PeerId
from agora.protocol.rates import TokenBucket
from agora.settings import check_setting, setting

__all__ = [
    "ADMIT",
    "ASK",
    "Admit",
    "Ask",
    "ConsentRules",
    "ConsentState",
    "ContactPolicy",
    "Guard",
    "Later",
    "Verdict",
    "Withheld",
]


class ContactPolicy(StrEnum):
    """Whose messages the application sees. Those whom we wrote to may always answer."""

    OPEN = "open"
    """Everybody's but those of the ignored."""
    CONTACTS = "contacts"
    """Those of contacts; all others are withheld."""
    ASK = "ask"
    """Those of contacts; about all others somebody is asked."""


# Verdicts


@dataclass(frozen=True, slots=True)
class Admit:
    """The application gets it."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Somebody decides whether its sender may write: then `Guard.allow` or `Guard.ignore`."""


@dataclass(frozen=True, slots=True)
class Withheld:
    """The application does not get it, now or later."""

    reason: Literal["ignored", "not_a_contact", "repeated"]


@dataclass(frozen=True, slots=True)
class Later:
    """
    Not now; judged again after a while it may be admitted. It cost its sender nothing.

    Attributes:
        retry_after: Seconds, above 0. Others may have used up what is shared by then.
        reason: Always that there was too much.
    """

    retry_after: float
    reason: Literal["too_many"] = "too_many"


Verdict: TypeAlias = Admit | Ask | Withheld | Later

ADMIT: Final = Admit()
ASK: Final = Ask()


# Rules


@dataclass(frozen=True, kw_only=True)
class ConsentRules:
    """
    How much is too much.

    Raises:
        ConfigurationError: When made with a value outside a field's bounds.
    """

    sender_messages: int = setting(
        200,
        unit="messages",
        help="messages one sender may send at once, and within each window after; 0 is any number",
        reason="three a second for as long as it likes; the reference's 10 a minute is no talk",
        overflow="`Later`",
        minimum=0,
    )
    sender_window: float = setting(
        60.0,
        unit="s",
        help="time in which a sender's used-up rate is whole again",
        reason="the reference's",
        minimum=0.001,
    )
    stranger_messages: int = setting(
        200,
        unit="messages",
        help="the same for all strangers together; 0 is any number",
        reason="keys are free, so a thousand strangers may be one: together they get what one gets",
        overflow="`Later`",
        minimum=0,
    )
    stranger_window: float = setting(
        60.0,
        unit="s",
        help="time in which the strangers' used-up rate is whole again",
        reason="as of one sender",
        minimum=0.001,
    )
    max_strangers: int = setting(
        10_000,
        unit="senders",
        help="strangers whose rates are counted at once",
        reason="some 3 MB; met only where strangers together may send any number",
        overflow="`Later` to those not counted yet; nobody's count is given up",
        minimum=1,
    )
    repeat_window: float = setting(
        1_800.0,
        unit="s",
        help="time in which the same content from the same sender is a repeat; 0 is off",
        reason="the reference's",
        minimum=0.0,
    )
    repeat_types: frozenset[str] | None = setting(
        frozenset({"announce", "heartbeat"}),
        unit="",
        help="types of messages of which repeats are withheld; None is all types",
        reason="of a conversation nothing is withheld: a second `yes` answers a second question",
    )
    repeats_of_nothing: bool = setting(
        False,
        unit="",
        help="whether a message without content can be a repeat",
        reason="its type is all that it says, and it was sent to say it again",
    )
    max_contents: int = setting(
        5_000,
        unit="contents",
        help="contents remembered, of those known and of strangers each",
        reason="the reference's; some 1 MB",
        overflow="the oldest is forgotten: a repeat of it is admitted",
        minimum=1,
    )
    max_written: int = setting(
        10_000,
        unit="peers",
        help="peers remembered as those whom we wrote to",
        reason="more than anybody talks with; some 2 MB",
        overflow="whom we wrote to longest ago is a stranger again",
        minimum=1,
    )

    def __post_init__(self) -> None:
        for declared in fields(self):
            check_setting(declared, getattr(self, declared.name))


@dataclass(frozen=True, slots=True)
class ConsentState:
    """
    What a guard has been told, for a file; what it has counted is not in it.

    Attributes:
        allowed: Who may write without being a contact, sorted.
        ignored: Who is not heard, sorted.
        written_to: Whom we wrote to, longest ago first.
    """

    allowed: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    written_to: tuple[str, ...] = ()


class Guard:
    """
    Judges what comes.

    In this order: an ignored sender is withheld; a bounce of our relay is
    admitted; who may not write is withheld; what is too much comes later; a
    repeat is withheld; about a stranger somebody is asked, or it is admitted.

    Two exceptions, so that we hear what we asked for. A bounce (an ``error`` that
    names a message, signed by :attr:`relay`) is subject to the ignore list alone.
    And whom we wrote to counts as known: each message to them pays for
    :data:`ANSWERS` answers, which no rate holds back.

    Args:
        policy: Who may write.
        contacts: Who is known; looked at with each message, so it may change.
        ignored: Who is not heard, whatever else is said of them.
        rules: How much is too much.
        state: What another guard was told; its ignored are added to *ignored*.

    Attributes:
        policy: As above; may be changed.
        relay: The key of the relay that bounces, once it has proven it.
    """

    def __init__(
        self,
        policy: ContactPolicy = ContactPolicy.OPEN,
        *,
        contacts: Container[PeerId] = (),
        ignored: Iterable[str] = (),
        rules: ConsentRules | None = None,
        state: ConsentState | None = None,
    ) -> None:
        state = state or ConsentState()
        self.policy = policy
        self.relay: PeerId | None = None
        self._rules = rules or ConsentRules()
        self._contacts = contacts
        self._allowed = set(state.allowed)
        self._ignored = {*ignored, *state.ignored}
        self._owed: dict[str, int] = dict.fromkeys(state.written_to, 0)
        self._known = _Circle(self._rules, together=None, max_senders=math.inf)
        self._strangers = _Circle(
            self._rules,
            together=_rate_of_strangers(self._rules),
            max_senders=self._rules.max_strangers,
        )

    # What we are told

    def allow(self, peer: str) -> bool:
        """Let a peer write as a contact may, and ignore it no longer; tell if that is new."""
        is_new = peer not in self._allowed or peer in self._ignored
        self._ignored.discard(peer)
        self._allowed.add(peer)
        return is_new

    def ignore(self, peer: str) -> bool:
        """Hear nothing from a peer; tell if that is new."""
        is_new = peer not in self._ignored
        self._allowed.discard(peer)
        self._ignored.add(peer)
        return is_new

    def unignore(self, peer: str) -> bool:
        """Hear a peer again as the policy says; tell if that is new."""
        is_new = peer in self._ignored
        self._ignored.discard(peer)
        return is_new

    def wrote_to(self, peer: str) -> None:
        """Note that we wrote to a peer: it may answer."""
        owed = self._owed.pop(peer, 0)  # and in again as the latest
        self._owed[peer] = min(owed + ANSWERS, MAX_OWED)
        if len(self._owed) > self._rules.max_written:
            del self._owed[next(iter(self._owed))]

    @property
    def ignored(self) -> tuple[str, ...]:
        """Who is not heard, sorted."""
        return tuple(sorted(self._ignored))

    def state(self) -> ConsentState:
        """Return what this guard was told, to give to another one."""
        return ConsentState(tuple(sorted(self._allowed)), self.ignored, tuple(self._owed))

    # What we say

    def knows(self, peer: PeerId) -> bool:
        """Tell whether a peer is a contact, was allowed, or was written to."""
        return peer in self._contacts or peer in self._allowed or peer in self._owed

    def judge(self, envelope: Envelope, *, now: float) -> Verdict:
        """
        Say what becomes of a message that was addressed to us and verified.

        Judged again, as when it was not handled and came once more, it is no repeat of itself.

        Args:
            envelope: The message.
            now: Seconds, on any clock that does not go back.
        """
        sender = envelope.sender
        if sender in self._ignored:
            return Withheld("ignored")
        if self._is_bounce(envelope):
            return ADMIT
        is_known = self.knows(sender)
        if not is_known and self.policy is ContactPolicy.CONTACTS:
            return Withheld("not_a_contact")
        circle = self._known if is_known else self._strangers
        if not self._is_awaited(envelope) and (wait := circle.take(sender, envelope.id, now=now)):
            return Later(wait)
        if self._can_repeat(envelope) and circle.contents.repeats(envelope, now=now):
            return Withheld("repeated")
        return ADMIT if is_known or self.policy is ContactPolicy.OPEN else ASK

    def _is_bounce(self, envelope: Envelope) -> bool:
        is_from_relay = self.relay is not None and envelope.sender == self.relay
        return is_from_relay and envelope.type == "error" and envelope.in_reply_to is not None

    def _is_awaited(self, envelope: Envelope) -> bool:
        """Tell whether an answer is paid for by what we wrote, and use that up."""
        owed = self._owed.get(envelope.sender, 0)
        if envelope.in_reply_to is None or owed == 0:
            return False
        self._owed[envelope.sender] = owed - 1
        return True

    def _can_repeat(self, envelope: Envelope) -> bool:
        types = self._rules.repeat_types
        is_listed = types is None or envelope.type in types
        has_content = envelope.payload not in _NOTHING or self._rules.repeats_of_nothing
        return self._rules.repeat_window > 0 and is_listed and has_content


ANSWERS: Final = 2
"""What each message of ours may bring back beyond every rate: a reply and an acknowledgement."""

MAX_OWED: Final = 20_000
"""Answers that one peer may owe: to ten thousand messages, ten full outboxes."""

_NOTHING: Final[tuple[Json, ...]] = (None, "", {}, [], {"text": ""})


# Counting


def _rate_of_strangers(rules: ConsentRules) -> TokenBucket | None:
    capacity, window = rules.stranger_messages, rules.stranger_window
    return TokenBucket(capacity=capacity, window=window, now=0.0) if capacity else None


class _Circle:
    """
    What is counted of some senders, apart from all others.

    Args:
        rules: How much is too much.
        together: What all of them together may send; None is any number.
        max_senders: How many of them are counted at once.
    """

    def __init__(
        self, rules: ConsentRules, *, together: TokenBucket | None, max_senders: float
    ) -> None:
        self.contents = _Contents(window=rules.repeat_window, max_contents=rules.max_contents)
        self._rules = rules
        self._together = together
        self._max_senders = max_senders
        self._senders: dict[PeerId, TokenBucket] = {}
        self._turns = _Turns(rules.sender_messages, rules.sender_window, longest=_LONGEST_TURN)
        self._turns_together = _Turns(
            rules.stranger_messages, rules.stranger_window, longest=rules.stranger_window
        )
        self._swept = -math.inf

    def take(self, sender: PeerId, envelope_id: str, *, now: float) -> float:
        """Count a message and return 0.0, or count nothing and return the seconds to wait."""
        for turns in (self._turns, self._turns_together):
            if early := turns.left(envelope_id, now):
                return early
        own, together = self._own(sender, now), self._together
        if own is not None and (wait := own.wait(now=now)):
            return self._turns.give(sender, envelope_id, wait, now)
        if together is not None and (wait := together.wait(now=now)):
            return self._turns_together.give(_EVERYBODY, envelope_id, wait, now)
        if own is not None and not self._has_place(sender, now):
            return self._rules.sender_window  # by then somebody's rate is whole, and forgotten
        if own is not None:
            own.take(now=now)
            self._senders[sender] = own
        if together is not None:
            together.take(now=now)
        return 0.0

    def _own(self, sender: PeerId, now: float) -> TokenBucket | None:
        """Return the sender's rate; a whole one that is not kept yet, for one not counted yet."""
        rules = self._rules
        if not rules.sender_messages:
            return None
        return self._senders.get(sender) or TokenBucket(
            capacity=rules.sender_messages, window=rules.sender_window, now=now
        )

    def _has_place(self, sender: PeerId, now: float) -> bool:
        if sender in self._senders:
            return True
        self._sweep(now)
        return len(self._senders) < self._max_senders

    def _sweep(self, now: float) -> None:
        """Forget whole rates, which changes no verdict; not so often that it costs anything."""
        is_full = len(self._senders) >= self._max_senders
        if now - self._swept >= (_SWEEP if is_full else self._rules.sender_window):
            self._swept = now
            whole = [sender for sender, bucket in self._senders.items() if bucket.is_full(now)]
            for sender in whole:
                del self._senders[sender]


_SWEEP = 1.0
"""Seconds between two looks for room in a full table: some 10 ms of work for ten thousand."""


class _Turns:
    """
    When each message that has to wait is to come again: one after the other.

    If all came again at once, all but one would be put off again, until the relay
    gives them up.

    Args:
        messages: Messages in each window; 0 is any number.
        window: Seconds.
        longest: Seconds that a turn is ahead at most, unless the rate itself asks for more.
    """

    def __init__(self, messages: int, window: float, *, longest: float) -> None:
        self._apart = window / messages if messages else 0.0
        self._longest = longest
        self._next: dict[str, float] = {}
        self._given: dict[str, float] = {}

    def left(self, envelope_id: str, now: float) -> float:
        """Return the seconds until a message's turn; 0.0 when that is now, or none was given."""
        turn = self._given.get(envelope_id, now)
        if turn <= now:
            self._given.pop(envelope_id, None)
        return max(0.0, turn - now)

    def give(self, queue: str, envelope_id: str, wait: float, now: float) -> float:
        """Give a message a turn, *wait* seconds from now at the earliest; return how many it is."""
        turn = min(max(now + wait, self._next.get(queue, now)), now + max(wait, self._longest))
        self._next[queue] = turn + self._apart
        self._given[envelope_id] = turn
        if len(self._given) > _MAX_TURNS:
            del self._given[next(iter(self._given))]
            self._next = {queue: later for queue, later in self._next.items() if later > now}
        return turn - now


_EVERYBODY = ""
"""The one queue of those who share a rate."""

_LONGEST_TURN = 3_600.0
"""Seconds that a relay puts a message off at most."""

_MAX_TURNS = 10_000
"""Turns that are remembered; whose is forgotten is given a new one."""


class _Contents:
    """Who said what lately, by its hash, with the id and the time of its first sighting."""

    def __init__(self, *, window: float, max_contents: int) -> None:
        self._window = window
        self._max_contents = max_contents
        self._first: dict[bytes, tuple[str, float]] = {}  # in the order of the times

    def repeats(self, envelope: Envelope, *, now: float) -> bool:
        """Tell whether another message said this lately; else remember that this one does."""
        self._forget_old(now)
        content = _hash_of(envelope)
        if content in self._first:
            return self._first[content][0] != envelope.id  # the same message says it once
        self._first[content] = (envelope.id, now)
        if len(self._first) > self._max_contents:
            del self._first[next(iter(self._first))]
        return False

    def _forget_old(self, now: float) -> None:
        while self._first:
            oldest = next(iter(self._first))
            if now - self._first[oldest][1] < self._window:
                return
            del self._first[oldest]


def _hash_of(envelope: Envelope) -> bytes:
    """Return the hash of who says what; the answer to another message says something else."""
    routing = canonical_text([envelope.sender, envelope.in_reply_to, envelope.type])
    return sha256((routing + canonical_text(envelope.payload)).encode()).digest()
