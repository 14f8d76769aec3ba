"""
What an operator asks a relay by HTTP: whether it lives, whether it is ready, its figures.

``/healthz``, ``/readyz`` and ``/metrics`` are open to whoever can reach the port, and so
tell of nobody in particular; ``/admin/overview`` names peers, and wants the admin token.
"""

from __future__ import annotations

import hmac

import msgspec
from litestar import MediaType, Response, route
from litestar.enums import HttpMethod

from agora.codes import HttpErrorCode
from agora.relay.http.answers import Json
from agora.relay.http.callers import AnyRequest, ThisDoor
from agora.relay.http.errors import ApiError
from agora.relay.http.exposition import expose

__all__ = ["ALWAYS_ANSWERED", "ROUTES", "check_admin"]

_METHODS = [HttpMethod.GET, HttpMethod.HEAD]

_NOT_KEPT = {"Cache-Control": "no-store"}
"""What is true now is not in a moment."""

ALWAYS_ANSWERED = frozenset({"/healthz", "/readyz"})
"""No rate is spent here: who asks has the address of a proxy, and of all who come by it."""


class Health(msgspec.Struct, omit_defaults=True):
    """How a relay is, in a word, and what speaks against more."""

    status: str
    reasons: list[dict[str, str]] = []


@route("/healthz", http_method=_METHODS, include_in_schema=False)
async def healthz() -> Json[Health]:
    """Tell that the relay lives: its event loop has answered."""
    return Json(Health("alive"), headers=_NOT_KEPT)


@route("/readyz", http_method=_METHODS, include_in_schema=False)
async def readyz(door: ThisDoor) -> Json[Health]:
    """Tell whether the relay can take messages, or with 503 why not."""
    reasons = await door.overview.why_not_ready()
    if not reasons:
        return Json(Health("ready"), headers=_NOT_KEPT)
    told = [{"code": reason.code, "message": reason.message} for reason in reasons]
    return Json(Health("not_ready", told), status_code=503, headers=_NOT_KEPT)


@route("/metrics", http_method=_METHODS, include_in_schema=False)
async def metrics(request: AnyRequest, door: ThisDoor) -> Response[bytes]:
    """Tell all figures, for Prometheus."""
    accept = request.headers.get("accept", "")
    text, content_type = expose(door.overview, await door.overview.look(), accept)
    return Response(
        text, headers={**_NOT_KEPT, "Content-Type": content_type}, media_type=MediaType.TEXT
    )


@route("/admin/overview", http_method=_METHODS, include_in_schema=False)
async def admin_overview(request: AnyRequest, door: ThisDoor) -> Json[dict[str, object]]:
    """Tell everything that an operator sees."""
    check_admin(request.headers.get("authorization", ""), door.admin_token)
    return Json(await door.overview.to_dict(), headers=_NOT_KEPT)


ROUTES = (healthz, readyz, metrics, admin_overview)


def check_admin(authorization: str, admin_token: str) -> None:
    """
    Refuse who does not have the admin token in the header ``Authorization``.

    Raises:
        ApiError: ``unauthorized``.
    """
    scheme, _, given = authorization.partition(" ")
    # Compared in a time that does not tell how much of it was right.
    is_right = hmac.compare_digest(given.strip().encode(), admin_token.encode())
    if scheme.lower() == "bearer" and is_right:
        return
    text = "This wants the admin token of the relay, as Authorization: Bearer TOKEN"
    challenge = {"www-authenticate": 'Bearer realm="agora admin"'}
    raise ApiError(HttpErrorCode.UNAUTHORIZED, text, headers=challenge)
