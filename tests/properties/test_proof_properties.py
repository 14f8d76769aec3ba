"""Laws of proofs: each place has one spelling, and a proof is good for what it names alone."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from agora.canonical import Json, canonical_json
from agora.errors import ConfigurationError
from agora.keys import KeyPair
from agora.protocol.proof import audience_of, proven_audience, public_audiences, sign_proof
from agora.testing.conversation import keys_of

Proof = tuple[KeyPair, str, str, KeyPair]

KEYS = [keys_of(name) for name in ("alice", "bob", "relay")]

keys = st.sampled_from(KEYS)
nonces = st.sampled_from(["5a" * 32, "5b" * 32])
texts = st.text(st.characters(), max_size=30)
places = st.from_regex(
    r"\A(ws|wss|http)://(\[?[0-9A-Fa-f:.]{1,20}\]?|[\w.-]{1,20})(:[0-9]{1,6})?\Z"
)
audiences = st.sampled_from(["a:80", "a:443", "b:80", "[::1]:80"])
proofs = st.tuples(keys, audiences, nonces, keys)


@given(texts | places | texts.map("ws://{}".format))
@example("ws://[v1.a]:80")
@example("ws://example\u3002")
def test_any_text_names_a_place_in_its_one_spelling_or_none(text: str) -> None:
    try:
        audience = audience_of(text)
    except ConfigurationError:
        return
    host, _, port = audience.rpartition(":")

    assert audience.isascii()
    assert audience == audience.lower()
    assert 1 <= int(port) <= 65535
    assert host
    assert audience_of(f"ws://{audience}") == audience_of(f"WSS://{audience.upper()}/") == audience


@given(texts | places, st.integers(1, 65535))
def test_any_text_is_a_public_name_or_refused(text: str, port: int) -> None:
    try:
        names = public_audiences(text, port)
    except ConfigurationError:
        return

    assert names
    assert all(audience_of(f"ws://{name}") == name for name in names)


@given(proofs, proofs)
def test_a_proof_is_good_for_exactly_what_it_names(said: Proof, wanted: Proof) -> None:
    owner, audience, nonce, relay = said
    signature = sign_proof(owner, audience=audience, nonce=nonce, relay=relay.peer_id)

    owner, audience, nonce, relay = wanted
    proven = proven_audience(
        owner.peer_id, signature, audiences=[audience], nonce=nonce, relay=relay.peer_id
    )
    assert proven == (audience if wanted == said else None)


@given(st.text() | places, st.text() | nonces)
@example('"', "")
@example("", "\ud800")
def test_what_is_signed_is_canonical_whatever_it_names(audience: str, nonce: str) -> None:
    owner, relay = KEYS[0], KEYS[1].peer_id
    members: dict[str, Json] = {"audience": audience, "nonce": nonce, "relay": relay}
    members |= {"publicKey": owner.peer_id, "purpose": "agora/1 authenticate"}

    signature = sign_proof(owner, audience=audience, nonce=nonce, relay=relay)
    assert signature == owner.sign(canonical_json(members))
