"""Whatever bytes a stranger sends, the relay answers with a documented error and lives on."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agora.canonical import Json, json_text, parse_json
from agora.codes import CloseCode, ErrorCode
from agora.envelope import ENVELOPE_REASONS
from agora.limits import Limits
from agora.protocol.relay.actions import Action, Close, SessionId
from agora.protocol.relay.policies import EnvelopePolicy
from agora.protocol.relay.router import Router, RouterConfig
from agora.protocol.relay.session import Door, RelaySession
from agora.testing.conversation import Conversation, keys_of

ALICE, BOB = keys_of("alice").peer_id, keys_of("bob").peer_id
REFERENCE = {"registered", "message", "peer_online", "peer_offline", "pong", "error"}
AGORA_1 = {"challenge", "registered", "message", "receipt", "presence", "pong", "error"}
NONCE = "ab" * 32

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

VALID_IN_AGORA_1: list[dict[str, Any]] = [
    *VALID,
    {"type": "register", "publicKey": ALICE, "protocol": 1, "nonce": NONCE, "presence": [BOB]},
    {"type": "authenticate", "signature": "00" * 64, "audience": "relay.test:9470"},
    {"type": "ack", "ids": [_scribe.seals(BOB, 1).id]},
    {"type": "nack", "ids": [_scribe.seals(BOB, 2).id], "delayMs": 1000},
    {"type": "watch", "presence": "all"},
    {
        "type": "message",
        "to": [ALICE, BOB],
        "confirm": True,
        "after": "00" * 32,
        "envelope": _scribe.seals([ALICE, BOB], "hi").to_dict(),
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
    frame: dict[str, Json] = dict(draw(st.sampled_from(VALID_IN_AGORA_1)))
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
    data = json_text(draw(st.sampled_from(VALID_IN_AGORA_1))).encode()
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
    | st.sampled_from(VALID_IN_AGORA_1).map(json_text)
)


@given(
    st.lists(anything, min_size=25, max_size=60),
    st.sampled_from(EnvelopePolicy),
    st.sampled_from(["connect", "join", "prove"]),
    st.booleans(),
)
def test_whatever_a_stranger_sends_is_answered_as_documented(
    said: list[str | bytes], policy: EnvelopePolicy, comes: str, is_limited: bool
) -> None:
    talk = Conversation(
        policy=policy, storage_peers=["bob"], rate_limit_enabled=is_limited, mailbox_max_messages=2
    )
    [witness] = talk.meet("witness")
    stranger = getattr(talk, comes)("alice")

    for data in said:
        stranger.says(data)

    for text in stranger.texts():
        check_answer(parse_json(text), AGORA_1 | REFERENCE)
    for text in witness.texts():
        check_answer(parse_json(text), REFERENCE)
    assert stranger.close_code in (None, CloseCode.PROOF_FAILED)
    if stranger.close_code is None:
        stranger.asks()
        assert stranger.hears() == ["pong"]


def check_answer(frame: Json, known: set[str]) -> None:
    assert isinstance(frame, dict)
    assert frame["type"] in known
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


def idle(heartbeat: float) -> RelaySession:
    limits = Limits(heartbeat_interval=heartbeat, register_timeout=2.0)
    router = Router(limits, RouterConfig(identity=keys_of("relay")))
    return RelaySession(SessionId("s"), router, limits, Door("00" * 32), now=0.0)


def live_on(session: RelaySession, event: str, now: float) -> list[Action]:
    match event:
        case "register":
            return session.receive(json_text(VALID[0]), now=now)
        case "ping":
            return session.receive('{"type":"ping"}', now=now)
        case "pong":
            return session.receive_pong(b"", now=now)
    return []


@given(
    st.lists(st.sampled_from(["", "", "", "register", "ping", "pong"]), max_size=40),
    st.sampled_from([0.0, 0.3, 1.0, 3.0]),
)
def test_who_is_looked_at_when_due_alone_does_as_if_looked_at_always(
    events: list[str], heartbeat: float
) -> None:
    always, when_due = idle(heartbeat), idle(heartbeat)
    due = when_due.due
    for number, event in enumerate(events):
        now = number * 0.5
        assert live_on(when_due, event, now) == live_on(always, event, now)
        expected = always.tick(now=now)
        found = []
        if now >= due:
            found, due = when_due.tick(now=now), when_due.due

        assert found == expected
        if any(isinstance(action, Close) for action in found):
            return
