"""
Bodies of requests: JSON of exactly the types that the document says.

The framework would take ``"1"`` for a number and ``1`` for true. That is right for what stands
in a URL, where all is text, and wrong for JSON, which has types of its own.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from litestar import Request

from agora.codes import ErrorCode
from agora.relay.http.errors import ApiError

__all__ = ["StrictRequest", "members_of"]


class StrictRequest(Request[Any, Any, Any]):
    """A request whose body is read as exactly what its handler wants."""

    async def json(self) -> Any:
        """
        Return the body as the type of the handler's ``data``.

        Raises:
            ApiError: ``invalid_message``, with the place that is wrong.
        """
        field = self.route_handler.parsed_data_field
        decoder = _decoder_of(Any if field is None else field.annotation)
        try:
            return decoder.decode(await self.body())
        except msgspec.MsgspecError as error:
            text = f"Invalid message: {error}"
        except (UnicodeDecodeError, RecursionError):
            text = "Invalid message: the body is not UTF-8, or nested too deep"
        raise ApiError(ErrorCode.INVALID_MESSAGE, text)


@cache
def _decoder_of(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def members_of(body: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """Return the members of a JSON object as they are written; of anything else none."""
    try:
        return _MEMBERS.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}


_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
