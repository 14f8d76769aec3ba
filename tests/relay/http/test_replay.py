"""Acked mail, told again to whoever it was for, and to nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agora.envelope import open_envelope
from agora.relay import Relay, RelayConfig
from agora.sealing import now_ms
from tests.relay.http.talking import HttpPeer, http_peer, unpin
from tests.relay.http.test_legacy import register
from tests.support import agent, raw_peer

HOUR = 3_600.0


@pytest.fixture
async def keeping() -> AsyncIterator[Relay]:
    """A relay that keeps acked mail, and takes private keys."""
    async with Relay(port=0, http_port=0, retain=HOUR, rest_private_keys=True) as running:
        yield running


async def replayed(peer: HttpPeer, **query: Any) -> list[Any]:
    """Return what the acked mail says, a page."""
    told = await peer.get("/v1/messages/replay", params=query)
    for message in told["messages"]:
        open_envelope(message["envelope"])
    return [message["envelope"]["payload"] for message in told["messages"]]


def ago(**time: float) -> str:
    return (datetime.now(UTC) - timedelta(**time)).isoformat()


async def test_acked_mail_is_told_again_as_whole_envelopes_and_changes_nothing(
    keeping: Relay,
) -> None:
    async with http_peer(keeping, name="alice") as alice, http_peer(keeping) as bob:
        await alice.send(bob.id, "one", wait=0)
        await alice.send(bob.id, "two", wait=0)
        before = await replayed(bob)
        polled = await bob.poll()
        await bob.ack(*[message["envelope"]["id"] for message in polled])
        told = await bob.get("/v1/messages/replay")

        assert before == []
        assert [one["envelope"] for one in told["messages"]] == [one["envelope"] for one in polled]
        assert told["messages"][0] == polled[0] | {"stored": True}
        assert told["hasMore"] is False
        assert await bob.poll(wait=0) == []
        assert await replayed(bob) == ["one", "two"]


async def test_what_came_by_a_websocket_is_told_by_http(keeping: Relay) -> None:
    async with http_peer(keeping) as alice:
        async with agent(keeping.url, alice.keys) as same, agent(keeping.url) as bob:
            bob.post(alice.id, {"text": "live"})
            async for message in same:
                await message.ack()
                break

        assert await replayed(alice) == [{"text": "live"}]


async def test_nobody_is_told_the_mail_of_another(keeping: Relay) -> None:
    async with http_peer(keeping) as alice, http_peer(keeping) as eve:
        await alice.send(alice.id, wait=0)
        await alice.payloads()
        answer = await eve.ask("GET", "/v1/messages/replay")
        nobody = await HttpPeer(eve.url, eve.http, eve.keys).ask("GET", "/v1/messages/replay")

        assert answer.json() == {"messages": [], "hasMore": False, "next": 0}
        assert nobody.status_code == 401
        assert await replayed(alice) == ["hello"]


async def test_pages_behind_each_other_lose_nothing_and_go_on_with_what_is_acked_later(
    keeping: Relay,
) -> None:
    async with http_peer(keeping) as alice:
        for number in range(5):
            await alice.send(alice.id, number, wait=0)
        await alice.payloads()
        found, after, has_more = [], 0, True
        while has_more:
            query = {"since": ago(minutes=1), "after": after, "limit": 2}
            page = await alice.get("/v1/messages/replay", params=query)
            found += [message["envelope"]["payload"] for message in page["messages"]]
            after, has_more = page["next"], page["hasMore"]
        await alice.send(alice.id, "later", wait=0)
        await alice.payloads()

        assert found == [0, 1, 2, 3, 4]
        assert await replayed(alice, after=after) == ["later"]


async def test_long_mail_comes_a_megabyte_at_a_time(keeping: Relay) -> None:
    async with http_peer(keeping) as alice:
        for number in range(7):
            await alice.send(alice.id, f"{number}" * 200_000, wait=0)
            await alice.payloads()
        page = await alice.get("/v1/messages/replay")
        rest = await replayed(alice, after=page["next"])

        assert (len(page["messages"]), page["hasMore"]) == (5, True)
        assert [text[0] for text in rest] == ["5", "6"]


async def test_it_begins_where_it_is_asked_to(keeping: Relay) -> None:
    async with http_peer(keeping) as alice:
        await alice.send(alice.id, wait=0)
        await alice.payloads()

        assert await replayed(alice, since=ago(seconds=30)) == ["hello"]
        assert await replayed(alice, since="2001-01-01T00:00:00z") == ["hello"]
        assert await replayed(alice, since=ago(seconds=-30)) == []


@pytest.mark.parametrize("since", ["yesterday", "1767225600000", "2026-13-01", "2026-01-01T25:00"])
async def test_a_moment_that_is_none_is_refused(keeping: Relay, since: str) -> None:
    async with http_peer(keeping) as alice:
        answer = await alice.ask("GET", "/v1/messages/replay", params={"since": since})

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_message")


async def test_it_outlives_a_restart_and_another_token(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"port": 0, "http_port": 0, "data_dir": tmp_path, "retain": HOUR}
    async with Relay(**settings) as relay, http_peer(relay) as alice:
        await alice.send(alice.id, wait=0)
        await alice.payloads()

    async with Relay(**settings) as relay, http_peer(relay, alice.keys) as again:
        assert await replayed(again) == ["hello"]
        assert await again.poll(wait=0) == []


async def test_nobody_is_told_what_was_kept_for_longer_than_it_is_now(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"port": 0, "http_port": 0, "data_dir": tmp_path}
    async with Relay(**settings, retain=HOUR) as relay, http_peer(relay) as alice:
        await alice.send(alice.id, wait=0)
        await alice.payloads()
        await relay.reload(RelayConfig(**settings))
        answer = await alice.ask("GET", "/v1/messages/replay")

        assert answer.status_code == 501

    async with Relay(**settings, retain=0.001) as relay, http_peer(relay, alice.keys) as again:
        assert await replayed(again) == []


async def test_a_token_of_a_key_that_was_unpinned_tells_nothing(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"port": 0, "http_port": 0, "data_dir": tmp_path, "retain": HOUR}
    async with Relay(**settings) as relay, http_peer(relay) as alice:
        token = alice.token
    unpin(tmp_path, alice.id)

    async with Relay(**settings) as relay, http_peer(relay, register=False) as again:
        again.token = token
        answer = await again.ask("GET", "/v1/messages/replay")

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "proof_required")


# As the reference has it


async def test_reference_clients_are_told_plain_mail_by_its_own_time(keeping: Relay) -> None:
    async with http_peer(keeping, register=False) as alice, raw_peer(keeping.url) as bob:
        await register(alice)
        for number in range(3):
            await bob.send(alice.id, number)
        await bob.answers()
        [first, second, third] = (await alice.get("/v1/messages"))["messages"]
        since = datetime.fromtimestamp(first["timestamp"] / 1000, UTC).isoformat()
        told = await alice.get("/v1/messages/replay", params={"since": since})
        page = await alice.get("/v1/messages/replay", params={"since": ago(hours=0.9), "limit": 1})

    assert told == {"messages": [second, third], "hasMore": False}
    assert page == {"messages": [first], "hasMore": True}


async def test_messages_of_one_time_are_told_together(keeping: Relay) -> None:
    async with http_peer(keeping, register=False) as alice, http_peer(keeping) as bob:
        await register(alice)
        same = now_ms()
        for number in (1, 2):
            envelope = bob.letter(alice.id, number, timestamp_ms=same)
            await bob.send_envelope(envelope, wait=0)
        envelope = bob.letter(alice.id, 3, timestamp_ms=same + 1)
        await bob.send_envelope(envelope, wait=0)
        await alice.get("/v1/messages")
        query = {"since": ago(minutes=1), "limit": 1}
        page = await alice.get("/v1/messages/replay", params=query)

    assert [one["payload"] for one in page["messages"]] == [1, 2]
    assert page["hasMore"] is True


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({}, "`since` query parameter is required (ISO8601 timestamp)"),
        ({"since": "zz"}, "Invalid `since` value — must be a valid ISO8601 timestamp"),
        ({"since": "1767225600000"}, "Invalid `since` value — must be a valid ISO8601 timestamp"),
        ({"since": ago(), "limit": "0"}, "Invalid `limit` value — must be a positive integer"),
        ({"since": ago(), "limit": "x"}, "Invalid `limit` value — must be a positive integer"),
        ({"since": "2001-01-01T00:00:00Z"}, "retention_exceeded"),
    ],
)
async def test_reference_clients_are_refused_in_its_words(
    keeping: Relay, query: dict[str, str], message: str
) -> None:
    async with http_peer(keeping, register=False) as alice:
        await register(alice)
        answer = await alice.ask("GET", "/v1/messages/replay", params=query)

    assert (answer.status_code, answer.json()["error"]) == (400, message)
