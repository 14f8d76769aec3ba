"""
What a relay tells its operator: asked for by HTTP with the admin token, read by its shape.

One plain request, to the host that was named and to no other: the token follows no
redirect and no proxy.
"""

from __future__ import annotations

import http.client
import ssl
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import msgspec

from agora.cli.exits import NoFiguresError, StrangeAnswerError
from agora.errors import ConfigurationError, RefusedError

__all__ = ["Mailboxes", "Overview", "Peer", "Source"]


# Its shape: what is shown of it; other members are left out


class _Shape(msgspec.Struct, rename="camel"):
    pass


class Rates(_Shape):
    """How much happens in a second."""

    messages: float
    errors: float
    bytes: float


class Totals(_Shape):
    """How much has happened since the start."""

    messages: dict[str, int]
    errors: dict[str, int]


class History(_Shape):
    """The last hour, in steps of some seconds."""

    step: int
    until: int
    messages: list[int]
    errors: list[int]
    stored: list[int]
    peers: list[int]


class Waiting(_Shape):
    """What one mailbox holds."""

    peer: str
    messages: int
    bytes: int
    oldest_ms: int


class Mailboxes(_Shape):
    """What all mailboxes hold, and the largest of them."""

    count: int
    messages: int
    bytes: int
    oldest_ms: int
    largest: list[Waiting]


class Peer(_Shape):
    """One that is online."""

    public_key: str
    sessions: int
    door: str
    since: int
    name: str | None = None


class RecentError(_Shape):
    """An error that somebody was answered with."""

    at: int
    code: str
    peer: str | None = None


class Overview(_Shape):
    """All that is shown."""

    relay: str
    version: str
    now: int
    started_at: int
    connections: int
    sessions: int
    peers_online: int
    rates: Rates
    totals: Totals
    history: History
    peers: list[Peer]
    recent_errors: list[RecentError]
    mailboxes: Mailboxes | None = None
    core: str = ""


# How it is asked for


@dataclass(frozen=True)
class Source:
    """
    Where the overview of a relay is.

    Attributes:
        url: The relay's HTTP API.
        token: Its admin token.
        ca_file: Further authorities to trust, a PEM file.
        timeout: Seconds to wait for it.
    """

    url: str
    token: str
    ca_file: str | None = None
    timeout: float = 5.0

    def __post_init__(self) -> None:
        if not _is_url_of_http(self.url):
            raise ConfigurationError(f"{self.url!r} is no URL of HTTP (http://… or https://…)")
        if not self.token.isascii() or not self.token.isprintable():
            raise ConfigurationError("the token has characters that no HTTP header can have")

    def fetch(self) -> bytes:
        """
        Return the overview as JSON.

        Raises:
            NoFiguresError: When nothing answers.
            RefusedError: When the relay wants another token.
            StrangeAnswerError: When it is no relay that answers.
        """
        try:
            status, body = self._ask()
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise NoFiguresError(
                f"no relay answers at {self.url}: {why}; --url names another place"
            ) from error
        if status == http.HTTPStatus.UNAUTHORIZED:
            text = (
                f"the relay at {self.url} wants its admin token: give --token or "
                "AGORA_ADMIN_TOKEN; without a setting of that name it makes one at each start, "
                "and prints it"
            )
            raise RefusedError("unauthorized", text)
        if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR or status == _TOO_MANY:
            raise NoFiguresError(f"the relay at {self.url} cannot answer now: HTTP {status}")
        if status != http.HTTPStatus.OK:
            raise StrangeAnswerError(
                f"what answers at {self.url} is not the HTTP of a relay: HTTP {status}; "
                "--url names another place"
            )
        return body

    def read(self, body: bytes) -> Overview:
        """
        Return what *body* says.

        Raises:
            StrangeAnswerError: When it is no overview.
        """
        try:
            return msgspec.json.decode(body, type=Overview)
        except msgspec.MsgspecError as error:
            raise StrangeAnswerError(
                f"what answers at {self.url} is no relay of this version: {error}"
            ) from error

    @property
    def _place(self) -> SplitResult:
        return urlsplit(self.url)

    def _ask(self) -> tuple[int, bytes]:
        connection = self._connect()
        path = f"{self._place.path.rstrip('/')}/admin/overview"
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json"}
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(_MAX_BYTES)
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._place.hostname or "", self._place.port
        if self._place.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=self.timeout)
        context = ssl.create_default_context()
        if self.ca_file:
            context.load_verify_locations(self.ca_file)
        return http.client.HTTPSConnection(host, port, timeout=self.timeout, context=context)


def _is_url_of_http(url: str) -> bool:
    try:
        place = urlsplit(url)
        return place.scheme in ("http", "https") and bool(place.hostname) and place.port != 0
    except ValueError:  # a bracket that is not closed, a port that is no number
        return False


_TOO_MANY = http.HTTPStatus.TOO_MANY_REQUESTS

_MAX_BYTES = 4 * 1024 * 1024
"""An overview has some hundred kilobytes at most."""
