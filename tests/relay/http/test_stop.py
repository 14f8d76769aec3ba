"""A relay that stops: what is kept waiting is answered, streams end, nothing is lost."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from agora.errors import ConfigurationError
from agora.relay import Relay
from tests.relay.http.talking import http_peer, is_online
from tests.support import eventually, other_tasks, raw_peer


async def test_open_polls_end_at_once(relay: Relay) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob, asyncio.TaskGroup() as group:
        poll = group.create_task(bob.poll(wait=60))
        await is_online(alice, bob)
        await relay.close()

    assert poll.result() == []  # an answer, where one that is waited for in vain is dropped


async def test_streams_are_told_goodbye(relay: Relay) -> None:
    async with http_peer(relay) as alice, alice.events() as events:
        _, told = await asyncio.gather(relay.close(), events.next())

    assert told == ("closed", {"code": 1001, "reason": "going_away"})


async def test_what_is_being_sent_is_stored_and_answered(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"port": 0, "data_dir": tmp_path, "ack_timeout": 60.0}
    async with Relay(**settings, http_port=0) as relay:
        async with http_peer(relay) as alice, http_peer(relay) as bob:
            await bob.poll(wait=0)
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(alice.send(bob.id, "last words"))
                await eventually(lambda: "message" in relay.counts)
                await relay.close()
        port = int(bob.url.rpartition(":")[2])

    assert [one["status"] for one in sending.result()["receipts"]] == ["stored"]
    async with (
        Relay(**settings, http_port=port) as relay,
        http_peer(relay, bob.keys, register=False) as again,
    ):
        again.token = bob.token
        assert await again.payloads() == ["last words"]


async def test_a_relay_that_stopped_leaves_no_connection_open(relay: Relay) -> None:
    async with http_peer(relay) as alice:
        await alice.get("/v1/peers")
        await relay.close()

        assert other_tasks() == set()


async def test_a_relay_serves_http_only_where_it_is_asked_to() -> None:
    async with Relay(port=0) as relay:
        assert relay.http_url is None


async def test_http_is_looked_for_one_port_above() -> None:
    async with Relay(port=0, http=True) as relay:
        assert relay.http_url is not None


async def test_where_the_port_above_is_taken_the_relay_does_without(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with _a_port_whose_neighbour_is_free() as taken:
        port = taken.getsockname()[1] - 1
        async with Relay(port=port, http=True) as relay, raw_peer(relay.url):
            assert relay.http_url is None

    assert "serving no HTTP" in [record.message for record in caplog.records]


def _a_port_whose_neighbour_is_free() -> socket.socket:
    """Take a port above one that nobody has."""
    while True:
        taken, below = socket.socket(), socket.socket()
        with below:
            taken.bind(("127.0.0.1", 0))
            try:
                below.bind(("127.0.0.1", taken.getsockname()[1] - 1))
            except OSError:
                taken.close()
            else:
                taken.listen()
                return taken


async def test_a_port_that_was_asked_for_has_to_be_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigurationError, match="--http-port"):
            await Relay(port=0, http_port=taken.getsockname()[1]).start()

    assert other_tasks() == set()
