"""What holds for every test of faults: none of them is logged as one of ours."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.support import faults_in


@pytest.fixture(autouse=True)
def _no_fault_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    # Each write to a connection that was just reset is a warning; here that is the weather.
    caplog.set_level(logging.ERROR, logger="asyncio")
    yield
    assert faults_in(caplog) == []


@pytest.fixture(autouse=True)
def _backoff_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the jitter fall on its short side: the first wait is 10 ms."""
    monkeypatch.setattr("random.random", lambda: 0.02)
