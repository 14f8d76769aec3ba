"""
Calls: the requests of a relay's HTTP API that are made of a client's frames.

The text of an envelope is passed on as it is: what was signed is not written anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from agora.canonical import Json
from agora.envelope import EVERYONE
from agora.frames import Ack, Authenticate, Broadcast, Nack, Register, Submit, Watched
from agora.frames.members import encode

__all__ = [
    "Call",
    "Lane",
    "ask_call",
    "broadcast_call",
    "challenge_call",
    "events_query",
    "leave_call",
    "register_call",
    "send_call",
    "settle_call",
]


class Lane(Enum):
    """What a call is for; of most kinds one is made at a time."""

    REGISTER = "register"
    SEND = "send"
    SETTLE = "settle"
    ASK = "ask"


Name = tuple[str, str]
"""An envelope's id, and a recipient: what a receipt or an error is about."""


@dataclass(eq=False, slots=True)
class Call:
    """
    One request.

    Attributes:
        lane: What it is for.
        method: Of HTTP.
        path: Relative to where the API is.
        body: JSON text; None for none.
        name: What is sent to whom; None for all else.
        after: What must have been taken before it, if anything must.
        number: Its place among all calls; it keeps that when it is made again.
        times: How often it was made without an answer.
        times_too_fast: How often it came before the message that it must not overtake.
    """

    lane: Lane
    method: str
    path: str
    body: str | None = None
    name: Name | None = None
    after: Name | None = None
    number: int = field(default=0, kw_only=True)
    times: int = field(default=0, kw_only=True)
    times_too_fast: int = field(default=0, kw_only=True)

    @property
    def recipient(self) -> Name:
        """What is sent to whom, by a call that sends."""
        assert self.name is not None, "it sends nothing"
        return self.name

    @property
    def needs_token(self) -> bool:
        """Whether it is made by somebody who has registered."""
        return self.lane is not Lane.REGISTER


# Registration


def challenge_call(register: Register) -> Call:
    """Return the call for a ``register`` frame: who asks to be challenged."""
    body = encode({"publicKey": register.public_key, "nonce": register.nonce})
    return Call(Lane.REGISTER, "POST", "v1/challenge", body)


def register_call(register: Register, authenticate: Authenticate, nonce: str) -> Call:
    """Return the call for an ``authenticate`` frame; *nonce* is that of the challenge."""
    members: dict[str, Json] = {
        "publicKey": register.public_key,
        "nonce": nonce,
        "signature": authenticate.signature,
        "audience": authenticate.audience,
        "name": register.name,
    }
    return Call(Lane.REGISTER, "POST", "v1/register", encode(members))


# Sending


def send_call(submit: Submit, text: str) -> Call:
    """
    Return the call for a ``message`` frame, given as it was read and as it is.

    It is answered as soon as the relay has the message; what is not known by then comes
    as an event.
    """
    (to,) = submit.to
    after = None if submit.after is None else (submit.after, to)
    body = _body(text, "message", _AT_ONCE)
    return Call(Lane.SEND, "POST", "v1/send", body, (submit.envelope.claimed_id or "", to), after)


_AT_ONCE = '"wait":0,'


def broadcast_call(broadcast: Broadcast, text: str) -> Call:
    """Return the call for a ``broadcast`` frame, given as it was read and as it is."""
    envelope_id = broadcast.envelope.claimed_id or ""
    body = _body(text, "broadcast", '"to":"*",')
    return Call(Lane.SEND, "POST", "v1/send", body, (envelope_id, EVERYONE))


def _body(text: str, frame_type: str, more: str) -> str:
    members = text.removeprefix(f'{{"type":"{frame_type}",')
    assert members is not text, "our frames begin with their type"
    return "{" + more + members


# What came


def settle_call(frame: Ack | Nack) -> Call:
    """Return the call for an ``ack`` or ``nack`` frame."""
    if isinstance(frame, Ack):
        return Call(Lane.SETTLE, "POST", "v1/ack", encode({"ids": [*frame.ids]}))
    members: dict[str, Json] = {"ids": [*frame.ids], "delayMs": round(frame.delay * 1000)}
    return Call(Lane.SETTLE, "POST", "v1/nack", encode(members))


def events_query(watched: Watched, *, receives: bool, wait: float | None) -> dict[str, str]:
    """
    Return the parameters with which events are asked for.

    Args:
        watched: Whose presence to hear of.
        receives: Whether to get mail.
        wait: Seconds after which a response without an event ends; None for a stream.
    """
    query = {"presence": _presence(watched)}
    if not receives:
        query["receive"] = "false"
    return query if wait is None else query | {"wait": f"{wait:g}"}


def _presence(watched: Watched) -> str:
    if watched.everyone or len(watched.peers) > _MOST_KEYS:
        return "all"
    return ",".join(sorted(watched.peers)) or "none"


_MOST_KEYS = 64
"""Peers named in a URL, of which servers take 8 kB; for more, all are heard of and sorted here."""


# All else


def ask_call() -> Call:
    """Return the least that a relay can be asked, for a ``ping`` frame."""
    return Call(Lane.ASK, "GET", "v1/peers?limit=1")


def leave_call() -> Call:
    """Return the goodbye."""
    return Call(Lane.ASK, "DELETE", "v1/disconnect")
