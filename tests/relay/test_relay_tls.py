"""The relay behind its own certificate."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from websockets.frames import Opcode

from agora.errors import ConfigurationError
from agora.keys import KeyPair
from agora.relay import Relay
from tests.support import DEADLINE, close_code, raw_peer
from tests.tls import Certificates, make_certificates
from tests.wire import frame, narrow_socket, opened_wire, wire_to


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """What a relay on this machine needs for ``wss://``."""
    return make_certificates(tmp_path)


async def test_peers_talk_over_tls(certificates: Certificates) -> None:
    tls = certificates.trusting()

    async with (
        Relay(port=0, **certificates.settings) as relay,
        raw_peer(relay.url, ssl=tls) as alice,
        raw_peer(relay.url, ssl=tls) as bob,
    ):
        assert relay.url.startswith("wss://127.0.0.1:")
        for number in range(20):
            await alice.send(bob.id, [number, "x" * 50_000])
        received = await bob.payloads(20)
        await relay.close()

        assert [payload[0] for payload in received] == list(range(20))
        assert await close_code(alice.socket) == 1001


async def test_a_key_with_a_passphrase_is_refused_and_nobody_asked(
    certificates: Certificates,
) -> None:
    key = serialization.load_pem_private_key(certificates.key.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    certificates.key.write_bytes(key.private_bytes(*form, locked))

    with pytest.raises(ConfigurationError, match="has a passphrase, and nobody is asked"):
        await Relay(port=0, **certificates.settings).start()


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes are POSIX")
@pytest.mark.parametrize("what", ["chain", "key"])
def test_a_pipe_in_the_place_of_a_certificate_is_refused_and_not_waited_for(
    certificates: Certificates, what: str
) -> None:
    path: Path = getattr(certificates, what)
    path.unlink()
    os.mkfifo(path)

    with pytest.raises(ConfigurationError, match="not a regular file"):
        asyncio.run(Relay(port=0, **certificates.settings).start())


async def test_who_does_not_trust_the_certificate_does_not_connect(
    certificates: Certificates,
) -> None:
    async with Relay(port=0, **certificates.settings) as relay:
        with pytest.raises(ssl.SSLCertVerificationError):
            async with raw_peer(relay.url, ssl=ssl.create_default_context()):
                pass


@pytest.mark.parametrize("begun", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b""])
async def test_what_is_no_tls_ends_the_connection(certificates: Certificates, begun: bytes) -> None:
    settings = certificates.settings

    async with Relay(port=0, register_timeout=0.2, **settings) as relay:
        async with wire_to(relay.url) as wire:
            wire.write(begun)
            answer = await wire.read_to_end()
            assert b"HTTP" not in answer
        async with raw_peer(relay.url, ssl=certificates.trusting()):
            pass  # others are served


async def test_a_close_ends_a_tls_connection_too(certificates: Certificates) -> None:
    async with (
        Relay(port=0, **certificates.settings) as relay,
        opened_wire(relay.url, certificates.trusting()) as wire,
    ):
        wire.write(frame(Opcode.TEXT, b"\xff"))

        assert await wire.read_close() == 1007
        assert await wire.read_to_end() == b""


async def test_a_slow_reader_over_tls_is_let_go_and_its_connection_ends(
    certificates: Certificates,
) -> None:
    nonsense = frame(Opcode.TEXT, b"?") * 1_000
    settings = {"max_unsent_bytes": 65_536, "register_timeout": DEADLINE} | certificates.settings

    async with (
        Relay(listen_on=narrow_socket(), drain_timeout=DEADLINE, **settings) as relay,
        opened_wire(relay.url, certificates.trusting(), kernel_buffer=32_768) as wire,
        asyncio.timeout(DEADLINE),
    ):
        while not relay.counts.get("closed"):
            wire.write(nonsense)
            await wire.writer.drain()  # the relay reads as it likes: let nothing pile up here

        assert await wire.read_close() == 4001
        wire.write(frame(Opcode.CLOSE))
        assert await wire.read_to_end() == b""


async def test_a_tls_client_that_vanishes_is_said_to_be_gone(certificates: Certificates) -> None:
    tls = certificates.trusting()

    async with (
        Relay(port=0, **certificates.settings) as relay,
        raw_peer(relay.url, ssl=tls) as alice,
        opened_wire(relay.url, tls) as wire,
    ):
        wire.register(KeyPair.generate())
        assert (await alice.hear())["type"] == "peer_online"
        wire.abort()
        assert (await alice.hear())["type"] == "peer_offline"


async def test_a_tls_client_that_only_stops_talking_is_let_go(certificates: Certificates) -> None:
    tls = certificates.trusting()

    async with (
        Relay(port=0, **certificates.settings) as relay,
        raw_peer(relay.url, ssl=tls) as alice,
        opened_wire(relay.url, tls) as wire,
    ):
        wire.register(KeyPair.generate())
        assert json.loads((await wire.read()).data)["type"] == "registered"
        assert (await alice.hear())["type"] == "peer_online"
        wire.writer.close()  # TLS's own goodbye, without one of the WebSocket's
        assert (await alice.hear())["type"] == "peer_offline"


async def test_a_tls_handshake_that_says_nothing_does_not_hold_up_the_stop(
    certificates: Certificates,
) -> None:
    async with Relay(port=0, **certificates.settings) as relay, wire_to(relay.url):
        async with raw_peer(relay.url, ssl=certificates.trusting()):
            pass  # by now the relay has the other too
        async with asyncio.timeout(5):
            await relay.close()
