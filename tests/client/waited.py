"""
The client without ``await``, with ``await``: so that one set of tests holds for both.

Every call that would wait waits in a thread of its own, as programs without asyncio do.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable
from typing import Any, Self

import agora
from agora.errors import ClosedError

__all__ = ["WaitedClient"]


class _Waited:
    """What has methods that wait."""

    def __init__(self, original: Any) -> None:
        self._original = original

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._original, name)
        return _awaited(found) if name in _WAITING else found


_WAITING = {"connect", "close", "send", "send_group", "broadcast", "request"} | {
    "kept",
    "settled",
    "confirmed",
    "reply",
    "ack",
    "nack",
    "give_up",
}


def _awaited(call: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(call)
    async def wait(*args: Any, **kwargs: Any) -> Any:
        return _wrapped(await asyncio.to_thread(call, *args, **kwargs))

    return wait


def _wrapped(result: Any) -> Any:
    if isinstance(result, list):
        return [_wrapped(each) for each in result]
    return (
        _Waited(result) if isinstance(result, agora.sync.Message | agora.sync.Receipt) else result
    )


class WaitedClient(_Waited):
    """An :class:`agora.sync.Client`, as far as the contract of relays knows a client."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(agora.sync.Client(*args, **kwargs))
        self._messages = iter(self._original)

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._original.connect)
        return self

    async def __aexit__(self, *error: object) -> None:
        await asyncio.to_thread(self._original.close)

    async def __anext__(self) -> Any:
        message = await asyncio.to_thread(next, self._messages, None)
        if message is None:
            raise StopAsyncIteration
        return _Waited(message)

    def post(self, *args: Any, **kwargs: Any) -> Any:
        """Put a message into the outbox."""
        return _Waited(self._original.post(*args, **kwargs))

    def listen(self, listener: Callable[[Any], object]) -> Callable[[], None]:
        """Call a listener here with what happens there."""
        loop = asyncio.get_running_loop()
        stop: Callable[[], None] = self._original.listen(
            lambda event: loop.call_soon_threadsafe(listener, event)
        )
        return stop

    @property
    def outbox(self) -> tuple[Any, ...]:
        """What waits."""
        return tuple(_Waited(receipt) for receipt in self._original.outbox)

    def on(self, type: str | None = None) -> Callable[[Any], Any]:
        """Have a coroutine function be the handler."""

        def register(handler: Callable[[Any], Awaitable[object]]) -> Any:
            loop = asyncio.get_running_loop()

            def handle(message: Any) -> None:
                waited: Any = handler(_Waited(message))
                asyncio.run_coroutine_threadsafe(waited, loop).result()

            self._original.on(type)(handle)
            return handler

        return register

    async def run(self) -> None:
        """Hand messages to their handlers, until cancelled."""
        running = asyncio.get_running_loop().run_in_executor(None, self._original.run)
        try:
            await asyncio.shield(running)
        finally:
            await asyncio.to_thread(self._original.close)
            with contextlib.suppress(ClosedError):
                await running
