"""
The members of a frame: read one by one, each of which may be missing or of any type, and written.

What a frame consists of is said in :mod:`agora.frames.requests` and
:mod:`agora.frames.answers`; both are read and written with what is here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeGuard, TypeVar

from agora.canonical import Json, json_text, parse_json
from agora.codes import ErrorCode
from agora.ecmascript import UNDEFINED, is_number, template_text
from agora.errors import CanonicalJSONError, FrameError

__all__ = [
    "PROTOCOL",
    "Decoders",
    "Members",
    "decode",
    "encode",
    "is_nonce",
    "is_traceparent",
    "name_member",
    "number_or_none",
    "string_text",
    "text_or_none",
    "traceparent_member",
    "type_text",
]

PROTOCOL = 1
"""The version in ``register`` and ``registered`` that stands for Agora/1."""

Members = Mapping[str, Json]
Frame = TypeVar("Frame")
Decoders = Mapping[str, Callable[[Members], Frame]]
"""What reads the members of each type of frame."""

_MAX_TYPE_TEXT = 200
"""Characters of a stranger's own words that an error repeats: it must not carry texts about."""

_NONCE = re.compile(r"[0-9a-f]{64}")

_TRACEPARENT = re.compile(
    "(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)


# Reading


def decode(data: str | bytes, decoders: Decoders[Frame], unknown: Callable[[str], Frame]) -> Frame:
    """
    Read a frame by its type; *unknown* gets the text of a type that is not among *decoders*.

    Raises:
        FrameError: When it is not JSON, or the decoder refuses it.
    """
    members = _parse(data)
    if members is None:
        return unknown("undefined")
    frame_type = members.get("type", UNDEFINED)
    decoder = decoders.get(frame_type) if isinstance(frame_type, str) else None
    return decoder(members) if decoder else unknown(type_text(frame_type))


def _parse(data: str | bytes) -> Members | None:
    """Return the frame's members; None for JSON that is no object and not null."""
    try:
        value = parse_json(data)
    except CanonicalJSONError as error:
        raise FrameError(ErrorCode.INVALID_MESSAGE, "Invalid message format") from error
    if value is None:
        raise FrameError(ErrorCode.INVALID_MESSAGE, "Invalid message format")
    return value if isinstance(value, dict) else None


def type_text(frame_type: Json) -> str:
    """Return a type as JavaScript would print it, and no more of it than an error may repeat."""
    return template_text(frame_type, at_most=_MAX_TYPE_TEXT)


def is_nonce(value: object) -> TypeGuard[str]:
    """Tell whether *value* is 32 bytes in lower-case hex."""
    return isinstance(value, str) and _NONCE.fullmatch(value) is not None


def is_traceparent(value: object) -> TypeGuard[str]:
    """
    Tell whether *value* names a place in a trace, as W3C's Trace Context has it (section 3.2).

    >>> is_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    True
    """
    return isinstance(value, str) and _TRACEPARENT.fullmatch(value) is not None


def number_or_none(value: Json) -> float | None:
    """Return *value* if it is a number."""
    return value if is_number(value) else None


def text_or_none(value: Json) -> str | None:
    """Return *value* if it is text, be it empty."""
    return value if isinstance(value, str) else None


# Writing


def encode(members: Mapping[str, Json]) -> str:
    """Write a frame; what is None is left out, as the protocol wants absent values."""
    return json_text({name: value for name, value in members.items() if value is not None})


def string_text(value: str) -> str:
    """Write a string; an id, which has nothing to escape, at once."""
    # As bytes, of which a table knows the letters: a string asks of each character what it is.
    is_plain = value.isascii() and value.encode().isalnum()
    return f'"{value}"' if is_plain else json_text(value)


def name_member(name: str | None) -> str:
    """Return the member ``name`` behind its comma; nothing where there is no name."""
    return "" if name is None else f',"name":{json_text(name)}'


def traceparent_member(traceparent: str | None) -> str:
    """Return the member ``traceparent`` behind its comma; nothing where there is none."""
    return "" if traceparent is None else f',"traceparent":"{traceparent}"'
