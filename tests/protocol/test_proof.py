"""Proof of key: what exactly is signed, and which places are the same place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agora.errors import ConfigurationError
from agora.keys import KeyPair, PeerId, verify
from agora.protocol.proof import (
    audience_of,
    is_genuine_challenge,
    local_audiences,
    proven_audience,
    public_audiences,
    sign_challenge,
    sign_proof,
)

ALICE, MALLORY, RELAY = (KeyPair.from_seed(bytes([number]) * 32) for number in (1, 2, 3))
CLIENT_NONCE, NONCE, OTHER_NONCE = "c1" * 32, "5a" * 32, "5b" * 32
HERE, ELSEWHERE = "relay.example.org:443", "other.example.org:443"


# What is signed


def test_the_relay_signs_exactly_this_text() -> None:
    text = (
        f'{{"clientNonce":"{CLIENT_NONCE}","nonce":"{NONCE}","publicKey":"{ALICE.peer_id}",'
        f'"purpose":"agora/1 challenge","relay":"{RELAY.peer_id}"}}'
    )
    signature = sign_challenge(
        RELAY, client_nonce=CLIENT_NONCE, nonce=NONCE, public_key=ALICE.peer_id
    )

    assert verify(RELAY.peer_id, signature, text.encode())
    assert signature == (
        "800b3f587d59a80d92d2eb0764223cb989ab70075a9a811a68fb08cdffcf7adc"
        "db71a70e26cd50d9bb38f7cc643752d6825214a22902cd07f1e5b0b23a714f06"
    )


def test_the_client_signs_exactly_this_text() -> None:
    text = (
        f'{{"audience":"{HERE}","nonce":"{NONCE}","publicKey":"{ALICE.peer_id}",'
        f'"purpose":"agora/1 authenticate","relay":"{RELAY.peer_id}"}}'
    )
    signature = sign_proof(ALICE, audience=HERE, nonce=NONCE, relay=RELAY.peer_id)

    assert verify(ALICE.peer_id, signature, text.encode())
    assert signature == (
        "7ac270f61e63fb7ef95a1d373f3bbadf8b6393d553af152be30f43fbbd2cf810"
        "e0b56fe3ba6e9c963068511b71b2c8c27c7919007dde289c24057e0b6fa71908"
    )


def test_a_challenge_is_genuine_if_its_relay_signed_it() -> None:
    signature = sign_challenge(
        RELAY, client_nonce=CLIENT_NONCE, nonce=NONCE, public_key=ALICE.peer_id
    )

    assert is_genuine_challenge(
        RELAY.peer_id,
        signature,
        client_nonce=CLIENT_NONCE,
        nonce=NONCE,
        public_key=ALICE.peer_id,
    )


@pytest.mark.parametrize(
    ("relay", "client_nonce", "nonce", "public_key"),
    [
        (MALLORY.peer_id, CLIENT_NONCE, NONCE, ALICE.peer_id),
        (RELAY.peer_id, OTHER_NONCE, NONCE, ALICE.peer_id),
        (RELAY.peer_id, CLIENT_NONCE, OTHER_NONCE, ALICE.peer_id),
        (RELAY.peer_id, NONCE, CLIENT_NONCE, ALICE.peer_id),
        (RELAY.peer_id, CLIENT_NONCE, NONCE, MALLORY.peer_id),
    ],
    ids=["relay", "client nonce", "nonce", "nonces exchanged", "public key"],
)
def test_a_challenge_counts_for_nothing_else(
    relay: PeerId, client_nonce: str, nonce: str, public_key: PeerId
) -> None:
    signature = sign_challenge(
        RELAY, client_nonce=CLIENT_NONCE, nonce=NONCE, public_key=ALICE.peer_id
    )

    assert not is_genuine_challenge(
        relay, signature, client_nonce=client_nonce, nonce=nonce, public_key=public_key
    )


@pytest.mark.parametrize("said", [None, HERE, ELSEWHERE, "", "nowhere:1"])
def test_what_a_client_says_that_it_signed_changes_no_proof(said: str | None) -> None:
    signature = sign_proof(ALICE, audience=HERE, nonce=NONCE, relay=RELAY.peer_id)

    def proven(*audiences: str) -> str | None:
        return proven_audience(
            ALICE.peer_id,
            signature,
            audiences=audiences,
            nonce=NONCE,
            relay=RELAY.peer_id,
            said=said,
        )

    assert proven(ELSEWHERE, HERE) == HERE
    assert proven(ELSEWHERE) is None


def test_a_proof_tells_which_of_the_relays_names_was_dialled() -> None:
    signature = sign_proof(ALICE, audience=HERE, nonce=NONCE, relay=RELAY.peer_id)

    assert (
        proven_audience(
            ALICE.peer_id,
            signature,
            audiences=[ELSEWHERE, HERE, HERE],
            nonce=NONCE,
            relay=RELAY.peer_id,
        )
        == HERE
    )


@pytest.mark.parametrize(
    ("public_key", "audiences", "nonce", "relay"),
    [
        (MALLORY.peer_id, [HERE], NONCE, RELAY.peer_id),
        (ALICE.peer_id, [ELSEWHERE], NONCE, RELAY.peer_id),
        (ALICE.peer_id, [], NONCE, RELAY.peer_id),
        (ALICE.peer_id, [HERE], OTHER_NONCE, RELAY.peer_id),
        (ALICE.peer_id, [HERE], NONCE, MALLORY.peer_id),
    ],
    ids=["public key", "audience", "no audience", "nonce", "relay"],
)
def test_a_proof_counts_for_nothing_else(
    public_key: PeerId, audiences: list[str], nonce: str, relay: PeerId
) -> None:
    signature = sign_proof(ALICE, audience=HERE, nonce=NONCE, relay=RELAY.peer_id)

    proven = proven_audience(public_key, signature, audiences=audiences, nonce=nonce, relay=relay)

    assert proven is None


def test_a_relay_in_the_middle_cannot_pass_a_proof_on() -> None:
    """Mallory asks with the nonce that the relay gave her, and under either key."""
    for relay in (MALLORY, RELAY):
        given = sign_proof(ALICE, audience=ELSEWHERE, nonce=NONCE, relay=relay.peer_id)

        assert None is proven_audience(
            ALICE.peer_id, given, audiences=[HERE], nonce=NONCE, relay=RELAY.peer_id
        )


def test_a_challenge_is_no_proof_and_a_proof_no_challenge() -> None:
    """One key on both sides, and everything else that could be the same is."""
    asked = sign_challenge(ALICE, client_nonce=NONCE, nonce=NONCE, public_key=ALICE.peer_id)
    proof = sign_proof(ALICE, audience=HERE, nonce=NONCE, relay=ALICE.peer_id)

    assert None is proven_audience(
        ALICE.peer_id, asked, audiences=[HERE], nonce=NONCE, relay=ALICE.peer_id
    )
    assert not is_genuine_challenge(
        ALICE.peer_id, proof, client_nonce=NONCE, nonce=NONCE, public_key=ALICE.peer_id
    )


@pytest.mark.parametrize("signature", ["", "zz", "00" * 64, "0" * 128, "\ud800", "F" * 128])
def test_what_is_no_signature_proves_nothing(signature: str) -> None:
    assert None is proven_audience(
        ALICE.peer_id, signature, audiences=[HERE], nonce=NONCE, relay=RELAY.peer_id
    )
    assert not is_genuine_challenge(
        RELAY.peer_id,
        signature,
        client_nonce=CLIENT_NONCE,
        nonce=NONCE,
        public_key=ALICE.peer_id,
    )


# Audiences


@pytest.mark.parametrize(
    ("url", "audience"),
    [
        ("ws://relay.example.org", "relay.example.org:80"),
        ("http://relay.example.org/", "relay.example.org:80"),
        ("wss://relay.example.org/agora?a=b#c", "relay.example.org:443"),
        ("https://relay.example.org:", "relay.example.org:443"),
        ("WSS://Relay.EXAMPLE.org.:0443", "relay.example.org:443"),
        ("ws://user:word@relay.example.org:9470", "relay.example.org:9470"),
        ("ws://localhost:65535", "localhost:65535"),
        ("ws://bücher.example", "xn--bcher-kva.example:80"),
        ("ws://BÜCHER.example", "xn--bcher-kva.example:80"),
        ("ws://bu\u0308cher.example", "xn--bcher-kva.example:80"),
        ("ws://XN--BCHER-KVA.example", "xn--bcher-kva.example:80"),
        ("ws://relay\u3002example\u3002", "relay.example:80"),
        ("ws://\uff52elay.example", "relay.example:80"),
        ("ws://my_relay.internal", "my_relay.internal:80"),
        ("ws://127.0.0.1:9470", "127.0.0.1:9470"),
        ("ws://127.0.0.1.:9470", "127.0.0.1:9470"),
        ("ws://[::1]:9470", "[::1]:9470"),
        ("ws://[0:0:0:0:0:0:0:1]:9470", "[::1]:9470"),
        ("wss://[2001:DB8:0:0::A]", "[2001:db8::a]:443"),
        ("ws://[fe80::1%25eth0]:9470", "[fe80::1]:9470"),
        ("ws://[fe80::1%eth0]:9470", "[fe80::1]:9470"),
        ("ws://[::ffff:127.0.0.1]:9470", "127.0.0.1:9470"),
        ("ws://[::ffff:7f00:1]:9470", "127.0.0.1:9470"),
        ("ws://[::FFFF:127.0.0.1%25lo]:9470", "127.0.0.1:9470"),
    ],
)
def test_a_place_has_one_spelling(url: str, audience: str) -> None:
    assert audience_of(url) == audience


def test_the_audiences_on_the_page_are_those() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "protocol.md"
    rows = re.findall(r"^\| `(\w+://\S+)` \| `(\S+)` \|$", page.read_text("utf-8"), re.MULTILINE)

    assert len(rows) == 4
    assert [audience_of(url) for url, _ in rows] == [audience for _, audience in rows]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "relay.example.org",
        "relay.example.org:9470",
        "//relay.example.org:9470",
        "ftp://relay.example.org:21",
        "ws:",
        "ws://",
        "ws://:9470",
        "ws://.",
        "ws://..",
        "ws://a..b",
        "ws://.a",
        "ws://a b",
        "ws://a%20b",
        "ws://a\0b",
        "ws://a*b",
        "ws://a:0",
        "ws://a:65536",
        "ws://a:-1",
        "ws://a:9470x",
        "ws://a:\u0661",
        "ws://a:80:90",
        "ws://::1:9470",
        "ws://[::1",
        "ws://::1]",
        "ws://[]",
        "ws://[a]",
        "ws://[v1.a]:80",
        "ws://[::1].:80",
        "ws://a[::1]:80",
        "ws://[::1]a:80",
        "ws://[127.0.0.1]",
        "ws://[::g]",
        "ws://127.0.0.1%25lo",
        "ws://" + "a" * 64,
        "ws://" + "\u00fc" * 64,
        "ws://\ud800",
        "ws://a\u2100b",
        "ws://xn--\u00fc",
        "ws://\u00ad",
    ],
)
def test_what_names_no_place_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="names no host and port: "):
        audience_of(url)


@pytest.mark.parametrize(
    ("name", "audiences"),
    [
        ("relay.example", ["relay.example:9470", "relay.example:443", "relay.example:80"]),
        ("Relay.Example.", ["relay.example:9470", "relay.example:443", "relay.example:80"]),
        ("relay.example:8443", ["relay.example:8443"]),
        ("wss://relay.example.org/agora", ["relay.example.org:443"]),
        ("bücher.example:1", ["xn--bcher-kva.example:1"]),
        ("192.0.2.7:1", ["192.0.2.7:1"]),
        ("2001:db8::A", ["[2001:db8::a]:9470", "[2001:db8::a]:443", "[2001:db8::a]:80"]),
        ("[2001:db8::A]:1", ["[2001:db8::a]:1"]),
        ("::ffff:192.0.2.7", ["192.0.2.7:9470", "192.0.2.7:443", "192.0.2.7:80"]),
    ],
)
def test_a_public_name_stands_for_the_ports_it_may_be_served_on(
    name: str, audiences: list[str]
) -> None:
    assert public_audiences(name, 9470) == tuple(audiences)


def test_a_public_name_on_an_implied_port_is_not_told_twice() -> None:
    assert public_audiences("a", 443) == ("a:443", "a:80")


@pytest.mark.parametrize(
    "name",
    ["", " ", ".", "a b", "a/b", "a?b", "a#b", ":80", "a:0", "a:x", "a:1:2", "[::1", "[a]",
     "://", "ftp://a:21", "ws://", "*.example.org", "\ud800"],
)  # fmt: skip
def test_what_is_no_public_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="names no host"):
        public_audiences(name, 9470)


@pytest.mark.parametrize(
    ("address", "audiences"),
    [
        ("127.0.0.1", ["127.0.0.1:9470", "localhost:9470"]),
        ("127.0.0.2", ["127.0.0.2:9470", "localhost:9470"]),
        ("::1", ["[::1]:9470", "localhost:9470"]),
        ("::ffff:127.0.0.1", ["127.0.0.1:9470", "localhost:9470"]),
        ("192.0.2.7", ["192.0.2.7:9470"]),
        ("::ffff:192.0.2.7", ["192.0.2.7:9470"]),
        ("fe80::1%eth0", ["[fe80::1]:9470"]),
        ("", []),
        ("/run/agora.sock", []),
    ],
)
def test_a_socket_is_where_it_was_accepted(address: str, audiences: list[str]) -> None:
    assert local_audiences(address, 9470) == tuple(audiences)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "2001:db8::a"])
def test_whoever_dials_an_address_is_heard_at_it(address: str) -> None:
    dialled = audience_of(f"ws://[{address}]:9470" if ":" in address else f"ws://{address}:9470")

    assert dialled in local_audiences(address, 9470)
