"""Every recorded situation, acted against our relay: as recorded, or as stated to be better."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agora.codes import ErrorCode
from agora.relay import Relay

from .replay import replay
from .situations import DIFFERENCES, KEYS, NOT_APPLICABLE, SITUATIONS, Situation, as_we_answer


@pytest.mark.parametrize(
    "situation",
    [pytest.param(s, id=s.slug) for s in SITUATIONS if s.title not in NOT_APPLICABLE],
)
async def test_our_relay_answers_as_recorded_or_as_stated(
    situation: Situation, tmp_path: Path
) -> None:
    @asynccontextmanager
    async def open_relay(situation: Situation) -> AsyncIterator[Relay]:
        settings = {"rate_limit_enabled": False} | dict(situation.relay)
        if "identity" in settings:
            settings["identity"] = KEYS[settings["identity"]]
        settings["storage_peers"] = [
            KEYS[name].peer_id for name in settings.get("storage_peers", [])
        ]
        # The older relay looked into no envelope; those who need that still can have it.
        settings["envelopes"] = "open" if situation.dialect == "older" else "strict"
        async with Relay(port=0, data_dir=tmp_path, **settings) as relay:
            yield relay

    heard = await replay(as_we_answer(situation), open_relay)

    errors = [frame for frame in heard if frame["type"] == "error"]
    assert all(ErrorCode(frame["code"]) and frame["message"] for frame in errors)
