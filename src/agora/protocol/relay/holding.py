"""
What is on its way to one peer and kept in memory: live, or being stored.

Only here a message goes to the mailbox, and never one that is ahead of another
which is only in memory: a crash must leave no later one alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from agora.protocol.relay.actions import Action, Mail, Store, Ticket

__all__ = ["Held", "Holding"]


@dataclass(slots=True)
class Held:
    """
    A message in memory: live, or on its way to the mailbox.

    Attributes:
        mail: The message.
        tickets: Who waits for word of it; more than one if it was sent again meanwhile.
        is_live: Whether a session was sent it before it was stored.
        is_owed: Whether it was taken already, so that the mailbox must have room for it.
        is_storing: Whether it is on its way to the mailbox.
        deadline: When a live one is stored unless it was acked.
        nacks: How often it was nacked, where there is no mailbox to count that.
        follows: Position of the message that it must not overtake; 0 for none.
    """

    mail: Mail
    tickets: list[Ticket] = field(default_factory=list)
    is_live: bool = False
    is_owed: bool = False
    is_storing: bool = False
    deadline: float = math.inf
    nacks: int = 0
    follows: int = 0


class Holding:
    """The messages of one peer that are in memory, in the order of their positions."""

    def __init__(self) -> None:
        self._by_position: dict[int, Held] = {}
        self._positions: dict[str, int] = {}  # by envelope id

    def __len__(self) -> int:
        return len(self._by_position)

    def __iter__(self) -> Iterator[Held]:
        return iter(list(self._by_position.values()))

    def at(self, position: int) -> Held | None:
        """Return the message at a position; None when it is not here."""
        return self._by_position.get(position)

    def find(self, envelope_id: str | None) -> Held | None:
        """Return the message with this id; None when it is not here, or has none."""
        position = self._positions.get(envelope_id) if envelope_id else None
        return None if position is None else self._by_position[position]

    def add(self, mail: Mail, ticket: Ticket | None, *, after: str | None) -> Held:
        """Take a message, which has the highest position; it must not overtake *after*."""
        held = Held(mail, [ticket] if ticket else [])
        if after is not None and (before := self.find(after)):
            held.follows = before.mail.position
        self._by_position[mail.position] = held
        if mail.envelope_id:
            self._positions[mail.envelope_id] = mail.position
        return held

    def let_go(self, held: Held) -> None:
        """Keep a message no longer: it is settled, or on disk."""
        del self._by_position[held.mail.position]
        self._positions.pop(held.mail.envelope_id, None)

    def store_through(self, position: float) -> list[Action]:
        """Store what is not being stored, up to a position."""
        return [
            self._store(held)
            for held in self._by_position.values()
            if held.mail.position <= position and not held.is_storing
        ]

    def store_late(self, now: float) -> list[Action]:
        """Store what was not acked until now, and what was taken before it."""
        late = [held.mail.position for held in self if held.deadline <= now]
        return self.store_through(max(late)) if late else []

    def next_deadline(self) -> float:
        """Return when the next message is stored unless it is acked; or infinity."""
        return min((held.deadline for held in self), default=math.inf)

    def _store(self, held: Held) -> Action:
        held.is_storing, held.deadline = True, math.inf
        follows = held.follows if held.follows in self._by_position else 0
        return Store(held.mail, is_owed=held.is_owed, follows=follows)
