"""Errors of the HTTP API: one shape, the codes of :mod:`agora.codes`, the status of its table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from agora.codes import HTTP_STATUS, ErrorCode, HttpErrorCode

__all__ = ["ApiError", "ErrorFrame", "at_capacity", "not_registered"]


class ErrorFrame(msgspec.Struct, tag_field="type", tag="error", omit_defaults=True):
    """The ``error`` frame of a node, as its text says it."""

    code: str
    message: str
    id: str | None = None
    to: str | None = None
    reason: str | None = None
    scope: str | None = None
    retryAfterMs: int | None = None
    now: int | None = None


class ApiError(Exception):
    """
    "No, because", as an HTTP answer.

    Args:
        code: Which of the codes; it has its status.
        message: What to say to people.
        headers: Sent beside it.
        beside: Members of the answer beside ``error``.
        members: Further members of the error, such as ``retryAfterMs``; None is left out.
    """

    def __init__(
        self,
        code: ErrorCode | HttpErrorCode,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        beside: Mapping[str, Any] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.beside = beside or {}
        self.members = {name: value for name, value in members.items() if value is not None}
        self.status = HTTP_STATUS[code]
        self.headers = {**_headers_for(self.status, self.members), **(headers or {})}

    @classmethod
    def of(cls, frame: ErrorFrame, **members: Any) -> ApiError:
        """Return what an ``error`` frame says; *members* go beside its own."""
        said = msgspec.structs.asdict(frame)
        code, message = ErrorCode(said.pop("code")), said.pop("message")
        return cls(code, message, **said, **members)

    @property
    def body(self) -> bytes:
        """The JSON that is answered."""
        error = {"code": str(self.code), "message": self.message, **self.members}
        return msgspec.json.encode({"error": error, **self.beside})


def at_capacity(most: int, what: str, *, retry_after: float | None = None) -> ApiError:
    """
    Return the answer to who wants one more of what there is a bound of.

    Args:
        most: The bound.
        what: What is counted, for people, as in "max 5 of this".
        retry_after: Seconds after which there may be room again, where that is known.
    """
    text = f"Relay is at capacity (max {most} {what})"
    retry = None if retry_after is None else math.ceil(retry_after * 1000)
    return ApiError(ErrorCode.AT_CAPACITY, text, retryAfterMs=retry)


def not_registered(reason: str, message: str) -> ApiError:
    """Return the answer to a request whose token is none; *reason* says why, for programs."""
    return ApiError(ErrorCode.NOT_REGISTERED, message, reason=reason)


def _headers_for(status: int, members: Mapping[str, Any]) -> dict[str, str]:
    if status == 401:
        known = {"missing_token": "", None: ""}
        problem = known.get(members.get("reason"), ', error="invalid_token"')
        return {"www-authenticate": f'Bearer realm="agora"{problem}'}
    if "retryAfterMs" in members:
        return {"retry-after": str(math.ceil(members["retryAfterMs"] / 1000))}
    return {}
