"""A relay that takes over other settings while it runs."""

from __future__ import annotations

import asyncio
import gc
import ssl
import weakref
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from agora.errors import ClosedError, ConfigurationError
from agora.relay import Relay, RelayConfig
from tests.support import close_code, raw_peer, socket_to
from tests.tls import Certificates, make_certificates


async def test_sessions_stay_and_the_new_limits_count_for_them() -> None:
    async with Relay(port=0) as relay, raw_peer(relay.url) as alice, raw_peer(relay.url) as bob:
        await alice.hear()
        change = await relay.reload(RelayConfig(port=0, rate_limit_max_messages=1))
        for _ in range(2):
            await alice.send(bob.id)
        answers = await alice.answers()

    assert (change.changed, change.waiting) == (("rate_limit_max_messages",), ())
    assert [(answer["type"], answer["code"]) for answer in answers] == [("error", "rate_limited")]


async def test_what_waits_for_a_restart_is_told_and_the_rest_counts(tmp_path: Path) -> None:
    async with Relay(port=0) as relay:
        wanted = RelayConfig(port=1, host="0.0.0.0", data_dir=tmp_path, max_peers=7)
        change = await relay.reload(wanted)
        running = relay.config

    assert change.waiting == ("host", "port", "data_dir")
    assert (running.max_peers, running.host, running.port) == (7, "127.0.0.1", 0)


async def test_larger_frames_are_for_those_who_come() -> None:
    async with Relay(port=0) as relay, raw_peer(relay.url) as here:
        await relay.reload(RelayConfig(port=0, max_frame_bytes=2_000))
        await here.say({"type": "nonsense", "text": "x" * 2_000})
        answers = await here.answers()
        async with socket_to(relay.url) as new:
            await new.send("x" * 2_001)
            code = await close_code(new)

    assert [answer["type"] for answer in answers] == ["error"]
    assert code == 1009


async def test_nothing_goes_by_the_old_settings_any_more() -> None:
    config = RelayConfig(port=0)
    old = weakref.ref(config)
    async with Relay(config) as relay, raw_peer(relay.url) as alice, raw_peer(relay.url) as bob:
        await alice.hear()
        await alice.send(bob.id)
        await alice.answers()
        del config
        await relay.reload(RelayConfig(port=0, max_peers=7))
        await alice.answers()
        gc.collect()

        assert old() is None


async def test_settings_for_a_relay_that_does_not_run_are_refused() -> None:
    relay = Relay(port=0)
    with pytest.raises(ClosedError, match="not running"):
        await relay.reload(RelayConfig(port=0))
    await relay.start()
    await relay.close()

    with pytest.raises(ClosedError, match="not running"):
        await relay.reload(RelayConfig(port=0))


# The certificate


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """What the relay begins with."""
    return make_certificates(tmp_path / "first")


async def test_a_renewed_certificate_is_shown_to_who_comes_and_sessions_stay(
    certificates: Certificates, tmp_path: Path
) -> None:
    renewed = make_certificates(tmp_path / "second")
    config = RelayConfig(port=0, **certificates.settings)

    async with (
        Relay(config) as relay,
        raw_peer(relay.url, ssl=certificates.trusting()) as here,
    ):
        for old, new in ((certificates.chain, renewed.chain), (certificates.key, renewed.key)):
            old.write_bytes(new.read_bytes())
        change = await relay.reload(config)

        assert (change.changed, change.waiting) == ((), ())
        assert await here.answers() == []
        async with raw_peer(relay.url, ssl=renewed.trusting()) as new_one:
            assert (await here.hear())["publicKey"] == new_one.id
        with pytest.raises(ssl.SSLCertVerificationError):
            async with raw_peer(relay.url, ssl=certificates.trusting()):
                pass


async def test_http_shows_the_renewed_certificate_too(
    certificates: Certificates, tmp_path: Path
) -> None:
    renewed = make_certificates(tmp_path / "second")
    config = RelayConfig(port=0, http_port=0, **certificates.settings)

    async with Relay(config) as relay:
        await relay.reload(RelayConfig(port=0, http_port=0, **renewed.settings))
        place = urlsplit(relay.http_url or "")
        _, writer = await asyncio.open_connection(
            place.hostname, place.port, ssl=renewed.trusting()
        )
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("what", ["chain", "key", "gone", "other key"])
async def test_a_certificate_that_cannot_be_changes_nothing(
    certificates: Certificates, tmp_path: Path, what: str
) -> None:
    config = RelayConfig(port=0, **certificates.settings)
    wanted = RelayConfig(port=0, max_peers=1, **certificates.settings)

    async with Relay(config) as relay, raw_peer(relay.url, ssl=certificates.trusting()):
        match what:
            case "gone":
                certificates.chain.unlink()
            case "other key":
                other = make_certificates(tmp_path / "other")
                certificates.key.write_bytes(other.key.read_bytes())
            case _:
                getattr(certificates, what).write_text("no certificate")
        with pytest.raises(ConfigurationError, match="cannot use certificate"):
            await relay.reload(wanted)

        assert relay.config == config
        async with raw_peer(relay.url, ssl=certificates.trusting()) as another:
            assert await another.answers() == []


async def test_tls_itself_is_switched_by_a_restart(certificates: Certificates) -> None:
    async with Relay(port=0) as relay:
        change = await relay.reload(RelayConfig(port=0, **certificates.settings))
        async with raw_peer(relay.url) as plain:
            assert await plain.answers() == []

    assert change.waiting == ("tls_cert", "tls_key")


# The second door


async def test_http_goes_by_the_new_limits_too() -> None:
    async with Relay(port=0, http_port=0) as relay:
        before = await _post(relay, b"{}" * 600)
        change = await relay.reload(
            RelayConfig(
                port=0, http_port=0, max_frame_bytes=1024, rate_limit_max_address_requests=3
            )
        )
        after = [await _post(relay, b"{}" * 600) for _ in range(3)]

    assert change.waiting == ()
    assert before == 400
    assert after == [413, 413, 429]  # the first counts still


async def _post(relay: Relay, body: bytes) -> int:
    """Ask for a challenge with this body, on a connection of its own; return the status."""
    assert relay.http_url is not None
    place = urlsplit(relay.http_url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    head = f"POST /v1/challenge HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    status = int((await reader.readline()).split()[1])
    writer.close()
    await writer.wait_closed()
    return status
