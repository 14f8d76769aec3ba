"""What is known of a message that was sent."""

from __future__ import annotations

import asyncio

from agora.protocol.outbox import Outgoing, Status

__all__ = ["Receipt"]


class Receipt:
    """
    The fate of one message to one recipient, as it becomes known.

    ``status`` is one of

    * ``queued``: it waits in the outbox, for the relay or for its recipient;
    * ``sent``: the relay has taken it; a relay of the reference cannot say more;
    * ``refused``: the relay said no, finally.
    """

    def __init__(self, outgoing: Outgoing) -> None:
        self.outgoing = outgoing
        self._spoken = asyncio.Event()
        self._over = asyncio.Event()

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

    async def settled(self, timeout: float | None = None) -> Status:
        """
        Wait for the last word and return it.

        Args:
            timeout: Seconds to wait; None waits until the client is closed.

        Returns:
            ``sent``; or ``queued`` when there was no last word in time: the message
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

    def __repr__(self) -> str:
        return f"<Receipt {self.id[:12]} to @{self.to[-8:]}: {self.status}>"

    # For the client

    def update(self) -> None:
        """Something new is known."""
        self._spoken.set()
        if self.status is not Status.QUEUED:
            self._over.set()

    def abandon(self) -> None:
        """Nothing more will be known: the client is closed."""
        self._spoken.set()
        self._over.set()

    async def first_word(self) -> None:
        """Wait until anything is known."""
        await self._spoken.wait()

    def raise_if_refused(self) -> None:
        """Raise the refusal, if there was one."""
        if self.outgoing.refusal is not None:
            raise self.outgoing.refusal
