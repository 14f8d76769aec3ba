"""What agora_example.py does for daily use: its key, its queue, its rate, its end."""

from __future__ import annotations

import asyncio
import json
import signal
import stat
import sys
from functools import partial
from pathlib import Path

import pytest

import agora
from agora.canonical import Json
from agora.text import extract_text
from tests.support import RawPeer, raw_peer

from .script import Script, copy_example, messages_among, running

NAME = "agora_example"
TYPED = asyncio.subprocess.PIPE


async def peer_id(script: Script) -> str:
    return (await script.says("= this is ")).removeprefix("= this is ")


# The key


async def test_the_key_is_kept_for_the_next_run_and_from_everybody_else(
    relay: agora.Relay, tmp_path: Path
) -> None:
    script = copy_example(NAME, tmp_path, relay.url)
    runs = []
    for _ in range(2):
        async with running(script) as example:
            runs.append(await peer_id(example))
            await example.stop(signal.SIGTERM)

    kept = tmp_path / "agora_example.json"
    assert runs[0] == runs[1] == json.loads(kept.read_text())["identity"]["publicKey"]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


async def test_a_second_one_in_the_same_folder_has_a_key_of_its_own(
    relay: agora.Relay, tmp_path: Path
) -> None:
    script = copy_example(NAME, tmp_path, relay.url)
    async with running(script) as first, running(script) as second:
        ids = {await peer_id(first), await peer_id(second)}
    async with running(script) as third, running(script) as fourth:
        again = {await peer_id(third), await peer_id(fourth)}

    assert len(ids) == 2
    assert again == ids


async def test_the_file_of_the_key_can_be_chosen(relay: agora.Relay, tmp_path: Path) -> None:
    chosen = tmp_path / "keys" / "me.json"
    agora.Identity.generate().save(chosen)
    script = copy_example(NAME, tmp_path, relay.url)

    async with running(script, "--identity", str(chosen)) as example:
        assert await peer_id(example) == agora.Identity.load(chosen).peer_id

        async with running(script, "--identity", str(chosen)) as second:
            assert await second.ends() == 1
    assert second.lines == [f"! {chosen} is in use: name another file with --identity"]


async def test_a_key_that_others_can_read_is_not_used(relay: agora.Relay, tmp_path: Path) -> None:
    open_to_all = tmp_path / "agora_example.json"
    agora.Identity.generate().save(open_to_all)
    open_to_all.chmod(0o644)

    async with running(copy_example(NAME, tmp_path, relay.url)) as example:
        assert await example.ends() == 1
    assert len(example.lines) == 1
    assert "run chmod 600" in example.lines[0]


# What is typed


async def test_a_typed_line_goes_to_everyone_or_to_the_peer_it_names(
    relay: agora.Relay, tmp_path: Path
) -> None:
    script = copy_example(NAME, tmp_path, relay.url)
    async with (
        raw_peer(relay.url) as one,
        raw_peer(relay.url) as other,
        running(script, stdin=TYPED) as example,
    ):
        await example.says("> @", times=2)  # it has greeted both
        await example.type("to all")
        await example.type("")
        await example.type(f"@{one.id[-8:]} to one")
        await example.type("@00000000 to nobody")
        await example.type("again to all")

        assert await texts(one, 4) == [
            "Hello from agora_example.py!",
            "to all",
            "to one",
            "again to all",
        ]
        assert await texts(other, 3) == ["Hello from agora_example.py!", "to all", "again to all"]
        await example.says("! no known peer is '@00000000'")


async def texts(peer: RawPeer, count: int) -> list[str]:
    return [extract_text(payload) for payload in await peer.payloads(count)]


# What comes


@pytest.mark.parametrize(
    "payload", [None, "text", {"text": 5}, {"words": "…"}, {"text": "x" * 4_001}]
)
async def test_a_payload_of_another_shape_is_reported_and_not_used(
    payload: Json, relay: agora.Relay, tmp_path: Path
) -> None:
    async with (
        raw_peer(relay.url) as stranger,
        running(copy_example(NAME, tmp_path, relay.url)) as example,
    ):
        peer = (await stranger.hear())["publicKey"]
        await stranger.send(peer, payload)
        await stranger.send(peer, {"text": "x" * 4_000})
        await example.says("< @")

        reports = [line for line in example.lines if line.startswith("!")]
        assert reports == [f"! @{stranger.id[-8:]} sent something that is no text: ignored"]


# The queue


async def test_a_message_for_a_peer_that_is_offline_is_delivered_when_it_comes(
    relay: agora.Relay, tmp_path: Path
) -> None:
    absent = agora.Identity.generate()
    script = copy_example(NAME, tmp_path, relay.url)
    async with running(script, stdin=TYPED) as example:
        await example.registered()
        await example.type(f"{absent.peer_id} for later")
        await example.says("for later (waits: unknown_recipient)")

        async with raw_peer(relay.url, absent) as late:
            assert set(await texts(late, 2)) == {"for later", "Hello from agora_example.py!"}
            assert await example.says(f"> @{absent.peer_id[-8:]}: for later")


async def test_it_comes_back_to_a_relay_that_was_stopped_and_delivers_what_was_typed_meanwhile(
    tmp_path: Path,
) -> None:
    friend, keys = agora.Identity.generate(), agora.Identity.generate()
    async with agora.Relay(port=0, identity=keys) as first_relay:
        port = first_relay.port
        script = copy_example(NAME, tmp_path, first_relay.url, PATIENCE=0.05)
        async with running(script, stdin=TYPED) as example:
            async with raw_peer(first_relay.url, friend):
                await example.says(f"> @{friend.peer_id[-8:]}: Hello")
            await first_relay.close()
            await example.says("~ not connected")
            await example.type(f"@{friend.peer_id[-8:]} typed meanwhile")
            await example.says("typed meanwhile (waits: not connected)")
            await example.says("~ not connected: no relay at")

            async with (
                agora.Relay(port=port, identity=keys) as second_relay,
                raw_peer(second_relay.url, friend) as late,
            ):
                assert await texts(late, 1) == ["typed meanwhile"]  # and no second greeting
                await example.says("> @", times=2)
                await example.says("= connected", times=2)


async def test_it_waits_for_a_relay_that_is_started_later(tmp_path: Path) -> None:
    async with agora.Relay(port=0) as relay:
        port = relay.port
    script = copy_example(NAME, tmp_path, f"ws://localhost:{port}", PATIENCE=0.05)

    async with running(script) as example:
        await example.says("~ not connected: no relay at")
        async with agora.Relay(port=port):
            await example.says("= connected")


async def test_two_of_them_stay_silent_after_the_relay_was_restarted(tmp_path: Path) -> None:
    keys = agora.Identity.generate()
    async with agora.Relay(port=0, identity=keys) as first_relay:
        port = first_relay.port
        script = copy_example(NAME, tmp_path, first_relay.url)
        async with running(script) as one, running(script) as other:
            await one.says("> @", times=2)  # greeting and answer
            await other.says("> @", times=2)
            await first_relay.close()

            async with agora.Relay(port=port, identity=keys) as second_relay:
                await one.says(f"@{await other.suffix()} is online", times=2)
                await other.says(f"@{await one.suffix()} is online", times=2)

                assert await messages_among(second_relay, [one, other]) == 0


# The rate


async def test_a_burst_is_held_to_the_programs_own_rate_and_arrives_whole_and_in_order(
    tmp_path: Path,
) -> None:
    lines = [f"line {number}" for number in range(6)]
    async with (
        # A relay that refuses what comes any faster than this.
        agora.Relay(port=0, rate_limit_max_messages=4, rate_limit_window_ms=500) as relay,
        raw_peer(relay.url) as reader,
    ):
        script = copy_example(NAME, tmp_path, relay.url, RATE_LIMIT=(2, 0.5), PATIENCE=0.05)
        async with running(script, stdin=TYPED) as example:
            await example.registered()
            for line in lines:
                await example.type(f"{reader.id} {line}")

            assert await texts(reader, 7) == ["Hello from agora_example.py!", *lines]
            await example.says(f"> @{reader.id[-8:]}: line 5")
            said = [line for line in example.lines if "line 5" in line]
            assert said == [
                f"~ @{reader.id[-8:]}: line 5 "
                "(waits: for its turn, 2 messages in 0.5 s, or for an answer)",
                f"> @{reader.id[-8:]}: line 5 (sent)",
            ]
        assert relay.counts.get("refused", 0) == 0


async def test_a_peer_that_answers_answers_is_not_answered_for_ever(
    relay: agora.Relay, tmp_path: Path
) -> None:
    async with (
        raw_peer(relay.url) as chatterbox,
        running(copy_example(NAME, tmp_path, relay.url)) as example,
    ):
        peer = (await chatterbox.hear())["publicKey"]
        for number in range(6):
            await chatterbox.send(peer, {"text": f"and another thing {number}"})
        await example.says("another thing 5")
        await example.stop(signal.SIGINT)

        assert len([line for line in example.lines if "Hello back!" in line]) <= 3


# The end


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_is_a_clean_end(
    signal_: signal.Signals, relay: agora.Relay, tmp_path: Path
) -> None:
    script = copy_example(NAME, tmp_path, relay.url)
    async with raw_peer(relay.url) as observer, running(script, stdin=TYPED) as example:
        peer = await peer_id(example)
        await example.registered()

        assert await example.stop(signal_) == 0
        assert example.lines[-1] == "= stopped"
        while (frame := await observer.hear())["type"] != "peer_offline":
            pass
        assert frame["publicKey"] == peer


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGKILL])
async def test_what_is_unsent_at_the_end_goes_out_with_the_next_run_once(
    signal_: signal.Signals, relay: agora.Relay, tmp_path: Path
) -> None:
    absent = agora.Identity.generate()
    shown = f"@{absent.peer_id[-8:]}: for later"
    script = copy_example(NAME, tmp_path, relay.url)
    async with running(script, stdin=TYPED) as example:
        await example.registered()
        await example.type(f"{absent.peer_id} for later")
        await example.says(f"~ {shown} (waits: unknown_recipient)")
        await example.stop(signal_)
    async with running(script) as again:
        await again.registered()
        async with raw_peer(relay.url, absent) as late:
            heard = await texts(late, 2)
            assert sorted(heard) == ["Hello from agora_example.py!", "for later"]
            await again.says(f"> {shown} (sent)")
    async with raw_peer(relay.url, absent) as late, running(script):
        assert await texts(late, 1) == ["Hello from agora_example.py!"]

    is_told = example.lines[-2:] == ["= kept for next time: 1 unsent", "= stopped"]
    assert is_told is (signal_ == signal.SIGINT)


async def test_it_tells_what_was_delivered_and_what_is_stored(
    relay: agora.Relay, tmp_path: Path
) -> None:
    friend = agora.Identity.generate()
    async with running(copy_example(NAME, tmp_path, relay.url), stdin=TYPED) as example:
        await example.registered()
        async with agora.Client(relay.url, friend) as there:
            await there.send(await peer_id(example), {"text": "hello"})
            for _ in range(2):  # its greeting, its answer
                await anext(there)
            await example.type(f"@{friend.peer_id[-8:]} you are there")
            message = await anext(there)
            await message.ack()
            await example.says("you are there (delivered)")
        await example.type(f"@{friend.peer_id[-8:]} you are away")
        await example.says("you are away (stored)")


async def test_a_message_that_was_given_up_is_told(tmp_path: Path) -> None:
    friend = agora.Identity.generate()
    async with (
        agora.Relay(port=0, max_nacks=1) as relay,
        agora.Client(relay.url, friend) as there,
        running(copy_example(NAME, tmp_path, relay.url)) as example,
    ):
        greeting = await anext(there)
        await greeting.nack(0)

        shown = f"@{friend.peer_id[-8:]}"
        await example.says(f"! {shown} never got message {greeting.id[:8]}: undeliverable")


async def test_a_relay_that_is_another_than_before_is_refused(tmp_path: Path) -> None:
    async with agora.Relay(port=0) as relay:
        port = relay.port
        script = copy_example(NAME, tmp_path, relay.url)
        async with running(script) as example:
            await example.registered()
    async with agora.Relay(port=port), running(script) as example:
        assert await example.ends() == 1

    assert "someone may stand between" in example.lines[-1]


@pytest.mark.parametrize("url", ["ftp://localhost:1", "ws://localhost:port", "ws://[", "nonsense"])
async def test_a_url_that_is_none_is_said_so_and_is_the_end(url: str, tmp_path: Path) -> None:
    async with running(copy_example(NAME, tmp_path, url)) as example:
        assert await example.ends() == 1
    assert len(example.lines) == 2
    assert example.lines[1].startswith(f"! {url!r} ")


@pytest.mark.skipif(sys.platform == "win32", reason="a shell's & is POSIX")
async def test_it_can_be_stopped_where_a_shell_has_turned_interrupts_off(
    relay: agora.Relay, tmp_path: Path
) -> None:
    script = copy_example(NAME, tmp_path, relay.url)
    async with running(
        script, prepare=partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    ) as example:
        await example.registered()

        assert await example.stop(signal.SIGTERM) == 0
