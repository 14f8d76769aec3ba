"""
The sessions that are open: who they speak for, who is online by them, who is told.

One peer may have many sessions. All that are open for a key that has proven
itself here are proven: the others are turned away, or end at the first proof.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agora.codes import ErrorCode
from agora.frames import (
    AnnouncedLimits,
    ListedPeer,
    Register,
    Watched,
    agora_members,
    encode_presence,
    encode_presence_changes,
    encode_registered,
    peer_entries,
)
from agora.keys import PeerId
from agora.limits import Limits
from agora.protocol.relay.actions import Action, Note, Send, SessionId
from agora.protocol.relay.announcements import Announcements
from agora.protocol.relay.budgets import Budgets
from agora.protocol.relay.pins import Pins
from agora.protocol.relay.policies import ProofPolicy
from agora.protocol.relay.presence import Presence
from agora.protocol.relay.refusal import Refusal
from agora.protocol.relay.watchers import Watchers

__all__ = ["Member", "Registry"]


@dataclass(frozen=True, slots=True)
class Member:
    """
    A session that is open.

    Attributes:
        session: Its id.
        peer: Whom it speaks for.
        name: The display name it claims.
        address: Where it comes from, by which rates are counted.
        is_proven: Whether it has proven its key, and speaks Agora/1.
        receives: Whether it gets mail, and is announced.
    """

    session: SessionId
    peer: PeerId
    name: str | None
    address: str
    is_proven: bool
    receives: bool


class Registry:
    """
    The open sessions of one node.

    Args:
        limits: What is admitted.
        relay: The relay's own peer id.
        proof: Who may register.
        storage_peers: Peers that are always listed.
        pins: The keys that have proven themselves here.
        budgets: How many may join.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        relay: PeerId,
        proof: ProofPolicy,
        storage_peers: tuple[PeerId, ...],
        pins: Pins,
        budgets: Budgets,
    ) -> None:
        self.pins = pins
        self.presence = Presence(storage_peers)
        self._limits = limits
        self._relay = relay
        self._proof = proof
        self._storage_peers = frozenset(storage_peers)
        self._budgets = budgets
        self._members: dict[SessionId, Member] = {}
        self._unproven = 0
        self._announced_limits = _announced(limits)
        self._watchers = Watchers(limits.presence_interval, self.presence.find)
        self._announcements = Announcements(limits.presence_interval)

    def change_limits(self, limits: Limits) -> None:
        """Go by other limits from now on; who is here stays."""
        self._limits = limits
        self._announced_limits = _announced(limits)
        self._watchers.change_interval(limits.presence_interval)
        self._announcements.change_interval(limits.presence_interval)

    def __len__(self) -> int:
        return len(self._members)

    @property
    def unproven(self) -> int:
        """How many of them speak the reference dialect, in which nothing is proven."""
        return self._unproven

    def __getitem__(self, session: SessionId) -> Member:
        return self._members[session]

    def get(self, session: SessionId) -> Member | None:
        """Return an open session; None when it is not."""
        return self._members.get(session)

    def name_of(self, member: Member) -> str | None:
        """Return the display name under which a session's peer is known."""
        return self.presence.name_of(member.peer) or member.name

    # Coming

    def check_join(self, register: Register, address: str, now: float) -> None:
        """
        Refuse a registration that cannot come to anything, before anything is done for it.

        Raises:
            Refusal: ``proof_required``, ``rate_limited`` or ``at_capacity``.
        """
        self._budgets.spend_join(address, now)
        self.check_room(register)

    def check_room(self, register: Register) -> None:
        """
        Refuse a session that would be one too many, or that had to prove its key.

        Raises:
            Refusal: ``proof_required`` or ``at_capacity``.
        """
        peer, is_proven = register.public_key, register.nonce is not None
        if not is_proven:
            self._check_may_do_without_proof(peer)
        if not register.receives:
            return
        if peer not in self.presence and len(self.presence) >= self._limits.max_peers:
            raise _at_capacity(f"{self._limits.max_peers} peers")
        sessions = self.presence.sessions_of(peer)
        if is_proven:
            # Those that prove nothing end when this one is proven: they keep nobody out.
            sessions = tuple(one for one in sessions if self._members[one].is_proven)
        if len(sessions) >= self._limits.max_sessions:
            raise _at_capacity(f"{self._limits.max_sessions} sessions of one peer")

    def _check_may_do_without_proof(self, peer: PeerId) -> None:
        if self._proof is ProofPolicy.REQUIRED:
            raise Refusal(ErrorCode.PROOF_REQUIRED, "This relay registers proven keys only")
        if peer == self._relay:
            raise Refusal(ErrorCode.PROOF_REQUIRED, "This key is the relay's own")
        if peer in self.pins:
            raise Refusal(
                ErrorCode.PROOF_REQUIRED, "This key has proven itself here: register with proof"
            )

    def join(
        self, member: Member, watched: Watched, pending: int | None, now_ms: int, now: float
    ) -> list[Action]:
        """Open a session: it is told whom it can reach, the others that its peer came."""
        self._members[member.session] = member
        self._unproven += not member.is_proven
        text = self._registered(member, watched, pending, now_ms)
        note = Note(
            "registered",
            {"session": member.session, "peer": member.peer, "proven": int(member.is_proven)},
        )
        actions: list[Action] = [Send((member.session,), text), note]
        if member.receives:
            actions += self._come_online(member, now)
        # Behind that, so that nobody hears of its own coming.
        if member.is_proven:
            self._watchers.watch(member.session, member.peer, watched)
        else:
            self._announcements.listen(member.session)
        return actions

    def unproven_sessions_of(self, peer: PeerId) -> tuple[SessionId, ...]:
        """Return the sessions that speak for a key without having proven it."""
        sessions = self.presence.sessions_of(peer)
        return tuple(one for one in sessions if not self._members[one].is_proven)

    def _registered(
        self, member: Member, watched: Watched, pending: int | None, now_ms: int
    ) -> str:
        peer, session = member.peer, member.session
        if not member.is_proven:
            listing = self.presence.listing(peer)
            entries = peer_entries(listing.online, listing.away)
            return encode_registered(peer, session, entries, self._relay)
        listing = self.presence.listing(peer, watched, at_most=_MAX_LISTED)
        more = agora_members(
            now_ms=now_ms,
            pending=pending,
            peers_total=listing.total,
            limits=self._announced_limits,
        )
        entries = peer_entries(listing.online, listing.away, have_state=True)
        return encode_registered(peer, session, entries, self._relay, more)

    def _come_online(self, member: Member, now: float) -> list[Action]:
        before = self.presence.find(member.peer)
        is_first = self.presence.join(member.session, member.peer, member.name, now)
        self._watchers.note(member.peer, before, now)
        if not is_first:
            return []
        listed = ListedPeer(member.peer, member.name)
        return [*self._announcements.announce(encode_presence(listed, is_online=True), now)]

    # Going

    def leave(self, session: SessionId, now: float) -> list[Action]:
        """Close a session; the others are told when it was the last of its peer."""
        member = self._members.pop(session)
        self._unproven -= not member.is_proven
        self._watchers.unwatch(session)
        self._announcements.leave(session)
        actions: list[Action] = [Note("left", {"session": session, "peer": member.peer})]
        if not member.receives:
            return actions
        before = self.presence.find(member.peer)
        gone = self.presence.leave(session, member.peer)
        self._watchers.note(member.peer, before, now)
        # A listed storage peer never goes offline for the reference: its mail is always taken.
        if gone and member.peer not in self._storage_peers:
            text = encode_presence(gone.listed, is_online=False)
            actions += self._announcements.announce(text, now)
        return actions

    # Telling

    def watch(self, session: SessionId, watched: Watched) -> list[Action]:
        """Tell *session* of these peers from now on, and of their present state at once."""
        own = self._members[session].peer
        self._watchers.watch(session, own, watched)
        listing = self.presence.listing(own, watched, at_most=_MAX_LISTED)
        offline = sorted(peer for peer in watched.peers - {own} if peer not in self.presence)
        text = encode_presence_changes(peer_entries(listing.online), offline)
        return [Send((session,), text)]

    def catch_up(self, peers: Iterable[str]) -> list[Action]:
        """Tell the sessions of *peers* what they have not heard: they are to hear from somebody."""
        if not self._announcements:
            return []
        sessions = [session for peer in peers for session in self.presence.sessions_of(peer)]
        return [*self._announcements.catch_up(sessions)]

    def catch_up_all(self) -> list[Action]:
        """Tell everyone what they have not heard: all are to hear from somebody."""
        return [*self._announcements.tell_now()]

    def pulse(self, now: float) -> list[Action]:
        """Tell what was gathered, when it is time."""
        return [*self._watchers.pulse(now), *self._announcements.pulse(now)]


_MAX_LISTED = 1_000
"""Peers in one list for a session of Agora/1; ``peersTotal`` says how many there are."""


def _announced(limits: Limits) -> AnnouncedLimits:
    per_second = limits.rate_limit_max_messages * 1000 / limits.rate_limit_window_ms
    return AnnouncedLimits(
        max_frame_bytes=limits.max_frame_bytes,
        max_recipients=limits.max_recipients,
        window=limits.window_messages,
        window_bytes=limits.window_bytes,
        messages_per_second=per_second if limits.rate_limit_enabled else None,
        mailbox_messages=limits.mailbox_max_messages,
        retention_seconds=limits.mailbox_max_age,
    )


def _at_capacity(what: str) -> Refusal:
    return Refusal(ErrorCode.AT_CAPACITY, f"Relay is at capacity (max {what})")
