"""
Messages to a relay of the reference dialect: a ``ping`` goes behind every one.

Such a relay says nothing about a message it took, and does not name the one it
refused. But it answers in order: so what comes before the ``pong`` is about the
message before its ping. No error before the pong means that the relay took it.
"""

from __future__ import annotations

from collections.abc import Iterator

from agora.envelope import EVERYONE
from agora.frames import PING, ErrorAnswer, ReceiptAnswer, encode_broadcast, encode_submit
from agora.protocol.client.courier import Courier, Means
from agora.protocol.client.dialect import Dialect
from agora.protocol.client.happenings import Event
from agora.protocol.client.outbox import ONE_BY_ONE, Outgoing, Status
from agora.protocol.client.pulse import Asked

__all__ = ["Barrier"]


class Barrier(Courier):
    """One message at a time to each recipient, each with a ping behind it."""

    def __init__(self, means: Means, dialect: Dialect) -> None:
        super().__init__(means)
        self._dialect = dialect

    def frames(self, now: float) -> Iterator[str]:
        for outgoing in self._outbox.ready(now=now, limit=ONE_BY_ONE):
            if self._is_over or self._is_held(outgoing, now):
                return
            # Noted before it is written: an answer may be quicker than the writer.
            self._outbox.dispatch(outgoing)
            self._pulse.asked.append(Asked(now, outgoing))
            yield _frame(outgoing)
            if self._is_over:
                return
            yield PING
        yield from self._ping_if_silent(now)

    def ping_at(self) -> float:
        return self._pulse.ping_at()

    def hear_pong(self) -> list[Event]:
        outgoing = self._pulse.asked.popleft().outgoing if self._pulse.asked else None
        return [] if outgoing is None else self._finish(outgoing, Status.SENT)

    def hear_receipt(self, receipt: ReceiptAnswer) -> list[Event]:
        return []  # nobody asked for it

    def hear_error(self, error: ErrorAnswer, now: float) -> list[Event]:
        asked = self._asked_about(error)
        if asked is None or asked.outgoing is None:
            return self._blame_nobody(error)
        outgoing, asked.outgoing = asked.outgoing, None  # its pong says nothing more about it
        return self._refuse(outgoing, error, now)

    def _asked_about(self, error: ErrorAnswer) -> Asked | None:
        """Find the message an error is about: by its id, or else the first still unanswered."""
        if not self._dialect.names_envelopes and error.envelope_id is None:
            return self._pulse.asked[0] if self._pulse.asked else None
        about = (
            asked
            for asked in self._pulse.asked
            if asked.outgoing is not None
            and asked.outgoing.envelope.id == error.envelope_id
            and error.to in (None, asked.outgoing.to)
        )
        return next(about, None)

    def _doubt(self, outgoing: Outgoing) -> None:
        if self._dialect.spends_ids:
            self._outbox.renew(outgoing, self._scribe.reseal(outgoing.envelope))


def _frame(outgoing: Outgoing) -> str:
    text = outgoing.envelope.wire_text
    return encode_broadcast(text) if outgoing.to == EVERYONE else encode_submit(outgoing.to, text)
