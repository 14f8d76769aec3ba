"""Reading JSON and writing it canonically, case by case; the laws are in properties/."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from enum import IntEnum, StrEnum
from math import inf, nan
from typing import Any

import pytest

from agora.canonical import (
    MAX_DEPTH,
    canonical_json,
    canonical_text,
    check_exact,
    json_text,
    parse_json,
)
from agora.errors import CanonicalJSONError


def nested_list(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def nested_dict(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


# Writing


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.0, "1"),
        (-1.5, "-1.5"),
        (-0.0, "0"),
        (1e20, "100000000000000000000"),
        (123456789012345680000.0, "123456789012345680000"),
        (1e21, "1e+21"),
        (-1e21, "-1e+21"),
        (1.5e300, "1.5e+300"),
        (1e-6, "0.000001"),
        (1.25e-5, "0.0000125"),
        (1e-7, "1e-7"),
        (-1.5e-7, "-1.5e-7"),
        (5e-324, "5e-324"),
        (0.1 + 0.2, "0.30000000000000004"),
        (9007199254740993, "9007199254740992"),
        (2**53 + 2, "9007199254740994"),
        (-(2**63), "-9223372036854776000"),
        (999999999999999999999, "1e+21"),
        (10**400, "null"),
        (-(10**400), "null"),
        (nan, "null"),
        (inf, "null"),
        (-inf, "null"),
    ],
)
def test_a_number_is_written_as_ecmascript_writes_it(number: float, text: str) -> None:
    assert canonical_text(number) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("\x00\x1f\x7f", '"\\u0000\\u001f\x7f"'),
        ('\b\f\n\r\t"\\/', '"\\b\\f\\n\\r\\t\\"\\\\/"'),
        ("\u2028\u2029é", '"\u2028\u2029é"'),
        ("\ud800x\udc00", '"\\ud800x\\udc00"'),
        ("\udbff\udbff", '"\\udbff\\udbff"'),
        ("\U0001f600", '"\U0001f600"'),
        ("\ud83d\ude00", '"\U0001f600"'),
        ("\ud83d\ud83d\ude00\ude00", '"\\ud83d\U0001f600\\ude00"'),
    ],
)
def test_a_string_is_quoted_as_ecmascript_quotes_it(value: str, text: str) -> None:
    assert canonical_text(value) == text
    assert json_text(value) == text


def test_names_are_sorted_by_utf_16_code_units() -> None:
    value = {"\ufb33": 1, "\U0001f600": 2, "é": 3, "z": 4, "": 5, "10": 6, "9": 7}

    assert canonical_text(value) == '{"":5,"10":6,"9":7,"z":4,"é":3,"\U0001f600":2,"\ufb33":1}'


def test_names_are_sorted_at_every_depth_and_arrays_never() -> None:
    value = {"b": [3, {"d": 1, "c": [2, 1]}], "a": {}}

    assert canonical_text(value) == '{"a":{},"b":[3,{"c":[2,1],"d":1}]}'


def test_members_keep_their_order_in_json_text_save_for_array_indices() -> None:
    value = {"b": 1, "10": 2, "01": 3, "9": 4, "4294967295": 5, "4294967294": 6, "a": 7}

    assert json_text(value) == ('{"9":4,"10":2,"4294967294":6,"b":1,"01":3,"4294967295":5,"a":7}')


def test_two_names_that_are_one_in_javascript_are_one_member_and_the_last_wins() -> None:
    value = {"\U0001f600": 1, "\ud83d\ude00": 2}

    assert canonical_text(value) == '{"\U0001f600":2}'


def test_a_tuple_is_a_list_and_an_enumeration_its_value() -> None:
    class Colour(StrEnum):
        RED = "red"

    class Level(IntEnum):
        HIGH = 3

    assert canonical_text((1, (), Colour.RED, Level.HIGH)) == '[1,[],"red",3]'
    assert canonical_text({Colour.RED: True}) == '{"red":true}'


def test_true_and_false_are_not_numbers() -> None:
    assert canonical_text([True, False, 1, 0, None]) == "[true,false,1,0,null]"


def test_canonical_json_is_the_text_in_utf_8() -> None:
    assert canonical_json("é\ud800") == b'"\xc3\xa9\\ud800"'


@pytest.mark.parametrize(
    "value", [b"x", bytearray(), {1, 2}, object(), 1j, {1: 2}, {None: 1}, [{"a": (b"",)}], range(3)]
)
@pytest.mark.parametrize("write", [canonical_text, canonical_json, json_text])
def test_what_json_cannot_hold_is_refused(write: Callable[[object], object], value: object) -> None:
    with pytest.raises(CanonicalJSONError):
        write(value)


# Reading


def test_of_equal_names_the_last_wins_and_the_first_place_is_kept() -> None:
    assert json_text(parse_json('{"a":1,"b":2,"a":3}')) == '{"a":3,"b":2}'


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e400", None),
        ("-1e400", None),
        ("9" * 400, None),
        ("-" + "9" * 5000, None),
        ("9" * 300, int(float("9" * 300))),
        ("1e-400", 0),
        ("9007199254740993", 9007199254740992),
        ("123456789012345678", 123456789012345680),
        ("-0", 0),
        ("1.50", 1.5),
    ],
)
def test_a_number_takes_the_value_of_the_nearest_double(text: str, value: float | None) -> None:
    assert parse_json(text) == value


def test_an_integer_stays_an_integer() -> None:
    assert [type(number) for number in (parse_json("5"), parse_json("9" * 20))] == [int, int]
    assert type(parse_json("5.0")) is float


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", '{"a":NaN}', "[1,Infinity]"])
def test_what_is_not_a_number_is_refused(text: str) -> None:
    with pytest.raises(CanonicalJSONError):
        parse_json(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "[",
        "]",
        "[1,]",
        "{,}",
        '{"a"}',
        "{a:1}",
        "'a'",
        "01",
        "1.",
        ".5",
        "+1",
        "1 2",
        "nul",
    ],
)
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(CanonicalJSONError):
        parse_json(text)


@pytest.mark.parametrize(
    "text",
    ['"\n"', '"\\x"', '"\\ud83"', '"', "\ufeff1", "\xa01", "[1]\x00", "\ud800", '"\\\ude00"'],
)
def test_characters_out_of_place_are_refused(text: str) -> None:
    with pytest.raises(CanonicalJSONError):
        parse_json(text)


@pytest.mark.parametrize("data", [b"\xff", b'"\xed\xa0\x80"', b'"\xc3', b"\xef\xbb\xbf1", b"1\x00"])
def test_bytes_that_are_not_utf_8_or_begin_with_a_mark_are_refused(data: bytes) -> None:
    with pytest.raises(CanonicalJSONError):
        parse_json(data)


def test_bytes_are_read_as_utf_8() -> None:
    assert parse_json('["é😀"]'.encode()) == ["é😀"]


@pytest.mark.parametrize(
    "text", ['"😀"', '"\\ud83d\\ude00"', '"\\uD83D\\uDE00"', '"\ud83d\ude00"', '"\\ud83d\ude00"']
)
def test_an_astral_character_is_one_thing_however_it_is_written(text: str) -> None:
    assert parse_json(text) == "😀"
    assert parse_json(f'{{{text}:1,"😀":2}}') == {"😀": 2}


def test_lone_surrogates_are_kept() -> None:
    assert parse_json('"\\ud83d\\u0041"') == "\ud83dA"
    assert parse_json('"\\ude00\ud83d"') == "\ude00\ud83d"


# Depth


@pytest.mark.parametrize("nested", [nested_list, nested_dict])
def test_as_many_levels_as_promised_are_read_and_written(nested: Callable[[int], object]) -> None:
    text = canonical_text(nested(MAX_DEPTH))

    assert MAX_DEPTH >= 512
    assert canonical_text(parse_json(text)) == text


@pytest.mark.parametrize("nested", [nested_list, nested_dict])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 100_000])
def test_one_level_more_is_not_written(nested: Callable[[int], object], depth: int) -> None:
    with pytest.raises(CanonicalJSONError, match="deep"):
        canonical_text(nested(depth))


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('{"]":[', "]}")])
def test_one_level_more_is_not_read(opening: str, closing: str, depth: int) -> None:
    for text in (opening * depth, opening * depth + "1" + closing * depth):
        with pytest.raises(CanonicalJSONError, match="deep"):
            parse_json(text)


def test_a_caller_may_allow_less_depth() -> None:
    assert parse_json("[[]]", max_depth=2) == [[]]
    with pytest.raises(CanonicalJSONError, match="nested 3 levels deep, more than 2"):
        parse_json("[[[]]]", max_depth=2)


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)

    with pytest.raises(CanonicalJSONError, match="deep"):
        canonical_text(loop)


def test_brackets_side_by_side_are_not_depth() -> None:
    assert parse_json(f"[{'[],{},' * 10_000}[]]") == [[], {}] * 10_000 + [[]]


@pytest.mark.parametrize("inside", ["[" * 5_000, "\\\\" + "{" * 5_000, '\\"' + "[" * 5_000])
def test_brackets_inside_a_string_are_not_depth(inside: str) -> None:
    parsed = parse_json(f'[["{inside}"]]')

    assert canonical_text(parsed) == f'[["{inside}"]]'


@pytest.mark.parametrize("text", ['"' + '\\"' * 200_000 + "[" * 600, '"\\' + "[" * 600_000])
def test_a_string_without_an_end_is_refused_in_linear_time(text: str) -> None:
    with pytest.raises(CanonicalJSONError):
        parse_json(text)


# From Python 3.12 on its parser has a stack of its own, and a deep caller is as well off as any.
stack_is_shared = sys.version_info < (3, 12)


def test_a_caller_deep_in_the_stack_gets_the_value_or_the_documented_error() -> None:
    text = "[" * 500 + "]" * 500

    def parse_below(frames: int) -> object:
        return parse_json(text) if frames == 0 else parse_below(frames - 1)

    refusal = pytest.raises(CanonicalJSONError, match="stack")
    with refusal if stack_is_shared else nullcontext():
        parse_below(sys.getrecursionlimit() - 400)


def test_writing_needs_no_more_stack_for_a_deep_value() -> None:
    value = nested_list(500)

    def write_below(frames: int) -> str:
        return canonical_text(value) if frames == 0 else write_below(frames - 1)

    assert write_below(sys.getrecursionlimit() - 400) == "[" * 500 + "]" * 500


@pytest.mark.parametrize("value", [2**53, -(2**53), 2**60, 1.5, True, "1e400", [{"n": (1, 2)}]])
def test_what_arrives_as_it_was_may_be_sent(value: Any) -> None:
    check_exact(value)


@pytest.mark.parametrize("value", [2**53 + 1, 10**400, float("nan"), float("-inf")])
def test_a_number_that_would_arrive_as_another_is_not_sent(value: Any) -> None:
    with pytest.raises(CanonicalJSONError, match="would arrive as"):
        check_exact({"deep": [value]})
