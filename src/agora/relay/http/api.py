"""
``/v1``: requests become frames for the node, what it writes becomes answers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from itertools import islice
from typing import Annotated, Any, TypeVar

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.params import Parameter
from litestar.types import Receive

from agora.codes import ErrorCode
from agora.envelope import EVERYONE
from agora.frames import encode_broadcast, encode_submit
from agora.keys import PeerId
from agora.relay.http import shapes
from agora.relay.http.door import Door
from agora.relay.http.errors import ApiError, ErrorFrame, not_registered
from agora.relay.http.postbox import Asked, Letter, Postbox
from agora.relay.http.sessions import unavailable
from agora.relay.http.tokens import Token
from agora.sealing import now_ms

__all__ = ["ROUTES", "authenticate"]

_Answer = TypeVar("_Answer")
_Any = Request[Any, Any, Any]


class Json(Response[_Answer]):
    """An answer whose JSON is there already; ``_Answer`` is for the document."""

    def render(self, content: Any, media_type: str, enc_hook: Any = None) -> bytes:
        """Return it."""
        return content if isinstance(content, bytes) else msgspec.json.encode(content)


def json_answer(body: bytes, **options: Any) -> Json[Any]:
    """Return an answer whose JSON is *body*; options as for litestar's ``Response``."""
    return Json(body, **options)


# Who asks


async def authenticate(request: _Any, door: Door) -> Token:
    """
    Return the token of a request, and count the request for its key.

    Raises:
        ApiError: ``not_registered``, ``rate_limited`` or ``unavailable``.
    """
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not text:
        raise not_registered("missing_token", "Missing or malformed Authorization header")
    token = door.tokens.read(text.strip())
    door.rates.spend("key", token.publicKey, notes_of(request))
    door.check_open()
    return token


def notes_of(request: _Any) -> dict[str, Any]:
    """Return what the gate knows of a request."""
    notes: dict[str, Any] = request.scope["state"]
    return notes


def address_of(request: _Any) -> str:
    """Return where a request comes from, by which rates are counted."""
    return str(notes_of(request)["address"])


# Registration


@post("/v1/challenge", status_code=200)
async def challenge(request: _Any, door: Door, data: shapes.ChallengeRequest) -> shapes.Challenge:
    """Ask for a challenge, the first step of a registration."""
    door.check_open()
    made = door.challenges.make(
        PeerId(data.publicKey),
        data.nonce,
        address=address_of(request),
        audiences=door.audiences(*_own_end(request)),
    )
    expires = now_ms() + int(door.config.register_timeout * 1000)
    return shapes.Challenge(made.nonce, made.relay, made.signature, expires)


def _own_end(request: _Any) -> tuple[str, int]:
    host, port = request.scope["server"] or ("", 0)
    return host, port or 0


@post("/v1/register", status_code=200)
async def register(door: Door, data: shapes.RegisterRequest) -> Json[shapes.Registered]:
    """Prove a key by signing the challenge, and get a token for it."""
    door.check_open()
    peer = PeerId(data.publicKey)
    door.check_name(data.name)
    found = await door.challenges.prove(peer, data.nonce, data.signature, data.audience)
    text, token = door.tokens.issue(peer, found.sessionId, name=data.name, metadata=data.metadata)
    answer = {"token": text, "expiresAt": token.exp * 1000, **msgspec.structs.asdict(found)}
    return json_answer(msgspec.json.encode(answer))


@delete("/v1/disconnect", status_code=200)
async def disconnect(door: Door, token: Token) -> shapes.Done:
    """Revoke the token, and end what it has open."""
    write_down = door.tokens.revocations.add(token)
    door.sessions.end(token)
    await asyncio.to_thread(write_down)
    return shapes.Done()


# Sending


@post("/v1/send", status_code=200)
async def send(
    request: _Any, door: Door, token: Token, data: shapes.SendRequest, body: bytes
) -> Json[shapes.Sent]:
    """Send an envelope; the answer comes when it is delivered or stored."""
    text, claimed_id = _envelope_text(body), data.envelope.get("id")
    to = _recipients(data.to or data.envelope.get("to"))
    asked = Asked(claimed_id if isinstance(claimed_id, str) else None, set(to))
    frame = (
        encode_broadcast(text)
        if to == [EVERYONE]
        else encode_submit(to, text, confirm=data.confirm, after=data.after)
    )
    session = door.sessions.of(token)
    await session.submit(address_of(request), frame, asked, at_most=door.config.http_max_wait)
    return _sent(asked)


def _envelope_text(body: bytes) -> str:
    """Return the envelope as it came: numbers written otherwise have another signature."""
    try:
        return bytes(_RAW.decode(body).envelope).decode()
    except (UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise ApiError(ErrorCode.INVALID_MESSAGE, f"Invalid message: {error}") from error


class _Raw(msgspec.Struct):
    envelope: msgspec.Raw


_RAW = msgspec.json.Decoder(_Raw)


def _recipients(to: Any) -> list[str]:
    if isinstance(to, str):
        return [to]
    if isinstance(to, list) and to and all(isinstance(one, str) and one for one in to):
        return list(dict.fromkeys(to))
    text = 'Invalid message: "to" is neither in the request nor in the envelope'
    raise ApiError(ErrorCode.INVALID_MESSAGE, text)


def _sent(asked: Asked) -> Json[shapes.Sent]:
    if asked.errors and not asked.receipts and not asked.open:
        errors = [_members(one) for one in asked.errors]
        raise ApiError.of(asked.errors[0], beside={"errors": errors})
    receipts = ",".join(asked.receipts).encode()
    others = {"errors": [_members(one) for one in asked.errors], "pending": sorted(asked.open)}
    body = b'{"receipts":[%b],%b' % (receipts, msgspec.json.encode(others)[1:])
    return json_answer(body, status_code=202 if asked.open else 200)


def _members(error: ErrorFrame) -> dict[str, Any]:
    members = msgspec.structs.asdict(error)
    return {name: value for name, value in members.items() if value is not None}


# Receiving


@get("/v1/messages")
async def messages(
    request: _Any,
    door: Door,
    token: Token,
    wait: Annotated[
        float,
        Parameter(ge=0, le=86_400, description="Seconds to wait for mail, where there is none."),
    ] = 0.0,
    limit: Annotated[int, Parameter(ge=1, le=1_000, description="Most messages to get.")] = 100,
) -> Json[shapes.Messages]:
    """Get mail, the oldest first; waits for it (long poll). It comes again until it is acked."""
    with door.sessions.of(token).receive(address_of(request)) as postbox:
        if not postbox.has_letters:
            await door.settle()  # what is in the mailbox is on its way
        await _wait_for_mail(door, postbox, min(wait, door.config.http_max_wait), request.receive)
        if not postbox.is_open:
            raise unavailable()
        found = list(islice(postbox.letters(), limit))
        has_more = postbox.count > len(found) or postbox.count >= door.config.window_messages
        postbox.give(found)
    return json_answer(_mail(found, has_more=has_more))


def _mail(letters: Sequence[Letter], *, has_more: bool) -> bytes:
    texts = ",".join([letter.text for letter in letters])
    return f'{{"messages":[{texts}],"hasMore":{"true" if has_more else "false"}}}'.encode()


async def _wait_for_mail(door: Door, postbox: Postbox, seconds: float, receive: Receive) -> None:
    """Return when there is mail, when it took too long, or when nobody waits any more."""
    if seconds <= 0 or postbox.has_letters:
        return
    async with asyncio.TaskGroup() as group:
        gone = group.create_task(_gone(receive))
        gone.add_done_callback(lambda task: postbox.changed.set())

        def is_over() -> bool:
            return postbox.has_letters or gone.done() or door.is_stopping or not postbox.is_open

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not is_over():
                    postbox.changed.clear()
                    await postbox.changed.wait()
        gone.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@post("/v1/ack", status_code=200)
async def ack(request: _Any, door: Door, token: Token, data: shapes.Ack) -> shapes.Done:
    """Say that these messages are done with; they do not come again."""
    door.sessions.of(token).ack(address_of(request), data.ids)
    return shapes.Done()


@post("/v1/nack", status_code=200)
async def nack(door: Door, token: Token, data: shapes.Nack) -> shapes.Done:
    """Have these messages come again, after a while."""
    door.sessions.of(token).nack(data.ids, data.delayMs / 1000)
    return shapes.Done()


# Who is there


@get("/v1/peers")
async def peers(
    door: Door,
    token: Token,
    after: Annotated[str, Parameter(description="`next` of the page before.")] = "",
    limit: Annotated[int, Parameter(ge=1, le=1_000, description="Most peers to get.")] = 1_000,
) -> shapes.Peers:
    """Get the peers that can be reached: those online, and listed ones that have a mailbox."""
    found, total = door.node.peers(token.publicKey, after=after, at_most=limit + 1)
    listed = [
        shapes.Peer(
            peer.public_key,
            peer.is_online,
            peer.name,
            seen_ms,
            door.sessions.metadata_of(peer.public_key),
        )
        for peer, seen_ms in found[:limit]
    ]
    return shapes.Peers(listed, total, listed[-1].publicKey if len(found) > limit else None)


ROUTES = (challenge, register, disconnect, send, messages, ack, nack, peers)
