"""Traces: two clients and a relay, each span in its place; and nothing of it where it is off."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agora import sync
from agora.client import Client, Message
from agora.client.tracing import continued
from agora.keys import KeyPair
from agora.relay import Relay
from agora.testing import relay_in_thread
from tests.client.talking import take, there
from tests.faults.speaker import envelope_from, speaker
from tests.relay.http.talking import http_peer
from tests.support import DEADLINE, agent, eventually

PLACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Seen:
    """All spans that ended, by their names."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def named(self, name: str) -> list[ReadableSpan]:
        """Return the spans of a name, the first that ended first."""
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    async def one(self, name: str) -> ReadableSpan:
        """Return the only span of a name, when it has ended."""
        await eventually(lambda: bool(self.named(name)))
        [span] = self.named(name)
        return span

    def clear(self) -> None:
        """Forget what was before."""
        self._exporter.clear()


@pytest.fixture(scope="module")
def _of_the_process() -> Seen:
    """What the application has set up; once, as OpenTelemetry has it."""
    seen = Seen()
    trace.set_tracer_provider(seen.provider)
    return seen


@pytest.fixture
def seen(_of_the_process: Seen) -> Seen:
    """The spans of this test."""
    _of_the_process.clear()
    return _of_the_process


def place(span: ReadableSpan | trace.Span) -> trace.SpanContext:
    """Return where in its trace a span is."""
    context = span.get_span_context()
    assert context is not None
    return context


def is_child(span: ReadableSpan, parent: ReadableSpan | trace.Span) -> bool:
    """Tell whether a span goes on from another."""
    return span.parent is not None and (span.parent.trace_id, span.parent.span_id) == (
        place(parent).trace_id,
        place(parent).span_id,
    )


def traced(url: str, *args: Any, **options: Any) -> Client:
    """Return a client that traces."""
    return agent(url, *args, otel=True, **options)


async def test_one_trace_goes_from_the_sender_through_the_relay_and_back(seen: Seen) -> None:
    async with Relay(port=0, otel=True) as relay, there(relay.url, otel=True) as bob:
        answered = asyncio.Event()
        seen.clear()  # of getting there

        @bob.on("request")
        async def answer(message: Message) -> None:
            await message.reply({"text": "fine"})
            answered.set()

        serving = asyncio.get_running_loop().create_task(bob.run())
        async with traced(relay.url) as alice:
            with trace.get_tracer("app").start_as_current_span("ask") as ask:
                await alice.request(bob.peer_id, {"text": "how are you?"})
            await answered.wait()
            await eventually(lambda: len(seen.named("deliver")) + len(seen.named("store")) == 2)
        await bob.close()
        await serving

    process = await seen.one("process")
    there_, back = seen.named("accept")
    hops = [*seen.named("deliver"), *seen.named("store")]
    [way_there] = [span for span in hops if is_child(span, there_)]
    assert is_child(there_, ask)
    assert is_child(process, way_there)
    assert is_child(back, process)
    verified = seen.named("verify")
    assert [span for span in verified if not (is_child(span, there_) or is_child(span, back))] == []
    assert len(verified) == 2
    assert there_.attributes is not None
    assert there_.attributes["agora.sender"] == alice.peer_id


async def test_what_is_stored_is_read_later_in_the_same_trace(seen: Seen, tmp_path: Path) -> None:
    bob = KeyPair.generate()
    async with Relay(port=0, data_dir=tmp_path, otel=True) as relay:
        async with agent(relay.url, bob):
            pass
        async with traced(relay.url) as alice:
            with trace.get_tracer("app").start_as_current_span("tell") as tell:
                receipt = alice.post(bob.peer_id, "hello")
            await receipt.settled(DEADLINE)
        store = await seen.one("store")
        async with agent(relay.url, bob) as reader:
            message = await take(reader)

    assert place(store).trace_id == place(tell).trace_id
    assert store.attributes is not None
    assert store.attributes["agora.outcome"] == "stored"
    assert message.traceparent is not None
    assert f"{place(store).span_id:016x}" in message.traceparent


async def test_a_refused_message_is_an_error_of_its_span(seen: Seen) -> None:
    async with Relay(port=0, otel=True) as relay, speaker(relay.url) as alice:
        sent = await alice.send(KeyPair.generate().peer_id, "hello")
        assert await alice.answer_to(sent) == "unknown_recipient"
        stale = await alice.send(alice.id, "hello", timestamp_ms=1)
        assert await alice.answer_to(stale) == "stale"

    deliver = await seen.one("deliver")
    assert deliver.status.status_code is trace.StatusCode.ERROR
    assert deliver.attributes is not None
    assert deliver.attributes["error.type"] == "unknown_recipient"


async def test_a_relay_that_does_not_trace_tells_the_place_on_as_it_is() -> None:
    async with Relay(port=0) as relay, speaker(relay.url) as alice:
        await alice.send(alice.id, "untraced")
        [untraced] = await alice.messages(1)
        envelope = envelope_from(alice.keys, alice.id, "traced")
        await alice.submit(envelope, alice.id, traceparent=PLACE)
        [traced_] = await alice.messages(1)

    assert "traceparent" not in untraced
    assert traced_["traceparent"] == PLACE
    assert traced_["envelope"] == envelope.to_dict()


@pytest.mark.parametrize(
    "odd",
    [
        "",
        "00",
        7,
        None,
        PLACE.upper(),
        f"{PLACE}-00",
        f"{PLACE}\n",
        f"ff{PLACE[2:]}",
        PLACE.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
        PLACE.replace("b7ad6b7169203331", "0" * 16),
        "0" * 1_000,
    ],
)
async def test_a_place_that_is_none_is_refused_with_the_message(odd: object) -> None:
    async with Relay(port=0) as relay, speaker(relay.url) as alice:
        envelope = envelope_from(alice.keys, alice.id, "odd")
        await alice.submit(envelope, alice.id, traceparent=odd)
        frame = await alice.wait("error")

    assert frame["code"] == "invalid_message"
    assert '"traceparent"' in frame["message"]


async def test_a_place_comes_by_http_as_it_does_by_websocket(seen: Seen) -> None:
    odd, right = {"traceparent": "odd"}, {"traceparent": PLACE}
    async with Relay(port=0, http_port=0) as relay, there(relay.url) as bob, http_peer(relay) as me:

        async def say(members: dict[str, str], headers: dict[str, str]) -> int:
            body = {"envelope": me.letter(bob.peer_id, "hello").to_dict(), "wait": 0, **members}
            return (await me.ask("POST", "/v1/send", json=body, headers=headers)).status_code

        codes = [await say(right, {}), await say({}, right), await say({}, odd)]
        places = [(await take(bob)).traceparent for _ in codes]
        codes.append(await say(odd, {}))
        own = me.letter(me.id, "to myself").to_dict()
        await me.post("/v1/send", {"envelope": own, "wait": 0, "traceparent": PLACE})
        [message] = await me.poll()

    assert codes == [202, 202, 202, 400]
    assert places == [PLACE, PLACE, None]
    assert message["traceparent"] == PLACE


async def test_without_an_active_span_nothing_is_told(seen: Seen) -> None:
    async with Relay(port=0) as relay, there(relay.url) as bob, traced(relay.url) as alice:
        alice.post(bob.peer_id, "hello")
        message = await take(bob)

    assert message.traceparent is None


async def test_a_client_that_does_not_trace_tells_no_place(seen: Seen) -> None:
    async with Relay(port=0) as relay, there(relay.url) as bob, agent(relay.url) as alice:
        with trace.get_tracer("app").start_as_current_span("tell"):
            alice.post(bob.peer_id, "hello")
        message = await take(bob)

    assert message.traceparent is None


async def test_who_reads_in_a_loop_goes_on_with_a_trace_when_asked_to(seen: Seen) -> None:
    async with Relay(port=0) as relay, there(relay.url, otel=True) as bob:
        with trace.get_tracer("app").start_as_current_span("tell") as tell:
            bob.post(bob.peer_id, "hello")
        message = await take(bob)
        with continued(message) as span:
            bob.post(bob.peer_id, "again")
        again = await take(bob)

    assert message.traceparent is not None
    assert again.traceparent is not None
    assert place(span).trace_id == place(tell).trace_id
    assert f"{place(span).span_id:016x}" in again.traceparent


async def test_what_a_handler_raises_is_noted_in_its_span(seen: Seen) -> None:
    async with Relay(port=0) as relay, there(relay.url, otel=True) as bob:

        @bob.on()
        async def fail(message: Message) -> None:
            raise ValueError("odd")

        serving = asyncio.get_running_loop().create_task(bob.run())
        with trace.get_tracer("app").start_as_current_span("tell"):
            bob.post(bob.peer_id, "hello")
        process = await seen.one("process")
        await bob.close()
        await serving

    assert process.status.status_code is trace.StatusCode.ERROR
    assert [event.name for event in process.events] == ["exception"]


def test_handlers_without_asyncio_go_on_with_a_trace_too(seen: Seen) -> None:
    with relay_in_thread() as relay, sync.Client(relay.url, KeyPair.generate(), otel=True) as me:
        active = []

        @me.on()
        def handle(message: sync.Message) -> None:
            active.append(place(trace.get_current_span()).trace_id)
            me.close()

        with trace.get_tracer("app").start_as_current_span("tell") as tell:
            me.post(me.peer_id, "hello")
        me.run()

    assert active == [place(tell).trace_id]


def test_who_does_not_trace_imports_nothing_of_it() -> None:
    program = (
        "import asyncio, sys, agora\n"
        "from agora.relay import Relay\n"
        "async def main():\n"
        "    async with Relay(port=0) as relay:\n"
        "        async with agora.Client(relay.url, agora.Identity.generate()): pass\n"
        "asyncio.run(main())\n"
        "print([name for name in sys.modules if 'opentelemetry' in name or 'litestar' in name])\n"
    )
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, capture_output=True, text=True, check=True)

    assert said.stdout.strip() == "[]"


def test_where_it_is_not_installed_it_is_said_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "opentelemetry.py").write_text("raise ModuleNotFoundError(name='opentelemetry')")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import asyncio, agora\n"
        "async def main():\n"
        "    try:\n"
        "        async with agora.Relay(port=0, otel=True): pass\n"
        "    except agora.MissingExtraError as error:\n"
        "        print(error)\n"
        "asyncio.run(main())\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )

    assert "install agora-relay[otel]" in said.stdout
