"""
What tokens have open at the node: a session that gets mail, and one that only sends.

That which gets mail is there while a long poll or an event stream is open, and
for a while after, so that a peer that polls is online between two polls. A
token outlives its sessions, and the relay: whoever comes back with it gets new
ones without a new proof, as long as its key is pinned here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from agora.codes import ErrorCode
from agora.frames import PING, WATCH_NONE, Register, Watched, encode_ack, encode_nack, encode_watch
from agora.limits import Limits
from agora.protocol.proof import OVER_HTTP
from agora.relay.http.errors import ApiError, ErrorFrame, at_capacity, not_registered
from agora.relay.http.postbox import Asked, Postbox, Reader
from agora.relay.http.shares import Shares
from agora.relay.http.tokens import Metadata, Token
from agora.relay.node import Node

__all__ = ["HttpSession", "HttpSessions", "unavailable"]

_NO_NONCE = "0" * 64
"""In the place of a nonce where a token stands for the proof: nobody signs it."""


class _Slot:
    """
    One session at the node, opened for whoever needs it first, closed a while after the last.

    Args:
        node: Where.
        token: Whose it is.
        receives: Whether it gets mail.
        limits: How long it stays after the last who used it, and what it keeps.
        ended: Called when it has closed by itself.
        tell_late: Called with receipts and errors that nobody waits for any more.
    """

    def __init__(
        self,
        node: Node,
        token: Token,
        *,
        receives: bool,
        limits: Limits,
        ended: Callable[[], None],
        tell_late: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._node = node
        self._token = token
        self._receives = receives
        self._limits = limits
        self._ended = ended
        self._tell_late = tell_late
        self._postbox: Postbox | None = None
        self._users = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_used(self) -> bool:
        """Whether it is open, or somebody is about to open it."""
        return self._users > 0 or self.found is not None

    @property
    def found(self) -> Postbox | None:
        """The postbox of the session, if that is open."""
        if self._postbox is not None and self._postbox.is_open:
            return self._postbox
        return None

    @contextmanager
    def use(self, address: str) -> Iterator[Postbox]:
        """Have it open for the length of a ``with`` block."""
        self._users += 1
        self._cancel_timer()
        try:
            yield self.found or self._open(address)
        finally:
            self._users -= 1
            if self._users == 0:
                grace = self._limits.http_session_grace
                self._timer = asyncio.get_running_loop().call_later(grace, self._run_out)

    def close(self) -> None:
        """Close it at once."""
        self._cancel_timer()
        postbox, self._postbox = self.found, None
        if postbox is not None:
            postbox.hang_up()
            self._node.lost(postbox.session)

    def _open(self, address: str) -> Postbox:
        token = self._token
        postbox = Postbox(
            token.publicKey,
            self._answer_ping,
            self._tell_late,
            backlog_bytes=self._limits.http_backlog_bytes,
        )
        postbox.session = self._node.open(postbox, address=address, purposes=OVER_HTTP, door="http")
        register = Register(token.publicKey, token.name, _NO_NONCE, WATCH_NONE, self._receives)
        self._node.resume(postbox.session, register)
        if postbox.refusal is not None:
            raise ApiError.of(postbox.refusal)
        if not postbox.is_open:
            raise unavailable()
        self._postbox = postbox
        return postbox

    def _answer_ping(self, postbox: Postbox, payload: bytes) -> None:
        self._node.receive_pong(postbox.session, payload)

    def _run_out(self) -> None:
        self.close()
        self._ended()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class HttpSession:
    """
    What one token has open.

    Args:
        node: Where.
        token: What it says.
        address: From where it came into use.
        limits: How long a session stays after the last who used it, and what it keeps.
        ended: Called when nothing is open any more.

    Attributes:
        token: What it says.
        address: As given.
    """

    def __init__(
        self,
        node: Node,
        token: Token,
        address: str,
        *,
        limits: Limits,
        ended: Callable[[HttpSession], None],
    ) -> None:
        self.token = token
        self.address = address
        self._is_revoked = False
        self._node = node
        self._ended = ended
        self._watched: list[Watched] = []
        self._receiving = _Slot(node, token, receives=True, limits=limits, ended=self._check_ended)
        self._sending = _Slot(
            node,
            token,
            receives=False,
            limits=limits,
            ended=self._check_ended,
            tell_late=self._tell_late,
        )
        self._polled: tuple[Postbox, Watched] | None = None  # whom polls watch, and where

    @contextmanager
    def listen(self, address: str, *, receives: bool) -> Iterator[Postbox]:
        """
        Have a session that tells of events for the length of a ``with`` block, and a while after.

        That which *receives* gets mail, too.

        Raises:
            ApiError: What the node says to a session that it does not take.
        """
        with (self._receiving if receives else self._sending).use(address) as postbox:
            yield postbox

    @contextmanager
    def watch(self, postbox: Postbox, reader: Reader) -> Iterator[None]:
        """
        Have *reader* get the presence of those it watches, of whose present state at once.

        Raises:
            ApiError: What the node says to a list that it does not take.
        """
        self._watched.append(reader.watched)
        try:
            reader.state_after = postbox.last
            self._tell_watched(postbox, reader.watched)
            yield
        finally:
            self._watched.remove(reader.watched)
            with contextlib.suppress(ApiError):  # nobody is there to hear of it
                self._tell_watched(postbox, reader.watched)

    def _tell_watched(self, postbox: Postbox, changed: Watched) -> None:
        if changed == WATCH_NONE or not postbox.is_open:
            return
        peers = frozenset(peer for one in self._watched for peer in one.peers)
        everyone = any(one.everyone for one in self._watched)
        self._say(postbox, encode_watch(Watched(everyone, peers)))

    def watch_on(self, postbox: Postbox, reader: Reader, *, is_resumed: bool) -> None:
        """
        Have polls get the presence of those that *reader* watches, also between two of them.

        One that was not resumed begins with the present state.

        Raises:
            ApiError: What the node says to a list that it does not take.
        """
        if is_resumed and self._polled == (postbox, reader.watched):
            return
        before = WATCH_NONE
        if self._polled is not None:
            before, self._polled = self._polled[1], None
            self._watched.remove(before)
        self._watched.append(reader.watched)
        reader.state_after = postbox.last
        try:
            self._tell_watched(postbox, before if reader.watched == WATCH_NONE else reader.watched)
        except ApiError:  # else it would be part of every list from now on
            self._watched.remove(reader.watched)
            raise
        self._polled = (postbox, reader.watched)

    def _tell_late(self, text: str) -> None:
        """Tell a receipt, or an error, as an event; where there are none, it is asked for again."""
        for slot in (self._receiving, self._sending):
            if postbox := slot.found:
                postbox.tell(text)
                self._node.check_reads(postbox.session)

    async def submit(
        self, address: str, frame: str, asked: Asked, *, at_most: float, wait: float | None = None
    ) -> None:
        """
        Give the node a frame with an envelope; *asked* has what it answers within *at_most*.

        With *wait* it has what is answered so many seconds after the node has it.

        Raises:
            ApiError: What the node says to a session that it does not take.
        """
        with self._sending.use(address) as postbox, postbox.asking(asked):
            self._node.receive(postbox.session, frame)
            with contextlib.suppress(TimeoutError):  # what is open then is told as such
                async with asyncio.timeout(at_most):
                    if wait is not None:
                        await self._reach(postbox, asked)
                    async with asyncio.timeout(wait):
                        await asked.done.wait()
            if asked.open and not postbox.is_open:
                asked.take_error(self._why_unsettled(asked.id))

    def _why_unsettled(self, envelope_id: str | None) -> ErrorFrame:
        if self._is_revoked:
            text = "Token has been revoked before this was settled: send it again with another"
            code, reason = ErrorCode.NOT_REGISTERED, "token_revoked"
            return ErrorFrame(code, text, id=envelope_id, reason=reason)
        text = "The session ended before this was settled: send it again"
        return ErrorFrame(ErrorCode.UNAVAILABLE, text, id=envelope_id)

    async def _reach(self, postbox: Postbox, asked: Asked) -> None:
        """Wait until the node has it: a ``pong`` comes behind whatever it refuses."""
        postbox.expect_pong(asked)
        self._node.receive(postbox.session, PING)
        await asked.reached.wait()

    def ack(self, address: str, ids: Sequence[str]) -> None:
        """
        Settle messages, whichever session they came to.

        Raises:
            ApiError: What the node says to it.
        """
        if postbox := self._receiving.found:
            self._say(postbox, encode_ack(ids))
            postbox.settle(ids)
            return
        with self._sending.use(address) as postbox:
            self._say(postbox, encode_ack(ids))

    def nack(self, ids: Sequence[str], delay: float) -> None:
        """
        Put messages off; those that no session has come again anyway.

        Raises:
            ApiError: What the node says to it.
        """
        if postbox := self._receiving.found:
            self._say(postbox, encode_nack(ids, delay=delay))
            postbox.settle(ids)
        self._check_ended()

    def why_ended(self) -> ApiError:
        """Return the answer to a request under which its session has ended."""
        if self._is_revoked:
            return not_registered("token_revoked", "Token has been revoked")
        return unavailable()

    def revoke(self) -> None:
        """Close what is open, at once: the token is good no longer."""
        self._is_revoked = True
        self.end()

    def wake(self) -> None:
        """Have those who wait look around."""
        if postbox := self._receiving.found:
            postbox.changed.set()

    def end(self) -> None:
        """Close what is open, at once."""
        self._receiving.close()
        self._sending.close()
        self._ended(self)

    def _say(self, postbox: Postbox, frame: str) -> None:
        """Give the node a frame that has no answer unless it is refused, which is raised."""
        asked = Asked(None, {""})
        with postbox.asking(asked):
            self._node.receive(postbox.session, frame)
        if asked.errors:
            raise ApiError.of(asked.errors[0])
        if not postbox.is_open:
            raise self.why_ended()

    def _check_ended(self) -> None:
        if not (self._receiving.is_used or self._sending.is_used):
            self._ended(self)


class HttpSessions:
    """
    The tokens in use.

    Args:
        node: Where they have their sessions.
        limits: How many there may be, and what each may have.
    """

    def __init__(self, node: Node, limits: Limits) -> None:
        self._node = node
        self._limits = limits
        what = "tokens in use from one address"
        grace = limits.http_session_grace
        most = limits.max_http_sessions_per_address
        self._shares = Shares(what, most=most, retry_after=grace)
        self._by_token: dict[str, HttpSession] = {}
        self._metadata: dict[str, dict[str, Metadata]] = {}  # by key and token

    def change_limits(self, limits: Limits) -> None:
        """Go by other limits from now on; who is here keeps the grace that was his."""
        self._limits = limits
        self._shares.most = limits.max_http_sessions_per_address

    def __len__(self) -> int:
        return len(self._by_token)

    def of(self, token: Token, address: str) -> HttpSession:
        """
        Return what *token* has open; if nothing, it comes into use from *address*.

        Raises:
            ApiError: ``at_capacity``.
        """
        return self._by_token.get(token.jti) or self._begin(token, address)

    def _begin(self, token: Token, address: str) -> HttpSession:
        most = self._limits.max_http_sessions
        if len(self._by_token) >= most:
            raise at_capacity(most, "tokens in use", retry_after=self._limits.http_session_grace)
        self._shares.take(address)
        begun = HttpSession(self._node, token, address, limits=self._limits, ended=self._forget)
        self._by_token[token.jti] = begun
        if token.metadata is not None:
            self._metadata.setdefault(token.publicKey, {})[token.jti] = token.metadata
        return begun

    def revoke(self, token: Token) -> None:
        """Close what *token* has open, at once: it is good no longer."""
        if found := self._by_token.get(token.jti):
            found.revoke()

    def wake(self) -> None:
        """Have all who wait look around: the relay stops."""
        for session in self._by_token.values():
            session.wake()

    def end_all(self) -> None:
        """Close what is open: the relay stops."""
        for session in list(self._by_token.values()):
            session.end()

    def metadata_of(self, peer: str) -> Metadata | None:
        """Return what a peer says of itself by the token that came into use last."""
        said = self._metadata.get(peer)
        return said[next(reversed(said))] if said else None

    def _forget(self, session: HttpSession) -> None:
        token = session.token
        if self._by_token.get(token.jti) is not session:
            return  # it has ended before, and another may have begun since
        del self._by_token[token.jti]
        self._shares.give_back(session.address)
        if token.metadata is not None:
            said = self._metadata[token.publicKey]
            del said[token.jti]
            if not said:
                del self._metadata[token.publicKey]


def unavailable() -> ApiError:
    """Return the answer while the relay stops, or a session that ended under a request."""
    text = "The relay ended the session: try again"
    return ApiError(ErrorCode.UNAVAILABLE, text, retryAfterMs=1000)
