"""Who is told what happens to a client besides messages."""

from __future__ import annotations

import logging
from collections.abc import Callable

from agora.client.events import ClientEvent

__all__ = ["Listener", "Listeners"]

_log = logging.getLogger("agora.client")

Listener = Callable[[ClientEvent], object]


class Listeners:
    """Those who listen; one that raises is logged and harms no other."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def add(self, listener: Listener) -> Callable[[], None]:
        """Have *listener* called with every event; return how to stop that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def tell(self, event: ClientEvent) -> None:
        """Call all of them."""
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception:
                _log.exception("listener failed")
