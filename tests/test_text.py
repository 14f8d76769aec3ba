"""What is shown of a message: the reference's rules, and nothing that deceives a terminal."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.canonical import Json
from agora.text import extract_text, printable, printable_line, sanitize_text

# Surrogates too, which Hypothesis leaves out by default.
any_text = st.text(st.characters())


def test_control_characters_go_and_lone_surrogates_are_replaced() -> None:
    text = "a\0b\tc\nd\re\x7f\x85\u202e\ud800x\udc00\U0001f600"

    assert sanitize_text(text) == "ab\tc\nd\re\u202e\ufffdx\ufffd\U0001f600"


def test_two_surrogates_that_form_a_pair_are_one_character() -> None:
    assert sanitize_text("\ud83d\ude00") == "\U0001f600"


def test_surrogates_meet_when_what_was_between_them_goes() -> None:
    assert sanitize_text("\ud83d\0\ude00") == "\U0001f600"


@pytest.mark.parametrize(
    ("text", "sanitized"),
    [
        ("\ud800", "\ufffd"),
        ("\ud800\ud800", "\ufffd\ufffd"),
        ("\udc00x\ud800", "\ufffdx\ufffd"),
        ("\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        ("\ud83d\ude00\ude00", "\U0001f600\ufffd"),
        ("\ud83dé", "\ufffdé"),
    ],
)
def test_each_lone_surrogate_becomes_one_replacement_character(text: str, sanitized: str) -> None:
    assert sanitize_text(text) == sanitized


@given(any_text)
def test_sanitized_text_is_always_utf_8_and_stays_as_it_is(text: str) -> None:
    sanitized = sanitize_text(text)

    assert sanitized.encode().decode() == sanitized
    assert sanitize_text(sanitized) == sanitized


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({"text": "hi\x07"}, "hi"),
        ({"text": ""}, ""),
        ("hi\x1b[2J", "hi[2J"),
        ("", ""),
        (None, '""'),
        ({"text": 1}, '{"text":1}'),
        ({"b": 1.0, "a": [True, None]}, '{"b":1,"a":[true,null]}'),
        (["text"], '["text"]'),
        (False, "false"),
        (0, "0"),
        ({"t": "\ud800"}, r'{"t":"\ud800"}'),
        ({"t": "\x7f"}, '{"t":""}'),
    ],
)
def test_the_text_of_a_payload_is_what_the_reference_shows(payload: Json, text: str) -> None:
    assert extract_text(payload) == text


@pytest.mark.parametrize(
    "hidden",
    ["\u202e", "\u2066", "\u200b", "\u200d", "\u2060", "\ufeff", "\u00ad", "\U000e0041", "\ufe0f"],
)
def test_what_cannot_be_seen_is_not_printed(hidden: str) -> None:
    assert printable(f"pay{hidden}pal") == "paypal"


@given(any_text)
def test_printable_text_moves_no_cursor_and_turns_no_line(text: str) -> None:
    shown = printable(text)

    assert not any(unicodedata.category(c) == "Cc" for c in shown if c not in "\t\n")
    assert not any(unicodedata.bidirectional(c) in _BIDI_CONTROLS for c in shown)
    assert printable(shown) == shown


_BIDI_CONTROLS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI", "BN"}


def test_a_carriage_return_cannot_overwrite_a_line() -> None:
    assert printable("alice: no\rbob: yes\r\n\u2028end") == "alice: no\nbob: yes\n\nend"


@given(any_text)
def test_a_printable_line_is_one_line(text: str) -> None:
    assert not re.search(r"[\t\r\n\u2028\u2029]", printable_line(text))


def test_a_line_break_in_a_name_becomes_a_space() -> None:
    assert printable_line("bob\r\n> root:\tyes") == "bob > root: yes"


def test_letters_of_every_script_stay() -> None:
    text = "naïve Привет مرحبا 你好 🚀"

    assert printable(text) == text
