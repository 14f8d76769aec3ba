"""The pytest plugin: ``agora_relay`` is a relay, new for each test, on a free port."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from agora.testing import RelayInThread

__all__ = ["agora_relay"]


@pytest.fixture
def agora_relay() -> Iterator[RelayInThread]:
    """Run a relay beside the test: ``.url`` to connect to, ``.stop()``, ``.restart()``."""
    # Imported here: pytest loads this plugin also where no test asks for a relay.
    from agora.testing import relay_in_thread

    with relay_in_thread() as relay:
        yield relay
