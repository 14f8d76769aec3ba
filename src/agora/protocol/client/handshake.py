"""
The client's half of a registration: say who we are, see who the relay is, prove our key.

A relay that knows no proof registers us at once, in the reference dialect. One
whose key we know must prove that key, each time: else whoever stands between
could pose as a relay that knows no proof.
"""

from __future__ import annotations

from dataclasses import dataclass

from agora.errors import RefusedError, RelayChangedError
from agora.frames import (
    WATCH_ALL,
    Challenge,
    Registered,
    Watched,
    encode_authenticate,
    encode_register,
)
from agora.keys import KeyPair, PeerId
from agora.protocol.proof import OVER_WEBSOCKET, Purposes, is_genuine_challenge, sign_proof

__all__ = ["Handshake", "Introduction"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """
    What a client says of itself when it registers, and whom it expects to find.

    Attributes:
        name: The display name it claims.
        watched: Whose presence it wants to hear of.
        receives: Whether it gets mail; a session that only sends is not announced.
        nonce: 64 random hex digits, new for each connection; None asks for no proof.
        url: The relay that was dialled, for people.
        audience: The same as it is signed, see :func:`agora.protocol.proof.audience_of`.
        purposes: What the signatures are for; they differ over HTTP.
        relay: The key that the relay must have; None when it is not known yet.
    """

    name: str | None = None
    watched: Watched = WATCH_ALL
    receives: bool = True
    nonce: str | None = None
    url: str = ""
    audience: str = ""
    purposes: Purposes = OVER_WEBSOCKET
    relay: PeerId | None = None


class Handshake:
    """
    One registration, frame by frame.

    Attributes:
        relay: Whom the relay has proven to be; None until then.
    """

    def __init__(self, keys: KeyPair, introduction: Introduction) -> None:
        self.relay: PeerId | None = None
        self._keys = keys
        self._introduction = introduction

    def register(self) -> str:
        """Return the first frame to write."""
        said = self._introduction
        return encode_register(
            self._keys.peer_id,
            said.name,
            nonce=said.nonce,
            watched=said.watched,
            receives=said.receives,
        )

    def prove(self, challenge: Challenge) -> str | None:
        """
        Return the frame that answers a challenge; None for one that nobody asked for.

        Raises:
            RelayChangedError: When it is not from the relay that is known by this URL.
            RefusedError: When it is from nobody: its signature is not its key's.
        """
        said = self._introduction
        if said.nonce is None or self.relay is not None:
            return None
        if said.relay not in (None, challenge.relay):
            raise self._changed(f"has the key {challenge.relay}")
        if not is_genuine_challenge(
            challenge.relay,
            challenge.signature,
            client_nonce=said.nonce,
            nonce=challenge.nonce,
            public_key=self._keys.peer_id,
            purposes=said.purposes,
        ):
            if said.relay is not None:
                raise self._changed("did not prove its key")
            raise _unproven(f"the relay at {said.url} did not sign its challenge")
        self.relay = challenge.relay
        signature = sign_proof(
            self._keys,
            audience=said.audience,
            nonce=challenge.nonce,
            relay=challenge.relay,
            purposes=said.purposes,
        )
        return encode_authenticate(signature, said.audience)

    def check(self, registered: Registered) -> None:
        """
        Refuse a registration by a relay that is not what it says, or was.

        Raises:
            RelayChangedError: When a relay whose key is known asked for no proof.
            RefusedError: When it says to speak Agora/1, and asked for no proof.
        """
        if self.relay is not None:
            return
        if self._introduction.relay is not None:
            raise self._changed("did not prove its key")
        if registered.protocol:
            raise _unproven(f"the relay at {self._introduction.url} registered us without proof")

    def _changed(self, what: str) -> RelayChangedError:
        url, known = self._introduction.url, self._introduction.relay
        return RelayChangedError(
            f"the relay at {url} {what}; known by this URL is {known}: someone may stand between. "
            f"If it is as it should be, run agora known-relays forget {url}"
        )


def _unproven(message: str) -> RefusedError:
    return RefusedError("relay_unproven", message)
