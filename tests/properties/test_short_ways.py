"""The short ways give what the long ways give, or nothing: each is held against its oracle."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agora.canonical import MAX_DEPTH, canonical_text, json_text, parse_json
from agora.envelope import Envelope, open_envelope, seal
from agora.errors import EnvelopeError, FrameError
from agora.frames import PROTOCOL, Broadcast, Request, Submit, decode_request, encode_submit
from agora.frames.requests import decode_in_full
from agora.keys import KeyPair
from agora.plain_json import NotPlainError, plain_decoder, plain_text
from agora.sealed import PlainSealed, Sealed

T = TypeVar("T")
PLACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ALICE, BOB = (KeyPair.from_seed(bytes([number]) * 32) for number in (1, 2))

strings = st.text(st.characters(), max_size=12)
numbers = (
    st.integers()
    | st.integers(-(2**54), 2**54)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(-1e6, 1e6)
    | st.decimals(-10_000, 10_000, places=3).map(float)
)
leaves = st.none() | st.booleans() | numbers | strings
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(strings, inner, max_size=5),
    max_leaves=15,
)
spaces = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:")])
texts = st.builds(
    lambda value, separators, is_ascii: json.dumps(
        value, separators=separators, ensure_ascii=is_ascii
    ),
    values,
    spaces,
    st.booleans(),
)
literals = st.from_regex(r"-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)


# Canonical JSON


def plain(text: str) -> str | None:
    try:
        return plain_text(plain_decoder(object).decode(text))
    except (msgspec.MsgspecError, NotPlainError, UnicodeError):
        return None


@given(texts | literals | literals.map("[{}]".format))
@example('{"\\ue000": 1, "\\ud83d\\ude00": 2}')
@example('{"b": 1, "a": 2, "b": 3}')
@example("-0")
@example("1.0")
@example("9007199254740993")
@example("0.00009")
def test_what_is_written_the_short_way_is_canonical(text: str) -> None:
    written = plain(text)

    assert written is None or written == canonical_text(parse_json(text))


@pytest.mark.parametrize(
    "text",
    [
        '{"b":[1,2.5,-3],"a":{"é":null,"😀":"\\u0001\\n"}}',
        "21.0",
        "-0.0",
        "1e5",
        "0.1",
        "999999999999999",
    ],
)
def test_ordinary_values_go_the_short_way(text: str) -> None:
    assert plain(text) == canonical_text(parse_json(text))


def test_every_character_is_written_as_canonical_json_has_it() -> None:
    characters = map(chr, [*range(0xD800), *range(0xE000, 0x110000)])

    for character in characters:
        assert plain_text(character) == canonical_text(character)


def test_half_of_a_surrogate_pair_is_left_to_the_long_way() -> None:
    assert plain_text(["\ud800"]) is None


# Frames


def outcome(read: Callable[[], T]) -> T | tuple[str, ...]:
    """Return what was read, or all that its refusal says."""
    try:
        return read()
    except FrameError as error:
        return (str(error), *map(str, (error.code, error.frame_type, error.envelope_id, error.to)))


def sealed_of(request: Request | tuple[str, ...]) -> Sealed | None:
    return request.envelope if isinstance(request, Submit | Broadcast) else None


def opened(sealed: Sealed) -> tuple[Any, ...]:
    try:
        envelope = open_envelope(sealed)
    except EnvelopeError as error:
        return (error.reason,)
    return tuple(getattr(envelope, name) for name in ATTRIBUTES)


ATTRIBUTES = [
    "id",
    "type",
    "sender",
    "to",
    "timestamp_ms",
    "in_reply_to",
    "payload",
    "signature",
    "canonical",
]


def assert_both_ways_agree(text: str, protocol: int = PROTOCOL) -> None:
    short = outcome(lambda: decode_request(text, protocol=protocol))
    full = outcome(lambda: decode_in_full(text, protocol=protocol))

    assert short == full
    mine, other = sealed_of(short), sealed_of(full)
    if mine and other:
        assert mine.claimed_id == other.claimed_id
        assert mine.claimed_sender == other.claimed_sender
        assert mine.claimed_to == other.claimed_to
        assert mine.claimed_timestamp == other.claimed_timestamp
        assert mine.is_legacy == other.is_legacy
        assert opened(mine) == opened(other)


letters = st.builds(
    seal,
    st.just(ALICE),
    type=strings,
    payload=values,
    to=st.lists(st.sampled_from([BOB.peer_id, ALICE.peer_id, "*"]), min_size=1),
    timestamp_ms=st.integers(-(2**54), 2**54) | st.floats(-1e15, 1e15),
    in_reply_to=st.none() | strings,
)
changes = st.dictionaries(
    st.sampled_from(
        [*["id", "type", "from", "to", "timestamp", "inReplyTo", "payload", "signature", "extra"]]
    ),
    values | st.sampled_from([BOB.peer_id, [BOB.peer_id], ["*"], [], "0" * 64, "0" * 128]),
    max_size=2,
)


places = st.from_regex(
    r"(00|ff|cc)-[0a-f]{32}-[0a-f]{16}-[0-9a-f]{2}(-[0-9a-f]{2})?", fullmatch=True
)


@given(letters, changes, st.data())
def test_a_frame_says_the_same_both_ways(
    letter: Envelope, changes: dict[str, Any], data: st.DataObject
) -> None:
    members = data.draw(st.permutations(list((letter.to_dict() | changes).items())))
    frame = {
        "type": data.draw(st.sampled_from(["message", "broadcast"])),
        "to": data.draw(st.sampled_from([BOB.peer_id, [BOB.peer_id, "x"], [], ["x", "x"], 7])),
        "envelope": dict(members),
    }
    more = {"confirm": values, "after": values | strings, "extra": values}
    more |= {"traceparent": values | places}
    frame |= data.draw(st.fixed_dictionaries({}, optional=more))

    protocol = data.draw(st.sampled_from([0, PROTOCOL]))
    assert_both_ways_agree(json_text(frame), protocol)
    assert_both_ways_agree(json.dumps(frame, ensure_ascii=False), protocol)


ids = st.lists(strings | st.sampled_from(["0" * 64, "1" * 64]), max_size=4)


@given(
    st.sampled_from(["ack", "nack", "ping"]),
    st.fixed_dictionaries({}, optional={"ids": ids | values}),
)
def test_a_small_frame_says_the_same_both_ways(frame_type: str, members: dict[str, Any]) -> None:
    for protocol in (0, PROTOCOL):
        assert_both_ways_agree(json.dumps({"type": frame_type, **members}), protocol)


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"ping","type":"ack"}',
        '{"type":"ping"} ',
        '{"type":"ping"}x',
        '\ufeff{"type":"ping"}',
        '{"type":"ping","x":' + "[" * 600 + "]" * 600 + "}",
        '{"type":"ping","x":NaN}',
        '{"type":"message","to":"x","envelope":null}',
    ],
)
def test_an_odd_frame_says_the_same_both_ways(text: str) -> None:
    for protocol in (0, PROTOCOL):
        assert_both_ways_agree(text, protocol)


@pytest.mark.parametrize(
    "depth", [1, MAX_DEPTH - 3, MAX_DEPTH - 2, MAX_DEPTH - 1, MAX_DEPTH, 2_000]
)
def test_a_deep_payload_is_taken_or_refused_alike(depth: int) -> None:
    letter = seal(ALICE, type="publish", payload=None, to=BOB.peer_id, timestamp_ms=1)
    text = f'{{"type":"message","to":"{BOB.peer_id}","envelope":{letter.to_json()}}}'

    assert_both_ways_agree(text.replace('"payload":null', f'"payload":{"[" * depth}{"]" * depth}'))


@pytest.mark.parametrize("depth", [MAX_DEPTH - 2, MAX_DEPTH - 1, MAX_DEPTH + 10])
def test_an_envelope_that_is_short_but_for_its_depth_is_refused_alike(depth: int) -> None:
    envelope = (
        f'{{"id":"","type":"","to":["*"],"timestamp":0,"payload":{"[" * depth}{"]" * depth},'
        f'"signature":"","from":"{ALICE.peer_id}"}}'
    )

    assert_both_ways_agree(f'{{"type":"broadcast","envelope":{envelope}}}')


def test_an_ordinary_message_goes_the_short_way() -> None:
    payload = {"text": "héllo 😀", "scores": [1, 0.25, 3.0], "ok": True}
    letter = seal(ALICE, type="publish", payload=payload, to=BOB.peer_id, timestamp_ms=1)
    frame = f'{{"type":"message","to":"{BOB.peer_id}","envelope":{letter.to_json()}}}'

    for protocol in (0, PROTOCOL):
        assert isinstance(sealed_of(decode_request(frame, protocol=protocol)), PlainSealed)


def test_a_traced_message_goes_the_short_way() -> None:
    letter = seal(ALICE, type="publish", payload=None, to=BOB.peer_id, timestamp_ms=1)
    request = decode_request(encode_submit(BOB.peer_id, letter.to_json(), traceparent=PLACE))

    assert isinstance(request, Submit)
    assert isinstance(request.envelope, PlainSealed)
    assert request.traceparent == PLACE
