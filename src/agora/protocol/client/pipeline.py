"""
Messages to a relay that speaks Agora/1: many on their way, each answered by its name.

Order holds all the same. Each frame names the message before it to the same
recipient (``after``), as long as that one is unanswered, and the relay takes
none whose predecessor it did not take.

A receipt may take as long as the recipient's application. So a ``ping`` goes
behind all that is written at a time: its ``pong`` says that it has reached the
relay. Nothing waits for it but those who want to know just that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from agora.codes import ErrorCode, ReceiptStatus
from agora.envelope import EVERYONE
from agora.frames import PING, ErrorAnswer, ReceiptAnswer, encode_broadcast, encode_submit
from agora.protocol.client.courier import Courier, Means
from agora.protocol.client.dialect import code_of
from agora.protocol.client.happenings import Changed, Event, Reached
from agora.protocol.client.outbox import MANY, InFlightLimit, Outgoing, Status
from agora.protocol.client.pulse import Asked

__all__ = ["Pipeline"]


@dataclass(frozen=True, slots=True)
class _Written:
    """A message on its way; ``is_new`` when no relay can have had it before."""

    outgoing: Outgoing
    is_new: bool


class Pipeline(Courier):
    """Many messages at a time to each recipient, settled by receipts and errors with ids."""

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self._written: dict[tuple[str, str], _Written] = {}  # by id and recipient
        self._unheard: list[Outgoing] = []  # written since the last ping
        self._asked_of: list[Outgoing] = []  # written before the ping that is not answered
        self._limit = _AFTER_A_CUT if means.outbox.was_cut_off else MANY

    def frames(self, now: float) -> Iterator[str]:
        for outgoing in self._outbox.ready(now=now, limit=self._limit):
            if self._is_over or self._is_held(outgoing, now):
                break
            yield self._write(outgoing)
        if self._unheard and not self._is_over and not self._pulse.asked:
            self._asked_of, self._unheard = self._unheard, []
            self._pulse.asked.append(Asked(now))
            yield PING
        yield from self._ping_if_silent(now)

    def _write(self, outgoing: Outgoing) -> str:
        is_new = not outgoing.was_written and not outgoing.is_renewed
        after = self._outbox.dispatch(outgoing)
        self._written[outgoing.envelope.id, outgoing.to] = _Written(outgoing, is_new)
        self._unheard.append(outgoing)
        text = outgoing.envelope.wire_text
        if outgoing.to == EVERYONE:
            return encode_broadcast(text)
        return encode_submit(
            outgoing.to,
            text,
            confirm=outgoing.confirm,
            after=after,
            traceparent=outgoing.traceparent,
        )

    def ping_at(self) -> float:
        # Who has an answer to give is not left in peace for as long as who has none.
        return self._pulse.ping_at(is_urgent=bool(self._written))

    def hear_pong(self) -> list[Event]:
        if not self._pulse.asked:
            return []
        self._pulse.asked.popleft()
        reached, self._asked_of = self._asked_of, []
        names = ((outgoing.envelope.id, outgoing.to) for outgoing in reached)
        return [Reached(self._written[name].outgoing) for name in names if name in self._written]

    def hear_receipt(self, receipt: ReceiptAnswer) -> list[Event]:
        written = self._written.pop((receipt.envelope_id, receipt.to), None)
        if written is None:
            return []  # of an earlier connection, or of nobody
        written.outgoing.count = receipt.count
        # Twice as many for each round of answers: what is on its way is lost with the connection,
        # and a network that cuts every one soon would never let a whole window through.
        room = min(self._limit.max_messages + 1, MANY.max_messages)
        self._limit = replace(MANY, max_messages=room)
        return self._finish(written.outgoing, _STATUS[receipt.status])

    def hear_error(self, error: ErrorAnswer, now: float) -> list[Event]:
        written = self._pop_named(error)
        if written is None:
            return self._blame_nobody(error)
        outgoing, code = written.outgoing, code_of(error)
        if outgoing not in self._outbox:
            return []  # taken back meanwhile
        if code == ErrorCode.OUT_OF_ORDER:
            return self._try_again_in_order(outgoing, now)
        if code in _OUTSIDE_THE_WINDOW and error.now_ms is not None:
            self._scribe.set_clock(error.now_ms)
            if written.is_new:
                return self._sign_anew(outgoing)
        return self._refuse(outgoing, error, now)

    def _pop_named(self, error: ErrorAnswer) -> _Written | None:
        if error.envelope_id is None:
            return None
        return self._written.pop((error.envelope_id, error.to or EVERYONE), None)

    def _try_again_in_order(self, outgoing: Outgoing, now: float) -> list[Event]:
        """One before it was refused. If that one waits too it goes ahead, else it was final."""
        self._outbox.postpone(
            outgoing, why=None, now=now, first=_REORDER, cap=self._timing.retry_first
        )
        return [Changed(outgoing)] if outgoing.why else []

    def _sign_anew(self, outgoing: Outgoing) -> list[Event]:
        """The clock was wrong, and no relay ever had the message: another id does no harm."""
        self._outbox.put_back(outgoing)
        self._outbox.renew(outgoing, self._scribe.reseal(outgoing.envelope))
        return []

    def _doubt(self, outgoing: Outgoing) -> None:
        pass  # an id counts as used only where a receipt says so


_STATUS = {
    ReceiptStatus.SENT: Status.SENT,
    ReceiptStatus.STORED: Status.STORED,
    ReceiptStatus.DELIVERED: Status.DELIVERED,
    ReceiptStatus.DUPLICATE: Status.DUPLICATE,
}

_OUTSIDE_THE_WINDOW = (ErrorCode.STALE, ErrorCode.FROM_THE_FUTURE)

_AFTER_A_CUT = InFlightLimit(max_messages=4, max_bytes=MANY.max_bytes)
"""With how many to begin on a connection that replaces one that was cut off."""

_REORDER = 0.05
"""Seconds before a message leaves again that came back because another before it was refused."""
