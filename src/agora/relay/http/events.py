"""
``/v1/events``: mail and presence as server-sent events, for as long as the client listens.

An event's data is the frame that the node wrote. Mail has an id, by which a
client that comes back is spared what it has already; presence has none, as its
present state is told at the beginning.

Source: WHATWG HTML, section 9.2, Server-sent events.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
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
from agora.relay.http.callers import AnyRequest, ThisDoor, ThisToken, address_of
from agora.relay.http.errors import ApiError
from agora.relay.http.postbox import Postbox, Reader

__all__ = ["ROUTES"]


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
            description="Whose presence to tell: `all`, `none`, or peer ids, by commas."
        ),
    ] = "all",
    last_event_id: Annotated[
        str,
        HeaderParameter(name="Last-Event-ID", description="The id of the event that came last."),
    ] = "",
) -> ASGIApp:
    """Get mail and presence as server-sent events."""
    return _Events(door, token, address_of(request), _read_watched(presence), last_event_id)


ROUTES = (events,)


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


class _Events:
    """One stream, as the ASGI application that writes it."""

    def __init__(
        self,
        door: ThisDoor,
        token: ThisToken,
        address: str,
        watched: Watched,
        last_event_id: str,
    ) -> None:
        self._door = door
        self._token = token
        self._address = address
        self._watched = watched
        self._last_event_id = last_event_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write events until the client, the session, the token or the relay ends it."""
        session = self._door.sessions.of(self._token)
        with session.receive(self._address) as postbox:
            reader = Reader(self._resumed(postbox), self._watched)
            with postbox.reading(reader), session.watch(postbox, reader):
                await self._write(postbox, reader, receive, send)

    def _resumed(self, postbox: Postbox) -> int:
        """Return what the client has got of this session's mail; of another's it is unknown."""
        session, _, number = self._last_event_id.partition("-")
        is_known = session == _short(postbox) and number.isdecimal() and len(number) < 20
        return int(number) if is_known else 0

    async def _write(self, postbox: Postbox, reader: Reader, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await _send_some(send, f"retry: {_RETRY_MS}\n\n")
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
        at_most = max(0.0, min(_HEARTBEAT_EVERY, self._token.exp - time.time()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most):
                await postbox.changed.wait()
                return True
        return False

    def _goodbye(self, postbox: Postbox) -> str:
        """Return the last event: what is still to be given, and why there is no more."""
        code = postbox.close_code
        if code is None:
            code = CloseCode.GOING_AWAY if self._door.is_stopping else CloseCode.NORMAL
        return f'event: closed\ndata: {{"code":{int(code)},"reason":"{code.name.lower()}"}}\n\n'


def _next(postbox: Postbox, reader: Reader) -> str:
    """Return the events that wait for *reader*, as far as they go out at once."""
    texts = [f"event: presence\ndata: {one}\n\n" for one in reader.take()]
    given, size = [], 0
    for letter in postbox.letters(after=reader.last):
        if size > _WRITE_AT_ONCE:
            break
        given.append(letter)
        size += len(letter.text)
        texts.append(
            f"id: {_short(postbox)}-{letter.number}\nevent: message\ndata: {letter.text}\n\n"
        )
        reader.last = letter.number
    postbox.give(given)
    return "".join(texts)


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

_HEARTBEAT_EVERY = 15.0
"""Seconds of silence before a comment: less than any proxy waits."""

_RETRY_MS = 1_000
"""How long a browser waits before it comes back."""

_WRITE_AT_ONCE = 65_536
"""Bytes of mail that are handed over before it is asked whether they have gone."""
