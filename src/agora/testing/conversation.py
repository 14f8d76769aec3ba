"""
A relay and its peers in one room, without a network: tests that read like dialogues.

::

    talk = Conversation()
    alice, bob = talk.meet("alice", "bob")

    alice.sends(bob, "hi")

    assert bob.hears() == ["alice: hi"]

The relay is the real one: its node, its core, a mailbox. Missing are only the
sockets, the disk's thread and the clock, which stands still until it is told
to move. A :class:`Speaker` says frames one by one; an :class:`Agent` is the
core of our client, with a wire to the relay that can be slow or cut.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, Protocol

from agora.canonical import Json, json_text
from agora.codes import CloseCode
from agora.envelope import EVERYONE, Envelope, seal
from agora.frames import (
    PING,
    Answer,
    Delivery,
    ErrorAnswer,
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
from agora.limits import Limits
from agora.mailbox import Mailbox, MemoryMailbox
from agora.protocol.actions import SessionId
from agora.protocol.admission import EnvelopePolicy
from agora.protocol.outbox import Outbox, Outgoing
from agora.protocol.peer import Event, Incoming, PeerSession, PeerState, SeenIds, Timing
from agora.protocol.rates import TokenBucket
from agora.protocol.scribe import Scribe
from agora.relay.node import Connection, Node
from agora.relay.writer import Done, Job, Work, commit_together
from agora.testing.clock import ManualClock

__all__ = ["Agent", "Conversation", "Disk", "Line", "RelayCore", "Speaker", "keys_of"]


def keys_of(name: str) -> KeyPair:
    """Return the keys of whoever is called *name*: the same in every conversation."""
    return KeyPair.from_seed(sha256(name.encode()).digest())


class RelayCore(Protocol):
    """What a peer in the room needs of a relay; :class:`~agora.relay.node.Node` is one."""

    def open(self, connection: Connection) -> SessionId:
        """Take a new connection."""
        ...

    def receive(self, session_id: SessionId, data: str | bytes) -> None:
        """Take a message."""
        ...

    def receive_pong(self, session_id: SessionId, payload: bytes) -> None:
        """Take a WebSocket pong."""
        ...

    def lost(self, session_id: SessionId) -> None:
        """Forget a connection that is gone."""
        ...


class Line:
    """
    A connection without a socket, as the relay sees it.

    Attributes:
        incoming: What the relay wrote and its peer has not taken: texts, the payloads
            of WebSocket pings, the code of the close.
        is_stuck: Whether the peer does not read, so that all of it counts as unsent.
    """

    def __init__(self) -> None:
        self.incoming: deque[str | bytes | CloseCode] = deque()
        self.is_stuck = False

    @property
    def unsent_bytes(self) -> int:
        """Bytes that wait for a peer that is stuck."""
        if not self.is_stuck:
            return 0
        return sum(len(text.encode()) for text in self.incoming if isinstance(text, str))

    def send(self, text: str) -> None:
        """Write a text."""
        text.encode()  # what cannot be encoded could not be sent either
        self.incoming.append(text)

    def ping(self, payload: bytes) -> None:
        """Write a WebSocket ping."""
        self.incoming.append(payload)

    def close(self, code: CloseCode) -> None:
        """Write the end."""
        self.incoming.append(code)


class Disk:
    """
    Does the relay's mailbox jobs as its writer does, but only when let.

    Attributes:
        is_held: Whether nothing is stored or fetched for now.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._jobs: list[Job] = []
        self.is_held = False

    def submit(self, work: Work, done: Done) -> None:
        """Queue a job."""
        self._jobs.append((work, done))

    def work(self) -> bool:
        """Do all that waits, and tell what came of it; return whether there was anything."""
        if self.is_held or not self._jobs:
            return False
        batch, self._jobs = self._jobs, []
        for done, result in commit_together(self._mailbox, batch):
            done(result)
        return True


class Conversation:
    """
    A relay to talk with.

    Args:
        policy: Which envelopes it takes.
        storage_peers: Names of those who have a mailbox.
        mailbox: Where their mail waits; in memory unless given.
        limits: Fields of :class:`~agora.limits.Limits`.

    Attributes:
        clock: Moves by :meth:`pass_time` alone.
        mailbox: The mailbox.
        disk: What writes it.
        node: The relay.
    """

    def __init__(
        self,
        *,
        policy: EnvelopePolicy = EnvelopePolicy.STRICT,
        storage_peers: Iterable[str] = (),
        mailbox: Mailbox | None = None,
        **limits: Any,
    ) -> None:
        bounds = Limits(**limits)
        storage_keys = {keys_of(name).peer_id: name for name in storage_peers}
        self.clock = ManualClock()
        self.mailbox = mailbox or MemoryMailbox(
            max_messages=bounds.mailbox_max_messages, max_bytes=bounds.mailbox_max_bytes
        )
        self.disk = Disk(self.mailbox)
        self.node = Node(
            bounds,
            identity=keys_of("relay"),
            writer=self.disk,
            policy=policy,
            storage_peers=storage_keys,
            clock=self.clock,
            wall_ms=self.clock.wall_ms,
        )
        self._speakers: list[Speaker] = []
        self._names = {keys_of("relay").peer_id: "relay", **storage_keys}
        self._last_timestamp = 0

    # Who takes part

    def connect(self, name: str) -> Speaker:
        """Return *name* on a new connection, not registered."""
        speaker = Speaker(self, name)
        self._names[speaker.id] = name
        self._speakers.append(speaker)
        return speaker

    def join(self, name: str) -> Speaker:
        """Return *name* on a new connection, having said who it is."""
        speaker = self.connect(name)
        speaker.registers()
        return speaker

    def meet(self, *names: str) -> list[Speaker]:
        """Return those who join, when the introductions are over: nobody has heard a thing."""
        joined = [self.join(name) for name in names]
        for speaker in self._speakers:
            speaker.hears()
        return joined

    def agent(self, name: str, **options: Any) -> Agent:
        """Return the core of our client as *name*, not connected; options as of :class:`Agent`."""
        self._names[keys_of(name).peer_id] = name
        return Agent(self.node, keys_of(name), self.clock, settle=self.settle, **options)

    def name_of(self, peer: str) -> str:
        """Return the name of a peer in this room."""
        return self._names.get(PeerId(peer), peer)

    # What happens around them

    def pass_time(self, seconds: float) -> None:
        """Let *seconds* pass, with the relay's own tick at the end."""
        self.clock.advance(seconds)
        self.node.tick()
        self.settle()

    @contextmanager
    def busy_disk(self) -> Iterator[None]:
        """Have nothing stored or fetched before the end of a ``with`` block."""
        self.disk.is_held = True
        try:
            yield
        finally:
            self.disk.is_held = False
            self.settle()

    def settle(self) -> None:
        """Let the disk work and WebSockets answer pings, until nothing is left to do."""
        while self.disk.work() or any([speaker._takes() for speaker in self._speakers]):
            pass

    def timestamp(self) -> int:
        """Return the time as no envelope had it before, in milliseconds."""
        self._last_timestamp = max(self.clock.wall_ms(), self._last_timestamp + 1)
        return self._last_timestamp


class Speaker:
    """
    A peer that says what the test tells it to, frame by frame.

    Attributes:
        keys: Who it is.
        id: Its peer id.
        close_code: With what the relay closed its connection; None while it is open.
        pings: Payloads of the WebSocket pings that it has not answered.
        answers_pings: Whether it answers them by itself, as every WebSocket does.
    """

    def __init__(self, talk: Conversation, name: str) -> None:
        self.keys = keys_of(name)
        self.id = self.keys.peer_id
        self.close_code: CloseCode | None = None
        self.pings: list[bytes] = []
        self.answers_pings = True
        self._talk = talk
        self._line = Line()
        self._heard: list[str] = []
        self._session = talk.node.open(self._line)

    # Saying

    def says(self, frame: str | bytes | Mapping[str, Json]) -> None:
        """Say a frame, or what is none: text and bytes go as they are."""
        data = frame if isinstance(frame, str | bytes) else json_text(dict(frame))
        self._talk.node.receive(self._session, data)
        self._talk.settle()

    def registers(self, name: str | None = None) -> None:
        """Say who it is, and which display name it claims."""
        self.says(encode_register(self.id, name))

    def sends(self, to: Speaker | str, payload: Json, **members: Any) -> Envelope:
        """Send one peer a message, and return its envelope; members as for :meth:`seals`."""
        recipient = to if isinstance(to, str) else to.id
        envelope = self.seals(recipient, payload, **members)
        self.submits(envelope, recipient)
        return envelope

    def broadcasts(self, payload: Json) -> Envelope:
        """Tell everyone, and return the envelope."""
        envelope = self.seals(EVERYONE, payload)
        self.says(encode_broadcast(envelope.wire_text))
        return envelope

    def submits(self, envelope: Envelope, to: Speaker | str) -> None:
        """Say a message frame with *envelope*, whoever made it."""
        self.says(encode_submit(to if isinstance(to, str) else to.id, envelope.wire_text))

    def seals(self, to: str | Iterable[str], payload: Json, *, type: str = "publish") -> Envelope:
        """Sign what nobody signed before: every envelope has a time of its own."""
        timestamp_ms = self._talk.timestamp()
        return seal(self.keys, type=type, payload=payload, to=to, timestamp_ms=timestamp_ms)

    def asks(self) -> None:
        """Say ``ping``."""
        self.says(PING)

    def pongs(self, payload: bytes) -> None:
        """Say a WebSocket pong, asked or not."""
        self._talk.node.receive_pong(self._session, payload)
        self._talk.settle()

    def leaves(self) -> None:
        """Be gone, without a word."""
        self._talk.node.lost(self._session)
        self._talk.settle()

    # Hearing

    def hears(self) -> list[str]:
        """Return what it was told since it was last asked, a line for each frame."""
        return [self._line_for(answer) for answer in self.answers()]

    def answers(self) -> list[Answer]:
        """Return what it was told since it was last asked, as typed frames."""
        return [decode_answer(text) for text in self.texts()]

    def texts(self) -> list[str]:
        """Return what it was told since it was last asked, as it was written."""
        heard, self._heard = self._heard, []
        return heard

    def stops_reading(self) -> None:
        """Leave all that is told from now on unread."""
        self._line.is_stuck = True

    def reads_on(self) -> None:
        """Read again."""
        self._line.is_stuck = False
        self._talk.settle()

    def _takes(self) -> bool:
        """Read what has come; return whether that made anything happen."""
        has_ponged = False
        while self._line.incoming and not self._line.is_stuck:
            item = self._line.incoming.popleft()
            if isinstance(item, str):
                self._heard.append(item)
            elif isinstance(item, CloseCode):
                self.close_code = item
            elif self.answers_pings:
                self._talk.node.receive_pong(self._session, item)
                has_ponged = True
            else:
                self.pings.append(item)
        return has_ponged

    def _line_for(self, answer: Answer) -> str:
        name_of = self._talk.name_of
        match answer:
            case Registered(peers):
                names = ", ".join(name_of(peer.public_key) for peer in peers)
                return f"registered with {names}" if names else "registered"
            case Delivery(sender, sealed):
                # An opaque envelope has no payload: then it is what was said.
                said = sealed.members.get("payload", sealed.value)
                return f"{name_of(sender)}: {said if isinstance(said, str) else json_text(said)}"
            case PeerOnline(peer):
                return f"{name_of(peer.public_key)} is online"
            case PeerOffline(peer):
                return f"{name_of(peer.public_key)} is offline"
            case Pong():
                return "pong"
            case ErrorAnswer():
                return f"error {answer.code}"
            case UnknownAnswer():
                return f"unknown {answer.type_text}"


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

    Attributes:
        outbox: What it has to say.
        session: The conversation, if one was ever begun.
        events: What came of it, the oldest first; to be cleared at will.
        rising: Frames on their way to the relay.
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
        self._seen = SeenIds(max_ids=10_000)
        self._line = Line()
        self._at_relay: SessionId | None = None
        self._writing: Iterator[str] = iter(())
        self._scribe = Scribe(self.keys, clock.wall_ms)

    # What an application does

    def sends(self, to: str, payload: Json, *, type: str = "publish") -> Outgoing:
        """Put a message into the outbox, and return what is known of it."""
        outgoing = Outgoing(to, self._scribe.seal(type=type, payload=payload, to=to))
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
        self._at_relay = self._relay.open(self._line)
        self.session = PeerSession(
            self.keys,
            name=None,
            outbox=self.outbox,
            seen=self._seen,
            rate=self._rate,
            timing=self._timing,
            reseal=self._scribe.reseal,
            now=self._clock(),
        )
        self.rising.append(self.session.register())

    def loses_connection(self, code: int = 1006, reason: str = "") -> None:
        """Lose the connection, and with it all that is on the wire, both ways."""
        if self.session is not None:
            self.events += self.session.disconnected(code, reason)
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
            self.events += self.session.receive(item, now=self._clock())
        return True

    def ticks(self) -> None:
        """Let the client look at its clock."""
        assert self.session is not None, "connect first"
        self.events += self.session.tick(now=self._clock())
        if not self.is_connected:
            self._leave()

    def talks(self) -> None:
        """Make steps until nothing moves any more."""
        while self.writes() or self.carries_up() or self.carries_down():
            pass

    def _leave(self) -> None:
        self.rising.clear()
        self._line.incoming.clear()
        self._writing = iter(())
        if self._at_relay is not None:
            gone, self._at_relay = self._at_relay, None
            self._relay.lost(gone)
            self._settle()
