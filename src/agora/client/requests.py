"""Requests that wait for their reply: the first message from whom was asked that names them."""

from __future__ import annotations

import asyncio

from agora.client.message import Message
from agora.errors import AgoraError
from agora.protocol.client.outbox import Outgoing

__all__ = ["Requests"]


class Requests:
    """Who waits for which reply."""

    def __init__(self) -> None:
        self._waiting: dict[Outgoing, asyncio.Future[Message]] = {}

    async def reply_to(self, outgoing: Outgoing) -> Message:
        """
        Wait for the reply to a request.

        Raises:
            AgoraError: When the request was refused, or nothing can come any more.
        """
        reply: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[outgoing] = reply
        try:
            return await reply
        finally:
            del self._waiting[outgoing]

    def take(self, message: Message) -> bool:
        """Give a message to whoever waits for it; tell whether anybody did."""
        for outgoing, reply in self._waiting.items():
            is_answer = message.in_reply_to == outgoing.envelope.id
            if is_answer and message.sender == outgoing.to and not reply.done():
                reply.set_result(message)
                return True
        return False

    def refuse(self, outgoing: Outgoing, refusal: AgoraError) -> None:
        """The request was refused, if it is one."""
        reply = self._waiting.get(outgoing)
        if reply is not None and not reply.done():
            reply.set_exception(refusal)

    def end(self, error: AgoraError) -> None:
        """No reply can come any more."""
        for outgoing in list(self._waiting):
            self.refuse(outgoing, error)
