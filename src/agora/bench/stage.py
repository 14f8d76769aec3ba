"""
What every bench runs on: the relay, the words spoken with it, and whom to tell how far it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from agora.bench.letters import Dialect
from agora.bench.measure import cpu_seconds, own_cpu_seconds
from agora.bench.peers import Peer, join, part, refusal_in
from agora.bench.relays import Target
from agora.errors import NoAnswerError
from agora.keys import KeyPair

__all__ = ["Clock", "Finish", "Progress", "Silent", "Stage"]


class Progress(Protocol):
    """Hears what is being done, and how much of it is done."""

    def begin(self, what: str, total: float) -> None:
        """Something begins; *total* is how much of it there is."""

    def reached(self, done: float) -> None:
        """So much of it is done."""


class Silent:
    """Tells nobody."""

    def begin(self, what: str, total: float) -> None:
        """Tell nobody."""

    def reached(self, done: float) -> None:
        """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Stage:
    """
    Where a bench plays.

    Attributes:
        target: The relay.
        dialect: What is spoken with it.
        progress: Whom to tell how far it is.
    """

    target: Target
    dialect: Dialect = Dialect.REFERENCE
    progress: Progress = field(default_factory=Silent)

    @property
    def quiet_dialect(self) -> Dialect:
        """The dialect in which one hears of nobody, where the relay is known to speak it."""
        return Dialect.AGORA if self.target.is_own else self.dialect

    async def join(self, keys: KeyPair | None = None, *, presence: bool = False) -> Peer:
        """Return a registered peer."""
        return await join(self.target.url, self.dialect, keys, presence=presence)

    @asynccontextmanager
    async def peers(self, count: int) -> AsyncIterator[list[Peer]]:
        """Have *count* registered peers for the length of a ``with`` block."""
        joined = [await self.join() for _ in range(count)]
        try:
            yield joined
        finally:
            await part(joined)


@dataclass(slots=True)
class Clock:
    """What passed within `Clock.running`: time, and the processors' time on both sides."""

    pid: int | None
    seconds: float = 0.0
    own_cpu: float = 0.0
    relay_cpu: float | None = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what passes within; several times add up."""
        relay, own, start = cpu_seconds(self.pid), own_cpu_seconds(), time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start
        self.own_cpu += own_cpu_seconds() - own
        relay_now = cpu_seconds(self.pid)
        if relay is None or relay_now is None or self.relay_cpu is None:
            self.relay_cpu = None
        else:
            self.relay_cpu += relay_now - relay

    def relay_us(self, per: int) -> float | None:
        """Return the relay's processor time for each of *per* things, in µs."""
        return None if self.relay_cpu is None else self.relay_cpu / per * 1e6

    def own_us(self, per: int) -> float:
        """Return the generator's processor time for each of *per* things, in µs."""
        return self.own_cpu / per * 1e6


class Finish:
    """
    The end of a run, which comes when all has arrived, or when something is wrong.

    Args:
        total: How many things must arrive.
        progress: Whom to tell how many have.
    """

    def __init__(self, total: int, progress: Progress | None = None) -> None:
        self.arrived = 0
        self._total = total
        self._progress = progress or Silent()
        self._next_word = 0.0
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def count(self, more: int) -> None:
        """Count what has arrived."""
        self.arrived += more
        if self.arrived >= self._total and not self._done.done():
            self._done.set_result(None)

    def fail(self, error: Exception) -> None:
        """End the run: it is worth nothing."""
        if not self._done.done():
            self._done.set_exception(error)

    def hear(self, texts: list[bytes]) -> None:
        """End the run if one of these frames is an error; fit to be a listener."""
        for text in texts:
            if refusal := refusal_in(text):
                self.fail(refusal)

    def watch(self, *peers: Peer) -> None:
        """End the run if one of *peers* loses its connection."""
        for peer in peers:
            peer.watch(self.fail)

    async def wait(self, patience: float = 30.0) -> None:
        """
        Wait for the end.

        Raises:
            NoAnswerError: When nothing at all arrived for *patience* seconds.
        """
        before, since = -1, time.monotonic()
        while not self._done.done():
            await asyncio.wait([self._done], timeout=0.1)
            self._progress.reached(min(self.arrived, self._total))
            if self.arrived != before:
                before, since = self.arrived, time.monotonic()
            elif time.monotonic() - since > patience:
                raise NoAnswerError(
                    f"{self._total - self.arrived} of {self._total} have not arrived, "
                    f"and nothing came for {patience:g} s"
                )
        self._done.result()
