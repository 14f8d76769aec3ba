"""Tokens: who gets one, how long it is good, and what it is good for."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import os
import re
import time
from pathlib import Path
from typing import Any, cast

import jwt
import pytest

from agora.errors import ConfigurationError
from agora.keys import KeyPair
from agora.protocol.proof import OVER_HTTP, OVER_WEBSOCKET, sign_proof
from agora.relay import Relay, RelayConfig
from agora.relay.http.door import open_door
from agora.relay.http.errors import ApiError
from agora.relay.http.revocations import Revocations
from agora.relay.http.tokens import Secrets, Tokens
from agora.testing.clock import ManualClock
from tests.relay.http.talking import http_peer, is_online, unpin
from tests.support import eventually, faults_in

KEYS = KeyPair.generate()


# A proof


async def test_a_challenge_serves_once(relay: Relay) -> None:
    async with http_peer(relay, register=False) as alice:
        proof = alice.proof(await alice.challenge())
        first = await alice.ask("POST", "/v1/register", json=proof)
        second = await alice.ask("POST", "/v1/register", json=proof)

    assert first.status_code == 200
    assert (second.status_code, second.json()["error"]["code"]) == (401, "proof_failed")
    assert second.headers["WWW-Authenticate"].startswith("Bearer ")


async def test_a_challenge_serves_the_key_that_asked(relay: Relay) -> None:
    async with http_peer(relay, register=False) as alice, http_peer(relay, register=False) as eve:
        answer = await eve.ask("POST", "/v1/register", json=eve.proof(await alice.challenge()))

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "proof_failed")


async def test_a_challenge_that_is_too_old_serves_no_more() -> None:
    async with (
        Relay(port=0, http_port=0, register_timeout=0.05) as relay,
        http_peer(relay, register=False) as alice,
    ):
        challenge = await alice.challenge()
        while True:  # until the relay has forgotten it, as its clock says
            if challenge["expiresAt"] < (await alice.challenge())["expiresAt"] - 60:
                break
        answer = await alice.ask("POST", "/v1/register", json=alice.proof(challenge))

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "proof_failed")


@pytest.mark.parametrize("changed", ["audience", "purpose", "key", "nonce"])
async def test_what_was_signed_for_something_else_is_no_proof(relay: Relay, changed: str) -> None:
    async with http_peer(relay, register=False) as alice:
        challenge = await alice.challenge()
        signature = sign_proof(
            KEYS if changed == "key" else alice.keys,
            audience="relay.example.org:443" if changed == "audience" else alice.url[7:],
            nonce="00" * 32 if changed == "nonce" else challenge["nonce"],
            relay=challenge["relay"],
            purposes=OVER_WEBSOCKET if changed == "purpose" else OVER_HTTP,
        )
        proof = {"publicKey": alice.id, "nonce": challenge["nonce"], "signature": signature}
        answer = await alice.ask("POST", "/v1/register", json=proof)

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "proof_failed")


async def test_a_proof_for_another_name_is_told_what_the_relay_is_called(relay: Relay) -> None:
    async with http_peer(relay, register=False) as alice:
        challenge = await alice.challenge()
        there = "relay.example.org:443"
        signature = sign_proof(
            alice.keys,
            audience=there,
            nonce=challenge["nonce"],
            relay=challenge["relay"],
            purposes=OVER_HTTP,
        )
        proof = {"publicKey": alice.id, "nonce": challenge["nonce"], "signature": signature}
        answer = await alice.ask("POST", "/v1/register", json=proof | {"audience": there})

    assert there in answer.json()["error"]["message"]
    assert "--public-name" in answer.json()["error"]["message"]


async def test_a_public_name_is_an_audience() -> None:
    async with (
        Relay(port=0, http_port=0, public_name=("https://relay.example.org",)) as relay,
        http_peer(relay, register=False) as alice,
    ):
        challenge = await alice.challenge()
        signature = sign_proof(
            alice.keys,
            audience="relay.example.org:443",
            nonce=challenge["nonce"],
            relay=challenge["relay"],
            purposes=OVER_HTTP,
        )
        proof = {"publicKey": alice.id, "nonce": challenge["nonce"], "signature": signature}
        answer = await alice.ask("POST", "/v1/register", json=proof)

    assert answer.status_code == 200


async def test_a_registration_tells_what_a_client_needs(relay: Relay) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob:
        await alice.send(bob.id, "waiting")
        await alice.poll(wait=0)
        await bob.register(name="bob")

    assert bob.registered["pending"] == 1
    assert [one["publicKey"] for one in bob.registered["peers"]] == [alice.id]
    assert bob.registered["limits"]["maxFrameBytes"] == 262_144
    assert bob.registered["relay"] == relay.peer_id


# A token, by itself


class Bench:
    """Tokens with a clock that the test moves."""

    def __init__(self, path: Path | None = None, **settings: Any) -> None:
        self.clock = ManualClock()
        self.path = path
        self.settings: dict[str, Any] = {
            "given": (),
            "max_age": 1_000.0,
            "lifetime": 100.0,
        } | settings
        self.open()

    def open(self) -> None:
        """Begin anew, as a relay does that was restarted."""
        file = self.path and self.path / "http-secrets.json"
        log = self.path and self.path / "http-revoked"
        self.revocations = Revocations(log, most=3, most_of_address=2, clock=self.clock)
        self.secrets = Secrets(file, clock=self.clock, **self.settings)
        self.tokens = Tokens(
            self.secrets, self.revocations, lifetime=self.settings["lifetime"], clock=self.clock
        )

    def issue(self) -> str:
        """Return a new token."""
        return self.tokens.issue(KEYS.peer_id, "session", name="alice")[0]

    def revoke(self, text: str, address: str = "") -> None:
        """Have *text* be good no longer, and write that down."""
        token = self.tokens.read(text)
        self.revocations.add(token.jti, token.exp, address)
        self.revocations.write()

    def why_not(self, text: str) -> str:
        """Return why *text* is not good; nothing if it is."""
        try:
            self.tokens.read(text)
        except ApiError as error:
            return str(error.members["reason"])
        return ""


def test_a_token_says_who_has_it() -> None:
    bench = Bench()

    token = bench.tokens.read(bench.issue())

    assert (token.publicKey, token.name, token.exp - token.iat) == (KEYS.peer_id, "alice", 100)


def test_a_token_is_one_to_another_library() -> None:
    bench = Bench(given=("a secret that is long enough for HS256",))

    claims = jwt.decode(
        bench.issue(),
        "a secret that is long enough for HS256",
        algorithms=["HS256"],
        options={"verify_exp": False},
    )

    assert claims["publicKey"] == KEYS.peer_id
    assert re.fullmatch(r"\d+-[0-9a-f]{32}", claims["jti"])


def test_a_token_ends() -> None:
    bench = Bench()
    text = bench.issue()

    bench.clock.advance(99)
    assert bench.why_not(text) == ""
    bench.clock.advance(1)
    assert bench.why_not(text) == "token_expired"


def _with_head(text: str, **members: str) -> str:
    head = {"alg": "HS256", "typ": "JWT"} | members
    first = base64.urlsafe_b64encode(json.dumps(head).encode()).rstrip(b"=").decode()
    return ".".join([first, *text.split(".")[1:]])


@pytest.mark.parametrize(
    "forge",
    [
        lambda text: "",
        lambda text: "..",
        lambda text: "é.ü.ö",
        lambda text: text[:-4] + "AAAA",
        lambda text: text + "A",
        lambda text: text.replace(".", "", 1),
        lambda text: text.partition(".")[0] + ".e30." + text.rpartition(".")[2],
        lambda text: _with_head(text, alg="none", kid="1"),
        lambda text: _with_head(text, alg="none").rpartition(".")[0] + ".",
        lambda text: _with_head(text, kid="unknown"),
        lambda text: _with_head(text),
        lambda text: "[" * 5000 + "." + text,
        lambda text: jwt.encode({"publicKey": KEYS.peer_id}, "x" * 32, headers={"kid": "1"}),
    ],
)
def test_a_forged_token_is_none(forge: Any) -> None:
    bench = Bench()

    assert bench.why_not(forge(bench.issue())) == "invalid_token"


def test_a_token_outlives_the_relay(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    text = bench.issue()

    bench.open()

    assert bench.why_not(text) == ""
    assert (tmp_path / "http-secrets.json").stat().st_mode & 0o077 == 0


def test_a_revoked_token_stays_revoked(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    text = bench.issue()
    bench.revoke(text)

    assert bench.why_not(text) == "token_revoked"
    bench.open()
    assert bench.why_not(text) == "token_revoked"


def test_revocations_are_forgotten_when_their_tokens_end(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for number in range(3):
        bench.revoke(bench.issue(), str(number))
    bench.clock.advance(100)
    bench.revocations.forget_expired()
    bench.tokens.tidy()

    assert len(bench.revocations) == 0
    assert (tmp_path / "http-revoked").read_text() == ""


def test_half_a_line_of_a_crash_revokes_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "http-revoked").write_text("99999999999 one\n999")

    assert len(Bench(tmp_path).revocations) == 1


def test_a_line_behind_half_a_line_of_a_crash_counts(tmp_path: Path) -> None:
    (tmp_path / "http-revoked").write_text("999")
    bench = Bench(tmp_path)
    text = bench.issue()
    bench.revoke(text)

    bench.open()
    assert bench.why_not(text) == "token_revoked"


def revoked_off_disk(place: Path) -> tuple[Bench, str]:
    """Revoke a token while the folder of ``place / "relay"`` is elsewhere; return it, revoked."""
    folder = place / "relay"
    folder.mkdir()
    bench = Bench(folder)
    text = bench.issue()
    folder.rename(place / "elsewhere")
    with pytest.raises(OSError, match="http-revoked"):
        bench.revoke(text)
    return bench, text


def test_what_the_disk_does_not_take_is_revoked_and_written_down_later(tmp_path: Path) -> None:
    bench, text = revoked_off_disk(tmp_path)
    assert (bench.why_not(text), bench.revocations.is_behind) == ("token_revoked", True)

    (tmp_path / "elsewhere").rename(tmp_path / "relay")
    bench.tokens.tidy()
    bench.open()
    assert bench.why_not(text) == "token_revoked"


def test_what_has_ended_waits_for_no_disk_any_more(tmp_path: Path) -> None:
    bench, _ = revoked_off_disk(tmp_path)
    bench.clock.advance(100)
    bench.revocations.forget_expired()

    assert not bench.revocations.is_behind


def test_what_is_no_text_revokes_nothing_and_keeps_no_relay_from_starting(tmp_path: Path) -> None:
    (tmp_path / "http-revoked").write_bytes(b"99999999999 one\n\xff\xfe\n99999999999 two\n")

    assert len(Bench(tmp_path).revocations) == 2


def test_a_list_of_revoked_tokens_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "http-revoked").mkdir()

    with pytest.raises(ConfigurationError, match="http-revoked"):
        Bench(tmp_path)


def test_where_no_more_can_be_revoked_nothing_seems_to_be() -> None:
    bench = Bench()
    for number in range(3):
        bench.revoke(bench.issue(), str(number))
    text = bench.issue()

    with pytest.raises(ApiError) as refused:
        bench.revoke(text)
    assert refused.value.code == "at_capacity"
    assert bench.why_not(text) == ""


def test_one_address_leaves_others_room_to_revoke() -> None:
    bench = Bench()
    for _ in range(2):
        bench.revoke(bench.issue(), "eager")

    with pytest.raises(ApiError, match="from one address"):
        bench.revoke(bench.issue(), "eager")
    bench.revoke(bench.issue(), "other")
    bench.clock.advance(100)
    bench.revoke(bench.issue(), "eager")  # what has ended takes no room


def test_a_secret_is_renewed_and_tokens_of_the_old_one_stay_good(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    first = bench.secrets.current.id
    bench.clock.advance(950)
    old = bench.issue()
    bench.clock.advance(51)
    bench.tokens.tidy()

    assert bench.secrets.current.id != first
    assert bench.why_not(old) == ""
    bench.open()
    assert bench.why_not(old) == ""
    bench.clock.advance(100)
    bench.tokens.tidy()
    assert bench.why_not(old) == "invalid_token"
    assert first not in (tmp_path / "http-secrets.json").read_text()


def test_the_operator_renews_a_secret_that_is_given(tmp_path: Path) -> None:
    bench = Bench(tmp_path, given=("old secret",))
    text = bench.issue()
    bench.settings["given"] = ("new secret", "old secret")
    bench.open()

    assert bench.why_not(text) == ""
    assert bench.why_not(bench.issue()) == ""
    bench.settings["given"] = ("new secret",)
    bench.open()
    assert bench.why_not(text) == "invalid_token"
    assert not (tmp_path / "http-secrets.json").exists()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"secrets":[{"id":1}]}', '{"secrets":[1]}'])
def test_a_damaged_file_of_secrets_is_said_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "http-secrets.json"
    path.write_text(text)

    with pytest.raises(ConfigurationError, match="http-secrets"):
        Bench(tmp_path)
    assert path.read_text() == text


# A token, at a relay


async def test_a_token_is_revoked_by_disconnect_and_stays_so(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"port": 0, "data_dir": tmp_path}
    async with Relay(**settings, http_port=0) as relay, http_peer(relay) as alice:
        assert (await alice.ask("DELETE", "/v1/disconnect")).json() == {"ok": True}
        assert (await alice.ask("DELETE", "/v1/disconnect")).status_code == 401
        port = int(alice.url.rpartition(":")[2])

    async with (
        Relay(**settings, http_port=port) as relay,
        http_peer(relay, register=False) as again,
    ):
        again.token = alice.token
        answer = await again.ask("GET", "/v1/messages")

    assert (answer.status_code, answer.json()["error"]["reason"]) == (401, "token_revoked")
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


async def test_a_full_disk_is_told_to_who_disconnects_and_the_token_is_revoked_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings: dict[str, Any] = {"port": 0, "data_dir": tmp_path}
    async with Relay(**settings, http_port=0) as relay, http_peer(relay) as alice:
        (tmp_path / "http-revoked").mkdir()  # no file can be written there
        answer = await alice.ask("DELETE", "/v1/disconnect")
        after = await alice.ask("GET", "/v1/messages")
        port = int(alice.url.rpartition(":")[2])
        (tmp_path / "http-revoked").rmdir()  # at its end the relay tries again

    async with (
        Relay(**settings, http_port=port) as relay,
        http_peer(relay, register=False) as again,
    ):
        again.token = alice.token
        assert (await again.ask("GET", "/v1/messages")).status_code == 401

    assert faults_in(caplog) == ["tokens not tidied"]
    caplog.clear()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_failed")
    assert (after.status_code, after.json()["error"]["reason"]) == (401, "token_revoked")


async def test_a_disk_that_hangs_is_not_asked_again_before_it_has_answered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    door = open_door(
        RelayConfig(data_dir=tmp_path),
        cast(Any, None),
        relay=KEYS.peer_id,
        writer=cast(Any, None),
        audiences=lambda host, port: (),
        overview=cast(Any, None),
        admin_token="",
    )
    os.mkfifo(tmp_path / "http-revoked")  # who opens it to write waits for a reader
    door.tokens.revocations.add("a token", int(time.time()) + 60)
    door.tick()
    assert door.tidy_at == math.inf

    reader = os.open(tmp_path / "http-revoked", os.O_RDONLY | os.O_NONBLOCK)
    await eventually(lambda: door.tidy_at < math.inf)
    os.close(reader)
    assert door.tidy_at <= time.time() + 5  # it is no disk: what was to be written down still is
    assert faults_in(caplog) == ["tokens not tidied"]
    caplog.clear()


@pytest.mark.parametrize("path", ["/v1/messages?wait=20", "/v1/send"])
async def test_a_request_that_waits_when_its_token_is_revoked_is_told_so(
    relay: Relay, path: str
) -> None:
    async with http_peer(relay) as alice, http_peer(relay) as bob:
        assert await bob.poll(wait=0) == []  # so what comes for it waits for its ack
        letter = alice.letter(bob.id)
        body = {"json": {"envelope": letter.to_dict()}} if path == "/v1/send" else {}
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(alice.ask("POST" if body else "GET", path, **body))
            if body:
                assert len(await bob.poll()) == 1
            else:
                await is_online(bob, alice)
            await alice.ask("DELETE", "/v1/disconnect")
        error = waiting.result().json()["error"]

    assert (waiting.result().status_code, error["code"]) == (401, "not_registered")
    assert (error["reason"], error.get("id")) == ("token_revoked", letter.id if body else None)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "missing_token"),
        ("", "missing_token"),
        ("Basic abc", "missing_token"),
        ("Bearer", "missing_token"),
        ("Bearer nonsense", "invalid_token"),
    ],
)
async def test_without_a_token_nothing_is_told(
    relay: Relay, header: str | None, reason: str
) -> None:
    async with http_peer(relay, register=False) as alice:
        headers = {} if header is None else {"Authorization": header}
        for method, path in [("GET", "/v1/messages"), ("GET", "/v1/peers"), ("GET", "/v1/events")]:
            answer = await alice.ask(method, path, headers=headers)
            assert (answer.status_code, answer.json()["error"]["reason"]) == (401, reason)


async def test_a_token_of_a_key_that_was_unpinned_is_no_proof_any_more(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"port": 0, "http_port": 0, "data_dir": tmp_path}
    async with Relay(**settings, http_session_grace=0.0) as relay, http_peer(relay) as alice:
        token = alice.token
        await alice.poll(wait=0)
    unpin(tmp_path, alice.id)

    async with Relay(**settings) as relay, http_peer(relay, register=False) as again:
        again.token = token
        answer = await again.ask("GET", "/v1/messages")

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "proof_required")
