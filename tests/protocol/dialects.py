"""
The relays of the reference, as far as a client can tell them apart: scripted, to be talked with.

They are written from REFERENCE sections 6.3 and 6.7 and are no substitute for
the real ones (see tests/interop): here they show what our client makes of
errors without ids, of silence, and of ids that are spent.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

from agora.envelope import Sealed, open_envelope
from agora.errors import EnvelopeError
from agora.protocol.actions import SessionId
from agora.relay.node import Connection

__all__ = ["CurrentRelay", "OlderRelay"]

Frame = dict[str, Any]


class _ReferenceRelay:
    """What both have in common: one socket after the other, frames in order."""

    tells_session = False

    def __init__(self) -> None:
        self._lines: dict[SessionId, Connection] = {}
        self._keys: dict[SessionId, str] = {}
        self._numbers = itertools.count()

    def open(self, connection: Connection) -> SessionId:
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
