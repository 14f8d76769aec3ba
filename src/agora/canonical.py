"""
JSON as Agora signs it: one value, one byte string.

This is the canonical form of RFC 8785, and beyond the values that RFC admits
it is what the reference does: lone surrogates are kept and escaped, and a
number that is not finite is ``null``. Numbers are IEEE-754 doubles, written as
ECMAScript writes them; members are sorted by the UTF-16 code units of their
names. Nothing here knows what an envelope is.

The rule kept here: neither reading nor writing ever recurses in Python or
fails with anything but `CanonicalJSONError`, however deep or odd the input.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, chain, repeat
from json.encoder import encode_basestring
from math import isfinite
from typing import Final, TypeAlias

from agora.errors import CanonicalJSONError

__all__ = [
    "MAX_DEPTH",
    "Json",
    "canonical_json",
    "canonical_text",
    "check_depth",
    "check_exact",
    "json_text",
    "parse_json",
]

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
"""What a JSON text can say, as `parse_json` gives it."""

MAX_DEPTH: Final = 520
"""Nested arrays and objects: 512 for the application, the rest for envelope and frame around it."""

_MAX_EXACT_INTEGER: Final = 2**53
"""Up to here every integer is a double of its own."""


# Reading


def parse_json(text: str | bytes, *, max_depth: int = MAX_DEPTH) -> Json:
    """
    Read *text* as ECMAScript's ``JSON.parse`` does.

    Of equal names in one object the last wins. Numbers become doubles: an
    integer beyond 2^53 takes the value of the nearest one, and what overflows
    becomes None. Lone surrogates are kept.

    Raises:
        CanonicalJSONError: If *text* is not JSON (``NaN`` and ``Infinity``
            are not), is not UTF-8, or nests deeper than *max_depth*.

    >>> parse_json('{"a": 1, "a": [1e400, 9007199254740993]}')
    {'a': [None, 9007199254740992]}
    """
    try:
        if isinstance(text, bytes):
            text = text.decode()
        check_depth(text, max_depth)
        value: Json = _DECODER.decode(text)
    except ValueError as error:
        raise CanonicalJSONError(f"not JSON: {error}") from error
    except RecursionError as error:
        # Our caller stands so deep in the stack that fewer than MAX_DEPTH levels are left.
        raise CanonicalJSONError("not enough stack to read it") from error
    if _has_surrogate(text):
        # Halves that stand raw in a Python string: the decoder does not join them, the writer does.
        return parse_json(json_text(value), max_depth=max_depth)
    return value


def check_depth(text: str, max_depth: int = MAX_DEPTH) -> None:
    """
    Refuse a JSON text whose arrays and objects nest deeper than *max_depth*.

    Raises:
        CanonicalJSONError: If they do.
    """
    if text.count("[") + text.count("{") <= max_depth:
        return
    brackets = _NO_BRACKET.sub("", text)
    depth = max(accumulate(1 if bracket in "[{" else -1 for bracket in brackets), default=0)
    if depth > max_depth:
        raise CanonicalJSONError(f"nested {depth} levels deep, more than {max_depth}")


def _read_integer(digits: str) -> int | None:
    if len(digits) <= 15:
        return int(digits)
    number = float(digits)
    return int(number) if isfinite(number) else None


def _read_decimal(digits: str) -> float | None:
    number = float(digits)
    return number if isfinite(number) else None


def _refuse_constant(token: str) -> None:
    raise CanonicalJSONError(f"{token} is not JSON")


_DECODER: Final = json.JSONDecoder(
    parse_int=_read_integer, parse_float=_read_decimal, parse_constant=_refuse_constant
)

_NO_BRACKET: Final = re.compile(
    # A string, to the end of the text where it is not closed, or a run of anything else.
    # Possessive, so that no text makes this slower than linear.
    r'"(?:[^"\\]++|\\.)*+"?|[^\[\]{}"]++',
    re.DOTALL,
)


# Writing


def canonical_json(value: object) -> bytes:
    """
    Write *value* as the bytes that are hashed and signed.

    Tuples count as lists; a number that is not finite is ``null``; two code
    points that form a surrogate pair are the one character they mean.

    Raises:
        CanonicalJSONError: If JSON cannot hold *value* (bytes, sets, names
            that are not strings…) or it nests deeper than `MAX_DEPTH`.

    Source: RFC 8785; ECMA-262, Number::toString and QuoteJSONString.

    >>> canonical_json({"b": [1.0, 1e21, 1e-7], "a": "é"}).decode()
    '{"a":"é","b":[1,1e+21,1e-7]}'
    """
    return canonical_text(value).encode()


def canonical_text(value: object) -> str:
    """Write *value* as `canonical_json` does, before UTF-8."""
    return _write(value, _sorted_names)


def json_text(value: object) -> str:
    """
    Write *value* as ``JSON.stringify`` does: like `canonical_text`, but for the order of members.

    They keep their own, save for names that are array indices: ECMAScript has
    those first, ascending.

    >>> json_text({"b": 1.0, "a": "\\ud800", "0": []})
    '{"0":[],"b":1,"a":"\\\\ud800"}'
    """
    return _write(value, _names_as_in_javascript)


def check_exact(value: object) -> None:
    """
    Refuse what would arrive as another number: JSON here is what JavaScript makes of it.

    Raises:
        CanonicalJSONError: If *value* holds a number that is not finite, or an integer
            that no double equals. It must not contain itself.

    >>> check_exact({"ratio": float("nan")})
    Traceback (most recent call last):
    agora.errors.CanonicalJSONError: nan would arrive as null: send a string
    """
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list | tuple):
            waiting.extend(item)
        elif isinstance(item, int | float) and not isinstance(item, bool):
            arrived = _leaf_text(item)
            if arrived == "null" or float(arrived) != item:
                raise CanonicalJSONError(f"{item} would arrive as {arrived}: send a string")


_CONTAINERS: Final = (dict, list, tuple)

_Order: TypeAlias = Callable[[Iterable[str]], Iterable[str]]


def _write(value: object, order: _Order) -> str:
    """Write *value* with a stack of our own: one entry for each array or object still open."""
    if not isinstance(value, _CONTAINERS):
        return _mended(_leaf_text(value))
    parts: list[str] = []
    outer: list[tuple[Iterator[tuple[str, object]], str]] = []
    pieces: Iterator[tuple[str, object]] = iter([("", value)])
    closing = ""
    while True:
        for lead, item in pieces:
            if not isinstance(item, _CONTAINERS):
                parts.append(lead + _leaf_text(item))
                continue
            if len(outer) == MAX_DEPTH:
                raise CanonicalJSONError(f"nested more than {MAX_DEPTH} levels deep")
            outer.append((pieces, closing))
            if isinstance(item, dict):
                parts.append(lead + "{")
                pieces, closing = _object_pieces(item, order), "}"
            else:
                parts.append(lead + "[")
                pieces, closing = zip(_commas(), item, strict=False), "]"
            break
        else:
            parts.append(closing)
            if not outer:
                return _mended("".join(parts))
            pieces, closing = outer.pop()


def _object_pieces(value: dict[object, object], order: _Order) -> Iterator[tuple[str, object]]:
    members = _members(value)
    for comma, name in zip(_commas(), order(members), strict=False):
        yield f"{comma}{encode_basestring(name)}:", members[name]


def _commas() -> Iterator[str]:
    """Give what stands before each item: nothing, then commas without end."""
    return chain(("",), repeat(","))


def _members(value: dict[object, object]) -> dict[str, object]:
    """Give *value*'s members under the names that JavaScript would have for them."""
    members: dict[str, object] = {}
    for name, item in value.items():
        if not isinstance(name, str):
            raise CanonicalJSONError(f"a member's name is {type(name).__name__}, not a string")
        members[name if name.isascii() else _joined(name)] = item
    return members


def _sorted_names(names: Iterable[str]) -> list[str]:
    if all(map(str.isascii, names)):
        return sorted(names)
    # By code point an astral character would sort after U+E000…U+FFFF, by code unit before.
    return sorted(names, key=_utf16)


def _names_as_in_javascript(names: Iterable[str]) -> Iterable[str]:
    if not any(map(_ARRAY_INDEX.fullmatch, names)):
        return names
    # The sort is stable: whatever is no index keeps its place behind them.
    return sorted(names, key=_index)


def _index(name: str) -> int:
    return min(int(name), _NO_INDEX) if _ARRAY_INDEX.fullmatch(name) else _NO_INDEX


_ARRAY_INDEX: Final = re.compile("0|[1-9][0-9]{0,9}")
_NO_INDEX: Final = 2**32 - 1
"""The greatest array index, plus one (ECMA-262, Array Exotic Objects)."""


def _leaf_text(value: object) -> str:
    """Write a literal, a number or a string."""
    match value:
        case str():
            return encode_basestring(value)
        case None:
            return "null"
        case True:
            return "true"
        case False:
            return "false"
        case int():
            return _integer_text(value)
        case float():
            return _double_text(value)
    raise CanonicalJSONError(f"JSON cannot hold a value of type {type(value).__name__}")


def _integer_text(number: int) -> str:
    if -_MAX_EXACT_INTEGER <= number <= _MAX_EXACT_INTEGER:
        return int.__repr__(number)
    try:
        return _double_text(float(number))
    except OverflowError:
        return "null"


def _double_text(number: float) -> str:
    """Write *number* by ECMA-262's Number::toString: Python's digits in another layout."""
    if not isfinite(number):
        return "null"
    if number == 0:
        return "0"
    mantissa, exponential, exponent = float.__repr__(number).partition("e")
    if not exponential:
        return mantissa.removesuffix(".0")
    sign = "-" if number < 0 else ""
    whole, _, fraction = mantissa.removeprefix("-").partition(".")
    digits = whole + fraction
    # The names of ECMA-262: k digits, and the decimal point after the n-th.
    k, n = len(digits), int(exponent) + 1
    if k <= n <= 21:
        return sign + digits + "0" * (n - k)
    if -6 < n <= 0:
        return sign + "0." + "0" * -n + digits
    point = "." if fraction else ""
    return f"{sign}{whole}{point}{fraction}e{n - 1:+d}"


# Surrogates


def _has_surrogate(text: str) -> bool:
    """Tell whether *text* cannot be UTF-8: many times faster than to search it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _mended(text: str) -> str:
    """Join the surrogate pairs in *text* and escape those that are alone."""
    return _SURROGATES.sub(_mend, text) if _has_surrogate(text) else text


def _mend(match: re.Match[str]) -> str:
    found = match[0]
    return _joined(found) if len(found) == 2 else f"\\u{ord(found):04x}"


def _joined(text: str) -> str:
    """Join the surrogate pairs in *text*; keep those that are alone."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _utf16(text: str) -> bytes:
    return text.encode("utf-16-be", "surrogatepass")


_SURROGATES: Final = re.compile(r"[\ud800-\udbff][\udc00-\udfff]|[\ud800-\udfff]")
