"""
Relays as far as a client can tell them apart: scripted, to be talked with.

Those of the reference are written from REFERENCE sections 6.3 and 6.7 and are no
substitute for the real ones (see tests/interop): here they show what our client
makes of errors without ids, of silence, and of ids that are spent. The one of
Agora/1 refuses what the test wants refused, and answers when the test lets it.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

from agora.envelope import Sealed, open_envelope
from agora.errors import EnvelopeError
from agora.keys import KeyPair
from agora.protocol.proof import proven_audience, sign_challenge
from agora.protocol.relay.actions import SessionId
from agora.relay.node import Connection
from agora.testing.agent import AUDIENCE

__all__ = ["Agora1Relay", "CurrentRelay", "OlderRelay"]

Frame = dict[str, Any]


class _ReferenceRelay:
    """What both have in common: one socket after the other, frames in order."""

    tells_session = False

    def __init__(self) -> None:
        self._lines: dict[SessionId, Connection] = {}
        self._keys: dict[SessionId, str] = {}
        self._numbers = itertools.count()

    def open(
        self, connection: Connection, *, address: str = "", audiences: tuple[str, ...] = ()
    ) -> SessionId:
        session = SessionId(str(next(self._numbers)))
        self._lines[session] = connection
        return session

    def receive(self, session: SessionId, data: str | bytes) -> None:
        frame = json.loads(data)
        if session in self._keys:
            self._handle(session, self._keys[session], frame)
        elif frame["type"] == "register":
            self._register(session, frame["publicKey"])
        else:
            raise AssertionError("the client spoke before it was registered")

    def receive_pong(self, session: SessionId, payload: bytes) -> None:
        raise AssertionError("no WebSocket ping was sent")

    def lost(self, session: SessionId) -> None:
        self._lines.pop(session)
        key = self._keys.pop(session, None)
        if key is not None and key not in self._keys.values():
            self._tell_others(key, {"type": "peer_offline", "publicKey": key})

    def _register(self, session: SessionId, key: str) -> None:
        is_first = key not in self._keys.values()
        self._keys[session] = key
        others = [{"publicKey": other} for other in dict.fromkeys(self._keys.values())]
        peers = [other for other in others if other["publicKey"] != key]
        told = {"sessionId": session} if self.tells_session else {}
        self._say(session, {"type": "registered", "publicKey": key, **told, "peers": peers})
        if is_first:
            self._tell_others(key, {"type": "peer_online", "publicKey": key})

    def _handle(self, session: SessionId, key: str, frame: Frame) -> None:
        if frame["type"] == "ping":
            self._say(session, {"type": "pong"})
        elif frame["type"] == "message":
            self._message(session, key, frame["to"], frame["envelope"])
        else:
            self._other(session, key, frame)

    def _message(self, session: SessionId, key: str, to: str, envelope: Frame) -> None:
        raise NotImplementedError

    def _other(self, session: SessionId, key: str, frame: Frame) -> None:
        raise NotImplementedError

    def _forward(self, key: str, to: str, envelope: Frame) -> bool:
        sessions = [session for session, owner in self._keys.items() if owner == to]
        for session in sessions:
            self._say(session, {"type": "message", "from": key, "envelope": envelope})
        return bool(sessions)

    def _tell_others(self, key: str, frame: Frame) -> None:
        for session, owner in self._keys.items():
            if owner != key:
                self._say(session, frame)

    def _say(self, session: SessionId, frame: Frame) -> None:
        self._lines[session].send(json.dumps(frame))


class CurrentRelay(_ReferenceRelay):
    """
    Of the 0.8 series: verifies, drops repeats in silence, knows no broadcast.

    An id counts as used also when nothing came of it; errors name nobody, and
    only ``unknown_recipient`` has a code.
    """

    tells_session = True

    def __init__(self) -> None:
        super().__init__()
        self._used_ids: set[str] = set()

    def _message(self, session: SessionId, key: str, to: str, envelope: Frame) -> None:
        try:
            opened = open_envelope(Sealed(envelope))
        except EnvelopeError as error:
            self._refuse(session, f"Invalid envelope: {error.reason}")
            return
        if opened.sender != key:
            self._refuse(session, "Envelope sender does not match registered public key")
        elif to not in opened.to:
            self._refuse(session, "Envelope recipients do not include requested relay recipient")
        elif opened.id not in self._used_ids:
            self._used_ids.add(opened.id)
            if not self._forward(key, to, envelope):
                self._refuse(session, f"Recipient not connected: {to}", "unknown_recipient")

    def _other(self, session: SessionId, key: str, frame: Frame) -> None:
        self._refuse(session, f"Unknown message type: {frame['type']}")

    def _refuse(self, session: SessionId, message: str, code: str | None = None) -> None:
        frame = {"type": "error", "message": message}
        self._say(session, frame | ({"code": code} if code else {}))


class OlderRelay(_ReferenceRelay):
    """Of the 0.1 series: looks at no envelope, forwards repeats, and its errors have codes."""

    def _message(self, session: SessionId, key: str, to: str, envelope: Frame) -> None:
        if not self._forward(key, to, envelope):
            refusal = {"code": "unknown_recipient", "message": "Recipient not connected"}
            self._say(session, {"type": "error"} | refusal)

    def _other(self, session: SessionId, key: str, frame: Frame) -> None:
        self._tell_others(key, {"type": "message", "from": key, "envelope": frame["envelope"]})


class Agora1Relay:
    """
    A naive relay of Agora/1: it takes messages, in order, and hands them to nobody.

    Attributes:
        keys: Who it is.
        refusals: Codes with which it refuses the next messages; None lets one pass.
        taken: The envelopes it took, by recipient, in order.
        unsaid: Answers to messages that it has not given yet, each with its session.
    """

    def __init__(self, keys: KeyPair) -> None:
        self.keys = keys
        self.refusals: list[str | None] = []
        self.taken: dict[str, list[Frame]] = {}
        self.unsaid: list[tuple[SessionId, Frame]] = []
        self._lines: dict[SessionId, Connection] = {}
        self._owners: dict[SessionId, str] = {}
        self._numbers = itertools.count()

    def open(
        self, connection: Connection, *, address: str = "", audiences: tuple[str, ...] = ()
    ) -> SessionId:
        session = SessionId(str(next(self._numbers)))
        self._lines[session] = connection
        return session

    def receive(self, session: SessionId, data: str | bytes) -> None:
        frame = json.loads(data)
        match frame["type"]:
            case "register":
                self._challenge(session, frame)
            case "authenticate":
                self._register(session, frame)
            case "message":
                self._message(session, frame)
            case "ping":
                self._say(session, {"type": "pong"})
            case _:
                raise AssertionError(f"nobody asked for {frame}")

    def receive_pong(self, session: SessionId, payload: bytes) -> None:
        raise AssertionError("no WebSocket ping was sent")

    def lost(self, session: SessionId) -> None:
        del self._lines[session]
        self.unsaid = [(whose, answer) for whose, answer in self.unsaid if whose != session]

    def says(self, index: int) -> None:
        """Give one of the answers that it has not given yet."""
        session, answer = self.unsaid.pop(index)
        self._say(session, answer)

    def _challenge(self, session: SessionId, frame: Frame) -> None:
        self._owners[session] = frame["publicKey"]
        nonce = f"{int(session):064x}"
        names = {"client_nonce": frame["nonce"], "nonce": nonce, "public_key": frame["publicKey"]}
        signature = sign_challenge(self.keys, **names)
        challenge = {"type": "challenge", "nonce": nonce, "relay": self.keys.peer_id}
        self._say(session, challenge | {"signature": signature})

    def _register(self, session: SessionId, frame: Frame) -> None:
        key, nonce = self._owners[session], f"{int(session):064x}"
        assert proven_audience(
            key,  # type: ignore[arg-type]  # as it came
            frame["signature"],
            audiences=[AUDIENCE],
            nonce=nonce,
            relay=self.keys.peer_id,
        )
        self._say(
            session,
            {"type": "registered", "protocol": 1, "publicKey": key, "relay": self.keys.peer_id},
        )

    def _message(self, session: SessionId, frame: Frame) -> None:
        envelope, to = open_envelope(frame["envelope"]), frame["to"]
        answer = {"id": envelope.id, "to": to}
        taken = self.taken.setdefault(to, [])
        ids = [one["id"] for one in taken]
        refusal = self.refusals.pop(0) if self.refusals else None
        if envelope.id in ids:
            answer |= {"type": "receipt", "status": "duplicate"}
        elif frame.get("after", envelope.id) not in [*ids, envelope.id]:
            answer |= {"type": "error", "code": "out_of_order", "message": "too early"}
        elif refusal is not None:
            answer |= {"type": "error", "code": refusal, "message": "no", "retryAfterMs": 100}
        else:
            taken.append(frame["envelope"])
            answer |= {"type": "receipt", "status": "stored"}
        if answer["type"] == "error":
            self._say(session, answer)  # at once, as frames are looked at in order
        else:
            self.unsaid.append((session, answer))

    def _say(self, session: SessionId, frame: Frame) -> None:
        self._lines[session].send(json.dumps(frame))
