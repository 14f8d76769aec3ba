"""A real relay on a free port, in a thread of its own: for tests, plain or asynchronous."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

from agora.errors import ClosedError
from agora.keys import KeyPair
from agora.relay import Relay

__all__ = ["RelayInThread", "relay_in_thread"]


class RelayInThread:
    """
    A relay that runs beside the test, with its own event loop.

    Attributes:
        url: Where clients connect; the same after a restart.
        http_url: Where the HTTP API is, with ``http_port=0``; the same after a restart.

    Args:
        settings: As for :class:`agora.relay.Relay`; the port is a free one, and the
            identity the same after a restart.
    """

    def __init__(self, **settings: Any) -> None:
        self._settings: dict[str, Any] = {"port": 0, "identity": KeyPair.generate()} | settings
        self._relay: Relay | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None
        self.url = ""
        self.http_url: str | None = None

    def start(self) -> None:
        """Start it, on the same port as before if it ran before; returns when it listens."""
        started = Event()
        failure: list[BaseException] = []
        self._thread = Thread(
            target=self._run, args=(started, failure), name="agora-test-relay", daemon=True
        )
        self._thread.start()
        started.wait()
        if failure:
            raise failure[0]

    def stop(self) -> None:
        """Stop it gracefully, as SIGTERM does; returns when it is gone."""
        if self._thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread = None

    def restart(self) -> None:
        """Stop it and start it again at the same URL."""
        self.stop()
        self.start()

    @property
    def relay(self) -> Relay:
        """The relay itself, to look at; its methods belong to its own thread."""
        if self._relay is None or self._thread is None:
            raise ClosedError("the relay is not running")
        return self._relay

    def _run(self, started: Event, failure: list[BaseException]) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            self._stopping = asyncio.Event()
            async with Relay(**self._settings) as self._relay:
                self.url = self._relay.url
                self._settings["port"] = self._relay.port
                self.http_url = self._relay.http_url
                if self.http_url is not None:
                    self._settings["http_port"] = urlsplit(self.http_url).port
                started.set()
                await self._stopping.wait()

        try:
            asyncio.run(serve())
        except BaseException as error:
            failure.append(error)
        finally:
            started.set()


@contextmanager
def relay_in_thread(**settings: Any) -> Iterator[RelayInThread]:
    """
    Run a relay for the length of a ``with`` block.

    >>> with relay_in_thread() as relay:
    ...     relay.url.startswith("ws://127.0.0.1:")
    True
    """
    relay = RelayInThread(**settings)
    relay.start()
    try:
        yield relay
    finally:
        relay.stop()
