"""Who plays what: all that a player is told, also when it is a process of its own."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from agora.keys import KeyPair

__all__ = ["Part"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """
    Who a player is, and what it does.

    Attributes:
        url: The relay.
        folder: Where its files are.
        name: What they are called.
        seed: The 32 bytes of its key, in hex.
        recipients: Whom it writes to; without any it is a recipient itself.
        messages: How many to each of them; None for as many as it can.
        pace: Seconds that a sender rests after each round of its recipients.
        size: Bytes that each message holds at least.
        nacks: How often it says "later", between 0 and 1.
        pauses: How often its application takes longer than the ack timeout, likewise.
        pause: How long that is, in seconds.
        dialect: ``agora/1``; ``reference`` for a recipient that cannot ack; ``client`` for an
            application of our own client.
    """

    url: str
    folder: Path
    name: str
    seed: str
    recipients: tuple[str, ...] = ()
    messages: int | None = None
    pace: float = 0.0
    size: int = 0
    nacks: float = 0.0
    pauses: float = 0.0
    pause: float = 0.0
    dialect: str = "agora/1"

    @property
    def keys(self) -> KeyPair:
        """Its key pair."""
        return KeyPair.from_seed(bytes.fromhex(self.seed))

    @property
    def book(self) -> Path:
        """Its pages of the ledger."""
        return self.folder / f"{self.name}.ledger"

    def to_json(self) -> str:
        """Return the argument that makes a process play this part."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Part:
        """Read what `to_json` wrote."""
        members = json.loads(text)
        return cls(
            **members
            | {"folder": Path(members["folder"]), "recipients": tuple(members["recipients"])}
        )
