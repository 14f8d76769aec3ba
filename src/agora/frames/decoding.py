"""
The two ways to read a request: the short one for what a busy session says, and the full one.

A plain frame has the members of its type and no others, each as it should be: one
pass of a decoder that knows the shape reads it, and leaves the payload as it came.
Every other frame is read by :mod:`agora.frames.requests`, member by member, which knows
what to say of it.

The rule kept here: the short way gives what the full way would give, or nothing.
"""

from __future__ import annotations

from typing import Final

import msgspec

from agora.canonical import MAX_DEPTH, check_depth
from agora.errors import CanonicalJSONError
from agora.frames.members import PROTOCOL, is_traceparent
from agora.frames.requests import (
    MAX_IDS,
    Ack,
    Broadcast,
    Ping,
    Request,
    Submit,
    decode_in_full,
)
from agora.frames.shapes import AckShape, BroadcastShape, MessageShape, PingShape, PlainMessageShape
from agora.plain_json import NotPlainError, plain_decoder
from agora.sealed import read_plain

__all__ = ["decode_request"]


def decode_request(data: str | bytes, *, protocol: int = PROTOCOL) -> Request:
    """
    Read what a client sent.

    With *protocol* 0 it is read as the reference dialect has it, which knows no
    lists of recipients, no flags, and of Agora/1 only the registration.

    Raises:
        FrameError: With code ``invalid_message``, the reference's text, and as much
            as could be read of the frame's type, envelope id and recipient.
    """
    if isinstance(data, str) and _is_shallow(data):
        decoder = _AGORA if protocol == PROTOCOL else _REFERENCE
        try:
            request = _read(decoder.decode(data))
        except (msgspec.MsgspecError, NotPlainError, RecursionError, UnicodeError):
            request = None
        if request is not None:
            return request
    return decode_in_full(data, protocol=protocol)


def _is_shallow(text: str) -> bool:
    if len(text) <= _TOO_SHORT_TO_BE_DEEP:
        return True
    try:
        check_depth(text)
    except CanonicalJSONError:
        return False
    return True


_TOO_SHORT_TO_BE_DEEP: Final = 2 * MAX_DEPTH + 280
"""
Characters: two for each level, and an envelope's id, sender and signature are in no level.

`read_plain` takes no envelope in which one of these is shorter.
"""

_REFERENCE: Final = plain_decoder(PlainMessageShape | BroadcastShape | PingShape)
_AGORA: Final = plain_decoder(MessageShape | BroadcastShape | AckShape | PingShape)


def _read(
    frame: PlainMessageShape | MessageShape | BroadcastShape | AckShape | PingShape,
) -> Request | None:
    """Return the request that a plain frame is; None where the full way has to look."""
    if isinstance(frame, MessageShape | PlainMessageShape):
        return _read_message(frame)
    if isinstance(frame, AckShape):
        return _read_ack(frame)
    if isinstance(frame, PingShape):
        return Ping()
    sealed = read_plain(frame.envelope)
    return Broadcast(sealed) if sealed else None


def _read_message(frame: PlainMessageShape | MessageShape) -> Submit | None:
    to = (frame.to,) if isinstance(frame.to, str) else tuple(dict.fromkeys(frame.to))
    sealed = read_plain(frame.envelope) if to and all(to) else None
    if sealed is None:
        return None
    if isinstance(frame, PlainMessageShape):
        return Submit(to, sealed)
    after = None if frame.after is msgspec.UNSET else frame.after
    if frame.traceparent is msgspec.UNSET:
        return Submit(to, sealed, frame.confirm, after)
    if not is_traceparent(frame.traceparent):
        return None
    return Submit(to, sealed, frame.confirm, after, frame.traceparent)


def _read_ack(frame: AckShape) -> Ack | None:
    ids = tuple(dict.fromkeys(frame.ids))
    return Ack(ids) if ids and all(ids) and len(ids) <= MAX_IDS else None
