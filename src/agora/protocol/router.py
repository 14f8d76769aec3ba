"""
The heart of a node: an envelope comes from one session and goes where it belongs.

::

    Submit ──admit──► Parcel ──┬─► open sessions of the recipient      Deliver
                               ├─► a listed storage peer's mailbox     Store … Fetch, Send, Remove
                               ├─► the relay itself (peer list)        AnswerPeerList
                               └─► nobody: "unknown_recipient"         Refusal

One router serves all sessions of a node. It knows no sockets, no disk and no
clock: what it decides comes back as actions, what they led to is told to it.

Mail for a storage peer always goes through its mailbox, online or not: it is
committed before it is sent, and removed when a session has confirmed it. So it
keeps its order, survives a kill at any moment, and a slow reader costs disk
instead of memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from agora.codes import ErrorCode
from agora.ecmascript import is_number
from agora.envelope import EVERYONE, Envelope, Sealed
from agora.frames import encode_delivery, encode_presence, encode_registered
from agora.keys import PeerId
from agora.limits import Limits
from agora.protocol.actions import (
    Action,
    AnswerPeerList,
    Deliver,
    Fetch,
    Mail,
    Note,
    Ping,
    Remove,
    Send,
    SessionId,
    Store,
)
from agora.protocol.admission import (
    EnvelopePolicy,
    Parcel,
    Refusal,
    ReplayWindow,
    admit,
)
from agora.protocol.feed import MailFeed
from agora.protocol.presence import OnlinePeer, Presence
from agora.protocol.rates import RateTable

__all__ = ["Router"]


@dataclass(slots=True)
class _Member:
    """A registered session, as the router sees it; ``feed`` only where it has a mailbox."""

    session: SessionId
    peer: PeerId
    feed: MailFeed | None = None


class Router:
    """
    Routes between the registered sessions of one node.

    Args:
        limits: What is admitted.
        policy: Which envelopes are taken.
        storage_peers: Peers that have a mailbox.
        relay: The relay's own peer id, which answers peer-list requests; None for none.

    Methods that take something from a session raise :class:`Refusal` when they
    do not take it; then nothing has changed.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        policy: EnvelopePolicy = EnvelopePolicy.STRICT,
        storage_peers: Iterable[PeerId] = (),
        relay: PeerId | None = None,
    ) -> None:
        self._limits = limits
        self._policy = policy
        self._storage_peers = tuple(dict.fromkeys(storage_peers))
        self._relay = relay
        self._members: dict[SessionId, _Member] = {}
        self._rates = RateTable(
            capacity=limits.rate_limit_max_messages, window=limits.rate_limit_window_ms / 1000
        )
        self._taken = ReplayWindow(
            max_ids=limits.dedup_max_envelope_ids, max_age=limits.dedup_max_age
        )
        self.presence = Presence(self._storage_peers)

    # Sessions come and go

    def join(self, session: SessionId, peer: PeerId, name: str | None, now: float) -> list[Action]:
        """
        Open a session for *peer*: it is told whom it can reach, the others that it came.

        Raises:
            Refusal: ``at_capacity`` when *peer*, or this session of it, would be one too many.
        """
        if peer not in self.presence and len(self.presence) >= self._limits.max_peers:
            raise Refusal(
                ErrorCode.AT_CAPACITY,
                f"Relay is at capacity (max {self._limits.max_peers} peers)",
            )
        if len(self.presence.sessions_of(peer)) >= self._limits.max_sessions:
            raise Refusal(
                ErrorCode.AT_CAPACITY,
                f"Relay is at capacity (max {self._limits.max_sessions} sessions of one peer)",
            )
        member = self._members[session] = _Member(session, peer)
        is_first = self.presence.join(session, peer, name, now)
        listed = self.presence.listed_for(peer)
        actions: list[Action] = [
            Send((session,), encode_registered(peer, session, listed, self._relay)),
            Note("registered", {"session": session, "peer": peer}),
        ]
        if peer in self._storage_peers:
            member.feed = MailFeed(
                max_messages=self._limits.window_messages, max_bytes=self._limits.window_bytes
            )
            actions += self._fetch(member)
        if is_first:
            actions += self._announce(peer, is_online=True)
        return actions

    def leave(self, session: SessionId) -> list[Action]:
        """Close a session; what it had not confirmed stays in its mailbox."""
        member = self._members.pop(session, None)
        if member is None:
            return []
        gone = self.presence.leave(session, member.peer)
        actions: list[Action] = [Note("left", {"session": session, "peer": member.peer})]
        # A storage peer never goes offline for the others: its mail is always taken.
        if gone and member.peer not in self._storage_peers:
            actions += self._announce(member.peer, is_online=False, last=gone)
        return actions

    def _announce(
        self, peer: PeerId, *, is_online: bool, last: OnlinePeer | None = None
    ) -> list[Action]:
        others = self.presence.sessions_of_others(peer)
        if not others:
            return []
        entry = last or self.presence.entry(peer)
        return [Send(others, encode_presence(entry.listed, is_online=is_online))]

    # Envelopes come in

    def submit(self, session: SessionId, to: str, envelope: Sealed, now: float) -> list[Action]:
        """
        Take an envelope for one recipient.

        Raises:
            Refusal: With one of the codes of :mod:`agora.codes`.
        """
        sender = self._members[session].peer
        cost = self._limits.broadcast_cost if to == self._relay else 1  # it tells of everyone too
        parcel = self._take(sender, to, envelope, cost, now)
        request = parcel.envelope
        if to == self._relay and request is not None and request.type == "peer_list_request":
            return [self._answer_peer_list(session, sender, request, now)]
        mail = Mail(to, sender, parcel.envelope_id, parcel.text, self.presence.name_of(sender))
        if to in self._storage_peers:
            # Remembered when it is stored: until then nobody can say of a repeat that it is there.
            return [Store(mail, session)]
        recipients = self.presence.sessions_of(to)
        if not recipients:
            raise Refusal(
                ErrorCode.UNKNOWN_RECIPIENT,
                f"Recipient not connected: {to}",
                envelope_id=parcel.envelope_id or None,
                to=to,
            )
        self._remember(_key(mail), now)
        return [
            Deliver(recipients, _delivery_text(mail), mail, session),
            Note("message", {"id": mail.envelope_id, "from": sender, "to": to}),
        ]

    def broadcast(self, session: SessionId, envelope: Sealed, now: float) -> list[Action]:
        """
        Take an envelope for everyone else who is online; it is never stored.

        Raises:
            Refusal: With one of the codes of :mod:`agora.codes`.
        """
        sender = self._members[session].peer
        parcel = self._take(sender, None, envelope, self._limits.broadcast_cost, now)
        self._remember((sender, EVERYONE, parcel.envelope_id), now)
        text = encode_delivery(sender, parcel.text, self.presence.name_of(sender))
        others = self.presence.sessions_of_others(sender)
        note = Note("broadcast", {"id": parcel.envelope_id, "from": sender, "count": len(others)})
        return [Send(others, text), note]

    def _take(
        self, sender: PeerId, to: str | None, envelope: Sealed, cost: int, now: float
    ) -> Parcel:
        """Take an envelope in, or refuse it: rate, admission, repeats; cheap checks first."""
        self._check_rate(sender, now, envelope=envelope, to=to, cost=cost)
        parcel = self._admit(envelope, sender, to)
        self._check_is_new(parcel, to, now)
        if self._limits.rate_limit_enabled:
            self._rates.take(sender, now=now, cost=cost)
        self.presence.saw(sender, now)
        return parcel

    def _admit(self, envelope: Sealed, sender: PeerId, to: str | None) -> Parcel:
        parcel = admit(envelope, sender=sender, to=to, policy=self._policy)
        # In canonical form 9e20 has 21 digits: what came in small may be too large to go out.
        if len(parcel.text) > self._limits.max_frame_bytes:
            raise Refusal(
                ErrorCode.TOO_LARGE,
                f"envelope of {len(parcel.text)} bytes in canonical form exceeds max_frame_bytes "
                f"of {self._limits.max_frame_bytes}",
                envelope_id=envelope.claimed_id,
                to=to,
            )
        return parcel

    def undelivered(self, mail: Mail) -> Refusal:
        """Return what the sender is told when no session could take *mail* after all."""
        self._taken.discard(_key(mail))
        return Refusal(
            ErrorCode.UNAVAILABLE,
            f"Failed to relay message: no connection of {mail.recipient} could take it",
            envelope_id=mail.envelope_id or None,
            to=mail.recipient,
        )

    # Mailboxes

    def stored(self, mail: Mail, now: float) -> list[Action]:
        """*mail* is committed, with its position: sessions that are caught up get it now."""
        self._remember(_key(mail), now)
        note = Note("stored", {"id": mail.envelope_id, "from": mail.sender, "to": mail.recipient})
        actions: list[Action] = [note]
        for session in self.presence.sessions_of(mail.recipient):
            member = self._members[session]
            if member.feed is None or not member.feed.is_caught_up:
                continue  # its next page brings it
            if member.feed.has_room:
                actions += self._feed(member, member.feed, [mail])
            else:
                member.feed.is_caught_up = False
        return actions

    def not_stored(self, mail: Mail, error: Exception) -> Refusal:
        """
        Return what the sender of *mail* is told, which could not be stored.

        Only an error with a code of the table is told as it is; any other stays ours.
        """
        code = getattr(error, "code", None)
        if code == ErrorCode.DUPLICATE:
            return duplicate(mail.envelope_id, mail.recipient)
        is_full = code == ErrorCode.MAILBOX_FULL
        why = str(error) if is_full else "the mailbox cannot be written now"
        return Refusal(
            ErrorCode.MAILBOX_FULL if is_full else ErrorCode.UNAVAILABLE,
            f"Failed to relay message: {why}",
            envelope_id=mail.envelope_id or None,
            to=mail.recipient,
        )

    def fetched(self, session: SessionId, page: Sequence[Mail], *, is_last: bool) -> list[Action]:
        """A page of a mailbox has come for *session*; ``is_last`` when nothing was behind it."""
        member = self._members.get(session)
        if member is None or member.feed is None:
            return []
        member.feed.is_fetching = False
        member.feed.is_caught_up = is_last
        return self._feed(member, member.feed, page) if page else []

    def confirmed(self, session: SessionId, pong_payload: bytes) -> list[Action]:
        """A pong has come: remove what it confirms, and send what waited for room."""
        member = self._members.get(session)
        if member is None or member.feed is None:
            return []
        positions = member.feed.confirm(pong_payload)
        actions: list[Action] = [Remove(member.peer, positions)] if positions else []
        return actions + self._fetch(member)

    def _feed(self, member: _Member, feed: MailFeed, page: Sequence[Mail]) -> list[Action]:
        actions: list[Action] = []
        unmarked = 0
        for mail in page:
            marker = feed.send([mail])
            actions.append(Send((member.session,), _delivery_text(mail)))
            unmarked += mail.size
            if unmarked >= _CONFIRM_EVERY or mail is page[-1]:
                actions.append(Ping(member.session, marker))
                unmarked = 0
        return actions

    def _fetch(self, member: _Member) -> list[Action]:
        feed = member.feed
        if feed is None or feed.is_caught_up or feed.is_fetching or not feed.has_room:
            return []
        feed.is_fetching = True
        return [
            Fetch(member.session, member.peer, feed.cursor, feed.room_messages, feed.room_bytes)
        ]

    # The relay's own answers

    def _answer_peer_list(
        self, session: SessionId, asker: PeerId, request: Envelope, now: float
    ) -> AnswerPeerList:
        """Answer as the reference: filter by activity, truncate; the total is before both."""
        others = self.presence.others(asker)
        active_within = _filter_number(request, "activeWithin")
        limit = _filter_number(request, "limit")
        chosen = [(entry.listed, max(0.0, now - entry.last_seen)) for entry in others]
        if active_within:
            chosen = [(peer, age) for peer, age in chosen if age * 1000 < active_within]
        if limit and limit > 0:
            chosen = chosen[: int(limit)]
        return AnswerPeerList(session, asker, request.id, tuple(chosen), len(others))

    # Rates and repeats

    def tick(self, now: float) -> None:
        """Forget what no longer matters."""
        self._rates.forget_full(now)
        self._taken.forget_old(now)

    def _check_rate(
        self, sender: PeerId, now: float, *, envelope: Sealed, to: str | None, cost: int
    ) -> None:
        # Only looked at here and spent after the signature: a stranger who registers another's
        # key must not be able to use up the owner's rate with what he cannot sign.
        if not self._limits.rate_limit_enabled:
            return
        wait = self._rates.wait(sender, now=now, cost=cost)
        if wait > 0:
            raise Refusal(
                ErrorCode.RATE_LIMITED,
                f"Rate limit of {self._limits.rate_limit_max_messages} messages in "
                f"{self._limits.rate_limit_window_ms} ms reached",
                envelope_id=envelope.claimed_id,
                to=to,
                retry_after=wait,
            )

    def _check_is_new(self, parcel: Parcel, to: str | None, now: float) -> None:
        key = (parcel.sender, to or EVERYONE, parcel.envelope_id)
        if parcel.envelope_id and self._limits.dedup_enabled and self._taken.has(key, now):
            raise duplicate(parcel.envelope_id, to)

    def _remember(self, key: tuple[str, str, str], now: float) -> None:
        if key[2] and self._limits.dedup_enabled:
            self._taken.add(key, now)


_CONFIRM_EVERY = 8_192
"""Bytes of mail behind which goes a ping: what breaks again and again gets on all the same."""


def duplicate(envelope_id: str, to: str | None) -> Refusal:
    """Return the answer to an envelope that was taken before."""
    return Refusal(
        ErrorCode.DUPLICATE, f"Duplicate envelope: {envelope_id}", envelope_id=envelope_id, to=to
    )


def _key(mail: Mail) -> tuple[str, str, str]:
    return (mail.sender, mail.recipient, mail.envelope_id)


def _delivery_text(mail: Mail) -> str:
    return encode_delivery(mail.sender, mail.text, mail.name)


def _filter_number(request: Envelope, name: str) -> float | None:
    payload = request.payload
    filters = payload.get("filters") if isinstance(payload, Mapping) else None
    value = filters.get(name) if isinstance(filters, Mapping) else None
    return float(value) if is_number(value) else None
