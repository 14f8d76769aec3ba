"""
What it costs a relay that one more peer joins, while many are there: its core alone, no sockets.

    python -m benchmarks.joins [--sizes 100,1000,5000] [--json]

Measured is CPU time of the node and all that it decides, with mailboxes in
memory: not the clients' signatures, not TCP, not the WebSocket. Beside it stands
how often one signature could be checked in that time on the same machine; a
join with proof holds one such check and one signature of the relay's own.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from time import process_time
from typing import TypeVar

from agora.canonical import parse_json
from agora.codes import CloseCode
from agora.frames import WATCH_ALL, WATCH_NONE, encode_authenticate, encode_register
from agora.keys import KeyPair, verify
from agora.limits import Limits
from agora.mailbox import MailboxBounds, MemoryMailbox
from agora.protocol.proof import sign_proof
from agora.protocol.relay.actions import SessionId
from agora.protocol.relay.router import RouterConfig
from agora.relay.node import Node
from agora.relay.verifier import InlineVerifier
from agora.testing.clock import ManualClock
from agora.testing.conversation import AUDIENCE, Disk

BATCH = 100
"""Peers that join at the same time: as many as come in a tenth of a second."""

_Result = TypeVar("_Result")

NONCE = "5a" * 32
DIALECTS = {"none": WATCH_NONE, "all": WATCH_ALL, "reference": None}


_LONG = 4096
"""Characters that no challenge has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """
    What joins cost while so many are online.

    Attributes:
        dialect: Presence of Agora/1 that all ask for, or the reference dialect.
        online: How many were there before.
        join_us: Microseconds of CPU for one more to join.
        join_verifies: The same in checks of a signature.
        frames: Frames that were written for each who joined.
        leave_us: Microseconds for one to leave, when half of all leave at once.
        idle_percent: Of one core, while nobody does anything.
    """

    dialect: str
    online: int
    join_us: float
    join_verifies: float
    frames: float
    leave_us: float
    idle_percent: float


class Door:
    """A connection that counts what is written to it, and keeps the challenge."""

    __slots__ = ("first", "frames", "session")

    unsent_bytes = 0

    def __init__(self, node: Node) -> None:
        self.frames = 0
        self.first = ""
        self.session: SessionId = node.open(self, address="127.0.0.1", audiences=(AUDIENCE,))

    def send(self, text: str) -> None:
        """Count one."""
        self.frames += 1
        if self.frames == 1 and len(text) < _LONG:  # lists would fill the memory, and be measured
            self.first = text

    def send_all(self, texts: Sequence[str]) -> None:
        """Count all."""
        self.frames += len(texts)

    def ping(self, payload: bytes) -> None:
        """Count nothing: a heartbeat."""

    def withdraw(self, envelope_id: str) -> bool:
        """Keep nothing."""
        return False

    def close(self, code: CloseCode) -> None:
        """Fail: nobody is closed here."""
        raise AssertionError(code)


class Crowd:
    """A node, and who is there."""

    def __init__(self, dialect: str) -> None:
        self._watched = DIALECTS[dialect]
        limits = Limits(max_peers=10**6, rate_limit_enabled=False)
        self._clock = ManualClock()
        self._disk = Disk(MemoryMailbox(MailboxBounds.of(limits)))
        self._relay = KeyPair.generate()
        self._node = Node(
            limits,
            RouterConfig(identity=self._relay),
            writer=self._disk,
            verifier=InlineVerifier(),
            clock=self._clock,
            wall_ms=self._clock.wall_ms,
        )
        self._doors: list[Door] = []

    @property
    def frames(self) -> int:
        """How many were written to all."""
        return sum(door.frames for door in self._doors)

    def grow(self, size: int) -> float:
        """Have peers join until there are *size*; return the seconds that it cost."""
        cost = 0.0
        while (missing := size - len(self._doors)) > 0:
            cost += self._join([KeyPair.generate() for _ in range(min(BATCH, missing))])
        return cost

    def _join(self, peers: list[KeyPair]) -> float:
        frames = [self._registration(peer) for peer in peers]
        doors, cost = _timed(lambda: [self._arrive(frame) for frame in frames])
        self._doors += doors
        if self._watched is not None:
            proofs = [self._proof(peer, door) for peer, door in zip(peers, doors, strict=True)]
            cost += _timed(lambda: self._prove(doors, proofs))[1]
        self._clock.advance(0.1)
        return cost + _timed(self._node.pulse)[1]

    def _registration(self, peer: KeyPair) -> str:
        if self._watched is None:
            return encode_register(peer.peer_id, None)
        return encode_register(peer.peer_id, None, nonce=NONCE, watched=self._watched)

    def _arrive(self, frame: str) -> Door:
        door = Door(self._node)
        self._node.receive(door.session, frame)
        return door

    def _proof(self, peer: KeyPair, door: Door) -> str:
        challenge = parse_json(door.first)
        assert isinstance(challenge, dict)
        nonce, relay = str(challenge["nonce"]), self._relay.peer_id
        signature = sign_proof(peer, audience=AUDIENCE, nonce=nonce, relay=relay)
        return encode_authenticate(signature, AUDIENCE)

    def _prove(self, doors: list[Door], proofs: list[str]) -> None:
        for door, text in zip(doors, proofs, strict=True):
            self._node.receive(door.session, text)
        while self._disk.work():
            pass

    def shrink(self) -> float:
        """Have half of all leave at once; return the seconds that each of them cost."""
        going = self._doors[::2]
        _, cost = _timed(lambda: self._leave(going))
        self._clock.advance(0.1)
        return (cost + _timed(self._node.pulse)[1]) / len(going)

    def _leave(self, doors: list[Door]) -> None:
        for door in doors:
            self._node.lost(door.session)

    def idle(self, seconds: int) -> float:
        """Let time pass as a relay does; return which part of it that took."""
        return _timed(lambda: self._pass(seconds))[1] / seconds

    def _pass(self, seconds: int) -> None:
        for tenth in range(10 * seconds):
            self._clock.advance(0.1)
            self._node.pulse()
            if tenth % 10 == 9:
                self._node.tick()
                self._disk.work()


def _timed(work: Callable[[], _Result]) -> tuple[_Result, float]:
    started = process_time()
    result = work()
    return result, process_time() - started


def measure(dialect: str, online: int, verify_cost: float) -> Figures:
    """Measure one dialect at one size."""
    crowd = Crowd(dialect)
    crowd.grow(online)
    gc.collect()
    frames, count = crowd.frames, 5 * BATCH
    join = crowd.grow(online + count) / count
    told = (crowd.frames - frames) / count
    return Figures(
        dialect=dialect,
        online=online,
        join_us=round(join * 1e6, 1),
        join_verifies=round(join / verify_cost, 2),
        frames=round(told, 1),
        idle_percent=round(100 * crowd.idle(20), 3),
        leave_us=round(crowd.shrink() * 1e6, 1),
    )


def cost_of_verify(times: int = 2_000) -> float:
    """Return the seconds that the check of one signature takes."""
    keys, data = KeyPair.generate(), bytes(300)
    signature = keys.sign(data)
    _, cost = _timed(lambda: [verify(keys.peer_id, signature, data) for _ in range(times)])
    return cost / times


def main() -> None:
    """Measure all dialects at all sizes, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--sizes", default="100,1000,5000", help="peers online, comma-separated")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    verify_cost = cost_of_verify()
    found = [measure(dialect, size, verify_cost) for dialect in DIALECTS for size in sizes]
    if options.json:
        rows = [asdict(row) for row in found]
        json.dump({"verify_us": round(verify_cost * 1e6, 1), "joins": rows}, sys.stdout, indent=1)
        print()
        return
    print(f"one verify: {verify_cost * 1e6:.0f} µs")
    print("presence    online  µs/join  verifies  frames/join  µs/leave  idle %")
    for row in found:
        print(
            f"{row.dialect:<10} {row.online:>7} {row.join_us:>8.0f} {row.join_verifies:>9.1f} "
            f"{row.frames:>12.1f} {row.leave_us:>9.1f} {row.idle_percent:>7.2f}"
        )


if __name__ == "__main__":
    main()
