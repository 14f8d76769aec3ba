"""Error codes and close codes: every one has its advice, and none changes its value."""

from __future__ import annotations

import pytest

from agora.codes import (
    CLOSE_ADVICE,
    ERROR_ADVICE,
    RECEIPT_MEANING,
    CloseCode,
    ErrorCode,
    ReceiptStatus,
    may_reconnect,
)


def test_every_code_has_its_advice() -> None:
    assert set(RECEIPT_MEANING) == set(ReceiptStatus)
    assert set(ERROR_ADVICE) == set(ErrorCode)
    assert set(CLOSE_ADVICE) == set(CloseCode)


def test_codes_keep_their_values() -> None:
    assert {code.name.lower() for code in ErrorCode} == set(ErrorCode)
    assert {code.name: int(code) for code in CloseCode} == {
        "NORMAL": 1000,
        "GOING_AWAY": 1001,
        "PROTOCOL_ERROR": 1002,
        "INVALID_TEXT": 1007,
        "TOO_BIG": 1009,
        "INTERNAL_ERROR": 1011,
        "TRY_AGAIN_LATER": 1013,
        "SLOW_CONSUMER": 4001,
        "IDLE": 4002,
        "REGISTER_TIMEOUT": 4003,
        "PROOF_FAILED": 4500,
        "PROOF_REQUIRED": 4502,
    }


def test_what_would_be_answered_alike_again_is_final_and_what_passes_is_not() -> None:
    assert {code for code, advice in ERROR_ADVICE.items() if advice.final} == {
        "invalid_message",
        "invalid_envelope",
        "sender_mismatch",
        "recipient_mismatch",
        "proof_required",
        "proof_failed",
        "stale",
        "from_the_future",
        "too_large",
        "duplicate",
        "expired",
        "undeliverable",
    }


def test_an_end_is_final_exactly_if_one_may_not_come_back() -> None:
    assert {code: advice.final for code, advice in CLOSE_ADVICE.items()} == {
        code: not may_reconnect(code) for code in CloseCode
    }


@pytest.mark.parametrize(
    ("code", "may"), [(1000, True), (1006, True), (4499, True), (4500, False), (4999, False)]
)
def test_from_4500_to_4999_nobody_comes_back_by_themselves(code: int, may: bool) -> None:
    assert may_reconnect(code) == may


def test_advice_reads_as_a_row_of_a_table() -> None:
    for advice in [*ERROR_ADVICE.values(), *CLOSE_ADVICE.values()]:
        assert advice.when
        assert advice.do
        assert not advice.when.endswith(".")
        assert not advice.do.endswith(".")
