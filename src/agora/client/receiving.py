"""What a client receives: judged, handed over in order, and acked when the application is done."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Self, assert_never
from weakref import WeakSet

from agora.client.events import ClientEvent, ContactRequest, Trouble, Withheld
from agora.client.inbox import Inbox
from agora.client.message import Answer, Handling, Message
from agora.client.requests import Requests
from agora.envelope import Envelope
from agora.errors import AgoraError
from agora.frames import MAX_NACK_DELAY
from agora.keys import PeerId
from agora.protocol.client import consent
from agora.protocol.client.acknowledger import Acknowledger
from agora.protocol.client.consent import ContactPolicy, Guard
from agora.protocol.client.intake import Intake
from agora.protocol.client.outbox import Outbox
from agora.protocol.client.scribe import Scribe
from agora.protocol.client.seen import SeenStore
from agora.protocol.client.timing import Timing
from agora.protocol.rates import TokenBucket

__all__ = ["Handler", "Messages", "Receiving", "make_intake"]

_log = logging.getLogger("agora.client")

Handler = Callable[[Message], Awaitable[object]]


class Messages:
    """
    The messages as they come. To ask for the next one acks the one before.

    Several may be read at a time, each by its own reader; each message goes to one of them.
    """

    def __init__(self, receiving: Receiving) -> None:
        self._receiving = receiving
        self._last: Message | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        if self._last is not None:
            await self._last.ack()
        self._last = None
        self._last = await self._receiving.next()
        return self._last


def make_intake(
    seen: SeenStore,
    *,
    outbox: Outbox,
    scribe: Scribe,
    guard: Guard,
    timing: Timing,
    wake: Callable[[], None],
    emit: Callable[[ClientEvent], None],
) -> Intake:
    """Return an intake that tells senders what became of their messages, if they may know."""

    def admits(sender: PeerId) -> bool:
        is_open = guard.policy is ContactPolicy.OPEN
        return sender not in guard.ignored and (is_open or guard.knows(sender))

    rate = TokenBucket(
        capacity=_ACKNOWLEDGEMENTS, window=_ACKNOWLEDGEMENTS_WITHIN, now=time.monotonic()
    )
    acknowledger = Acknowledger(outbox, scribe, rate=rate, clock=time.monotonic, admits=admits)
    return Intake(
        seen,
        timing=timing,
        acknowledge=acknowledger.acknowledge,
        wake=wake,
        complain=lambda error: emit(Trouble(error)),
    )


_ACKNOWLEDGEMENTS = 100
"""Signed acknowledgements that are sent at once, at most, …"""

_ACKNOWLEDGEMENTS_WITHIN = 10.0
"""… and again within so many seconds: half of what relays take from a key."""


class Receiving:
    """
    Everything between the protocol core and the application's loop or handlers.

    Args:
        inbox: Where messages wait to be read.
        intake: Keeps what is not settled.
        guard: Judges what comes.
        requests: Takes replies out of what comes.
        answer: Sends an answer.
        emit: Called with what happens besides messages.
        continued: Surrounds the handling of a message.
    """

    def __init__(
        self,
        inbox: Inbox[Message],
        *,
        intake: Intake,
        guard: Guard,
        requests: Requests,
        answer: Answer,
        emit: Callable[[ClientEvent], None],
        continued: Callable[[Message], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._continued = continued
        self._inbox = inbox
        self._intake = intake
        self._guard = guard
        self._requests = requests
        self._answer = answer
        self._emit = emit
        self._handlers: dict[str | None, Handler] = {}
        self._aside: dict[PeerId, list[Message]] = {}
        self._begun: WeakSet[Handling] = WeakSet()

    @property
    def is_busy(self) -> bool:
        """Whether the application has a message that it is not done with."""
        return any(handling.is_at_work for handling in self._begun)

    async def next(self) -> Message:
        """
        Return the next message; waits for one.

        Raises:
            StopAsyncIteration: When the client was closed.
            AgoraError: When it has ended with this.
        """
        message = await self._inbox.get()
        self._begun = WeakSet(handling for handling in self._begun if handling.is_at_work)
        self._begun.add(message._handling)
        message._handling.begin()
        return message

    # What comes

    def take(self, envelope: Envelope, name: str | None, traceparent: str | None = None) -> None:
        """Give a message to the request it answers, or else to the inbox, if it may pass."""
        handling = Handling(envelope, self._intake, self._answer)
        message = Message(envelope, name, handling, traceparent)
        if self._requests.take(message):
            message._handling.ack()
            return
        verdict = self._guard.judge(envelope, now=time.monotonic())
        match verdict:
            case consent.Admit():
                self._hand_over(message)
            case consent.Ask():
                self._put_aside(message)
            case consent.Withheld(reason):
                message._handling.give_up()
                self._emit(Withheld(envelope, reason))
            case consent.Later(retry_after, reason):
                message._handling.nack(retry_after)
                self._emit(Withheld(envelope, reason))
            case _:
                assert_never(verdict)

    def _hand_over(self, message: Message) -> None:
        self._inbox.put_nowait(message, size=len(message.envelope.canonical))

    # Strangers

    def _put_aside(self, message: Message) -> None:
        """Keep a stranger's message until somebody has decided; of too many the relay does."""
        if sum(map(len, self._aside.values())) >= _MAX_ASIDE:
            message._handling.nack(MAX_NACK_DELAY)
            return
        is_first = message.sender not in self._aside
        self._aside.setdefault(message.sender, []).append(message)
        if is_first:
            self._emit(ContactRequest(message.envelope, message.name))

    def allow(self, peer: PeerId) -> None:
        """Let a peer write, and hand over what it has written."""
        self._guard.allow(peer)
        for message in self._aside.pop(peer, []):
            self._hand_over(message)

    def ignore(self, peer: PeerId) -> None:
        """Hear nothing from a peer, nor what it has written."""
        self._guard.ignore(peer)
        for message in self._aside.pop(peer, []):
            message._handling.give_up()

    # Handlers

    def on(self, type: str | None, handler: Handler) -> None:
        """Have *handler* take the messages of a type; None is all that have none of their own."""
        self._handlers[type] = handler

    async def run(self, concurrency: int) -> None:
        """Hand every message to its handler until the inbox ends."""
        places = asyncio.Semaphore(concurrency)
        refusal: AgoraError | None = None
        async with asyncio.TaskGroup() as group:
            try:
                while True:
                    await places.acquire()  # before the next: what was taken is handled
                    message = await self.next()
                    task = group.create_task(self._handle(message))
                    task.add_done_callback(lambda _: places.release())
            except StopAsyncIteration:
                pass
            except AgoraError as error:  # raised as it is below, not inside an exception group
                refusal = error
        if refusal is not None:
            raise refusal

    async def _handle(self, message: Message) -> None:
        handler = self._handlers.get(message.type) or self._handlers.get(None)
        if handler is None:
            _log.debug("no handler", extra={"fields": {"type": message.type, "id": message.id}})
            message._handling.ack()  # nobody here will ever want it
            return
        try:
            with self._continued(message):
                await handler(message)
        except Exception as error:
            _log.exception("handler failed", extra={"fields": {"id": message.id}})
            message._handling.nack(None)
            self._emit(Trouble(error))
        else:
            message._handling.ack()


_MAX_ASIDE = 200
"""Messages of strangers kept here until somebody decides: most of a relay's window of 256."""
