"""
What has come and is not settled yet: handed over once, acked when the application is done.

::

                 take                      ack, give_up
    (unknown) ──────────► in hand ─────────────────────────► seen    remembered, then acked
        ▲                    │                                │
        └──── put off ◄──────┘ nack                           └──► comes again: acked at once

A message that comes again while it is in hand is neither handed over nor acked.
It lives on between connections, as the relay may send again what was in hand.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agora.envelope import Envelope
from agora.errors import AgoraError, TryAgainError
from agora.frames import MAX_IDS, MAX_NACK_DELAY, encode_ack, encode_nack
from agora.protocol.client.seen import Outcome, SeenStore
from agora.protocol.client.timing import Timing

__all__ = ["Intake"]

Key = tuple[str, str]
"""Sender and id."""


@dataclass(slots=True)
class _InHand:
    """
    A message that was handed over.

    Attributes:
        envelope: The message.
        confirm: Whether its sender asked for a signed acknowledgement.
        is_acked: Whether the relay waits for our ack: it does not for a broadcast.
        outcome: What became of it, once the application is done and it is being remembered.
    """

    envelope: Envelope
    confirm: bool
    is_acked: bool
    outcome: Outcome | None = None


class _Words:
    """What is to be told to the relay of what it brought."""

    def __init__(self) -> None:
        self.acks: list[str] = []
        self.nacks: dict[float, list[str]] = {}
        self._said: deque[str] = deque(maxlen=_REPEATABLE)
        self._repeated: deque[str] = deque()

    def frames(self) -> Iterator[str]:
        while self._repeated:
            yield self._say(self._repeated.popleft())
        while self.acks:
            batch, self.acks = self.acks[:MAX_IDS], self.acks[MAX_IDS:]
            yield self._say(encode_ack(batch))
        while self.nacks:
            delay, ids = self.nacks.popitem()
            for start in range(0, len(ids), MAX_IDS):
                yield self._say(encode_nack(ids[start : start + MAX_IDS], delay))

    def _say(self, frame: str) -> str:
        self._said.append(frame)
        return frame

    def repeat(self) -> None:
        self._repeated.extend(self._said)
        self._said.clear()


_REPEATABLE = 16
"""Frames of acks that are said again when one of them was too many; harmless for the others."""


class Intake:
    """
    Keeps each message until the application is done with it.

    Args:
        seen: Remembers what is done; its *done* may come later.
        timing: How long a message is put off.
        acknowledge: Sends an acknowledgement, where one is due; gets what became of it.
        wake: Called when there is something to write.
        complain: Called with what could not be done.
    """

    def __init__(
        self,
        seen: SeenStore,
        *,
        timing: Timing,
        acknowledge: Callable[[Envelope, Outcome], None] = lambda envelope, outcome: None,
        wake: Callable[[], None] = lambda: None,
        complain: Callable[[AgoraError], None] = lambda error: None,
    ) -> None:
        self._seen = seen
        self._timing = timing
        self._acknowledge = acknowledge
        self._wake = wake
        self._complain = complain
        self._in_hand: dict[Key, _InHand] = {}
        self._failures: OrderedDict[Key, int] = OrderedDict()
        self._words = _Words()
        self._has_acks = False

    # From and to the relay

    def begin(self, *, has_acks: bool) -> None:
        """Serve a new connection; only in Agora/1 it *has_acks*."""
        self._has_acks = has_acks
        self._words = _Words()  # what was not said yet is asked for again

    def take(self, envelope: Envelope, *, confirm: bool = False, is_acked: bool = True) -> bool:
        """Take a genuine message; tell whether it is to be handed over."""
        key = _key(envelope)
        if (in_hand := self._in_hand.get(key)) is not None:
            if in_hand.outcome is not None:
                self._remember(key, in_hand)  # it could not be, the last time
            return False
        outcome = self._seen.outcome_of(*key)
        if outcome is not None:
            self._settle(_InHand(envelope, confirm, is_acked, outcome), outcome)
            return False
        self._in_hand[key] = _InHand(envelope, confirm, is_acked)
        return True

    def refuse(self, envelope_id: str | None) -> None:
        """
        Put off what is not genuine, as far as can be.

        It is not acked: a forgery may bear the id of a genuine message.
        """
        if self._has_acks and envelope_id:
            self._nack(envelope_id, self._timing.nack_cap)

    def frames(self) -> Iterator[str]:
        """Yield the acks and nacks that are due, all of one turn together."""
        yield from self._words.frames()

    def repeat(self) -> None:
        """Say again what was said last: the relay had no time for some of it."""
        self._words.repeat()

    # From the application

    def ack(self, envelope: Envelope) -> None:
        """The application is done with a message. Again, or of another message, it is nothing."""
        self._done(envelope, "processed")

    def give_up(self, envelope: Envelope) -> None:
        """The application cannot deal with a message, and does not want it again."""
        self._done(envelope, "failed")

    def nack(self, envelope: Envelope, delay: float | None = None) -> None:
        """
        Have a message come again later.

        A relay of the reference dialect cannot do that; there it is as given up.

        Args:
            envelope: The message.
            delay: Seconds; None is a wait that doubles each time.
        """
        if not self._has_acks:
            self.give_up(envelope)
            return
        key = _key(envelope)
        in_hand = self._in_hand.get(key)
        if in_hand is None or in_hand.outcome is not None:
            return
        del self._in_hand[key]
        self._nack(envelope.id, self._delay(key) if delay is None else delay)

    def _delay(self, key: Key) -> float:
        failures = self._failures.pop(key, 0)
        self._failures[key] = failures + 1
        if len(self._failures) > _MAX_FAILURES:
            self._failures.popitem(last=False)
        return min(self._timing.nack_first * 2.0 ** min(failures, 16), self._timing.nack_cap)

    def _nack(self, envelope_id: str, delay: float) -> None:
        self._words.nacks.setdefault(min(max(delay, 0.0), MAX_NACK_DELAY), []).append(envelope_id)
        self._wake()

    # What is done

    def _done(self, envelope: Envelope, outcome: Outcome) -> None:
        key = _key(envelope)
        in_hand = self._in_hand.get(key)
        if in_hand is None or in_hand.outcome is not None:
            return
        in_hand.outcome = outcome
        self._remember(key, in_hand)

    def _remember(self, key: Key, in_hand: _InHand) -> None:
        assert in_hand.outcome is not None, "only what is done is remembered"
        outcome = in_hand.outcome
        self._seen.saw(
            *key, lambda error: self._remembered(key, in_hand, outcome, error), outcome=outcome
        )

    def _remembered(
        self, key: Key, in_hand: _InHand, outcome: Outcome, error: Exception | None
    ) -> None:
        if error is not None:
            # Still in hand: it is not handed over again, and not acked before it is remembered.
            self._complain(TryAgainError(f"a message could not be remembered as read: {error}"))
        elif self._in_hand.pop(key, None) is not None:
            self._failures.pop(key, None)
            self._settle(in_hand, outcome)

    def _settle(self, in_hand: _InHand, outcome: Outcome) -> None:
        if self._has_acks and in_hand.is_acked:
            self._words.acks.append(in_hand.envelope.id)
            self._wake()
        if in_hand.confirm:
            self._acknowledge(in_hand.envelope, outcome)


_MAX_FAILURES = 10_000
"""Messages whose failures are counted; the oldest of more is put off as if for the first time."""


def _key(envelope: Envelope) -> Key:
    return envelope.sender, envelope.id
