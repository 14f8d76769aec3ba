"""Turns at the loop: who has had it for how long, while nobody else came to be read."""

from __future__ import annotations

__all__ = ["Turns"]


class Turns:
    """
    The turn that goes on.

    An event loop may read one connection many times before it looks at the next, as
    long as there is more to read (libuv: 32 times).
    """

    def __init__(self) -> None:
        self._who: object = None
        self._spent = 0.0

    def add(self, who: object, spent: float) -> float:
        """
        Note that *who* was read, which took *spent* seconds; return what its turn took so far.

        >>> turns = Turns()
        >>> turns.add("alice", 1.0), turns.add("alice", 1.0), turns.add("bob", 1.0)
        (1.0, 2.0, 1.0)
        """
        self._spent = self._spent + spent if who is self._who else spent
        self._who = who
        return self._spent

    def end(self) -> None:
        """Begin a new one, whoever comes."""
        self._who = None
