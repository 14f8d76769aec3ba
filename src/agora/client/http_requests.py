"""Requests by HTTP, one at a time: made, read within bounds, and said why they failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import httpx2

from agora.protocol.client.http import Answer, Exchange

__all__ = ["ask", "authorization", "cause_of", "read_answer", "words"]

_Cause = TypeVar("_Cause", bound=BaseException)


async def ask(
    client: httpx2.AsyncClient,
    method: str,
    path: str,
    *,
    body: str | None = None,
    headers: Mapping[str, str] | None = None,
    most: int,
) -> Answer:
    """
    Make a request and return what came back, which has at most *most* bytes.

    Raises:
        httpx2.HTTPError: When no answer came, or one that is too long.
    """
    content = None if body is None else body.encode()
    told = {"content-type": "application/json"} if body is not None else {}
    async with client.stream(
        method, path, content=content, headers={**told, **(headers or {})}
    ) as response:
        return await read_answer(response, most)


async def read_answer(response: httpx2.Response, most: int) -> Answer:
    """Read a response to its end; as `ask`."""
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > most:
            raise httpx2.ReadError(f"an answer of more than {most} bytes")
        parts.append(part)
    text = b"".join(parts).decode(errors="replace")
    return Answer(response.status_code, text, _retry_after(response))


def _retry_after(response: httpx2.Response) -> float | None:
    """Return the seconds to wait; a date (RFC 9110 section 10.2.3) is not read: clocks differ."""
    told = response.headers.get("retry-after", "")
    return float(told) if told.isascii() and told.isdigit() else None


def authorization(exchange: Exchange) -> dict[str, str]:
    """Return the header by which the relay knows us."""
    return {"authorization": f"Bearer {exchange.token}"}


def cause_of(error: BaseException, kind: type[_Cause]) -> _Cause | None:
    """Return the error of this kind among those that led to *error*."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, kind):
        found = found.__cause__ or found.__context__
    return found


def words(error: BaseException) -> str:
    """Return what went wrong, for people; some errors of a network have no words of their own."""
    return str(error) or type(error).__name__
