"""
Proofs of key by HTTP: two requests, and between them a session at the node that waits.

The first request is a ``register`` frame, the second the ``authenticate`` frame;
what the node answers is what is told. A challenge serves once, for its key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from agora.codes import ErrorCode
from agora.frames import WATCH_ALL, encode_authenticate, encode_register
from agora.keys import PeerId
from agora.protocol.proof import OVER_HTTP
from agora.relay.http.errors import ApiError, at_capacity
from agora.relay.http.postbox import Postbox
from agora.relay.http.sessions import unavailable
from agora.relay.http.shares import Shares
from agora.relay.node import Node

__all__ = ["ChallengeFrame", "Challenges", "RegisteredFrame"]


class ChallengeFrame(msgspec.Struct):
    """The ``challenge`` frame of a node."""

    nonce: str
    relay: str
    signature: str


class RegisteredFrame(msgspec.Struct):
    """The ``registered`` frame of a node, as far as it is told by HTTP."""

    sessionId: str
    peers: msgspec.Raw
    peersTotal: int
    relay: str
    now: int
    pending: int
    limits: msgspec.Raw


@dataclass(eq=False, slots=True)
class _Open:
    peer: PeerId
    postbox: Postbox
    until: float
    address: str


class Challenges:
    """
    The challenges that are open.

    Args:
        node: Who asks.
        most: How many there may be.
        most_of_address: How many from one network address.
        lifetime: Seconds that each is good.
        clock: Seconds that only go forward.
    """

    def __init__(
        self,
        node: Node,
        *,
        most: int,
        most_of_address: int,
        lifetime: float,
        clock: Callable[[], float],
    ) -> None:
        self._node = node
        self._most = most
        what = "open challenges from one address"
        self._shares = Shares(what, most=most_of_address, retry_after=lifetime)
        self._lifetime = lifetime
        self._clock = clock
        self._open: dict[str, _Open] = {}

    def change(self, *, most: int, most_of_address: int, lifetime: float) -> None:
        """Go by other bounds from now on."""
        self._most = most
        self._shares.most = most_of_address
        self._lifetime = lifetime

    def __len__(self) -> int:
        return len(self._open)

    def make(
        self, peer: PeerId, nonce: str, *, address: str, audiences: tuple[str, ...]
    ) -> ChallengeFrame:
        """
        Return a challenge for whoever wants to speak for *peer*.

        Raises:
            ApiError: ``at_capacity``, or what the node says to it.
        """
        if len(self._open) >= self._most:
            raise at_capacity(self._most, "open challenges", retry_after=self._lifetime)
        self._shares.take(address)
        try:
            challenge = self._ask_node(peer, nonce, address, audiences)
        except BaseException:
            self._shares.give_back(address)
            raise
        return challenge

    def _ask_node(
        self, peer: PeerId, nonce: str, address: str, audiences: tuple[str, ...]
    ) -> ChallengeFrame:
        postbox = Postbox(peer, self._answer_ping)
        postbox.session = self._node.open(
            postbox, address=address, audiences=audiences, purposes=OVER_HTTP, door="http"
        )
        # Its peers are told with the token; it gets no mail, and ends with the second request.
        register = encode_register(peer, None, nonce=nonce, watched=WATCH_ALL, receives=False)
        self._node.receive(postbox.session, register)
        if not postbox.greeting:
            self._node.lost(postbox.session)
            raise unavailable() if postbox.refusal is None else ApiError.of(postbox.refusal)
        challenge = _CHALLENGE.decode(postbox.greeting)
        until = self._clock() + self._lifetime
        self._open[challenge.nonce] = _Open(peer, postbox, until, address)
        return challenge

    async def prove(
        self, peer: PeerId, nonce: str, signature: str, audience: str | None
    ) -> RegisteredFrame:
        """
        Return what the node says to a proof; whatever it is, the challenge has served.

        Raises:
            ApiError: ``proof_failed``, or what else the node says to it.
        """
        found = self._take(nonce)
        if found is None or found.peer != peer or self._clock() >= found.until:
            if found is not None:
                self._node.lost(found.postbox.session)
            text = (
                "Proof failed: no such challenge is open; one serves once, for the key that asked, "
                f"for {self._lifetime:g} s"
            )
            raise ApiError(ErrorCode.PROOF_FAILED, text)
        postbox, postbox.greeting = found.postbox, ""
        self._node.receive(postbox.session, encode_authenticate(signature, audience=audience))
        try:
            while not (postbox.greeting or postbox.refusal) and postbox.is_open:
                postbox.changed.clear()
                await postbox.changed.wait()
        finally:
            self._node.lost(postbox.session)
        if postbox.refusal is not None:
            raise ApiError.of(postbox.refusal)
        if not postbox.greeting:
            raise unavailable()
        return _REGISTERED.decode(postbox.greeting)

    def tick(self) -> None:
        """Forget what is too old to serve."""
        now = self._clock()
        for nonce in [one for one, found in self._open.items() if now >= found.until]:
            if (found := self._take(nonce)) is not None:
                self._node.lost(found.postbox.session)

    def _take(self, nonce: str) -> _Open | None:
        found = self._open.pop(nonce, None)
        if found is not None:
            self._shares.give_back(found.address)
        return found

    def _answer_ping(self, postbox: Postbox, payload: bytes) -> None:
        self._node.receive_pong(postbox.session, payload)


_CHALLENGE = msgspec.json.Decoder(ChallengeFrame)
_REGISTERED = msgspec.json.Decoder(RegisteredFrame)
