"""Who asks: the token of a request, its address, and the relay's own end of its connection."""

from __future__ import annotations

from typing import Any, TypeAlias

from litestar import Request
from litestar.di import NamedDependency

from agora.codes import HttpErrorCode
from agora.relay.http.door import Door
from agora.relay.http.errors import ApiError, not_registered
from agora.relay.http.tokens import Token

__all__ = [
    "AnyRequest",
    "ThisDoor",
    "ThisToken",
    "address_of",
    "authenticate",
    "check_media_type",
    "door_of",
    "is_head",
    "notes_of",
    "own_end",
]

AnyRequest: TypeAlias = Request[Any, Any, Any]
ThisDoor: TypeAlias = NamedDependency[Door]
ThisToken: TypeAlias = NamedDependency[Token]
"""What a handler gets as ``door`` and as ``token``; whoever wants the latter has to have one."""


async def authenticate(request: AnyRequest, door: ThisDoor) -> Token:
    """
    Return the token of a request, and count the request for its key.

    Raises:
        ApiError: ``not_registered``, ``rate_limited`` or ``unavailable``.
    """
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not text:
        raise not_registered("missing_token", "Missing or malformed Authorization header")
    token = door.tokens.read(text.strip())
    door.rates.spend("key", token.publicKey, notes_of(request))
    door.check_open()
    return token


async def check_media_type(request: AnyRequest) -> None:
    """
    Refuse a body that says to be something else than JSON; one that says nothing may be.

    Raises:
        ApiError: ``unsupported_media_type``, with what is taken (RFC 9110 section 15.5.16).
    """
    if request.method != "POST":
        return
    said = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if said not in ("", "application/json"):
        text = f"The body is {said}: send application/json"
        takes = {"accept": "application/json"}
        raise ApiError(HttpErrorCode.UNSUPPORTED_MEDIA_TYPE, text, headers=takes)
    coding = request.headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity"):
        text = f"The body is coded as {coding}: send it as it is"
        takes = {"accept-encoding": "identity"}
        raise ApiError(HttpErrorCode.UNSUPPORTED_MEDIA_TYPE, text, headers=takes)


def door_of(request: AnyRequest) -> Door:
    """Return the door by which a request came, where nothing hands it over."""
    door: Door = request.app.state.door
    return door


def notes_of(request: AnyRequest) -> dict[str, Any]:
    """Return what the gate knows of a request."""
    notes: dict[str, Any] = request.scope["state"]
    return notes


def is_head(request: AnyRequest) -> bool:
    """Tell whether nobody gets the body of the answer, so that nothing is given by it."""
    return bool(notes_of(request).get("is_head"))


def address_of(request: AnyRequest) -> str:
    """Return where a request comes from, by which rates are counted."""
    return str(notes_of(request)["address"])


def own_end(request: AnyRequest) -> tuple[str, int]:
    """Return the relay's own address and port on the connection."""
    host, port = request.scope["server"] or ("", 0)
    return host, port or 0
