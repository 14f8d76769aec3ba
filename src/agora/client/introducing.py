"""What a client says of itself to its relay, and what it knows of that relay."""

from __future__ import annotations

import asyncio
import secrets

from agora.client.relay_memory import RelayMemory
from agora.frames import Watched
from agora.keys import PeerId
from agora.protocol.client.handshake import Introduction
from agora.protocol.client.happenings import Opened
from agora.protocol.proof import audience_of

__all__ = ["Introducing"]


class Introducing:
    """
    Makes the introduction for each connection, and remembers what came of it.

    Args:
        url: The relay.
        name: The display name to claim.
        receives: Whether to get mail.
        known_relays: What remembers the keys of relays.
        watched: Whose presence to hear of; may be changed.

    Attributes:
        relay: The relay's own peer id, where it told one.
        protocol: 1 when it spoke Agora/1 at the last registration, else 0.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str | None,
        receives: bool,
        known_relays: RelayMemory,
        watched: Watched,
    ) -> None:
        self.watched = watched
        self.relay: PeerId | None = None
        self.protocol = 0
        self._url = url
        self._name = name
        self._receives = receives
        self._known_relays = known_relays

    async def introduction(self) -> Introduction:
        """Return what to say on a new connection; which key is expected may be in a file."""
        audience = audience_of(self._url)
        return Introduction(
            name=self._name,
            watched=self.watched,
            receives=self._receives,
            nonce=secrets.token_hex(32),
            url=self._url,
            audience=audience,
            relay=await asyncio.to_thread(self._known_relays.expected, self._url),
        )

    def note_opened(self, opened: Opened) -> None:
        """
        Remember who has registered us.

        Raises:
            AgoraError: When the key of the relay cannot be remembered.
        """
        self.relay, self.protocol = opened.relay, opened.protocol
        if opened.protocol and opened.relay is not None:
            self._known_relays.remember(self._url, opened.relay)
