"""
How JavaScript sees a value, where that shows in the reference: as nothing, as blank, as text.

Nothing here is Agora's own; it keeps the reference's habits out of the modules
that only have to follow them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeGuard

from agora.canonical import Json, json_text

__all__ = ["UNDEFINED", "WHITE_SPACE", "is_number", "is_truthy", "template_text"]

UNDEFINED: Final[Json] = object()  # type: ignore[assignment]  # JavaScript has it, JSON lacks it
"""What stands for a member that is not there."""

WHITE_SPACE: Final = (
    "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
"""What ``trim`` removes and ``\\s`` matches (ECMA-262, WhiteSpace and LineTerminator).

Python's own idea of blank is another: it lacks U+FEFF, and has U+001C to U+001F and U+0085."""


def is_number(value: object) -> TypeGuard[int | float]:
    """Tell whether ``typeof value`` would be ``"number"``; a bool, to Python a number, is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_truthy(value: Json) -> bool:
    """Tell whether ``if (value)`` would hold: empty arrays and objects count as something."""
    return bool(value) or isinstance(value, list | dict)


def template_text(value: Json, *, at_most: int) -> str:
    """Print *value* as ```${value}``` would; longer than *at_most* it is cut, with an ellipsis."""
    text = ""
    for part in _template_parts(value):
        text += part
        if len(text) > at_most:
            return text[:at_most] + "…"
    return text


def _template_parts(value: Json) -> Iterator[str]:
    if value is UNDEFINED:
        yield "undefined"
    elif isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield "[object Object]"
    elif isinstance(value, list):
        yield from _array_parts(value)
    else:
        yield json_text(value)


def _array_parts(array: list[Json]) -> Iterator[str]:
    # With a stack of our own: an array may nest deeper than Python calls may.
    waiting: list[Json] = [array]
    comma = ""
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting.extend(reversed(item or [None]))  # an empty array is printed as null is
            continue
        yield comma
        comma = ","
        if item is not None:
            yield from _template_parts(item)
