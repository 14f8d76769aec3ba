"""What a client says of itself to its relay, and what it knows of that relay."""

from __future__ import annotations

import asyncio
import secrets

from agora.client.relay_memory import RelayMemory
from agora.frames import Watched
from agora.keys import PeerId
from agora.protocol.client.handshake import Introduction
from agora.protocol.client.happenings import Opened
from agora.protocol.client.ways import is_http
from agora.protocol.proof import OVER_HTTP, OVER_WEBSOCKET, audience_of

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

    async def introduction(self, url: str) -> Introduction:
        """
        Return what to say on a new connection by way of *url*.

        By whichever way, the relay is the one that is known by the URL that the client
        was given; which key that is may be in a file.
        """
        expected = self._known_relays.expected
        known_by, known = self._url, await asyncio.to_thread(expected, self._url)
        if known is None and url != self._url:
            known_by, known = url, await asyncio.to_thread(expected, url)
        return Introduction(
            name=self._name,
            watched=self.watched,
            receives=self._receives,
            nonce=secrets.token_hex(32),
            url=known_by,
            audience=audience_of(url),
            purposes=OVER_HTTP if is_http(url) else OVER_WEBSOCKET,
            relay=known,
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
