"""
Events by HTTP: in one response that goes on, or in long polls where a proxy holds that back.

A stream that a proxy buffers looks like one on which nothing happens. A relay
begins each with an event at once, and sends a sign of life now and then; where these
do not come in time, polls do: the same events, in responses that end.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from enum import Enum, auto

import httpx2

from agora.client.http_requests import authorization, read_answer, words
from agora.protocol.client.http import Exchange, events_query
from agora.protocol.client.timing import Timing

__all__ = ["HttpEvents"]

_POLL = 25.0
"""Seconds that a poll waits for an event: many a proxy gives a silent request up after thirty."""

_SILENCE = 40.0
"""Seconds without a sign of life after which a response counts as dead."""

_PAUSE = 0.1
"""Seconds before a stream that ended is opened again: whoever ended it may do so each time."""

_ATTEMPTS = 2
"""How often in a row a response may fail to come before the relay counts as gone."""

_MOST_UNREAD = 512
"""Frames that wait to be read; then no more events are taken."""


class _End(Enum):
    """How a response of events ended."""

    OVER = auto()
    """As it should, or we ended it."""
    CUT = auto()
    """It had begun, and the connection failed."""
    HELD_BACK = auto()
    """Nothing came in time."""
    REFUSED = auto()
    """There were no events in it."""
    BROKEN = auto()
    """It did not begin: the connection failed."""


class HttpEvents:
    """
    Brings the events of one conversation.

    Args:
        client: Makes the requests.
        exchange: Is told of the events.
        timing: How long the first event of a stream may take.
        max_event_bytes: Largest event taken.
        stir: Called when the exchange was told something.
        until: Waits until something holds of the exchange.
    """

    def __init__(
        self,
        client: httpx2.AsyncClient,
        exchange: Exchange,
        *,
        timing: Timing,
        max_event_bytes: int,
        stir: Callable[[], None],
        until: Callable[[Callable[[], bool]], Awaitable[None]],
    ) -> None:
        self._client = client
        self._exchange = exchange
        self._timing = timing
        self._max_event_bytes = max_event_bytes
        self._stir = stir
        self._until = until
        self._is_streaming = True
        self._has_begun = False  # whether anything came in the present response
        self._is_to_reopen = False
        self._failures = 0
        self._pause = 0.0
        self._last_id = ""
        self._scope: asyncio.Timeout | None = None

    async def follow(self) -> None:
        """Bring events from the registration on, until cancelled."""
        while True:
            await self._until(lambda: self._exchange.may_ask)
            await self._go_on(await self._listen())
            self._stir()

    def reopen(self) -> None:
        """Ask for events anew: what is asked for has changed."""
        self._is_to_reopen = True
        if self._scope is not None:
            self._scope.reschedule(-math.inf)

    # One response

    async def _listen(self) -> _End:
        """Ask for events, and hand on what comes, until the response ends."""
        if self._is_streaming or self._is_to_reopen:
            self._exchange.expect_state()  # a stream begins with who is there, also a resumed one
        self._has_begun = self._is_to_reopen = False
        patience = self._timing.stream if self._is_streaming else None
        try:
            async with asyncio.timeout(patience) as self._scope:
                return await self._hear_response()
        except TimeoutError:
            return _End.OVER if self._is_to_reopen else _End.HELD_BACK
        except httpx2.ReadTimeout:
            return _End.HELD_BACK
        except (httpx2.HTTPError, OSError) as error:
            if self._has_begun:
                return _End.CUT
            self._count_failure(words(error))
            return _End.BROKEN
        finally:
            self._scope = None

    async def _hear_response(self) -> _End:
        exchange = self._exchange
        async with self._client.sse(
            "v1/events",
            params=events_query(exchange.watched, receives=exchange.receives, wait=self._wait()),
            headers=authorization(exchange) | self._resumption(),
            timeout=httpx2.Timeout(_SILENCE, pool=None),
            max_event_size=self._max_event_bytes,
        ) as source:
            if source.response.status_code != _OK:
                answer = await read_answer(source.response, self._max_event_bytes)
                self._pause = exchange.hear_no_events(answer)
                return _End.REFUSED
            async for event in source:
                self._begin(event.id)
                exchange.hear_event(event.event, event.data, now=time.monotonic())
                self._stir()
                await self._until(lambda: len(exchange.frames) < _MOST_UNREAD)
        return _End.OVER

    def _wait(self) -> float | None:
        """Return how long a poll shall wait; None for a stream."""
        if self._is_streaming:
            return None
        # Before the core hears that it is registered, the relay has to know that we listen.
        return 0.0 if self._exchange.is_to_greet else _POLL

    def _resumption(self) -> dict[str, str]:
        return {"last-event-id": self._last_id} if self._last_id else {}

    def _begin(self, event_id: str) -> None:
        """Something came: what has begun may take as long as it likes."""
        if not self._has_begun and self._scope is not None and not self._is_to_reopen:
            self._scope.reschedule(None)
        self._has_begun = True
        self._failures = 0
        self._exchange.greet()
        if _session_of(event_id) != _session_of(self._last_id):
            self._exchange.note_interrupted()  # the relay begins anew, and knows of no earlier one
        self._last_id = event_id

    # What follows

    async def _go_on(self, end: _End) -> None:
        if end is _End.REFUSED:
            await asyncio.sleep(self._pause)
        elif self._is_streaming:
            await self._go_on_streaming(end)
        elif end is _End.OVER:
            self._exchange.greet()  # what brought no event has got through all the same
        elif end is _End.HELD_BACK:  # the next one is told again what was in the answer
            self._count_failure("no answer came in time")

    async def _go_on_streaming(self, end: _End) -> None:
        if end is _End.HELD_BACK:
            self._is_streaming = False
            self._exchange.expect_state()  # with which the first poll begins, too
        if not self._is_to_reopen:
            await asyncio.sleep(_PAUSE)

    def _count_failure(self, why: str) -> None:
        self._failures += 1
        if self._failures >= _ATTEMPTS:
            self._exchange.lose_contact(why)


def _session_of(event_id: str) -> str:
    """Return what of an event's id is the same for all that can be gone on from."""
    return event_id.partition("-")[0]


_OK = 200
