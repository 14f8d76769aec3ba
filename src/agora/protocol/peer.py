"""
The client's side of the conversation: register, send in order, take only what is genuine.

::

                 registered
    REGISTERING ────────────► REGISTERED        a new PeerSession for every connection;
         │                        │             the Outbox lives on between them
         └── refused ─► CLOSED ◄──┘ lost

A relay of the reference says nothing about a message it took, and does not
name the one it refused. But it answers in order: so a ``ping`` goes behind
every message, and what comes before its ``pong`` is about that message. No
error before the pong means that the relay took it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from agora.codes import ABNORMAL_CLOSE, ERROR_ADVICE, CloseCode, ErrorCode, may_reconnect
from agora.envelope import EVERYONE, Envelope, open_envelope
from agora.errors import AgoraError, EnvelopeError, FrameError, NoAnswerError, RefusedError
from agora.frames import (
    PING,
    Delivery,
    ErrorAnswer,
    ListedPeer,
    PeerOffline,
    PeerOnline,
    Pong,
    Registered,
    UnknownAnswer,
    decode_answer,
    encode_broadcast,
    encode_register,
    encode_submit,
)
from agora.keys import KeyPair, PeerId
from agora.protocol.dialect import Dialect, code_of
from agora.protocol.outbox import Outbox, Outgoing, Status
from agora.protocol.rates import TokenBucket

__all__ = [
    "Changed",
    "Event",
    "Incoming",
    "Lost",
    "Opened",
    "PeerSession",
    "PeerState",
    "PresenceChanged",
    "Problem",
    "SeenIds",
    "Timing",
]


class PeerState(Enum):
    """Where the conversation stands."""

    REGISTERING = "registering"
    REGISTERED = "registered"
    CLOSED = "closed"


# Events: what came of it, for the shell


@dataclass(frozen=True, slots=True)
class Opened:
    """The relay has registered us."""

    relay: PeerId | None


@dataclass(frozen=True, slots=True)
class Incoming:
    """A genuine message to us, the first time it comes. The name is claimed, not proven."""

    envelope: Envelope
    name: str | None


@dataclass(frozen=True, slots=True)
class PresenceChanged:
    """A peer has come or gone."""

    peer: ListedPeer
    is_online: bool


@dataclass(frozen=True, slots=True)
class Changed:
    """Something is known of a message we sent; see its status."""

    outgoing: Outgoing


@dataclass(frozen=True, slots=True)
class Problem:
    """Something was wrong and is dealt with; the conversation goes on."""

    error: AgoraError


@dataclass(frozen=True, slots=True)
class Lost:
    """The conversation is over; ``is_final`` when coming back would not help."""

    error: AgoraError
    is_final: bool


Event = Opened | Incoming | PresenceChanged | Changed | Problem | Lost


@dataclass(frozen=True, slots=True)
class Timing:
    """
    How long a client waits, in seconds.

    Attributes:
        register: For ``registered``, after the connection is open.
        ping_interval: Silence after which the relay is pinged.
        answer: For the answer to a ping; then the link counts as dead.
        retry_first: Before a message that could not be taken is tried again.
        retry_cap: The most that this wait grows to, doubling each time; and the most
            that a relay can have us wait.
    """

    register: float = 10.0
    ping_interval: float = 30.0
    answer: float = 10.0
    retry_first: float = 5.0
    retry_cap: float = 300.0


class SeenIds:
    """
    The ids of messages that were handed over, so that each comes once.

    Args:
        max_ids: How many are kept; at the bound the oldest is forgotten.
    """

    def __init__(self, *, max_ids: int) -> None:
        self._max_ids = max_ids
        self._ids: OrderedDict[tuple[str, str], None] = OrderedDict()

    def add(self, sender: str, envelope_id: str) -> bool:
        """Remember an id of *sender*; return False when it was known."""
        key = (sender, envelope_id)
        if key in self._ids:
            return False
        self._ids[key] = None
        if len(self._ids) > self._max_ids:
            self._ids.popitem(last=False)
        return True


@dataclass(slots=True)
class _Asked:
    """A ping, and the message before it, if there was one and until an error has answered it."""

    at: float
    outgoing: Outgoing | None = None


class PeerSession:
    """
    One connection's worth of conversation with a relay.

    Args:
        keys: Who we are.
        name: The display name we claim.
        outbox: What we have to say; shared by all connections, one after the other.
        seen: What we were told; shared likewise.
        rate: Our own limit; None for none.
        timing: How long to wait.
        now: Seconds on a clock that only goes forward, as for every call.
        reseal: Signs a message's content anew, with a timestamp of its own.
    """

    def __init__(
        self,
        keys: KeyPair,
        *,
        name: str | None,
        outbox: Outbox,
        seen: SeenIds,
        rate: TokenBucket | None,
        timing: Timing,
        reseal: Callable[[Envelope], Envelope],
        now: float,
    ) -> None:
        self.state = PeerState.REGISTERING
        self.peers: dict[PeerId, ListedPeer] = {}
        self._keys = keys
        self._name = name
        self._outbox = outbox
        self._seen = seen
        self._rate = rate
        self._timing = timing
        self._reseal = reseal
        self._since = now
        self._heard = now
        self._asked: deque[_Asked] = deque()
        self._dialect = Dialect()
        self._paused_until = now
        self._held_until = now

    # To the relay

    def register(self) -> str:
        """Return the first frame to write."""
        return encode_register(self._keys.peer_id, self._name)

    def frames_to_send(self, *, now: float) -> Iterator[str]:
        """
        Yield the frames to write now: messages whose time has come, and a ping after silence.

        What is heard between two frames counts at once.
        """
        if not self._may_write():
            return
        for outgoing in self._outbox.ready(now=now, in_flight=self.in_flight):
            if not self._may_write() or self._hold(now, outgoing):
                return
            # Noted before it is written: an answer may be quicker than the writer.
            self._asked.append(_Asked(now, outgoing))
            yield self._frame(outgoing)
            if self._may_write():
                yield PING
        if not self._asked and now >= self._heard + self._timing.ping_interval:
            self._asked.append(_Asked(now))
            yield PING

    def _hold(self, now: float, outgoing: Outgoing) -> bool:
        """Tell whether a rate, the relay's or our own, holds *outgoing* back; note until when."""
        cost = BROADCAST_COST if outgoing.to == EVERYONE else 1
        wait = self._rate.wait(now=now, cost=cost) if self._rate else 0.0
        self._held_until = max(self._paused_until, now + wait)
        if self._held_until > now:
            return True
        if self._rate:
            self._rate.take(now=now, cost=cost)
        return False

    def next_wake(self, *, now: float) -> float:
        """Return the seconds until time alone makes something due; never negative."""
        if self.state is PeerState.REGISTERING:
            return max(0.0, self._since + self._timing.register - now)
        ping_at = self._heard + self._timing.ping_interval
        later = (ping_at, self._held_until, self._paused_until, self._outbox.next_due(now=now))
        # What is due already waits for the socket, not for time; only the end comes regardless.
        moments = [self._dead_at(), *(moment for moment in later if moment > now)]
        return max(0.0, min(moments) - now)

    def tick(self, *, now: float) -> list[Event]:
        """Let time pass: notice a relay that does not register us, or says nothing any more."""
        if self.state is PeerState.REGISTERING and now >= self._since + self._timing.register:
            waited = self._timing.register
            return self._lose(NoAnswerError(f"the relay did not register us within {waited} s"))
        if self.state is PeerState.REGISTERED and now >= self._dead_at():
            silent = now - self._heard
            return self._lose(NoAnswerError(f"the relay has been silent for {silent:.1f} s"))
        return []

    def _dead_at(self) -> float:
        """Return when the link counts as dead: no answer to a ping, or no way to write one."""
        ping_at = self._heard + self._timing.ping_interval
        if not self._asked:
            return max(ping_at, self._paused_until) + self._timing.answer
        asked_at = self._asked[0].at
        # Who talks but never answers is dead too, only slower to be found out.
        patience = min(self._heard - asked_at, _TALKATIVE * self._timing.answer)
        return max(asked_at + max(0.0, patience), self._paused_until) + self._timing.answer

    def _frame(self, outgoing: Outgoing) -> str:
        if outgoing.is_stale:
            self._outbox.renew(outgoing, self._reseal(outgoing.envelope))
        text = outgoing.envelope.wire_text
        if outgoing.to == EVERYONE:
            return encode_broadcast(text)
        return encode_submit(outgoing.to, text)

    def _may_write(self) -> bool:
        return self.state is PeerState.REGISTERED

    @property
    def in_flight(self) -> list[Outgoing]:
        """What was written and is not answered, in order."""
        return [asked.outgoing for asked in self._asked if asked.outgoing is not None]

    # From the relay

    def receive(self, data: str | bytes, *, now: float) -> list[Event]:
        """Take one WebSocket message. Never raises: what is wrong is a :class:`Problem`."""
        if self.state is PeerState.CLOSED:
            return []
        self._heard = now
        try:
            answer = decode_answer(data)
        except FrameError as error:
            return [Problem(error)]
        match answer:
            case Registered():
                return self._open(answer)
            case Delivery():
                return self._take(answer)
            case PeerOnline(peer):
                return self._arrive(peer)
            case PeerOffline(peer):
                return self._depart(peer)
            case Pong():
                return self._settle()
            case ErrorAnswer():
                return self._hear_error(answer, now)
            case UnknownAnswer():
                return []
            case _:
                assert_never(answer)

    def hear(self, *, now: float) -> None:
        """Count the relay as heard: it is we who do not read just now."""
        self._heard = now
        for asked in self._asked:
            asked.at = now

    def disconnected(self, close_code: int, reason: str) -> list[Event]:
        """The connection is gone; what was in flight waits in the outbox again."""
        if self.state is PeerState.CLOSED:
            return []
        events: list[Event] = []
        if close_code == CloseCode.TOO_BIG:
            events = self._give_up_largest()
        text = f"the relay closed the connection with {close_code}" + (reason and f": {reason}")
        if close_code == ABNORMAL_CLOSE:
            text = "the connection was lost"
        if may_reconnect(close_code):
            return events + self._lose(NoAnswerError(text))
        return events + self._lose(RefusedError("closed", text), is_final=True)

    def _open(self, registered: Registered) -> list[Event]:
        if self.state is not PeerState.REGISTERING:
            return []  # once is enough
        self.state = PeerState.REGISTERED
        self._dialect = Dialect.of(registered)
        events: list[Event] = [Opened(registered.relay)]
        for peer in registered.peers:
            events += self._arrive(peer)
        return events

    def _arrive(self, peer: ListedPeer) -> list[Event]:
        self.peers[peer.public_key] = peer
        self._outbox.wake(peer.public_key)
        return [PresenceChanged(peer, is_online=True)]

    def _depart(self, peer: ListedPeer) -> list[Event]:
        known = self.peers.pop(peer.public_key, None)
        return [] if known is None else [PresenceChanged(known, is_online=False)]

    def _take(self, delivery: Delivery) -> list[Event]:
        """Let through what is signed, by whom the relay says, to us, for the first time."""
        try:
            envelope = open_envelope(delivery.envelope)
        except EnvelopeError as error:
            return [Problem(error)]
        if envelope.sender != delivery.sender:
            return [Problem(_not_ours("Envelope sender does not match relay from field"))]
        if self._keys.peer_id not in envelope.to and EVERYONE not in envelope.to:
            return [Problem(_not_ours(f"envelope {envelope.id} is not addressed to us"))]
        if not self._seen.add(envelope.sender, envelope.id):
            return []
        return [Incoming(envelope, delivery.name)]

    def _settle(self) -> list[Event]:
        """A pong: no error came for the message before its ping, so the relay took it."""
        outgoing = self._asked.popleft().outgoing if self._asked else None
        return [] if outgoing is None else self._finish(outgoing, Status.SENT)

    def _finish(
        self, outgoing: Outgoing, status: Status, refusal: RefusedError | None = None
    ) -> list[Event]:
        self._outbox.settle(outgoing, status, refusal)
        return [Changed(outgoing)]

    # Errors

    def _hear_error(self, error: ErrorAnswer, now: float) -> list[Event]:
        refusal = RefusedError(code_of(error), error.message, envelope_id=error.envelope_id)
        if self.state is PeerState.REGISTERING:
            is_final = error.message.startswith("Invalid registration")
            return self._lose(refusal, is_final=True) if is_final else [Problem(refusal)]
        asked = self._asked_about(error)
        if asked is None or asked.outgoing is None:
            return [Problem(refusal)]
        outgoing, asked.outgoing = asked.outgoing, None  # its pong says nothing more about it
        return self._answer(outgoing, refusal, error.retry_after, now)

    def _asked_about(self, error: ErrorAnswer) -> _Asked | None:
        """Find the message an error is about: by its id, or else the first still unanswered."""
        if not self._dialect.names_envelopes and error.envelope_id is None:
            return self._asked[0] if self._asked else None
        about = (
            asked
            for asked in self._asked
            if asked.outgoing is not None
            and asked.outgoing.envelope.id == error.envelope_id
            and error.to in (None, asked.outgoing.to)
        )
        return next(about, None)

    def _answer(
        self, outgoing: Outgoing, refusal: RefusedError, retry_after: float | None, now: float
    ) -> list[Event]:
        if refusal.code == ErrorCode.DUPLICATE:
            return self._finish(outgoing, Status.SENT)  # it is there
        if refusal.code in ERROR_ADVICE and not ERROR_ADVICE[ErrorCode(refusal.code)].final:
            return self._postpone(outgoing, refusal.code, retry_after, now)
        return self._finish(outgoing, Status.REFUSED, refusal)

    def _postpone(
        self, outgoing: Outgoing, code: str, retry_after: float | None, now: float
    ) -> list[Event]:
        if code == ErrorCode.RATE_LIMITED:
            self._pause(retry_after, now)
            self._outbox.hold(outgoing, why=code)
            return [Changed(outgoing)]
        if self._dialect.spends_ids:
            self._outbox.spoil(outgoing)
        waiting = self._outbox.postpone(
            outgoing,
            why=code,
            now=now,
            first=self._timing.retry_first,
            cap=self._timing.retry_cap,
        )
        return [Changed(message) for message in waiting]

    def _pause(self, retry_after: float | None, now: float) -> None:
        asked_for = max(retry_after or self._timing.retry_first, _LEAST_WAIT)
        wait = min(asked_for, self._timing.retry_cap)
        self._paused_until = max(self._paused_until, now + wait)

    def _give_up_largest(self) -> list[Event]:
        """A frame was too big: give up the largest in flight, or it would be sent for ever."""
        in_flight = self.in_flight
        if not in_flight:
            return []
        largest = max(in_flight, key=lambda outgoing: outgoing.size)
        refusal = RefusedError(
            "too_large",
            f"envelope of {largest.size} bytes is too big for this relay",
            envelope_id=largest.envelope.id,
        )
        return self._finish(largest, Status.REFUSED, refusal)

    def _lose(self, error: AgoraError, *, is_final: bool = False) -> list[Event]:
        self.state = PeerState.CLOSED
        self._spoil_unheard()
        self._asked.clear()
        gone: list[Event] = [PresenceChanged(peer, is_online=False) for peer in self.peers.values()]
        self.peers.clear()
        return [*gone, Lost(error, is_final)]

    def _spoil_unheard(self) -> None:
        """Of what is in flight an error may have been on its way that we never heard."""
        for outgoing in self.in_flight:
            is_reachable = outgoing.to in self.peers or outgoing.to == EVERYONE
            if self._dialect.spends_ids and not is_reachable:
                self._outbox.spoil(outgoing)


_LEAST_WAIT = 0.05
"""Seconds to wait at least when a relay limits us, whatever it says."""

_TALKATIVE = 5
"""How many times longer an answer may take while the relay says other things."""

BROADCAST_COST = 10
"""How many messages a broadcast counts for in our own rate, as it does at our relay."""


def _not_ours(message: str) -> FrameError:
    return FrameError("not_addressed", message, frame_type="message")
