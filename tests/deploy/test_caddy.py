"""Both doors of a relay behind the Caddyfile of deploy/, served by Caddy itself over TLS."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from agora.relay import Relay
from tests.support import DEADLINE, agent

CADDYFILE = Path(__file__).parents[2] / "deploy" / "Caddyfile"

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(shutil.which("caddy") is None, reason="needs Caddy: apt-get install caddy"),
]

_AROUND = """{
	admin off
	local_certs
	skip_install_trust
	auto_https disable_redirects
	default_bind 127.0.0.1
	servers {
		protocols h1 h2
	}
}
import %s
"""
"""What makes of the Caddyfile one for a test: certificates of its own, and loopback alone."""


@dataclass(frozen=True)
class Site:
    """A relay behind Caddy: where it is, and who vouches for it."""

    place: str
    tls: ssl.SSLContext

    def get(self, path: str) -> tuple[int, bytes]:
        """Return the status and the body of what is at *path*."""
        try:
            with urlopen(f"https://{self.place}{path}", context=self.tls, timeout=DEADLINE) as got:
                return got.status, got.read()
        except HTTPError as error:
            return error.code, error.read()


@asynccontextmanager
async def relay_behind_caddy(folder: Path, **variables: str) -> AsyncIterator[Site]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    place = f"localhost:{port}"
    (folder / "Caddyfile").write_text(_AROUND % CADDYFILE)
    async with Relay(port=0, http_port=0, public_name=(place,)) as relay:
        assert relay.http_url is not None
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "XDG_DATA_HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder),
            "AGORA_SITE": f"https://{place}",
            "AGORA_WEBSOCKET": relay.url.removeprefix("ws://"),
            "AGORA_HTTP": relay.http_url.removeprefix("http://"),
        }
        caddy = await asyncio.create_subprocess_exec(
            "caddy",
            *("run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")),
            env=environment | variables,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            root = folder / "caddy/pki/authorities/local/root.crt"
            yield Site(place, await _until_serving(root, port))
        finally:
            caddy.terminate()
            await caddy.wait()


async def _until_serving(root: Path, port: int) -> ssl.SSLContext:
    """Wait until Caddy has its certificate, which it does not tell; return who trusts it."""
    async with asyncio.timeout(DEADLINE):
        while True:
            with suppress(OSError):
                trusting = ssl.create_default_context(cafile=str(root))
                _, writer = await asyncio.open_connection("localhost", port, ssl=trusting)
                writer.close()
                return trusting
            await asyncio.sleep(0.02)


async def test_agents_talk_through_caddy_and_prove_their_keys_to_its_name(tmp_path: Path) -> None:
    async with relay_behind_caddy(tmp_path) as site:
        url = f"wss://{site.place}"
        async with agent(url, tls=site.tls) as alice, agent(url, tls=site.tls) as bob:
            receipt = alice.post(bob.peer_id, "hello")
            message = await anext(bob)
            await message.ack()
            status = await receipt.settled(timeout=DEADLINE)

    assert (message.payload, alice.protocol, status) == ("hello", 1, "delivered")


async def test_http_passes_too_and_what_is_the_operators_does_not(tmp_path: Path) -> None:
    async with relay_behind_caddy(tmp_path, AGORA_OPERATORS="192.0.2.0/24") as site:
        answered = await asyncio.to_thread(site.get, "/v1/messages")
        hidden = {
            path: await asyncio.to_thread(site.get, path)
            for path in ("/metrics", "/admin/overview", "/readyz")
        }

    assert (answered[0], json.loads(answered[1])["error"]["code"]) == (401, "not_registered")
    assert set(hidden.values()) == {(404, b"")}


async def test_operators_see_what_is_theirs(tmp_path: Path) -> None:
    async with relay_behind_caddy(tmp_path) as site:
        _, body = await asyncio.to_thread(site.get, "/metrics")

    assert body != b""  # whatever the relay says, it was the relay
