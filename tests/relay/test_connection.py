"""One connection over a transport in memory: what is written when, and when it has to wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from websockets.frames import Frame, Opcode

from agora.codes import CloseCode
from agora.relay.connection import Listener, WebSocketConnection
from agora.relay.framing import text_frame
from agora.relay.metrics import Traffic
from agora.relay.node import Node
from agora.relay.outlet import Outlet
from agora.relay.turns import Turns
from tests.support import DEADLINE
from tests.wire import HANDSHAKE, frame

MESSAGE = frame(Opcode.TEXT, b"hello")


class MemoryTransport(asyncio.Transport):
    """A transport that keeps what is written, each call by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.is_read = asyncio.Event()
        self.is_read.set()
        self.is_aborted = False
        self.has_eof = False

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def pause_reading(self) -> None:
        self.is_read.clear()

    def resume_reading(self) -> None:
        self.is_read.set()

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.has_eof = True

    def is_closing(self) -> bool:
        return self.is_aborted

    def abort(self) -> None:
        self.is_aborted = True


class EchoNode:
    """A node that says each message again, and takes its time if told so."""

    def __init__(self) -> None:
        self.connection = cast(WebSocketConnection, None)
        self.seconds_each = 0.0
        self.answer: str | None = None
        self.unsent: list[int] = []
        self.is_lost = False

    def open(self, connection: WebSocketConnection, **door: object) -> str:
        self.connection = connection
        return "session"

    def receive(self, session: str, data: str | bytes) -> None:
        until = time.perf_counter() + self.seconds_each
        while time.perf_counter() < until:
            pass  # work
        if data == "bye":
            self.connection.close(CloseCode.GOING_AWAY)
        self.connection.send(self.answer or str(data))
        self.unsent.append(self.connection.unsent_bytes)

    def hear(self, session: str) -> None:
        """Take a ping."""

    def lost(self, session: str) -> None:
        self.is_lost = True


class Bench:
    """One connection that is open, between its transport and its node."""

    def __init__(self) -> None:
        self.node = EchoNode()
        self.transport = MemoryTransport()
        self._buffer = bytearray(8192)
        self._connection = WebSocketConnection(
            Listener(
                node=cast(Node, self.node),
                outlet=Outlet(asyncio.get_running_loop().call_soon),
                max_frame_bytes=100_000,
                handshake_timeout=60.0,
                close_timeout=60.0,
                read_buffer=memoryview(self._buffer),
                turns=Turns(),
                traffic=Traffic(),
                is_welcome=lambda: True,
                opened=lambda connection: None,
                closed=lambda connection: None,
                audiences=lambda host, port: (),
            )
        )
        self._connection.connection_made(self.transport)
        self.receive(HANDSHAKE)
        self.transport.writes.clear()

    def receive(self, data: bytes) -> None:
        """Have bytes come in, in one piece."""
        self._connection.get_buffer(-1)[: len(data)] = data
        self._connection.buffer_updated(len(data))

    def end(self) -> None:
        """Lose the connection."""
        self._connection.connection_lost(None)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    made.end()


async def test_the_answers_to_one_packet_leave_in_one_piece(bench: Bench) -> None:
    bench.receive(MESSAGE * 10)

    assert bench.transport.writes == [text_frame("hello") * 10]


async def test_what_is_not_handed_over_yet_counts_as_unsent(bench: Bench) -> None:
    bench.receive(MESSAGE * 3)

    size = len(text_frame("hello"))
    assert bench.node.unsent == [size, 2 * size, 3 * size]
    assert bench.node.connection.unsent_bytes == 0


async def test_much_is_handed_over_before_the_turn_ends(bench: Bench) -> None:
    bench.node.answer = "x" * 50_000

    bench.receive(MESSAGE * 3)

    assert list(map(len, bench.transport.writes)) == [100_008, 50_004]


async def test_what_is_said_outside_a_turn_leaves_when_the_loop_comes_to_it(bench: Bench) -> None:
    bench.node.connection.send("one")
    bench.node.connection.send("two")
    assert bench.transport.writes == []

    await asyncio.sleep(0)

    assert bench.transport.writes == [text_frame("one") + text_frame("two")]


async def test_a_pong_keeps_its_place_between_answers(bench: Bench) -> None:
    bench.receive(MESSAGE + frame(Opcode.PING, b"x") + MESSAGE)

    pong = Frame(Opcode.PONG, b"x").serialize(mask=False)
    assert bench.transport.writes == [text_frame("hello") + pong + text_frame("hello")]


async def test_a_close_comes_behind_what_was_said_and_nothing_behind_it(bench: Bench) -> None:
    bench.receive(MESSAGE + frame(Opcode.TEXT, b"bye") + MESSAGE + frame(Opcode.PING, b"x"))

    close = b"\x88\x0c" + (1001).to_bytes(2) + b"going_away"
    assert bench.transport.writes == [text_frame("hello") + close]
    assert bench.node.is_lost


async def test_what_was_said_leaves_before_the_end(bench: Bench) -> None:
    bench.receive(MESSAGE + frame(Opcode.CLOSE))

    assert bench.transport.writes == [text_frame("hello") + b"\x88\x00"]
    assert bench.transport.has_eof


async def test_nothing_is_written_to_a_connection_that_is_gone(bench: Bench) -> None:
    bench.node.connection.send("late")
    bench.transport.abort()

    await asyncio.sleep(0)

    assert bench.transport.writes == []


async def test_who_has_had_the_loop_for_long_is_read_again_behind_the_others(bench: Bench) -> None:
    bench.node.seconds_each = 0.002

    bench.receive(MESSAGE)

    assert not bench.transport.is_read.is_set()
    async with asyncio.timeout(DEADLINE):
        await bench.transport.is_read.wait()


def test_a_turn_ends_when_somebody_else_is_read() -> None:
    turns = Turns()

    spent = [turns.add(who, 1.0) for who in ("alice", "alice", "bob", "alice")]

    assert spent == [1.0, 2.0, 1.0, 1.0]
