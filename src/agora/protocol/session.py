"""
The relay's side of one connection: who may say what, when.

::

                    register (taken)
    UNREGISTERED ───────────────────► REGISTERED
         │                                │
         │ deadline, no room              │ idle, too slow, gone
         └───────────► CLOSED ◄───────────┘

A refused frame is answered by an ``error`` and changes nothing; the connection
stays, but for a registration that finds no room. What each state makes of each
frame is the table at the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from agora.codes import CloseCode, ErrorCode
from agora.errors import FrameError
from agora.frames import (
    PONG,
    Broadcast,
    Ping,
    Register,
    Request,
    Submit,
    UnknownRequest,
    decode_request,
)
from agora.limits import Limits
from agora.protocol.actions import Action, Close, Note, Send, SessionId, Store
from agora.protocol.actions import Ping as PingAction
from agora.protocol.admission import Refusal
from agora.protocol.rates import TokenBucket
from agora.protocol.router import Router
from agora.text import sanitize_text

__all__ = ["RelaySession", "State"]

_REGISTER_FIRST = "Not registered: send registration message first"
_UNKNOWN_TYPE = "Unknown message type: "


class State(Enum):
    """Where a connection stands."""

    UNREGISTERED = "unregistered"
    REGISTERED = "registered"
    CLOSED = "closed"


class RelaySession:
    """
    One connection to a relay.

    Args:
        session_id: Its id, unique on this node.
        router: Where registered sessions meet.
        limits: What is admitted.
        now: Seconds on any clock that only goes forward; the same for every call.

    No method raises on anything a client can send.
    """

    def __init__(
        self, session_id: SessionId, router: Router, limits: Limits, *, now: float
    ) -> None:
        self.id = session_id
        self.state = State.UNREGISTERED
        self._router = router
        self._limits = limits
        self._deadline = now + limits.register_timeout
        self._heard = now
        self._pinged: float | None = None
        self._frames = TokenBucket(
            capacity=limits.rate_limit_max_frames,
            window=limits.rate_limit_window_ms / 1000,
            now=now,
        )
        self._stores_asked = 0
        self._stores_done = 0
        self._pongs_due: deque[int] = deque()

    # What the shell tells

    def receive(self, data: str | bytes, *, now: float) -> list[Action]:
        """Take one WebSocket message, text or binary."""
        if self.state is State.CLOSED:
            return []  # a close is on its way; nothing said after it counts
        self._hear(now)
        try:
            return self._handle(data, now)
        except Refusal as refusal:
            return self._refuse(refusal)

    def receive_pong(self, payload: bytes, *, now: float) -> list[Action]:
        """Take a WebSocket pong, which confirms mail sent before its ping."""
        self._hear(now)
        return self._router.confirmed(self.id, payload)

    def hear(self, *, now: float) -> None:
        """Note a sign of life that carries nothing, such as a WebSocket ping."""
        self._hear(now)

    def tick(self, *, now: float) -> list[Action]:
        """Let time pass: the deadline to register, then the heartbeat."""
        if self.state is State.UNREGISTERED and now >= self._deadline:
            return [Close(self.id, CloseCode.REGISTER_TIMEOUT)]
        if self.state is State.REGISTERED and self._limits.heartbeat_interval:
            return self._beat(now)
        return []

    def end(self) -> list[Action]:
        """The connection is closing or gone: leave, once."""
        was_registered = self.state is State.REGISTERED
        self.state = State.CLOSED
        return self._router.leave(self.id) if was_registered else []

    def store_settled(self, refusal: Refusal | None) -> list[Action]:
        """One of this session's stores is done, in order; *refusal* when it failed."""
        self._stores_done += 1
        actions: list[Action] = [] if refusal is None else self._refuse(refusal)
        while self._pongs_due and self._pongs_due[0] <= self._stores_done:
            self._pongs_due.popleft()
            actions.append(Send((self.id,), PONG))
        return actions

    def refuse(self, refusal: Refusal) -> list[Action]:
        """Answer with an error that was found later, outside of any frame."""
        return self._refuse(refusal)

    # Frames

    def _handle(self, data: str | bytes, now: float) -> list[Action]:
        try:
            request = decode_request(data)
        except FrameError as error:
            self._spend_frame(now, error.envelope_id, error.to)
            raise self._malformed(error) from error
        if isinstance(request, Ping):
            # Counted, but never refused: what waits for the pong would wait for ever.
            self._frames.take(now=now)
        else:
            self._spend_frame(now, *_claims(request))
        return _HANDLERS[self.state, type(request)](self, request, now)

    def _register(self, request: Register, now: float) -> list[Action]:
        name = self._display_name(request.name)
        try:
            actions = self._router.join(self.id, request.public_key, name, now)
        except Refusal as refusal:
            return [*self._refuse(refusal), Close(self.id, CloseCode.TRY_AGAIN_LATER)]
        self.state = State.REGISTERED
        return actions

    def _submit(self, request: Submit, now: float) -> list[Action]:
        actions = self._router.submit(self.id, request.to, request.envelope, now)
        self._stores_asked += sum(isinstance(action, Store) for action in actions)
        return actions

    def _broadcast(self, request: Broadcast, now: float) -> list[Action]:
        return self._router.broadcast(self.id, request.envelope, now)

    def _ping(self, request: Ping, now: float) -> list[Action]:
        # A pong says that all before it is settled, so it waits for mail still being stored.
        if self._stores_asked > self._stores_done:
            self._pongs_due.append(self._stores_asked)
            return []
        return [Send((self.id,), PONG)]

    def _unknown(self, request: Request, now: float) -> list[Action]:
        type_text = request.type_text if isinstance(request, UnknownRequest) else "register"
        raise Refusal(ErrorCode.INVALID_MESSAGE, _UNKNOWN_TYPE + type_text)

    def _not_registered(self, request: Request, now: float) -> list[Action]:
        envelope_id, to = _claims(request)
        raise Refusal(ErrorCode.NOT_REGISTERED, _REGISTER_FIRST, envelope_id=envelope_id, to=to)

    # Helpers

    def _display_name(self, name: str | None) -> str | None:
        """Clean a claimed name: no control characters, no blanks, no look-alike of a short key."""
        if name is None:
            return None
        if len(name) > self._limits.max_name_length:
            raise Refusal(
                ErrorCode.INVALID_MESSAGE,
                f"Invalid registration: name of {len(name)} characters exceeds "
                f"max_name_length of {self._limits.max_name_length}",
            )
        cleaned = sanitize_text(name).strip()
        return None if not cleaned or cleaned.startswith(("...", "@")) else cleaned

    def _malformed(self, error: FrameError) -> Refusal:
        """Return the answer to a frame of bad shape: the state is looked at before its members."""
        is_register = error.frame_type == "register"
        code, message = ErrorCode(error.code), str(error)
        if self.state is State.UNREGISTERED and error.frame_type and not is_register:
            code, message = ErrorCode.NOT_REGISTERED, _REGISTER_FIRST
        if self.state is State.REGISTERED and is_register:
            message = _UNKNOWN_TYPE + "register"
        return Refusal(code, message, envelope_id=error.envelope_id, to=error.to)

    def _spend_frame(self, now: float, envelope_id: str | None, to: str | None) -> None:
        if not self._limits.rate_limit_enabled:
            return
        wait = self._frames.take(now=now)
        if wait > 0:
            raise Refusal(
                ErrorCode.RATE_LIMITED,
                f"Rate limit of {self._limits.rate_limit_max_frames} frames in "
                f"{self._limits.rate_limit_window_ms} ms reached",
                envelope_id=envelope_id,
                to=to,
                retry_after=wait,
            )

    def _refuse(self, refusal: Refusal) -> list[Action]:
        fields = {"session": self.id, "code": str(refusal.code)}
        if refusal.envelope_id:
            fields["id"] = refusal.envelope_id
        return [Send((self.id,), refusal.to_frame()), Note("refused", fields)]

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


def _claims(request: Request) -> tuple[str | None, str | None]:
    """Return the envelope id and recipient that a request claims, to name them in an error."""
    if isinstance(request, Submit):
        return request.envelope.claimed_id, request.to
    if isinstance(request, Broadcast):
        return request.envelope.claimed_id, None
    return None, None


_Handler = Callable[[RelaySession, Any, float], list[Action]]

_HANDLERS: Mapping[tuple[State, type[Request]], _Handler] = {
    (State.UNREGISTERED, Register): RelaySession._register,
    (State.UNREGISTERED, Ping): RelaySession._ping,
    (State.UNREGISTERED, Submit): RelaySession._not_registered,
    (State.UNREGISTERED, Broadcast): RelaySession._not_registered,
    (State.UNREGISTERED, UnknownRequest): RelaySession._not_registered,
    (State.REGISTERED, Register): RelaySession._unknown,
    (State.REGISTERED, Ping): RelaySession._ping,
    (State.REGISTERED, Submit): RelaySession._submit,
    (State.REGISTERED, Broadcast): RelaySession._broadcast,
    (State.REGISTERED, UnknownRequest): RelaySession._unknown,
}
