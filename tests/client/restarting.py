"""
A relay that restarts in this very process, while clients knock.

asyncio drops a connection that comes while its server closes, and its socket is left to the
garbage (https://github.com/python/cpython/issues/109564, mended in Python 3.12).
"""

from __future__ import annotations

import gc

import pytest

from agora.testing import RelayInThread

__all__ = ["drops_what_comes_late", "restart"]

drops_what_comes_late = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)
"""For a test that restarts a relay: what is dropped then is warned of."""


def restart(relay: RelayInThread) -> None:
    """Restart a relay; what it dropped is warned of now, not in some later test."""
    relay.restart()
    gc.collect()
