"""Each fuzz target runs for a moment; `python -m fuzzing.frames --seconds 600` runs for longer."""

from __future__ import annotations

from collections.abc import Hashable

import pytest

from fuzzing import canonical, envelopes, frames, rows
from fuzzing.material import TOKENS
from fuzzing.mutation import Finding, Target, fuzz

TARGETS = [
    pytest.param(canonical.target, canonical.CORPUS, TOKENS, 5_000, id="canonical"),
    pytest.param(envelopes.target, envelopes.CORPUS, TOKENS, 10_000, id="envelopes"),
    pytest.param(frames.target, frames.CORPUS, TOKENS, 10_000, id="frames"),
    pytest.param(rows.target, rows.CORPUS, rows.TOKENS, 200, id="rows"),
]
LONG = [pytest.mark.long, pytest.mark.timeout(1_200)]


@pytest.mark.parametrize(
    "times", [pytest.param(1, id="short"), pytest.param(100, id="long", marks=LONG)]
)
@pytest.mark.parametrize(("target", "corpus", "tokens", "inputs"), TARGETS)
def test_whatever_bytes_come_the_invariant_holds(
    target: Target,
    corpus: list[bytes],
    tokens: list[bytes],
    inputs: int,
    times: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tried, outcomes = fuzz(
        target, corpus, tokens=tokens, seed=1, is_enough=lambda tried: tried >= inputs * times
    )

    if target is rows.target:
        caplog.clear()  # a mailbox says what is damaged, as it should
    print(f"fuzzing: {target.__module__}: {tried:,} inputs, {outcomes} outcomes")
    assert outcomes > 1


def test_a_parser_that_fails_is_found_with_what_it_failed_on() -> None:
    def fails_on_a_comma_behind_a_bracket(data: bytes) -> Hashable:
        assert b"[," not in data
        return data[:1]

    with pytest.raises(Finding) as found:
        fuzz(
            fails_on_a_comma_behind_a_bracket,
            [b"[1]", b"{}"],
            tokens=[b","],
            seed=1,
            is_enough=lambda tried: tried > 10_000,
        )
    assert b"[," in found.value.data
