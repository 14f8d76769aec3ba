"""A row tells whether it is what was put."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agora.keys import PeerId
from agora.mailbox.rows import (
    checksum_of_stored,
    decode,
    hash_of_id,
    hash_of_recipient,
    is_sound,
    mail_of,
    row_of,
    sound_mail_of,
)
from agora.protocol.relay.actions import Mail

from .storing import letter

LETTER = letter(7)
ROW = row_of(LETTER, LETTER.size, 1_234)


def with_column(place: int, value: object) -> tuple[object, ...]:
    return (*ROW[:place], value, *ROW[place + 1 :])


def test_a_row_is_the_mail_it_was_made_of_with_the_moment() -> None:
    assert is_sound(ROW)
    assert mail_of(ROW) == sound_mail_of(ROW) == replace(LETTER, stored_ms=1_234)


@pytest.mark.parametrize("place", range(len(ROW)))
def test_a_bit_that_flips_in_any_column_is_noticed(place: int) -> None:
    column: Any = ROW[place]
    if isinstance(column, str):
        flipped = [
            column[:at] + chr(ord(letter) ^ 1 << bit) + column[at + 1 :]
            for at, letter in enumerate(column)
            for bit in range(8)
        ]
    else:
        flipped = [column ^ 1 << bit for bit in range(63)]

    assert not [value for value in flipped if is_sound(with_column(place, value))]


@pytest.mark.parametrize("place", range(1, 6))
@pytest.mark.parametrize("value", [None, 7, 0.5, b"\xff", LETTER.text.encode()])
def test_a_column_of_another_type_is_noticed_and_its_mail_can_be_shown(
    place: int, value: object
) -> None:
    row = with_column(place, value)
    mail = mail_of(row)

    assert not is_sound(row)
    assert sound_mail_of(row) is None
    assert isinstance(mail.text, str)
    assert isinstance(mail.recipient, str)


def test_a_stored_row_gets_the_checksum_it_would_have_been_put_with() -> None:
    stored = [value.encode() if isinstance(value, str) else value for value in ROW[:-1]]

    assert checksum_of_stored(*stored) == ROW[-1]


def test_a_stored_row_that_is_not_utf_8_gets_one_that_does_not_fit() -> None:
    assert not is_sound((*ROW[:-1], checksum_of_stored(*ROW[:5], b"\xff", *ROW[6:-1])))


def test_what_is_not_utf_8_is_shown_as_far_as_it_can_be() -> None:
    assert decode(b"zw\xf6lf") == "zw\ufffdlf"


@given(
    st.builds(
        Mail,
        st.text(),
        st.text().map(PeerId),
        st.text(),
        st.text(),
        st.none() | st.text(),
        st.integers(0, 2**53),
        st.booleans(),
    ),
    st.integers(0, 2**53),
)
def test_what_is_made_at_the_least_cost_is_what_is_made_of_any_row(mail: Mail, now_ms: int) -> None:
    row = row_of(mail, mail.size, now_ms)

    assert sound_mail_of(row) == mail_of(row) == replace(mail, stored_ms=now_ms)


def test_the_hashes_of_one_mailbox_are_together_and_those_of_a_stored_text_are_its_own() -> None:
    one = [hash_of_id("carol", str(number)) for number in range(100)]
    other = [hash_of_id("dave", str(number)) for number in range(100)]

    assert len({*one, *other}) == 200
    assert max(one) < min(other) or max(other) < min(one)
    assert max(*one, *other) < 2**63
    assert hash_of_id(b"carol", b"1") == one[1]
    assert hash_of_recipient(b"carol") == hash_of_recipient("carol") < 2**48
