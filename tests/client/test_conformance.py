"""One contract, over every transport: what clients may expect of each other does not differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agora.client import Client
from agora.keys import KeyPair
from agora.testing import RelayInThread, relay_in_thread
from agora.testing.relay_contract import RelayContract
from tests.support import agent

SETTINGS: dict[str, Any] = {"rate_limit_enabled": False, "ack_timeout": 1.0}


@pytest.fixture(scope="module")
def relay() -> Iterator[RelayInThread]:
    """One relay for all; each test has peers of its own."""
    with relay_in_thread(**SETTINGS) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_is_left_running() -> None:
    """Look at nothing here: each test ends its own loop, which warns of what is left open."""


class OverOurRelay(RelayContract):
    relay: RelayInThread

    @pytest.fixture(autouse=True)
    def _at_relay(self, relay: RelayInThread) -> None:
        self.relay = relay

    def restart_relay(self) -> None:
        self.relay.restart()


class TestOverAWebSocket(OverOurRelay):
    def new_client(self, keys: KeyPair, **options: Any) -> Client:
        return agent(self.relay.url, keys, **options)
