"""The ids of messages that the application is done with, so that each comes once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Literal, Protocol

__all__ = ["Done", "Outcome", "SeenIds", "SeenStore"]

Outcome = Literal["processed", "failed"]
"""What became of a message: it was dealt with, or given up."""

Done = Callable[[Exception | None], None]
"""Told None when it is remembered, or why it could not be."""


class SeenStore(Protocol):
    """What remembers the ids. They are told apart by sender, so that none can block another's."""

    def outcome_of(self, sender: str, envelope_id: str) -> Outcome | None:
        """Return what became of a message; None of one that is not remembered."""
        ...

    def saw(
        self, sender: str, envelope_id: str, done: Done, *, outcome: Outcome = "processed"
    ) -> None:
        """Remember a message; *done* is told when it may be acked."""
        ...


class SeenIds:
    """
    Remembers in memory.

    Args:
        max_ids: How many are kept; at the bound the oldest is forgotten.
    """

    def __init__(self, *, max_ids: int) -> None:
        self._max_ids = max_ids
        self._outcomes: OrderedDict[tuple[str, str], Outcome] = OrderedDict()

    def outcome_of(self, sender: str, envelope_id: str) -> Outcome | None:
        """Return what became of a message; None of one that is not remembered."""
        return self._outcomes.get((sender, envelope_id))

    def saw(
        self, sender: str, envelope_id: str, done: Done, *, outcome: Outcome = "processed"
    ) -> None:
        """Remember a message, at once."""
        key = (sender, envelope_id)
        self._outcomes[key] = outcome
        self._outcomes.move_to_end(key)
        if len(self._outcomes) > self._max_ids:
            self._outcomes.popitem(last=False)
        done(None)
