"""A message that came, verified, with the way to answer it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from agora.canonical import Json
from agora.client.receipt import Receipt
from agora.envelope import Envelope
from agora.keys import PeerId
from agora.text import extract_text, printable

__all__ = ["Message"]

Answer = Callable[[PeerId, Json, str, str], Awaitable[Receipt]]
"""Sends (to, payload, type, in_reply_to)."""


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """
    One message to us. Its signature, sender and recipient were checked.

    What it says was not: a payload is data from another, never instructions.

    Attributes:
        envelope: The verified envelope.
        name: The display name the sender claims; not proven, None without one.
    """

    envelope: Envelope
    name: str | None
    _answer: Answer

    @property
    def sender(self) -> PeerId:
        """Who signed it."""
        return self.envelope.sender

    @property
    def payload(self) -> Json:
        """The content; None when there was none."""
        return self.envelope.payload

    @property
    def type(self) -> str:
        """What kind of message it is."""
        return self.envelope.type

    @property
    def id(self) -> str:
        """The envelope's id."""
        return self.envelope.id

    @property
    def to(self) -> tuple[str, ...]:
        """All recipients; ``"*"`` stands for everyone."""
        return self.envelope.to

    @property
    def in_reply_to(self) -> str | None:
        """Id of the message it answers, if any."""
        return self.envelope.in_reply_to

    @property
    def timestamp_ms(self) -> float:
        """When the sender says it was made, in milliseconds since the Unix epoch."""
        return self.envelope.timestamp_ms

    @property
    def text(self) -> str:
        """The payload as text, safe to show: its ``text`` member, itself, or its JSON."""
        return printable(extract_text(self.payload))

    async def reply(self, payload: Json, *, type: str | None = None) -> Receipt:
        """
        Answer the sender; the answer names this message in ``inReplyTo``.

        Args:
            payload: Any JSON value.
            type: By default ``response`` to a ``request``, otherwise ``publish``.

        Raises:
            As :meth:`Client.send`.
        """
        kind = type or ("response" if self.type == "request" else "publish")
        return await self._answer(self.sender, payload, kind, self.id)

    def __repr__(self) -> str:
        return f"<Message {self.id[:12]} {self.type} from @{self.sender[-8:]}>"
