"""
``/v1/events``: mail and presence as server-sent events, for as long as the client listens.

Receipts and errors come too, of what was sent and was answered before they were known. An
event's data is the frame that the node wrote. Each has an id, by which a client that
comes back is told what it has not got, and spared the rest. A client behind a proxy that
holds a stream back asks for the same in answers that end (``wait``).

Source: WHATWG HTML, section 9.2, Server-sent events.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated

from litestar import get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter, QueryParameter
from litestar.types import ASGIApp, Receive, Scope, Send

from agora.codes import CloseCode, ErrorCode
from agora.frames import WATCH_ALL, WATCH_NONE, Watched
from agora.keys import is_peer_id
from agora.relay.http import shapes
from agora.relay.http.api import until_gone
from agora.relay.http.callers import AnyRequest, ThisDoor, ThisToken, address_of, is_head
from agora.relay.http.errors import ApiError
from agora.relay.http.postbox import Postbox, Reader
from agora.relay.http.sessions import HttpSession

__all__ = ["HEARTBEAT_EVERY", "ROUTES"]


_LONGEST_WAIT = 86_400
"""Seconds that a long poll may ask for; the relay's own bound on them is `http_max_wait`."""


@get(
    "/v1/events",
    responses={200: ResponseSpec(shapes.Message, description="", media_type="text/event-stream")},
)
async def events(
    request: AnyRequest,
    door: ThisDoor,
    token: ThisToken,
    presence: Annotated[
        str,
        QueryParameter(
            description="Whose presence to tell: `all`, `none`, or peer ids with commas between."
        ),
    ] = "all",
    wait: Annotated[
        float,
        QueryParameter(
            ge=0,
            le=_LONGEST_WAIT,
            description="Long poll, for where streams do not get through: the answer ends behind "
            "the first events, or after so many seconds without. Left out: a stream that goes on.",
        ),
    ] = 0.0,
    receives: Annotated[
        bool,
        QueryParameter(
            name="receive",
            description="Whether to get mail; who gets none is not online by this.",
        ),
    ] = True,
    last_event_id: Annotated[
        str,
        HeaderParameter(
            name="Last-Event-ID",
            description="The id that came last, to go on behind it; where that cannot be, `missed` "
            "comes first.",
        ),
    ] = "",
) -> ASGIApp:
    """
    Get mail and presence as server-sent events.

    The section `Events` has the events and their data. A message comes once in a stream, and
    again in the next one until it is acked, unless that begins behind its id.
    """
    if is_head(request):
        return _begun
    asked = _Asked(_read_watched(presence), receives, last_event_id)
    if "wait" not in request.query_params:  # null, which a URL can say too, is no number
        return _Events(door, token, address_of(request), asked)
    at_most = min(wait, door.config.http_max_wait)
    return _Poll(door, token, address_of(request), asked, at_most)


ROUTES = (events,)


async def _begun(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer HEAD: with how a stream begins."""
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await _send_some(send, "", is_last=True)


def _read_watched(text: str) -> Watched:
    if text == "all":
        return WATCH_ALL
    if text == "none":
        return WATCH_NONE
    peers = [one.strip() for one in text.split(",")]
    if not all(map(is_peer_id, peers)):
        said = 'Invalid message: "presence" is neither "all" nor "none" nor peer ids'
        raise ApiError(ErrorCode.INVALID_MESSAGE, said)
    return Watched(peers=frozenset(peers))  # type: ignore[arg-type]  # checked just now


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which events are asked for."""

    watched: Watched
    receives: bool
    last_event_id: str


@dataclass(frozen=True, slots=True)
class _Start:
    """Behind which number a client goes on, and why something before that is *missed*, if so."""

    after: int | None
    missed: str = ""

    @property
    def told(self) -> str:
        """The event that says so."""
        return f'event: missed\ndata: {{"reason":"{self.missed}"}}\n\n' if self.missed else ""


class _Events:
    """One stream, as the ASGI application that writes it."""

    def __init__(
        self,
        door: ThisDoor,
        token: ThisToken,
        address: str,
        asked: _Asked,
    ) -> None:
        self._door = door
        self._token = token
        self._address = address
        self._asked = asked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write events until the client, the session, the token or the relay ends it."""
        with self._listening(waits=True) as (session, postbox):
            start = self._start(postbox)
            reader = postbox.reader(self._asked.watched, after=start.after)
            with postbox.reading(reader), session.watch(postbox, reader):
                await self._begin(postbox, reader, start, send)
                await self._write(postbox, reader, receive, send)

    def _listening(self, *, waits: bool) -> AbstractContextManager[tuple[HttpSession, Postbox]]:
        """Have a session that tells of events, as one of the requests that wait if it does."""
        receives = self._asked.receives
        return self._door.listening(self._token, self._address, receives=receives, waits=waits)

    def _start(self, postbox: Postbox) -> _Start:
        """Return where the client goes on: an id of another session says nothing here."""
        if not self._asked.last_event_id:
            return _Start(None)
        session, _, text = self._asked.last_event_id.partition("-")
        if session != _short(postbox) or not (text.isdecimal() and len(text) < 20):
            return _Start(None, missed="unknown")
        number = int(text)
        if postbox.knows(number):
            return _Start(number)
        is_ahead = number > postbox.last
        return _Start(None, "unknown") if is_ahead else _Start(number, "overflow")

    async def _begin(self, postbox: Postbox, reader: Reader, start: _Start, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        # Something at once: who waits for it knows that nobody holds the stream back.
        first = f"retry: {_RETRY_MS}\nid: {_short(postbox)}-{postbox.start_of(reader)}\n\n"
        await _send_some(send, first + start.told)

    async def _write(self, postbox: Postbox, reader: Reader, receive: Receive, send: Send) -> None:
        async with asyncio.TaskGroup() as group:
            gone = group.create_task(until_gone(receive))
            gone.add_done_callback(lambda task: postbox.changed.set())
            try:
                while not (gone.done() or self._is_over(postbox)):
                    postbox.changed.clear()
                    if text := _next(postbox, reader):
                        await _send_some(send, text)
                    elif not await self._wait(postbox):
                        await _send_some(send, _HEARTBEAT)
                if not gone.done():
                    await _send_some(send, self._goodbye(postbox), is_last=True)
            finally:
                gone.cancel()

    def _is_over(self, postbox: Postbox) -> bool:
        has_expired = time.time() >= self._token.exp
        return self._door.is_stopping or has_expired or not postbox.is_open

    async def _wait(self, postbox: Postbox) -> bool:
        """Wait for something to happen; False when nothing has for a while."""
        at_most = max(0.0, min(HEARTBEAT_EVERY, self._token.exp - time.time()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most):
                await postbox.changed.wait()
                return True
        return False

    def _goodbye(self, postbox: Postbox) -> str:
        """Return the last event: why there is no more."""
        code = postbox.close_code
        if code is None:
            code = CloseCode.GOING_AWAY if self._door.is_stopping else CloseCode.NORMAL
        return f'event: closed\ndata: {{"code":{int(code)},"reason":"{code.name.lower()}"}}\n\n'


class _Poll(_Events):
    """A response that ends behind the first events."""

    def __init__(
        self,
        door: ThisDoor,
        token: ThisToken,
        address: str,
        asked: _Asked,
        wait: float,
    ) -> None:
        super().__init__(door, token, address, asked)
        self._at_most = wait

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write what there is, or what comes next."""
        with self._listening(waits=self._at_most > 0) as (session, postbox):
            start = self._start(postbox)
            reader = postbox.reader(self._asked.watched, after=start.after)
            is_resumed = start.after is not None and not start.missed
            with postbox.reading(reader):
                session.watch_on(postbox, reader, is_resumed=is_resumed)
                await self._door.settle()  # what is in the mailbox is on its way
                await self._begin(postbox, reader, start, send)
                at_most = 0.0 if start.missed else self._at_most
                await self._write_next(postbox, reader, at_most, receive, send)

    async def _write_next(
        self, postbox: Postbox, reader: Reader, at_most: float, receive: Receive, send: Send
    ) -> None:
        async with asyncio.TaskGroup() as group:
            gone = group.create_task(until_gone(receive))
            gone.add_done_callback(lambda task: postbox.changed.set())
            text = ""
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(at_most):
                    while not (gone.done() or self._is_over(postbox)):
                        postbox.changed.clear()
                        if text := _next(postbox, reader):
                            break
                        await postbox.changed.wait()
            if not gone.done():
                is_end = not text and self._is_over(postbox)
                await _send_some(send, self._goodbye(postbox) if is_end else text, is_last=True)
            gone.cancel()


def _next(postbox: Postbox, reader: Reader) -> str:
    """Return the events that wait for *reader*, as far as they go out at once."""
    return "".join(
        [
            f"id: {_short(postbox)}-{number}\nevent: {_kind(text)}\ndata: {text}\n\n"
            for number, text in postbox.take(reader, at_most=_WRITE_AT_ONCE)
        ]
    )


def _kind(text: str) -> str:
    return text[9 : text.find('"', 9)]  # every frame begins with {"type":"


def _short(postbox: Postbox) -> str:
    return postbox.session.partition("-")[0]


async def _send_some(send: Send, text: str, *, is_last: bool = False) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": not is_last})


_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx, and those like it: pass it on as it comes
]

_HEARTBEAT = ": still here\n\n"

HEARTBEAT_EVERY = 15.0
"""Seconds of silence before a comment: less than any proxy waits."""

_RETRY_MS = 1_000
"""How long a browser waits before it comes back."""

_WRITE_AT_ONCE = 65_536
"""Bytes of mail that are handed over before it is asked whether they have gone."""
