"""
The relay's side of one connection: who may say what, when.

::

                    register without proof
    UNREGISTERED ─────────────────────────────────────► REGISTERED
         │                                                   │
         │ register with a nonce                             │
         ▼             authenticate          pin committed   │
    CHALLENGED ───────────────────► PINNING ───────────► PROVEN ◄── resume, by the shell
         │                             │                     │
         │ deadline, no proof, no room │                     │ idle, too slow, gone
         └─────────────► CLOSED ◄──────┴─────────────────────┘

A refused frame is answered by an ``error`` and changes nothing; the connection
stays, but for a registration that fails. What each state makes of each frame is
the table at the end. REGISTERED speaks the reference dialect, PROVEN Agora/1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

from agora.codes import CloseCode, ErrorCode, ReceiptStatus
from agora.envelope import EVERYONE, is_envelope_id
from agora.errors import FrameError
from agora.frames import (
    PONG,
    PROTOCOL,
    Ack,
    Authenticate,
    Broadcast,
    Nack,
    Ping,
    Register,
    Request,
    Submit,
    UnknownRequest,
    Watch,
    Watched,
    decode_request,
    encode_challenge,
    encode_receipt,
)
from agora.limits import Limits
from agora.protocol import proof
from agora.protocol.rates import TokenBucket
from agora.protocol.relay.actions import (
    Action,
    Close,
    Note,
    Pin,
    Receipt,
    Send,
    SessionId,
    Ticket,
    Verify,
)
from agora.protocol.relay.actions import Ping as PingAction
from agora.protocol.relay.refusal import Refusal, duplicate, name_too_long, not_pinned
from agora.protocol.relay.router import Router
from agora.protocol.relay.tracing import Trace
from agora.sealed import PlainSealed
from agora.text import claimed_name, sanitize_text

__all__ = ["Door", "RelaySession", "State"]

_REGISTER_FIRST = "Not registered: send registration message first"
_UNKNOWN_TYPE = "Unknown message type: "


class State(StrEnum):  # of strings, as it is looked up with every frame
    """Where a connection stands."""

    UNREGISTERED = "unregistered"
    CHALLENGED = "challenged"
    PINNING = "pinning"
    REGISTERED = "registered"
    PROVEN = "proven"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Door:
    """
    What a shell knows of a connection that has come in.

    Attributes:
        nonce: 64 hex digits nobody could guess, for its challenge.
        address: Where it comes from, by which rates are counted.
        audiences: The names that this relay has on this connection, as
            :mod:`agora.protocol.proof` writes them.
        purposes: What the signatures of a registration through it are for.
    """

    nonce: str
    address: str = ""
    audiences: tuple[str, ...] = ()
    purposes: proof.Purposes = proof.OVER_WEBSOCKET


class _Message(NamedTuple):
    """
    A message that was looked at: what was asked, its tickets, and what is to be verified.

    Also how many pings came behind it, and before the next: each has a pong when it was taken.
    """

    request: Submit | Broadcast
    tickets: dict[str, Ticket]
    to_verify: PlainSealed | None
    trace: Trace | None
    pings: int = 0

    @property
    def is_ready(self) -> bool:
        return self.to_verify is None or self.to_verify.is_verified


class RelaySession:
    """
    One connection to a relay.

    Args:
        session_id: Its id, unique on this node.
        router: Where registered sessions meet.
        limits: What is admitted.
        door: What is known of the connection.
        now: Seconds on any clock that only goes forward; the same for every call.

    No method raises on anything a client can send.

    Attributes:
        state: Where it stands.
        opened_at: When it was made.
    """

    def __init__(
        self, session_id: SessionId, router: Router, limits: Limits, door: Door, *, now: float
    ) -> None:
        self.id = session_id
        self.state = State.UNREGISTERED
        self._router = router
        self._limits = limits
        self._door = door
        self._register_request: Register | None = None
        self.opened_at = now
        self._heard = now
        self._pinged: float | None = None
        self._frames = TokenBucket(
            capacity=limits.rate_limit_max_frames,
            window=limits.rate_limit_window_ms / 1000,
            now=now,
        )
        self._last_ticket = 0
        self._unsettled: dict[int, None] = {}  # tickets, in order
        self._awaited_cost = 0  # in messages, by which rates are counted
        self._awaited: list[_Message] = []  # until they are verified, and those behind them
        self._pongs_due: dict[int, int] = {}  # how many wait for all up to each ticket, in order

    def change_limits(self, limits: Limits) -> None:
        """Go by other limits from now on; its deadline to register stays."""
        self._limits = limits
        self._frames.change(
            capacity=limits.rate_limit_max_frames, window=limits.rate_limit_window_ms / 1000
        )

    # What the shell tells

    def receive(self, data: str | bytes, *, now: float) -> list[Action]:
        """Take one WebSocket message, text or binary."""
        if self.state is State.CLOSED:
            return []  # a close is on its way; nothing said after it counts
        self._hear(now)
        # What Agora/1 adds means nothing to a client that has not asked for it.
        protocol = 0 if self.state is State.REGISTERED else PROTOCOL
        try:
            request = decode_request(data, protocol=protocol)
        except FrameError as error:
            return self._refuse_malformed(error, now)
        try:
            return self._handle(request, now)
        except Refusal as refusal:
            return self._refuse_request(request, refusal)

    def receive_pong(self, payload: bytes, *, now: float) -> list[Action]:
        """Take a WebSocket pong, which settles what cannot be acked."""
        self._hear(now)
        return self._router.mailroom.confirmed(self.id, payload)

    def hear(self, *, now: float) -> None:
        """Note a sign of life that carries nothing, such as a WebSocket ping."""
        self._hear(now)

    def tick(self, *, now: float) -> list[Action]:
        """Let time pass: the deadline to register, then the heartbeat."""
        if self._is_open:
            return self._beat(now) if self._limits.heartbeat_interval else []
        if self.state is not State.CLOSED and now >= self._register_by:
            return [Close(self.id, CloseCode.REGISTER_TIMEOUT)]
        return []

    @property
    def due(self) -> float:
        """When :meth:`tick` may next have something to do: not before, whatever comes."""
        if self.state is State.CLOSED:
            return math.inf
        interval = self._limits.heartbeat_interval or math.inf
        beat = (self._heard if self._pinged is None else self._pinged) + interval
        return beat if self._is_open else min(self._register_by, beat)

    def end(self, *, now: float) -> list[Action]:
        """The connection is closing or gone: leave, once."""
        taken = self.take_all(now=now)  # it goes on its way, though nobody hears of it here
        was_open, self.state = self._is_open, State.CLOSED
        return taken + (self._router.leave(self.id, now) if was_open else [])

    def pinned(self, pending: int | None, *, now: float) -> list[Action]:
        """
        The pin is committed, and *pending* messages wait; None when it could not be.

        Only now the session is open: what it was promised survives a crash.
        """
        if self.state is not State.PINNING or self._register_request is None:
            return []
        if pending is None:
            text = "the proof cannot be remembered now"
            return self._turn_away(Refusal(ErrorCode.UNAVAILABLE, text))
        return self._join(self._register_request, State.PROVEN, pending, now)

    def resume(self, request: Register, *, now: float) -> list[Action]:
        """
        Open the session for a key whose proof the shell remembers, such as by a token it gave.

        Only for a key that still is pinned here. Rates and room are looked at as for
        anyone who comes; *request* has a nonce, as that of every proven session, which
        nobody signs.
        """
        if self.state is not State.UNREGISTERED:
            return []
        try:
            request = replace(request, name=self._display_name(request.name))
            self._check_watched(request.watched)
            self._router.registry.check_join(request, self._door.address, now)
            if request.public_key not in self._router.pins:
                raise not_pinned()
        except Refusal as refusal:
            return self._turn_away(refusal)
        return self._join(request, State.PROVEN, None, now)

    def verified(self, *, now: float) -> list[Action]:
        """Take the messages that are verified by now, in the order in which they came."""
        ready = 0
        while ready < len(self._awaited) and self._awaited[ready].is_ready:
            ready += 1
        return self._take_awaited(ready, now) if ready else []

    def take_all(self, *, now: float) -> list[Action]:
        """Take all messages that have come, verified by others or not."""
        return self._take_awaited(len(self._awaited), now)

    def settled(self, number: int, outcome: Receipt | Refusal) -> list[Action]:
        """Answer for the ticket of this *number*; pongs that waited for it follow."""
        if number not in self._unsettled:
            return []  # answered already
        del self._unsettled[number]
        return [*self._answer(outcome), *self._due_pongs()]

    # Frames

    def _handle(self, request: Request, now: float) -> list[Action]:
        if isinstance(request, Ping):
            # Counted, but never refused: what waits for the pong would wait for ever.
            self._frames.take(now=now)
        else:
            self._spend_frame(now)
        handler = _HANDLERS.get((self.state, type(request)), RelaySession._unknown)
        return handler(self, request, now)

    def _refuse_malformed(self, error: FrameError, now: float) -> list[Action]:
        try:
            self._spend_frame(now)
            refusal = self._malformed(error)
        except Refusal as too_fast:
            refusal = too_fast
        return self._refuse(refusal.about(error.envelope_id, error.to))

    def _refuse_request(self, request: Request, refusal: Refusal) -> list[Action]:
        """Answer a request that was refused as a whole: once for each of its recipients."""
        if isinstance(request, Submit) and len(request.to) <= self._limits.max_recipients:
            claimed = request.envelope.claimed_id
            answers = [self._answer(refusal.about(claimed, to)) for to in request.to]
            return [action for answer in answers for action in answer]
        if isinstance(request, Submit | Broadcast):
            return self._answer(refusal.about(request.envelope.claimed_id, None))
        return self._refuse(refusal)

    # Registration

    def _register(self, request: Register, now: float) -> list[Action]:
        if request.name is not None:
            request = replace(request, name=self._display_name(request.name))
        self._check_watched(request.watched)
        try:
            self._router.registry.check_join(request, self._door.address, now)
        except Refusal as refusal:
            return self._turn_away(refusal)
        if request.nonce is None:
            return self._join(request, State.REGISTERED, 0, now)
        self.state, self._register_request = State.CHALLENGED, request
        relay = self._router.identity
        signature = proof.sign_challenge(
            relay,
            client_nonce=request.nonce,
            nonce=self._door.nonce,
            public_key=request.public_key,
            purposes=self._door.purposes,
        )
        return [Send((self.id,), encode_challenge(self._door.nonce, relay.peer_id, signature))]

    def _authenticate(self, request: Authenticate, now: float) -> list[Action]:
        assert self._register_request is not None  # the challenge was for it
        peer = self._register_request.public_key
        audience = proof.proven_audience(
            peer,
            request.signature,
            audiences=self._door.audiences,
            nonce=self._door.nonce,
            relay=self._router.identity.peer_id,
            said=request.audience,
            purposes=self._door.purposes,
        )
        if audience is None:
            return self._turn_away(self._proof_failed(request))
        try:
            self._router.pins.begin(peer, self._door.address, now)
        except Refusal as refusal:
            return self._turn_away(refusal)
        self.state = State.PINNING
        return [Pin(self.id, peer)]

    def _proof_failed(self, request: Authenticate) -> Refusal:
        ours = " or ".join(self._door.audiences) or "nothing"
        if request.audience is None or request.audience in self._door.audiences:
            text = f"Proof failed: the signature is not the key's, for this challenge, for {ours}"
        else:
            meant = sanitize_text(request.audience)[:_MAX_SHOWN]
            text = (
                f"Proof failed: it is for {meant}, and this relay knows itself as {ours}: "
                f"connect to that, or have the operator add {meant} to --public-name"
            )
        return Refusal(ErrorCode.PROOF_FAILED, text)

    def _join(
        self, request: Register, state: State, pending: int | None, now: float
    ) -> list[Action]:
        address = self._door.address
        try:
            actions = self._router.join(self.id, request, address=address, pending=pending, now=now)
        except Refusal as refusal:
            return self._turn_away(refusal)
        self.state = state
        # What was needed to come in is not needed inside: a third of an idle session's memory.
        self._door, self._register_request = _NO_DOOR, None
        return actions

    def _turn_away(self, refusal: Refusal) -> list[Action]:
        code = _CLOSES_WITH.get(refusal.code, CloseCode.TRY_AGAIN_LATER)
        return [*self._refuse(refusal), Close(self.id, code)]

    # Messages

    def _submit(self, request: Submit, now: float) -> list[Action]:
        if len(request.to) > self._limits.max_recipients:
            most = self._limits.max_recipients
            text = f"Invalid message: {len(request.to)} recipients of at most {most}"
            raise Refusal(ErrorCode.INVALID_MESSAGE, text)
        return self._look_at(request, request.to, now)

    def _broadcast(self, request: Broadcast, now: float) -> list[Action]:
        return self._look_at(request, (), now)

    def _look_at(
        self, request: Submit | Broadcast, recipients: tuple[str, ...], now: float
    ) -> list[Action]:
        """Take a message, or have it verified first; none overtakes another."""
        envelope = request.envelope
        to_verify = self._router.look_at(
            self.id, envelope, recipients, now, ahead=self._awaited_cost
        )
        tickets = {to: self._issue_ticket() for to in recipients or (EVERYONE,)}
        tracer = self._router.tracer
        trace = None if tracer is None else tracer.begin(request)
        message = _Message(request, tickets, to_verify, trace)
        if not (self._awaited or to_verify):
            return self._take_in(message, now)
        if trace is not None:
            trace.verify()
        self._awaited.append(message)
        self._awaited_cost += self._cost_of(message)
        return [Verify(self.id, to_verify)] if to_verify else []

    def _take_awaited(self, count: int, now: float) -> list[Action]:
        ready, self._awaited = self._awaited[:count], self._awaited[count:]
        self._awaited_cost -= sum([self._cost_of(message) for message in ready])
        if self._router.registry.get(self.id) is None:
            return []  # its key has proven itself in another session: it speaks for nobody
        actions: list[Action] = []
        for message in ready:
            actions += self._take_in(message, now)
            actions += [Send((self.id,), PONG)] * message.pings
        return actions

    def _cost_of(self, message: _Message) -> int:
        is_for_all = isinstance(message.request, Broadcast)
        return self._limits.broadcast_cost if is_for_all else len(message.tickets)

    def _take_in(self, message: _Message, now: float) -> list[Action]:
        request, tickets, trace = message.request, message.tickets, message.trace
        if trace is not None:
            trace.verified()
        try:
            if isinstance(request, Submit):
                actions = self._router.submit(self.id, request, tickets, now, trace)
            else:
                everyone = tickets[EVERYONE]
                actions = self._router.broadcast(self.id, request.envelope, everyone, now)
        except Refusal as refusal:
            if trace is not None:
                trace.end(refusal)
            self._withdraw(tickets.values())
            return self._refuse_request(request, refusal) + self._due_pongs()
        if trace is not None:
            trace.end()
        return actions

    def _ack(self, request: Ack, now: float) -> list[Action]:
        self._frames.take(now=now, cost=len(request.ids) / _IDS_PER_FRAME)
        return self._router.mailroom.ack(self.id, filter(is_envelope_id, request.ids))

    def _nack(self, request: Nack, now: float) -> list[Action]:
        ids = filter(is_envelope_id, request.ids)
        return self._router.mailroom.nack(self.id, ids, request.delay, now)

    def _watch(self, request: Watch, now: float) -> list[Action]:
        self._check_watched(request.watched)
        self._frames.take(now=now, cost=self._limits.broadcast_cost)  # it tells of everyone
        return self._router.registry.watch(self.id, request.watched)

    def _ping(self, request: Ping, now: float) -> list[Action]:
        # In the reference dialect a pong says that all before it is settled. Agora/1 has receipts,
        # so there it says that all before it was looked at.
        if self._unsettled and self.state is State.REGISTERED:
            self._pongs_due[self._last_ticket] = self._pongs_due.get(self._last_ticket, 0) + 1
            return []
        if self._awaited:  # what is refused of it is said first
            last = self._awaited[-1]
            self._awaited[-1] = last._replace(pings=last.pings + 1)
            return []
        return [Send((self.id,), PONG)]

    def _unknown(self, request: Request, now: float) -> list[Action]:
        name = type(request).__name__.lower()
        if isinstance(request, UnknownRequest):
            name = request.type_text
        raise Refusal(ErrorCode.INVALID_MESSAGE, _UNKNOWN_TYPE + name)

    def _not_registered(self, request: Request, now: float) -> list[Action]:
        raise Refusal(ErrorCode.NOT_REGISTERED, _REGISTER_FIRST)

    # Answers

    def _issue_ticket(self) -> Ticket:
        self._last_ticket += 1
        self._unsettled[self._last_ticket] = None
        return Ticket(self.id, self._last_ticket)

    def _withdraw(self, tickets: Iterable[Ticket]) -> None:
        """Take back tickets that were issued just now: what they were for is refused at once."""
        for ticket in tickets:
            del self._unsettled[ticket.number]

    def _answer(self, outcome: Receipt | Refusal) -> list[Action]:
        has_receipts = self.state is State.PROVEN
        if isinstance(outcome, Refusal):
            if not has_receipts or outcome.code is not ErrorCode.DUPLICATE:
                return self._refuse(outcome)
            known_id, to = outcome.envelope_id or "", outcome.to or "*"
            outcome = Receipt(known_id, to, ReceiptStatus.DUPLICATE)
        status, is_of_repeat = outcome.status, outcome.is_of_repeat
        self._router.outcomes.add(status, is_of_repeat=is_of_repeat)
        if not has_receipts:
            # Who says nothing agrees; but what came twice is said, as to whoever sends it later.
            told = duplicate(outcome.envelope_id, outcome.to) if is_of_repeat else None
            return self._say_refusal(told) if told else []
        text = encode_receipt(outcome.envelope_id, outcome.to, status, outcome.count)
        return [Send((self.id,), text)]

    def _due_pongs(self) -> list[Action]:
        first_open = next(iter(self._unsettled), self._last_ticket + 1)
        actions: list[Action] = []
        for number in [number for number in self._pongs_due if number < first_open]:
            actions += [Send((self.id,), PONG)] * self._pongs_due.pop(number)
        return actions

    def _refuse(self, refusal: Refusal) -> list[Action]:
        """Say no; where that is about a message, it is the outcome of it."""
        outcomes = self._router.outcomes
        if refusal.code is ErrorCode.DUPLICATE:
            outcomes.duplicate += 1
        elif refusal.envelope_id:
            outcomes.refused += 1
        return self._say_refusal(refusal)

    def _say_refusal(self, refusal: Refusal) -> list[Action]:
        fields = {"session": self.id, "code": str(refusal.code)}
        if refusal.envelope_id:
            fields["id"] = refusal.envelope_id
        return [Send((self.id,), refusal.to_frame()), Note("refused", fields)]

    # Helpers

    @property
    def _register_by(self) -> float:
        return self.opened_at + self._limits.register_timeout

    @property
    def _is_open(self) -> bool:
        return self.state in (State.REGISTERED, State.PROVEN)

    def _display_name(self, name: str | None) -> str | None:
        """Clean a claimed name, and refuse one that is too long."""
        if name is None:
            return None
        if len(name) > self._limits.max_name_length:
            raise name_too_long(name, self._limits.max_name_length)
        return claimed_name(name)

    def _check_watched(self, watched: Watched) -> None:
        count, most = len(watched.peers), self._limits.max_watched
        if count > most:
            text = f'Invalid presence: {count} peers of at most {most}; "all" is no list'
            raise Refusal(ErrorCode.INVALID_MESSAGE, text)

    def _malformed(self, error: FrameError) -> Refusal:
        """Return the answer to a frame of bad shape: the state is looked at before its members."""
        is_register = error.frame_type == "register"
        code, message = ErrorCode(error.code), str(error)
        if self.state is State.UNREGISTERED and error.frame_type and not is_register:
            code, message = ErrorCode.NOT_REGISTERED, _REGISTER_FIRST
        if self.state is not State.UNREGISTERED and is_register:
            message = _UNKNOWN_TYPE + "register"
        return Refusal(code, message)

    def _spend_frame(self, now: float) -> None:
        if not self._limits.rate_limit_enabled:
            return
        wait = self._frames.take(now=now)
        if wait > 0:
            raise Refusal(
                ErrorCode.RATE_LIMITED,
                f"Rate limit of {self._limits.rate_limit_max_frames} frames in "
                f"{self._limits.rate_limit_window_ms} ms reached",
                retry_after=wait,
            )

    def _hear(self, now: float) -> None:
        self._heard = now
        self._pinged = None

    def _beat(self, now: float) -> list[Action]:
        interval = self._limits.heartbeat_interval
        if self._pinged is not None:
            is_dead = now >= self._pinged + interval
            return [Close(self.id, CloseCode.IDLE)] if is_dead else []
        if now >= self._heard + interval:
            self._pinged = now
            return [PingAction(self.id, b"")]
        return []


_NO_DOOR = Door("")
"""In place of the door through which a session has come."""

_IDS_PER_FRAME = 50
"""Acked ids that cost a connection as much as one more frame."""

_MAX_SHOWN = 200
"""Characters of a stranger's own words that an error repeats."""

_CLOSES_WITH = {
    ErrorCode.PROOF_REQUIRED: CloseCode.PROOF_REQUIRED,
    ErrorCode.PROOF_FAILED: CloseCode.PROOF_FAILED,
}
"""How a connection is closed whose registration was refused; else it may come again."""


_Handler = Callable[[RelaySession, Any, float], list[Action]]

_HANDLERS: Mapping[tuple[State, type[Request]], _Handler] = {
    (State.UNREGISTERED, Register): RelaySession._register,
    (State.UNREGISTERED, Ping): RelaySession._ping,
    (State.UNREGISTERED, Submit): RelaySession._not_registered,
    (State.UNREGISTERED, Broadcast): RelaySession._not_registered,
    (State.UNREGISTERED, Authenticate): RelaySession._not_registered,
    (State.UNREGISTERED, Ack): RelaySession._not_registered,
    (State.UNREGISTERED, Nack): RelaySession._not_registered,
    (State.UNREGISTERED, Watch): RelaySession._not_registered,
    (State.UNREGISTERED, UnknownRequest): RelaySession._not_registered,
    (State.CHALLENGED, Authenticate): RelaySession._authenticate,
    (State.CHALLENGED, Ping): RelaySession._ping,
    (State.CHALLENGED, Submit): RelaySession._not_registered,
    (State.CHALLENGED, Broadcast): RelaySession._not_registered,
    (State.PINNING, Ping): RelaySession._ping,
    (State.PINNING, Submit): RelaySession._not_registered,
    (State.PINNING, Broadcast): RelaySession._not_registered,
    (State.REGISTERED, Ping): RelaySession._ping,
    (State.REGISTERED, Submit): RelaySession._submit,
    (State.REGISTERED, Broadcast): RelaySession._broadcast,
    (State.PROVEN, Ping): RelaySession._ping,
    (State.PROVEN, Submit): RelaySession._submit,
    (State.PROVEN, Broadcast): RelaySession._broadcast,
    (State.PROVEN, Ack): RelaySession._ack,
    (State.PROVEN, Nack): RelaySession._nack,
    (State.PROVEN, Watch): RelaySession._watch,
}
"""What is handled how; everything else is answered as a type that is not known here."""
