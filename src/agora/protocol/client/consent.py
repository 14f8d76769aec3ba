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
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, TypeAlias

from agora.canonical import Json
from agora.envelope import Envelope
from agora.keys import PeerId
from agora.protocol.client.consent_rules import ConsentRules
from agora.protocol.client.counting import Circle, rate_of_strangers

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


# What is kept


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
        self._known = Circle(self._rules, together=None, max_senders=math.inf)
        self._strangers = Circle(
            self._rules,
            together=rate_of_strangers(self._rules),
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
