"""
The connection that comes back: a transport and a clock for one conversation after the other.

One conversation is three tasks: one reads, one writes, one watches the clock.
When it is over all three are, and the next begins after a growing wait.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from agora.client.transport import ConnectionLostError, Transport, TransportName
from agora.client.way_in import WayIn
from agora.errors import (
    AgoraError,
    ConfigurationError,
    MissingExtraError,
    NotConnectedError,
)
from agora.protocol.client.backoff import reconnect_delays
from agora.protocol.client.session import Event, Introduction, Lost, Opened, PeerSession, PeerState

__all__ = ["Link"]


class Link:
    """
    Keeps a client in conversation with its relay.

    Args:
        way_in: Opens connections to the relay, and knows what is said of us there.
        make_session: Makes the core of a conversation that begins now.
        tell: Called with every event, in order, from the link's own task.
        wait_room: Waits until the application can take more, and tells whether it had to;
            meanwhile nothing is read.
        reconnect: Whether to come back after a conversation is over.
    """

    def __init__(
        self,
        way_in: WayIn,
        *,
        make_session: Callable[[Introduction, float], PeerSession],
        tell: Callable[[Event], None],
        wait_room: Callable[[], Awaitable[bool]],
        reconnect: bool,
    ) -> None:
        self.session: PeerSession | None = None
        self.transport: Transport | None = None
        self._way_in = way_in
        self._make_session = make_session
        self._tell_client = tell
        self._wait_room = wait_room
        self._reconnect = reconnect
        self._was_open = False
        self._has_worked = False
        self._is_reading = True
        self._has_heard = False
        self._loss: Lost | None = None
        self._retry_after = 0.0  # seconds for which the relay asked us to stay away
        self._to_send = asyncio.Event()
        self._clock_moved = asyncio.Event()

    async def run(self) -> AgoraError:
        """Converse until a final refusal, and return it; without reconnecting, the first loss."""
        delays = reconnect_delays(random=random.random)
        try:
            while True:
                self._was_open = False
                loss = await self._converse()
                if loss.is_final:
                    return loss.error
                if self._was_open:
                    delays = reconnect_delays(random=random.random)
                await asyncio.sleep(max(next(delays), self._retry_after))
        finally:
            self._way_in.close()

    def wake(self) -> None:
        """There is something to send."""
        self._to_send.set()
        self._clock_moved.set()

    async def _converse(self) -> Lost:
        """Hold one conversation, and return how it ended."""
        self._loss, self._retry_after = None, 0.0
        try:
            transport, introduction = await self._way_in.open()
        except AgoraError as error:
            # What never worked and cannot is said at once; what worked may work again.
            is_wrong = isinstance(error, ConfigurationError | MissingExtraError)
            is_hopeless = is_wrong and not self._has_worked
            self._tell([Lost(error, is_hopeless)])
        else:
            await self._talk(transport, introduction)
        assert self._loss is not None  # told by the session, or just above
        return self._loss

    async def _talk(self, transport: Transport, introduction: Introduction) -> None:
        session = self.session = self._make_session(introduction, time.monotonic())
        self.transport = transport
        self._is_reading = True
        self._has_heard = False
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._read(session, transport)),
                    group.create_task(self._write(session, transport)),
                ]
                if self._reconnect and self._way_in.is_detour(transport):
                    tasks.append(group.create_task(self._move(session, transport)))
                await self._watch_clock(session)
                for task in tasks:
                    task.cancel()
        except asyncio.CancelledError:
            await self._say_goodbye(session, transport)
            raise
        finally:
            # Where it ended by itself, nobody is left to wait for a goodbye.
            transport.abort()
            self.session = self.transport = None
            await transport.wait_closed()
        if transport.name is TransportName.WEBSOCKET and not self._has_heard:
            # It opened, and then nothing came through.
            self._way_in.note_blocked(NotConnectedError("the WebSocket was open, but mute"))

    async def _say_goodbye(self, session: PeerSession, transport: Transport) -> None:
        await _close(transport, session.last_frames())

    async def _move(self, session: PeerSession, transport: Transport) -> None:
        """Leave the detour as soon as the straight way is open."""
        await self._way_in.wait_unblocked()
        last_frames = list(session.last_frames())
        self._tell(session.leave(NotConnectedError("the WebSocket works again: moving there")))
        await _close(transport, last_frames)
        self.wake()

    async def _read(self, session: PeerSession, transport: Transport) -> None:
        while session.state is not PeerState.CLOSED:
            try:
                data = await transport.receive()
            except ConnectionLostError as lost:
                self._retry_after = min(lost.retry_after, _LONGEST_STAY)
                self._tell(session.disconnected(lost.code, lost.reason))
            else:
                self._has_heard = True
                self._tell(session.receive(data, now=time.monotonic()))
            self.wake()
            self._is_reading = False
            has_waited = await self._wait_room()
            self._is_reading = True
            if has_waited:
                session.hear(now=time.monotonic())

    async def _write(self, session: PeerSession, transport: Transport) -> None:
        try:
            await transport.send(session.register())
            while session.state is not PeerState.CLOSED:
                self._to_send.clear()
                for text in session.frames_to_send(now=time.monotonic()):
                    await transport.send(text)
                    self._clock_moved.set()
                self._clock_moved.set()  # a rate may hold back the next without a frame written
                await self._to_send.wait()
        except ConnectionLostError:
            pass  # the reader hears of it too, behind what came before the end

    async def _watch_clock(self, session: PeerSession) -> None:
        while session.state is not PeerState.CLOSED:
            self._clock_moved.clear()
            try:
                async with asyncio.timeout(session.next_wake(now=time.monotonic())):
                    await self._clock_moved.wait()
            except TimeoutError:
                if not self._is_reading:
                    session.hear(now=time.monotonic())  # it would not help the relay to answer
                self._to_send.set()
                self._tell(session.tick(now=time.monotonic()))

    def _tell(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Opened):
                self._was_open = self._has_worked = True
                assert self.transport is not None  # it is what we were registered over
                self._way_in.note_opened(self.transport)
            elif isinstance(event, Lost):
                event = self._loss = Lost(event.error, event.is_final or not self._reconnect)
            self._tell_client(event)


async def _close(transport: Transport, last_frames: Iterable[str]) -> None:
    with suppress(ConnectionLostError, TimeoutError):
        async with asyncio.timeout(_LAST_WORDS):
            for text in last_frames:
                await transport.send(text)
    await transport.close()


_LAST_WORDS = 1.0
"""Seconds that a relay has to take our last acks."""

_LONGEST_STAY = 300.0
"""The most that a relay can have us stay away, in seconds."""
