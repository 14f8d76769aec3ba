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

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from typing import Any

from agora.canonical import Json, json_text
from agora.codes import CloseCode
from agora.envelope import EVERYONE, Envelope, seal
from agora.frames import (
    PING,
    Answer,
    Challenge,
    Delivery,
    ErrorAnswer,
    PeerOffline,
    PeerOnline,
    Pong,
    PresenceAnswer,
    ReceiptAnswer,
    Registered,
    UnknownAnswer,
    Watched,
    decode_answer,
    encode_ack,
    encode_authenticate,
    encode_broadcast,
    encode_nack,
    encode_register,
    encode_submit,
    encode_watch,
)
from agora.keys import KeyPair, PeerId
from agora.limits import Limits
from agora.mailbox import Mailbox, MailboxBounds, MemoryMailbox
from agora.protocol.proof import sign_proof
from agora.protocol.relay.policies import (
    EnvelopePolicy,
    MailboxPolicy,
    ProofPolicy,
    VerifyPolicy,
)
from agora.protocol.relay.router import RouterConfig
from agora.relay.node import Node
from agora.relay.writer import Done, Job, Work, commit_together
from agora.sealed import PlainSealed
from agora.testing.agent import AUDIENCE, Agent
from agora.testing.clock import ManualClock
from agora.testing.line import Line, RelayCore

__all__ = [
    "AUDIENCE",
    "Agent",
    "Conversation",
    "Cores",
    "Disk",
    "Line",
    "RelayCore",
    "Speaker",
    "keys_of",
]


def keys_of(name: str) -> KeyPair:
    """Return the keys of whoever is called *name*: the same in every conversation."""
    return KeyPair.from_seed(sha256(name.encode()).digest())


class Disk:
    """
    Does the relay's mailbox jobs as its writer does, but only when let.

    Attributes:
        is_held: Whether nothing is stored or fetched for now.
        is_full: Whether whatever is to be changed fails.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._jobs: list[Job] = []
        self.is_held = False
        self.is_full = False

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._jobs)

    def submit(self, work: Work, done: Done) -> None:
        """Queue a job."""
        self._jobs.append((work, done))

    def work(self) -> bool:
        """Do all that waits, and tell what came of it; return whether there was anything."""
        return not self.is_held and self.work_once()

    def work_once(self) -> bool:
        """Do what waits now, held or not, and nothing that comes of it."""
        if not self._jobs:
            return False
        batch, self._jobs = self._jobs, []
        for done, result in self._results(batch):
            done(result)
        return True

    def _results(self, batch: list[Job]) -> list[tuple[Done, object]]:
        if self.is_full:
            return [(done, OSError("no space left on device")) for _, done in batch]
        return commit_together(self._mailbox, batch)


class Cores:
    """
    Verifies the relay's envelopes as its threads do, but only when let.

    Attributes:
        is_held: Whether nothing is verified for now.
    """

    def __init__(self) -> None:
        self._jobs: list[tuple[PlainSealed, Callable[[], None]]] = []
        self.is_held = False

    @property
    def waiting(self) -> int:
        """How many envelopes wait."""
        return len(self._jobs)

    def submit(self, sealed: PlainSealed, done: Callable[[], None]) -> None:
        """Queue an envelope."""
        self._jobs.append((sealed, done))

    def work(self) -> bool:
        """Verify all that waits, the last first; return whether there was anything."""
        if self.is_held or not self._jobs:
            return False
        jobs, self._jobs = self._jobs, []
        for sealed, done in reversed(jobs):  # threads do not keep an order either
            _ = sealed.is_genuine
            done()
        return True


class Conversation:
    """
    A relay to talk with.

    Args:
        policy: Which envelopes it takes.
        proof: Who may register.
        mailboxes: Who has a mailbox.
        verify: Whose signatures it verifies.
        storage_peers: Names of those who have a mailbox.
        mailbox: Where their mail waits; in memory unless given.
        limits: Fields of :class:`~agora.limits.Limits`.

    Attributes:
        clock: Moves by :meth:`pass_time` alone.
        mailbox: The mailbox.
        disk: What writes it.
        cores: What verifies envelopes.
        node: The relay.
    """

    def __init__(
        self,
        *,
        policy: EnvelopePolicy = EnvelopePolicy.STRICT,
        proof: ProofPolicy = ProofPolicy.OPTIONAL,
        mailboxes: MailboxPolicy = MailboxPolicy.PROVEN,
        verify: VerifyPolicy = VerifyPolicy.EVERY,
        storage_peers: Iterable[str] = (),
        mailbox: Mailbox | None = None,
        **limits: Any,
    ) -> None:
        self._limits = Limits(**limits)
        storage_keys = {keys_of(name).peer_id: name for name in storage_peers}
        self.clock = ManualClock()
        self.mailbox: Mailbox = mailbox or MemoryMailbox(MailboxBounds.of(self._limits))
        self._config = RouterConfig(
            identity=keys_of("relay"),
            envelopes=policy,
            proof=proof,
            mailboxes=mailboxes,
            verify=verify,
            storage_peers=tuple(storage_keys),
        )
        self._begin()
        self._speakers: list[Speaker] = []
        self._names = {keys_of("relay").peer_id: "relay", **storage_keys}
        self._last_timestamp = 0

    def _begin(self) -> None:
        self.disk = Disk(self.mailbox)
        self.cores = Cores()
        known = replace(
            self._config, pins=self.mailbox.pins(), last_position=self.mailbox.last_position()
        )
        self.node = Node(
            self._limits,
            known,
            writer=self.disk,
            verifier=self.cores,
            clock=self.clock,
            wall_ms=self.clock.wall_ms,
        )

    def restart(self) -> None:
        """Have the relay killed and started anew; of its memory only the mailbox is left."""
        self.mailbox.rollback()
        self._speakers.clear()  # their connections lead nowhere
        self._begin()

    # Who takes part

    def connect(self, name: str, *, address: str | None = None) -> Speaker:
        """Return *name* on a new connection, not registered; each has an address of its own."""
        speaker = Speaker(self, name, address=address or name)
        self._names[speaker.id] = name
        self._speakers.append(speaker)
        return speaker

    def join(self, name: str) -> Speaker:
        """Return *name* on a new connection, having said who it is."""
        speaker = self.connect(name)
        speaker.registers()
        return speaker

    def prove(self, name: str, **options: Any) -> Speaker:
        """Return *name* on a new connection of Agora/1; options as of :meth:`Speaker.proves`."""
        speaker = self.connect(name)
        speaker.proves(**options)
        return speaker

    def meet(self, *names: str) -> list[Speaker]:
        """Return those who join, when the introductions are over: nobody has heard a thing."""
        return self._introduced([self.join(name) for name in names])

    def meet_proven(self, *names: str) -> list[Speaker]:
        """Return those who join with proof, when the introductions are over."""
        proven = [self.prove(name) for name in names]
        self.pass_time(self._limits.presence_interval)
        return self._introduced(proven)

    def _introduced(self, newcomers: list[Speaker]) -> list[Speaker]:
        for speaker in self._speakers:
            speaker.hears()
        return newcomers

    def agent(self, name: str, **options: Any) -> Agent:
        """Return the core of our client as *name*, not connected; options as of :class:`Agent`."""
        self._names[keys_of(name).peer_id] = name
        return Agent(self.node, keys_of(name), self.clock, settle=self.settle, **options)

    def name_of(self, peer: str) -> str:
        """Return the name of a peer in this room."""
        return self._names.get(PeerId(peer), peer)

    # What happens around them

    def pass_time(self, seconds: float) -> None:
        """Let *seconds* pass, with the relay's own tick and pulse at the end."""
        self.clock.advance(seconds)
        self.node.tick()
        self.node.pulse()
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

    @contextmanager
    def busy_cores(self) -> Iterator[None]:
        """Have no envelope verified before the end of a ``with`` block."""
        self.cores.is_held = True
        try:
            yield
        finally:
            self.cores.is_held = False
            self.settle()

    @contextmanager
    def failing_disk(self) -> Iterator[None]:
        """Have everything that needs the disk fail before the end of a ``with`` block."""
        self.disk.is_full = True
        try:
            yield
        finally:
            self.disk.is_full = False

    def settle(self) -> None:
        """Let cores and disk work and WebSockets answer pings, until nothing is left to do."""
        while (
            self.cores.work()
            or self.disk.work()
            or any([speaker._takes() for speaker in self._speakers])
        ):
            pass

    def timestamp(self) -> int:
        """Return the time as no envelope had it before, in milliseconds."""
        self._last_timestamp = max(self.clock.wall_ms(), self._last_timestamp + 1)
        return self._last_timestamp


_NONCE = "0123456789abcdef" * 4


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

    def __init__(self, talk: Conversation, name: str, *, address: str) -> None:
        self.keys = keys_of(name)
        self.id = self.keys.peer_id
        self.close_code: CloseCode | None = None
        self.pings: list[bytes] = []
        self.answers_pings = True
        self._talk = talk
        self._line = Line()
        self._heard: list[str] = []
        self._node = talk.node
        self._session = talk.node.open(self._line, address=address, audiences=(AUDIENCE,))

    # Saying

    def says(self, frame: str | bytes | Mapping[str, Json]) -> None:
        """Say a frame, or what is none: text and bytes go as they are."""
        data = frame if isinstance(frame, str | bytes) else json_text(dict(frame))
        self._node.receive(self._session, data)
        self._talk.settle()

    def registers(self, name: str | None = None) -> None:
        """Say who it is, and which display name it claims."""
        self.says(encode_register(self.id, name))

    def proves(self, *, answer: bool = True, keys: KeyPair | None = None, **options: Any) -> None:
        """
        Register for Agora/1, and prove its key.

        Args:
            answer: Whether to answer the challenge.
            keys: What to answer it with; its own unless given.
            options: As for :func:`agora.frames.encode_register`.
        """
        self.says(encode_register(self.id, options.pop("name", None), nonce=_NONCE, **options))
        if answer:
            self.authenticates(keys or self.keys)

    def authenticates(self, keys: KeyPair, *, audience: str = AUDIENCE) -> None:
        """Answer the challenge that came last with the signature of *keys*."""
        *before, text = self.texts()
        self._heard = before
        challenge = decode_answer(text)
        assert isinstance(challenge, Challenge), text
        signature = sign_proof(
            keys, audience=audience, nonce=challenge.nonce, relay=challenge.relay
        )
        self.says(encode_authenticate(signature, audience))

    def sends(self, to: Speaker | str, payload: Json, **members: Any) -> Envelope:
        """Send one peer a message, and return its envelope; members as for :meth:`seals`."""
        recipient = to if isinstance(to, str) else to.id
        envelope = self.seals(recipient, payload, **members)
        self.submits(envelope, recipient)
        return envelope

    def acks(self, *envelopes: Envelope) -> None:
        """Say that it has these."""
        self.says(encode_ack(envelope.id for envelope in envelopes))

    def nacks(self, *envelopes: Envelope, delay: float = 0.0) -> None:
        """Ask for these again, *delay* seconds later."""
        self.says(encode_nack((envelope.id for envelope in envelopes), delay))

    def watches(self, watched: Watched) -> None:
        """Ask to hear of these peers."""
        self.says(encode_watch(watched))

    def broadcasts(self, payload: Json) -> Envelope:
        """Tell everyone, and return the envelope."""
        envelope = self.seals(EVERYONE, payload)
        self.says(encode_broadcast(envelope.wire_text))
        return envelope

    def submits(self, envelope: Envelope, to: Speaker | str, **options: Any) -> None:
        """Say a message frame with *envelope*, whoever made it."""
        recipient = to if isinstance(to, str) else to.id
        self.says(encode_submit(recipient, envelope.wire_text, **options))

    def seals(self, to: str | Iterable[str], payload: Json, *, type: str = "publish") -> Envelope:
        """Sign what nobody signed before: every envelope has a time of its own."""
        timestamp_ms = self._talk.timestamp()
        return seal(self.keys, type=type, payload=payload, to=to, timestamp_ms=timestamp_ms)

    def asks(self) -> None:
        """Say ``ping``."""
        self.says(PING)

    def pongs(self, payload: bytes) -> None:
        """Say a WebSocket pong, asked or not."""
        self._node.receive_pong(self._session, payload)
        self._talk.settle()

    def leaves(self) -> None:
        """Be gone, without a word."""
        self._node.lost(self._session)
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
                self._node.receive_pong(self._session, item)
                has_ponged = True
            else:
                self.pings.append(item)
        return has_ponged

    def _line_for(self, answer: Answer) -> str:
        name_of = self._talk.name_of
        match answer:
            case Challenge():
                return "challenge"
            case Registered(peers):
                names = ", ".join(name_of(peer.public_key) for peer in peers)
                pending = f", {answer.pending} pending" if answer.pending else ""
                return f"registered with {names}{pending}" if names else f"registered{pending}"
            case ReceiptAnswer(_, to, status):
                return f"{status} to {name_of(to)}"
            case PresenceAnswer(online, offline):
                come = ", ".join(name_of(peer.public_key) for peer in online) or "nobody"
                gone = ", ".join(map(name_of, offline)) or "nobody"
                return f"{come} online, {gone} offline"
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
