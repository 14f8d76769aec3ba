"""
The heart of a node: an envelope comes from one session and goes where it belongs.

::

    Submit ──admit──► Parcel ──┬─► a peer with a mailbox, or that acks    Recipient
                               ├─► open sessions that can do neither      Deliver
                               ├─► the relay itself (peer list)           Send
                               └─► nobody: "unknown_recipient"            Refusal

One router serves all sessions of a node. It knows no sockets, no disk and no
clock: what it decides comes back as actions, what they led to is told to it.
What becomes of an envelope for one recipient is said exactly once to each
session that submitted it, by a Settle for its ticket.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from agora.codes import CloseCode, ErrorCode, ReceiptStatus
from agora.envelope import EVERYONE, Envelope
from agora.frames import Register, Submit, encode_delivery
from agora.keys import KeyPair, PeerId
from agora.limits import Limits
from agora.protocol.relay.actions import (
    Action,
    Close,
    Mail,
    Note,
    Receipt,
    Send,
    SessionId,
    Settle,
    Ticket,
)
from agora.protocol.relay.admission import (
    Parcel,
    Remembered,
    admit,
    check_freshness,
    is_worth_verifying,
)
from agora.protocol.relay.budgets import Budgets
from agora.protocol.relay.mailroom import Mailroom
from agora.protocol.relay.notary import peer_list_response
from agora.protocol.relay.outcomes import Outcomes
from agora.protocol.relay.pins import Pins
from agora.protocol.relay.policies import (
    EnvelopePolicy,
    MailboxPolicy,
    ProofPolicy,
    VerifyPolicy,
)
from agora.protocol.relay.refusal import Refusal, duplicate
from agora.protocol.relay.registry import Member, Registry
from agora.protocol.relay.tracing import Trace, Tracer
from agora.sealed import PlainSealed, Sealed

__all__ = ["Router", "RouterConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterConfig:
    """
    What a router starts with.

    Attributes:
        identity: The relay's own key, which signs its answers and bounces.
        envelopes: Which envelopes are taken.
        proof: Who may register.
        mailboxes: Who has a mailbox.
        verify: Whose signatures are verified.
        storage_peers: Peers that have one without having proven themselves.
        pins: The keys that have proven themselves here before.
        last_position: The highest position that any stored mail ever had.
        taken: What was known as taken when the relay stopped; None where that is not known.
        wall_ms: Milliseconds since the Unix epoch at moment 0 of ``now``.
    """

    identity: KeyPair
    envelopes: EnvelopePolicy = EnvelopePolicy.STRICT
    proof: ProofPolicy = ProofPolicy.OPTIONAL
    mailboxes: MailboxPolicy = MailboxPolicy.PROVEN
    verify: VerifyPolicy = VerifyPolicy.EVERY
    storage_peers: tuple[PeerId, ...] = ()
    pins: tuple[PeerId, ...] = ()
    last_position: int = 0
    taken: Remembered | None = None
    wall_ms: int = 0


class Router:
    """
    Routes between the registered sessions of one node.

    Methods that take something from a session raise :class:`Refusal` when they
    do not take it; then nothing has changed.

    Args:
        limits: What is admitted.
        config: What it starts with.
        tracer: Who makes spans of what it does; None where nobody does.

    Attributes:
        tracer: As given.
        outcomes: What senders were told.
        identity: The relay's own key.
        pins: The keys that have proven themselves here.
        registry: The open sessions.
        mailroom: What is under way to their peers, and to those away.
    """

    def __init__(
        self, limits: Limits, config: RouterConfig, *, tracer: Tracer | None = None
    ) -> None:
        self.tracer = tracer
        self.outcomes = Outcomes()
        self.identity = config.identity
        self._own = config.identity.peer_id
        self.pins = Pins(limits, config.pins)
        self._limits = limits
        self._envelopes = config.envelopes
        self._verify = config.verify
        self._wall_ms = config.wall_ms
        self._budgets = Budgets(limits)
        self.registry = Registry(
            limits,
            relay=config.identity.peer_id,
            proof=config.proof,
            storage_peers=config.storage_peers,
            pins=self.pins,
            budgets=self._budgets,
        )
        self.mailroom = Mailroom(
            limits,
            identity=config.identity,
            registry=self.registry,
            policy=config.mailboxes,
            storage_peers=config.storage_peers,
            last_position=config.last_position,
        )

    def change_limits(self, limits: Limits) -> None:
        """Go by other limits from now on; sessions are told by whoever has them."""
        self._limits = limits
        self._budgets.change_limits(limits)
        self.pins.change_limits(limits)
        self.registry.change_limits(limits)
        self.mailroom.change_limits(limits)

    def wall_ms(self, now: float) -> int:
        """Return the time of day, in milliseconds since the Unix epoch."""
        return self._wall_ms + int(now * 1000)

    # Sessions come and go

    def join(
        self,
        session: SessionId,
        register: Register,
        *,
        address: str,
        pending: int | None = 0,
        now: float,
    ) -> list[Action]:
        """
        Open a session: it is told whom it can reach, and gets its mail.

        It has proven its key if its registration has a nonce; *pending* messages
        wait for it then, None where nobody has counted them.

        Raises:
            Refusal: ``proof_required`` or ``at_capacity``, as things are now.
        """
        peer, is_proven = register.public_key, register.nonce is not None
        self.registry.check_room(register)
        actions = self._close_unproven(peer, now) if is_proven else []
        member = Member(session, peer, register.name, address, is_proven, register.receives)
        actions += self.registry.join(
            member, register.watched, pending=pending, now=now, now_ms=self.wall_ms(now)
        )
        if member.receives:
            actions += self.mailroom.join(member, is_empty=is_proven and pending == 0)
        return actions

    def _close_unproven(self, peer: PeerId, now: float) -> list[Action]:
        """Let go of those who spoke for a key that now has proven itself: they may be anyone."""
        unproven = self.registry.unproven_sessions_of(peer)
        refusal = Refusal(ErrorCode.PROOF_REQUIRED, "This key has proven itself in another session")
        told: list[Action] = [Send(unproven, refusal.to_frame())] if unproven else []
        # The member goes now, not when the connection does: it must not see one message more.
        left = [action for session in unproven for action in self.leave(session, now)]
        return told + [Close(one, CloseCode.PROOF_REQUIRED) for one in unproven] + left

    def leave(self, session: SessionId, now: float) -> list[Action]:
        """Close a session; what it had not settled stays in its mailbox, or goes there."""
        member = self.registry.get(session)
        if member is None:
            return []
        mail = self.mailroom.leave(member) if member.receives else []
        return mail + self.registry.leave(session, now)

    # Envelopes come in

    def look_at(
        self,
        session: SessionId,
        envelope: Sealed,
        recipients: tuple[str, ...],
        now: float,
        *,
        ahead: int,
    ) -> PlainSealed | None:
        """
        Look at what costs little: how much may come in, and how old the envelope is.

        Args:
            session: Who sends it.
            envelope: What is sent.
            recipients: To whom; none for a broadcast.
            now: The time.
            ahead: What its messages cost that were looked at and are not taken yet.

        Returns:
            The envelope, if it should be verified before it is taken.

        Raises:
            Refusal: With one of the codes of :mod:`agora.codes`.
        """
        member = self.registry[session]
        cost = self._asked_cost(recipients) + ahead
        has_room = self._budgets.has_messages(member.peer, member.address, cost, now)
        if not has_room:  # else it may come in whatever becomes of those ahead of it
            self._check_rate(member, recipients, now)
        if member.is_proven:
            check_freshness(
                envelope,
                now_ms=self.wall_ms(now),
                past=self._limits.freshness_past,
                future=self._limits.freshness_future,
            )
        if (
            has_room
            and self._verifies(member)
            and is_worth_verifying(envelope, sender=member.peer, recipients=recipients)
        ):
            return envelope
        return None

    def submit(
        self,
        session: SessionId,
        request: Submit,
        tickets: Mapping[str, Ticket],
        now: float,
        trace: Trace | None = None,
    ) -> list[Action]:
        """
        Take an envelope that was looked at for one or more recipients, each with its ticket.

        Args:
            session: Who sends it.
            request: What is sent.
            tickets: To whom, each with the ticket by which it is answered.
            now: The time.
            trace: Where spans of it are made; None where none are.

        Raises:
            Refusal: When none of them gets it: with one of the codes of :mod:`agora.codes`.
        """
        member = self.registry[session]
        parcel = self._admit(member, request.envelope, request.to, now)
        # To ask again whether something arrived costs nothing: it is the cheap way to be sure.
        new = [to for to in tickets if not self._is_repeat(parcel, to)]
        self._spend(member, self._cost_of(new), now)
        actions = self.registry.catch_up(tickets)  # of the sender's coming, before it is heard
        for to, ticket in tickets.items():
            try:
                if to not in new:
                    raise duplicate(parcel.envelope_id, to)
                actions += self._route(member, parcel, to, ticket, request, now, trace)
            except Refusal as refusal:
                actions.append(Settle(ticket, refusal.about(parcel.envelope_id or None, to)))
        return actions

    def broadcast(
        self, session: SessionId, envelope: Sealed, ticket: Ticket, now: float
    ) -> list[Action]:
        """
        Take an envelope that was looked at for everyone else online; it is never stored.

        Raises:
            Refusal: With one of the codes of :mod:`agora.codes`.
        """
        member = self.registry[session]
        parcel = self._admit(member, envelope, (), now)
        if self._is_repeat(parcel, EVERYONE):
            known_id = parcel.envelope_id
            return [Settle(ticket, duplicate(known_id, EVERYONE).about(known_id, None))]
        self._spend(member, self._limits.broadcast_cost, now)
        self.mailroom.taken.add((parcel.sender, EVERYONE, parcel.envelope_id))
        text = encode_delivery(member.peer, parcel.text, self.registry.name_of(member))
        others = self.registry.presence.sessions_of_others(member.peer)
        receipt = Receipt(parcel.envelope_id, EVERYONE, ReceiptStatus.SENT, len(others))
        note = Note(
            "broadcast", {"id": parcel.envelope_id, "from": member.peer, "count": len(others)}
        )
        caught_up = self.registry.catch_up_all()
        return [*caught_up, Send(others, text), Settle(ticket, receipt), note]

    def _check_rate(self, member: Member, recipients: tuple[str, ...], now: float) -> None:
        """Refuse what may not come in now."""
        cost = self._asked_cost(recipients)
        self._budgets.check_messages(member.peer, member.address, cost, now)

    def _asked_cost(self, recipients: tuple[str, ...]) -> int:
        """Return what is to be paid for all recipients that are asked for; a broadcast has none."""
        return self._cost_of(recipients) if recipients else self._limits.broadcast_cost

    def _admit(
        self, member: Member, envelope: Sealed, recipients: tuple[str, ...], now: float
    ) -> Parcel:
        self._check_rate(member, recipients, now)  # others may have sent since it was looked at
        parcel = admit(
            envelope,
            sender=member.peer,
            recipients=recipients,
            policy=self._envelopes,
            signature=self._verifies(member),
        )
        self._check_size(parcel)
        self.registry.presence.saw(member.peer, now)
        return parcel

    def _verifies(self, member: Member) -> bool:
        return self._verify is VerifyPolicy.EVERY or not member.is_proven

    def _is_repeat(self, parcel: Parcel, to: str) -> bool:
        return self.mailroom.taken.has((parcel.sender, to, parcel.envelope_id))

    def _spend(self, member: Member, cost: int, now: float) -> None:
        self._budgets.spend_messages(member.peer, member.address, cost, now)

    def _cost_of(self, recipients: Collection[str]) -> int:
        # The relay's own answer tells of everyone too.
        more = self._limits.broadcast_cost - 1 if self._own in recipients else 0
        return len(recipients) + more

    def _check_size(self, parcel: Parcel) -> None:
        # In canonical form 9e20 has 21 digits: what came in small may be too large to go out.
        if len(parcel.text) > self._limits.max_frame_bytes:
            raise Refusal(
                ErrorCode.TOO_LARGE,
                f"envelope of {len(parcel.text)} bytes in canonical form exceeds max_frame_bytes "
                f"of {self._limits.max_frame_bytes}",
            )

    def _route(
        self,
        member: Member,
        parcel: Parcel,
        to: str,
        ticket: Ticket,
        request: Submit,
        now: float,
        trace: Trace | None,
    ) -> list[Action]:
        if request.after is not None:
            self.mailroom.check_follows(parcel.sender, to, request.after)
        asked = parcel.open() if to == self._own else None
        if asked and asked.type == "peer_list_request":
            return self._answer_peer_list(member, asked, ticket, now)
        mail = Mail(
            to,
            member.peer,
            parcel.envelope_id,
            parcel.text,
            self.registry.name_of(member),
            confirm=request.confirm,
            traceparent=request.traceparent if trace is None else trace.send_on(to, ticket),
        )
        actions = self.mailroom.send(mail, ticket, now, after=request.after)
        actions.append(Note("message", {"id": mail.envelope_id, "from": mail.sender, "to": to}))
        return actions

    def _answer_peer_list(
        self, member: Member, request: Envelope, ticket: Ticket, now: float
    ) -> list[Action]:
        others = self.registry.presence.others(member.peer)
        answer = peer_list_response(
            self.identity, request, others, now=now, now_ms=self.wall_ms(now)
        )
        receipt = Receipt(request.id, self.identity.peer_id, ReceiptStatus.DELIVERED)
        text = encode_delivery(answer.sender, answer.text, None)
        return [Settle(ticket, receipt), Send((member.session,), text)]

    def count_unheard(self, outcome: Receipt | Refusal) -> None:
        """Count what a sender is not told, who has gone."""
        if isinstance(outcome, Receipt):
            self.outcomes.add(outcome.status, is_of_repeat=outcome.is_of_repeat)
        elif outcome.code is ErrorCode.DUPLICATE:
            self.outcomes.duplicate += 1
        else:
            self.outcomes.refused += 1

    # Time

    def tick(self, now: float, wall_ms: int) -> None:
        """Set the clock by the time of day, and forget what no longer matters."""
        self._wall_ms = wall_ms - int(now * 1000)
        self._budgets.forget_full(now)
        self.mailroom.tick(now)
        self.pins.tick(now)

    def pulse(self, now: float) -> list[Action]:
        """Let a moment pass: gathered presence goes out, unacked mail is stored."""
        return [*self.registry.pulse(now), *self.mailroom.pulse(now)]
