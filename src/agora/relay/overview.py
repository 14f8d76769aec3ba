"""
What an operator sees of a running relay: whether it works, and what there is at this moment.

Most of it is counted anyway (:mod:`agora.relay.metrics`); here that is put together with
what is looked up when somebody asks. Who asks often gets the same answer for a moment, so
that to look costs the relay little, whoever looks.
"""

from __future__ import annotations

import asyncio
import math
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import agora
from agora.build import is_compiled
from agora.keys import PeerId
from agora.limits import Limits
from agora.mailbox import Mailbox, StoreTotals
from agora.relay.metrics import HISTORY_STEP, History, Metrics, Rates, Sample
from agora.relay.node import Node
from agora.relay.writer import Writer, wait_done
from agora.sealing import now_ms

__all__ = ["Look", "Overview", "Reason", "Waiting"]

_Value = TypeVar("_Value")


class Waiting(Protocol):
    """Whatever verifies signatures."""

    @property
    def waiting(self) -> int:
        """How many wait to be verified."""
        ...


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a relay is not ready: a stable code, and words for people."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Look:
    """
    What there is at a moment that no counter tells.

    Attributes:
        connections: Open connections by the door through which they came.
        sessions: Registered sessions, by the dialect they speak.
        peers_online: Peers that have a session which gets mail.
        pins: Keys that have proven themselves here.
        store: What the mailboxes hold; None where they could not be read.
        storing_bytes: Bytes of mail that wait for the disk.
        verifying: Signatures that wait to be verified.
        disk_free_bytes: Bytes free where the mailboxes are; None where they are in memory.
        is_draining: Whether it takes nothing more.
        now_ms: When it was looked at.
    """

    connections: Mapping[str, int]
    sessions: Mapping[str, int]
    peers_online: int
    pins: int
    store: StoreTotals | None
    storing_bytes: int
    verifying: int
    disk_free_bytes: int | None
    is_draining: bool
    now_ms: int


class Overview:
    """
    The view of one relay.

    Args:
        node: Its node.
        metrics: What it counts.
        writer: Its mailboxes.
        verifier: What verifies for it.
        limits: What it admits.
        relay: Its own peer id.
        data_dir: Where its mailboxes are; None where they are in memory.
        is_listening: Tells whether connections can come in.

    Attributes:
        metrics: As given.
        limits: As given.
        started_ms: When it was made, in milliseconds since the Unix epoch.
    """

    def __init__(
        self,
        node: Node,
        metrics: Metrics,
        *,
        writer: Writer,
        verifier: Waiting,
        limits: Limits,
        relay: PeerId,
        data_dir: Path | None,
        is_listening: Callable[[], bool],
    ) -> None:
        self.metrics = metrics
        self.limits = limits
        self.started_ms = now_ms()
        self._node = node
        self._writer = writer
        self._verifier = verifier
        self._relay = relay
        self._data_dir = data_dir
        self._is_listening = is_listening
        self._history = History(self.started_ms)
        self._rates = Rates()
        self._store = _Kept(self._look_into_store, _LOOK_AGAIN_AFTER)
        self._disk = _Kept(self._why_disk_refuses, _LOOK_AGAIN_AFTER)

    @property
    def counts(self) -> Mapping[str, int]:
        """How often each kind of event happened."""
        return self._node.counts

    @property
    def outcomes(self) -> Mapping[str, int]:
        """What senders were told of their messages."""
        return self._node.outcomes.to_dict()

    def tick(self) -> None:
        """Take down the traffic; to be called about once a second."""
        sample = self._sample()
        self._history.take(sample, now_ms())
        self._rates.take(sample, time.monotonic())

    # Whether it works

    async def why_not_ready(self) -> list[Reason]:
        """Return why nobody should be sent here now; nothing where all is well."""
        reasons = []
        if not self._is_listening():
            reasons.append(Reason("not_listening", "it does not accept connections"))
        if self._node.is_draining:
            reasons.append(Reason("draining", "it is stopping and takes nothing more"))
        elif refusal := await self._disk.value():
            reasons.append(Reason("disk", refusal))
        return reasons

    async def _why_disk_refuses(self) -> str:
        """Return why the last commit failed; where none was made lately, make one to see."""
        commits = self.metrics.commits
        is_fresh = commits.worked_at and time.perf_counter() - commits.worked_at < _FRESH
        if is_fresh and not commits.failure:
            return ""
        try:
            async with asyncio.timeout(_DISK_TIMEOUT):
                result = await wait_done(self._writer, lambda mailbox: mailbox.touch())
        except TimeoutError:
            return f"the disk has not answered for {_DISK_TIMEOUT:g} s"
        failed = isinstance(result, Exception)
        return f"the mailbox cannot be written: {result}" if failed else ""

    # What there is

    async def look(self) -> Look:
        """Return what there is now."""
        store, disk_free_bytes = await self._store.value()
        registry = self._node.registry
        return Look(
            connections={door: self.metrics.tally.doors[door] for door in ("websocket", "http")},
            sessions={
                "agora/1": len(registry) - registry.unproven,
                "reference": registry.unproven,
            },
            peers_online=len(registry.presence),
            pins=len(registry.pins),
            store=store,
            storing_bytes=self._node.storing_bytes,
            verifying=self._verifier.waiting,
            disk_free_bytes=disk_free_bytes,
            is_draining=self._node.is_draining,
            now_ms=now_ms(),
        )

    async def to_dict(self) -> dict[str, object]:
        """Return all that an operator sees, as JSON has it."""
        look, sample = await self.look(), self._sample()
        return {
            "relay": self._relay,
            "version": agora.__version__,
            "core": "compiled" if is_compiled() else "pure",
            "now": look.now_ms,
            "startedAt": self.started_ms,
            "connections": len(self._node),
            "sessions": sum(look.sessions.values()),
            "peersOnline": look.peers_online,
            "rates": self._rates.until(sample, time.monotonic()),
            "totals": {
                "messages": self._node.outcomes.to_dict(),
                "errors": dict(self.metrics.tally.errors),
            },
            "history": self._history_members(),
            "mailboxes": _store_members(look.store),
            "peers": [
                {
                    "publicKey": peer.peer,
                    "name": peer.name,
                    "sessions": peer.sessions,
                    "door": peer.door,
                    "since": peer.since_ms,
                }
                for peer in self._node.peers_online(_MAX_PEERS)
            ],
            "recentErrors": [
                {
                    "at": one.at_ms,
                    "code": one.code,
                    "peer": one.peer or None,
                    "session": one.session,
                }
                for one in self.metrics.tally.recent_errors
            ],
        }

    def _history_members(self) -> dict[str, object]:
        steps = self._history.steps
        return {
            "step": HISTORY_STEP,
            "until": self._history.until_ms,
            "messages": [step.messages for step in steps],
            "errors": [step.errors for step in steps],
            "stored": [step.stored for step in steps],
            "peers": [step.peers for step in steps],
        }

    def _sample(self) -> Sample:
        counts = self._node.counts
        doors = (self.metrics.websocket, self.metrics.http)
        return Sample(
            messages=counts["message"] + counts["broadcast"],
            errors=counts["refused"],
            stored=self._node.outcomes.stored,
            bytes=sum(door.received + door.sent for door in doors),
            peers=len(self._node.registry.presence),
        )

    # The disk

    async def _look_into_store(self) -> tuple[StoreTotals | None, int | None]:
        def totals(mailbox: Mailbox) -> tuple[StoreTotals, int | None]:
            return mailbox.totals(largest=_MAX_MAILBOXES), _free_bytes(self._data_dir)

        try:
            async with asyncio.timeout(_DISK_TIMEOUT):
                found = await wait_done(self._writer, totals)
        except TimeoutError:
            return None, None
        # What is counted is told all the same.
        return (None, None) if isinstance(found, Exception) else found


def _store_members(store: StoreTotals | None) -> dict[str, object] | None:
    if store is None:
        return None
    return {
        "count": store.mailboxes,
        "messages": store.messages,
        "bytes": store.bytes,
        "oldestMs": store.oldest_ms,
        "deadLetters": store.dead_letters,
        "largest": [
            {
                "peer": one.recipient,
                "messages": one.messages,
                "bytes": one.bytes,
                "oldestMs": one.oldest_ms,
            }
            for one in store.largest
        ],
    }


def _free_bytes(folder: Path | None) -> int | None:
    return None if folder is None else shutil.disk_usage(folder).free


class _Kept(Generic[_Value]):
    """
    An answer that is good for a while; who asks meanwhile gets it, or waits for the same one.

    Args:
        find: Finds the answer.
        seconds: For how long it is good.
    """

    def __init__(self, find: Callable[[], Awaitable[_Value]], seconds: float) -> None:
        self._find = find
        self._seconds = seconds
        self._until = -math.inf
        self._finding = asyncio.Lock()

    async def value(self) -> _Value:
        """Return the answer."""
        async with self._finding:
            if time.monotonic() >= self._until:
                self._value = await self._find()
                self._until = time.monotonic() + self._seconds
        return self._value


_MAX_PEERS = 200
"""Peers that are shown one by one."""

_MAX_MAILBOXES = 20
"""Mailboxes that are shown one by one: the largest."""

_LOOK_AGAIN_AFTER = 1.0
"""Seconds for which an answer of the disk is good, so that no crowd of onlookers keeps it busy."""

_FRESH = 10.0
"""Seconds for which a commit that worked tells that the disk does."""

_DISK_TIMEOUT = 2.0
"""Seconds in which a disk that works has answered; who asks for health waits no longer."""
