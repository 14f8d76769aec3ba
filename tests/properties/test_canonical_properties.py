"""
Laws of canonical JSON, held against an oracle that is written from ECMA-262 and RFC 8785.

The oracle is slow and recursive, and shares no line with what it checks.
"""

from __future__ import annotations

import json
from decimal import ROUND_DOWN, ROUND_UP, Context, Decimal
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from agora.canonical import canonical_json, canonical_text, json_text, parse_json
from agora.errors import CanonicalJSONError

# Surrogates too, alone or in pairs, which Hypothesis leaves out of texts by default.
strings = st.text(st.characters() | st.sampled_from('\ud83d\ude00\ufb33\U0001f600\ue000"\\/09a'))
numbers = st.integers() | st.floats() | st.integers(-(10**30), 10**30)
leaves = st.none() | st.booleans() | numbers | strings
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(strings, inner, max_size=8)
    ),
    max_leaves=40,
)


def oracle(value: Any) -> str:
    """Write *value* as SerializeJSONProperty of ECMA-262 does, names sorted as RFC 8785 says."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return oracle_number(value)
    if isinstance(value, str):
        return oracle_string(code_units(value))
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(oracle(item) for item in value) + "]"
    members = {code_units(name): item for name, item in value.items()}
    return "{" + ",".join(f"{oracle_string(n)}:{oracle(members[n])}" for n in sorted(members)) + "}"


def code_units(text: str) -> tuple[int, ...]:
    data = text.encode("utf-16-be", "surrogatepass")
    return tuple(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))


def oracle_string(units: tuple[int, ...]) -> str:
    """QuoteJSONString, over code units."""
    short = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
    quoted, at = '"', 0
    while at < len(units):
        unit, after = units[at], units[at + 1] if at + 1 < len(units) else 0
        at += 1
        if unit in short:
            quoted += short[unit]
        elif 0xD800 <= unit < 0xDC00 <= after < 0xE000:
            quoted += chr(0x10000 + (unit - 0xD800 << 10) + after - 0xDC00)
            at += 1
        elif unit < 0x20 or 0xD800 <= unit < 0xE000:
            quoted += f"\\u{unit:04x}"
        else:
            quoted += chr(unit)
    return quoted + '"'


def oracle_number(number: float) -> str:
    """Number::toString, with its names: k digits s, and the decimal point after the n-th."""
    try:
        x = float(number)
    except OverflowError:
        return "null"
    if x != x or x in (float("inf"), float("-inf")):
        return "null"
    if x == 0:
        return "0"
    if x < 0:
        return "-" + oracle_number(-x)
    _, s_digits, exponent = shortest(x).as_tuple()
    s, k = "".join(map(str, s_digits)), len(s_digits)
    n = int(exponent) + k
    if k <= n <= 21:
        return s + "0" * (n - k)
    if 0 < n <= 21:
        return s[:n] + "." + s[n:]
    if -6 < n <= 0:
        return "0." + "0" * -n + s
    sign = "+" if n - 1 > 0 else "-"
    return (s if k == 1 else s[0] + "." + s[1:]) + "e" + sign + str(abs(n - 1))


def shortest(x: float) -> Decimal:
    """Find the fewest digits that are *x* again; of two, the nearer to *x*, or else the even."""
    exact = Decimal(x)
    for k in range(1, 18):
        near = [Context(prec=k, rounding=to).create_decimal(exact) for to in (ROUND_DOWN, ROUND_UP)]
        if fitting := [decimal for decimal in near if float(decimal) == x]:
            return min(fitting, key=lambda decimal: (abs(decimal - exact), last_digit(decimal) % 2))
    raise AssertionError("17 digits are always enough")


def last_digit(decimal: Decimal) -> int:
    return decimal.as_tuple().digits[-1]


@given(values)
@example({"\ufb33": 1, "\U0001f600": 2, "\ud83d\ude00": 3, "\ud83d": 4})
@example([2**53 + 1, -0.0, 1e21, 1e-7, 123456789012345680000, 5e-324, 10**400])
def test_canonical_text_is_what_the_oracle_writes(value: Any) -> None:
    assert canonical_text(value) == oracle(value)


@given(numbers)
@example(2.0**-24)  # its neighbours are not equally near: rounding half to even fails
@example(562949953421312.75)  # two candidates are equally near: the even one is right
def test_every_number_is_written_as_the_oracle_writes_it(number: float) -> None:
    assert canonical_text(number) == oracle_number(number)


@given(values)
def test_what_was_written_canonically_is_read_and_written_alike(value: Any) -> None:
    text = canonical_text(value)

    assert canonical_text(parse_json(text)) == text
    assert json_text(parse_json(json_text(value))) == json_text(value)


@given(values)
def test_both_writers_say_the_same_value(value: Any) -> None:
    assert canonical_text(parse_json(json_text(value))) == canonical_text(value)


@given(values)
def test_canonical_bytes_are_utf_8_and_hold_no_surrogate(value: Any) -> None:
    assert canonical_json(value).decode() == canonical_text(value)


@given(values, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_how_a_text_is_escaped_and_spaced_does_not_matter(
    value: Any, ensure_ascii: bool, indent: int | str | None
) -> None:
    plain = parse_json(json_text(value))

    text = json.dumps(plain, ensure_ascii=ensure_ascii, indent=indent)

    assert canonical_text(parse_json(text)) == canonical_text(value)


@given(st.text(st.characters()) | st.text('[]{}",:\\u0123eE+-. truefalsn\n') | st.binary())
def test_whatever_the_text_it_is_a_value_or_the_documented_error(text: str | bytes) -> None:
    try:
        value = parse_json(text)
    except CanonicalJSONError:
        return

    assert canonical_text(parse_json(canonical_text(value))) == canonical_text(value)
