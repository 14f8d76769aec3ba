"""The reference's real client and relay against ours: `make interop REFERENCE=DIR`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from .reference import (
    CURRENT_DIR,
    OLDER_DIR,
    ReferenceRelay,
    needs_current,
    needs_older,
    reference_relay,
)
from .replay import replay
from .situations import KEYS, NOT_APPLICABLE, SITUATIONS, Situation

# The frames are what the reference says


@pytest.mark.parametrize(
    "situation",
    [
        pytest.param(s, id=s.slug, marks=needs_older if s.dialect == "older" else needs_current)
        for s in SITUATIONS
        if s.title not in NOT_APPLICABLE
    ],
)
async def test_the_reference_relay_says_what_was_recorded(
    situation: Situation, tmp_path: Path
) -> None:
    @asynccontextmanager
    async def open_relay(situation: Situation) -> AsyncIterator[ReferenceRelay]:
        directory = OLDER_DIR if situation.dialect == "older" else CURRENT_DIR
        options = dict(situation.relay) | {"data_dir": str(tmp_path)}
        if "identity" in options:
            key_pair = KEYS[options["identity"]]
            options["identity"] = {
                "publicKey": key_pair.public_key,
                "privateKey": key_pair.private_key,
            }
        options["storage_peers"] = [KEYS[name].peer_id for name in options.get("storage_peers", [])]
        async with reference_relay(directory, options) as relay:
            yield relay

    await replay(situation, open_relay)
