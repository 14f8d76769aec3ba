"""
How a mailbox flows to one session: in order, never more in flight than fits, kept until confirmed.

A reference client cannot acknowledge, but every WebSocket answers a ping, and
in order: so a ping goes behind the mail, and its pong confirms all before it
(RFC 6455 section 5.5.3: a pong may answer several pings at once).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from agora.protocol.actions import Mail

__all__ = ["MailFeed"]


class MailFeed:
    """
    What one session has of its peer's mailbox.

    Attributes:
        cursor: Position of the last message sent; the next comes from behind it.
        is_caught_up: Whether everything in the mailbox was sent, so that new mail
            may follow at once.
        is_fetching: Whether a page was asked for and has not come.
    """

    def __init__(self, *, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._in_flight: deque[Mail] = deque()
        self._bytes = 0
        self.cursor = 0
        self.is_caught_up = False
        self.is_fetching = False

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

    def send(self, mail: Iterable[Mail]) -> bytes:
        """Put *mail* in flight; return the payload of the ping that goes behind it."""
        for message in mail:
            self._in_flight.append(message)
            self._bytes += message.size
            self.cursor = message.position
        return b"%d" % self.cursor

    def confirm(self, pong_payload: bytes) -> tuple[int, ...]:
        """
        Return the positions that a pong confirms, and take them out of flight.

        Any payload that is not one of ours confirms nothing.
        """
        if not pong_payload.isdigit():
            return ()
        confirmed = []
        while self._in_flight and self._in_flight[0].position <= int(pong_payload[:20]):
            message = self._in_flight.popleft()
            self._bytes -= message.size
            confirmed.append(message.position)
        return tuple(confirmed)
