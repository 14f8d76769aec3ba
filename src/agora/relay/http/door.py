"""What the parts of the HTTP door share: the node, tokens, sessions, and whether it stops."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from agora.codes import ErrorCode, HttpErrorCode
from agora.keys import KeyPair, PeerId
from agora.mailbox import Page
from agora.protocol.relay.refusal import name_too_long, not_pinned
from agora.relay.config import RelayConfig
from agora.relay.http.challenges import Challenges
from agora.relay.http.errors import ApiError, at_capacity
from agora.relay.http.gate import Rates
from agora.relay.http.postbox import Postbox
from agora.relay.http.revocations import Revocations
from agora.relay.http.sessions import HttpSession, HttpSessions, unavailable
from agora.relay.http.shares import Waits
from agora.relay.http.tokens import Secrets, Token, Tokens
from agora.relay.node import Node
from agora.relay.overview import Overview
from agora.relay.writer import Writer, wait_done

__all__ = ["Door", "open_door"]

_log = logging.getLogger("agora.relay")

Audiences = Callable[[str, int], tuple[str, ...]]
"""Tells the names that the relay has on a connection to this address and port of its own."""


@dataclass(eq=False, slots=True, kw_only=True)
class Door:
    """
    The HTTP door of one relay.

    Attributes:
        node: Where requests go.
        config: What is set.
        relay: The relay's peer id.
        audiences: Its names.
        tokens: Who speaks.
        sessions: What they have open.
        challenges: Who is about to prove a key.
        rates: How often one may ask.
        waits: How many requests may wait at once.
        overview: What its operator sees.
        admin_token: What an operator has.
        keys: Keys of those who gave them away (`rest_private_keys`), by token, until that ends.
        tidy_at: When secrets and revoked tokens are next looked after; never while they are.
        is_stopping: Whether nothing new is taken.
    """

    node: Node
    config: RelayConfig
    relay: PeerId
    audiences: Audiences
    tokens: Tokens
    sessions: HttpSessions
    challenges: Challenges
    rates: Rates
    waits: Waits
    writer: Writer
    overview: Overview
    admin_token: str = field(repr=False)
    keys: dict[str, tuple[int, KeyPair]] = field(default_factory=dict, repr=False)
    tidy_at: float = 0.0
    is_stopping: bool = False

    def change_config(self, config: RelayConfig) -> None:
        """Go by other limits from now on; sessions that are open keep their grace."""
        self.config = config
        self.rates.change_limits(config)
        self.sessions.change_limits(config)
        self.challenges.change(
            most=config.max_challenges,
            most_of_address=config.max_challenges_per_address,
            lifetime=config.register_timeout,
        )
        self.tokens.revocations.change(
            most=config.max_revoked_tokens, most_of_address=config.max_revoked_tokens_per_address
        )
        self.waits.change_limits(config)

    def check_open(self) -> None:
        """
        Refuse a request while the relay stops: what it asked for would not be done.

        Raises:
            ApiError: ``unavailable``.
        """
        if self.is_stopping:
            raise unavailable()

    def check_name(self, name: str | None) -> None:
        """
        Refuse a display name that no session could have.

        Raises:
            ApiError: ``invalid_message``.
        """
        most = self.config.max_name_length
        if name is not None and len(name) > most:
            refusal = name_too_long(name, most)
            raise ApiError(refusal.code, refusal.message)

    def keep_key(self, token: Token, keys: KeyPair) -> None:
        """
        Keep what signs for the owner of *token*, in memory alone.

        Raises:
            ApiError: ``at_capacity``.
        """
        if len(self.keys) >= self.config.max_http_sessions:
            raise at_capacity(self.config.max_http_sessions, "tokens in use")
        self.keys[token.jti] = (token.exp, keys)

    def key_of(self, token: Token) -> KeyPair | None:
        """Return what signs for the owner of *token*; None when that was before a restart."""
        _, keys = self.keys.get(token.jti, (0, None))
        return keys

    def session_of(self, token: Token, address: str) -> HttpSession:
        """
        Return what *token* has open; if nothing, it comes into use from *address*.

        Raises:
            ApiError: ``not_registered`` where it was revoked a moment ago, ``at_capacity``.
        """
        self.tokens.check_revoked(token)
        return self.sessions.of(token, address)

    @contextmanager
    def listening(
        self, token: Token, address: str, *, waits: bool, receives: bool = True
    ) -> Iterator[tuple[HttpSession, Postbox]]:
        """
        Have a session that tells of events for the length of a ``with`` block, and a while after.

        Args:
            token: Whose it is.
            address: From where is asked.
            waits: Whether this is one of the requests that wait.
            receives: Whether to get mail.

        Raises:
            ApiError: ``at_capacity``, or what else :meth:`session_of` and the node say to it.
        """
        waiting = self.waits.one(token.publicKey, address) if waits else nullcontext()
        with waiting:  # first: a token that comes into use takes room until its session has ended
            session = self.session_of(token, address)
            with session.listen(address, receives=receives) as postbox:
                yield session, postbox

    async def revoke(self, token: Token, address: str) -> None:
        """
        Have *token* be good no longer, and close what it has open.

        Raises:
            ApiError: ``at_capacity``, where it stays good; ``storage_failed``.
        """
        self.tokens.revocations.add(token.jti, token.exp, address)
        self.keys.pop(token.jti, None)
        self.sessions.revoke(token)
        try:
            await asyncio.to_thread(self.tokens.revocations.write)
        except OSError as error:
            _log_untidy(error)
            self.tidy_at = min(self.tidy_at, time.time() + _RETRY_EVERY)
            text = (
                "The token is revoked, but this could not be written down: if the relay were "
                "restarted now, it would be good again until it ends. The relay tries again"
            )
            raise ApiError(HttpErrorCode.STORAGE_FAILED, text) from error

    async def replay(self, token: Token, *, since_ms: int, after: int, at_most: int) -> Page:
        """
        Return a page of the mail that the owner of *token* has acked, as :meth:`Node.replay` does.

        Raises:
            ApiError: ``not_enabled`` where none is kept; ``proof_required``; ``unavailable``.
        """
        if not self.config.retain:
            raise ApiError(
                HttpErrorCode.NOT_ENABLED, "Replay endpoint is not enabled on this relay"
            )
        if token.publicKey not in self.node.registry.pins:  # as for a session by this token
            refusal = not_pinned()
            raise ApiError(refusal.code, refusal.message)
        found: asyncio.Future[Page | Exception] = asyncio.get_running_loop().create_future()
        self.node.replay(
            token.publicKey,
            since_ms=since_ms,
            after=after,
            max_messages=at_most,
            max_bytes=_PAGE_BYTES,
            done=lambda result: None if found.done() else found.set_result(result),
        )
        page = await found
        if isinstance(page, Exception):
            _log.error("mailbox job failed", extra={"fields": {"error": str(page)}})
            raise ApiError(ErrorCode.UNAVAILABLE, "The mailboxes cannot be read now")
        return page

    async def settle(self) -> None:
        """Wait until what is being read from the mailboxes now has come."""
        await wait_done(self.writer, lambda mailbox: None)

    def tick(self) -> None:
        """Let time pass; to be called about once a second."""
        self.challenges.tick()
        self.rates.tick()
        self.tokens.revocations.forget_expired()
        now = time.time()
        if now >= self.tidy_at:
            self.tidy_at = math.inf  # until this is done: a disk that hangs holds up one thread
            tidied = asyncio.get_running_loop().run_in_executor(None, self._tidy)
            tidied.add_done_callback(self._tidied)
        for jti in [jti for jti, (until, _) in self.keys.items() if until <= now]:
            del self.keys[jti]

    def _tidy(self) -> None:
        try:
            self.tokens.tidy()
        except OSError as error:
            _log_untidy(error)

    def _tidied(self, tidied: asyncio.Future[None]) -> None:
        is_behind = self.tokens.revocations.is_behind
        self.tidy_at = time.time() + (_RETRY_EVERY if is_behind else _TIDY_EVERY)

    async def finish(self) -> None:
        """Write down what the disk did not take before; as one of the last things done."""
        if self.tokens.revocations.is_behind:
            await asyncio.to_thread(self._tidy)

    def begin_stop(self) -> None:
        """Take nothing new; polls end with what they have, streams end."""
        self.is_stopping = True
        self.sessions.wake()


def _log_untidy(error: OSError) -> None:
    _log.error("tokens not tidied", extra={"fields": {"error": str(error)}})


_PAGE_BYTES = 1_048_576
"""Bytes of acked mail in one answer, unless its first message alone is longer."""

_TIDY_EVERY = 60.0
"""Seconds between looks at secrets and revoked tokens."""

_RETRY_EVERY = 5.0
"""The same while the disk has not taken what was revoked."""


def open_door(
    config: RelayConfig,
    node: Node,
    *,
    relay: PeerId,
    writer: Writer,
    audiences: Audiences,
    overview: Overview,
    admin_token: str,
) -> Door:
    """
    Return the door of *node*. Reads its secrets and revoked tokens, and so may wait for a disk.

    Raises:
        ConfigurationError: When one of these files cannot be read.
    """
    secrets = Secrets(
        _file(config, "http-secrets.json"),
        given=config.jwt_secret,
        max_age=config.jwt_secret_max_age,
        lifetime=config.token_lifetime,
        clock=time.time,
    )
    revocations = Revocations(
        _file(config, "http-revoked"),
        most=config.max_revoked_tokens,
        most_of_address=config.max_revoked_tokens_per_address,
        clock=time.time,
    )
    return Door(
        node=node,
        config=config,
        relay=relay,
        audiences=audiences,
        tokens=Tokens(secrets, revocations, lifetime=config.token_lifetime, clock=time.time),
        sessions=HttpSessions(node, config),
        challenges=Challenges(
            node,
            most=config.max_challenges,
            most_of_address=config.max_challenges_per_address,
            lifetime=config.register_timeout,
            clock=time.monotonic,
        ),
        rates=Rates(config, clock=time.monotonic),
        waits=Waits(config),
        writer=writer,
        overview=overview,
        admin_token=admin_token,
    )


def _file(config: RelayConfig, name: str) -> Path | None:
    return None if config.data_dir is None else config.data_dir / name
