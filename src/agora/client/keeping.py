"""
What a client keeps on disk, as its core sees it: the outbox's journal, and the ids it has seen.

It is opened when the client connects and closed with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from agora.client.store import ClientStore, StoreDamagedError
from agora.errors import NotConnectedError
from agora.keys import PeerId
from agora.protocol.client.outbox import Done, Outgoing
from agora.protocol.client.seen import Outcome

__all__ = ["Keeping"]


class Keeping:
    """
    A :class:`~agora.client.store.ClientStore` for one client.

    Args:
        path: Its file.
        peer_id: Whose it is.
        tell: Called with a message when it is kept, or cannot be.

    Attributes:
        damage: What was found damaged, when it was opened.
    """

    def __init__(self, path: Path, peer_id: PeerId, tell: Callable[[Outgoing], None]) -> None:
        self._path = path
        self._peer_id = peer_id
        self._tell = tell
        self._store: ClientStore | None = None
        self._numbers: dict[Outgoing, int] = {}
        self.damage: Sequence[StoreDamagedError] = ()

    def open(self, post: Callable[[Callable[[], None]], object]) -> list[Outgoing]:
        """
        Open the file, and return what was not settled before, in order.

        Args:
            post: Runs a callable on the loop's thread.

        Raises:
            ConfigurationError: When it cannot be used; the message says what to do.
        """
        store = ClientStore(self._path, peer_id=self._peer_id)
        kept = store.outgoing()
        self.damage = store.damage()
        store.start(post)
        self._store = store
        found = []
        for message in kept:
            # Whether a relay has it nobody knows any more, so it goes out as it is or not at all.
            outgoing = Outgoing(
                message.to, message.envelope, confirm=message.confirm, was_written=True
            )
            self._numbers[outgoing] = message.number
            found.append(outgoing)
        return found

    async def flush(self) -> None:
        """Wait until what was told is on disk, and whoever told it knows; not for long."""
        if self._store is None:
            return
        flushed = asyncio.Event()
        self._store.flush(lambda error: flushed.set())
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await flushed.wait()

    def close(self) -> None:
        """Write what was told, and close the file."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def _opened(self) -> ClientStore:
        if self._store is None:
            raise NotConnectedError("connect first: what is sent is kept on disk, and then opened")
        return self._store

    # The outbox's journal

    def keep(self, outgoing: Outgoing, done: Done) -> None:
        """Put a message on disk."""
        self._numbers[outgoing] = self._opened().keep(
            outgoing.to, outgoing.envelope, outgoing.confirm, self._telling(outgoing, done)
        )

    def renew(self, outgoing: Outgoing, done: Done) -> None:
        """Put its new envelope in place of the old one."""
        number = self._numbers[outgoing]
        self._opened().renew(number, outgoing.envelope, self._telling(outgoing, done))

    def let_go(self, outgoing: Outgoing) -> None:
        """It need not be kept any longer."""
        number = self._numbers.pop(outgoing, None)
        if number is not None and self._store is not None:
            self._store.let_go(number)

    def _telling(self, outgoing: Outgoing, done: Done) -> Done:
        def tell(error: Exception | None) -> None:
            done(error)
            self._tell(outgoing)

        return tell

    # The ids that were seen

    def outcome_of(self, sender: str, envelope_id: str) -> Outcome | None:
        """Return what became of a message; None of one that is not remembered."""
        return self._opened().outcome_of(sender, envelope_id)

    def saw(
        self, sender: str, envelope_id: str, done: Done, *, outcome: Outcome = "processed"
    ) -> None:
        """Remember a message; *done* is told when it may be acked."""
        if self._store is not None:  # else the client is closed: it comes again, to the next one
            self._store.saw(sender, envelope_id, done, outcome=outcome)


_PATIENCE = 2.0
"""Seconds for a disk to follow before the client says goodbye without it."""
