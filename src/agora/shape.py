"""The shape of a plain envelope, for decoders that know it in advance."""

from __future__ import annotations

from typing import Any

import msgspec

from agora.keys import PeerId

__all__ = ["EnvelopeShape"]


class EnvelopeShape(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An envelope's members as a frame's decoder reads them: each there once, and of its type."""

    id: str
    type: str
    to: tuple[str, ...]
    timestamp: int
    payload: Any
    signature: str
    sender: PeerId = msgspec.field(name="from")
    in_reply_to: str | msgspec.UnsetType | None = msgspec.field(
        name="inReplyTo", default=msgspec.UNSET
    )
