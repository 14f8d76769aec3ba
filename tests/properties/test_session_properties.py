"""Whatever bytes a stranger sends, the relay answers with a documented error and lives on."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agora.canonical import Json, json_text, parse_json
from agora.codes import ErrorCode
from agora.envelope import ENVELOPE_REASONS
from agora.protocol.admission import EnvelopePolicy
from agora.testing.conversation import Conversation, keys_of

ALICE, BOB = keys_of("alice").peer_id, keys_of("bob").peer_id
ANSWERS = {"registered", "message", "peer_online", "peer_offline", "pong", "error"}

_scribe = Conversation().connect("alice")
VALID: list[dict[str, Any]] = [
    {"type": "register", "publicKey": ALICE, "name": "Alice"},
    {"type": "ping"},
    {"type": "message", "to": BOB, "envelope": _scribe.seals(BOB, {"text": "hi"}).to_dict()},
    {"type": "message", "to": ALICE, "envelope": _scribe.seals([ALICE, BOB], [1.5]).to_dict()},
    {"type": "broadcast", "envelope": _scribe.seals("*", None).to_dict()},
    {
        "type": "message",
        "to": keys_of("relay").peer_id,
        "envelope": _scribe.seals(
            keys_of("relay").peer_id, {"filters": {"limit": 1}}, type="peer_list_request"
        ).to_dict(),
    },
]

texts = st.text(st.characters(), max_size=8)
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | texts
    | st.sampled_from([ALICE, BOB, "*", "register", "message", "broadcast", "ping", "\ud800"])
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """Draw a valid frame of which one member, at any depth, is another, missing or too many."""
    frame: dict[str, Json] = dict(draw(st.sampled_from(VALID)))
    where = frame
    envelope = frame.get("envelope")
    if isinstance(envelope, dict) and draw(st.booleans()):
        where = frame["envelope"] = dict(envelope)
    name = draw(st.sampled_from([*where, "extra"]))
    if draw(st.booleans()):
        where[name] = draw(values)
    else:
        where.pop(name, None)
    return json_text(frame)


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """Draw a valid frame of which some bytes are others, missing or too many."""
    data = json_text(draw(st.sampled_from(VALID))).encode()
    start = draw(st.integers(0, len(data)))
    end = draw(st.integers(start, min(len(data), start + 4)))
    return data[:start] + draw(st.binary(max_size=4)) + data[end:]


nested = st.integers(1, 530).map(lambda depth: '{"type":' + "[" * depth + "]" * depth + "}")
anything = (
    st.binary()
    | texts
    | values.map(json_text)
    | nested
    | mutated()
    | broken()
    | st.sampled_from(VALID).map(json_text)
)


@given(
    st.lists(anything, min_size=25, max_size=60),
    st.sampled_from(EnvelopePolicy),
    st.booleans(),
    st.booleans(),
)
def test_whatever_a_stranger_sends_is_answered_as_documented(
    said: list[str | bytes], policy: EnvelopePolicy, is_registered: bool, is_limited: bool
) -> None:
    talk = Conversation(
        policy=policy, storage_peers=["bob"], rate_limit_enabled=is_limited, mailbox_max_messages=2
    )
    [witness] = talk.meet("witness")
    stranger = talk.join("alice") if is_registered else talk.connect("alice")

    for data in said:
        stranger.says(data)

    for text in stranger.texts() + witness.texts():
        check_answer(parse_json(text))
    assert stranger.close_code is None
    stranger.asks()
    assert stranger.hears() == ["pong"]


def check_answer(frame: Json) -> None:
    assert isinstance(frame, dict)
    assert frame["type"] in ANSWERS
    if frame["type"] == "error":
        assert frame["code"] in list(ErrorCode)
        assert frame.get("reason", ENVELOPE_REASONS[0]) in ENVELOPE_REASONS
        assert isinstance(frame["message"], str)
        assert len(str(frame.get("id", "x" * 64))) == 64


@given(st.lists(st.binary(max_size=125), max_size=50))
def test_no_pong_and_no_ping_can_do_harm(payloads: list[bytes]) -> None:
    talk = Conversation(storage_peers=["alice"], window_messages=1)
    alice, bob = talk.meet("alice", "bob")
    alice.answers_pings = False
    bob.sends(alice, "hi")

    for payload in payloads:
        alice.pongs(payload)

    alice.asks()
    assert alice.hears() == ["bob: hi", "pong"]
