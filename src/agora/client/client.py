"""
One agent's place at a relay: it connects, comes back by itself, and never dies silently.

The rules of the conversation are in :mod:`agora.protocol.peer`, its socket and
clock in :mod:`agora.client.link`; this module is what an application holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Literal, Self, assert_never

from agora.canonical import Json, check_exact
from agora.client.events import (
    ClientEvent,
    ConnectionState,
    EventStream,
    PresenceChanged,
    StateChanged,
    Trouble,
)
from agora.client.inbox import Inbox
from agora.client.link import Link
from agora.client.message import Message
from agora.client.receipt import Receipt
from agora.client.transport import TransportOptions
from agora.envelope import EVERYONE
from agora.errors import (
    AgoraError,
    ClosedError,
    ConfigurationError,
    InputError,
    NoAnswerError,
    NotConnectedError,
    RefusedError,
)
from agora.frames import ListedPeer
from agora.keys import KeyPair, PeerId, is_peer_id
from agora.protocol import peer as core
from agora.protocol.dialect import lacks_broadcast
from agora.protocol.outbox import Outbox, Outgoing, Status
from agora.protocol.rates import TokenBucket
from agora.protocol.scribe import Scribe
from agora.references import Contact, merge_directories, resolve
from agora.sealing import now_ms

__all__ = ["Client"]

_log = logging.getLogger("agora.client")

Handler = Callable[[Message], Awaitable[object]]


class Client:
    """
    A peer, connected to one relay.

    >>> async with Client("ws://localhost:9470", identity, name="weather") as me:  # doctest: +SKIP
    ...     receipt = await me.send(peer_id, {"text": "hello"})
    ...     async for message in me:
    ...         await message.reply({"text": "hi"})

    It reconnects with backoff until it is closed or finally refused. Messages
    that cannot go out now wait in its outbox, in memory and in order.

    Args:
        url: The relay, ``ws://…`` or ``wss://…``.
        identity: Who this is.
        name: Display name to claim; relays of today's reference ignore it.
        contacts: Peers by names of our own, for :meth:`send` and friends.
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
        timing: How long to wait for what.
        tls: Context for ``wss://``; by default the system's authorities are trusted.
        ca_file: Further authorities to trust, a PEM file.
        proxy: True takes it from the environment, None goes direct, or a proxy's URL.
        headers: More headers for the WebSocket handshake.
    """

    def __init__(
        self,
        url: str,
        identity: KeyPair,
        *,
        name: str | None = None,
        contacts: Iterable[Contact] | Mapping[str, str] = (),
        rate_limit: tuple[int, float] | None = (200, 10.0),
        outbox_max_messages: int = 1_000,
        outbox_max_bytes: int = 16 * 1024 * 1024,
        inbox_max_messages: int = 10_000,
        inbox_max_bytes: int = 16 * 1024 * 1024,
        max_frame_bytes: int = 262_144,
        connect_timeout: float | None = 10.0,
        reconnect: bool = True,
        timing: core.Timing | None = None,
        tls: ssl.SSLContext | None = None,
        ca_file: str | None = None,
        proxy: str | Literal[True] | None = True,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.url = url
        self.identity = identity
        self.name = name
        self._contacts = _as_contacts(contacts)
        self._rate = _bucket(rate_limit)
        self._max_frame_bytes = max_frame_bytes
        self._connect_timeout = connect_timeout
        self._timing = timing or core.Timing()
        self._outbox = Outbox(max_messages=outbox_max_messages, max_bytes=outbox_max_bytes)
        self._seen = core.SeenIds(max_ids=_SEEN_IDS)
        self._inbox: Inbox[Message] = Inbox(inbox_max_messages, max_size=inbox_max_bytes)
        self._receipts: dict[Outgoing, Receipt] = {}
        self._requests: dict[Outgoing, asyncio.Future[Message]] = {}
        self._handlers: dict[str | None, Handler] = {}
        self._listeners: list[Callable[[ClientEvent], object]] = []
        self._scribe = Scribe(identity, now_ms)
        self._relay: PeerId | None = None
        self._state = ConnectionState.CONNECTING
        self._error: AgoraError | None = None
        self._opened = asyncio.Event()
        self._link = Link(
            url,
            TransportOptions(tls=tls, ca_file=ca_file, proxy=proxy, headers=dict(headers or {})),
            make_session=self._make_session,
            tell=self._take_event,
            wait_room=self._inbox.wait_room,
            reconnect=reconnect,
        )
        self._task: asyncio.Task[None] | None = None

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
            ConfigurationError: When trying again cannot help: a bad URL or certificate.
            RefusedError: When the relay refused us finally.
            ClosedError: When it was closed before.
        """
        self._refuse_closed()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(
                self._live(self._link), name=f"agora client @{self.identity.peer_id[-8:]}"
            )
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
        self._refuse_closed()  # while we waited

    def _refuse_closed(self) -> None:
        if self._state is ConnectionState.CLOSED:
            raise self._error or ClosedError("the client is closed: make a new one")

    async def close(self) -> None:
        """
        Say goodbye and end every iterator. Doing it twice is harmless.

        What waits in the outbox is lost with it, and a warning says how many
        messages that were; ``await receipt.settled()`` before, where it matters.
        """
        if self._task is not None and not self._task.done():
            self._task.cancel()
            try:
                await asyncio.wait([self._task])
            except asyncio.CancelledError:
                self._task.cancel()  # no time for a goodbye
                raise
        self._end(None)

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
        """The relay's own peer id, where it told one."""
        return self._relay

    @property
    def peers(self) -> dict[PeerId, ListedPeer]:
        """Who can be reached now, by peer id; listed storage peers also while they are away."""
        session = self._link.session
        return dict(session.peers) if session else {}

    @property
    def outbox(self) -> tuple[Receipt, ...]:
        """The receipts of what waits, in order."""
        return tuple(self._receipts[o] for o in self._outbox if o in self._receipts)

    # Sending

    async def send(
        self,
        peer: str,
        payload: Json,
        *,
        type: str = "publish",
        in_reply_to: str | None = None,
    ) -> Receipt:
        """
        Sign *payload* for *peer* and send it; it waits in the outbox as long as it has to.

        Returns when the relay has said what it does with it: at once while there is
        no connection, or when it waits behind others that *peer* did not get yet; and
        after ``timing.answer`` in any case.

        Args:
            peer: A peer id, a contact's name, or a short reference such as ``@125531b8``.
            payload: Any JSON value.
            type: What kind of message it is.
            in_reply_to: Id of the message that it answers.

        Raises:
            PeerReferenceError: When *peer* fits nobody, or more than one.
            InputError: When *payload* is nothing JSON can hold as it is, or too large.
            OutboxFullError: When too much waits already.
            RefusedError: When the relay refused it finally.
            ClosedError: When the client is closed.
        """
        to = self.resolve(peer)
        return await self._say(self._post(to, payload, type, [to], in_reply_to))

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
        recipients = list(dict.fromkeys(self.resolve(peer) for peer in peers))
        receipts = [self._post(to, payload, type, recipients, None) for to in recipients]
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
        receipt = self._post(EVERYONE, payload, type, [EVERYONE], None)
        try:
            return await self._say(receipt)
        except RefusedError as refusal:
            if not lacks_broadcast(refusal):
                raise
        each = [self._post(to, payload, type, [to], None) for to in self.peers]
        await self._wait_for_words(each)
        return each[-1] if each else receipt

    async def request(
        self, peer: str, payload: Json, *, type: str = "request", timeout: float = 30.0
    ) -> Message:
        """
        Send a request and return the reply: the first message that names it in ``inReplyTo``.

        The reply comes here alone; one that is late comes as any other message. A
        request that still waits in the outbox when the time is up is taken back.

        Raises:
            NoAnswerError: When none came within *timeout* seconds.
            As :meth:`send`.
        """
        to = self.resolve(peer)
        outgoing = self._post(to, payload, type, [to], None).outgoing
        reply: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._requests[outgoing] = reply
        try:
            async with asyncio.timeout(timeout):
                return await reply
        except TimeoutError as late:
            why = outgoing.why if outgoing.status is Status.QUEUED else None
            raise NoAnswerError(f"no reply from {peer} within {timeout} s", why=why) from late
        finally:
            self._requests.pop(outgoing, None)
            # Nobody waits for its reply any more: it must not go out when the peer comes at last.
            self._outbox.withdraw(outgoing)
            self._receipts.pop(outgoing, None)

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
        """Iterate over the messages as they come; ends when the client is closed."""
        return self

    async def __anext__(self) -> Message:
        """
        Return the next message; waits for one.

        Raises:
            StopAsyncIteration: When the client was closed.
            RefusedError: When the relay has refused us finally.
        """
        return await self._inbox.get()

    def on(self, type: str | None = None) -> Callable[[Handler], Handler]:
        """
        Make the decorated coroutine function the handler of a type of message, for :meth:`run`.

        Args:
            type: The type; None is for all that have no handler of their own.
        """

        def register(handler: Handler) -> Handler:
            self._handlers[type] = handler
            return handler

        return register

    async def run(self, *, concurrency: int = 1) -> None:
        """
        Hand every message to its handler until the client is closed.

        A handler that raises is logged and reported as :class:`Trouble`; the next
        message comes all the same. Messages without a handler are left out, with
        a line in the debug log.

        Args:
            concurrency: Handlers at work at a time; 1 keeps the messages' order.

        Raises:
            RefusedError: When the relay has refused us finally; handlers at work finish first.
        """
        places = asyncio.Semaphore(concurrency)
        refusal: AgoraError | None = None
        async with asyncio.TaskGroup() as group:
            try:
                await places.acquire()
                async for message in self:
                    task = group.create_task(self._handle(message))
                    task.add_done_callback(lambda _: places.release())
                    await places.acquire()  # before the next: what was taken is handled
            except AgoraError as error:  # raised as it is below, not inside an exception group
                refusal = error
        if refusal is not None:
            raise refusal

    def listen(self, listener: Callable[[ClientEvent], object]) -> Callable[[], None]:
        """
        Have *listener* called with every :data:`ClientEvent`; return how to stop that.

        It is called from the client's own task and must not wait; what it raises
        is logged.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

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

    # Sending, inside

    def _post(
        self, to: str, payload: Json, type: str, recipients: Sequence[str], in_reply_to: str | None
    ) -> Receipt:
        """Sign and put into the outbox; the receipt knows nothing yet."""
        self._refuse_closed()
        envelope = self._scribe.seal(
            type=type, payload=payload, to=recipients, in_reply_to=in_reply_to
        )
        check_exact(payload)
        outgoing = Outgoing(to, envelope)
        if outgoing.size > self._max_frame_bytes - _FRAME_OVERHEAD:
            raise InputError(
                f"envelope of {outgoing.size} bytes exceeds max_frame_bytes of "
                f"{self._max_frame_bytes} less {_FRAME_OVERHEAD} for the frame around it"
            )
        self._outbox.add(outgoing)
        receipt = self._receipts[outgoing] = Receipt(outgoing)
        self._link.wake()
        return receipt

    async def _say(self, receipt: Receipt) -> Receipt:
        await self._wait_for_words([receipt])
        receipt.raise_if_refused()
        return receipt

    async def _wait_for_words(self, receipts: list[Receipt]) -> None:
        """Wait for the relay's word on each, but for no more than an answer takes."""
        await asyncio.sleep(0)  # a loop of sends must leave the others, and our own task, a turn
        if not self.is_connected or self._inbox.is_full:
            return  # nobody is there to answer, or nobody reads what is answered
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timing.answer):
                for receipt in receipts:
                    if receipt.why is None:  # else it waits behind others, for a known reason
                        await receipt.first_word()

    def _make_session(self, now: float) -> core.PeerSession:
        return core.PeerSession(
            self.identity,
            name=self.name,
            outbox=self._outbox,
            seen=self._seen,
            rate=self._rate,
            timing=self._timing,
            reseal=self._scribe.reseal,
            now=now,
        )

    # What the link tells

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

    def _take_event(self, event: core.Event) -> None:
        match event:
            case core.Opened(relay):
                self._relay = relay
                self._become(ConnectionState.CONNECTED)
            case core.Lost(error, is_final):
                self._error = error
                for receipt in self._receipts.values():
                    receipt.update()  # nobody is left to say more for now
                if not is_final:
                    self._become(ConnectionState.CONNECTING, error)
            case core.Incoming(envelope, name):
                self._deliver(Message(envelope, name, self._answer))
            case core.Changed(outgoing):
                self._update(outgoing)
            case core.PresenceChanged(peer, is_online):
                self._emit(PresenceChanged(peer.public_key, is_online, peer.name))
            case core.Problem(error):
                self._emit(Trouble(error))
            case _:
                assert_never(event)

    def _deliver(self, message: Message) -> None:
        """Give a message to the request it answers, or else to the inbox."""
        for outgoing, reply in self._requests.items():
            is_answer = message.in_reply_to == outgoing.envelope.id
            if is_answer and message.sender == outgoing.to and not reply.done():
                reply.set_result(message)
                return
        self._inbox.put_nowait(message, size=len(message.envelope.canonical))

    def _update(self, outgoing: Outgoing) -> None:
        receipt = self._receipts.get(outgoing)
        if receipt is None:
            return
        receipt.update()
        if outgoing.status is not Status.QUEUED:
            del self._receipts[outgoing]
        reply = self._requests.get(outgoing)
        if outgoing.refusal is not None and reply is not None and not reply.done():
            reply.set_exception(outgoing.refusal)

    async def _answer(self, to: PeerId, payload: Json, type: str, in_reply_to: str) -> Receipt:
        return await self.send(to, payload, type=type, in_reply_to=in_reply_to)

    async def _handle(self, message: Message) -> None:
        handler = self._handlers.get(message.type) or self._handlers.get(None)
        if handler is None:
            _log.debug("no handler", extra={"fields": {"type": message.type, "id": message.id}})
            return
        try:
            await handler(message)
        except Exception as error:
            _log.exception("handler failed", extra={"fields": {"id": message.id}})
            self._emit(Trouble(error))

    def _become(self, state: ConnectionState, error: AgoraError | None = None) -> None:
        self._state = state
        if state is not ConnectionState.CONNECTING:
            self._opened.set()
        self._emit(StateChanged(state, error))

    def _emit(self, event: ClientEvent) -> None:
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception:
                _log.exception("listener failed")

    def _end(self, error: AgoraError | None) -> None:
        """Close for good: iterators end, receipts say what they know, requests fail."""
        if self._state is ConnectionState.CLOSED:
            return
        self._error = error
        if self._receipts:
            _log.warning("closed with %d messages unsent, which are lost", len(self._receipts))
        for receipt in self._receipts.values():
            receipt.abandon()
        for reply in self._requests.values():
            if not reply.done():
                reply.set_exception(error or ClosedError("the client was closed"))
        self._inbox.close(error)
        self._become(ConnectionState.CLOSED, error)


_SEEN_IDS = 10_000
"""Messages whose ids are remembered, so that each is handed over once."""

_FRAME_OVERHEAD = 256
"""Bytes of the frame around an envelope: its type and the recipient."""


def _as_contacts(contacts: Iterable[Contact] | Mapping[str, str]) -> tuple[Contact, ...]:
    """Take contacts as a list, or as a mapping of names to peer ids."""
    if isinstance(contacts, Mapping):
        return tuple(Contact(key, name) for name, key in contacts.items())
    return tuple(contacts)


def _bucket(rate_limit: tuple[int, float] | None) -> TokenBucket | None:
    if rate_limit is None:
        return None
    messages, seconds = rate_limit
    if messages < 1 or seconds <= 0:
        raise ConfigurationError(
            f"rate_limit of {messages} messages in {seconds} s: give at least 1 message, over 0 s"
        )
    return TokenBucket(capacity=messages, window=seconds, now=time.monotonic())
