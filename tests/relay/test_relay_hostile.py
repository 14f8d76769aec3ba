"""Whatever bytes a stranger sends, the relay answers or closes as documented, and serves others."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from websockets.frames import Opcode

from agora.codes import CloseCode, ErrorCode
from agora.keys import KeyPair
from agora.relay import Relay
from tests.relay.process import relay_process
from tests.support import cpu_seconds, letter, raw_peer
from tests.wire import Wire, frame, opened_wire

DOCUMENTED = {*CloseCode, 1002}  # 1002: against RFC 6455 itself
RESET = 1006  # more was on its way when the relay closed, so that its goodbye was lost
CONNECTIONS = 20
BURST = 50

PING = frame(Opcode.TEXT, b'{"type":"ping"}')


def valid_frames(keys: KeyPair) -> list[bytes]:
    """Return frames that the relay would take, as text."""
    envelope = letter(keys, keys.peer_id, {"text": "grüße", "n": [1, 2.5e-7, None, True]})
    return [
        json.dumps(members, ensure_ascii=False).encode()
        for members in (
            {"type": "register", "publicKey": keys.peer_id, "name": "Mallory"},
            {"type": "message", "to": keys.peer_id, "envelope": envelope.to_dict()},
            {"type": "broadcast", "envelope": envelope.to_dict()},
            {"type": "ping"},
        )
    ]


def random_bytes(chance: random.Random, keys: KeyPair) -> bytes:
    """What is on the wire is no frame at all."""
    return chance.randbytes(chance.randrange(1, 200))


def random_message(chance: random.Random, keys: KeyPair) -> bytes:
    """A whole message of anything."""
    opcode = chance.choice([Opcode.TEXT, Opcode.BINARY])
    return frame(opcode, chance.randbytes(chance.randrange(200)))


def mutated_message(chance: random.Random, keys: KeyPair) -> bytes:
    """A frame that was good before some of its bytes were changed, lost or doubled."""
    data = bytearray(chance.choice(valid_frames(keys)))
    for _ in range(chance.randrange(1, 4)):
        place = chance.randrange(len(data))
        change = chance.randrange(4)
        if change == 0:
            data[place] = chance.randrange(128)
        elif change == 1:
            del data[place : place + chance.randrange(20)]
        elif change == 2:
            data[place:place] = data[place : place + chance.randrange(20)]
        else:
            data[place:place] = chance.choice(STRANGE)
        data = data or bytearray(b" ")
    return frame(chance.choice([Opcode.TEXT, Opcode.BINARY]), bytes(data))


STRANGE = [
    b"null",
    b"1e999",
    b"-0",
    b"\\ud800",
    b"\\u0000",
    "\u202e".encode(),
    b'"__proto__":{',
    b"9" * 400,
    b"[" * 50,
    b'{"a":' * 50,
    b"\xff\xfe",
    b"NaN",
]


def swapped_members(chance: random.Random, keys: KeyPair) -> bytes:
    """A frame whose members have values of any kind."""
    members = json.loads(chance.choice(valid_frames(keys)))
    target = members
    if isinstance(members.get("envelope"), dict) and chance.random() < 0.7:
        target = members["envelope"]
    name = chance.choice([*target, "extra"])
    target[name] = chance.choice(VALUES)
    return frame(Opcode.TEXT, json.dumps(members).encode())


VALUES: list[object] = [
    None, True, 0, -1, 1e308, 2**70, "", "*", "x" * 300, [], {}, [[]], [None], {"": None},
    ["*"], "\ud800", "\x00", ["x"] * 100, {"__proto__": 1},
]  # fmt: skip


def deep_message(chance: random.Random, keys: KeyPair) -> bytes:
    """Brackets without end, or with one."""
    depth = chance.choice([400, 512, 600, 5_000, 100_000])
    opening, closing = chance.choice([(b"[", b"]"), (b'{"a":', b"}"), (b"[[],", b"]")])
    depth //= len(opening)
    inside = opening * depth + b"1" + (closing * depth if chance.random() < 0.5 else b"")
    before, after = chance.choice(
        [(b"", b""), (b'{"type":', b"}"), (b'{"type":"message","to":"x","envelope":', b"}")]
    )
    return frame(Opcode.TEXT, before + inside + after)


def control_frame(chance: random.Random, keys: KeyPair) -> bytes:
    """Pings and pongs nobody asked for, closes of every kind."""
    opcode = chance.choice([Opcode.PING, Opcode.PONG, Opcode.PONG, Opcode.CLOSE])
    if opcode is Opcode.CLOSE:
        return frame(opcode, chance.choice(CLOSES))
    return frame(opcode, chance.randbytes(chance.randrange(126)))


CLOSES = [b"", b"x", b"\x03\xe8", b"\x03\xe8\xff", b"\x03\xe7", b"\x03\xed", b"\xff\xff"]


def fragments(chance: random.Random, keys: KeyPair) -> bytes:
    """A message in pieces, some of them missing."""
    data = chance.choice(valid_frames(keys))
    cut = chance.randrange(len(data))
    pieces = [frame(Opcode.TEXT, data[:cut], fin=False), frame(Opcode.CONT, data[cut:])]
    if chance.random() < 0.3:
        pieces.pop(chance.randrange(2))
    return b"".join(pieces)


KINDS: list[Callable[[random.Random, KeyPair], bytes]] = [
    random_message,
    mutated_message,
    mutated_message,
    mutated_message,
    swapped_members,
    swapped_members,
    deep_message,
    control_frame,
    fragments,
]


class Stranger:
    """One connection after the other, each told nonsense until it is closed."""

    def __init__(self, url: str, seed: int) -> None:
        self.closes: Counter[int] = Counter()
        self.errors: Counter[str] = Counter()
        self._url = url
        self._chance = random.Random(seed)
        self._keys = KeyPair.from_seed(seed.to_bytes(32))

    async def talk(self, count: int) -> None:
        """Send *count* hostile frames."""
        while count > 0:
            async with opened_wire(self._url) as wire:
                if self._chance.random() < 0.8:
                    wire.register(self._keys)
                is_open = True
                while is_open and count > 0:
                    size = min(count, self._chance.randrange(1, BURST))
                    count -= size
                    is_open = await self._send_burst(wire, size)

    async def _send_burst(self, wire: Wire, size: int) -> bool:
        """Send *size* frames, and read until the relay has dealt with them; tell if it is open."""
        wire.write(*(self._chance.choice(KINDS)(self._chance, self._keys) for _ in range(size)))
        if self._chance.random() < 0.1:
            wire.write(random_bytes(self._chance, self._keys))
            wire.writer.write_eof()  # it may be the beginning of something very long
        else:
            wire.write(PING, frame(Opcode.PING, b"the end"))
        try:
            while (answer := await wire.read()).data != b"the end":
                if answer.opcode is Opcode.CLOSE:
                    self.closes[answer.close_code if answer.data else CloseCode.NORMAL] += 1
                    return False
                if answer.opcode is Opcode.TEXT:
                    self._take(json.loads(answer.data))
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closes[RESET] += 1
            return False
        return True

    def _take(self, members: dict[str, Any]) -> None:
        assert members["type"] in KNOWN_TYPES
        if members["type"] == "error":
            self.errors[ErrorCode(members["code"])] += 1


KNOWN_TYPES = {"registered", "message", "peer_online", "peer_offline", "pong", "error"}


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param(4_000, id="short"),
        pytest.param(200_000, id="long", marks=[pytest.mark.long, pytest.mark.timeout(1_200)]),
    ],
)
async def test_hostile_frames_are_answered_or_closed_as_documented(frames: int) -> None:
    async with Relay(port=0, rate_limit_enabled=False) as relay:
        strangers = [Stranger(relay.url, seed) for seed in range(CONNECTIONS)]
        async with asyncio.TaskGroup() as group:
            for stranger in strangers:
                group.create_task(stranger.talk(frames // CONNECTIONS))

        closes: Counter[int] = sum((stranger.closes for stranger in strangers), Counter())
        errors: Counter[str] = sum((stranger.errors for stranger in strangers), Counter())
        assert set(closes) <= DOCUMENTED | {RESET}
        assert {ErrorCode.INVALID_MESSAGE, ErrorCode.INVALID_ENVELOPE} <= set(errors)
        async with raw_peer(relay.url) as alice, raw_peer(relay.url) as bob:
            envelope = await alice.send(bob.id)
            assert (await bob.hear())["envelope"] == envelope.to_dict()
    # That no fault was logged is checked behind every test, in conftest.py.


@pytest.mark.parametrize("flood", [b"?", b'{"type":"ping"}'], ids=["nonsense", "pings"])
async def test_floods_on_some_connections_do_not_make_the_others_wait(flood: bytes) -> None:
    async with (
        relay_process() as relay,
        raw_peer(relay.url) as alice,
        asyncio.TaskGroup() as group,
    ):
        floods = [group.create_task(_flood(relay.url, flood)) for _ in range(3)]
        waits = []
        for _ in range(9):
            before = cpu_seconds(relay.process.pid)
            await alice.answers()
            waits.append(cpu_seconds(relay.process.pid) - before)
        for task in floods:
            task.cancel()

    assert sorted(waits)[len(waits) // 2] < 0.5


async def _flood(url: str, text: bytes) -> None:
    """Send *text* as fast as the relay reads it, and throw the answers away."""
    async with opened_wire(url) as wire, asyncio.TaskGroup() as group:
        group.create_task(_throw_away(wire))
        while True:
            wire.write(frame(Opcode.TEXT, text) * 2_000)
            await wire.writer.drain()


async def _throw_away(wire: Wire) -> None:
    while await wire.reader.read(1 << 20):
        pass
