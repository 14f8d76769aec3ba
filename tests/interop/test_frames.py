"""Every recorded situation, acted against our relay: as recorded, or as stated to be better."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from agora.codes import ErrorCode

from .page import PAGE, as_markdown
from .relays import open_relay
from .replay import RunningRelay, replay
from .situations import DIFFERENCES, NOT_APPLICABLE, SITUATIONS, Situation, as_we_answer


@pytest.mark.parametrize(
    "situation",
    [pytest.param(s, id=s.slug) for s in SITUATIONS if s.title not in NOT_APPLICABLE],
)
async def test_our_relay_answers_as_recorded_or_as_stated(
    situation: Situation, tmp_path: Path
) -> None:
    def open_ours(situation: Situation) -> AbstractAsyncContextManager[RunningRelay]:
        # The older relay looked into no envelope; who needs that can still have it.
        envelopes = "open" if situation.dialect == "older" else "strict"
        return open_relay("ours", tmp_path, {**situation.relay, "envelopes": envelopes})

    heard = await replay(as_we_answer(situation), open_ours)

    errors = [frame for frame in heard if frame["type"] == "error"]
    assert all(ErrorCode(frame["code"]) and frame["message"] for frame in errors)


def test_every_situation_is_acted_or_has_its_reason() -> None:
    titles = [situation.title for situation in SITUATIONS]

    assert len(titles) == len(set(titles)) == 67
    assert set(titles) >= DIFFERENCES.keys() | NOT_APPLICABLE.keys()
    assert not DIFFERENCES.keys() & NOT_APPLICABLE.keys()
    assert all(s.steps for s in SITUATIONS if s.title not in NOT_APPLICABLE)


def test_every_difference_changes_what_is_heard() -> None:
    recorded = {situation.title: situation for situation in SITUATIONS}

    for title in DIFFERENCES:
        assert as_we_answer(recorded[title]).steps != recorded[title].steps


def test_the_page_of_differences_says_what_the_tests_run() -> None:
    assert PAGE.read_text("utf-8") == as_markdown()
