"""
HTTP requests that do as a WebSocket: frames are sent as requests, and come as events.

What is asked when, and what an answer means, is decided in
:mod:`agora.protocol.client.http`; here, and in ``http_events``, is what waits.
Everything about proxies, headers and TLS is the ``httpx2`` library's.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import httpx2

from agora.client.http_events import HttpEvents
from agora.client.http_requests import ask, authorization, cause_of, words
from agora.client.transport import (
    ConnectionLostError,
    TransportName,
    TransportOptions,
    tls_context,
    why,
)
from agora.codes import ABNORMAL_CLOSE, CloseCode
from agora.errors import AgoraError, ConfigurationError, NotConnectedError
from agora.protocol.client.handshake import Handshake
from agora.protocol.client.http import Answer, Call, Exchange, Renewal, leave_call
from agora.protocol.client.timing import Timing

__all__ = ["HttpTransport", "open_http"]

ProveAgain = Callable[[], Awaitable[Handshake]]
"""Makes what proves our key anew, when the relay does not take our token any more."""

_ANSWER = 30.0
"""Seconds for an answer; a relay knows what became of a message within its ack timeout."""

_KEEP_ALIVE = 4.0
"""Seconds that a connection is kept without a request: servers close theirs after five."""

_CLOSE_TIMEOUT = 2.0
"""Seconds for the last words, and again as many for the goodbye."""


async def open_http(
    url: str, options: TransportOptions, *, timing: Timing, prove_again: ProveAgain
) -> HttpTransport:
    """
    See that a relay answers at *url*, and begin to talk with it.

    Raises:
        ConfigurationError: When trying again would not help: a certificate that does not
            verify, authorities that cannot be read, or a proxy that is none.
        NotConnectedError: When nobody answers, or not as a relay does.
    """
    client = _make_client(url, options)
    try:
        async with asyncio.timeout(options.open_timeout):
            answer = await ask(client, "GET", _CLOSED_DOOR, most=options.max_answer_bytes)
        if answer.error is None:
            raise NotConnectedError(f"{url} answered HTTP {answer.status}, not as a relay does")
    except (httpx2.HTTPError, OSError) as error:
        await client.aclose()
        raise _explained(url, error) from error
    except BaseException:
        await client.aclose()
        raise
    return HttpTransport(client, options, timing=timing, prove_again=prove_again)


_CLOSED_DOOR = "v1/peers"
"""What a relay does not tell without a token; that it says so, shows that it is one."""


def _make_client(url: str, options: TransportOptions) -> httpx2.AsyncClient:
    settings: dict[str, Any] = {"proxy": options.proxy} if isinstance(options.proxy, str) else {}
    context = tls_context(url, options) or _trusting_nobody()
    try:
        return httpx2.AsyncClient(
            base_url=url,
            verify=context,
            trust_env=options.proxy is True,
            headers={"user-agent": "agora"} | dict(options.headers),
            timeout=httpx2.Timeout(_ANSWER, connect=options.open_timeout, pool=None),
            # No more connections than requests under way, which are bounded where they are made.
            limits=httpx2.Limits(keepalive_expiry=_KEEP_ALIVE),
            **settings,
        )
    except (ValueError, ImportError, httpx2.InvalidURL) as error:
        # SOCKS needs a library that may be missing.
        raise ConfigurationError(f"cannot use the proxy {options.proxy}: {error}") from error


def _trusting_nobody() -> ssl.SSLContext:
    """
    Return what plain HTTP is given for TLS, of which it has none.

    Else the library reads all authorities of the system at each connection, while the loop waits.
    """
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _explained(url: str, error: Exception) -> AgoraError:
    if (bad := cause_of(error, ssl.SSLCertVerificationError)) is not None:
        return ConfigurationError(f"the certificate of {url} does not verify: {bad.verify_message}")
    return NotConnectedError(f"no relay at {url}: {why(url, cause_of(error, OSError) or error)}")


class HttpTransport:
    """A conversation by HTTP, as a :class:`~agora.client.transport.Transport`."""

    name = TransportName.HTTP

    def __init__(
        self,
        client: httpx2.AsyncClient,
        options: TransportOptions,
        *,
        timing: Timing,
        prove_again: ProveAgain,
    ) -> None:
        self._client = client
        self._options = options
        self._prove_again = prove_again
        self._is_proving = False
        self._exchange = Exchange()
        self._events = HttpEvents(
            client,
            self._exchange,
            timing=timing,
            max_event_bytes=options.max_answer_bytes,
            stir=self._stir,
            until=self._until,
        )
        self._stirred = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._live(), name="agora http")

    # For the link

    async def send(self, text: str) -> None:
        """Have a frame asked for; the requests are made beside this."""
        self._refuse_lost()
        watched = self._exchange.watched
        self._exchange.say(text, now=time.monotonic())
        if self._exchange.watched != watched and self._exchange.token is not None:
            self._events.reopen()
        self._stir()

    async def receive(self) -> str:
        """Return the next frame."""
        frames = self._exchange.frames
        await self._until(lambda: bool(frames) or self._exchange.loss is not None)
        if not frames:
            self._refuse_lost()
        self._stir()  # there is room again
        return frames.popleft()

    async def close(self) -> None:
        """Say what is to be said of what came, and goodbye."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self._until(lambda: self._exchange.is_settled)
        # Without a goodbye the relay takes us to be there for half a minute more.
        with suppress(TimeoutError, httpx2.HTTPError, OSError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                if self._exchange.token is not None:
                    await self._call(leave_call())
        self._lose(CloseCode.NORMAL, "")
        self.abort()

    def abort(self) -> None:
        """Let go of all connections."""
        self._task.cancel()

    async def wait_closed(self) -> None:
        """Wait until they are gone."""
        await asyncio.wait([self._task])

    def _refuse_lost(self) -> None:
        if (loss := self._exchange.loss) is not None:
            raise ConnectionLostError(loss.code, loss.reason, loss.retry_after)

    def _lose(self, code: int, reason: str) -> None:
        self._exchange.lose(code, reason)
        self._stir()

    # Who waits for what

    def _stir(self) -> None:
        """Something has changed: let everyone look who waits."""
        self._stirred.set()
        self._stirred = asyncio.Event()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._stirred.wait()

    # Requests

    async def _live(self) -> None:
        """Make the requests that are to be made, until the exchange is over."""
        try:
            async with asyncio.TaskGroup() as group:
                events = group.create_task(self._events.follow())
                while self._exchange.loss is None:
                    for call in self._exchange.next_calls():
                        group.create_task(self._make(call))
                    if self._exchange.needs_proof and not self._is_proving:
                        self._is_proving = True
                        group.create_task(self._prove())
                    await self._stirred.wait()
                events.cancel()
        finally:
            self._lose(ABNORMAL_CLOSE, "")
            await self._client.aclose()

    async def _make(self, call: Call) -> None:
        try:
            answer = await self._call(call)
        except (httpx2.HTTPError, OSError) as error:
            self._exchange.fail(call, words(error))
        else:
            self._exchange.hear(call, answer, now=time.monotonic())
        self._stir()

    async def _call(self, call: Call) -> Answer:
        return await ask(
            self._client,
            call.method,
            call.path,
            body=call.body,
            headers=authorization(self._exchange) if call.needs_token else {},
            most=self._options.max_answer_bytes,
        )

    async def _prove(self) -> None:
        """Register anew, for another token; whatever goes wrong ends the conversation."""
        try:
            renewal = Renewal(await self._prove_again())
            while (call := renewal.next_call) is not None:
                renewal.hear(await self._call(call))
            self._exchange.renew(renewal.token)
        except (AgoraError, httpx2.HTTPError, OSError) as error:
            self._lose(CloseCode.TRY_AGAIN_LATER, f"the token was refused, and we too: {error}")
        finally:
            self._is_proving = False
            self._stir()
