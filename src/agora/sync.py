"""
The client without ``await``: the names and arguments of :class:`agora.Client`, waited for.

>>> with agora.sync.Client("ws://localhost:9470", identity) as me:  # doctest: +SKIP
...     me.send(peer_id, {"text": "hello"})
...     for message in me:
...         message.reply({"text": "hi"})

There is no second client here and no rule: the one asynchronous client lives on
a background thread, and a call here is a call there. So it does no harm where an
event loop runs already, as in a notebook, and several threads may use it at once.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from agora import client as asynchronous
from agora.canonical import Json
from agora.client.events import ClientEvent, ConnectionState
from agora.client.inbox import Inbox
from agora.client.transport import TransportName
from agora.errors import AgoraError
from agora.frames import ListedPeer
from agora.keys import KeyPair, PeerId
from agora.protocol.client.outbox import Status

__all__ = ["Client", "Message", "Receipt"]

_Original = TypeVar("_Original")
_Result = TypeVar("_Result")
_Ours = TypeVar("_Ours")
_Function = TypeVar("_Function", bound=Callable[..., Any])
_Arguments = ParamSpec("_Arguments")


class _Background:
    """
    An event loop on a thread of its own, there from the first call to the last.

    It ends with the last call that is under way when or after :meth:`close` was
    called. Whoever makes that call waits for the thread's end.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._calls = 0
        self._is_closed = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._over: asyncio.Event

    def wait(self, call: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
        """Run what *call* returns over there; return what comes of it. Ctrl-C cancels it."""
        if threading.current_thread() is self._thread:
            raise RuntimeError("a listener of the client would wait for itself here")
        with self.in_use():
            return self.start(call()).result()

    def start(self, work: Coroutine[Any, Any, _Result]) -> _Call[_Result]:
        """Begin *work* over there, while it is :meth:`in_use`."""
        return _Call(work, self._loop)

    def close(self) -> None:
        """Let the thread end, now or with the last call."""
        with self.in_use():
            self._is_closed = True

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the thread for the length of a ``with`` block."""
        with self._lock:
            self._calls += 1
            if self._thread is None:
                self._begin()
        try:
            yield
        finally:
            with self._lock:
                self._calls -= 1
                ending = self._end() if self._is_closed and self._calls == 0 else None
            if ending is not None:
                ending.join()

    def _begin(self) -> None:
        # With a factory the loop does not become that of the thread we are called from.
        runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop, self._over = runner.get_loop(), asyncio.Event()
        self._thread = threading.Thread(
            target=_live, args=(runner, self._over), name=self._name, daemon=True
        )
        self._thread.start()

    def _end(self) -> threading.Thread | None:
        self._loop.call_soon_threadsafe(self._over.set)
        thread, self._thread = self._thread, None
        return thread


class _Call(Generic[_Result]):
    """
    A coroutine under way in the background, whose end one thread waits for.

    Not a ``concurrent.futures.Future``: its lock is taken in Python, and Ctrl-C in just
    that moment leaves it locked, with the background waiting for it for ever.
    """

    def __init__(self, work: Coroutine[Any, Any, _Result], loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._task: asyncio.Task[_Result] | None = None
        self._ended: SimpleQueue[asyncio.Task[_Result]] = SimpleQueue()
        loop.call_soon_threadsafe(self._begin, work)

    def result(self) -> _Result:
        """Wait for its end and return what came of it; cancel it when we are interrupted."""
        try:
            ended = self._wait()
        except BaseException:
            self.cancel()
            raise
        return ended.result()

    def _wait(self) -> asyncio.Task[_Result]:
        while True:
            with suppress(Empty):
                return self._ended.get(timeout=_PATIENCE)

    def cancel(self) -> None:
        """Ask it to end; harmless when it has."""
        self._loop.call_soon_threadsafe(self._cancel)

    def _begin(self, work: Coroutine[Any, Any, _Result]) -> None:
        self._task = self._loop.create_task(work)
        self._task.add_done_callback(self._ended.put)

    def _cancel(self) -> None:
        assert self._task is not None  # begun before, as the loop keeps the order
        self._task.cancel()


_PATIENCE = 0.25
"""Seconds between looks for Ctrl-C: a thread does not hear it that is just about to wait for
another, and on Windows none that waits."""


def _live(runner: asyncio.Runner, over: asyncio.Event) -> None:
    with runner:
        runner.run(over.wait())


# How a name here is made of the name there


class _Twin(Generic[_Original]):
    """What has its other half in the background."""

    def __init__(self, original: _Original, background: _Background) -> None:
        self._original = original
        self._background = background


def _waiting(
    method: Callable[Concatenate[_Original, _Arguments], Coroutine[Any, Any, _Result]],
    ours: Callable[[_Result, _Background], _Ours],
) -> Callable[Concatenate[_Twin[_Original], _Arguments], _Ours]:
    """Make of a coroutine method the same that waits, and returns *ours* of its result."""

    @functools.wraps(method, assigned=("__name__", "__qualname__", "__doc__"))
    def waits(
        twin: _Twin[_Original], /, *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> _Ours:
        result = twin._background.wait(lambda: method(twin._original, *args, **kwargs))
        return ours(result, twin._background)

    return waits


def _doing(
    method: Callable[Concatenate[_Original, _Arguments], _Result],
    ours: Callable[[_Result, _Background], _Ours],
) -> Callable[Concatenate[_Twin[_Original], _Arguments], _Ours]:
    """Make of a method that waits for nothing the same, done over there, on the loop's thread."""

    @functools.wraps(method)
    async def does(
        original: _Original, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> _Result:
        return method(original, *args, **kwargs)

    return _waiting(does, ours)


def _like(original: object) -> Callable[[_Function], _Function]:
    """Give what is decorated the documentation of its other half."""

    def document(function: _Function) -> _Function:
        function.__doc__ = original.__doc__
        return function

    return document


def _arguments_of(
    original: Callable[Concatenate[Any, _Arguments], None],
) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, _Arguments], None]]:
    """Give what is decorated the signature of *original*."""
    return functools.wraps(original, assigned=("__doc__",))


def _as_it_is(result: _Result, background: _Background) -> _Result:
    return result


async def _next(source: AsyncIterator[_Result]) -> _Result | None:
    return await anext(source, None)


# The twins


class Receipt(_Twin[asynchronous.Receipt]):
    """What is known of a message that was sent; as :class:`agora.Receipt`."""

    @property
    @_like(asynchronous.Receipt.status)
    def status(self) -> Status:
        return self._original.status

    @property
    @_like(asynchronous.Receipt.id)
    def id(self) -> str:
        return self._original.id

    @property
    @_like(asynchronous.Receipt.to)
    def to(self) -> str:
        return self._original.to

    @property
    @_like(asynchronous.Receipt.why)
    def why(self) -> str | None:
        return self._original.why

    @property
    @_like(asynchronous.Receipt.count)
    def count(self) -> int | None:
        return self._original.count

    @property
    @_like(asynchronous.Receipt.bounced)
    def bounced(self) -> str | None:
        return self._original.bounced

    kept = _waiting(asynchronous.Receipt.kept, _as_it_is)
    settled = _waiting(asynchronous.Receipt.settled, _as_it_is)
    confirmed = _waiting(asynchronous.Receipt.confirmed, _as_it_is)

    def __repr__(self) -> str:
        return repr(self._original)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Receipt) and other._original is self._original

    def __hash__(self) -> int:
        return hash(self._original)


def _receipts(results: list[asynchronous.Receipt], background: _Background) -> list[Receipt]:
    return [Receipt(result, background) for result in results]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Message(asynchronous.Message):
    """One message to us; as :class:`agora.Message`, but that its methods wait by themselves."""

    _background: _Background = field(kw_only=True)

    @_like(asynchronous.Message.reply)
    def reply(self, payload: Json, *, type: str | None = None) -> Receipt:  # type: ignore[override]  # it waits
        original = asynchronous.Message.reply
        return Receipt(
            self._background.wait(lambda: original(self, payload, type=type)), self._background
        )

    @_like(asynchronous.Message.ack)
    def ack(self) -> None:  # type: ignore[override]  # it waits
        self._background.wait(lambda: asynchronous.Message.ack(self))

    @_like(asynchronous.Message.nack)
    def nack(self, delay: float | None = None) -> None:  # type: ignore[override]  # it waits
        self._background.wait(lambda: asynchronous.Message.nack(self, delay))

    @_like(asynchronous.Message.give_up)
    def give_up(self) -> None:  # type: ignore[override]  # it waits
        self._background.wait(lambda: asynchronous.Message.give_up(self))


def _message(message: asynchronous.Message, background: _Background) -> Message:
    return Message(
        message.envelope,
        message.name,
        message._handling,
        message.traceparent,
        _background=background,
    )


class _Messages(_Twin[AsyncIterator[asynchronous.Message]]):
    """The messages as they come, for one reader."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        message = self._background.wait(lambda: _next(self._original))
        if message is None:
            raise StopIteration
        return _message(message, self._background)


Handler = Callable[[Message], object]


class Client(_Twin[asynchronous.Client]):
    """
    A peer, connected to one relay; as :class:`agora.Client`, but that every call waits by itself.

    Handlers are plain functions. Listeners are called on the client's own thread,
    where no call of the client may wait: that one is an error.

    Args:
        As :class:`agora.Client`.
    """

    @_arguments_of(asynchronous.Client.__init__)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        original = asynchronous.Client(*args, **kwargs)
        super().__init__(original, _Background(f"agora client @{original.peer_id[-8:]}"))
        self._readers = threading.local()  # as each thread has its own message before

    # Life

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @_like(asynchronous.Client.connect)
    def connect(self) -> None:
        try:
            self._background.wait(self._original.connect)
        except BaseException:
            self.close()  # or the thread would be left
            raise

    @_like(asynchronous.Client.close)
    def close(self) -> None:
        try:
            self._background.wait(self._original.close)
        finally:
            self._background.close()

    @property
    def url(self) -> str:
        """The relay."""
        return self._original.url

    @property
    def identity(self) -> KeyPair:
        """Who this is."""
        return self._original.identity

    @property
    def name(self) -> str | None:
        """The display name that is claimed."""
        return self._original.name

    @property
    @_like(asynchronous.Client.state)
    def state(self) -> ConnectionState:
        return self._original.state

    @property
    @_like(asynchronous.Client.is_connected)
    def is_connected(self) -> bool:
        return self._original.is_connected

    @property
    @_like(asynchronous.Client.error)
    def error(self) -> AgoraError | None:
        return self._original.error

    @property
    @_like(asynchronous.Client.peer_id)
    def peer_id(self) -> PeerId:
        return self._original.peer_id

    @property
    @_like(asynchronous.Client.relay)
    def relay(self) -> PeerId | None:
        return self._original.relay

    @property
    @_like(asynchronous.Client.protocol)
    def protocol(self) -> int:
        return self._original.protocol

    @property
    @_like(asynchronous.Client.is_traced)
    def is_traced(self) -> bool:
        return self._original.is_traced

    @property
    @_like(asynchronous.Client.transport)
    def transport(self) -> TransportName | None:
        return self._original.transport

    @property
    @_like(asynchronous.Client.peers)
    def peers(self) -> dict[PeerId, ListedPeer]:
        return self._original.peers

    @property
    @_like(asynchronous.Client.outbox)
    def outbox(self) -> tuple[Receipt, ...]:
        async def read() -> list[asynchronous.Receipt]:
            return list(self._original.outbox)

        # Over there, as it changes while one looks.
        return tuple(_receipts(self._background.wait(read), self._background))

    # Sending

    post = _doing(asynchronous.Client.post, Receipt)
    send = _waiting(asynchronous.Client.send, Receipt)
    send_group = _waiting(asynchronous.Client.send_group, _receipts)
    broadcast = _waiting(asynchronous.Client.broadcast, Receipt)
    request = _waiting(asynchronous.Client.request, _message)

    @_like(asynchronous.Client.resolve)
    def resolve(self, peer: str) -> PeerId:
        return self._original.resolve(peer)

    # Receiving

    def __iter__(self) -> Iterator[Message]:
        """Return an iterator over the messages; each is acked when the next one is asked for."""
        return _Messages(aiter(self._original), self._background)

    def __next__(self) -> Message:
        """Return the next message; the one before, in the same thread, is acked."""
        if not hasattr(self._readers, "own"):
            self._readers.own = iter(self)
        message: Message = next(self._readers.own)
        return message

    def on(self, type: str | None = None) -> Callable[[Handler], Handler]:
        """
        Make the decorated function the handler of a type of message, for :meth:`run`.

        Args:
            type: The type; None is for all that have no handler of their own.
        """

        def register(handler: Handler) -> Handler:
            async def take_turn(message: asynchronous.Message) -> None:
                # The span in which it goes on is active here, not in the thread that takes it.
                context = copy_context() if self._original._is_traced else None
                turn = _Turn(handler, _message(message, self._background), context)
                _turns.get().put_nowait(turn)
                if (error := await asyncio.wrap_future(turn.over)) is not None:
                    raise error

            self._original.on(type)(take_turn)
            return handler

        return register

    def run(self, *, concurrency: int = 1) -> None:
        """
        Hand every message to its handler until the client is closed.

        As :meth:`agora.Client.run`; handlers are called here, in the thread that
        calls this, or in *concurrency* threads if that is more than one.
        """
        turns: Inbox[_Turn | None] = Inbox(bound=concurrency)
        many = ThreadPoolExecutor(concurrency, "agora handler") if concurrency > 1 else None
        with self._background.in_use(), many or nullcontext():
            running = self._background.start(self._run(turns, concurrency))
            try:
                while (turn := self._background.wait(turns.get)) is not None:
                    many.submit(turn.take) if many else turn.take()
            except BaseException:
                running.cancel()
                raise
            running.result()

    async def _run(self, turns: Inbox[_Turn | None], concurrency: int) -> None:
        _turns.set(turns)  # for the tasks of this run alone
        try:
            await self._original.run(concurrency=concurrency)
        finally:
            turns.put_nowait(None)

    allow = _doing(asynchronous.Client.allow, _as_it_is)
    ignore = _doing(asynchronous.Client.ignore, _as_it_is)
    watch = _doing(asynchronous.Client.watch, _as_it_is)

    @_like(asynchronous.Client.listen)
    def listen(self, listener: Callable[[ClientEvent], object]) -> Callable[[], None]:
        return self._original.listen(listener)

    @_like(asynchronous.Client.events)
    def events(self) -> Iterator[ClientEvent]:
        source = self._original.events()
        return iter(lambda: self._background.wait(lambda: _next(source)), None)


@dataclass(frozen=True, slots=True)
class _Turn:
    """A handler's turn, on its way from the background to the thread that takes it."""

    handler: Handler
    message: Message
    context: Context | None
    over: concurrent.futures.Future[Exception | None] = field(
        default_factory=concurrent.futures.Future
    )

    def take(self) -> None:
        """Call the handler, and tell what it raised, unless nobody waits for it any more."""
        if not self.over.set_running_or_notify_cancel():
            return
        try:
            if self.context is None:
                self.handler(self.message)
            else:
                self.context.run(self.handler, self.message)
        except Exception as error:
            self.over.set_result(error)
        else:
            self.over.set_result(None)


_turns: ContextVar[Inbox[_Turn | None]] = ContextVar("turns")
"""Where the handlers of the current run wait for their turn."""
