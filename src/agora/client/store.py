"""
What a client keeps on disk: the outbox, and the ids of what it has received.

It decides nothing about either. The rule kept here: what was told as kept is
on the disk, and outlives a kill of the process and a loss of power.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from agora.client.store_file import KeptRow, Outcome, StoreFile, StoreInUseError
from agora.envelope import Envelope, open_envelope
from agora.errors import AgoraError, ClosedError, EnvelopeError, TryAgainError
from agora.files import FilePath
from agora.group_commit import GroupCommit, nobody
from agora.keys import PeerId
from agora.sealing import now_ms

__all__ = [
    "MAX_SEEN",
    "SEEN_FOR",
    "ClientStore",
    "DamagedMessage",
    "KeptMessage",
    "NotKeptError",
    "Outcome",
    "StoreDamagedError",
    "StoreInUseError",
    "default_store_path",
]

_log = logging.getLogger("agora.client")

SEEN_FOR: Final = 1_209_600.0
"""Seconds: 14 days, a relay's freshness window and its retention, a week each."""

MAX_SEEN: Final = 1_000_000
"""Ids, in 125 MB: one message in 1.2 s for 14 days. Beyond it the oldest are forgotten."""

Told = Callable[[Exception | None], None]
"""Gets None when it is on the disk, or why it is not."""


class NotKeptError(TryAgainError):
    """The disk did not take it: nothing was kept, and the same call may succeed later."""

    code = "not_kept"


class StoreDamagedError(AgoraError):
    """What was kept is damaged, and set aside; the message says where, and how much it was."""

    code = "store_damaged"


@dataclass(frozen=True, slots=True)
class KeptMessage:
    """
    A message that was given to ``send()`` and has no final word.

    Attributes:
        number: What it is called here; messages left in the order of their numbers.
        to: The one recipient, who is among those of the envelope.
        envelope: As signed last.
        confirm: Whether the recipient's acknowledgement was asked for.
    """

    number: int
    to: str
    envelope: Envelope
    confirm: bool


@dataclass(frozen=True, slots=True)
class DamagedMessage:
    """A message that was kept and cannot be trusted any more: it is set aside, and not sent."""

    number: int
    why: str


@dataclass(eq=False, slots=True)
class _Change:
    """What was told of an id and is not on the disk yet."""

    outcome: Outcome | None


class ClientStore:
    """
    The store of one peer, for one process.

    All methods are called on one thread; what is to be written is written on
    another, one commit for all that waits, and told through *post*.

    Args:
        path: The file; made if absent, readable by its owner alone. Beside it are a
            ``.lock`` and, while it is open, SQLite's log.
        peer_id: Whose store it is.
        seen_for: Seconds that ids are kept; at least what a relay takes for fresh, and
            how long it keeps mail.
        max_seen: How many ids are kept at most; the oldest go, and what comes again
            of those comes twice.
        clock: Milliseconds since the Unix epoch.

    Attributes:
        damaged: What :meth:`outgoing` could not trust.

    Raises:
        StoreInUseError: When a process has it open already.
        ConfigurationError: When it is another peer's, was made by a newer version or
            another program, or cannot be written; the message says what to do.
    """

    def __init__(
        self,
        path: FilePath,
        *,
        peer_id: PeerId,
        seen_for: float = SEEN_FOR,
        max_seen: int = MAX_SEEN,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self.damaged: tuple[DamagedMessage, ...] = ()
        self._path = Path(path)
        self._peer_id = peer_id
        self._file = StoreFile(
            path, peer_id=peer_id, seen_for=seen_for, max_seen=max_seen, clock=clock
        )
        self._last_number = self._file.last_number()
        self._changes: dict[tuple[str, str], _Change] = {}
        self._writer: GroupCommit[StoreFile] | None = None
        self._is_closed = False

    @property
    def set_aside(self) -> Path | None:
        """Where the file is that was found damaged and replaced by an empty one; None if none."""
        return self._file.set_aside

    def damage(self) -> list[StoreDamagedError]:
        """Return what was found damaged, and where it is now; :meth:`outgoing` is asked before."""
        found = []
        if self.set_aside is not None:
            lost = self._file.lost
            what = "what was to be sent" if lost is None else f"{_messages(lost)} to be sent"
            found.append(
                f"{self._path} was damaged, and is now {self.set_aside}; lost with it: {what}, "
                "and the memory of what was received, which may come once more"
            )
        if self.damaged:
            count = _messages(len(self.damaged))
            found.append(f"damaged in {self._path}, set aside there and not sent: {count}")
        return [StoreDamagedError(text) for text in found]

    def start(self, post: Callable[[Callable[[], None]], object]) -> None:
        """
        Begin to write.

        Args:
            post: Runs a callable on our caller's thread, such as ``loop.call_soon_threadsafe``.
        """
        assert self._writer is None, "a store starts once"
        self._writer = GroupCommit(self._file, post, name="store")

    def close(self) -> None:
        """Write all that was told, and close the file. Blocks until then; twice is harmless."""
        if self._is_closed:
            return
        self._is_closed = True
        (self._writer or self._file).close()

    # The outbox

    def outgoing(self) -> list[KeptMessage]:
        """Return what waits, oldest first, for the start; what is damaged is set aside."""
        messages = []
        for row in self._file.kept():
            try:
                messages.append(self._reopened(row))
            except EnvelopeError as error:
                self._set_aside(row.number, str(error))
        return messages

    def keep(self, to: str, envelope: Envelope, confirm: bool, done: Told) -> int:
        """
        Keep a message behind all others.

        Args:
            to: The one recipient; one of the envelope's.
            envelope: What to send.
            confirm: Whether the recipient's acknowledgement is asked for.
            done: Told None when it is kept.

        Returns:
            Its number, at once.
        """
        self._last_number += 1
        number, text = self._last_number, envelope.wire_text.encode()
        self._submit(lambda file: file.put(number, to, text, confirm), done)
        return number

    def renew(self, number: int, envelope: Envelope, done: Told) -> None:
        """Keep a newly signed envelope in place of the old; after :meth:`let_go` it is nothing."""
        text = envelope.wire_text.encode()
        self._submit(lambda file: file.replace(number, text), done)

    def let_go(self, number: int) -> None:
        """
        A message is settled: keep it no longer.

        It shares the sync of what is written next, or waits a second for one. Killed
        before, we send it again, and it is known as a duplicate.
        """
        self._submit(lambda file: file.remove(number), nobody)

    def _reopened(self, row: KeptRow) -> KeptMessage:
        """Verify what was read as if a stranger had written it: disks change bits."""
        envelope = open_envelope(row.envelope if isinstance(row.envelope, bytes) else b"")
        if envelope.sender != self._peer_id:
            raise EnvelopeError("invalid_routing_fields", "signed by another key")
        if not isinstance(row.recipient, str) or row.recipient not in envelope.to:
            raise EnvelopeError("invalid_routing_fields", "kept for somebody it is not for")
        return KeptMessage(row.number, row.recipient, envelope, row.confirm)

    def _set_aside(self, number: int, why: str) -> None:
        if number in {message.number for message in self.damaged}:
            return  # told before, and its removal is under way
        self.damaged += (DamagedMessage(number, why),)
        fields = {"path": str(self._path), "number": number, "why": why}
        _log.warning("damaged message set aside", extra={"fields": fields})
        if self._writer is None:
            self._file.bury(number)
            self._file.commit()
        else:
            self._submit(lambda file: file.bury(number), nobody)

    # What was received

    def has_seen(self, sender: str, envelope_id: str) -> bool:
        """Tell whether an envelope was received before; knows what was told just now."""
        return self.outcome_of(sender, envelope_id) is not None

    def outcome_of(self, sender: str, envelope_id: str) -> Outcome | None:
        """Return what became of an envelope that was received; None of one that was not."""
        change = self._changes.get((sender, envelope_id))
        return change.outcome if change else self._file.outcome_of(sender, envelope_id)

    def saw(
        self, sender: str, envelope_id: str, done: Told, *, outcome: Outcome = "processed"
    ) -> None:
        """
        Remember an envelope; *done* is told None when it may be acked.

        Told again it is the newest, with this outcome.
        """
        self._learn(
            (sender, envelope_id),
            _Change(outcome),
            lambda file: file.remember(sender, envelope_id, outcome),
            done,
        )

    def flush(self, done: Told) -> None:
        """Have *done* told when all that was told before is committed, and its callers know."""
        self._submit(lambda file: None, done)

    def forget(self, sender: str, envelope_id: str) -> None:
        """Be as if it had never come; it may come again."""
        self._learn(
            (sender, envelope_id),
            _Change(None),
            lambda file: file.forget(sender, envelope_id),
            lambda error: None,
        )

    def _learn(
        self,
        key: tuple[str, str],
        change: _Change,
        work: Callable[[StoreFile], None],
        done: Told,
    ) -> None:
        self._submit(work, partial(self._learned, key, change, done))
        self._changes[key] = change

    def _learned(
        self, key: tuple[str, str], change: _Change, done: Told, error: Exception | None
    ) -> None:
        if self._changes.get(key) is change:  # nothing newer was told meanwhile
            del self._changes[key]
        done(error)

    def _submit(self, work: Callable[[StoreFile], None], done: Told) -> None:
        if self._is_closed:
            raise ClosedError("the store is closed: open it anew")
        assert self._writer is not None, "a store is started before it is written"
        # `nobody` itself, so that it is known to wait for nothing.
        self._writer.submit(work, done if done is nobody else partial(_tell, done))


def default_store_path(config_path: FilePath) -> Path:
    """
    Return where the store of an identity is: beside its config file.

    >>> default_store_path("agora/config.json").as_posix()
    'agora/config.outbox.sqlite3'
    """
    path = Path(config_path)
    return path.with_name(f"{path.stem}.outbox.sqlite3")


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"


def _tell(done: Told, result: Exception | None) -> None:
    """Tell an error by its remedy: whatever SQLite says of a full disk, later may be better."""
    if result is None:
        done(None)
        return
    error = NotKeptError(f"not kept on disk: {result}")
    error.__cause__ = result
    done(error)
