"""Laws of frames: whatever bytes come, the answer is a frame or a `FrameError`."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from hypothesis import example, given
from hypothesis import strategies as st

from agora.canonical import Json, json_text, parse_json
from agora.codes import ErrorCode
from agora.envelope import Sealed
from agora.errors import FrameError
from agora.frames import (
    Answer,
    Broadcast,
    Delivery,
    ErrorAnswer,
    ListedPeer,
    PeerOffline,
    PeerOnline,
    Register,
    Registered,
    Request,
    Submit,
    decode_answer,
    decode_request,
    encode_broadcast,
    encode_delivery,
    encode_error,
    encode_presence,
    encode_register,
    encode_registered,
    encode_submit,
)
from agora.protocol.actions import SessionId
from agora.testing.conversation import keys_of

TYPES = [
    "register", "message", "broadcast", "ping",
    "registered", "peer_online", "peer_offline", "pong", "error", "receipt",
]  # fmt: skip
MEMBERS = [
    "type", "publicKey", "name", "to", "envelope", "from", "peers", "sessionId", "relay",
    "message", "code", "id", "retryAfterMs", "reason", "extra",
]  # fmt: skip


def as_javascript_has_it(text: str) -> str:
    """Join surrogates that form a pair: in JSON they are one character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def read(decode: Callable[[str | bytes], object], data: str | bytes) -> object:
    """Return the frame, or the error that it is documented to raise."""
    try:
        return decode(data)
    except FrameError as error:
        return error


peer_ids = st.sampled_from([keys_of(name).peer_id for name in ("alice", "bob", "carol")])
texts = st.text(st.characters(), max_size=12).map(as_javascript_has_it)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | texts | peer_ids
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
frames = st.dictionaries(st.sampled_from(MEMBERS), values, max_size=6).flatmap(
    lambda members: st.sampled_from(TYPES).map(lambda kind: json_text({"type": kind} | members))
)
anything = st.binary() | st.text(st.characters()) | values.map(json_text) | frames
envelopes = st.dictionaries(texts, values, min_size=1, max_size=4).map(
    lambda members: parse_json(json_text(members))
)
listed = st.builds(ListedPeer, peer_ids, st.none() | texts.filter(bool))


@given(anything)
@example('{"type":' + "[" * 515 + "]" * 515 + "}")
@example('{"type":"error","message":"no","retryAfterMs":1e400}')
@example('{"type":"error","message":"no","retryAfterMs":' + "9" * 309 + "}")
def test_whatever_a_client_sends_is_a_request_or_a_frame_error(data: str | bytes) -> None:
    assert isinstance(read(decode_request, data), (*get_args(Request), FrameError))


@given(anything)
@example('{"type":' + "[" * 515 + "]" * 515 + "}")
@example('{"type":"error","message":"no","retryAfterMs":1e400}')
@example('{"type":"error","message":"no","retryAfterMs":' + "9" * 309 + "}")
def test_whatever_a_relay_sends_is_an_answer_or_a_frame_error(data: str | bytes) -> None:
    assert isinstance(read(decode_answer, data), (*get_args(Answer), FrameError))


@given(frames)
def test_bytes_and_text_are_read_alike(text: str) -> None:
    assert repr(read(decode_request, text.encode())) == repr(read(decode_request, text))


@given(peer_ids, st.none() | texts)
def test_a_registration_is_read_as_it_was_written(key: str, name: str | None) -> None:
    assert decode_request(encode_register(key, name)) == Register(key, name)  # type: ignore[arg-type]


@given(texts.filter(bool), envelopes)
def test_a_message_is_read_as_it_was_written(to: str, envelope: Json) -> None:
    assert decode_request(encode_submit(to, json_text(envelope))) == Submit(to, Sealed(envelope))


@given(envelopes)
def test_a_broadcast_is_read_as_it_was_written(envelope: Json) -> None:
    assert decode_request(encode_broadcast(json_text(envelope))) == Broadcast(Sealed(envelope))


@given(peer_ids, texts, st.lists(listed, max_size=3), st.none() | peer_ids)
def test_a_welcome_is_read_as_it_was_written(
    key: str, session: str, peers: list[ListedPeer], relay: str | None
) -> None:
    text = encode_registered(key, SessionId(session), peers, relay)  # type: ignore[arg-type]

    assert decode_answer(text) == Registered(tuple(peers), session, relay)  # type: ignore[arg-type]


@given(peer_ids, envelopes, st.none() | texts.filter(bool))
def test_a_delivery_is_read_as_it_was_written(
    sender: str, envelope: Json, name: str | None
) -> None:
    text = encode_delivery(sender, json_text(envelope), name)  # type: ignore[arg-type]

    assert decode_answer(text) == Delivery(sender, Sealed(envelope), name)


@given(listed)
def test_presence_is_read_as_it_was_written(peer: ListedPeer) -> None:
    assert decode_answer(encode_presence(peer, is_online=True)) == PeerOnline(peer)
    assert decode_answer(encode_presence(peer, is_online=False)) == PeerOffline(peer)


@given(st.sampled_from(ErrorCode), texts, st.none() | texts, st.none() | texts)
def test_an_error_is_read_as_it_was_written(
    code: ErrorCode, message: str, envelope_id: str | None, to: str | None
) -> None:
    text = encode_error(code, message, envelope_id=envelope_id, to=to)

    assert decode_answer(text) == ErrorAnswer(message, code, envelope_id, to)


@given(st.floats(min_value=1e-9, max_value=86_400))
def test_a_time_to_wait_is_never_told_too_short(seconds: float) -> None:
    answer = decode_answer(encode_error("rate_limited", "no", retry_after=seconds))

    assert isinstance(answer, ErrorAnswer)
    assert answer.retry_after is not None
    assert seconds <= answer.retry_after + 1e-9 <= seconds + 0.0011
