"""Which key the relay at a URL has: believed the first time, demanded ever after."""

from __future__ import annotations

from typing import Protocol

from agora.keys import PeerId

__all__ = ["RelayMemory", "RelaysInMemory"]


class RelayMemory(Protocol):
    """What remembers the keys of relays; :class:`agora.known_relays.KnownRelays` does in a file."""

    def expected(self, url: str) -> PeerId | None:
        """Return which key the relay at *url* must have; None when it is not known yet."""
        ...

    def remember(self, url: str, relay: PeerId) -> None:
        """Note which key the relay at *url* has proven."""
        ...


class RelaysInMemory:
    """Remembers for as long as it lives; a client has one of its own unless given another."""

    def __init__(self) -> None:
        self._relays: dict[str, PeerId] = {}

    def expected(self, url: str) -> PeerId | None:
        """Return which key the relay at *url* must have; None when it is not known yet."""
        return self._relays.get(url)

    def remember(self, url: str, relay: PeerId) -> None:
        """Note which key the relay at *url* has proven."""
        self._relays.setdefault(url, relay)
