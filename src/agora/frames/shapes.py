"""The shapes of plain requests: each member of its type, and no other."""

from __future__ import annotations

import msgspec

from agora.shape import EnvelopeShape

__all__ = ["AckShape", "BroadcastShape", "MessageShape", "PingShape", "PlainMessageShape"]


class _Frame(msgspec.Struct, tag_field="type", forbid_unknown_fields=True, gc=False):
    """A frame with exactly these members."""


class PlainMessageShape(_Frame, tag="message"):
    to: str
    envelope: EnvelopeShape


class MessageShape(_Frame, tag="message"):
    to: str | list[str]
    envelope: EnvelopeShape
    confirm: bool = False
    after: str | msgspec.UnsetType = msgspec.UNSET
    traceparent: str | msgspec.UnsetType = msgspec.UNSET


class BroadcastShape(_Frame, tag="broadcast"):
    envelope: EnvelopeShape


class AckShape(_Frame, tag="ack"):
    ids: list[str]


class PingShape(_Frame, tag="ping"):
    pass
