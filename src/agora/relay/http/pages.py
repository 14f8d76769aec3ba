"""
The dashboard at ``/`` and the chat at ``/chat``: files of the package, served as they are.

The browser is told what these pages may do before it reads a line of them: load
what this relay serves, talk to this relay, run no script and use no style that
stands in a page. What a stranger's message says can therefore not become code,
whatever mistake a page makes with it.

The files beside the pages are served below a name that is made of all their
bytes. So a browser keeps them for ever, and after an upgrade asks for others;
only the two pages themselves are asked for anew each time.

The rule kept here: what is served is in the table that was read from the
package; no path of a request ever becomes a path of a file.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

from litestar import Request, Response, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler

__all__ = ["PAGE_ROUTES", "POLICY", "SECURITY_HEADERS", "assets_url", "takes_gzip"]

POLICY: Final = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # No text of ours or of anybody's is ever made markup or code.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)
"""What the pages may do (CSP level 3): nothing that did not come from this relay as a file."""

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
}
"""What goes with every page and file; ``nosniff`` goes with every answer, from the gate."""

_FOREVER: Final = "public, max-age=31536000, immutable"
"""A year, which is as long as RFC 9111 has anybody count on; the name changes with the bytes."""

_ASK_AGAIN: Final = "no-cache"
"""Kept, but compared before each use: an upgraded relay has another page at the same address."""

_MEDIA_TYPES: Final = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
"""What is served; a file of any other kind is not. All are UTF-8, which is added to text."""

_ASSETS_MARK: Final = "@assets@"
"""What stands in a page for the address below which the files are."""


@dataclass(frozen=True, slots=True)
class _File:
    """One file, as it is and compressed, and how a browser may keep it."""

    body: bytes
    packed: bytes
    media_type: str
    headers: dict[str, str]

    @property
    def tag(self) -> str:
        """Its entity tag (RFC 9110 section 8.8.3); weak, for both forms have the same."""
        return self.headers["ETag"]

    def response(self, request: Request[Any, Any, Any]) -> Response[bytes]:
        """Answer *request* with it, or say that what the browser has is still right."""
        if self.tag in request.headers.get("If-None-Match", ""):
            return Response(b"", status_code=304, headers=self.headers)
        if not takes_gzip(request.headers.get("Accept-Encoding", "")):
            return Response(self.body, headers=self.headers, media_type=self.media_type)
        headers = {**self.headers, "Content-Encoding": "gzip"}
        return Response(self.packed, headers=headers, media_type=self.media_type)


def takes_gzip(accept_encoding: str) -> bool:
    """
    Tell whether a body may be compressed, by the header of that name (RFC 9110 section 12.5.3).

    >>> takes_gzip("br, gzip"), takes_gzip("gzip;q=0"), takes_gzip("*;q=0.5"), takes_gzip("")
    (True, False, True, False)
    """
    weights = {}
    for one in accept_encoding.lower().split(","):
        coding, *parameters = [part.strip() for part in one.split(";")]
        weights[coding] = not any(map(_IS_NOTHING.fullmatch, parameters))
    return weights.get("gzip", weights.get("*", False))


_IS_NOTHING = re.compile(r"q=0(\.0*)?")
"""The weight of what is not wanted at all."""


@dataclass(frozen=True, slots=True)
class _Shelf:
    """Everything that is served: *pages* by name, *assets* by their path below *digest*."""

    digest: str
    pages: dict[str, _File]
    assets: dict[str, _File]


@cache
def _shelf() -> _Shelf:
    """Read the package's files once, when the first of them is asked for."""
    found = dict(sorted(_walk(files("agora.relay.http") / "pages")))
    # Names and bytes, each with its length before it: no two trees can give the same digest.
    parts = (b"%d:%s" % (len(part), part) for item in found.items() for part in _as_bytes(*item))
    digest = sha256(b"".join(parts)).hexdigest()[:_DIGEST_DIGITS]
    pages = {
        name: _make(name, body.replace(_ASSETS_MARK.encode(), _assets_at(digest).encode()))
        for name, body in found.items()
        if name.endswith(".html")
    }
    assets = {
        name: _make(name, body, keep=_FOREVER)
        for name, body in found.items()
        if not name.endswith(".html")
    }
    return _Shelf(digest, pages, assets)


_DIGEST_DIGITS: Final = 16
"""Hex digits of the files' common name: 64 bits, as it tells versions apart and not foes."""


def _as_bytes(name: str, body: bytes) -> tuple[bytes, bytes]:
    return name.encode(), body


def _walk(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    """Yield each file that can be served with its path below *folder*."""
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        elif Path(entry.name).suffix in _MEDIA_TYPES:
            yield prefix + entry.name, entry.read_bytes()


def _make(name: str, body: bytes, *, keep: str = _ASK_AGAIN) -> _File:
    headers = {
        **SECURITY_HEADERS,
        "Cache-Control": keep,
        "ETag": f'W/"{sha256(body).hexdigest()[:_DIGEST_DIGITS]}"',
        "Vary": "Accept-Encoding",
    }
    # Without a time in it, so that the same file is always the same bytes.
    return _File(body, gzip.compress(body, mtime=0), _MEDIA_TYPES[Path(name).suffix], headers)


def _assets_at(digest: str) -> str:
    return f"/pages/{digest}"


def assets_url() -> str:
    """Return the path below which the files are that go with the pages."""
    return _assets_at(_shelf().digest)


# Routes


@get("/", include_in_schema=False, sync_to_thread=False)
def dashboard(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Show who is online, how much traffic there is, and what goes wrong."""
    return _shelf().pages["dashboard.html"].response(request)


@get("/chat", include_in_schema=False, sync_to_thread=False)
def chat(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Let a person take part."""
    return _shelf().pages["chat.html"].response(request)


@get("/pages/{digest:str}/{name:path}", include_in_schema=False, sync_to_thread=False)
def asset(request: Request[Any, Any, Any]) -> Response[bytes]:
    """
    Give a file that goes with the pages.

    Raises:
        NotFoundException: There is none, or none any more under this digest.
    """
    shelf = _shelf()
    name = str(request.path_params["name"]).lstrip("/")
    found = shelf.assets.get(name)
    if found is None or request.path_params["digest"] != shelf.digest:
        raise NotFoundException("no such file goes with these pages")
    return found.response(request)


PAGE_ROUTES: Final[tuple[HTTPRouteHandler, ...]] = (dashboard, chat, asset)
"""What the application serves for people."""
