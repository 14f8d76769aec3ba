"""
Envelopes by the thousand, signed before the clock starts.

The first of a kind is sealed as every envelope is. The others differ from it in the
digits of one number inside the payload, so that each has its own id and signature at
the price of a hash and a signature; a test holds that they open.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from agora.bench.wire import MASK_BYTES, client_frame
from agora.envelope import seal
from agora.frames import encode_broadcast, encode_submit
from agora.keys import KeyPair
from agora.sealed import wire_text
from agora.sealing import now_ms

__all__ = ["Dialect", "Letter", "Letters", "framed"]


class Dialect(StrEnum):
    """What the generator speaks with a relay."""

    REFERENCE = "reference"
    AGORA = "agora/1"


@dataclass(frozen=True, slots=True)
class Letter:
    """One sealed envelope: its id, and its JSON as a client writes it."""

    id: str
    text: str


_DIGITS = 12
_PLACE = "7" * _DIGITS
_PROSE = "The sky over Lisbon is clear; a light wind from the north-west, 23 degrees. "
SMALLEST_PAYLOAD = len(json.dumps({"n": _PLACE, "text": ""}, separators=(",", ":")))


class Letters:
    """
    Makes envelopes from one peer to one other (or ``*``), all of one size.

    Args:
        sender: Who signs.
        to: Whom they are for.
        payload_bytes: How long the payload is as JSON; it holds a number and prose.
        dialect: In which order the members stand: as the reference's client writes
            them, or as ours does.
    """

    def __init__(self, sender: KeyPair, to: str, payload_bytes: int, dialect: Dialect) -> None:
        if payload_bytes < SMALLEST_PAYLOAD:
            raise ValueError(f"a payload has at least {SMALLEST_PAYLOAD} bytes here")
        prose = payload_bytes - SMALLEST_PAYLOAD
        text = (_PROSE * (prose // len(_PROSE) + 1))[:prose]
        payload = {"n": _PLACE, "text": text}
        first = seal(sender, type="publish", payload=payload, to=to, timestamp_ms=now_ms())
        self._sender = sender
        self._to = to
        self._dialect = dialect
        self._timestamp_ms = first.timestamp_ms
        self._head, _, self._tail = first.canonical.decode().partition(_PLACE)
        self._payload_head, _, self._payload_tail = json.dumps(
            payload, separators=(",", ":")
        ).partition(_PLACE)
        self._number = 0

    def letter(self) -> Letter:
        """Return the next envelope."""
        self._number += 1
        digits = f"{self._number:0{_DIGITS}}"
        canonical = f"{self._head}{digits}{self._tail}"
        data = canonical.encode()
        envelope_id, signature = sha256(data).hexdigest(), self._sender.sign(data)
        if self._dialect is Dialect.AGORA:
            text = wire_text(canonical, envelope_id, signature)
        else:
            text = (
                f'{{"id":"{envelope_id}","type":"publish","from":"{self._sender.peer_id}",'
                f'"to":["{self._to}"],"timestamp":{self._timestamp_ms},'
                f'"payload":{self._payload_head}{digits}{self._payload_tail},'
                f'"signature":"{signature}"}}'
            )
        return Letter(envelope_id, text)

    def submit(self) -> tuple[str, bytes]:
        """Return the next envelope's id, and the WebSocket frame that submits it."""
        letter = self.letter()
        return letter.id, framed(encode_submit(self._to, letter.text))

    def broadcast(self) -> bytes:
        """Return the WebSocket frame that tells the next envelope to everyone."""
        return framed(encode_broadcast(self.letter().text))


def framed(text: str) -> bytes:
    """Return the WebSocket frame of *text*, masked at random as RFC 6455 section 5.3 asks."""
    return client_frame(text.encode(), os.urandom(MASK_BYTES))
