"""What is known of a message that was sent."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from agora.errors import InputError, NoAnswerError, RefusedError
from agora.protocol.client.outbox import Outgoing, Status
from agora.protocol.client.seen import Outcome

__all__ = ["Receipt"]


class Receipt:
    """
    The fate of one message to one recipient, as it becomes known.

    ``status`` is one of

    * ``queued``: it waits in the outbox, for the relay or for its recipient;
    * ``delivered``: the recipient's application has it;
    * ``stored``: it is in the recipient's mailbox, on the relay's disk;
    * ``duplicate``: it was delivered or stored before; the answer that said so was lost;
    * ``sent``: the relay took it, and no more will be known: so it is with relays and
      recipients of the reference, and with broadcasts;
    * ``refused``: the relay said no, finally.
    """

    def __init__(self, outgoing: Outgoing) -> None:
        self.outgoing = outgoing
        self._spoken = asyncio.Event()
        self._reached = asyncio.Event()
        self._kept = asyncio.Event()
        self._over = asyncio.Event()
        self._confirmed = asyncio.Event()
        if outgoing.is_kept:
            self._kept.set()

    @property
    def status(self) -> Status:
        """What is known now."""
        return self.outgoing.status

    @property
    def id(self) -> str:
        """The envelope's id. Changes when the message had to be signed anew."""
        return self.outgoing.envelope.id

    @property
    def to(self) -> str:
        """The recipient's peer id; ``"*"`` for a broadcast."""
        return self.outgoing.to

    @property
    def why(self) -> str | None:
        """The code that keeps it waiting, such as ``unknown_recipient``; None if nothing does."""
        return self.outgoing.why if self.status is Status.QUEUED else None

    @property
    def count(self) -> int | None:
        """How many peers a broadcast was handed to; None where the relay does not tell."""
        return self.outgoing.count

    @property
    def bounced(self) -> str | None:
        """The code with which the relay gave it up after it was stored, such as ``expired``."""
        return self.outgoing.bounce

    async def settled(self, timeout: float | None = None) -> Status:
        """
        Wait for the last word and return it.

        Args:
            timeout: Seconds to wait; None waits until the client is closed.

        Returns:
            The status; ``queued`` when there was no last word in time: the message
            still waits, and goes out when it can.

        Raises:
            RefusedError: When the relay refused it finally.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._over.wait()
        except TimeoutError:
            return self.status
        self.raise_if_refused()
        return self.status

    async def confirmed(self, timeout: float | None = None) -> Outcome:
        """
        Wait for the recipient's own, signed word on a message sent with ``confirm=True``.

        Only recipients that speak Agora/1 and take messages from us give it.

        Args:
            timeout: Seconds to wait; None waits until the client is closed.

        Returns:
            ``processed`` when its handler has finished, ``failed`` when it gave up.

        Raises:
            InputError: When the message was sent without ``confirm=True``.
            RefusedError: When it was refused, or bounced.
            NoAnswerError: When the word did not come in time, or the client was closed.
        """
        if not self.outgoing.confirm:
            raise InputError("no word of the recipient was asked for: send with confirm=True")
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._confirmed.wait()
        self.raise_if_refused()
        match self.outgoing.acknowledgement:
            case "processed" | "failed" as outcome:
                return outcome
        if self.bounced is not None:
            text = f"the relay gave the message up: {self.bounced}"
            raise RefusedError(self.bounced, text, envelope_id=self.id)
        raise NoAnswerError("no acknowledgement came", why=self.why)

    def __repr__(self) -> str:
        return f"<Receipt {self.id[:12]} to @{self.to[-8:]}: {self.status}>"

    # For the client

    def update(self) -> None:
        """Something new is known."""
        self._spoken.set()
        self._reached.set()
        if self.outgoing.is_kept:
            self._kept.set()
        if self.status is not Status.QUEUED:
            self._over.set()
        if self.outgoing.acknowledgement or self.bounced or self.status is Status.REFUSED:
            self._confirmed.set()

    def note_reached(self) -> None:
        """It has reached the relay."""
        self._reached.set()

    def note_kept(self) -> None:
        """It is on disk, or cannot be put there."""
        self._kept.set()
        if self.status is not Status.QUEUED:
            self.update()

    def abandon(self) -> None:
        """Nothing more will be known: the client is closed."""
        for event in (self._spoken, self._reached, self._kept, self._over, self._confirmed):
            event.set()

    async def kept(self) -> None:
        """Wait until a crash of ours does not lose it any more, where it is to be kept."""
        await self._kept.wait()

    async def first_word(self) -> None:
        """Wait until anything is known."""
        await self._spoken.wait()

    async def reached(self) -> None:
        """Wait until it has reached the relay, or anything is known."""
        await self._reached.wait()

    def raise_if_refused(self) -> None:
        """Raise the refusal, if there was one."""
        if self.outgoing.refusal is not None:
            raise self.outgoing.refusal
