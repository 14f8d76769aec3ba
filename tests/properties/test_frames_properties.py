"""Laws of frames: whatever bytes come, the answer is a frame or a `FrameError`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from hypothesis import example, given
from hypothesis import strategies as st

from agora.canonical import Json, json_text, parse_json
from agora.codes import ErrorCode, ReceiptStatus
from agora.envelope import Sealed
from agora.errors import FrameError
from agora.frames import (
    MAX_NACK_DELAY_MS,
    WATCH_ALL,
    Ack,
    AnnouncedLimits,
    Answer,
    Authenticate,
    Broadcast,
    Challenge,
    Delivery,
    ErrorAnswer,
    ListedPeer,
    Nack,
    PeerOffline,
    PeerOnline,
    PresenceAnswer,
    ReceiptAnswer,
    Register,
    Registered,
    Request,
    Submit,
    UnknownRequest,
    Watch,
    Watched,
    agora_members,
    decode_answer,
    decode_request,
    encode_ack,
    encode_authenticate,
    encode_broadcast,
    encode_challenge,
    encode_delivery,
    encode_error,
    encode_nack,
    encode_presence,
    encode_presence_changes,
    encode_receipt,
    encode_register,
    encode_registered,
    encode_submit,
    encode_watch,
)
from agora.keys import PeerId
from agora.protocol.relay.actions import SessionId
from agora.testing.conversation import keys_of

TYPES = [
    "register", "authenticate", "message", "broadcast", "ack", "nack", "watch", "ping",
    "challenge", "registered", "receipt", "presence", "peer_online", "peer_offline", "pong",
    "error",
]  # fmt: skip
MEMBERS = [
    "type", "publicKey", "name", "to", "envelope", "from", "peers", "sessionId", "relay",
    "message", "code", "id", "retryAfterMs", "reason", "extra", "protocol", "nonce", "presence",
    "receive", "signature", "audience", "confirm", "after", "ids", "delayMs", "status", "count",
    "stored", "online", "offline", "now", "pending", "peersTotal", "limits",
]  # fmt: skip
AGORA_ALONE = {"authenticate", "ack", "nack", "watch"}


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
nonces = st.binary(min_size=32, max_size=32).map(bytes.hex)
words = st.sampled_from(["all", "none", "*", *ReceiptStatus]) | peer_ids | nonces
leaves = st.none() | st.booleans() | st.integers() | st.floats() | texts | words
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
frames = st.dictionaries(st.sampled_from(MEMBERS), values, max_size=8).flatmap(
    lambda members: st.sampled_from(TYPES).map(lambda kind: json_text({"type": kind} | members))
)
anything = st.binary() | st.text(st.characters()) | values.map(json_text) | frames
envelopes = st.dictionaries(texts, values, min_size=1, max_size=4).map(
    lambda members: parse_json(json_text(members))
)
listed = st.builds(ListedPeer, peer_ids, st.none() | texts.filter(bool))
watches = st.just(WATCH_ALL) | st.builds(Watched, st.just(False), st.frozensets(peer_ids))
ids = st.lists(texts.filter(bool), min_size=1, max_size=4, unique=True)
counts = st.integers(0, 2**53)
limits = st.builds(
    AnnouncedLimits,
    max_frame_bytes=st.none() | counts,
    window=st.none() | counts,
    messages_per_second=st.none() | st.floats(0, 1e6),
    retention_seconds=st.none() | st.floats(0, 1e9),
)


@given(anything)
@example('{"type":' + "[" * 515 + "]" * 515 + "}")
@example('{"type":"error","message":"no","retryAfterMs":1e400}')
@example('{"type":"error","message":"no","retryAfterMs":' + "9" * 309 + "}")
@example('{"type":"nack","ids":["a"],"delayMs":' + "9" * 309 + "}")
def test_whatever_a_client_sends_is_a_request_or_a_frame_error(data: str | bytes) -> None:
    assert isinstance(read(decode_request, data), (*get_args(Request), FrameError))


@given(frames)
def test_nothing_of_agora_is_read_in_the_reference_dialect(text: str) -> None:
    request = read(lambda data: decode_request(data, protocol=0), text)

    assert not isinstance(request, Authenticate | Ack | Nack | Watch)
    if isinstance(request, Submit):
        assert request == Submit(request.to[:1], request.envelope)
    if isinstance(request, FrameError):
        assert request.frame_type not in AGORA_ALONE


@given(frames)
def test_what_the_reference_dialect_reads_agora_reads_alike_or_more_strictly(text: str) -> None:
    plain = read(lambda data: decode_request(data, protocol=0), text)
    full = read(decode_request, text)

    if not isinstance(plain, UnknownRequest | FrameError | Submit):
        assert repr(full) == repr(plain)


@given(anything)
@example('{"type":' + "[" * 515 + "]" * 515 + "}")
@example('{"type":"error","message":"no","retryAfterMs":1e400}')
@example('{"type":"error","message":"no","retryAfterMs":' + "9" * 309 + "}")
@example('{"type":"registered","protocol":1,"pending":1e400,"peersTotal":1e308}')
def test_whatever_a_relay_sends_is_an_answer_or_a_frame_error(data: str | bytes) -> None:
    assert isinstance(read(decode_answer, data), (*get_args(Answer), FrameError))


@given(frames)
def test_bytes_and_text_are_read_alike(text: str) -> None:
    assert repr(read(decode_request, text.encode())) == repr(read(decode_request, text))


@given(peer_ids, st.none() | texts)
def test_a_registration_is_read_as_it_was_written(key: PeerId, name: str | None) -> None:
    assert decode_request(encode_register(key, name)) == Register(key, name)


@given(peer_ids, st.none() | texts, nonces, watches, st.booleans())
def test_a_registration_with_proof_is_read_as_it_was_written(
    key: PeerId, name: str | None, nonce: str, watched: Watched, receives: bool
) -> None:
    text = encode_register(key, name, nonce=nonce, watched=watched, receives=receives)

    assert decode_request(text) == Register(key, name, nonce, watched, receives)


@given(nonces, peer_ids, texts, texts)
def test_a_challenge_and_its_answer_are_read_as_they_were_written(
    nonce: str, relay: PeerId, signature: str, audience: str
) -> None:
    asked, proof = encode_challenge(nonce, relay, signature), (signature, audience)

    assert decode_answer(asked) == Challenge(nonce, relay, signature)
    assert decode_request(encode_authenticate(*proof)) == Authenticate(*proof)


@given(texts.filter(bool), envelopes, st.booleans(), st.none() | texts)
def test_a_message_is_read_as_it_was_written(
    to: str, envelope: Json, confirm: bool, after: str | None
) -> None:
    text = encode_submit(to, json_text(envelope), confirm=confirm, after=after)

    assert decode_request(text) == Submit((to,), Sealed(envelope), confirm=confirm, after=after)


@given(ids, st.integers(0, MAX_NACK_DELAY_MS))
def test_acks_and_nacks_are_read_as_they_were_written(ids: list[str], delay_ms: int) -> None:
    assert decode_request(encode_ack(ids)) == Ack(tuple(ids))
    assert decode_request(encode_nack(ids, delay_ms / 1000)) == Nack(tuple(ids), delay_ms / 1000)


@given(watches)
def test_a_watch_is_read_as_it_was_written(watched: Watched) -> None:
    assert decode_request(encode_watch(watched)) == Watch(watched)


@given(envelopes)
def test_a_broadcast_is_read_as_it_was_written(envelope: Json) -> None:
    assert decode_request(encode_broadcast(json_text(envelope))) == Broadcast(Sealed(envelope))


@given(peer_ids, texts, st.lists(listed, max_size=3), st.none() | peer_ids)
def test_a_welcome_is_read_as_it_was_written(
    key: PeerId, session: str, peers: list[ListedPeer], relay: PeerId | None
) -> None:
    text = encode_registered(key, SessionId(session), peers, relay)

    assert decode_answer(text) == Registered(tuple(peers), session, relay)


@given(st.lists(st.builds(ListedPeer, peer_ids, st.none(), st.booleans())), counts, counts, limits)
def test_a_welcome_of_agora_is_read_as_it_was_written(
    peers: list[ListedPeer], now_ms: int, pending: int, limits: AnnouncedLimits
) -> None:
    total = len(peers) + pending
    more = agora_members(now_ms=now_ms, pending=pending, peers_total=total, limits=limits)
    text = encode_registered(keys_of("alice").peer_id, SessionId("s"), peers, None, more)

    assert decode_answer(text) == Registered(
        tuple(peers),
        "s",
        protocol=1,
        now_ms=now_ms,
        pending=pending,
        peers_total=total,
        limits=limits,
    )


@given(
    peer_ids,
    envelopes,
    st.none() | texts.filter(bool),
    st.booleans(),
    st.booleans(),
    st.none() | st.from_regex(r"00-[1-9][0-9a-f]{31}-[1-9][0-9a-f]{15}-0[01]", fullmatch=True),
)
def test_a_delivery_is_read_as_it_was_written(
    sender: PeerId,
    envelope: Json,
    name: str | None,
    is_stored: bool,
    confirm: bool,
    traceparent: str | None,
) -> None:
    flags: dict[str, Any] = {
        "is_stored": is_stored,
        "confirm": confirm,
        "traceparent": traceparent,
    }
    text = encode_delivery(sender, json_text(envelope), name, **flags)

    assert decode_answer(text) == Delivery(sender, Sealed(envelope), name, **flags)


@given(texts, texts, st.sampled_from(ReceiptStatus), st.none() | counts)
def test_a_receipt_is_read_as_it_was_written(
    envelope_id: str, to: str, status: ReceiptStatus, count: int | None
) -> None:
    text = encode_receipt(envelope_id, to, status, count)

    assert decode_answer(text) == ReceiptAnswer(envelope_id, to, status, count)


@given(st.lists(listed), st.lists(peer_ids))
def test_changes_of_presence_are_read_as_they_were_written(
    online: list[ListedPeer], offline: list[PeerId]
) -> None:
    text = encode_presence_changes(online, offline)

    assert decode_answer(text) == PresenceAnswer(tuple(online), tuple(offline))


@given(listed)
def test_presence_is_read_as_it_was_written(peer: ListedPeer) -> None:
    assert decode_answer(encode_presence(peer, is_online=True)) == PeerOnline(peer)
    assert decode_answer(encode_presence(peer, is_online=False)) == PeerOffline(peer)


@given(st.sampled_from(ErrorCode), texts, st.none() | texts, st.none() | texts, st.none() | counts)
def test_an_error_is_read_as_it_was_written(
    code: ErrorCode, message: str, envelope_id: str | None, to: str | None, now_ms: int | None
) -> None:
    text = encode_error(code, message, envelope_id=envelope_id, to=to, now_ms=now_ms)

    assert decode_answer(text) == ErrorAnswer(message, code, envelope_id, to, now_ms=now_ms)


@given(st.floats(min_value=1e-9, max_value=86_400))
def test_a_time_to_wait_is_never_told_too_short(seconds: float) -> None:
    answer = decode_answer(encode_error("rate_limited", "no", retry_after=seconds))

    assert isinstance(answer, ErrorAnswer)
    assert answer.retry_after is not None
    assert seconds <= answer.retry_after + 1e-9 <= seconds + 0.0011
