"""
The client's side of the conversation: register, send in order, take only what is genuine.

::

                 registered
    REGISTERING ────────────► REGISTERED        a new PeerSession for every connection;
         │                        │             Outbox and Intake live on between them
         └── refused ─► CLOSED ◄──┘ lost

Registering is :mod:`agora.protocol.client.handshake`; how messages go up, in either
dialect, :mod:`agora.protocol.client.courier`; what becomes of those that come,
:mod:`agora.protocol.client.intake`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import Enum
from typing import assert_never

from agora.codes import ABNORMAL_CLOSE, CloseCode, ErrorCode, may_reconnect
from agora.envelope import EVERYONE, Envelope, open_envelope
from agora.errors import (
    AgoraError,
    EnvelopeError,
    FrameError,
    NoAnswerError,
    RefusedError,
    RelayChangedError,
)
from agora.frames import (
    Challenge,
    Delivery,
    ErrorAnswer,
    ListedPeer,
    PeerOffline,
    PeerOnline,
    Pong,
    PresenceAnswer,
    ReceiptAnswer,
    Registered,
    UnknownAnswer,
    Watched,
    decode_answer,
    encode_watch,
)
from agora.keys import KeyPair, PeerId
from agora.protocol.client.acknowledger import acknowledged_outcome
from agora.protocol.client.barrier import Barrier
from agora.protocol.client.courier import Courier, Means, refusal_of
from agora.protocol.client.dialect import Dialect
from agora.protocol.client.handshake import Handshake, Introduction
from agora.protocol.client.happenings import (
    Bounced,
    Changed,
    Event,
    Incoming,
    Lost,
    Opened,
    PresenceChanged,
    Problem,
    Reached,
)
from agora.protocol.client.intake import Intake
from agora.protocol.client.outbox import Outbox, Outgoing
from agora.protocol.client.pace import Pace
from agora.protocol.client.pipeline import Pipeline
from agora.protocol.client.pulse import Pulse
from agora.protocol.client.roster import Roster
from agora.protocol.client.scribe import Scribe
from agora.protocol.client.seen import SeenIds
from agora.protocol.client.timing import Timing
from agora.protocol.rates import TokenBucket

__all__ = [
    "Bounced",
    "Changed",
    "Event",
    "Incoming",
    "Intake",
    "Introduction",
    "Lost",
    "Opened",
    "PeerSession",
    "PeerState",
    "PresenceChanged",
    "Problem",
    "Reached",
    "SeenIds",
    "Timing",
]


class PeerState(Enum):
    """Where the conversation stands."""

    REGISTERING = "registering"
    REGISTERED = "registered"
    CLOSED = "closed"


class PeerSession:
    """
    One connection's worth of conversation with a relay.

    Args:
        keys: Who we are.
        introduction: What we say of ourselves, and whom we expect to find.
        outbox: What we have to say; shared by all connections, one after the other.
        intake: What we were told; shared likewise.
        scribe: Signs anew what has to be; shared likewise.
        rate: Our own limit; None for none.
        timing: How long to wait.
        now: Seconds on a clock that only goes forward, as for every call.

    Attributes:
        state: Where the conversation stands.
        protocol: 1 once the relay has turned out to speak Agora/1, else 0.
    """

    def __init__(
        self,
        keys: KeyPair,
        introduction: Introduction,
        *,
        outbox: Outbox,
        intake: Intake,
        scribe: Scribe,
        rate: TokenBucket | None,
        timing: Timing,
        now: float,
    ) -> None:
        self.state = PeerState.REGISTERING
        self.protocol = 0
        self._keys = keys
        self._outbox = outbox
        self._intake = intake
        self._timing = timing
        self._since = now
        self._handshake = Handshake(keys, introduction)
        self._roster = Roster(keys.peer_id)
        self._relay: PeerId | None = None
        self._pulse = Pulse(timing, now)
        self._pace = Pace(rate, default=timing.retry_first, cap=timing.retry_cap, now=now)
        self._means = Means(outbox, scribe, self._pace, self._pulse, timing)
        self._courier: Courier = Barrier(self._means, Dialect())  # until the relay has spoken
        self._urgent: deque[str] = deque()

    @property
    def peers(self) -> dict[PeerId, ListedPeer]:
        """Who can be reached, of those we watch; with a mailbox also while they are away."""
        return self._roster.peers

    # To the relay

    def register(self) -> str:
        """Return the first frame to write."""
        return self._handshake.register()

    def watch(self, watched: Watched) -> None:
        """Change whose presence we hear of; relays of the reference dialect tell everyone's."""
        if self.state is PeerState.REGISTERED and self.protocol:
            self._roster.keep_only(watched)
            self._urgent.append(encode_watch(watched))

    def frames_to_send(self, *, now: float) -> Iterator[str]:
        """
        Yield the frames to write now: a proof, acks, messages whose time has come, a ping.

        What is heard between two frames counts at once.
        """
        yield from self._urgent_frames(now)
        if not self._may_write():
            return
        for text in self._courier.frames(now):
            yield text
            yield from self._urgent_frames(now)

    def _urgent_frames(self, now: float) -> Iterator[str]:
        while self._urgent and self.state is not PeerState.CLOSED:
            yield self._urgent.popleft()
        if self._may_write() and self.protocol and now >= self._pace.paused_until:
            yield from self._intake.frames()

    def last_frames(self) -> Iterator[str]:
        """Yield what is still to be said before we go: what was read need not come again."""
        if self._may_write() and self.protocol:
            yield from self._intake.frames()

    def _may_write(self) -> bool:
        return self.state is PeerState.REGISTERED

    def next_wake(self, *, now: float) -> float:
        """Return the seconds until time alone makes something due; never negative."""
        if self.state is PeerState.REGISTERING:
            return max(0.0, self._since + self._timing.register - now)
        later = (
            self._courier.ping_at(),
            self._pace.held_until,
            self._pace.paused_until,
            self._outbox.next_due(now=now),
        )
        # What is due already waits for the socket, not for time; only the end comes regardless.
        moments = [self._dead_at(), *(moment for moment in later if moment > now)]
        return max(0.0, min(moments) - now)

    def tick(self, *, now: float) -> list[Event]:
        """Let time pass: notice a relay that does not register us, or says nothing any more."""
        if self.state is PeerState.REGISTERING and now >= self._since + self._timing.register:
            waited = self._timing.register
            return self._lose(NoAnswerError(f"the relay did not register us within {waited} s"))
        if self.state is PeerState.REGISTERED and now >= self._dead_at():
            silence = self._pulse.silence(now)
            return self._lose(NoAnswerError(f"the relay has been silent for {silence:.1f} s"))
        return []

    def _dead_at(self) -> float:
        return self._pulse.dead_at(self._pace.paused_until)

    @property
    def in_flight(self) -> list[Outgoing]:
        """What was written and is not answered, in order."""
        return self._outbox.in_flight

    # From the relay

    def receive(self, data: str | bytes, *, now: float) -> list[Event]:
        """Take one WebSocket message. Never raises: what is wrong is a :class:`Problem`."""
        if self.state is PeerState.CLOSED:
            return []
        self._pulse.hear(now)
        try:
            answer = decode_answer(data)
        except FrameError as error:
            return [Problem(error)]
        match answer:
            case Challenge():
                return self._prove(answer)
            case Registered():
                return self._open(answer)
            case Delivery():
                return self._take(answer)
            case ReceiptAnswer():
                return self._courier.hear_receipt(answer)
            case PresenceAnswer():
                return self._update_roster(answer)
            case PeerOnline(peer):
                return self._arrive(peer)
            case PeerOffline(peer):
                return [*self._roster.depart(peer.public_key)]
            case Pong():
                return self._courier.hear_pong()
            case ErrorAnswer():
                return self._hear_error(answer, now)
            case UnknownAnswer():
                return []
            case _:
                assert_never(answer)

    def hear(self, *, now: float) -> None:
        """Count the relay as heard: it is we who do not read just now."""
        self._pulse.read_on(now)

    def disconnected(self, close_code: int, reason: str) -> list[Event]:
        """The connection is gone; what was in flight waits in the outbox again."""
        if self.state is PeerState.CLOSED:
            return []
        events = self._courier.give_up_largest() if close_code == CloseCode.TOO_BIG else []
        text = f"the relay closed the connection with {close_code}" + (reason and f": {reason}")
        if close_code == ABNORMAL_CLOSE:
            text = "the connection was lost"
        if may_reconnect(close_code):
            return events + self._lose(NoAnswerError(text))
        code = _FINAL_CLOSES.get(close_code, "closed")
        return events + self._lose(RefusedError(code, text), is_final=True)

    def leave(self, why: AgoraError) -> list[Event]:
        """Give the connection up, as there is a better one; what is in flight waits again."""
        return [] if self.state is PeerState.CLOSED else self._lose(why)

    # Registration

    def _prove(self, challenge: Challenge) -> list[Event]:
        if self.state is not PeerState.REGISTERING:
            return []
        try:
            proof = self._handshake.prove(challenge)
        except (RelayChangedError, RefusedError) as error:
            return self._lose(error, is_final=isinstance(error, RelayChangedError))
        if proof is not None:
            self._urgent.append(proof)
        return []

    def _open(self, registered: Registered) -> list[Event]:
        if self.state is not PeerState.REGISTERING:
            return []  # once is enough
        try:
            self._handshake.check(registered)
        except (RelayChangedError, RefusedError) as error:
            return self._lose(error, is_final=isinstance(error, RelayChangedError))
        self.state = PeerState.REGISTERED
        self._urgent.clear()
        self._speak_as(registered)
        events: list[Event] = [Opened(self._relay, self.protocol, registered.limits)]
        for peer in registered.peers:
            events += self._roster.enlist(peer)
            self._outbox.wake(peer.public_key)
        return events

    def _speak_as(self, registered: Registered) -> None:
        """Take up the dialect in which the relay has registered us."""
        if registered.protocol:
            self.protocol = registered.protocol
            self._relay = self._handshake.relay
            self._pace.announce(registered.limits.messages_per_second)
            self._courier = Pipeline(self._means)
        else:
            self._relay = registered.relay
            self._courier = Barrier(self._means, Dialect.of(registered))
        self._intake.begin(has_acks=bool(self.protocol))

    # Who is there

    def _arrive(self, peer: ListedPeer) -> list[Event]:
        self._outbox.wake(peer.public_key)
        return [*self._roster.arrive(peer)]

    def _update_roster(self, changes: PresenceAnswer) -> list[Event]:
        come = [event for peer in changes.online for event in self._arrive(peer)]
        return [*come, *(event for key in changes.offline for event in self._roster.depart(key))]

    # What comes

    def _take(self, delivery: Delivery) -> list[Event]:
        """Let through what is signed, by whom the relay says, to us, for the first time."""
        try:
            envelope = open_envelope(delivery.envelope)
        except EnvelopeError as error:
            self._intake.refuse(delivery.envelope.claimed_id)
            return [Problem(error)]
        is_ours = self._keys.peer_id in envelope.to
        if envelope.sender != delivery.sender:
            return self._keep_back(envelope, "Envelope sender does not match relay from field")
        if not is_ours and EVERYONE not in envelope.to:
            return self._keep_back(envelope, f"envelope {envelope.id} is not addressed to us")
        if not self._intake.take(envelope, confirm=delivery.confirm and is_ours, is_acked=is_ours):
            return []
        events = self._hear_of_ours(envelope)
        if events is None:
            return [Incoming(envelope, delivery.name, delivery.traceparent)]
        self._intake.ack(envelope)
        return events

    def _keep_back(self, envelope: Envelope, why: str) -> list[Event]:
        self._intake.refuse(envelope.id)
        return [Problem(FrameError("not_addressed", why, frame_type="message"))]

    def _hear_of_ours(self, envelope: Envelope) -> list[Event] | None:
        """Take what tells of a message of ours, an acknowledgement or a bounce; None for others."""
        about = envelope.in_reply_to
        if about is None or not self.protocol:
            return None
        outcome = acknowledged_outcome(envelope)
        if outcome is not None:
            outgoing = self._outbox.find(envelope.sender, about)
            if outgoing is None or not outgoing.confirm:
                return []  # of a message that nobody remembers
            outgoing.acknowledgement = outcome
            return [Changed(outgoing)]
        if envelope.sender == self._relay and envelope.type == "error":
            return self._hear_bounce(envelope, about)
        return None

    def _hear_bounce(self, envelope: Envelope, about: str) -> list[Event] | None:
        members = envelope.payload if isinstance(envelope.payload, dict) else {}
        code, recipient = members.get("code"), members.get("recipient")
        if not isinstance(code, str) or not isinstance(recipient, str):
            return None
        events: list[Event] = [Bounced(about, code, recipient)]
        if outgoing := self._outbox.find(recipient, about):
            outgoing.bounce = code
            events.append(Changed(outgoing))
        return events

    # The end

    def _hear_error(self, error: ErrorAnswer, now: float) -> list[Event]:
        refusal = refusal_of(error)
        if self.state is PeerState.REGISTERED and refusal.code != ErrorCode.PROOF_REQUIRED:
            if self.protocol and error.envelope_id is None:
                return self._hear_of_no_message(error, refusal, now)
            return self._courier.hear_error(error, now)
        is_final = refusal.code in _PROOF_ERRORS or error.message.startswith("Invalid registration")
        return self._lose(refusal, is_final=True) if is_final else [Problem(refusal)]

    def _hear_of_no_message(
        self, error: ErrorAnswer, refusal: RefusedError, now: float
    ) -> list[Event]:
        if refusal.code == ErrorCode.RATE_LIMITED:  # of acks: all else is answered by its name
            self._pace.pause(error.retry_after, now)
            self._intake.repeat()
            return []
        return [Problem(refusal)]

    def _lose(self, error: AgoraError, *, is_final: bool = False) -> list[Event]:
        self.state = PeerState.CLOSED
        self._urgent.clear()
        self._courier.lose(self.peers)
        return [*self._roster.clear(), Lost(error, is_final)]


_PROOF_ERRORS = (ErrorCode.PROOF_FAILED, ErrorCode.PROOF_REQUIRED)

_FINAL_CLOSES: dict[int, str] = {
    CloseCode.PROOF_FAILED: ErrorCode.PROOF_FAILED,
    CloseCode.PROOF_REQUIRED: ErrorCode.PROOF_REQUIRED,
}
