"""What a client sends: signed, put into the outbox, and told of by receipts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from weakref import WeakValueDictionary

from agora.canonical import Json, check_exact
from agora.client.receipt import Receipt
from agora.errors import InputError
from agora.frames import AnnouncedLimits
from agora.protocol.client.outbox import Outbox, Outgoing, Status
from agora.protocol.client.scribe import Scribe

__all__ = ["Sending"]

_log = logging.getLogger("agora.client")


class Sending:
    """
    The receipts of what a client sends, from the outbox's changes.

    Args:
        scribe: Signs.
        outbox: Where messages wait.
        is_durable: Whether the outbox is kept on disk.
        max_frame_bytes: Largest envelope, with the frame around it.
        wake: Called when there is something to write.
        active_place: Tells where in a trace we are.
    """

    def __init__(
        self,
        scribe: Scribe,
        outbox: Outbox,
        *,
        is_durable: bool,
        max_frame_bytes: int,
        wake: Callable[[], None],
        active_place: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._active_place = active_place
        self._max_frame_bytes = self._largest = max_frame_bytes
        self._scribe = scribe
        self._outbox = outbox
        self._is_durable = is_durable
        self._wake = wake
        self._waiting: dict[Outgoing, Receipt] = {}
        # What is settled can still be confirmed, or bounce, while somebody holds its receipt.
        self._held: WeakValueDictionary[Outgoing, Receipt] = WeakValueDictionary()

    @property
    def receipts(self) -> tuple[Receipt, ...]:
        """The receipts of what waits, in order."""
        return tuple(self._waiting[each] for each in self._outbox if each in self._waiting)

    # What is to be sent

    def post(
        self,
        to: str,
        payload: Json,
        type: str,
        recipients: Sequence[str],
        *,
        in_reply_to: str | None = None,
        confirm: bool = False,
        is_durable: bool = True,
    ) -> Receipt:
        """Sign and put into the outbox; the receipt knows nothing yet."""
        envelope = self._scribe.seal(
            type=type, payload=payload, to=recipients, in_reply_to=in_reply_to
        )
        check_exact(payload)
        outgoing = Outgoing(
            to,
            envelope,
            confirm=confirm,
            is_durable=is_durable,
            traceparent=self._active_place(),
        )
        if outgoing.size > self._largest - _FRAME_OVERHEAD:
            raise InputError(
                f"envelope of {outgoing.size} bytes exceeds max_frame_bytes of "
                f"{self._largest} less {_FRAME_OVERHEAD} for the frame around it"
            )
        self._outbox.add(outgoing)
        receipt = self._receipt_for(outgoing)
        self._wake()
        return receipt

    def restore(self, outgoing: Outgoing) -> None:
        """Go on with a message of an earlier life."""
        self._outbox.take_back(outgoing)
        self._receipt_for(outgoing)

    def take_back(self, outgoing: Outgoing) -> None:
        """Nobody wants it sent any more; one that is under way may arrive."""
        self._outbox.withdraw(outgoing)
        self._waiting.pop(outgoing, None)

    def _receipt_for(self, outgoing: Outgoing) -> Receipt:
        receipt = self._waiting[outgoing] = self._held[outgoing] = Receipt(outgoing)
        return receipt

    def note_limits(self, announced: AnnouncedLimits) -> None:
        """Refuse at once what this relay would refuse."""
        told = announced.max_frame_bytes
        self._largest = min(self._max_frame_bytes, int(told)) if told else self._max_frame_bytes

    # What is known of it

    async def kept(self, receipts: list[Receipt]) -> None:
        """Wait until none of them is lost with the process, where they are kept at all."""
        for receipt in receipts:
            await receipt.kept()

    async def first_words(self, receipts: list[Receipt], timeout: float, *, is_busy: bool) -> None:
        """
        Wait for the relay's word on each, for no more than *timeout* seconds.

        Who *is_busy* with a message only waits until the relay has it: else two who answer
        each other would each wait for the other's application to be done.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                for receipt in receipts:
                    if receipt.why is None:  # else it waits behind others, for a known reason
                        await (receipt.reached() if is_busy else receipt.first_word())

    def note_kept(self, outgoing: Outgoing) -> None:
        """It is on disk now, or cannot be put there."""
        if receipt := self._held.get(outgoing):
            receipt.note_kept()
        self._drop_settled(outgoing)
        self._wake()

    def note_reached(self, outgoing: Outgoing) -> None:
        """It has reached the relay."""
        if receipt := self._held.get(outgoing):
            receipt.note_reached()

    def note_changed(self, outgoing: Outgoing) -> None:
        """Something is known of it."""
        if receipt := self._held.get(outgoing):
            receipt.update()
        self._drop_settled(outgoing)

    def _drop_settled(self, outgoing: Outgoing) -> None:
        if outgoing.status is not Status.QUEUED:
            self._waiting.pop(outgoing, None)

    def note_lost(self) -> None:
        """The connection is gone: nobody is left to say more for now."""
        for receipt in self._waiting.values():
            receipt.update()

    def end(self) -> None:
        """The client is closed: nothing more will be known."""
        if self._waiting and not self._is_durable:
            _log.warning("closed with %d messages unsent, which are lost", len(self._waiting))
        for receipt in list(self._held.values()):
            receipt.abandon()


_FRAME_OVERHEAD = 512
"""Bytes of the frame around an envelope: its type, the recipient, the id of the one before."""
