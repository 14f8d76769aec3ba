"""
How mail flows to one session: in order, never more in flight than fits, kept until settled.

A session of Agora/1 acks by envelope id. One of the reference dialect cannot,
but every WebSocket answers a ping, and in order: so a ping goes behind its mail,
and the pong confirms all before it (RFC 6455 section 5.5.3: a pong may answer
several pings at once).
"""

from __future__ import annotations

from typing import NamedTuple

from agora.protocol.relay.actions import Mail, SessionId

__all__ = ["InFlight", "MailFeed"]


class InFlight(NamedTuple):
    """What is known of a message that a session was sent and has not settled."""

    position: int
    sender: str
    envelope_id: str
    size: int


class MailFeed:
    """
    What one session has of its peer's mail.

    Args:
        session: Whose feed it is.
        can_ack: Whether the session speaks Agora/1.
        max_messages: Messages in flight.
        max_bytes: Bytes in flight.

    Attributes:
        cursor: Everything up to this position was sent or left out on purpose.
        is_caught_up: Whether that is everything there is, so that live mail may follow.
        is_fetching: Whether a page was asked for and has not come.
        has_news: Whether something went to the mailbox since it was asked for.
        postponed: What the session has nacked, by position, and when to send it again.
    """

    def __init__(
        self, session: SessionId, *, can_ack: bool, max_messages: int, max_bytes: int
    ) -> None:
        self.session = session
        self.can_ack = can_ack
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._in_flight: dict[int, InFlight] = {}
        self._positions: dict[str, int] = {}
        self._bytes = 0
        self.cursor = 0
        self.is_caught_up = False
        self.is_fetching = False
        self.has_news = False
        self.postponed: dict[int, float] = {}
        self._postponed_ids: dict[str, int] = {}

    def has_in_flight(self, position: int) -> bool:
        """Tell whether the message at *position* was sent and is not settled."""
        return position in self._in_flight

    @property
    def room_messages(self) -> int:
        """How many more messages may be in flight."""
        return self._max_messages - len(self._in_flight)

    @property
    def room_bytes(self) -> int:
        """How many more bytes may be in flight."""
        return self._max_bytes - self._bytes

    @property
    def has_room(self) -> bool:
        """Whether anything more may be in flight."""
        return self.room_messages > 0 and self.room_bytes > 0

    @property
    def takes_live(self) -> bool:
        """Whether a message that has just come may go to it at once, past the mailbox."""
        is_open = self.can_ack and self.is_caught_up and self.has_room
        # What is nacked again and again belongs where bounds count it.
        return is_open and len(self.postponed) < self._max_messages

    @property
    def wants_page(self) -> bool:
        """Whether there is something to read, and room for it."""
        return not self.is_caught_up and not self.is_fetching and self.has_room

    def has(self, envelope_id: str) -> bool:
        """Tell whether a message is in flight, or will be again."""
        return envelope_id in self._positions or envelope_id in self._postponed_ids

    def in_flight(self, envelope_id: str) -> InFlight | None:
        """Return what is known of a message that was sent; None when it is not in flight."""
        position = self._positions.get(envelope_id)
        return None if position is None else self._in_flight[position]

    def send(self, mail: Mail) -> None:
        """Put a message in flight."""
        entry = InFlight(mail.position, mail.sender, mail.envelope_id, mail.size)
        self._in_flight[mail.position] = entry
        if mail.envelope_id:
            self._positions[mail.envelope_id] = mail.position
        self._bytes += entry.size

    def release(self, envelope_id: str) -> InFlight | None:
        """Take a message out of flight, and return it; None when it was not."""
        position = self._positions.get(envelope_id)
        return None if position is None else self._release(position)

    def confirm(self, pong_payload: bytes) -> list[InFlight]:
        """
        Take out of flight what a pong confirms, and return it.

        That is what the session cannot ack: all for the reference dialect, and for
        Agora/1 what has no id. A payload that is not one of ours confirms nothing.
        """
        if not pong_payload.isdigit():
            return []
        last = int(pong_payload[:20])
        confirmed = [
            entry
            for entry in self._in_flight.values()
            if entry.position <= last and not (self.can_ack and entry.envelope_id)
        ]
        for entry in confirmed:
            self._release(entry.position)
        return confirmed

    def postpone(self, entry: InFlight | Mail, until: float) -> None:
        """Have what is not in flight, or no longer, sent again at *until*."""
        self.postponed[entry.position] = until
        self._postponed_ids[entry.envelope_id] = entry.position

    def drop(self, envelope_id: str) -> None:
        """Have a message not sent again: it is settled, or was given up."""
        self.postponed.pop(self._postponed_ids.pop(envelope_id, 0), None)

    def resume(self, now: float) -> bool:
        """Let what was postponed until now be read again; return whether there was anything."""
        if self.is_fetching:
            return False  # the page that comes would carry the cursor past it
        positions = self._postponed_ids.items()
        due = {one: position for one, position in positions if self.postponed[position] <= now}
        for envelope_id in due:
            self.drop(envelope_id)
        if due:
            self.cursor = min(self.cursor, min(due.values()) - 1)
            self.miss()
        return bool(due)

    def miss(self) -> None:
        """Note that there is something behind the cursor which was not sent."""
        self.is_caught_up = False
        self.has_news = self.is_fetching

    def _release(self, position: int) -> InFlight:
        entry = self._in_flight.pop(position)
        self._positions.pop(entry.envelope_id, None)
        self._bytes -= entry.size
        return entry
