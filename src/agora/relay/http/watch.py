"""
What an operator asks a relay by HTTP: whether it lives, whether it is ready, its figures.

``/healthz``, ``/readyz`` and ``/metrics`` are open to whoever can reach the port, and so
tell of nobody in particular; ``/admin/overview`` names peers, and wants the admin token.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any

from litestar import MediaType, Request, Response, route
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler

from agora.relay.http.exposition import expose
from agora.relay.overview import Overview

__all__ = ["is_admin", "routes"]

_METHODS = [HttpMethod.GET, HttpMethod.HEAD]

_NOT_KEPT = {"Cache-Control": "no-store"}
"""What is true now is not in a moment."""


def routes(overview: Overview, *, admin_token: str) -> list[HTTPRouteHandler]:
    """
    Return the handlers for an app to mount.

    Args:
        overview: What is told of.
        admin_token: Who has it, may see who is there.
    """

    async def healthz() -> Response[dict[str, str]]:
        """The relay lives: its event loop has answered."""
        return Response({"status": "alive"}, headers=_NOT_KEPT)

    async def readyz() -> Response[dict[str, object]]:
        """The relay can take messages, or 503 and why not."""
        reasons = await overview.why_not_ready()
        if not reasons:
            return Response({"status": "ready"}, headers=_NOT_KEPT)
        told = [{"code": reason.code, "message": reason.message} for reason in reasons]
        return Response(
            {"status": "not_ready", "reasons": told}, status_code=503, headers=_NOT_KEPT
        )

    async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
        """All figures, for Prometheus."""
        accept = request.headers.get("accept", "")
        text, content_type = expose(overview, await overview.look(), accept)
        return Response(
            text, headers={**_NOT_KEPT, "Content-Type": content_type}, media_type=MediaType.TEXT
        )

    async def admin_overview(
        request: Request[Any, Any, Any],
    ) -> Response[dict[str, object]]:
        """Everything that an operator sees."""
        if not is_admin(request.headers.get("authorization", ""), admin_token):
            return _unauthorized()
        return Response(await overview.to_dict(), headers=_NOT_KEPT)

    handlers: dict[str, Callable[..., Any]] = {
        "/healthz": healthz,
        "/readyz": readyz,
        "/metrics": metrics,
        "/admin/overview": admin_overview,
    }
    return [
        route(path, http_method=_METHODS, include_in_schema=False)(handler)
        for path, handler in handlers.items()
    ]


def is_admin(authorization: str, admin_token: str) -> bool:
    """
    Tell whether the header ``Authorization`` has the admin token.

    >>> is_admin("Bearer correct horse", "correct horse"), is_admin("Bearer me", "correct horse")
    (True, False)
    """
    scheme, _, given = authorization.partition(" ")
    # Compared in a time that does not tell how much of it was right.
    is_right = hmac.compare_digest(given.strip().encode(), admin_token.encode())
    return scheme.lower() == "bearer" and is_right


def _unauthorized() -> Response[dict[str, object]]:
    error = {"code": "unauthorized", "message": "this needs the admin token of the relay"}
    return Response(
        {"error": error},
        status_code=401,
        headers={**_NOT_KEPT, "WWW-Authenticate": 'Bearer realm="agora admin"'},
    )
