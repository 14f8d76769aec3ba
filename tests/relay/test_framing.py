"""The ordinary frame, read by a few lines: the same comes of any bytes as of the core alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from agora.codes import CloseCode
from agora.relay.framing import Framing, ping_frame, text_frame
from agora.relay.upgrade import answer_upgrade
from agora.relay.websocket import Event, Sign, WebSocket, Write
from tests.wire import HANDSHAKE, frame

MOST = 300
"""Largest message taken here: small, so that what is too large is soon made."""

# Streams

SIZES = st.sampled_from([0, 1, 2, 5, 124, 125, 126, 127, MOST - 1, MOST, MOST + 1, 70_000])
PAYLOADS = st.one_of(
    st.text(max_size=20).map(str.encode),
    st.binary(max_size=20),
    SIZES.map(lambda size: b"x" * size),
)


def header(first: int, second: int, more: bytes) -> bytes:
    """Return the beginning of a frame as nobody should write it."""
    return bytes((first, second)) + more


def sloppy(payload: bytes) -> bytes:
    """Return a frame whose length takes more bytes than it has to."""
    return b"\x81\xfe" + len(payload).to_bytes(2) + bytes(4) + payload


FRAMES = st.one_of(
    PAYLOADS.map(lambda payload: frame(Opcode.TEXT, payload)),
    st.text(max_size=40).map(lambda text: frame(Opcode.TEXT, text.encode())),
    st.builds(
        lambda opcode, payload, fin: Frame(opcode, payload, fin=fin),
        st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT]),
        PAYLOADS,
        st.booleans(),
    ).map(lambda made: frame(made.opcode, bytes(made.data), fin=made.fin)),
    st.builds(frame, st.sampled_from([Opcode.PING, Opcode.PONG]), st.binary(max_size=125)),
    st.sampled_from(
        [
            frame(Opcode.CLOSE),
            frame(Opcode.CLOSE, b"\x03\xe8bye"),
            frame(Opcode.CLOSE, b"x"),
            frame(Opcode.TEXT, b"fragments", fin=False) + frame(Opcode.CONT, b" of one"),
            b"\x89\xfe\x00\x7e" + bytes(4 + 126),  # a control frame over 125 bytes
            b"\x81\xff" + (5).to_bytes(8) + bytes(4) + b"hello",
            sloppy(b"hello"),
            sloppy(b""),
            Frame(Opcode.TEXT, b"no mask").serialize(mask=False),
            Frame(Opcode.PING, b"no mask").serialize(mask=False),
        ]
    ),
    st.builds(header, st.integers(0, 255), st.integers(0, 255), st.binary(max_size=12)),
    st.builds(header, st.sampled_from([0x81, 0x8A]), st.integers(0, 255), st.binary(max_size=12)),
    st.binary(max_size=8),
)
STREAMS = st.lists(FRAMES, max_size=12).map(b"".join)


@st.composite
def pieces_of(draw: st.DrawFn, streams: st.SearchStrategy[bytes]) -> list[bytes]:
    """Draw a stream, cut into pieces anywhere."""
    stream = draw(streams)
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    return [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


def bytewise(pieces: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the same bytes one by one: so the core answers each frame before it sees the next."""
    for byte in b"".join(pieces):
        yield bytes([byte])


def events_of(receiver: Framing | WebSocket, pieces: Sequence[bytes]) -> list[Event]:
    """Return what comes of a stream; what is written is joined, and tells no time of day."""
    cut = bytewise(pieces) if isinstance(receiver, WebSocket) else pieces
    events = [event for piece in cut for event in receiver.receive(piece)]
    return joined([*events, *receiver.receive_eof()])


def joined(events: Sequence[Event]) -> list[Event]:
    result: list[Event] = []
    for event in events:
        if isinstance(event, Write) and result and isinstance(result[-1], Write):
            event = Write(result.pop().data + event.data)  # type: ignore[union-attr]
        result.append(event)
    return [Write(undated(one.data)) if isinstance(one, Write) else one for one in result]


def undated(answer: bytes) -> bytes:
    """Leave the Date header out: an answer to an upgrade may have none (RFC 9110 section 6.6.1)."""
    return re.sub(rb"Date: [^\r]*\r\n", b"", answer)


# What comes in


@given(pieces_of(STREAMS))
@example([frame(Opcode.TEXT, b"x" * MOST)])
@example([frame(Opcode.TEXT, b"x" * (MOST + 1))[:4]])
@example([b"\x81\xff" + (5).to_bytes(8) + bytes(4) + b"he", b"llo"])
@example([frame(Opcode.TEXT, b"\xff") + frame(Opcode.TEXT, b"late")])
@example([frame(Opcode.TEXT, b"x" * 200, fin=False), frame(Opcode.CONT, b"x" * 101)[:4]])
def test_any_stream_cut_anywhere_gives_what_the_core_alone_gives(pieces: list[bytes]) -> None:
    expected = events_of(WebSocket(MOST), [HANDSHAKE, *pieces])

    assert events_of(Framing(MOST), [HANDSHAKE, *pieces]) == expected


@given(pieces_of(STREAMS.map(lambda frames: HANDSHAKE + frames)))
def test_a_handshake_may_be_cut_too_and_frames_come_behind_it(pieces: list[bytes]) -> None:
    assert events_of(Framing(MOST), pieces) == events_of(WebSocket(MOST), pieces)


@given(pieces_of(STREAMS), st.integers(1, 6))
def test_a_close_from_our_side_between_two_messages_is_the_end_as_with_the_core(
    pieces: list[bytes], count: int
) -> None:
    def close_after(receiver: Framing | WebSocket) -> list[Event]:
        pieces_in = bytewise(pieces) if isinstance(receiver, WebSocket) else pieces
        events = list(receiver.receive(HANDSHAKE))
        for piece in pieces_in:
            for event in receiver.receive(piece):
                events.append(event)
                if sum(isinstance(one, str) for one in events) == count:
                    events += receiver.close(CloseCode.GOING_AWAY)
                    return events  # nothing that follows counts
        return events

    assert joined(close_after(Framing(MOST))) == joined(close_after(WebSocket(MOST)))


def test_nothing_is_a_message_behind_a_close_from_our_side_that_the_client_answers() -> None:
    framing = Framing(MOST)
    messages = frame(Opcode.TEXT, b"one") + frame(Opcode.CLOSE) + frame(Opcode.TEXT, b"two")
    heard = list(framing.receive(HANDSHAKE))

    heard += framing.close(CloseCode.GOING_AWAY)
    heard += framing.receive(messages)

    assert [event for event in heard if isinstance(event, str)] == ["one"]
    assert [event for event in heard if isinstance(event, Sign)] == [
        Sign.OPENED,
        Sign.ENDED,
        Sign.NO_MORE,
    ]


# Handshakes

NAMES = st.sampled_from(
    [
        b"Host",
        b"X",
        b"Origin",
        b"Content-Length",
        b"Transfer-Encoding",
        b"Sec-WebSocket-Protocol",
        b"Sec-WebSocket-Extensions",
        b"Upgrade",
        b"Connection",
        b"Sec-WebSocket-Key",
        b"Sec-WebSocket-Version",
        b"",
        b"b@d",
    ]
)
VALUES = st.sampled_from(
    [
        b" relay",
        b"",
        b" 0",
        b"3",
        b" websocket",
        b"WebSocket ",
        b" upgrade",
        b"keep-alive, Upgrade\t",
        b" close",
        b" 13",
        b"8",
        b" dGhlIHNhbXBsZSBub25jZQ==",
        b" AAAAAAAAAAAAAAAAAAAAAB==",
        b"!",
        b" a, b",
        b" permessage-deflate",
        b" \xff",
        b" \x00",
        b" x\ny: z",
        b" x\ry",
    ]
)
GOOD = [line + b"\r\n" for line in HANDSHAKE.split(b"\r\n")[1:6]]
LINES = st.one_of(
    st.builds(lambda name, value: name + b":" + value + b"\r\n", NAMES, VALUES),
    st.binary(max_size=6),
)


def altered(line: bytes) -> st.SearchStrategy[bytes]:
    """Draw a header line of the handshake: mostly as it should be, else with another value."""
    name = line.partition(b":")[0]
    others = VALUES.map(lambda value: name + b":" + value + b"\r\n")
    return st.one_of(*[st.just(line)] * 6, others, st.just(b""))


REQUEST_LINES = st.sampled_from(
    [
        *[b"GET / HTTP/1.1\r\n"] * 4,
        b"GET /a?b=c HTTP/1.1\r\n",
        b"GET  HTTP/1.1\r\n",
        b"GET /a b HTTP/1.1\r\n",
        b"GET /\xff HTTP/1.1\r\n",
        b"GET / HTTP/1.0\r\n",
        b"POST / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\n",
    ]
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Draw a handshake: a good one, with little that is more, less or else in it."""
    lines = [draw(altered(line)) for line in draw(st.permutations(GOOD))]
    for line in draw(st.one_of(st.just([]), st.lists(LINES, max_size=2))):
        lines.insert(draw(st.integers(0, len(lines))), line)
    return draw(REQUEST_LINES) + b"".join(lines) + b"\r\n"


@given(requests())
@example(HANDSHAKE.replace(b" / ", b" /a b "))
@example(HANDSHAKE.replace(b"13", b"8"))
@example(HANDSHAKE.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n"))
@example(HANDSHAKE.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: a, b\r\n\r\n"))
@example(HANDSHAKE.replace(b"\r\n\r\n", b"\r\nUpgrade: websocket\r\n\r\n"))
@example(HANDSHAKE.replace(b"dGhl", b"!!!!"))
def test_any_request_is_answered_as_by_the_core_alone(request_bytes: bytes) -> None:
    pieces = [request_bytes, frame(Opcode.TEXT, b"first")]

    assert events_of(Framing(MOST), pieces) == events_of(WebSocket(MOST), pieces)


@pytest.mark.parametrize(
    "request_bytes",
    [
        HANDSHAKE,
        HANDSHAKE.replace(b"Connection: Upgrade", b"Connection: keep-alive, Upgrade"),
        HANDSHAKE.replace(b"\r\n\r\n", b"\r\nOrigin: https://a\r\nUser-Agent: b\r\n\r\n"),
    ],
)
def test_an_ordinary_request_needs_no_core(request_bytes: bytes) -> None:
    answered = answer_upgrade(request_bytes + b"more")

    assert answered is not None
    assert answered[1] == len(request_bytes)


@pytest.mark.parametrize("count", [65, 127, 128, 1_000])
def test_many_headers_are_counted_by_the_core(count: int) -> None:
    more = b"".join(b"X%d: y\r\n" % number for number in range(count))
    pieces = [HANDSHAKE[:-2] + more + b"\r\n"]

    assert answer_upgrade(pieces[0]) is None
    assert events_of(Framing(MOST), pieces) == events_of(WebSocket(MOST), pieces)


# What goes out


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 100_000])
def test_a_text_message_is_written_as_the_library_writes_it(size: int) -> None:
    text = "ü" * (size // 2) + "x" * (size % 2)

    assert text_frame(text) == Frame(Opcode.TEXT, text.encode()).serialize(mask=False)


@pytest.mark.parametrize("payload", [b"", b"12", b"x" * 125])
def test_a_ping_is_written_as_the_library_writes_it(payload: bytes) -> None:
    assert ping_frame(payload) == Frame(Opcode.PING, payload).serialize(mask=False)
