"""
A relay to try the ledger on: right and slow as it stands, and wrong in one way where told to be.

It holds the parts of the contract that the ledger looks at, and none of what
makes a relay safe to meet strangers: no limits, no time, no second session of a
key. A checker that has never found a fault in a real history has proven
nothing; here each kind of fault is made, and must be found.

As a program: ``python -m tests.faults.careless PORT FILE [FAULT]``.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from agora.envelope import open_envelope
from agora.keys import KeyPair
from tests.faults.speaker import Frame

__all__ = ["Fault"]


class Fault(StrEnum):
    """What it does wrong."""

    NOTHING = "nothing"
    STORES_IN_MEMORY = "stores in memory"
    """Says ``stored`` of what is on no disk."""
    TRUSTS_THE_SOCKET = "trusts the socket"
    """Says ``delivered`` when the socket took it, and keeps nothing."""
    NEWEST_FIRST = "newest first"
    """Brings waiting mail in the wrong order."""
    ANSWERS_TWICE = "answers twice"
    CHANGES_MEMBERS = "changes members"
    """Brings an envelope with a member that is not the sender's."""


class _Session:
    """A registered connection, with what is still to be written to it, in order."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.writes: asyncio.Queue[str] = asyncio.Queue()

    def say(self, **frame: Any) -> None:
        """Write a frame, some time."""
        self.writes.put_nowait(json.dumps(frame))


class _Relay:
    def __init__(self, path: str, fault: Fault) -> None:
        self._fault = fault
        self._keys = KeyPair.from_seed(bytes(32))
        self._online: dict[str, _Session] = {}
        self._live: dict[tuple[str, str], tuple[Frame, _Session]] = {}
        self._taken: set[tuple[str, str]] = set()
        where = ":memory:" if fault is Fault.STORES_IN_MEMORY else path
        self._mail = sqlite3.connect(where, isolation_level=None)
        # What the kernel has outlives a kill of the process; no more than that is done to it.
        self._mail.execute("PRAGMA synchronous = OFF")
        self._mail.execute(
            "CREATE TABLE IF NOT EXISTS mail (position INTEGER PRIMARY KEY AUTOINCREMENT, "
            "recipient TEXT, id TEXT, frame TEXT, UNIQUE (recipient, id))"
        )

    async def meet(self, socket: ServerConnection) -> None:
        """Serve one connection until it ends."""
        session = await self._admit(socket)
        self._online[session.peer] = session
        order = "DESC" if self._fault is Fault.NEWEST_FIRST else "ASC"
        waiting = f"SELECT frame FROM mail WHERE recipient = ? ORDER BY position {order}"
        for (text,) in self._mail.execute(waiting, (session.peer,)):
            session.writes.put_nowait(text)
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(self._write(socket, session))
            with suppress(ConnectionClosed):
                while True:
                    frame = json.loads(await socket.recv())
                    self._doings[frame["type"]](self, session, frame)
            self._leave(session)
            writing.cancel()

    async def _admit(self, socket: ServerConnection) -> _Session:
        peer = json.loads(await socket.recv())
        nonce, relay = "00" * 32, self._keys.peer_id
        said = {
            "clientNonce": peer["nonce"],
            "nonce": nonce,
            "publicKey": peer["publicKey"],
            "purpose": "agora/1 challenge",
            "relay": relay,
        }
        signature = self._keys.sign(json.dumps(said, separators=(",", ":")).encode())
        challenge = {"type": "challenge", "nonce": nonce, "relay": relay, "signature": signature}
        await socket.send(json.dumps(challenge))
        await socket.recv()  # whoever it is
        session = _Session(peer["publicKey"])
        session.say(type="registered", protocol=1, publicKey=session.peer, relay=relay, peers=[])
        return session

    async def _write(self, socket: ServerConnection, session: _Session) -> None:
        with suppress(ConnectionClosed):
            while True:
                await socket.send(await session.writes.get())

    def _leave(self, session: _Session) -> None:
        if self._online.get(session.peer) is session:
            del self._online[session.peer]
        for identifier, to in [key for key in self._live if key[1] == session.peer]:
            self._store(identifier, to)

    # What is said

    def _take(self, session: _Session, frame: Frame) -> None:
        envelope, to = open_envelope(frame["envelope"]), frame["to"]
        key = (envelope.id, to)
        delivery = {"type": "message", "from": envelope.sender, "envelope": envelope.to_dict()}
        if key in self._live:
            self._live[key] = (delivery, session)
        elif key in self._taken or self._is_stored(*key):
            self._receipt(session, *key, "duplicate")
        elif "after" in frame and (frame["after"], to) not in self._taken:
            session.say(type="error", code="out_of_order", message="", id=envelope.id, to=to)
        else:
            self._taken.add(key)
            self._route(session, key, delivery)

    def _route(self, session: _Session, key: tuple[str, str], delivery: Frame) -> None:
        recipient = self._online.get(key[1])
        if self._fault is Fault.CHANGES_MEMBERS:
            changed = delivery["envelope"] | {"signature": "0" * 128}
            delivery = delivery | {"envelope": changed}
        if recipient:
            recipient.say(**delivery)
        if recipient and self._fault is Fault.TRUSTS_THE_SOCKET:
            self._receipt(session, *key, "delivered")
            return
        self._live[key] = (delivery, session)
        if not recipient:
            self._store(*key)

    def _ack(self, session: _Session, frame: Frame) -> None:
        for identifier in frame["ids"]:
            forget = "DELETE FROM mail WHERE recipient = ? AND id = ?"
            self._mail.execute(forget, (session.peer, identifier))
            if live := self._live.pop((identifier, session.peer), None):
                self._receipt(live[1], identifier, session.peer, "delivered")

    def _nack(self, session: _Session, frame: Frame) -> None:
        for identifier in frame["ids"]:
            self._store(identifier, session.peer)
            again = asyncio.get_running_loop().call_later
            again(frame["delayMs"] / 1_000, self._bring, identifier, session.peer)

    def _bring(self, identifier: str, to: str) -> None:
        found = "SELECT frame FROM mail WHERE recipient = ? AND id = ?"
        for (text,) in self._mail.execute(found, (to, identifier)):
            if session := self._online.get(to):
                session.writes.put_nowait(text)

    def _store(self, identifier: str, to: str) -> None:
        if live := self._live.pop((identifier, to), None):
            put = "INSERT INTO mail (recipient, id, frame) VALUES (?, ?, ?)"
            self._mail.execute(put, (to, identifier, json.dumps(live[0] | {"stored": True})))
            self._receipt(live[1], identifier, to, "stored")

    def _is_stored(self, identifier: str, to: str) -> bool:
        found = "SELECT 1 FROM mail WHERE recipient = ? AND id = ?"
        return self._mail.execute(found, (to, identifier)).fetchone() is not None

    def _receipt(self, session: _Session, identifier: str, to: str, status: str) -> None:
        for _ in range(2 if self._fault is Fault.ANSWERS_TWICE else 1):
            session.say(type="receipt", id=identifier, to=to, status=status)

    def _pong(self, session: _Session, frame: Frame) -> None:
        session.say(type="pong")

    _doings: dict[str, Callable[[_Relay, _Session, Frame], None]] = {  # noqa: RUF012
        "message": _take,
        "ack": _ack,
        "nack": _nack,
        "ping": _pong,
    }


async def _serve(port: int, path: str, fault: Fault) -> None:
    relay = _Relay(path, fault)
    async with serve(relay.meet, "127.0.0.1", port, compression=None) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2], Fault(*sys.argv[3:])))
