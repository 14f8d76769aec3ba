"""Any examples, started beside each other, talk: greet once, answer once, and fall silent."""

from __future__ import annotations

import itertools
import json
import os
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
import trustme

import agora
from agora.canonical import Json, parse_json
from agora.keys import KeyPair
from tests.support import raw_peer

from .script import NAMES, copy_example, messages_among, running

ALL_PAIRS = list(itertools.product(NAMES, repeat=2))


@pytest.mark.parametrize(("first", "second"), ALL_PAIRS)
async def test_two_examples_greet_and_answer_each_other(
    first: str, second: str, relay: agora.Relay, tmp_path: Path
) -> None:
    early = copy_example(first, tmp_path, relay.url)
    late = copy_example(second, tmp_path, relay.url)

    async with running(early) as one:
        await one.registered()
        async with running(late) as other:
            to_one = await one.hears(await other.registered(), times=2)
            to_other = await other.hears(await one.registered(), times=2)

            assert all("Hello" in text for text in to_one + to_other)
            assert await messages_among(relay, [one, other]) == 4


async def test_three_examples_fall_silent_after_each_has_greeted_and_answered_each(
    relay: agora.Relay, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        scripts = [
            await stack.enter_async_context(running(copy_example(name, tmp_path, relay.url)))
            for name in NAMES
        ]
        suffixes = [await script.registered() for script in scripts]
        for script, own in zip(scripts, suffixes, strict=True):
            for suffix in set(suffixes) - {own}:
                await script.hears(suffix, times=2)

        assert await messages_among(relay, scripts) == 3 * 2 * 2


@pytest.mark.parametrize("name", NAMES)
async def test_a_peer_is_greeted_once_and_each_of_its_greetings_answered_once(
    name: str, relay: agora.Relay, tmp_path: Path
) -> None:
    identity = agora.Identity.generate()
    async with running(copy_example(name, tmp_path, relay.url)) as script:
        await script.registered()

        async with agora.Client(relay.url, identity) as observer:
            greeting = await anext(observer)
            first = await observer.send(greeting.sender, {"text": "Hello!"})
            answer = await anext(observer)
            await answer.reply({"text": "Thank you for the answer."})
            await answer.ack()
        async with agora.Client(relay.url, identity) as observer:  # it comes back
            second = await observer.send(greeting.sender, {"text": "Hello again!"})
            last = await anext(observer)

        assert greeting.in_reply_to is None
        assert answer.in_reply_to == first.id
        assert last.in_reply_to == second.id  # and nothing came between


@pytest.mark.parametrize("name", NAMES)
async def test_an_example_is_understood_by_a_client_that_knows_only_the_envelope(
    name: str, relay: agora.Relay, tmp_path: Path
) -> None:
    async with raw_peer(relay.url) as observer, running(copy_example(name, tmp_path, relay.url)):
        assert (await observer.hear())["type"] == "peer_online"
        envelope = (await observer.hear())["envelope"]

        assert set(envelope) == {"id", "type", "from", "to", "timestamp", "payload", "signature"}
        assert envelope["to"] == [observer.id]
        assert envelope["type"] == "publish"
        assert list(envelope["payload"]) == ["text"]


PAYLOADS = [
    "null",
    "42",
    "-0.0",
    "1e400",
    "9" * 5_000,
    '"text"',
    '""',
    "[]",
    "{}",
    '{"text": null}',
    '{"text": {"text": "nested"}}',
    '{"text": "\\u001b[2J\\u0007 \\u202e \\ud800 \\ud83d\\ude00 \\u0000"}',
    '{"text": "' + "long " * 20_000 + '"}',
    "[" * 500 + "]" * 500,
]


@pytest.mark.parametrize("name", NAMES)
async def test_payloads_of_any_shape_do_not_stop_an_example(
    name: str, relay: agora.Relay, tmp_path: Path
) -> None:
    script = copy_example(name, tmp_path, relay.url)
    ascii_terminal = {"PYTHONIOENCODING": "ascii"}

    async with (
        raw_peer(relay.url) as stranger,
        running(script, environment=ascii_terminal) as example,
    ):
        peer = (await stranger.hear())["publicKey"]
        for payload in PAYLOADS:
            await stranger.send(peer, parse_json(payload))
        greeting = await stranger.send(peer, {"text": "Hello!"})
        while (await stranger.hear()).get("envelope", {}).get("inReplyTo") != greeting.id:
            pass

        assert example.process.returncode is None


@pytest.mark.parametrize("name", NAMES)
async def test_forged_envelopes_do_not_stop_an_example(name: str, tmp_path: Path) -> None:
    async with (
        agora.Relay(port=0, envelopes="open") as relay,  # which verifies nothing
        raw_peer(relay.url) as forger,
        running(copy_example(name, tmp_path, relay.url)) as example,
    ):
        peer = (await forger.hear())["publicKey"]
        genuine = (await forger.send(peer, {"text": "genuine"}, in_reply_to="0" * 64)).to_dict()
        forgeries: list[dict[str, Json]] = [
            {**genuine, "payload": {"text": "altered"}},
            {**genuine, "signature": "0" * 128},
            {**genuine, "from": KeyPair.generate().peer_id},
            {**genuine, "to": [forger.id]},
            {"payload": {"text": "unsigned"}},
        ]
        for forgery in forgeries:
            await forger.say({"type": "message", "to": peer, "envelope": forgery})
        greeting = await forger.send(peer, {"text": "Hello!"})
        while (await forger.hear()).get("envelope", {}).get("inReplyTo") != greeting.id:
            pass
        said = await example.hears(forger.id[-8:], times=2)

        if name != "agora_20_line":  # which leaves it to its relay to verify
            assert said == ["genuine", "Hello!"]


@pytest.mark.parametrize("name", NAMES)
async def test_an_example_runs_on_when_standard_input_is_closed(
    name: str, relay: agora.Relay, tmp_path: Path
) -> None:
    script = copy_example(name, tmp_path, relay.url)

    async with (
        raw_peer(relay.url) as observer,
        running(script, prepare=partial(os.close, 0)) as example,
    ):
        peer = (await observer.hear())["publicKey"]
        await observer.send(peer, {"text": "still here?"})
        await example.says("still here?")

        assert example.process.returncode is None


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certificate(authority: trustme.CA, tmp_path: Path) -> Path:
    """Give the file of a certificate for localhost, with its key."""
    path = tmp_path / "localhost.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(path)
    return path


async def test_every_example_talks_over_tls(
    authority: trustme.CA, certificate: Path, tmp_path: Path
) -> None:
    roots = tmp_path / "roots.pem"
    authority.cert_pem.write_to_path(roots)

    async with (
        agora.Relay(port=0, tls_cert=certificate, tls_key=certificate) as relay,
        AsyncExitStack() as stack,
    ):
        url = f"wss://localhost:{relay.port}"
        scripts = [
            await stack.enter_async_context(
                running(
                    copy_example(name, tmp_path, url), environment={"SSL_CERT_FILE": str(roots)}
                )
            )
            for name in NAMES
        ]
        suffixes = [await script.registered() for script in scripts]
        for script, own in zip(scripts, suffixes, strict=True):
            for suffix in set(suffixes) - {own}:
                await script.hears(suffix, times=2)


@pytest.mark.parametrize("name", NAMES)
async def test_no_example_talks_to_a_relay_whose_certificate_does_not_verify(
    name: str, certificate: Path, tmp_path: Path
) -> None:
    async with agora.Relay(port=0, tls_cert=certificate, tls_key=certificate) as relay:
        script = copy_example(name, tmp_path, f"wss://localhost:{relay.port}")
        async with running(script) as example:
            assert await example.ends() == 1
            await example.says("certificate")

        assert relay.counts.get("registered", 0) == 0


async def test_what_the_20_line_example_prints_is_one_frame_a_line(
    relay: agora.Relay, tmp_path: Path
) -> None:
    script = copy_example("agora_20_line", tmp_path, relay.url)
    async with running(script) as example:
        await example.says('"registered"')
        async with raw_peer(relay.url):
            await example.says('"peer_online"')

        frames = [json.loads(line) for line in example.lines]
        assert [frame["type"] for frame in frames] == ["registered", "peer_online"]
