"""
``/v1``: requests become frames for the node, what it writes becomes answers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from itertools import islice
from typing import Annotated, Any

import msgspec
from litestar import delete, get, post
from litestar.params import HeaderParameter, JSONBody, QueryParameter, RawBody
from litestar.types import Receive

from agora.codes import ErrorCode
from agora.envelope import EVERYONE
from agora.frames import encode_broadcast, encode_submit
from agora.frames.members import is_traceparent
from agora.keys import PeerId
from agora.relay.http import legacy, shapes
from agora.relay.http.answers import Json, json_answer
from agora.relay.http.callers import AnyRequest, ThisDoor, ThisToken, address_of, is_head, own_end
from agora.relay.http.errors import ApiError, ErrorFrame
from agora.relay.http.postbox import Asked, Letter, Postbox
from agora.relay.http.replay import replay
from agora.sealing import now_ms

__all__ = ["ROUTES", "until_gone"]

# Registration


@post("/v1/challenge", status_code=200)
async def challenge(
    request: AnyRequest, door: ThisDoor, data: JSONBody[shapes.ChallengeRequest]
) -> shapes.Challenge:
    """
    Ask for a challenge, the first step of a registration.

    It serves once, for the key that asked, until `expiresAt`. Any number may be open.
    """
    door.check_open()
    made = door.challenges.make(
        PeerId(data.publicKey),
        data.nonce,
        address=address_of(request),
        audiences=door.audiences(*own_end(request)),
    )
    expires = now_ms() + int(door.config.register_timeout * 1000)
    return shapes.Challenge(made.nonce, made.relay, made.signature, expires)


@post("/v1/register", status_code=200, before_request=legacy.register_with_key)
async def register(
    door: ThisDoor, data: JSONBody[shapes.RegisterRequest]
) -> Json[shapes.Registered]:
    """
    Prove a key by signing the challenge, and get a token for it.

    Other tokens of the key stay good. A proof that fails uses its challenge up.
    """
    door.check_open()
    peer = PeerId(data.publicKey)
    door.check_name(data.name)
    found = await door.challenges.prove(peer, data.nonce, data.signature, data.audience)
    text, token = door.tokens.issue(peer, found.sessionId, name=data.name, metadata=data.metadata)
    answer = {"token": text, "expiresAt": token.exp * 1000, **msgspec.structs.asdict(found)}
    return json_answer(msgspec.json.encode(answer))


@delete("/v1/disconnect", status_code=200)
async def disconnect(request: AnyRequest, door: ThisDoor, token: ThisToken) -> shapes.Done:
    """
    Revoke the token, and end what it has open.

    Mail that was not acked waits for other tokens of the same key, and the next one.
    """
    await door.revoke(token, address_of(request))
    return shapes.Done()


# Sending


@post("/v1/send", status_code=200, before_request=legacy.send_unsigned)
async def send(
    request: AnyRequest,
    door: ThisDoor,
    token: ThisToken,
    data: JSONBody[shapes.SendRequest],
    body: RawBody,
    trace: Annotated[
        str,
        HeaderParameter(
            name="traceparent",
            description="Where in a trace it is sent (W3C Trace Context), as whatever traces adds "
            "it by itself; one that cannot be read is passed over. The body's own comes first.",
        ),
    ] = "",
) -> Json[shapes.Sent]:
    """
    Send an envelope.

    The answer comes when each recipient has it, or its mailbox has; it is an error when that
    is so for none. To send the same envelope again is harmless, and tells what became of it.
    The section `Mail` says what each status means.
    """
    text, claimed_id = _envelope_text(body), data.envelope.get("id")
    to = _recipients(data.to or data.envelope.get("to"))
    _check_everyone(to, data.envelope.get("to"))
    asked = Asked(claimed_id if isinstance(claimed_id, str) else None, set(to))
    frame = (
        encode_broadcast(text)
        if to == [EVERYONE]
        else encode_submit(
            to,
            text,
            confirm=data.confirm,
            after=data.after,
            traceparent=_place(trace, data.traceparent),
        )
    )
    session = door.session_of(token, address_of(request))
    at_most = door.config.http_max_wait
    await session.submit(address_of(request), frame, asked, wait=data.wait, at_most=at_most)
    return _sent(asked)


def _place(header: str, said: str | None) -> str | None:
    """
    Return where in a trace a message is: as it says, or the header that whatever traces adds.

    Raises:
        ApiError: ``invalid_message`` where it says what is none; such a header is left out, as
            W3C has it, for nobody wrote it for us.
    """
    if said is None:
        return header if is_traceparent(header) else None
    if not is_traceparent(said):
        raise ApiError(ErrorCode.INVALID_MESSAGE, 'Invalid message: invalid "traceparent"')
    return said


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


def _check_everyone(to: list[str], signed_for: Any) -> None:
    """
    Refuse a broadcast that is a letter too, or that is signed as one.

    Raises:
        ApiError: ``invalid_message`` or ``recipient_mismatch``.
    """
    if EVERYONE in to and len(to) > 1:
        text = 'Invalid message: "*" stands alone in "to": write to peers in a message of its own'
        raise ApiError(ErrorCode.INVALID_MESSAGE, text)
    if not isinstance(signed_for, list):
        return
    if EVERYONE in signed_for and len(signed_for) > 1:
        text = 'Invalid message: "*" stands alone in "to": sign one for everyone, one for peers'
        raise ApiError(ErrorCode.INVALID_MESSAGE, text)
    if to == [EVERYONE] and EVERYONE not in signed_for:
        # The reference's way, whose broadcasts name their sender, is for WebSockets alone.
        text = 'The envelope is not for everyone: sign one whose "to" is ["*"]'
        raise ApiError(ErrorCode.RECIPIENT_MISMATCH, text)


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
    request: AnyRequest,
    door: ThisDoor,
    token: ThisToken,
    wait: Annotated[
        float,
        QueryParameter(
            ge=0,
            le=86_400,
            description="Seconds to wait for mail while there is none; the relay has a bound.",
        ),
    ] = 0.0,
    limit: Annotated[
        int, QueryParameter(ge=1, le=1_000, description="Most messages to get.")
    ] = 100,
) -> Json[shapes.Messages]:
    """
    Get mail, the oldest first.

    With `wait` the answer comes as soon as there is any (long poll). Mail comes again
    until it is acked; a broadcast comes once.
    """
    address = address_of(request)
    with door.listening(token, address, waits=wait > 0) as (session, postbox):
        if not postbox.has_letters:
            await door.settle()  # what is in the mailbox is on its way
        at_most = min(wait, door.config.http_max_wait)
        is_there = await _wait_for_mail(door, postbox, at_most, request.receive)
        if not (postbox.is_open or door.is_stopping):
            raise session.why_ended()
        found = list(islice(postbox.letters(), limit if is_there else 0))
        has_more = postbox.count > len(found) or postbox.count >= door.config.window_messages
        if not is_head(request):
            postbox.give(found)
    if token.isLegacy:
        told, ids = legacy.plain_mail(found, since=request.query_params.get("since"))
        if ids and not is_head(request):
            session.ack(address, ids)
        return json_answer(legacy.encode_plain(told, has_more=has_more))
    return _mail(found, has_more=has_more)


def _mail(letters: Sequence[Letter], *, has_more: bool) -> Json[shapes.Messages]:
    texts = ",".join([letter.text for letter in letters])
    more = "true" if has_more else "false"
    return json_answer(f'{{"messages":[{texts}],"hasMore":{more}}}'.encode())


async def _wait_for_mail(
    door: ThisDoor, postbox: Postbox, seconds: float, receive: Receive
) -> bool:
    """Return when there is mail, or when it took too long; False when nobody waits any more."""
    if seconds <= 0 or postbox.has_letters:
        return True
    async with asyncio.TaskGroup() as group:
        gone = group.create_task(until_gone(receive))
        gone.add_done_callback(lambda task: postbox.changed.set())

        def is_over() -> bool:
            return postbox.has_letters or gone.done() or door.is_stopping or not postbox.is_open

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not is_over():
                    postbox.changed.clear()
                    await postbox.changed.wait()
        is_there = not gone.done()
        gone.cancel()
    return is_there


async def until_gone(receive: Receive) -> None:
    """Return when the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass


@post("/v1/ack", status_code=200)
async def ack(
    request: AnyRequest,
    door: ThisDoor,
    token: ThisToken,
    data: JSONBody[shapes.Ack],
) -> shapes.Done:
    """
    Say that these messages are done with.

    They do not come again, to whatever session or token of the key they came. Unknown
    ids change nothing.
    """
    address = address_of(request)
    door.session_of(token, address).ack(address, data.ids)
    return shapes.Done()


@post("/v1/nack", status_code=200)
async def nack(
    request: AnyRequest, door: ThisDoor, token: ThisToken, data: JSONBody[shapes.Nack]
) -> shapes.Done:
    """
    Have these messages come again, after a while.

    For messages that this token was given, and others mean nothing; one that was put off
    too often is given up, and its sender told.
    """
    door.session_of(token, address_of(request)).nack(data.ids, data.delayMs / 1000)
    return shapes.Done()


# Who is there


@get("/v1/peers")
async def peers(
    door: ThisDoor,
    token: ThisToken,
    after: Annotated[
        str, QueryParameter(description="`next` of the page before; left out: the first.")
    ] = "",
    limit: Annotated[int, QueryParameter(ge=1, le=1_000, description="Most peers to get.")] = 1_000,
) -> shapes.Peers:
    """
    Get the peers that can be reached.

    Those online, and those away that the operator has listed, without the one who asks; by
    peer id, a page at a time. Others have a mailbox too, and are not told of.
    """
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


ROUTES = (challenge, register, disconnect, send, messages, ack, nack, replay, peers)
