"""The relay below the frames: HTTP, handshakes, RFC 6455 kept and broken, every way to end."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
from collections.abc import Callable

import pytest
from websockets.frames import Frame, Opcode

from agora.keys import KeyPair
from agora.relay import Relay, RelayConfig
from tests.support import DEADLINE, eventually, letter, next_frame, raw_peer, socket_to
from tests.wire import HANDSHAKE, Wire, frame, opened_wire, wire_to

PING_FRAME = frame(Opcode.TEXT, b'{"type":"ping"}')


async def assert_is_answered(wire: Wire) -> None:
    """Check that the connection still works."""
    wire.write(PING_FRAME)
    assert json.loads((await wire.read()).data) == {"type": "pong"}


# Handshakes


@pytest.mark.parametrize("path", ["/", "/ws", "/any/path?with=query", "/%00"])
async def test_any_path_will_do(relay: Relay, path: str) -> None:
    async with socket_to(relay.url + path) as client:
        await client.send('{"type":"ping"}')

        assert await next_frame(client) == {"type": "pong"}


async def test_the_first_subprotocol_offered_is_agreed_to(relay: Relay) -> None:
    async with socket_to(relay.url, subprotocols=["agora", "other"]) as client:
        assert client.subprotocol == "agora"
    async with socket_to(relay.url) as client:
        assert client.subprotocol is None


async def test_no_compression_is_agreed_to(relay: Relay) -> None:
    async with socket_to(relay.url, compression="deflate") as client:
        assert client.protocol.extensions == []


async def test_a_plain_http_request_is_told_to_upgrade(relay: Relay) -> None:
    async with wire_to(relay.url) as wire:
        wire.write(b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n")
        answer = await wire.read_to_end()

    assert answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
    assert b"Traceback" not in answer


NOT_A_HANDSHAKE = [
    b"\r\n\r\n",
    b"\x00" * 100,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),  # a TLS hello
    b"POST / HTTP/1.1\r\nHost: relay\r\nContent-Length: 3\r\n\r\nabc",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1_000 + b"\r\n",
    b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
    HANDSHAKE.replace(b"13", b"12"),
    HANDSHAKE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"!"),
    HANDSHAKE.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
    HANDSHAKE.replace(b"GET", b"PUT"),
    random.Random(1).randbytes(10_000),
]


@pytest.mark.parametrize("request_bytes", NOT_A_HANDSHAKE)
async def test_what_is_no_handshake_ends_the_connection(relay: Relay, request_bytes: bytes) -> None:
    async with wire_to(relay.url) as wire:
        wire.write(request_bytes)
        wire.writer.write_eof()

        answer = await wire.read_to_end()
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4") or answer.startswith(b"HTTP/1.1 5")
    async with raw_peer(relay.url):
        pass  # others are served


@pytest.mark.parametrize("begun", [b"", HANDSHAKE[:40], HANDSHAKE[:-2]])
async def test_half_a_handshake_is_dropped_at_its_deadline(begun: bytes) -> None:
    async with Relay(port=0, register_timeout=0.1) as relay, wire_to(relay.url) as wire:
        wire.write(begun)

        assert await wire.read_to_end() == b""


async def test_a_handshake_that_trickles_in_hits_the_deadline_all_the_same() -> None:
    async with (
        Relay(port=0, register_timeout=0.2) as relay,
        wire_to(relay.url) as wire,
        asyncio.TaskGroup() as group,
    ):
        trickle = group.create_task(_trickle(wire, HANDSHAKE * 100))
        assert await wire.read_to_end() == b""
        trickle.cancel()


async def _trickle(wire: Wire, data: bytes) -> None:
    for byte in data:
        wire.write(bytes([byte]))
        await asyncio.sleep(0.01)  # that slow it is


async def test_frames_behind_the_handshake_in_one_packet_are_answered_behind_it(
    relay: Relay,
) -> None:
    async with wire_to(relay.url) as wire:
        await wire.shake_hands(HANDSHAKE + frame(Opcode.PING, b"early") + PING_FRAME)

        assert (await wire.read()).data == b"early"
        assert json.loads((await wire.read()).data) == {"type": "pong"}


@pytest.mark.parametrize(
    ("data", "code"), [(frame(Opcode.CLOSE, struct.pack("!H", 1000)), 1000), (bytes(8), 1002)]
)
async def test_an_end_behind_the_handshake_in_one_packet_comes_after_it(
    relay: Relay, data: bytes, code: int
) -> None:
    async with wire_to(relay.url) as wire:
        await wire.shake_hands(HANDSHAKE + data)

        assert await wire.read_close() == code


# Frames


async def test_frames_may_come_one_byte_at_a_time(relay: Relay) -> None:
    async with opened_wire(relay.url) as wire:
        raw = wire.writer.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in frame(Opcode.PING, b"slow") + PING_FRAME:
            wire.write(bytes([byte]))
            await asyncio.sleep(0)

        assert (await wire.read()).data == b"slow"
        assert json.loads((await wire.read()).data) == {"type": "pong"}


async def test_a_websocket_ping_is_answered_with_its_payload(relay: Relay) -> None:
    async with opened_wire(relay.url) as wire:
        wire.write(frame(Opcode.PING, b"x" * 125))
        answer = await wire.read()

    assert (answer.opcode, answer.data) == (Opcode.PONG, b"x" * 125)


async def test_control_frames_may_come_between_fragments(relay: Relay) -> None:
    async with opened_wire(relay.url) as wire:
        wire.write(
            frame(Opcode.TEXT, b'{"type":', fin=False),
            frame(Opcode.PING, b"between"),
            frame(Opcode.CONT, b'"ping"}'),
        )

        assert (await wire.read()).data == b"between"
        assert json.loads((await wire.read()).data) == {"type": "pong"}


@pytest.mark.parametrize("text", [b"\xff", b'{"type":"ping\xc3"}', b"\xed\xa0\x80"])
async def test_a_text_message_that_is_not_utf8_is_closed_with_1007(
    relay: Relay, text: bytes
) -> None:
    async with opened_wire(relay.url) as wire:
        wire.write(frame(Opcode.TEXT, text), PING_FRAME)

        answer = await wire.read()
        assert answer.close_code == 1007
        assert await wire.read_to_end() == b""


async def test_utf8_may_be_cut_between_fragments(relay: Relay) -> None:
    async with opened_wire(relay.url) as wire:
        text = '{"type":"ping","x":"ü"}'.encode()
        cut = text.index(b"\xbc")
        wire.write(frame(Opcode.TEXT, text[:cut], fin=False), frame(Opcode.CONT, text[cut:]))

        assert json.loads((await wire.read()).data) == {"type": "pong"}


async def test_a_binary_message_that_is_not_utf8_is_refused_as_json(relay: Relay) -> None:
    async with opened_wire(relay.url) as wire:
        wire.write(frame(Opcode.BINARY, b"\xff"))

        assert json.loads((await wire.read()).data)["code"] == "invalid_message"
        await assert_is_answered(wire)


AGAINST_RFC_6455 = {
    "unmasked": Frame(Opcode.TEXT, b'{"type":"ping"}').serialize(mask=False),
    "RSV1 without extension": bytes([0xC1]) + PING_FRAME[1:],
    "RSV2": bytes([0xA1]) + PING_FRAME[1:],
    "RSV3": bytes([0x91]) + PING_FRAME[1:],
    "reserved data opcode": bytes([0x83]) + PING_FRAME[1:],
    "reserved control opcode": bytes([0x8B]) + PING_FRAME[1:],
    "control frame over 125 bytes": b"\x89\xfe\x00\x7e" + bytes(4 + 126),
    "fragmented control frame": bytes([0x09]) + frame(Opcode.PING, b"x")[1:],
    "continuation of nothing": frame(Opcode.CONT, b"x"),
    "new message inside a message": frame(Opcode.TEXT, b"x", fin=False) + PING_FRAME,
    "close frame of one byte": frame(Opcode.CLOSE, b"x"),
    "close code 999": frame(Opcode.CLOSE, struct.pack("!H", 999)),
    "close code 1005": frame(Opcode.CLOSE, struct.pack("!H", 1005)),
    "length with its top bit set": b"\x81\xff\xff" + bytes(7) + bytes(4),
}


@pytest.mark.parametrize("data", AGAINST_RFC_6455.values(), ids=AGAINST_RFC_6455.keys())
async def test_what_rfc_6455_forbids_is_closed_with_1002(relay: Relay, data: bytes) -> None:
    async with opened_wire(relay.url) as wire:
        wire.write(data)

        assert await wire.read_close() in {1002, 1009}  # 1009: a length nobody could mean
        assert await wire.read_to_end() == b""
    async with raw_peer(relay.url):
        pass  # others are served


# Ends


@pytest.mark.parametrize(
    ("payload", "answer"),
    [
        (b"", b""),
        (struct.pack("!H", 1000), struct.pack("!H", 1000)),
        (struct.pack("!H", 1001) + b"bye", struct.pack("!H", 1001) + b"bye"),
        (struct.pack("!H", 4999), struct.pack("!H", 4999)),
    ],
)
async def test_a_close_is_answered_in_its_own_words(
    relay: Relay, payload: bytes, answer: bytes
) -> None:
    async with opened_wire(relay.url) as wire:
        wire.write(frame(Opcode.CLOSE, payload))

        assert (await wire.read()).data == answer
        assert await wire.read_to_end() == b""


async def test_nothing_said_after_a_close_counts(relay: Relay) -> None:
    async with raw_peer(relay.url) as alice, opened_wire(relay.url) as wire:
        wire.write(frame(Opcode.CLOSE))
        wire.register(KeyPair.generate())
        await wire.read_to_end()

        assert await alice.answers() == []


async def test_a_client_that_only_stops_talking_is_let_go(relay: Relay) -> None:
    async with raw_peer(relay.url) as alice, opened_wire(relay.url) as wire:
        wire.register(KeyPair.generate())
        assert (await alice.hear())["type"] == "peer_online"
        wire.writer.write_eof()  # half-closed: it would still read

        assert (await alice.hear())["type"] == "peer_offline"
        await wire.read_to_end()


async def test_a_client_that_vanishes_is_said_to_be_gone(relay: Relay) -> None:
    async with raw_peer(relay.url) as alice, opened_wire(relay.url) as wire:
        wire.register(KeyPair.generate())
        assert (await alice.hear())["type"] == "peer_online"
        wire.reset()

        assert (await alice.hear())["type"] == "peer_offline"


@pytest.mark.parametrize("leave", [Wire.abort, Wire.reset])
@pytest.mark.parametrize("goodbye", [frame(Opcode.CLOSE), bytes(8), b""])
async def test_a_client_that_does_not_wait_for_the_answer_to_its_goodbye_harms_nobody(
    relay: Relay, goodbye: bytes, leave: Callable[[Wire], None]
) -> None:
    for _ in range(20):
        async with opened_wire(relay.url) as wire:
            wire.register(KeyPair.generate())
            await wire.read()
            wire.write(goodbye)
            leave(wire)

    await eventually(lambda: relay.counts["left"] == 20)
    # That no fault was logged is checked behind every test, in conftest.py.


async def test_a_burst_to_a_client_that_has_just_vanished_is_no_news(
    relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened_wire(relay.url) as alice, opened_wire(relay.url) as wire:
        keys, vanishing = KeyPair.generate(), KeyPair.generate()
        wire.register(vanishing)
        await wire.read()
        alice.register(keys)
        await alice.read()
        letters = [letter(keys, vanishing.peer_id).to_dict() for _ in range(50)]
        submits = ({"type": "message", "to": vanishing.peer_id, "envelope": e} for e in letters)
        frames = [frame(Opcode.TEXT, json.dumps(submit).encode()) for submit in submits]

        alice.write(*frames, frame(Opcode.PING, b"the end"))  # all of it before the relay looks
        wire.reset()
        while (await alice.read()).data != b"the end":
            pass

        assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


async def test_a_reset_in_the_middle_of_a_frame_harms_nobody(relay: Relay) -> None:
    async with raw_peer(relay.url) as alice:
        for cut in (1, 5, len(PING_FRAME) - 1):
            async with opened_wire(relay.url) as wire:
                wire.register(KeyPair.generate())
                assert (await alice.hear())["type"] == "peer_online"
                wire.write(PING_FRAME[:cut])
                wire.abort()
                assert (await alice.hear())["type"] == "peer_offline"
        assert await alice.answers() == []


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the relay wait for the answer to a close for a moment only."""
    monkeypatch.setattr("agora.relay.server._CLOSE_TIMEOUT", 0.1)


@pytest.mark.usefixtures("_impatient")
async def test_a_client_that_does_not_answer_a_close_is_dropped() -> None:
    config = RelayConfig(port=0, register_timeout=0.1, drain_timeout=0.1)

    async with Relay(config) as relay, opened_wire(relay.url) as wire:
        assert await wire.read_close() == 4003

        assert await wire.read_to_end() == b""


@pytest.mark.parametrize("beginning", [HANDSHAKE + frame(Opcode.CLOSE), b"no HTTP\r\n\r\n"])
@pytest.mark.usefixtures("_impatient")
async def test_nobody_puts_an_end_off_by_talking_on(beginning: bytes) -> None:
    async with Relay(port=0, drain_timeout=0.1) as relay, wire_to(relay.url) as wire:
        async with asyncio.timeout(DEADLINE):
            wire.write(beginning)
            while not wire.writer.transport.is_closing():
                wire.write(b"x")
                await asyncio.sleep(0.01)  # oftener than the relay's patience lasts
