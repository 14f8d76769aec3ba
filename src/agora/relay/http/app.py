"""
The application: the routes of all modules, the errors they end in, and the gate around it.
"""

from __future__ import annotations

import logging
from typing import Any

from litestar import Litestar, Response
from litestar.di import Provide
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException

from agora.codes import ErrorCode, HttpErrorCode
from agora.relay.http import api, docs, events, watch
from agora.relay.http.answers import json_answer
from agora.relay.http.bodies import StrictRequest
from agora.relay.http.callers import AnyRequest, authenticate, check_media_type
from agora.relay.http.door import Door
from agora.relay.http.errors import ApiError
from agora.relay.http.gate import Gate
from agora.relay.http.pages import PAGE_ROUTES

__all__ = ["make_app"]

_log = logging.getLogger("agora.relay")

ROUTES = (*api.ROUTES, *events.ROUTES, *docs.ROUTES, *watch.ROUTES, *PAGE_ROUTES)
"""Everything that is served."""


def make_app(door: Door) -> Gate:
    """Return the ASGI application of *door*."""
    inner = Litestar(
        route_handlers=list(ROUTES),
        dependencies={
            "door": Provide(lambda: door, sync_to_thread=False, use_cache=True),
            "token": Provide(authenticate),
        },
        exception_handlers={
            ApiError: _answer_api_error,
            HTTPException: _answer_http_error,
            Exception: _answer_fault,
        },
        before_request=check_media_type,
        request_class=StrictRequest,
        request_max_body_size=door.config.max_frame_bytes,
        openapi_config=None,
        logging_config=None,
        debug=False,
        pdb_on_exception=False,
    )
    inner.state.door = door
    return Gate(inner, door.config, door.rates, watch.ALWAYS_ANSWERED)


# Errors


def _answer_api_error(request: AnyRequest, error: ApiError) -> Response[Any]:
    return json_answer(error.body, status_code=error.status, headers=error.headers)


def _answer_http_error(request: AnyRequest, error: HTTPException) -> Response[Any]:
    """Say in our shape what the framework refuses by itself."""
    return _answer_api_error(request, _translated(request, error))


def _translated(request: AnyRequest, error: HTTPException) -> ApiError:
    if isinstance(error, NotFoundException):
        return ApiError(HttpErrorCode.NOT_FOUND, "Not found")
    if isinstance(error, MethodNotAllowedException):
        return ApiError(
            HttpErrorCode.METHOD_NOT_ALLOWED, "Method not allowed", headers=error.headers
        )
    if error.status_code == 413:
        return ApiError(ErrorCode.TOO_LARGE, "The body exceeds max_frame_bytes of this relay")
    if 400 <= error.status_code < 500:
        return ApiError(ErrorCode.INVALID_MESSAGE, f"Invalid message: {_why(request, error)}")
    return ApiError(HttpErrorCode.INTERNAL_ERROR, "Internal error")


def _why(request: AnyRequest, error: HTTPException) -> str:
    problems = error.extra if isinstance(error.extra, list) else []
    if any(one.get("key") == "data" for one in problems):
        return "the body is missing"
    told = [
        f"{_name_of(request, one.get('key', ''))}: {one.get('message', '')}".strip(": ")
        for one in problems
    ]
    return "; ".join(told) or error.detail


def _name_of(request: AnyRequest, argument: str) -> str:
    """Return what a parameter is called by who asks, which may be no name in Python."""
    field = request.route_handler.parsed_fn_signature.parameters.get(argument)
    said = None if field is None else field.kwarg_definition
    return getattr(said, "name", None) or argument


def _answer_fault(request: AnyRequest, error: Exception) -> Response[Any]:
    # Our own fault: said in the log, never to the stranger.
    _log.error("request failed", exc_info=error, extra={"fields": {"path": request.url.path}})
    return _answer_api_error(request, ApiError(HttpErrorCode.INTERNAL_ERROR, "Internal error"))
