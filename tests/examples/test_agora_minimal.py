"""What agora_minimal.py tells people when something is wrong."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

import agora
from tests.support import raw_peer

from .script import copy_example, running

NAME = "agora_minimal"

NOT_RELAYS = ["ws://localhost:1", "http://localhost:1", "ws://localhost:port", "ws://[", "nonsense"]


@pytest.mark.parametrize("url", NOT_RELAYS)
async def test_a_relay_that_is_not_there_is_said_so_and_is_the_end(
    url: str, tmp_path: Path
) -> None:
    async with running(copy_example(NAME, tmp_path, url)) as example:
        assert await example.ends() == 1

    assert example.lines[0].startswith(f"! no relay at {url}: ")
    assert "agora relay" in example.lines[1]
    assert len(example.lines) == 2  # no traceback


async def test_a_relay_that_stops_is_the_end(tmp_path: Path) -> None:
    async with (
        agora.Relay(port=0) as relay,
        running(copy_example(NAME, tmp_path, relay.url)) as example,
    ):
        await example.registered()
        await relay.close()

        assert await example.ends() == 1
    assert example.lines[1:] == ["= the relay has closed the connection"]


async def test_an_error_of_the_relay_is_shown_and_not_the_end(tmp_path: Path) -> None:
    async with (
        agora.Relay(port=0, rate_limit_max_messages=1) as relay,
        raw_peer(relay.url),
        raw_peer(relay.url),
        running(copy_example(NAME, tmp_path, relay.url)) as example,
    ):
        await example.says("! the relay says: ")
        async with raw_peer(relay.url) as observer:
            await example.says(f"> @{observer.id[-8:]}")


async def test_text_is_shown_without_what_could_play_tricks_on_a_terminal(
    relay: agora.Relay, tmp_path: Path
) -> None:
    async with (
        raw_peer(relay.url) as observer,
        running(copy_example(NAME, tmp_path, relay.url)) as example,
    ):
        peer = (await observer.hear())["publicKey"]
        await observer.send(peer, {"text": "one\n\x1b[2Jtwo\u202ethree"})

        line = await example.says("three")
        assert line == f"< @{observer.id[-8:]}: one [2Jtwothree"


async def test_an_interrupt_ends_it_without_a_traceback(relay: agora.Relay, tmp_path: Path) -> None:
    async with running(copy_example(NAME, tmp_path, relay.url)) as example:
        await example.registered()

        assert await example.stop(signal.SIGINT) == 0
    assert len(example.lines) == 1
