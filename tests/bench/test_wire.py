"""The generator's own RFC 6455, against the library that everyone else here uses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from agora.bench.wire import (
    CLOSE,
    PING,
    TEXT,
    FrameReader,
    WireError,
    accept_of,
    client_frame,
    handshake_request,
    is_accepted,
)

MASK = bytes.fromhex("37fa213d")
KEY = b"the sample nonce"


def read_by_the_library(data: bytes) -> Frame:
    """Return the frame that *data* is, as a server of websockets reads it."""
    reader = StreamReader()
    reader.feed_data(data)
    parsing = Frame.parse(reader.read_exact, mask=True)
    with pytest.raises(StopIteration) as ended:
        next(parsing)
    frame: Frame = ended.value.value
    return frame


@pytest.mark.parametrize(
    ("opcode", "size"),
    [*((TEXT, size) for size in (0, 1, 5, 125, 126, 65_535, 65_536, 70_001)), (PING, 125)],
)
def test_a_frame_is_read_by_a_server_as_it_was_meant(opcode: int, size: int) -> None:
    payload = bytes(number % 251 for number in range(size))

    read = read_by_the_library(client_frame(payload, MASK, opcode))

    assert (read.opcode, read.data, read.fin) == (opcode, payload, True)


@given(
    payloads=st.lists(st.binary(max_size=200) | st.integers(0, 70_000).map(bytes), max_size=5),
    cuts=st.lists(st.integers(0, 300), max_size=20),
)
def test_frames_are_the_same_in_whatever_pieces_they_come(
    payloads: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(Frame(Opcode.TEXT, payload).serialize(mask=False) for payload in payloads)
    reader = FrameReader()

    read = []
    for cut in cuts:
        read += reader.feed(data[:cut])
        data = data[cut:]
    read += reader.feed(data)

    assert read == [(TEXT, payload) for payload in payloads]


def test_every_kind_of_frame_is_told_apart() -> None:
    data = Frame(Opcode.PING, b"?").serialize(mask=False)
    data += Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=False)

    assert FrameReader().feed(data) == [(PING, b"?"), (CLOSE, b"\x03\xe8")]


@pytest.mark.parametrize(
    "data",
    [
        Frame(Opcode.TEXT, b"half", fin=False).serialize(mask=False),
        b"\xc1\x01x",
        Frame(Opcode.TEXT, b"a masked one, long enough for two more bytes" * 3).serialize(
            mask=True
        ),
    ],
    ids=["a fragment", "a reserved bit", "a masked frame"],
)
def test_what_no_relay_sends_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        FrameReader().feed(data)


def test_the_answer_to_a_handshake_is_that_of_the_rfc() -> None:
    sample = bytes.fromhex("74686520 73616d70 6c65206e 6f6e6365".replace(" ", ""))

    assert accept_of(sample) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    ("status", "accept", "is_one"),
    [
        ("HTTP/1.1 101 Switching Protocols", accept_of(KEY), True),
        ("HTTP/1.1 101 Switching Protocols", accept_of(b"x" * 16), False),
        ("HTTP/1.1 503 Service Unavailable", accept_of(KEY), False),
    ],
)
def test_only_an_answer_to_this_very_handshake_opens_it(
    status: str, accept: str, is_one: bool
) -> None:
    head = f"{status}\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}".encode()

    assert is_accepted(head, KEY) is is_one


def test_a_handshake_names_host_path_and_key() -> None:
    request = handshake_request("relay:9470", "/agora", KEY).decode()

    assert request.startswith("GET /agora HTTP/1.1\r\nHost: relay:9470\r\n")
    assert "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" in request
    assert request.endswith("\r\n\r\n")
