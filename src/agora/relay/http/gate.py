"""
What every request passes before anything looks at it: who asks, how often, from which page.

Around the application, so that its word is on every answer: errors, pages and
what other modules add.
"""

from __future__ import annotations

import contextlib
import ipaddress
import math
from collections.abc import Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any

from agora.codes import ErrorCode
from agora.limits import Limits
from agora.protocol.rates import RateTable
from agora.protocol.relay.budgets import network_of
from agora.relay.config import Network, RelayConfig
from agora.relay.http.errors import ApiError

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Receive, Scope, Send

__all__ = ["Gate", "Rates", "client_address"]

_Headers = list[tuple[bytes, bytes]]


# How often


class Rates:
    """
    How many requests may come: of an address, and of a key.

    Args:
        limits: How many.
        clock: Seconds that only go forward.
    """

    def __init__(self, limits: Limits, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._go_by(limits)
        self._tables = {
            name: RateTable(capacity=count, window=self._window)
            for name, count in self._most.items()
        }

    def _go_by(self, limits: Limits) -> None:
        self._is_enabled = limits.rate_limit_enabled
        self._window = limits.rate_limit_window_ms / 1000
        self._most = {
            "address": limits.rate_limit_max_address_requests,
            "key": limits.rate_limit_max_requests,
        }

    def change_limits(self, limits: Limits) -> None:
        """Go by other limits from now on; what was spent stays spent."""
        self._go_by(limits)
        for name, table in self._tables.items():
            table.change(capacity=self._most[name], window=self._window)

    def spend(self, policy: str, who: str, notes: MutableMapping[str, Any]) -> None:
        """
        Count a request of *who*, and note it for the headers of the answer.

        Raises:
            ApiError: ``rate_limited``.
        """
        if not self._is_enabled:
            return
        now, table, most = self._clock(), self._tables[policy], self._most[policy]
        wait = table.take(who, now=now)
        left = table.left(who, now=now)
        full_in = math.ceil((most - left) * self._window / most)
        told = notes.setdefault("rates", [])
        told.append(
            (
                f'"{policy}";q={most};w={max(1, math.ceil(self._window))}',
                f'"{policy}";r={int(left)};t={full_in}',
            )
        )
        if wait > 0:
            text = f"Rate limit of {most} requests of one {policy} in {self._window:g} s reached"
            retry = max(1, math.ceil(wait * 1000))
            raise ApiError(ErrorCode.RATE_LIMITED, text, retryAfterMs=retry)

    def tick(self) -> None:
        """Forget what no longer matters."""
        now = self._clock()
        for table in self._tables.values():
            table.forget_full(now)


# Who


def client_address(peer: str, forwarded: Iterable[str], proxies: tuple[Network, ...]) -> str:
    """
    Return where a request comes from: what the proxies that are trusted say of it.

    Args:
        peer: The other end of the connection.
        forwarded: The values of its ``X-Forwarded-For`` headers, in order.
        proxies: Who is believed.

    >>> lan = (ipaddress.ip_network("10.0.0.0/8"),)
    >>> client_address("10.0.0.1", ["203.0.113.9, 10.0.0.2"], lan)
    '203.0.113.9'
    >>> client_address("192.0.2.7", ["203.0.113.9"], lan)
    '192.0.2.7'
    """
    hops = [hop.strip() for value in forwarded for hop in value.split(",")]
    # From the right: each proxy adds whom it was asked by, and a stranger may write the rest.
    while hops and _is_in(peer, proxies):
        hop = hops.pop()
        if _ip(hop) is None:
            break
        peer = hop
    return peer


def _is_in(address: str, networks: tuple[Network, ...]) -> bool:
    ip = _ip(address)
    return ip is not None and any(ip.version == one.version and ip in one for one in networks)


def _ip(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return None
    return (ip.ipv4_mapped or ip) if isinstance(ip, ipaddress.IPv6Address) else ip


# The gate


class Gate:
    """
    An ASGI application around another.

    Args:
        app: What is inside.
        config: Whom to believe, and which pages may use the API.
        rates: How many requests may come.
        uncounted: Paths that may be asked for as often as anybody likes.
    """

    def __init__(
        self,
        app: ASGIApp,
        config: RelayConfig,
        rates: Rates,
        uncounted: frozenset[str] = frozenset(),
    ) -> None:
        self._uncounted = uncounted
        self._app = app
        self._rates = rates
        self._proxies = config.proxies
        self._origins = frozenset(config.allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        notes: dict[str, Any] = scope["state"]
        headers: _Headers = scope["headers"]  # type: ignore[assignment]  # uvicorn's is a list
        notes["address"] = self._network_of(scope.get("client"), headers)
        cors = self._cors(headers)

        async def send_through(message: Any) -> None:
            if message["type"] == "http.response.start":
                own: _Headers = message.setdefault("headers", [])
                message["headers"] = [*_completed(own), *cors, *_rate_headers(notes)]
            await send(message)

        if scope.get("method") == "HEAD":
            # As GET says it (RFC 9110 section 9.3.2); that nobody gets the body, its handler knows.
            notes["is_head"] = True
            send = _without_body(send)
            scope = {**scope, "method": "GET"}  # type: ignore[assignment]  # a scope
        try:
            if scope["path"] not in self._uncounted:
                self._rates.spend("address", notes["address"], notes)
            _check_host(scope, headers)
        except ApiError as error:
            await answer(send_through, error.status, error.headers, error.body)
            return
        if scope.get("method") == "OPTIONS" and any(name == _PREFLIGHT for name, _ in headers):
            may_ask = _EXPOSED in cors
            await answer(send_through, 204, _PREFLIGHT_ANSWER if may_ask else {}, b"")
            return
        await self._app(scope, receive, send_through)

    def beside(self, client: tuple[str, int] | None, headers: _Headers) -> _Headers:
        """
        Count a request that the application does not see, and return what goes beside its answer.

        Args:
            client: The other end of the connection.
            headers: Those of the request that could be read.
        """
        notes: dict[str, Any] = {}
        with contextlib.suppress(ApiError):  # it is refused already
            self._rates.spend("address", self._network_of(client, headers), notes)
        return [*_ALWAYS, *self._cors(headers), *_rate_headers(notes)]

    def _network_of(self, client: tuple[str, int] | None, headers: _Headers) -> str:
        """Return where a request comes from, as rates are counted."""
        forwarded = [value.decode("latin-1") for name, value in headers if name == _FORWARDED]
        return network_of(client_address(client[0] if client else "", forwarded, self._proxies))

    def _cors(self, headers: _Headers) -> _Headers:
        """Return what lets the page that asks read the answer, if it may."""
        if "*" in self._origins:
            return [(b"access-control-allow-origin", b"*"), _EXPOSED]
        origin = next((value for name, value in headers if name == b"origin"), b"")
        vary = (b"vary", b"Origin")
        if origin.decode("latin-1") not in self._origins:
            return [vary] if self._origins else []
        return [(b"access-control-allow-origin", origin), vary, _EXPOSED]


def _check_host(scope: Scope, headers: _Headers) -> None:
    """
    Refuse a request that does not say, in one word, whom it is for (RFC 9112 section 3.2).

    Raises:
        ApiError: ``invalid_message``.
    """
    count = sum([name == b"host" for name, _ in headers])
    if count > 1 or (count == 0 and scope["http_version"] == "1.1"):
        text = f"Invalid message: {count} Host headers in place of one"
        raise ApiError(ErrorCode.INVALID_MESSAGE, text)


def _completed(own: _Headers) -> _Headers:
    """Return the headers of an answer with what is on every one."""
    names = {name.lower() for name, _ in own}
    told = [(name, _with_head(value) if name.lower() == b"allow" else value) for name, value in own]
    return told + [pair for pair in _ALWAYS if pair[0] not in names]


def _with_head(methods: bytes) -> bytes:
    """
    Return what ``Allow`` says: whoever answers GET answers HEAD.

    >>> _with_head(b"OPTIONS, GET")
    b'GET, HEAD, OPTIONS'
    """
    found = {one.strip() for one in methods.split(b",")}
    return b", ".join(sorted(found | ({b"HEAD"} if b"GET" in found else set())))


def _without_body(send: Send) -> Send:
    """Return what sends the head of an answer, and ends it where its body would begin."""
    has_ended = False

    async def send_head(message: Any) -> None:
        nonlocal has_ended
        if message["type"] == "http.response.start":
            await send(message)
        elif not has_ended:
            has_ended = True
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return send_head


async def answer(send: Callable[[Any], Any], status: int, headers: Any, body: bytes) -> None:
    """Send one JSON answer, or none where there is no body."""
    typed = {"content-type": "application/json"} if body else {}
    raw = [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, value in {**typed, "content-length": str(len(body)), **headers}.items()
    ]
    if status == 204:
        raw = [pair for pair in raw if pair[0] != b"content-length"]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _rate_headers(notes: MutableMapping[str, Any]) -> _Headers:
    """Return how often may be asked (draft-ietf-httpapi-ratelimit-headers)."""
    told: list[tuple[str, str]] = notes.get("rates", [])
    if not told:
        return []
    policies, states = zip(*told, strict=True)
    return [
        (b"ratelimit-policy", ", ".join(policies).encode()),
        (b"ratelimit", ", ".join(states).encode()),
    ]


_FORWARDED = b"x-forwarded-for"
_PREFLIGHT = b"access-control-request-method"
_EXPOSED = (
    b"access-control-expose-headers",
    b"RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate",
)
_PREFLIGHT_ANSWER = {
    "access-control-allow-methods": "GET, POST, DELETE",
    "access-control-allow-headers": "Authorization, Content-Type, Last-Event-ID, Traceparent",
    "access-control-max-age": "86400",
}
_ALWAYS: _Headers = [(b"x-content-type-options", b"nosniff")]
