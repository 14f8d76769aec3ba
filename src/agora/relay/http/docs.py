"""``/openapi.json`` for programs, and ``/docs``, the same for people, with nothing from afar."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import Any, Final

import msgspec
from litestar import Response, get

import agora
from agora.relay.config import RelayConfig
from agora.relay.http.callers import ThisDoor
from agora.relay.http.html import anchor, to_html

__all__ = ["ROUTES"]


@get("/openapi.json", include_in_schema=False, sync_to_thread=False)
def openapi(door: ThisDoor) -> Response[bytes]:
    """Describe the API."""
    return _page("openapi.json", door.config)


@get("/docs", include_in_schema=False, sync_to_thread=False)
def docs(door: ThisDoor) -> Response[bytes]:
    """Describe the API to people."""
    return _page("docs", door.config)


@get("/docs/style.css", include_in_schema=False, sync_to_thread=False)
def style(door: ThisDoor) -> Response[bytes]:
    """Say how that looks."""
    return _page("style.css", door.config)


ROUTES = (openapi, docs, style)


_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}

_KINDS: Final = {
    "openapi.json": "application/json",
    # Their charset, UTF-8, the framework adds.
    "docs": "text/html",
    "style.css": "text/css",
}


def _page(name: str, config: RelayConfig) -> Response[bytes]:
    return _Made(_make(name, config), media_type=_KINDS[name], headers=_HEADERS)


class _Made(Response[bytes]):
    """An answer that is bytes already."""

    def render(self, content: Any, media_type: str, enc_hook: Any = None) -> bytes:
        """Return it."""
        assert isinstance(content, bytes)  # made here
        return content


@lru_cache(maxsize=len(_KINDS))
def _make(name: str, config: RelayConfig) -> bytes:
    # Imported when somebody asks: most relays are never read about.
    from agora.relay.http.document import document
    from agora.relay.http.reference import reference

    if name == "style.css":
        return resources.files("agora.relay.http").joinpath("docs.css").read_bytes()
    if name == "openapi.json":
        return msgspec.json.encode(document(config))
    return _html(reference(document(config))).encode()


def _html(markdown: str) -> str:
    titles = [line[3:] for line in markdown.splitlines() if line.startswith("## ")]
    links = "".join(f'<li><a href="#{anchor(title)}">{title}</a></li>' for title in titles)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<title>Agora relay: the HTTP API</title>\n"
        '<link rel="stylesheet" href="/docs/style.css">\n</head>\n<body>\n'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n<main>\n<h1>The HTTP API</h1>\n'
        f'<p>Agora {agora.__version__} · <a href="/openapi.json">OpenAPI 3.1</a></p>\n'
        f"{to_html(markdown)}\n</main>\n</body>\n</html>\n"
    )
