"""
The requests of one conversation by HTTP: which are under way, and what their answers mean.

::

    core ── frame ──► say ──► next_calls ──► (the network) ──► hear, fail ──► frames ──► core
                                             (events)      ──► hear_event ──►

A send is answered as soon as the relay has the message. What becomes of it later
comes as an event; where events were interrupted, or stay away, the send is made again,
which changes nothing but that it is answered (``duplicate``, if it is there).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from agora.canonical import Json
from agora.codes import ABNORMAL_CLOSE, ErrorCode
from agora.frames import (
    MAX_IDS,
    PONG,
    WATCH_ALL,
    Ack,
    Authenticate,
    Broadcast,
    Nack,
    Ping,
    Register,
    Submit,
    Watch,
    decode_request,
)
from agora.frames.members import encode
from agora.protocol.client.http.answers import Answer, Loss, object_of, objects_in
from agora.protocol.client.http.calls import (
    Call,
    Lane,
    Name,
    ask_call,
    broadcast_call,
    challenge_call,
    register_call,
    send_call,
    settle_call,
)
from agora.protocol.client.http.presence import Onlookers
from agora.protocol.client.http.sends import Sends

__all__ = ["Exchange"]

_ATTEMPTS = 2
"""How often a call is made that gets no answer: a connection kept open may be gone by then."""

_PAUSE = 1.0
"""Seconds to wait when there is too much, and it is not said for how long."""

_LONGEST_PAUSE = 60.0
"""The most that a relay can have us wait for events."""

_OVERDUE = 15.0
"""Seconds until a message is asked after that the relay has, and of which no word came."""


class Exchange:
    """
    What is asked of one relay, from registration to loss.

    Attributes:
        frames: What the core is to be told, in order.
        loss: Why it is over; None while it is not.
        token: What the relay gave us to speak with; None until it has registered us.
        needs_proof: Whether the token is no good any more: prove the key again.
        watched: Whose presence the core wants to hear of.
        receives: Whether it wants mail.
    """

    def __init__(self) -> None:
        self.frames: deque[str] = deque()
        self.loss: Loss | None = None
        self.token: str | None = None
        self.needs_proof = False
        self.watched = WATCH_ALL
        self.receives = True
        self._register: Register | None = None
        self._nonce = ""
        self._greeting: str | None = None
        self._onlookers = Onlookers()
        self._last_number = 0
        self._sends = Sends()
        self._lanes: dict[Lane, deque[Call]] = {lane: deque() for lane in Lane}
        self._settling: deque[Ack | Nack] = deque()
        self._under_way: set[Call] = set()
        self._open: dict[int, Call] = {}  # what a pong has to be behind: sends, and questions
        self._pings: deque[int] = deque()
        self._unsettled: dict[Name, tuple[Call, float]] = {}  # and since when
        self._told_early: set[Name] = set()

    @property
    def may_ask(self) -> bool:
        """Whether the relay takes our token, as far as we know."""
        return self.token is not None and not self.needs_proof and self.loss is None

    @property
    def is_settled(self) -> bool:
        """Whether the relay has all that is to be said of what came, or never will."""
        is_said = not (self._settling or self._lanes[Lane.SETTLE] or self._makes(Lane.SETTLE))
        return is_said or self.loss is not None

    # From the core

    def say(self, text: str, *, now: float) -> None:
        """Take a frame that the core has written."""
        match decode_request(text):
            case Register() as register:
                self._register = register
                self.watched, self.receives = register.watched, register.receives
                self._add(challenge_call(register))
            case Authenticate() as authenticate:
                assert self._register is not None, "it answers a challenge"
                self._add(register_call(self._register, authenticate, self._nonce))
            case Submit() as submit:
                self._add(send_call(submit, text))
            case Broadcast() as broadcast:
                self._add(broadcast_call(broadcast, text))
            case Ack() | Nack() as settled:
                self._settling.append(settled)
            case Watch(watched):
                self.watched = watched
                self._onlookers.watch(watched)
            case Ping():
                self._ask_after_overdue(now)
                if not self._open:
                    self._add(ask_call())
                self._pings.append(self._last_number)

    def _add(self, call: Call) -> None:
        self._last_number += 1
        call.number = self._last_number
        if call.lane in (Lane.SEND, Lane.ASK):
            self._open[call.number] = call
        self._enqueue(call)

    def _enqueue(self, call: Call) -> None:
        """Let a call wait for its turn; one that was made before goes ahead of others."""
        if call.lane is Lane.SEND:
            self._sends.add(call)
        elif call.times:
            self._lanes[call.lane].appendleft(call)
        else:
            self._lanes[call.lane].append(call)

    # To the network

    def next_calls(self) -> Iterator[Call]:
        """Yield the calls to make now; each is to be answered by `hear` or `fail`."""
        if self.loss is not None:
            return
        for call in self._due_calls():
            call.times += 1
            self._under_way.add(call)
            yield call

    def _due_calls(self) -> Iterator[Call]:
        self._gather_settling()
        for lane in Lane if self.may_ask else (Lane.REGISTER,):
            if lane is Lane.SEND:
                yield from self._sends.next_calls()
            elif self._lanes[lane] and not self._makes(lane):
                yield self._lanes[lane].popleft()

    def _makes(self, lane: Lane) -> bool:
        return any(call.lane is lane for call in self._under_way)

    def _land(self, call: Call) -> None:
        self._under_way.discard(call)
        if call.lane is Lane.SEND:
            self._sends.land(call)

    def _gather_settling(self) -> None:
        """Make one call of what can be said together, once the one before is answered."""
        if not self._settling or self._lanes[Lane.SETTLE] or self._makes(Lane.SETTLE):
            return
        first = self._settling.popleft()
        ids = list(first.ids)
        while self._settling and _goes_with(first, self._settling[0], len(ids)):
            ids += self._settling.popleft().ids
        delay = first.delay if isinstance(first, Nack) else None
        self._add(settle_call(Ack(tuple(ids)) if delay is None else Nack(tuple(ids), delay)))

    def fail(self, call: Call, why: str = "") -> None:
        """No answer came: make the call again, which is harmless, or give up."""
        self._land(call)
        if call.times >= _ATTEMPTS:
            self.lose_contact(why)
        else:
            self._enqueue(call)

    def lose_contact(self, why: str) -> None:
        """The relay cannot be reached any more."""
        self.lose(ABNORMAL_CLOSE, why)

    def lose(self, code: int, reason: str) -> None:
        """It is over; the first reason counts."""
        self._end(Loss(code, reason))

    def _end(self, loss: Loss) -> None:
        if self.loss is None:
            self.loss = loss

    # Answers

    def hear(self, call: Call, answer: Answer, *, now: float) -> None:
        """Take the answer to a call."""
        self._land(call)
        if answer.is_of_bad_token and call.lane is not Lane.REGISTER:
            self.needs_proof = True
            self._enqueue(call)
            call.times = 0
        elif answer.says_nothing:
            self._end(answer.loss())
        else:
            self._take(call, answer, now)
            self._answer_pings()

    def _take(self, call: Call, answer: Answer, now: float) -> None:
        if call.lane is Lane.REGISTER:
            self._hear_of_registration(answer)
        elif call.lane is Lane.SEND:
            self._hear_of_message(call, answer, now)
        elif not answer.is_good:
            self.frames.append(answer.error_frame())
        if call.name is None:
            self._open.pop(call.number, None)

    def _hear_of_registration(self, answer: Answer) -> None:
        members = answer.members
        if not answer.is_good:
            self.frames.append(answer.error_frame())
            self._end(answer.loss())
        elif isinstance(token := members.get("token"), str):
            self._become_registered(token, members)
        else:
            self._nonce = str(members.get("nonce"))
            self.frames.append(encode({**members, "type": "challenge"}))

    def _become_registered(self, token: str, members: dict[str, Json]) -> None:
        self.renew(token)
        assert self._register is not None, "nobody else registers"
        peers = self._onlookers.begin(self.watched, members.get("peers"))
        told = {name: value for name, value in members.items() if name != "token"}
        self._greeting = encode(
            {**told, "type": "registered", "protocol": 1, "peers": peers}
            | {"publicKey": self._register.public_key}
        )

    def renew(self, token: str) -> None:
        """Go on with this token."""
        self.token = token
        self.needs_proof = False

    def greet(self) -> None:
        """Tell the core that it is registered, now that events reach us; once."""
        if self._greeting is not None:
            self.frames.append(self._greeting)
            self._greeting = None

    @property
    def is_to_greet(self) -> bool:
        """Whether we are registered, and the core does not know it yet."""
        return self._greeting is not None

    # Answers about messages

    def _hear_of_message(self, call: Call, answer: Answer, now: float) -> None:
        code = (answer.error or {}).get("code")
        call.times = 0
        if code == ErrorCode.OUT_OF_ORDER and self._sends.retry_in_order(call):
            return
        del self._open[call.number]
        self._sends.settle(call, is_taken=answer.is_good)
        self._hear_word(call, answer, now)

    def _hear_word(self, call: Call, answer: Answer, now: float) -> None:
        """Tell what is known of a message, and mind what is not."""
        name = call.recipient
        if not answer.is_good:
            self.frames.append(answer.error_frame(name))
            return
        if name in self._told_early:
            self._told_early.discard(name)
        else:
            self._unsettled[name] = (call, now)
        members = answer.members
        for kind, listed in (("receipt", "receipts"), ("error", "errors")):
            for each in objects_in(members.get(listed)):
                self._tell_of(kind, each)

    def _tell_of(self, kind: str, members: dict[str, Json]) -> None:
        name = (str(members.get("id")), str(members.get("to")))
        if self._unsettled.pop(name, None) is None and self._sends.is_open(name):
            self._told_early.add(name)  # the event came before the answer
        self.frames.append(encode({**members, "type": kind}))

    def _answer_pings(self) -> None:
        first = next(iter(self._open), self._last_number + 1)
        while self._pings and self._pings[0] < first:
            self._pings.popleft()
            self.frames.append(PONG)

    # Events

    def hear_event(self, kind: str, data: str, *, now: float) -> None:
        """Take an event."""
        self._ask_after_overdue(now)
        if kind == "message" and data:  # one without is how a relay begins
            self.frames.append(_frame_text(kind, data))
        elif kind in ("receipt", "error"):
            if members := object_of(data):
                self._tell_of(kind, members)
        elif kind == "missed":
            self.note_interrupted()
        elif kind == "presence" and (members := object_of(data)) is not None:
            self.frames.append(encode({"type": kind} | self._onlookers.update(members)))

    def expect_state(self) -> None:
        """The next that is told of presence is who is there, not a change."""
        self._onlookers.begin_again()

    def note_interrupted(self) -> None:
        """Events are missing: ask after what we wait for, and look at who is there anew."""
        self.expect_state()
        self._ask_after([call for call, _ in self._unsettled.values()])

    def hear_no_events(self, answer: Answer) -> float:
        """Take the answer of somebody who sends no events; return when to ask again, in seconds."""
        if answer.is_of_bad_token:
            self.needs_proof = True
        elif answer.is_too_many:
            return min(answer.retry_after or _PAUSE, _LONGEST_PAUSE)
        else:
            self._end(answer.loss())
        return 0.0

    def _ask_after_overdue(self, now: float) -> None:
        self._ask_after([call for call, at in self._unsettled.values() if now - at > _OVERDUE])

    def _ask_after(self, calls: list[Call]) -> None:
        for call in calls:
            del self._unsettled[call.recipient]
            self._add(call)


def _goes_with(first: Ack | Nack, other: Ack | Nack, count: int) -> bool:
    if count + len(other.ids) > MAX_IDS:
        return False
    if isinstance(first, Nack) and isinstance(other, Nack):
        return first.delay == other.delay
    return isinstance(first, Ack) and isinstance(other, Ack)


def _frame_text(kind: str, data: str) -> str:
    """Return a frame's text for the data of an event, which are its members."""
    is_frame = data.startswith('{"type":')
    return data if is_frame else f'{{"type":"{kind}",{data[1:]}'
