"""
One agent's place at a relay: it connects, comes back by itself, and never dies silently.

This module is what an application holds. How messages go out is in
:mod:`agora.client.sending`, how they come in in :mod:`agora.client.receiving`;
the rules of the conversation are in :mod:`agora.protocol.client.session`, its socket and
clock in :mod:`agora.client.link`.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, assert_never
from weakref import WeakKeyDictionary

from agora.canonical import Json
from agora.client.events import (
    Bounced,
    ClientEvent,
    ConnectionState,
    EventStream,
    PresenceChanged,
    StateChanged,
    TransportChanged,
    Trouble,
)
from agora.client.inbox import Inbox
from agora.client.introducing import Introducing
from agora.client.keeping import Keeping
from agora.client.link import Link
from agora.client.listeners import Listener, Listeners
from agora.client.message import Message
from agora.client.receipt import Receipt
from agora.client.receiving import Handler, Messages, Receiving, make_intake
from agora.client.relay_memory import RelayMemory, RelaysInMemory
from agora.client.requests import Requests
from agora.client.sending import Sending
from agora.client.transport import TransportName, TransportOptions
from agora.client.way_in import WayIn, fallback_of
from agora.envelope import EVERYONE
from agora.errors import (
    AgoraError,
    ClosedError,
    ConfigurationError,
    NoAnswerError,
    NotConnectedError,
    RefusedError,
)
from agora.files import FilePath
from agora.frames import WATCH_ALL, WATCH_NONE, ListedPeer, Watched
from agora.keys import KeyPair, PeerId, is_peer_id
from agora.protocol.client import session as core
from agora.protocol.client.consent import ConsentRules, ContactPolicy, Guard
from agora.protocol.client.dialect import lacks_broadcast
from agora.protocol.client.outbox import Outbox, Outgoing, Status
from agora.protocol.client.scribe import Scribe
from agora.protocol.client.seen import SeenIds
from agora.protocol.rates import TokenBucket
from agora.references import Contact, merge_directories, resolve
from agora.sealing import now_ms

__all__ = ["Client", "Presence"]

_log = logging.getLogger("agora.client")

Presence = Literal["all", "none"] | Iterable[str]
"""Whose coming and going to hear of: everyone's, nobody's, or these peers'."""


class Client:
    """
    A peer, connected to one relay.

    >>> async with Client("ws://localhost:9470", identity, name="weather") as me:  # doctest: +SKIP
    ...     receipt = await me.send(peer_id, {"text": "hello"})
    ...     async for message in me:
    ...         await message.reply({"text": "hi"})

    It reconnects with backoff until it is closed or finally refused. Messages
    that cannot go out now wait in its outbox, in order: in memory, or on disk.

    Args:
        url: The relay, ``ws://…`` or ``wss://…``; by HTTP ``http://…`` or ``https://…``,
            with the extra ``agora-relay[http]``.
        identity: Who this is.
        name: Display name to claim; relays of today's reference ignore it.
        contacts: Peers by names of our own, for :meth:`send` and friends.
        presence: Whose coming and going to hear of: ``"all"``, ``"none"``, or a list of
            peers; relays of the reference tell everyone's.
        receive: Whether to get messages; who only sends is not announced to others.
        outbox: File in which what is sent survives the process, as do the ids of what
            was received; one process at a time may use it. None keeps both in memory.
        known_relays: What remembers the keys of relays; by default this client, as
            long as it lives.
        guard: Who may write to us, and how much; by default everyone, anything.
        rate_limit: Messages and seconds: at most so many at once and within that
            time; the rest waits in the outbox. None for no limit of our own.
        outbox_max_messages: Messages that may wait; then :meth:`send` raises.
        outbox_max_bytes: The same in bytes.
        inbox_max_messages: Messages that may wait to be read; then the socket is not
            read either, until there is room.
        inbox_max_bytes: The same in bytes.
        max_frame_bytes: Largest envelope to send; the default of relays.
        connect_timeout: Seconds that :meth:`connect` waits for the first registration;
            0 does not wait, None waits for ever.
        reconnect: Whether to come back after the connection is lost.
        fallback: Where the relay speaks HTTP, for when something between blocks its
            WebSocket: a URL; True for the conventional place, which is the port above,
            or the same for 80 and 443; False for nowhere. None is as True where the
            extra ``agora-relay[http]`` is installed, else as False.
        timing: How long to wait for what.
        tls: Context for ``wss://`` and ``https://``; by default the system's
            authorities are trusted.
        ca_file: Further authorities to trust, a PEM file.
        proxy: True takes it from the environment, None goes direct, or a proxy's URL.
        headers: More headers for the WebSocket handshake, and for every HTTP request.
        otel: Whether traces of OpenTelemetry go on with messages: the active span's place goes
            along with what is sent, handlers are at work in a span that goes on from the sender's.
    """

    def __init__(
        self,
        url: str,
        identity: KeyPair,
        *,
        name: str | None = None,
        contacts: Iterable[Contact] | Mapping[str, str] = (),
        presence: Presence = "all",
        receive: bool = True,
        outbox: FilePath | None = None,
        known_relays: RelayMemory | None = None,
        guard: Guard | None = None,
        rate_limit: tuple[int, float] | None = (200, 10.0),
        outbox_max_messages: int = 1_000,
        outbox_max_bytes: int = 16 * 1024 * 1024,
        inbox_max_messages: int = 10_000,
        inbox_max_bytes: int = 16 * 1024 * 1024,
        max_frame_bytes: int = 262_144,
        connect_timeout: float | None = 10.0,
        reconnect: bool = True,
        fallback: str | bool | None = None,
        timing: core.Timing | None = None,
        tls: ssl.SSLContext | None = None,
        ca_file: str | None = None,
        proxy: str | Literal[True] | None = True,
        headers: Mapping[str, str] | None = None,
        otel: bool = False,
    ) -> None:
        if not isinstance(identity, KeyPair):  # a path is an easy slip
            kind = type(identity).__name__
            raise ConfigurationError(
                f"identity is a {kind}: give a key pair, such as Identity.load_or_create(path)"
            )
        self.url = url
        self.identity = identity
        self.name = name
        self._contacts = _as_contacts(contacts)
        self._guard = guard or _open_guard()
        self._rate = _bucket(rate_limit)
        self._connect_timeout = connect_timeout
        self._timing = timing or core.Timing()
        self._listeners = Listeners()
        self._state = ConnectionState.CONNECTING
        self._error: AgoraError | None = None
        self._opened = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._inbox: Inbox[Message] = Inbox(inbox_max_messages, max_size=inbox_max_bytes)
        self._introducing = Introducing(
            url,
            name=name,
            receives=receive,
            known_relays=known_relays or RelaysInMemory(),
            watched=_watched(presence, self._contacts),
        )
        self._way_in = WayIn(
            url,
            fallback_of(url, fallback),
            TransportOptions(tls=tls, ca_file=ca_file, proxy=proxy, headers=dict(headers or {})),
            keys=identity,
            introduce=self._introducing.introduction,
            timing=self._timing,
        )
        self._transport: TransportName | None = None  # the last one that worked
        self._link = Link(
            self._way_in,
            make_session=self._make_session,
            tell=self._take_event,
            wait_room=self._inbox.wait_room,
            reconnect=reconnect,
        )
        self._keeping = (
            None if outbox is None else Keeping(Path(outbox), identity.peer_id, self._note_kept)
        )
        self._scribe = Scribe(identity, now_ms)
        self._is_traced = otel
        # Imported by those alone who want it, as it takes megabytes.
        tracing: Any = import_module("agora.client.tracing") if otel else None
        self._outbox = Outbox(
            max_messages=outbox_max_messages, max_bytes=outbox_max_bytes, journal=self._keeping
        )
        self._sending = Sending(
            self._scribe,
            self._outbox,
            is_durable=outbox is not None,
            max_frame_bytes=max_frame_bytes,
            wake=self._link.wake,
            active_place=tracing.active_place if tracing else lambda: None,
        )
        self._intake = make_intake(
            self._keeping or SeenIds(max_ids=_SEEN_IDS),
            outbox=self._outbox,
            scribe=self._scribe,
            guard=self._guard,
            timing=self._timing,
            wake=self._link.wake,
            emit=self._listeners.tell,
        )
        self._requests = Requests()
        self._receiving = Receiving(
            self._inbox,
            intake=self._intake,
            guard=self._guard,
            requests=self._requests,
            answer=self._answer,
            emit=self._listeners.tell,
            continued=tracing.continued if tracing else nullcontext,
        )
        self._readers: WeakKeyDictionary[asyncio.Task[object], Messages] = WeakKeyDictionary()

    # Life

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def connect(self) -> None:
        """
        Start, and wait for the first registration as ``connect_timeout`` says.

        Raises:
            NotConnectedError: When no relay registered us in time; the client is closed.
            ConfigurationError: When trying again cannot help: a bad URL or certificate,
                an outbox that cannot be used.
            RefusedError: When the relay refused us finally.
            RelayChangedError: When the relay is not the one that is known by this URL.
            ClosedError: When it was closed before.
        """
        self._refuse_closed()
        if self._task is None:
            self._start(asyncio.get_running_loop())
        if self._connect_timeout == 0:
            return
        try:
            async with asyncio.timeout(self._connect_timeout):
                await self._opened.wait()
        except TimeoutError as late:
            why = self._error or NotConnectedError(f"no relay at {self.url}")
            await self.close()
            raise NotConnectedError(
                f"not registered within {self._connect_timeout} s: {why}"
            ) from late
        except asyncio.CancelledError:
            await self.close()
            raise
        if self._state is ConnectionState.CLOSED:  # while we waited
            await self.close()
            self._refuse_closed()

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._keeping is not None:
            for outgoing in self._keeping.open(loop.call_soon_threadsafe):
                self._sending.restore(outgoing)
            for damage in self._keeping.damage:
                self._listeners.tell(Trouble(damage))
        self._task = loop.create_task(
            self._live(self._link), name=f"agora client @{self.identity.peer_id[-8:]}"
        )

    def _refuse_closed(self) -> None:
        if self._state is ConnectionState.CLOSED:
            raise self._error or ClosedError("the client is closed: make a new one")

    async def close(self) -> None:
        """
        Say goodbye and end every iterator. Doing it twice is harmless.

        What waits in an outbox in memory is lost with it, and a warning says how many
        messages that were; ``await receipt.settled()`` before, where it matters.
        What was received and is not acked comes again, to the next client.
        """
        if self._task is not None and not self._task.done():
            try:
                if self._keeping is not None:
                    await self._keeping.flush()  # what is remembered now can still be acked
                self._task.cancel()
                await asyncio.wait([self._task])
            except asyncio.CancelledError:
                self._task.cancel()  # no time for a goodbye
                raise
        self._end(None)
        if self._keeping is not None:
            self._keeping.close()

    @property
    def state(self) -> ConnectionState:
        """Where it stands with its relay now."""
        return self._state

    @property
    def is_connected(self) -> bool:
        """Whether it is registered at the relay now."""
        return self._state is ConnectionState.CONNECTED

    @property
    def error(self) -> AgoraError | None:
        """Why it is not connected, as far as known; None while it is."""
        return None if self.is_connected else self._error

    @property
    def peer_id(self) -> PeerId:
        """Our own peer id."""
        return self.identity.peer_id

    @property
    def relay(self) -> PeerId | None:
        """The relay's own peer id, where it told one; proven where :attr:`protocol` is 1."""
        return self._introducing.relay

    @property
    def protocol(self) -> int:
        """
        How the relay spoke at the last registration: 1 for Agora/1, 0 for the reference dialect.

        A relay of the reference proves nothing, keeps nothing until it is acked, and
        its receipts never say more than ``sent``.
        """
        return self._introducing.protocol

    @property
    def transport(self) -> TransportName | None:
        """By what it is connected now: ``websocket`` or ``http``; None while it is not."""
        return self._transport if self.is_connected else None

    @property
    def peers(self) -> dict[PeerId, ListedPeer]:
        """
        Who can be reached now of those we watch, by peer id.

        Peers with a mailbox at the relay's own wish are here also while they are away;
        ``is_online`` tells them apart.
        """
        session = self._link.session
        return dict(session.peers) if session else {}

    @property
    def outbox(self) -> tuple[Receipt, ...]:
        """The receipts of what waits, in order."""
        return self._sending.receipts

    # Sending

    def post(
        self,
        peer: str,
        payload: Json,
        *,
        type: str = "publish",
        in_reply_to: str | None = None,
        confirm: bool = False,
    ) -> Receipt:
        """
        Put a message into the outbox and return its receipt at once; as :meth:`send` otherwise.

        Where the outbox is on disk, ``await receipt.kept()`` waits until it is there.
        """
        self._refuse_closed()
        to = self.resolve(peer)
        self._guard.wrote_to(to)
        return self._sending.post(to, payload, type, [to], in_reply_to=in_reply_to, confirm=confirm)

    async def send(
        self,
        peer: str,
        payload: Json,
        *,
        type: str = "publish",
        in_reply_to: str | None = None,
        confirm: bool = False,
    ) -> Receipt:
        """
        Sign *payload* for *peer* and send it; it waits in the outbox as long as it has to.

        Returns when the relay has said what it does with it: at once while there is
        no connection, or when it waits behind others that *peer* did not get yet; and
        after ``timing.answer`` in any case. A relay says so when *peer* is done with
        it, or after 5 s at the latest. Who has a message in hand itself, as a handler
        does, waits only until the relay has it; :meth:`post` waits for nothing.

        Args:
            peer: A peer id, a contact's name, or a short reference such as ``@125531b8``.
            payload: Any JSON value.
            type: What kind of message it is.
            in_reply_to: Id of the message that it answers.
            confirm: Whether to ask *peer* for a signed acknowledgement, which
                :meth:`Receipt.confirmed` waits for.

        Raises:
            PeerReferenceError: When *peer* fits nobody, or more than one.
            InputError: When *payload* is nothing JSON can hold as it is, or too large.
            OutboxFullError: When too much waits already.
            TryAgainError: When an outbox on disk cannot keep it; it does not go out.
            RefusedError: When the relay refused it finally.
            ClosedError: When the client is closed.
        """
        return await self._say(
            self.post(peer, payload, type=type, in_reply_to=in_reply_to, confirm=confirm)
        )

    async def send_group(
        self, peers: Iterable[str], payload: Json, *, type: str = "publish"
    ) -> list[Receipt]:
        """
        Send *payload* to several peers; each sees all recipients in ``to``.

        Each gets an envelope of its own, with a timestamp of its own: relays of
        the reference know an envelope by its id and deliver it once.

        Returns:
            One receipt per recipient, in order; a final refusal of one is in its
            receipt and keeps no other from being sent.

        Raises:
            As :meth:`send`, but for RefusedError.
        """
        self._refuse_closed()
        recipients = list(dict.fromkeys(self.resolve(peer) for peer in peers))
        receipts = [self._sending.post(to, payload, type, recipients) for to in recipients]
        for to in recipients:
            self._guard.wrote_to(to)
        await self._wait_for_words(receipts)
        return receipts

    async def broadcast(self, payload: Json, *, type: str = "publish") -> Receipt:
        """
        Send *payload* to everyone who is online now. It is never stored for anyone.

        A relay that knows no broadcast, as today's reference, gets one message for
        each peer that is online; the receipt is then that of the attempt.

        Raises:
            As :meth:`send`.
        """
        self._refuse_closed()
        receipt = self._sending.post(EVERYONE, payload, type, [EVERYONE], is_durable=False)
        try:
            return await self._say(receipt)
        except RefusedError as refusal:
            if not lacks_broadcast(refusal):
                raise
        online = [key for key, peer in self.peers.items() if peer.is_online]
        each = [self._sending.post(to, payload, type, [to], is_durable=False) for to in online]
        await self._wait_for_words(each)
        return each[-1] if each else receipt

    async def request(
        self, peer: str, payload: Json, *, type: str = "request", timeout: float = 30.0
    ) -> Message:
        """
        Send a request and return the reply: the first message that names it in ``inReplyTo``.

        The reply comes here alone, and is acked; one that is late comes as any other
        message. A request that still waits in the outbox when the time is up is taken
        back, and none outlives the process.

        Raises:
            NoAnswerError: When none came within *timeout* seconds.
            As :meth:`send`.
        """
        self._refuse_closed()
        to = self.resolve(peer)
        self._guard.wrote_to(to)
        outgoing = self._sending.post(to, payload, type, [to], is_durable=False).outgoing
        try:
            async with asyncio.timeout(timeout):
                return await self._requests.reply_to(outgoing)
        except TimeoutError as late:
            why = outgoing.why if outgoing.status is Status.QUEUED else None
            raise NoAnswerError(f"no reply from {peer} within {timeout} s", why=why) from late
        finally:
            # Nobody waits for its reply any more: it must not go out when the peer comes at last.
            self._sending.take_back(outgoing)

    def resolve(self, peer: str) -> PeerId:
        """
        Return the peer id that a reference means: an id, a contact's name, or a short form.

        Names that peers claim are never used; whoever is online can be meant by
        ``@`` and the last eight digits of the id.

        Raises:
            PeerReferenceError: When it fits nobody, or more than one.
        """
        if is_peer_id(peer):
            return peer
        online = [Contact(key) for key in self.peers]
        return PeerId(resolve(peer, merge_directories(self._contacts, online)))

    # Receiving

    def __aiter__(self) -> AsyncIterator[Message]:
        """
        Return an iterator over the messages as they come; it ends when the client is closed.

        A message is acked when the next one is asked for: one that was not dealt with
        when the client ends comes again to the next.
        """
        return Messages(self._receiving)

    async def __anext__(self) -> Message:
        """
        Return the next message; waits for one. The one before, in the same task, is acked.

        Raises:
            StopAsyncIteration: When the client was closed.
            RefusedError: When the relay has refused us finally.
        """
        task = asyncio.current_task()
        assert task is not None, "only a task can wait"
        return await anext(self._readers.setdefault(task, Messages(self._receiving)))

    def on(self, type: str | None = None) -> Callable[[Handler], Handler]:
        """
        Make the decorated coroutine function the handler of a type of message, for :meth:`run`.

        Args:
            type: The type; None is for all that have no handler of their own.
        """

        def register(handler: Handler) -> Handler:
            self._receiving.on(type, handler)
            return handler

        return register

    async def run(self, *, concurrency: int = 1) -> None:
        """
        Hand every message to its handler until the client is closed.

        A message is acked when its handler has returned. A handler that raises is
        logged and reported as :class:`Trouble`; its message comes again after a while
        that grows each time, and the next one comes all the same. Messages without a
        handler are acked and left out, with a line in the debug log.

        Args:
            concurrency: Handlers at work at a time; 1 keeps the messages' order.

        Raises:
            RefusedError: When the relay has refused us finally; handlers at work finish first.
        """
        await self._receiving.run(concurrency)

    def allow(self, peer: str) -> None:
        """
        Let a peer write to us, and get what it has written since a :class:`ContactRequest`.

        Raises:
            PeerReferenceError: When *peer* fits nobody, or more than one.
        """
        self._receiving.allow(self.resolve(peer))

    def ignore(self, peer: str) -> None:
        """
        Hear nothing from a peer any more; its messages are acked and left out.

        Raises:
            PeerReferenceError: When *peer* fits nobody, or more than one.
        """
        self._receiving.ignore(self.resolve(peer))

    # What happens besides

    def watch(self, presence: Presence) -> None:
        """
        Change whose coming and going we hear of; :attr:`peers` and its events follow.

        Raises:
            PeerReferenceError: When one of a list fits nobody, or more than one.
        """
        watched = self._introducing.watched = _watched(
            presence, merge_directories(self._contacts, [Contact(key) for key in self.peers])
        )
        if session := self._link.session:
            session.watch(watched)
            self._link.wake()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """
        Have *listener* called with every :data:`ClientEvent`; return how to stop that.

        It is called from the client's own task and must not wait; what it raises
        is logged.
        """
        return self._listeners.add(listener)

    def events(self) -> AsyncIterator[ClientEvent]:
        """
        Return an iterator over what happens besides messages, from this call on.

        It ends when the client is closed. One that is left 10,000 events behind ends
        with a TryAgainError instead, so that forgetting it costs no more than that.
        """
        stream = EventStream()
        if self._state is ConnectionState.CLOSED:
            stream.put(StateChanged(self._state, self._error))  # all there will ever be
        else:
            stream.stop = self.listen(stream.put)
        return stream

    # Inside: what the link needs

    def _make_session(self, introduction: core.Introduction, now: float) -> core.PeerSession:
        return core.PeerSession(
            self.identity,
            introduction,
            outbox=self._outbox,
            intake=self._intake,
            scribe=self._scribe,
            rate=self._rate,
            timing=self._timing,
            now=now,
        )

    async def _live(self, link: Link) -> None:
        final: AgoraError | None = None
        try:
            final = await link.run()
        except asyncio.CancelledError:
            raise
        except Exception as fault:
            _log.exception("client failed")
            final = AgoraError(f"the client failed: {fault!r}")
        finally:
            self._end(final)

    # Inside: what the link tells

    def _take_event(self, event: core.Event) -> None:
        match event:
            case core.Opened():
                self._note_opened(event)
            case core.Lost(error, is_final):
                self._error = error
                self._sending.note_lost()
                if not is_final:
                    self._become(ConnectionState.CONNECTING, error)
            case core.Incoming(envelope, name, traceparent):
                self._receiving.take(envelope, name, traceparent)
            case core.Changed(outgoing):
                self._sending.note_changed(outgoing)
                if outgoing.refusal is not None:
                    self._requests.refuse(outgoing, outgoing.refusal)
            case core.Reached(outgoing):
                self._sending.note_reached(outgoing)
            case core.Bounced(envelope_id, code, recipient):
                _log.warning("bounced", extra={"fields": {"id": envelope_id, "code": code}})
                self._listeners.tell(Bounced(envelope_id, code, recipient))
            case core.PresenceChanged(peer, is_online):
                self._listeners.tell(PresenceChanged(peer.public_key, is_online, peer.name))
            case core.Problem(error):
                self._listeners.tell(Trouble(error))
            case _:
                assert_never(event)

    def _note_opened(self, opened: core.Opened) -> None:
        self._sending.note_limits(opened.limits)
        if opened.protocol:
            self._guard.relay = opened.relay
        try:
            self._introducing.note_opened(opened)
        except AgoraError as error:
            self._listeners.tell(Trouble(error))
        self._note_transport()
        self._become(ConnectionState.CONNECTED)

    def _note_transport(self) -> None:
        """Tell by what we are connected, where that is not what could be expected."""
        assert self._link.transport is not None  # we are registered over it
        before, now = self._transport, self._link.transport.name
        self._transport = now
        is_detour = self._way_in.is_detour(self._link.transport)
        if is_detour if before is None else now is not before:
            self._listeners.tell(TransportChanged(now, self._way_in.blocked))

    def _note_kept(self, outgoing: Outgoing) -> None:
        self._sending.note_kept(outgoing)

    # Inside: waiting

    async def _say(self, receipt: Receipt) -> Receipt:
        await self._wait_for_words([receipt])
        receipt.raise_if_refused()
        return receipt

    async def _wait_for_words(self, receipts: list[Receipt]) -> None:
        """Wait until they are kept, and for the relay's word on each while one may come."""
        await asyncio.sleep(0)  # a loop of sends must leave the others, and our own task, a turn
        await self._sending.kept(receipts)
        if self.is_connected and not self._inbox.is_full:  # else nobody answers, or nobody reads
            await self._sending.first_words(
                receipts, self._timing.answer, is_busy=self._receiving.is_busy
            )

    async def _answer(self, to: PeerId, payload: Json, type: str, in_reply_to: str) -> Receipt:
        return await self.send(to, payload, type=type, in_reply_to=in_reply_to)

    # Inside: states

    def _become(self, state: ConnectionState, error: AgoraError | None = None) -> None:
        self._state = state
        if state is not ConnectionState.CONNECTING:
            self._opened.set()
        self._listeners.tell(StateChanged(state, error))

    def _end(self, error: AgoraError | None) -> None:
        """Close for good: iterators end, receipts say what they know, requests fail."""
        if self._state is ConnectionState.CLOSED:
            return
        self._error = error
        self._sending.end()
        self._requests.end(error or ClosedError("the client was closed"))
        self._inbox.close(error)
        self._become(ConnectionState.CLOSED, error)


_SEEN_IDS = 10_000
"""Messages whose ids are remembered in memory, so that each is handed over once."""


def _as_contacts(contacts: Iterable[Contact] | Mapping[str, str]) -> tuple[Contact, ...]:
    """Take contacts as a list, or as a mapping of names to peer ids."""
    if isinstance(contacts, Mapping):
        return tuple(Contact(key, name) for name, key in contacts.items())
    return tuple(contacts)


def _watched(presence: Presence, directory: Sequence[Contact]) -> Watched:
    if presence == "all":
        return WATCH_ALL
    if presence == "none":
        return WATCH_NONE
    if isinstance(presence, str):
        raise ConfigurationError(f'presence of {presence!r}: give "all", "none" or a list')
    ids = (peer if is_peer_id(peer) else PeerId(resolve(peer, directory)) for peer in presence)
    return Watched(peers=frozenset(ids))


def _open_guard() -> Guard:
    """Return a guard that lets everyone in, whatever they say, until told to ignore them."""
    rules = ConsentRules(sender_messages=0, stranger_messages=0, repeat_window=0.0)
    return Guard(ContactPolicy.OPEN, rules=rules)


def _bucket(rate_limit: tuple[int, float] | None) -> TokenBucket | None:
    if rate_limit is None:
        return None
    messages, seconds = rate_limit
    if messages < 1 or seconds <= 0:
        raise ConfigurationError(
            f"rate_limit of {messages} messages in {seconds} s: give at least 1 message, over 0 s"
        )
    return TokenBucket(capacity=messages, window=seconds, now=time.monotonic())
