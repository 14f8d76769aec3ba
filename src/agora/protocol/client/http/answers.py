"""
Answers: what came back for a call, and what it means where it is not what was asked for.

A relay says no in JSON, with a code; a proxy in its place says no in words of its own, of
which only the status can be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from agora.canonical import Json, parse_json
from agora.codes import CloseCode, ErrorCode
from agora.errors import CanonicalJSONError
from agora.frames.members import encode
from agora.protocol.client.http.calls import Name

__all__ = ["Answer", "Loss", "object_of", "objects_in"]

_UNKNOWN_TOKEN = 401
_REQUEST_TIMEOUT = 408
_TOO_LARGE = 413
_TOO_MANY = 429
_UNAVAILABLE = 503

_CLOSES: dict[str, int] = {
    ErrorCode.PROOF_FAILED: CloseCode.PROOF_FAILED,
    ErrorCode.PROOF_REQUIRED: CloseCode.PROOF_REQUIRED,
}

_BY_STATUS = {_TOO_LARGE: ErrorCode.TOO_LARGE, _TOO_MANY: ErrorCode.RATE_LIMITED}
"""What a proxy means that answers in a relay's place."""


@dataclass(frozen=True, slots=True)
class Loss:
    """The conversation is over: as a WebSocket would be closed, and how long to stay away."""

    code: int
    reason: str
    retry_after: float | None = None


@dataclass(frozen=True)
class Answer:
    """What came back for a call; *retry_after* in seconds."""

    status: int
    text: str = ""
    retry_after: float | None = None

    @property
    def is_good(self) -> bool:
        """Whether the relay did what it was asked."""
        return 200 <= self.status < 300

    @property
    def is_of_bad_token(self) -> bool:
        """Whether it is our token that the relay does not take."""
        return self.status == _UNKNOWN_TOKEN

    @property
    def is_too_many(self) -> bool:
        """Whether the same may be asked again a little later."""
        return self.status == _TOO_MANY

    @cached_property
    def members(self) -> dict[str, Json]:
        """The JSON object that it is; empty where it is none."""
        return object_of(self.text) or {}

    @property
    def error(self) -> dict[str, Json] | None:
        """The error in it, if a relay wrote it; None when a proxy did, or nobody."""
        error = self.members.get("error")
        return error if isinstance(error, dict) and isinstance(error.get("code"), str) else None

    @property
    def reason(self) -> str:
        """Why it is not good, for people."""
        message = (self.error or {}).get("message")
        return message if isinstance(message, str) else f"HTTP {self.status}"

    @property
    def says_nothing(self) -> bool:
        """Whether it is not about what was asked: nothing can be had here just now."""
        if self.is_good:
            return False
        if (error := self.error) is None:
            return self.status not in _BY_STATUS
        if error["code"] not in tuple(ErrorCode):
            return self.status >= 500 or self.status == _REQUEST_TIMEOUT
        return self.status == _UNAVAILABLE and "id" not in error

    def loss(self) -> Loss:
        """Return what it is to a conversation that cannot go on with it."""
        code = (self.error or {}).get("code")
        close_code = _CLOSES.get(str(code), CloseCode.TRY_AGAIN_LATER)
        return Loss(close_code, self.reason, self.retry_after)

    def error_frame(self, name: Name | None = None) -> str:
        """Return an error as the frame that it is over a WebSocket, about this message."""
        members: dict[str, Json] = dict(self.error or self._error_of_a_proxy())
        if name is not None:
            members = {"id": name[0], "to": name[1], **members}
        if self.retry_after is not None:
            members = {"retryAfterMs": round(self.retry_after * 1000), **members}
        return encode({**members, "type": "error"})

    def _error_of_a_proxy(self) -> dict[str, Json]:
        code = _BY_STATUS.get(self.status, ErrorCode.INVALID_MESSAGE)
        return {"code": str(code), "message": f"HTTP {self.status}, not from the relay"}


def object_of(text: str) -> dict[str, Json] | None:
    """Return the JSON object that *text* is; None where it is none."""
    try:
        value = parse_json(text)
    except CanonicalJSONError:
        return None
    return value if isinstance(value, dict) else None


def objects_in(value: Json) -> list[dict[str, Json]]:
    """Return the objects in a list; empty where it is none."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
