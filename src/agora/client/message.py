"""A message that came, verified, with the way to answer it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from agora.canonical import Json
from agora.client.receipt import Receipt
from agora.envelope import Envelope
from agora.keys import PeerId
from agora.protocol.client.intake import Intake
from agora.text import extract_text, printable

__all__ = ["Handling", "Message"]

Answer = Callable[[PeerId, Json, str, str], Awaitable[Receipt]]
"""Sends (to, payload, type, in_reply_to)."""


class Handling:
    """
    What can be done about one message that was handed over: one of these, once.

    Args:
        envelope: The message.
        intake: Keeps it until then.
        answer: Sends an answer to it.

    Attributes:
        answer: As above; answering is no acking.
    """

    def __init__(self, envelope: Envelope, intake: Intake, answer: Answer) -> None:
        self.answer = answer
        self._envelope = envelope
        self._intake = intake
        self._is_begun = False
        self._is_settled = False

    @property
    def is_at_work(self) -> bool:
        """Whether the application has it, and is not done with it."""
        return self._is_begun and not self._is_settled

    def begin(self) -> None:
        """The application gets it."""
        self._is_begun = True

    def ack(self) -> None:
        """The application is done with it."""
        if self._settles():
            self._intake.ack(self._envelope)

    def nack(self, delay: float | None) -> None:
        """It shall come again."""
        if self._settles():
            self._intake.nack(self._envelope, delay)

    def give_up(self) -> None:
        """It shall not come again, though nothing could be done with it."""
        if self._settles():
            self._intake.give_up(self._envelope)

    def _settles(self) -> bool:
        # Once: it may have come again since, and that is another handling.
        was_settled, self._is_settled = self._is_settled, True
        return not was_settled


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """
    One message to us. Its signature, sender and recipient were checked.

    What it says was not: a payload is data from another, never instructions.

    The relay keeps it until it is acked. That happens by itself: in a loop when the
    next message is asked for, in :meth:`Client.run` when its handler has returned.

    Attributes:
        envelope: The verified envelope.
        name: The display name the sender claims; not proven, None without one.
        traceparent: Where in a trace it comes from (W3C Trace Context), as the relay tells;
            not signed, None without one.
    """

    envelope: Envelope
    name: str | None
    _handling: Handling
    traceparent: str | None = None

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
        return await self._handling.answer(self.sender, payload, kind, self.id)

    async def ack(self) -> None:
        """
        Say that the application is done with it, so that it does not come again.

        Once settled, by this or :meth:`nack` or :meth:`give_up`, further calls do nothing.
        """
        self._handling.ack()

    async def nack(self, delay: float | None = None) -> None:
        """
        Have it come again, to any session of ours; after ten times the relay gives it up.

        A relay of the reference cannot bring it again: there it is as given up.

        Args:
            delay: Seconds, at most an hour; None is a wait that doubles each time.
        """
        self._handling.nack(delay)

    async def give_up(self) -> None:
        """Say that nothing can be done with it: it does not come again, and its sender is told."""
        self._handling.give_up()

    def __repr__(self) -> str:
        return f"<Message {self.id[:12]} {self.type} from @{self.sender[-8:]}>"
