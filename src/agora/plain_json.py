"""
The short way to canonical JSON, for plain values: read and written in C, with nothing to mend.

`agora.canonical` has the rules, and is the judge of every value. Most values
meet none of them that a fast library would not keep as well: their numbers are
short, their names sort alike by any measure. Those are written here, some ten times
as fast; for anything else the answer is None, and the long way is taken.

The rule kept here: what `plain_text` makes of what a `plain_decoder` read is what
`agora.canonical` makes of the same text, or None. Properties hold the two against each other.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

__all__ = ["NotPlainError", "plain_decoder", "plain_text"]


class NotPlainError(Exception):
    """A number was read that ECMAScript may write in another way."""


def plain_decoder(shape: Any) -> msgspec.json.Decoder[Any]:
    """
    Return what reads JSON of this *shape*, with plain values where that says ``Any``.

    Its ``decode`` raises `NotPlainError` for a number that is not plain, and what
    msgspec raises. It reads nesting as deep as the stack allows.
    """
    return msgspec.json.Decoder(shape, float_hook=_read_decimal)


def plain_text(value: Any) -> str | None:
    """
    Write what a `plain_decoder` read, in canonical form; None where that could be another.

    Other values of strings, lists and dicts alone will do as well.

    >>> plain_text(plain_decoder(object).decode('{"b": [1.0, 0.5], "a": "x"}'))
    '{"a":"x","b":[1,0.5]}'
    """
    try:
        text = _ENCODER.encode(value)
    except UnicodeEncodeError:
        return None  # half of a surrogate pair
    classes = text.translate(_CLASSES)
    if _LONG_NUMBER in classes:
        return None  # perhaps an integer that no double equals
    if not text.isascii() and b"e" in classes and b"f" in classes:
        # By code point a character beyond U+FFFF sorts behind those from U+E000 on, by UTF-16
        # code unit before them. Only where both are can that matter.
        return None
    return text.decode()


def _read_decimal(digits: str) -> int | float:
    number = float(digits)
    if abs(number) < _MAX_PLAIN:
        if number.is_integer():
            return int(number)
        # Down to here all write the shortest digits without an exponent.
        if abs(number) >= _MIN_PLAIN:
            return number
    raise NotPlainError


_MIN_PLAIN: Final = 1e-4
_MAX_PLAIN: Final = 1e15

_ENCODER: Final = msgspec.json.Encoder(order="sorted")


def _class_of(byte: int) -> int:
    # Strings are looked at like the rest: it is quicker to be careful than to know their ends.
    if byte in b"0123456789":
        return ord("0")
    if byte in (0xEE, 0xEF):
        return ord("e")  # leads U+E000 to U+FFFF
    return ord("f") if byte >= 0xF0 else ord(".")


_CLASSES: Final = bytes(map(_class_of, range(256)))
_LONG_NUMBER: Final = b"0" * 16
"""Sixteen digits in a row: up to fifteen, every integer is a double of its own."""
