"""A peer without our client and without a socket of its own: HTTP requests, written by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2

from agora.envelope import Envelope, open_envelope
from agora.keys import KeyPair, PeerId
from agora.mailbox import MailboxBounds
from agora.mailbox.opening import open_mailbox
from agora.protocol.proof import OVER_HTTP, audience_of, is_genuine_challenge, sign_proof
from agora.relay import Relay, RelayConfig
from tests.support import DEADLINE, letter

__all__ = ["Events", "HttpPeer", "http_peer", "is_online", "unpin", "url_of"]

NONCE = "ab" * 32


def url_of(relay: Relay) -> str:
    """Return where the HTTP API of *relay* is."""
    assert relay.http_url is not None
    return relay.http_url


def unpin(folder: Path, peer: PeerId) -> None:
    """Have the relay that is not running on *folder* know *peer* no more, as an operator may."""
    mailbox = open_mailbox(folder, MailboxBounds.of(RelayConfig())).mailbox
    mailbox.unpin(peer)
    mailbox.commit()
    mailbox.close()


class HttpPeer:
    """
    A peer that asks by HTTP.

    Attributes:
        keys: Who it is.
        http: What it asks with.
        token: What it got at its registration.
        registered: All that it was told then.
    """

    def __init__(self, url: str, http: httpx2.AsyncClient, keys: KeyPair) -> None:
        self.keys = keys
        self.id: PeerId = keys.peer_id
        self.url = url
        self.http = http
        self.token = ""
        self.registered: dict[str, Any] = {}

    async def ask(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Ask, with the token if there is one."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= options.pop("headers", {})
        return await self.http.request(method, self.url + path, headers=headers, **options)

    async def get(self, path: str, **options: Any) -> Any:
        """Return what a GET answers, which must be well."""
        return _well(await self.ask("GET", path, **options))

    async def post(self, path: str, body: Any) -> Any:
        """Return what a POST answers, which must be well."""
        return _well(await self.ask("POST", path, json=body))

    async def challenge(self) -> dict[str, Any]:
        """Ask for a challenge."""
        told = await self.post("/v1/challenge", {"publicKey": self.id, "nonce": NONCE})
        assert is_genuine_challenge(
            told["relay"],
            told["signature"],
            client_nonce=NONCE,
            nonce=told["nonce"],
            public_key=self.id,
            purposes=OVER_HTTP,
        )
        return dict(told)

    def proof(self, challenge: dict[str, Any], **members: Any) -> dict[str, Any]:
        """Return the body that answers a challenge."""
        signature = sign_proof(
            self.keys,
            audience=audience_of(self.url),
            nonce=challenge["nonce"],
            relay=challenge["relay"],
            purposes=OVER_HTTP,
        )
        answer = {"publicKey": self.id, "nonce": challenge["nonce"], "signature": signature}
        return answer | members

    async def register(self, **members: Any) -> None:
        """Prove the key, and get a token."""
        self.registered = await self.post(
            "/v1/register", self.proof(await self.challenge(), **members)
        )
        self.token = self.registered["token"]

    # Mail

    def letter(self, to: str | list[str], payload: Any = "hello", **members: Any) -> Envelope:
        """Sign an envelope."""
        return letter(self.keys, to, payload, **members)

    async def send(self, to: str, payload: Any = "hello", **members: Any) -> dict[str, Any]:
        """Send a message, and return what is answered."""
        return dict(await self.send_envelope(self.letter(to, payload), **members))

    async def send_envelope(self, envelope: Envelope, **members: Any) -> dict[str, Any]:
        """Send an envelope, and return what is answered."""
        return dict(await self.post("/v1/send", {"envelope": envelope.to_dict(), **members}))

    async def poll(self, wait: float = DEADLINE, **query: Any) -> list[dict[str, Any]]:
        """Return the messages that wait."""
        told = await self.get("/v1/messages", params={"wait": wait, **query})
        for message in told["messages"]:
            open_envelope(message["envelope"])
        return list(told["messages"])

    async def payloads(
        self, wait: float = DEADLINE, *, ack: bool = True, **query: Any
    ) -> list[Any]:
        """Return what the messages say that wait, and ack them."""
        found = await self.poll(wait, **query)
        if ack and found:
            await self.ack(*[one["envelope"]["id"] for one in found])
        return [one["envelope"]["payload"] for one in found]

    async def ack(self, *ids: str) -> None:
        """Settle messages."""
        await self.post("/v1/ack", {"ids": list(ids)})

    @asynccontextmanager
    async def events(
        self, presence: str = "none", last: str = "", **query: str
    ) -> AsyncIterator[Events]:
        """Listen to events."""
        headers = {"Authorization": f"Bearer {self.token}"}
        if last:
            headers["Last-Event-ID"] = last
        async with self.http.stream(
            "GET", f"{self.url}/v1/events", params={"presence": presence} | query, headers=headers
        ) as stream:
            assert stream.status_code == 200, await stream.aread()
            yield Events(stream)


class Events:
    """A stream of server-sent events."""

    def __init__(self, stream: httpx2.Response) -> None:
        self.last = ""
        self._lines = stream.aiter_lines()

    async def next(self) -> tuple[str, dict[str, Any]]:
        """Return the next event, its name and its data."""
        name, data = "", ""
        async with asyncio.timeout(DEADLINE):
            async for line in self._lines:
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                elif field == "id":
                    self.last = value
                elif field == "data":
                    data = value
                elif not line and name:
                    return name, json.loads(data)
        return "", {}

    async def begin(self) -> str:
        """Return the id behind which the stream begins."""
        async with asyncio.timeout(DEADLINE):
            async for line in self._lines:
                if not line:
                    break
                field, _, value = line.partition(": ")
                if field == "id":
                    self.last = value
        return self.last

    async def comment(self) -> str:
        """Return the next comment."""
        async with asyncio.timeout(DEADLINE):
            async for line in self._lines:
                if line.startswith(":"):
                    return line
        return ""

    async def message(self) -> Any:
        """Return what the next message says; other events are skipped."""
        name, data = await self.next()
        while name and name != "message":
            name, data = await self.next()
        return data["envelope"]["payload"] if name else None


@asynccontextmanager
async def http_peer(
    relay: Relay | str, keys: KeyPair | None = None, *, register: bool = True, **members: Any
) -> AsyncIterator[HttpPeer]:
    """Have a peer at *relay*, registered."""
    url = relay if isinstance(relay, str) else url_of(relay)
    async with httpx2.AsyncClient(timeout=DEADLINE, verify=False, trust_env=False) as http:
        peer = HttpPeer(url, http, keys or KeyPair.generate())
        if register:
            await peer.register(**members)
        yield peer


async def is_online(witness: HttpPeer, peer: HttpPeer) -> None:
    """Return when *witness* can see that *peer* is online."""
    async with asyncio.timeout(DEADLINE):
        while True:
            told = await witness.get("/v1/peers")
            if any(one["publicKey"] == peer.id and one["online"] for one in told["peers"]):
                return


def _well(response: httpx2.Response) -> Any:
    assert response.status_code in (200, 202), response.text
    return response.json()
