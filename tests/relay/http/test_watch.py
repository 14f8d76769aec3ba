"""What an operator asks by HTTP: a real relay, real messages, a real scrape."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_prometheus

import agora
from agora.keys import KeyPair
from agora.mailbox import MemoryMailbox, StoreTotals
from agora.relay import Relay
from agora.relay.http.exposition import METRICS
from tests.client.talking import take, there
from tests.faults.speaker import speaker
from tests.relay.http.talking import http_peer
from tests.relay.http.watching import ADMIN, TOKEN, watched
from tests.support import DEADLINE, agent, eventually, faults_in, letter, raw_peer


@pytest.fixture(autouse=True)
def _look_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agora.relay.overview._LOOK_AGAIN_AFTER", 0.0)


Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def scrape(client: httpx2.AsyncClient) -> Samples:
    """Return what Prometheus would see."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in read_prometheus(answer.text)
        for sample in family.samples
    }


def of(samples: Samples, name: str, **labels: str) -> float:
    """Return one value."""
    return samples[name, tuple(sorted(labels.items()))]


# Health


async def test_a_relay_that_runs_is_alive_and_ready(relay: Relay) -> None:
    async with watched(relay) as client:
        alive, ready = await client.get("/healthz"), await client.get("/readyz")

    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_a_load_balancer_may_ask_for_the_head_alone(relay: Relay, path: str) -> None:
    async with watched(relay) as client:
        answer = await client.head(path)

    assert (answer.status_code, answer.content) == (200, b"")


class FullMailbox(MemoryMailbox):
    """A mailbox on a disk that is full until it is not."""

    is_full = True

    def commit(self) -> bool:
        """Keep the changes, if there is room."""
        if self.is_full:
            raise OSError("no space left on device")
        return super().commit()


async def test_a_relay_whose_disk_refuses_is_not_ready_until_it_takes_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("agora.relay.server.MemoryMailbox", FullMailbox)
    monkeypatch.setattr(FullMailbox, "is_full", True)

    async with Relay(port=0, http_port=0) as relay, watched(relay) as client:
        refused = await client.get("/readyz")
        failing = of(await scrape(client), "agora_disk_failing")
        FullMailbox.is_full = False
        taken = await client.get("/readyz")

    message = "the mailbox cannot be written: no space left on device"
    assert refused.status_code == 503
    assert refused.json() == {
        "status": "not_ready",
        "reasons": [{"code": "disk", "message": message}],
    }
    assert (failing, taken.status_code) == (1, 200)
    assert faults_in(caplog) != []
    caplog.clear()


async def test_a_disk_that_does_not_answer_is_no_reason_to_wait_for_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("agora.relay.overview._DISK_TIMEOUT", 0.1)
    monkeypatch.setattr("agora.relay.overview._FRESH", 0.0)

    async with Relay(port=0, http_port=0, data_dir=tmp_path) as relay, watched(relay) as client:
        other = sqlite3.connect(tmp_path / "mailbox.sqlite3", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        answer = await client.get("/readyz")
        other.close()

    assert answer.status_code == 503
    assert answer.json()["reasons"] == [
        {"code": "disk", "message": "the disk has not answered for 0.1 s"}
    ]


async def test_the_disk_is_asked_by_writing_to_it(tmp_path: Path) -> None:
    async with Relay(port=0, http_port=0, data_dir=tmp_path) as relay, watched(relay) as client:
        log = tmp_path / "mailbox.sqlite3-wal"
        before = log.stat().st_size
        await client.get("/readyz")
        commits = of(await scrape(client), "agora_commit_seconds_count")

        assert log.stat().st_size > before
        assert commits == 1


async def test_a_relay_that_stops_is_not_ready(relay: Relay) -> None:
    await relay.close()
    reasons = await relay.overview.why_not_ready()

    assert [reason.code for reason in reasons] == ["not_listening", "draining"]


# Metrics


async def test_the_figures_agree_with_what_was_sent(relay: Relay) -> None:
    sleeper = KeyPair.generate()
    async with watched(relay) as client, there(relay.url) as bob, agent(relay.url) as alice:
        async with agent(relay.url, sleeper):
            pass
        before = await scrape(client)
        receipts = [alice.post(bob.peer_id, {"number": number}) for number in range(5)]
        for _ in receipts:
            await take(bob)
        stored = [alice.post(sleeper.peer_id, {"number": number}) for number in range(3)]
        for receipt in [*receipts, *stored]:
            await receipt.settled(DEADLINE)
        await eventually(lambda: relay.overview.metrics.verifications.on_loop >= 8)
        samples = await scrape(client)

    def grown(name: str, **labels: str) -> float:
        return of(samples, name, **labels) - of(before, name, **labels)

    assert grown("agora_messages_total", outcome="delivered") == 5
    assert grown("agora_messages_total", outcome="stored") == 3
    assert grown("agora_messages_total", outcome="refused") == 0
    assert grown("agora_messages_accepted_total") == 8
    assert grown("agora_mailbox_messages") == 3
    assert grown("agora_commit_seconds_count") > 0
    assert grown("agora_commit_seconds_sum") > 0
    assert (
        sum(grown("agora_verifications_total", where=where) for where in ("loop", "process")) == 8
    )
    assert grown("agora_received_bytes_total", door="websocket") > 8 * 500
    assert grown("agora_sent_bytes_total", door="websocket") > 5 * 500
    assert of(samples, "agora_mailboxes") == 1
    assert 0 < of(samples, "agora_mailbox_oldest_age_seconds") < DEADLINE
    assert of(samples, "agora_peers_online") == 2
    assert of(samples, "agora_connections", door="websocket") == 2
    assert of(samples, "agora_sessions", dialect="agora/1") == 2
    assert of(samples, "agora_pinned_keys") == 3
    assert of(samples, "agora_registrations_total") == 3
    assert of(samples, "agora_verify_seconds_count", where="loop") > 0
    assert of(samples, "agora_loop_lag_seconds_count") >= 0
    assert of(samples, "process_resident_memory_bytes") > 0


async def test_every_answer_to_a_message_is_counted_once(relay: Relay) -> None:
    async with watched(relay) as client, raw_peer(relay.url) as alice, raw_peer(relay.url) as bob:
        sent = await alice.send(bob.id)
        await alice.say({"type": "message", "to": bob.id, "envelope": sent.to_dict()})
        await alice.send(KeyPair.generate().peer_id)
        forged = {**letter(alice.keys, bob.id).to_dict(), "signature": "0" * 128}
        await alice.say({"type": "message", "to": bob.id, "envelope": forged})
        everyone = letter(alice.keys, "*").to_dict()
        await alice.say({"type": "broadcast", "envelope": everyone})
        await alice.say({"type": "broadcast", "envelope": everyone})
        await alice.say({"type": "nonsense"})
        codes = [frame["code"] for frame in await alice.answers() if frame["type"] == "error"]
        samples = await scrape(client)

    assert sorted(codes) == [
        *("duplicate", "duplicate", "invalid_envelope", "invalid_message", "unknown_recipient")
    ]
    assert {
        outcome: of(samples, "agora_messages_total", outcome=outcome)
        for outcome in ("delivered", "stored", "sent", "duplicate", "refused")
    } == {"delivered": 0, "stored": 0, "sent": 2, "duplicate": 2, "refused": 2}
    assert of(samples, "agora_errors_total", code="duplicate") == 2
    assert of(samples, "agora_errors_total", code="invalid_message") == 1
    assert of(samples, "agora_errors_total", code="unknown_recipient") == 1
    assert of(samples, "agora_broadcasts_total") == 1
    assert of(samples, "agora_sessions", dialect="reference") == 2


async def test_a_message_counts_as_refused_also_when_its_sender_has_gone() -> None:
    alice, bob = KeyPair.generate(), KeyPair.generate()
    async with Relay(port=0, http_port=0, mailboxes="none") as running, watched(running) as client:
        async with speaker(running.url, bob) as reader, speaker(running.url, alice) as writer:
            await writer.send(bob.peer_id, "hello")
            assert await reader.payloads(1, acks=False) == ["hello"]
        await eventually(lambda: running.counts.get("left") == 2)
        samples = await scrape(client)

    assert of(samples, "agora_messages_total", outcome="refused") == 1


async def test_both_formats_say_the_same(relay: Relay) -> None:
    async with watched(relay) as client, raw_peer(relay.url):
        openmetrics = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
        plain = await client.get("/metrics")
        open_ = await client.get("/metrics", headers=openmetrics)

    families = {family.name: family for family in read_openmetrics(open_.text)}  # type: ignore[no-untyped-call]
    ours = {family.name for family in read_prometheus(plain.text)}
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert open_.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert families["agora_commit_seconds"].unit == "seconds"
    there = {metric.name for metric in METRICS} - {"agora_disk_free_bytes"}  # it is in memory
    assert there <= {*families}
    assert there - {"agora_build"} <= ours


async def test_no_metric_names_a_peer_or_anything_a_stranger_said(relay: Relay) -> None:
    async with (
        watched(relay) as client,
        raw_peer(relay.url, name="Mallory") as mallory,
        raw_peer(relay.url) as bob,
    ):
        before = await scrape(client)
        await mallory.send(bob.id)
        await mallory.say({"type": "message", "to": "nobody", "envelope": {"id": "odd"}})
        await mallory.say({"type": "peculiar"})
        await mallory.answers()
        text = (await client.get("/metrics")).text
        after = await scrape(client)

    assert "peculiar" not in text
    assert "Mallory" not in text
    assert mallory.id not in text
    assert before.keys() == after.keys()  # as many series, whatever comes


async def test_a_crowd_of_onlookers_reads_the_mailboxes_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = Counter[str]()
    totals = MemoryMailbox.totals

    def counted(self: MemoryMailbox, *, largest: int) -> StoreTotals:
        looks["totals"] += 1
        return totals(self, largest=largest)

    monkeypatch.setattr(MemoryMailbox, "totals", counted)
    monkeypatch.setattr("agora.relay.overview._LOOK_AGAIN_AFTER", 3_600.0)
    async with Relay(port=0, http_port=0) as running, watched(running) as client:
        await asyncio.gather(*(scrape(client) for _ in range(10)))

    assert looks["totals"] == 1


async def test_whoever_asks_for_health_spends_no_rate() -> None:
    relay = Relay(port=0, http_port=0, rate_limit_max_address_requests=2)
    async with relay, watched(relay) as client:
        answers = [
            (await client.get(path)).status_code
            for path in ["/metrics"] * 3 + ["/healthz", "/readyz"] * 3
        ]

    assert answers == [200, 200, 429, *[200] * 6]


async def test_what_comes_by_http_is_counted_as_that(relay: Relay) -> None:
    async with watched(relay) as client, http_peer(relay) as alice, raw_peer(relay.url) as bob:
        await alice.send(bob.id)
        samples = await scrape(client)

    assert of(samples, "agora_messages_total", outcome="sent") == 1
    assert of(samples, "agora_connections", door="websocket") == 1
    assert of(samples, "agora_connections", door="http") == 1
    assert of(samples, "agora_received_bytes_total", door="http") > 500
    assert of(samples, "agora_sent_bytes_total", door="http") > 500


# The overview


async def test_the_overview_wants_the_admin_token(relay: Relay) -> None:
    wrong = [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer someone else's"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}x"},
    ]
    async with watched(relay) as client:
        answers = [await client.get("/admin/overview", headers=headers) for headers in wrong]

    assert {answer.status_code for answer in answers} == {401}
    assert {answer.headers["www-authenticate"] for answer in answers} == {
        'Bearer realm="agora admin"'
    }
    assert answers[0].json()["error"]["code"] == "unauthorized"


async def overview(client: httpx2.AsyncClient) -> dict[str, Any]:
    """Return what the operator sees."""
    answer = await client.get("/admin/overview", headers=ADMIN)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


async def test_the_overview_tells_who_is_there_what_waits_and_what_went_wrong() -> None:
    sleeper = KeyPair.generate()
    async with (
        Relay(port=0, http_port=0, storage_peers=(sleeper.peer_id,), admin_token=TOKEN) as relay,
        watched(relay) as client,
        raw_peer(relay.url, name="Alice") as alice,
        raw_peer(relay.url, alice.keys),
    ):
        sent = await alice.send(sleeper.peer_id)
        await alice.say({"type": "nonsense"})
        await alice.answers()
        seen = await overview(client)

    waiting = {"messages": 1, "bytes": len(sent.wire_text)}
    assert (seen["relay"], seen["version"]) == (relay.peer_id, agora.__version__)
    assert (seen["connections"], seen["sessions"], seen["peersOnline"]) == (2, 2, 1)
    assert seen["totals"]["messages"]["stored"] == 1
    assert seen["totals"]["errors"] == {"invalid_message": 1}
    assert seen["mailboxes"].items() >= {"count": 1, **waiting}.items()
    [largest] = seen["mailboxes"]["largest"]
    assert largest.items() >= {"peer": sleeper.peer_id, **waiting}.items()
    assert seen["startedAt"] <= largest["oldestMs"] <= seen["now"]
    [peer] = seen["peers"]
    assert seen["startedAt"] - 1000 <= peer.pop("since") <= seen["now"]
    assert peer == {"publicKey": alice.id, "name": "Alice", "sessions": 2, "door": "websocket"}
    [error] = seen["recentErrors"]
    assert (error["code"], error["peer"]) == ("invalid_message", alice.id)
    assert seen["startedAt"] <= error["at"] <= seen["now"]
    charts = [seen["history"][name] for name in ("messages", "errors", "stored", "peers")]
    assert {len(chart) for chart in charts} == {360}
    assert set(seen["rates"]) == {"messages", "errors", "bytes"}
