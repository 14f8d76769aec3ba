"""
The one place that acts: carries out what the core decides, and tells it what came of it.

A node holds the sessions of one relay process. Connections (WebSocket today,
HTTP tomorrow) are doors to it; the rules are all in :mod:`agora.protocol`.
"""

from __future__ import annotations

import logging
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, assert_never

from agora.codes import CloseCode
from agora.envelope import seal
from agora.frames import encode_delivery
from agora.keys import KeyPair, PeerId
from agora.limits import Limits
from agora.mailbox import Mailbox, Page
from agora.protocol.actions import (
    Action,
    AnswerPeerList,
    Close,
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
from agora.protocol.admission import EnvelopePolicy, Refusal
from agora.protocol.router import Router
from agora.protocol.session import RelaySession
from agora.relay.writer import Writer

__all__ = ["Connection", "Node"]

_log = logging.getLogger("agora.relay")


class Connection(Protocol):
    """What a node needs of a door. No method waits or raises."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes that were written and have not left."""
        ...

    def send(self, text: str) -> None:
        """Write one message."""
        ...

    def ping(self, payload: bytes) -> None:
        """Write a WebSocket ping."""
        ...

    def close(self, code: CloseCode) -> None:
        """Begin to close; nothing is written after it."""
        ...


@dataclass(eq=False, slots=True)
class _Seat:
    """An open connection, its session, and the bytes it may lag behind more than others."""

    session: RelaySession
    connection: Connection
    allowance: int = 0


class Node:
    """
    The sessions of one relay process, and what they need done.

    Args:
        limits: What is admitted.
        identity: The relay's own key.
        writer: Its mailboxes.
        policy: Which envelopes are taken.
        storage_peers: Peers that have a mailbox.
        clock: Seconds that only go forward.
        wall_ms: Milliseconds since the Unix epoch.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        identity: KeyPair,
        writer: Writer,
        policy: EnvelopePolicy,
        storage_peers: Iterable[PeerId],
        clock: Callable[[], float],
        wall_ms: Callable[[], int],
    ) -> None:
        self._limits = limits
        self._identity = identity
        self._writer = writer
        self._clock = clock
        self._wall_ms = wall_ms
        self._router = Router(
            limits, policy=policy, storage_peers=storage_peers, relay=identity.peer_id
        )
        self._open: dict[SessionId, _Seat] = {}
        self._to_do: deque[Action] = deque()
        self._is_acting = False
        self._expired_at = clock()
        self._is_draining = False
        self.counts: Counter[str] = Counter()

    def __len__(self) -> int:
        """Count the open connections, registered or not."""
        return len(self._open)

    # What a door tells

    def open(self, connection: Connection) -> SessionId:
        """Take a new connection; return the id to speak of it by."""
        session_id = SessionId(str(uuid.uuid4()))
        session = RelaySession(session_id, self._router, self._limits, now=self._clock())
        self._open[session_id] = _Seat(session, connection)
        return session_id

    def receive(self, session_id: SessionId, data: str | bytes) -> None:
        """Take a message that came on a connection."""
        if self._is_draining:
            return  # not taken, not answered: the client sends it again where it comes back
        if seat := self._open.get(session_id):
            self._carry_out(seat.session.receive(data, now=self._clock()))

    def receive_pong(self, session_id: SessionId, payload: bytes) -> None:
        """Take a WebSocket pong."""
        if seat := self._open.get(session_id):
            self._carry_out(seat.session.receive_pong(payload, now=self._clock()))

    def hear(self, session_id: SessionId) -> None:
        """Note a sign of life, such as a WebSocket ping; its pong is written already."""
        if seat := self._open.get(session_id):
            seat.session.hear(now=self._clock())
            self._check_reads(seat)

    def lost(self, session_id: SessionId) -> None:
        """Forget a connection that is gone."""
        if seat := self._open.pop(session_id, None):
            self._carry_out(seat.session.end())

    def tick(self) -> None:
        """Let time pass for every session; to be called about once a second."""
        now = self._clock()
        for seat in list(self._open.values()):
            self._carry_out(seat.session.tick(now=now))
        self._router.tick(now)
        if self._limits.mailbox_max_age and now - self._expired_at >= _EXPIRE_EVERY:
            self._expired_at = now
            self._expire_mail()

    def take_nothing_more(self) -> None:
        """Let messages go unread from now on; what was taken is still settled and answered."""
        self._is_draining = True

    def close_all(self, code: CloseCode) -> None:
        """
        Close every connection with *code*, as the last thing this node does.

        Nobody is told that the others go: all of them do, and on a full relay that
        would be the square of them in frames.
        """
        open_now, self._open = self._open, {}
        for seat in open_now.values():
            seat.connection.close(code)

    # What the core asks for

    def _carry_out(self, actions: Iterable[Action]) -> None:
        # What an action leads to goes behind what is to be done already, not inside it: a session
        # that is closed is told of to the others, which may close the next, through all of them.
        self._to_do.extend(actions)
        if self._is_acting:
            return
        self._is_acting = True
        try:
            while self._to_do:
                self._act(self._to_do.popleft())
        finally:
            self._is_acting = False

    def _act(self, action: Action) -> None:
        match action:
            case Send(to, text):
                for session_id in to:
                    self._send(session_id, text)
            case Deliver():
                self._deliver(action)
            case Ping(session_id, payload):
                if seat := self._open.get(session_id):
                    seat.connection.ping(payload)
            case Close(session_id, code):
                self._close(session_id, code)
            case Store():
                self._store(action)
            case Fetch():
                self._fetch(action)
            case Remove(peer, positions):
                self._remove(peer, positions)
            case AnswerPeerList():
                self._answer_peer_list(action)
            case Note(event, fields):
                self._note(event, dict(fields))
            case _:
                assert_never(action)

    def _send(self, session_id: SessionId, text: str) -> bool:
        """Write to a connection unless it is gone or reads too slowly; tell whether it took it."""
        seat = self._open.get(session_id)
        if seat is None or not self._check_reads(seat):
            return False
        if len(text) > self._limits.max_unsent_bytes:
            # A list of ten thousand peers is no fault of who gets it: let there be time to read it.
            seat.allowance = len(text)
        seat.connection.send(text)
        return True

    def _check_reads(self, seat: _Seat) -> bool:
        """Close a connection that reads too slowly; tell whether it stays."""
        if seat.connection.unsent_bytes <= self._limits.max_unsent_bytes + seat.allowance:
            return True
        self._close(seat.session.id, CloseCode.SLOW_CONSUMER)
        return False

    def _deliver(self, action: Deliver) -> None:
        # Every session is tried: a list, not a generator, so that `any` stops nothing.
        if not any([self._send(session_id, action.text) for session_id in action.to]):
            self._refuse(action.origin, self._router.undelivered(action.mail))

    def _refuse(self, origin: SessionId, refusal: Refusal) -> None:
        if seat := self._open.get(origin):
            self._carry_out(seat.session.refuse(refusal))

    def _close(self, session_id: SessionId, code: CloseCode) -> None:
        # Left at once, not when the socket is gone: a closing session gets and sends nothing.
        if seat := self._open.pop(session_id, None):
            seat.connection.close(code)
            self._note("closed", {"session": session_id, "code": int(code)})
            self._carry_out(seat.session.end())

    # Mailboxes

    def _store(self, action: Store) -> None:
        mail, now_ms = action.mail, self._wall_ms()

        def put(mailbox: Mailbox) -> Mail:
            return mailbox.put(mail, now_ms=now_ms)

        self._writer.submit(put, lambda result: self._stored(action, result))

    def _stored(self, action: Store, result: Mail | Exception) -> None:
        refusal = None
        if isinstance(result, Exception):
            refusal = self._router.not_stored(action.mail, result)
        else:
            self._carry_out(self._router.stored(result, self._clock()))
        if seat := self._open.get(action.origin):
            self._carry_out(seat.session.store_settled(refusal))

    def _fetch(self, action: Fetch) -> None:
        def page(mailbox: Mailbox) -> Page:
            return mailbox.page(
                action.peer,
                after=action.after,
                max_messages=action.max_messages,
                max_bytes=action.max_bytes,
            )

        self._writer.submit(page, lambda result: self._fetched(action, result))

    def _fetched(self, action: Fetch, result: Page | Exception) -> None:
        if isinstance(result, Exception):
            # Its mail is safe but cannot be read now: coming back is the way to ask again.
            self._log_failure(result)
            self._close(action.session, CloseCode.INTERNAL_ERROR)
        else:
            self._carry_out(
                self._router.fetched(action.session, result.mail, is_last=result.is_last)
            )

    def _remove(self, peer: PeerId, positions: tuple[int, ...]) -> None:
        self._writer.submit(lambda mailbox: mailbox.remove(peer, positions), self._log_failure)

    def _expire_mail(self) -> None:
        before_ms = self._wall_ms() - int(self._limits.mailbox_max_age * 1000)
        self._writer.submit(lambda mailbox: mailbox.expire(before_ms=before_ms), self._expired)

    def _expired(self, result: int | Exception) -> None:
        if isinstance(result, Exception):
            self._log_failure(result)
        elif result:
            self._note("expired", {"count": result})

    def _log_failure(self, result: Exception | None) -> None:
        if result is not None:
            _log.error("mailbox job failed", extra={"fields": {"error": str(result)}})

    # The relay's own words

    def _answer_peer_list(self, action: AnswerPeerList) -> None:
        now_ms = self._wall_ms()
        peers = [
            {"publicKey": peer.public_key, "lastSeen": now_ms - int(age * 1000)}
            for peer, age in action.peers
        ]
        envelope = seal(
            self._identity,
            type="peer_list_response",
            payload={
                "peers": peers,
                "totalPeers": action.total,
                "relayPublicKey": self._identity.peer_id,
            },
            to=action.asker,
            timestamp_ms=now_ms,
            in_reply_to=action.request_id,
        )
        self._send(
            action.session, encode_delivery(self._identity.peer_id, envelope.wire_text, None)
        )

    def _note(self, event: str, fields: dict[str, str | int | float]) -> None:
        self.counts[event] += 1
        level = logging.DEBUG if event in _FREQUENT else logging.INFO
        if event == "refused":
            fields["count"] = self.counts[event]
            level = logging.INFO if _is_milestone(self.counts[event]) else logging.DEBUG
        _log.log(level, event, extra={"fields": fields})


_EXPIRE_EVERY = 60.0
"""Seconds between looks for mail that is too old."""

_FREQUENT = frozenset({"message", "stored", "broadcast"})


def _is_milestone(count: int) -> bool:
    """
    Tell whether the *count*-th refusal is worth a line at the usual level.

    The first twenty, then ever fewer: a flood of nonsense must not fill a disk.
    """
    return count <= 20 or count % 10 ** (len(str(count)) - 1) == 0
