"""The core of our client, on a wire that a test moves frame by frame."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator

from agora.canonical import Json
from agora.codes import CloseCode
from agora.keys import KeyPair
from agora.protocol.client.acknowledger import Acknowledger
from agora.protocol.client.outbox import Outbox, Outgoing
from agora.protocol.client.scribe import Scribe
from agora.protocol.client.session import (
    Event,
    Incoming,
    Intake,
    Introduction,
    PeerSession,
    PeerState,
    SeenIds,
    Timing,
)
from agora.protocol.rates import TokenBucket
from agora.protocol.relay.actions import SessionId
from agora.testing.clock import ManualClock
from agora.testing.line import Line, RelayCore

__all__ = ["AUDIENCE", "Agent"]

AUDIENCE = "relay.test:9470"
"""The name of the relay in every conversation, as proofs name it."""


class Agent:
    """
    The core of our client, on a wire that the test moves frame by frame.

    ``writes``, ``carries_up`` and ``carries_down`` make one step each and return
    whether there was anything to do, so any interleaving can be played;
    :meth:`talks` makes steps until all is quiet.

    Args:
        relay: Whom it talks with.
        keys: Who it is.
        clock: Its clock.
        settle: What the relay does by itself between two steps.
        timing: How long it waits for what.
        rate: Its own limit.
        outbox: What it has to say; 1,000 messages and 16 MiB unless given.
        proves: Whether it asks for Agora/1.
        acks: Whether it acks what comes, at once.

    Attributes:
        outbox: What it has to say.
        session: The conversation, if one was ever begun.
        events: What came of it, the oldest first; to be cleared at will.
        rising: Frames on their way to the relay.
        intake: What was told to it and is not settled.
    """

    def __init__(
        self,
        relay: RelayCore,
        keys: KeyPair,
        clock: ManualClock,
        *,
        settle: Callable[[], None] = lambda: None,
        timing: Timing | None = None,
        rate: TokenBucket | None = None,
        outbox: Outbox | None = None,
        proves: bool = True,
        acks: bool = True,
    ) -> None:
        self.keys = keys
        self.id = keys.peer_id
        self.outbox = outbox or Outbox(max_messages=1_000, max_bytes=16 * 1024 * 1024)
        self.session: PeerSession | None = None
        self.events: list[Event] = []
        self.rising: deque[str | bytes] = deque()
        self._relay = relay
        self._clock = clock
        self._settle = settle
        self._timing = timing or Timing()
        self._rate = rate
        self._proves = proves
        self._acks = acks
        self._nonces = itertools.count()
        self._line = Line()
        self._at_relay: SessionId | None = None
        self._writing: Iterator[str] = iter(())
        self._scribe = Scribe(self.keys, clock.wall_ms)
        acknowledger = Acknowledger(
            self.outbox,
            self._scribe,
            rate=TokenBucket(capacity=100, window=10.0, now=clock()),
            clock=clock,
        )
        self.intake = Intake(
            SeenIds(max_ids=10_000),
            timing=self._timing,
            acknowledge=acknowledger.acknowledge,
        )

    # What an application does

    def sends(
        self, to: str, payload: Json, *, type: str = "publish", confirm: bool = False
    ) -> Outgoing:
        """Put a message into the outbox, and return what is known of it."""
        envelope = self._scribe.seal(type=type, payload=payload, to=to)
        outgoing = Outgoing(to, envelope, confirm=confirm)
        self.outbox.add(outgoing)
        return outgoing

    def payloads(self) -> list[Json]:
        """Return what other peers told it, in the order in which it came."""
        return [event.envelope.payload for event in self.events if isinstance(event, Incoming)]

    # What its connection does

    @property
    def is_connected(self) -> bool:
        """Whether there is a conversation that is not over."""
        return self.session is not None and self.session.state is not PeerState.CLOSED

    def connects(self) -> None:
        """Begin a conversation: open a connection and write the first frame."""
        self._line = Line()
        self._at_relay = self._relay.open(self._line, address=self.id, audiences=(AUDIENCE,))
        nonce = f"{next(self._nonces):064x}" if self._proves else None
        self.session = PeerSession(
            self.keys,
            Introduction(nonce=nonce, audience=AUDIENCE, url=f"ws://{AUDIENCE}"),
            outbox=self.outbox,
            intake=self.intake,
            scribe=self._scribe,
            rate=self._rate,
            timing=self._timing,
            now=self._clock(),
        )
        self.rising.append(self.session.register())

    def loses_connection(self, code: int = 1006, reason: str = "") -> None:
        """Lose the connection, and with it all that is on the wire, both ways."""
        if self.session is not None:
            self._note(self.session.disconnected(code, reason))
        self._leave()

    def writes(self) -> bool:
        """Write one frame, if there is anything to write."""
        assert self.session is not None, "connect first"
        text = next(self._writing, None)
        if text is None:
            self._writing = self.session.frames_to_send(now=self._clock())
            text = next(self._writing, None)
        if text is None:
            return False
        self.rising.append(text)
        return True

    def carries_up(self) -> bool:
        """Have the relay take one frame."""
        if not self.rising or self._at_relay is None:
            return False
        item = self.rising.popleft()
        if isinstance(item, str):
            self._relay.receive(self._at_relay, item)
        else:
            self._relay.receive_pong(self._at_relay, item)
        self._settle()
        return True

    def carries_down(self) -> bool:
        """Have the client take one frame."""
        assert self.session is not None, "connect first"
        if not self._line.incoming:
            return False
        item = self._line.incoming.popleft()
        if isinstance(item, CloseCode):
            self.loses_connection(int(item))
        elif isinstance(item, bytes):
            self.rising.append(item)
        else:
            self._note(self.session.receive(item, now=self._clock()))
        return True

    def ticks(self) -> None:
        """Let the client look at its clock."""
        assert self.session is not None, "connect first"
        self._note(self.session.tick(now=self._clock()))
        if not self.is_connected:
            self._leave()

    def talks(self) -> None:
        """Make steps until nothing moves any more."""
        while self.writes() or self.carries_up() or self.carries_down():
            pass

    def _note(self, events: list[Event]) -> None:
        self.events += events
        for event in events:
            if self._acks and isinstance(event, Incoming):
                self.intake.ack(event.envelope)

    def _leave(self) -> None:
        self.rising.clear()
        self._line.incoming.clear()
        self._writing = iter(())
        if self._at_relay is not None:
            gone, self._at_relay = self._at_relay, None
            self._relay.lost(gone)
            self._settle()
