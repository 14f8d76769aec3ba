"""
The contract of what a relay keeps: mail, acked mail, dead letters, pins. Anything that
fulfils it will do.

``agora.testing.conformance`` holds any implementation to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, Self

from agora.errors import AgoraError
from agora.keys import PeerId
from agora.limits import Limits
from agora.protocol.relay.actions import Mail

__all__ = [
    "NO_BOUNDS",
    "AlreadyStoredError",
    "DeadLetter",
    "Mailbox",
    "MailboxBounds",
    "MailboxFullError",
    "MailboxSummary",
    "OutOfOrderError",
    "Page",
    "Put",
    "Refusal",
    "Scope",
    "StoreTotals",
]

Scope = Literal["mailbox", "sender", "store"]


class MailboxFullError(AgoraError):
    """
    There is no room; nothing was stored, nothing was thrown away.

    Attributes:
        scope: Where there is none: in the recipient's ``mailbox``, in the part of it
            (or of the store) that one ``sender`` may hold, or in the whole ``store``.
    """

    code = "mailbox_full"

    def __init__(self, message: str, *, scope: Scope = "mailbox") -> None:
        super().__init__(message)
        self.scope: Scope = scope


class AlreadyStoredError(AgoraError):
    """This envelope of this sender waits for this recipient already."""

    code = "duplicate"


class OutOfOrderError(AgoraError):
    """What this message follows does not wait, so it would overtake it; nothing was stored."""

    code = "out_of_order"


Refusal = MailboxFullError | AlreadyStoredError | OutOfOrderError
"""Why mail was not put; nothing was changed by it."""


@dataclass(frozen=True, slots=True)
class Put:
    """
    Mail that is to be kept.

    Attributes:
        mail: What to keep.
        now_ms: When that is.
        is_owed: Whether room was promised to it: then no bound refuses it.
        follows: The position of a message that must wait for the same recipient
            already, or this one would overtake it; 0 for none.
    """

    mail: Mail
    now_ms: int
    is_owed: bool = False
    follows: int = 0


@dataclass(frozen=True, kw_only=True)
class MailboxBounds:
    """
    How much is kept.

    Attributes:
        max_messages: Messages one mailbox holds.
        max_bytes: Bytes of text one mailbox holds.
        sender_share: The part of either that one sender may hold, above 0 up to 1; one
            message always.
        store_bytes: Bytes of text in all mailboxes together. No sender holds more of it
            than what is still free, so that those who hold most are refused first.
        max_dead_letters: Dead letters kept in all; of more the oldest are forgotten. Their
            senders were told when they died.
        retain_messages: Acked messages of one recipient that are retained; of more the
            oldest are forgotten, as with the next two.
        retain_bytes: Bytes of their text.
        retain_store_bytes: Bytes of the text of all that is retained.
    """

    max_messages: int
    max_bytes: int
    sender_share: float = 1.0
    store_bytes: int = 2**63 - 1
    max_dead_letters: int = 10_000
    retain_messages: int = 2**53
    retain_bytes: int = 2**53
    retain_store_bytes: int = 2**63 - 1

    @classmethod
    def of(cls, limits: Limits) -> Self:
        """Return the bounds that a relay with these *limits* keeps to."""
        return cls(
            max_messages=limits.mailbox_max_messages,
            max_bytes=limits.mailbox_max_bytes,
            sender_share=limits.mailbox_sender_share,
            store_bytes=limits.store_max_bytes,
            max_dead_letters=limits.max_dead_letters,
            retain_messages=limits.retain_max_messages,
            retain_bytes=limits.retain_max_bytes,
            retain_store_bytes=limits.retain_store_max_bytes,
        )


NO_BOUNDS = MailboxBounds(max_messages=2**53, max_bytes=2**53)
"""For who takes over what was stored before, or puts nothing there."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some mail of one mailbox, oldest first; ``is_last`` when there is none behind it."""

    mail: tuple[Mail, ...]
    is_last: bool


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """
    Mail that was given up.

    Attributes:
        mail: What it was; if it is damaged, what can be read of it.
        nacks: How often it was nacked.
        died_ms: When it was given up, in milliseconds since the Unix epoch.
        is_damaged: Whether it is not what was put any more: damage of the medium.
    """

    mail: Mail
    nacks: int
    died_ms: int
    is_damaged: bool = False


@dataclass(frozen=True, slots=True)
class MailboxSummary:
    """
    What waits for one recipient, and what was given up.

    Attributes:
        recipient: Whose it is.
        messages: Messages that wait.
        bytes: Bytes of their text.
        oldest_ms: When the oldest of them was stored; 0 where none waits.
        dead_letters: Messages that were given up.
        retained: Messages that were acked and are kept all the same.
    """

    recipient: str
    messages: int
    bytes: int
    oldest_ms: int
    dead_letters: int
    retained: int = 0


@dataclass(frozen=True, slots=True)
class StoreTotals:
    """
    What all mailboxes hold together.

    Attributes:
        mailboxes: How many have mail.
        messages: Messages that wait.
        bytes: Bytes of their text.
        oldest_ms: When the oldest of them was stored; 0 where none waits.
        dead_letters: Messages that were given up.
        largest: The mailboxes with the most bytes, the largest first, without their dead
            letters and what is retained; ``oldest_ms`` is that of the message with the
            lowest position.
        retained: Messages that were acked and are kept all the same.
        retained_bytes: Bytes of their text.
    """

    mailboxes: int = 0
    messages: int = 0
    bytes: int = 0
    oldest_ms: int = 0
    dead_letters: int = 0
    largest: tuple[MailboxSummary, ...] = ()
    retained: int = 0
    retained_bytes: int = 0


class Mailbox(Protocol):
    """
    Mail by recipient, in the order of its positions.

    One thread at a time uses it. Changes are visible to later calls at once and
    safe from a crash when :meth:`commit` has returned; :meth:`rollback` undoes
    those since the last commit. Moments are milliseconds since the Unix epoch.

    Mail is returned as it was put, but for its ``traceparent``, or not at all: what a
    medium has damaged is set aside as a dead letter when that is noticed, at the latest
    when it would be returned, and logged as an error with its id.
    """

    # Mail

    def last_position(self) -> int:
        """Return the highest position that any mail ever had; 0 before the first."""
        ...

    def put(self, mail: Mail, *, now_ms: int, is_owed: bool = False, follows: int = 0) -> None:
        """
        Keep *mail* at its position, which no mail had before; it need not be the highest.

        The arguments are those of a :class:`Put`.

        Raises:
            AlreadyStoredError: When the same (sender, recipient, id) waits already, or is
                retained, also in a full mailbox: a repeat needs no room, and overtakes nothing.
            OutOfOrderError: When what it follows does not wait, also if it is owed.
            MailboxFullError: When a bound would be passed.
        """
        ...

    def put_many(self, puts: Sequence[Put]) -> list[Refusal | None]:
        """
        Do what :meth:`put` does for each in turn, at less cost.

        Returns:
            For each why it was refused, or None where it is kept. After any exception
            only :meth:`rollback` helps, or :meth:`close`.
        """
        ...

    def page(self, recipient: str, *, after: int, max_messages: int, max_bytes: int) -> Page:
        """
        Return the mail of *recipient* with the lowest positions above *after*.

        At most *max_messages*, and *max_bytes* of text unless the first message
        alone is longer: a page is only empty when nothing waits.
        """
        ...

    def remove(
        self, recipient: str, positions: Iterable[int], *, acked_ms: int | None = None
    ) -> None:
        """
        Take messages out; positions that are not there change nothing.

        With *acked_ms* they are retained, as :meth:`retain` does.
        """
        ...

    def remove_ids(
        self, recipient: str, ids: Iterable[str], *, acked_ms: int | None = None
    ) -> None:
        """Take messages out by envelope id, of any sender; as :meth:`remove` else."""
        ...

    def senders_of(self, recipient: str, ids: Iterable[str]) -> tuple[tuple[PeerId, str], ...]:
        """Return who sent these messages, each with its envelope id; unknown ids are left out."""
        ...

    def count(self, recipient: str) -> tuple[int, int]:
        """Return how many messages and bytes wait for *recipient*."""
        ...

    # What is given up

    def nack(self, recipient: str, ids: Iterable[str], *, max_nacks: int) -> tuple[Mail, ...]:
        """
        Count one more nack for each message, by envelope id; unknown ids change nothing.

        Returns:
            Those of them that have *max_nacks* now, or had before, by position: they are to
            be given up. They still wait, so that a crash before :meth:`bury` loses no bounce.
        """
        ...

    def bury(self, recipient: str, positions: Iterable[int], *, now_ms: int) -> None:
        """
        Set messages aside as dead letters, outside of every bound.

        Positions that are not there change nothing.
        """
        ...

    def expired(self, *, before_ms: int, max_messages: int) -> tuple[Mail, ...]:
        """
        Return mail that was stored before *before_ms*, the oldest first; it still waits.

        Of mail that was stored in one moment that with the lower position counts as older.
        """
        ...

    def forget_dead_letters(self, *, before_ms: int) -> int:
        """Remove dead letters that died before *before_ms*; return how many."""
        ...

    # What was acked, and is kept all the same

    def retain(self, mail: Iterable[Mail], *, acked_ms: int) -> None:
        """
        Keep *mail* that was acked at a moment, outside of every mailbox.

        It gets places of its own, in this order, behind all before it: their moments never
        go back, though the clock may. What is retained already is not a second time. Of
        what is more than the bounds allow, the oldest is forgotten at once.
        """
        ...

    def retained(
        self, recipient: str, *, since_ms: int, after: int, max_messages: int, max_bytes: int
    ) -> Page:
        """
        Return what is retained of *recipient*, acked at *since_ms* or later, the oldest first.

        Its ``position`` is its place among all that is retained, which is above *after*; its
        ``stored_ms`` is when it was acked. The page ends as that of :meth:`page`.
        """
        ...

    def forget_retained(self, *, before_ms: int, now_ms: int, max_messages: int) -> int:
        """
        Forget what was acked before *before_ms*, the oldest first; return how many.

        What says to be acked behind *now_ms*, as the clock was wrong, counts as acked now.
        """
        ...

    # Pins: the keys that have proven themselves here

    def pin(self, peer: PeerId, *, now_ms: int) -> None:
        """Remember that *peer* has proven itself; doing it twice is harmless."""
        ...

    def unpin(self, peer: PeerId) -> bool:
        """Forget it; return whether it was known."""
        ...

    def pins(self) -> tuple[PeerId, ...]:
        """Return all pins, in the order of their letters."""
        ...

    # For the operator

    def summaries(self) -> tuple[MailboxSummary, ...]:
        """Return what is kept of each recipient of whom anything is, by recipient."""
        ...

    def totals(self, *, largest: int) -> StoreTotals:
        """
        Return what is kept all in all, and of the *largest* so many mailboxes what they hold.

        It costs little however much mail there is; something for every recipient and sender.
        """
        ...

    def dead_letters(self, recipient: str | None = None) -> tuple[DeadLetter, ...]:
        """Return the dead letters of one recipient, or of all, the first that died first."""
        ...

    def purge(self, recipient: str, *, dead_letters_only: bool = False) -> int:
        """
        Remove all mail of a recipient, what is retained and dead letters, or these alone.

        Returns:
            How many messages that were.
        """
        ...

    # Safety

    def change_bounds(self, bounds: MailboxBounds) -> None:
        """Go by other bounds from now on; what is kept beyond them stays. Nothing to commit."""
        ...

    def has_changed(self) -> bool:
        """Tell whether another process has changed something since the last call."""
        ...

    def touch(self) -> None:
        """Write what changes nothing, so that the next commit shows whether the disk takes it."""
        ...

    def commit(self) -> bool:
        """
        Make all changes safe from a crash of the process and of the machine.

        Returns:
            Whether there were any.
        """
        ...

    def rollback(self) -> None:
        """Undo all changes since the last commit."""
        ...

    def close(self) -> None:
        """Let go of what it holds; what was not committed is undone."""
        ...
