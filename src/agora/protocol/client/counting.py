"""
What a guard counts of those who write: how much, how often the same, and whose turn is when.

Nobody's counts are given up for somebody new, so no flood of keys resets them.
"""

from __future__ import annotations

import math
from hashlib import sha256

from agora.canonical import canonical_text
from agora.envelope import Envelope
from agora.frames import MAX_NACK_DELAY
from agora.keys import PeerId
from agora.protocol.client.consent_rules import ConsentRules
from agora.protocol.rates import TokenBucket

__all__ = ["Circle", "rate_of_strangers"]


def rate_of_strangers(rules: ConsentRules) -> TokenBucket | None:
    """Return what all strangers together may send; None is any number."""
    capacity, window = rules.stranger_messages, rules.stranger_window
    return TokenBucket(capacity=capacity, window=window, now=0.0) if capacity else None


class Circle:
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
        self._turns = _Turns(rules.sender_messages, rules.sender_window, longest=MAX_NACK_DELAY)
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
