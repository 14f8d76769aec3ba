"""
Where mail is sorted: to whoever can have it now, or to the mailbox of those who have one.

Whoever can ack, or has a mailbox, is a Recipient while anything is under way to
it. For all others the relay hands an envelope to their connections, and knows
no more. What is given up bounces to its sender.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from agora.codes import ErrorCode, ReceiptStatus
from agora.frames import encode_delivery
from agora.keys import KeyPair, PeerId
from agora.limits import Limits
from agora.protocol.relay.actions import (
    Action,
    Bury,
    Deliver,
    Mail,
    Note,
    Receipt,
    Remove,
    SessionId,
    Settle,
    Store,
    Ticket,
)
from agora.protocol.relay.admission import ReplayWindow
from agora.protocol.relay.notary import bounce
from agora.protocol.relay.policies import MailboxPolicy
from agora.protocol.relay.recipient import Recipient
from agora.protocol.relay.refusal import Refusal, duplicate
from agora.protocol.relay.registry import Member, Registry
from agora.protocol.relay.tracing import Places

__all__ = ["Mailroom"]


class Mailroom:
    """
    All mail that is under way through one node.

    Args:
        limits: What is admitted.
        identity: The relay's own key, which signs bounces.
        registry: The open sessions.
        policy: Who has a mailbox.
        storage_peers: Peers that have one without having proven themselves.
        last_position: The highest position that any stored mail ever had.

    Attributes:
        taken: What was settled lately, or handed over, so that repeats are known.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        identity: KeyPair,
        registry: Registry,
        policy: MailboxPolicy,
        storage_peers: tuple[PeerId, ...],
        last_position: int,
    ) -> None:
        self._limits = limits
        self._identity = identity
        self._registry = registry
        self._policy = policy
        self._storage_peers = frozenset(storage_peers)
        self._last_position = last_position
        self._recipients: dict[PeerId, Recipient] = {}
        self._restless: dict[PeerId, Recipient] = {}  # those for whom something is due some time
        self._giving_up: set[int] = set()  # positions of what bounces, but is not safe to remove
        self._bounces: dict[int, _GivenUp] = {}  # by position: what they are about
        self._places = Places(_MAX_PLACES)
        self.taken = ReplayWindow(
            max_ids=limits.dedup_max_envelope_ids,
            max_age=limits.dedup_max_age,
            is_enabled=limits.dedup_enabled,
        )

    def change_limits(self, limits: Limits) -> None:
        """Go by other limits from now on."""
        self._limits = limits
        self.taken.change(
            max_ids=limits.dedup_max_envelope_ids,
            max_age=limits.dedup_max_age,
            is_enabled=limits.dedup_enabled,
        )
        for recipient in self._recipients.values():
            recipient.change_limits(limits)

    # Sessions come and go

    def join(self, member: Member, *, is_empty: bool) -> list[Action]:
        """Have a session get its peer's mail; *is_empty* if none was in the mailbox just now."""
        has_mailbox = self._has_mailbox(member.peer)
        if not (member.is_proven or has_mailbox):
            return []
        recipient = self._recipient(member.peer)
        recipient.has_mailbox = has_mailbox
        return recipient.join(member.session, can_ack=member.is_proven, is_empty=is_empty)

    def leave(self, member: Member) -> list[Action]:
        """A session has ended: what it had not settled stays in the mailbox, or goes there."""
        recipient = self._recipients.get(member.peer)
        if recipient is None:
            return []
        actions = recipient.leave(member.session)
        self._forget_idle(recipient)
        return actions

    # Mail comes

    def send(
        self, mail: Mail, ticket: Ticket | None, now: float, *, after: str | None = None
    ) -> list[Action]:
        """
        Bring *mail* to its recipient, or to the mailbox of it.

        Raises:
            Refusal: ``unknown_recipient`` when it has none and is away; ``unavailable``.
        """
        peer = PeerId(mail.recipient)
        sessions = self._registry.presence.sessions_of(peer)
        if self._has_mailbox(peer) or peer in self._recipients:
            recipient = self._recipient(peer)
            actions = recipient.offer(self._positioned(mail), ticket, now, after=after)
            self._mind(recipient)
            self._forget_idle(recipient)
            return actions
        if not sessions:
            raise Refusal(ErrorCode.UNKNOWN_RECIPIENT, f"Recipient not connected: {peer}")
        return [Deliver(sessions, encode_delivery(mail.sender, mail.text, mail.name), mail, ticket)]

    def _positioned(self, mail: Mail) -> Mail:
        self._last_position += 1
        return replace(mail, position=self._last_position)

    def handed_over(self, action: Deliver, *, was_taken: bool) -> list[Action]:
        """A delivery to sessions that cannot ack was written, or there was none to take it."""
        mail, ticket = action.mail, action.ticket
        if ticket is None:
            return []
        if was_taken:
            self.taken.add((mail.sender, mail.recipient, mail.envelope_id))
            return [Settle(ticket, Receipt(mail.envelope_id, mail.recipient, ReceiptStatus.SENT))]
        text = f"Failed to relay message: no connection of {mail.recipient} could take it"
        refusal = Refusal(ErrorCode.UNAVAILABLE, text)
        return [Settle(ticket, refusal.about(mail.envelope_id or None, mail.recipient))]

    # Repeats

    def check_follows(self, sender: str, to: str, after: str) -> None:
        """
        Refuse what would overtake the envelope *after*.

        Raises:
            Refusal: ``out_of_order`` when that was not taken, as far as is remembered.
        """
        recipient = self._recipients.get(PeerId(to))
        if recipient is not None and recipient.has_taken(after):
            return
        if self.taken.is_enabled and not self.taken.has((sender, to, after)):
            text = f"Envelope {after} was not taken for this recipient: this one would overtake it"
            raise Refusal(ErrorCode.OUT_OF_ORDER, text)

    # Mailboxes

    def _has_mailbox(self, peer: PeerId) -> bool:
        if self._policy is MailboxPolicy.NONE:
            return False
        is_open = self._policy is MailboxPolicy.PROVEN
        return peer in self._storage_peers or (is_open and peer in self._registry.pins)

    def _recipient(self, peer: PeerId) -> Recipient:
        found = self._recipients.get(peer)
        if found is None:
            found = self._recipients[peer] = Recipient(
                peer, self._limits, self.taken, has_mailbox=self._has_mailbox(peer)
            )
        return found

    def _forget_idle(self, recipient: Recipient) -> None:
        if recipient.is_idle:
            self._recipients.pop(recipient.peer, None)
            self._restless.pop(recipient.peer, None)

    def _mind(self, recipient: Recipient) -> None:
        """Have a recipient looked after at every pulse for as long as anything is due for it."""
        if recipient.due < math.inf:
            self._restless[recipient.peer] = recipient

    def stored(self, mail: Mail) -> list[Action]:
        """*mail* is committed."""
        self._places.keep(mail)
        note = Note("stored", {"id": mail.envelope_id, "from": mail.sender, "to": mail.recipient})
        actions = [note, *self._bounced(mail)]
        if recipient := self._recipients.get(PeerId(mail.recipient)):
            actions += recipient.stored(mail)
            self._forget_idle(recipient)
        return actions

    def not_stored(self, mail: Mail, error: Exception, now: float) -> list[Action]:
        """
        *mail* could not be stored.

        Only an error with a code of the table is told as it is; any other stays ours.
        """
        refusal = _why_not_stored(mail, error)
        is_there = refusal.code is ErrorCode.DUPLICATE
        actions = self._bounced(mail) if is_there else self._not_bounced(mail, now)
        if recipient := self._recipients.get(PeerId(mail.recipient)):
            actions += recipient.not_stored(mail, refusal, now)
            self._mind(recipient)
            self._forget_idle(recipient)
        return actions

    def removed(
        self,
        peer: PeerId,
        ids: Sequence[str],
        now: float,
        *,
        has_worked: bool,
        senders: Iterable[tuple[PeerId, str]] = (),
    ) -> list[Action]:
        """
        A job that was to remove what *peer* has acked has ended.

        With *senders* it says who sent what of it, and its id, where that was not known.
        """
        for sender, envelope_id in senders:
            self.taken.add((sender, peer, envelope_id))
        recipient = self._recipients.get(peer)
        if recipient is None:
            return []
        actions = recipient.removed(ids, now, has_worked=has_worked)
        self._mind(recipient)
        self._forget_idle(recipient)
        return actions

    def fetched(self, session: SessionId, page: Sequence[Mail], *, is_last: bool) -> list[Action]:
        """A page of a mailbox has come for *session*; ``is_last`` when nothing was behind it."""
        recipient = self._recipient_of(session)
        if recipient is None:
            return []
        return recipient.fetched(session, self._places.put_back(page), is_last=is_last)

    def ack(self, session: SessionId, ids: Iterable[str]) -> list[Action]:
        """The application has these messages, whichever of its sessions they went to."""
        recipient = self._recipient(self._registry[session].peer)
        actions = recipient.ack(session, ids)
        self._forget_idle(recipient)
        return actions

    def let_go(self, session: SessionId, envelope_id: str) -> list[Action]:
        """A session does not keep any more what another one of its peer has settled."""
        recipient = self._recipient_of(session)
        return recipient.let_go(session, envelope_id) if recipient else []

    def nack(
        self, session: SessionId, ids: Iterable[str], delay: float, now: float
    ) -> list[Action]:
        """The application wants these messages later."""
        recipient = self._recipient_of(session)
        if recipient is None:
            return []
        actions = recipient.nack(session, ids, delay, now)
        self._mind(recipient)
        return actions

    def confirmed(self, session: SessionId, pong_payload: bytes) -> list[Action]:
        """A WebSocket pong has come, which settles what cannot be acked."""
        recipient = self._recipient_of(session)
        return recipient.confirmed(session, pong_payload) if recipient else []

    def _recipient_of(self, session: SessionId) -> Recipient | None:
        member = self._registry.get(session)
        return self._recipients.get(member.peer) if member and member.receives else None

    # What is given up

    def expired(self, mail: Iterable[Mail], now: float, now_ms: int) -> list[Action]:
        """This mail was kept for as long as it may be: its senders are told, and it goes."""
        return [
            action
            for one in mail
            for action in self._give_up(
                one, ErrorCode.EXPIRED, Remove(PeerId(one.recipient), (one.position,)), now, now_ms
            )
        ]

    def exhausted(self, mail: Iterable[Mail], now: float, now_ms: int) -> list[Action]:
        """This mail was put off too often: its senders are told, and it is set aside."""
        return [
            action
            for one in mail
            for action in self._give_up(
                one,
                ErrorCode.UNDELIVERABLE,
                Bury(PeerId(one.recipient), (one.position,)),
                now,
                now_ms,
            )
        ]

    def _give_up(
        self, mail: Mail, code: ErrorCode, end: Remove | Bury, now: float, now_ms: int
    ) -> list[Action]:
        """Bounce *mail*, and have its *end* come when the bounce is safe: one of the two stays."""
        if mail.position in self._giving_up:
            return []
        recipient = self._recipients.get(PeerId(mail.recipient))
        wanted_at = recipient.gave_up(mail) if recipient else 0.0
        self.taken.discard((mail.sender, mail.recipient, mail.envelope_id))
        fields: dict[str, str | int | float]
        fields = {"id": mail.envelope_id, "from": mail.sender, "to": mail.recipient}
        note = Note("gave_up", {**fields, "code": str(code)})
        if mail.sender == self._identity.peer_id or not mail.envelope_id:
            return [note, end]  # a bounce never causes a bounce
        told = bounce(self._identity, mail, code, now_ms=now_ms)
        try:
            actions = self.send(told, None, now)
        except Refusal:
            return [note, Note("bounce_lost", fields), end]
        stores = [action.mail.position for action in actions if isinstance(action, Store)]
        if not stores:
            return [note, *actions, end]  # it went to a connection that cannot ack
        self._giving_up.add(mail.position)
        self._bounces[stores[-1]] = _GivenUp(mail, end, wanted_at)
        return [note, *actions]

    def _bounced(self, told: Mail) -> list[Action]:
        """If *told*, which is safe, is a bounce, return what is to become of its reason."""
        reason = self._reason_of(told)
        return [reason.end] if reason else []

    def _not_bounced(self, told: Mail, now: float) -> list[Action]:
        """If *told*, which is not safe, is a bounce, its reason is there as if nothing had been."""
        if reason := self._reason_of(told):
            mail = reason.mail
            self.taken.add((mail.sender, mail.recipient, mail.envelope_id))
            if recipient := self._recipients.get(PeerId(mail.recipient)):
                recipient.kept(mail, now, wanted_at=reason.wanted_at)
                self._mind(recipient)
        return []

    def _reason_of(self, told: Mail) -> _GivenUp | None:
        reason = self._bounces.pop(told.position, None)
        if reason:
            self._giving_up.discard(reason.mail.position)
        return reason

    # Time

    def pulse(self, now: float) -> list[Action]:
        """Let a moment pass: unacked mail is stored, what was put off comes again."""
        restless, self._restless = self._restless, {}
        actions = [action for one in restless.values() for action in one.pulse(now)]
        for recipient in restless.values():
            self._mind(recipient)
        return actions

    def tick(self, now: float) -> None:
        """Forget what no longer matters."""
        self.taken.forget_old(now)

    def put_away(self) -> list[Action]:
        """Store what is live in memory alone: the node is about to stop."""
        return [
            action
            for recipient in self._recipients.values()
            for action in recipient.put_away("the relay is stopping")
        ]


_MAX_PLACES = 10_000
"""Messages in mailboxes of which is known where in a trace they are: some 2 MB."""


class _GivenUp(NamedTuple):
    """What is given up as soon as its bounce is safe, how, and when a session wanted it again."""

    mail: Mail
    end: Remove | Bury
    wanted_at: float


def _why_not_stored(mail: Mail, error: Exception) -> Refusal:
    code = getattr(error, "code", None)
    if code == ErrorCode.DUPLICATE:
        return duplicate(mail.envelope_id, mail.recipient)
    if code == ErrorCode.MAILBOX_FULL:
        text = f"Failed to relay message: {error}"
        scope = getattr(error, "scope", None)
        refusal = Refusal(ErrorCode.MAILBOX_FULL, text, scope=scope)
    elif code == ErrorCode.OUT_OF_ORDER:
        refusal = Refusal(ErrorCode.OUT_OF_ORDER, str(error))
    else:
        text = "Failed to relay message: the mailbox cannot be written now"
        refusal = Refusal(ErrorCode.UNAVAILABLE, text)
    return refusal.about(mail.envelope_id or None, mail.recipient)
