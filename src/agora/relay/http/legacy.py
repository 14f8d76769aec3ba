"""
The reference's REST API: a private key is sent, and the relay signs for its owner.

Served where the operator says so (`rest_private_keys`), and refused with the
way to do it right anywhere else. A key is in memory for as long as its token
lives, never on disk; after a restart its owner registers again. What the
reference drops or bypasses is not copied: mail goes through the mailbox.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from litestar import Response

from agora.codes import ErrorCode, HttpErrorCode
from agora.envelope import Envelope, seal
from agora.errors import InputError
from agora.frames import encode_delivery, encode_submit
from agora.keys import KeyPair
from agora.protocol.proof import OVER_HTTP, sign_proof
from agora.protocol.relay.actions import Mail
from agora.relay.http.answers import json_answer
from agora.relay.http.bodies import members_of
from agora.relay.http.callers import (
    AnyRequest,
    address_of,
    authenticate,
    check_media_type,
    door_of,
    own_end,
)
from agora.relay.http.door import Door
from agora.relay.http.errors import ApiError, not_registered
from agora.relay.http.moments import read_moment
from agora.relay.http.postbox import Asked, Letter
from agora.relay.http.tokens import Metadata, Token
from agora.sealing import now_ms

__all__ = ["encode_plain", "plain_mail", "register_with_key", "replay_plain", "send_unsigned"]

_NONCE = "0" * 64
"""For the relay to sign to itself."""


class LegacyError(ApiError):
    """An error as the reference says it: a text. The code is beside it."""

    @property
    def body(self) -> bytes:
        """The JSON that is answered."""
        error = {"error": self.message, "code": str(self.code), **self.beside}
        return msgspec.json.encode(error)


# Registration


class _Registration(msgspec.Struct):
    publicKey: Any = None
    privateKey: Any = None
    name: str | None = None
    metadata: Metadata | None = None


async def register_with_key(request: AnyRequest) -> Response[Any] | None:
    """
    Answer a registration that brings a private key; None for one that does not.

    Raises:
        ApiError: ``private_key_refused``, or what else is wrong with it.
    """
    await check_media_type(request)  # this stands in the place of what all others pass
    body = await request.body()
    if "privateKey" not in members_of(body):
        return None
    door = door_of(request)
    _check_enabled(door, "Keep the private key: ask /v1/challenge, sign, then register")
    try:
        asked = _REGISTRATION.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None  # what is wrong with it is said as of any other
    door.check_open()
    door.check_name(asked.name)
    keys = _key_pair(asked)
    found, token = await _register(request, door, keys, asked)
    door.keep_key(token, keys)
    peers, _ = door.node.peers(keys.peer_id, after="", at_most=1_000)
    listed = [{"publicKey": one.public_key, "lastSeen": seen} for one, seen in peers if seen]
    answer = {"token": found, "expiresAt": token.exp * 1000, "peers": listed}
    return json_answer(msgspec.json.encode(answer), status_code=200)


def _key_pair(asked: _Registration) -> KeyPair:
    for name in ("publicKey", "privateKey"):
        value = getattr(asked, name)
        if not isinstance(value, str) or not value:
            raise LegacyError(ErrorCode.INVALID_MESSAGE, f"{name} is required")
    try:
        return KeyPair.from_hex(asked.publicKey, asked.privateKey)
    except InputError as error:
        text = f"Key pair verification failed: {error}"
        raise LegacyError(ErrorCode.INVALID_MESSAGE, text) from error


async def _register(
    request: AnyRequest, door: Door, keys: KeyPair, asked: _Registration
) -> tuple[str, Token]:
    """Prove the key as its owner would, so that it is known, and has a mailbox."""
    audiences = door.audiences(*own_end(request)) or ("localhost:80",)
    made = door.challenges.make(
        keys.peer_id, _NONCE, address=address_of(request), audiences=audiences
    )
    signature = sign_proof(
        keys, audience=audiences[0], nonce=made.nonce, relay=door.relay, purposes=OVER_HTTP
    )
    found = await door.challenges.prove(keys.peer_id, made.nonce, signature, audiences[0])
    return door.tokens.issue(
        keys.peer_id, found.sessionId, name=asked.name, metadata=asked.metadata, is_legacy=True
    )


_REGISTRATION = msgspec.json.Decoder(_Registration)


def _check_enabled(door: Door, how: str) -> None:
    if not door.config.rest_private_keys:
        text = f"{how}; /openapi.json has the recipe. This relay takes no private keys"
        raise ApiError(HttpErrorCode.PRIVATE_KEY_REFUSED, text)


# Sending


class _Unsigned(msgspec.Struct):
    to: str | None = None
    type: str | None = None
    payload: Any = msgspec.UNSET
    inReplyTo: str | None = None


async def send_unsigned(request: AnyRequest) -> Response[Any] | None:
    """
    Sign and send what came without a signature; None for what has one.

    Raises:
        ApiError: ``private_key_refused``, or what else is wrong with it.
    """
    await check_media_type(request)
    body = await request.body()
    members = members_of(body)
    door = door_of(request)
    if "privateKey" in members or _holds_key(members):
        _check_enabled(door, "Keep the private key: sign the message yourself")
    if "envelope" in members or not members.keys() & {"type", "payload"}:
        return None  # signed, or no message of either kind
    _check_enabled(door, "Sign the message yourself, and send it as `envelope`")
    try:
        asked = _UNSIGNED.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    token = await authenticate(request, door)
    envelope = _sealed(door, token, asked)
    answers = Asked(envelope.id, {str(asked.to)})
    frame = encode_submit(str(asked.to), envelope.wire_text)
    session = door.session_of(token, address_of(request))
    wait = door.config.http_max_wait
    await session.submit(address_of(request), frame, answers, at_most=wait)
    if answers.errors:
        error = ApiError.of(answers.errors[0])
        raise LegacyError(error.code, error.message, **error.members)
    answer = {"ok": True, "envelopeId": envelope.id}
    return json_answer(msgspec.json.encode(answer), status_code=200)


def _holds_key(members: Mapping[str, msgspec.Raw]) -> bool:
    """Tell whether a private key stands among what should be signed."""
    return "envelope" in members and "privateKey" in members_of(members["envelope"])


def _sealed(door: Door, token: Token, asked: _Unsigned) -> Envelope:
    keys = door.key_of(token)
    if keys is None:
        error = not_registered("no_key", "Session not found — please re-register")
        raise LegacyError(error.code, error.message, reason="no_key")
    for name, value in (("to", asked.to), ("type", asked.type)):
        if not value:
            raise LegacyError(ErrorCode.INVALID_MESSAGE, f"{name} is required")
    if asked.payload is msgspec.UNSET:
        raise LegacyError(ErrorCode.INVALID_MESSAGE, "payload is required")
    try:
        return seal(
            keys,
            type=str(asked.type),
            payload=asked.payload,
            to=asked.to,
            timestamp_ms=now_ms(),
            in_reply_to=asked.inReplyTo,
        )
    except InputError as error:
        raise LegacyError(ErrorCode.INVALID_MESSAGE, str(error)) from error


_UNSIGNED = msgspec.json.Decoder(_Unsigned)


# Receiving


class _Plain(msgspec.Struct, omit_defaults=True):
    """A message as the reference tells it."""

    id: str
    sender: str = msgspec.field(name="from")
    type: str
    payload: Any
    timestamp: float
    inReplyTo: str | None = None
    fromName: str | None = None


class _Delivery(msgspec.Struct):
    sender: str = msgspec.field(name="from")
    envelope: dict[str, Any]
    name: str | None = None


_DELIVERY = msgspec.json.Decoder(_Delivery)


def plain_mail(letters: Iterable[Letter], *, since: str | None) -> tuple[list[_Plain], list[str]]:
    """
    Return messages as the reference tells them, and the ids of those that are gone by it.

    What was polled is gone, unless it was asked for by *since*, which is a time in
    milliseconds that the envelope's own is compared with.
    """
    letters = list(letters)
    told = [_plain(_read(letter.text)) for letter in letters]
    if since is None:
        return told, [letter.id for letter in letters if letter.id]
    try:
        return [one for one in told if one.timestamp > float(since)], []
    except ValueError:
        return [], []  # as the reference: what is no number is after everything


async def replay_plain(request: AnyRequest) -> Response[Any] | None:
    """
    Tell acked mail to who has a token of the reference's kind; None for all others.

    Its *since* is compared with the envelopes' own times, and messages are told in the order
    of these: from the last one that it was told, such a client goes on.

    Raises:
        ApiError: What is wrong with the request, in the words of the reference.
    """
    door = door_of(request)
    if not (door.config.retain and _is_of_legacy(request, door)):
        return None
    token = await authenticate(request, door)
    since_ms = _since_ms(request.query_params.get("since"))
    limit = _limit(request.query_params.get("limit", str(_REPLAY_LIMIT)))
    if since_ms < now_ms() - door.config.retain * 1000:
        text = f"`since` is older than the retention window of {door.config.retain:g} s"
        beside = {"message": text}
        raise LegacyError(ErrorCode.INVALID_MESSAGE, "retention_exceeded", beside=beside)
    told, has_more = await _acked_behind(door, token, since_ms, limit)
    return json_answer(encode_plain(told, has_more=has_more), status_code=200)


def _is_of_legacy(request: AnyRequest, door: Door) -> bool:
    text = request.headers.get("authorization", "").partition(" ")[2].strip()
    try:
        return door.tokens.read(text).isLegacy
    except ApiError:
        return False  # which is said as to any other


def _since_ms(since: str | None) -> int:
    if not since:
        text = "`since` query parameter is required (ISO8601 timestamp)"
        raise LegacyError(ErrorCode.INVALID_MESSAGE, text)
    try:
        return read_moment(since)
    except ValueError as error:
        text = "Invalid `since` value — must be a valid ISO8601 timestamp"
        raise LegacyError(ErrorCode.INVALID_MESSAGE, text) from error


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:9])):
        text = "Invalid `limit` value — must be a positive integer"
        raise LegacyError(ErrorCode.INVALID_MESSAGE, text)
    return min(int(text[:9]), _REPLAY_MOST)


_REPLAY_LIMIT, _REPLAY_MOST = 100, 500
"""Messages of one replay, unless more are of one time, which is where the next one begins."""


async def _acked_behind(
    door: Door, token: Token, since_ms: int, limit: int
) -> tuple[list[_Plain], bool]:
    """Return the acked messages of the least times above *since_ms*, and whether there are more."""
    first: list[_Plain] = []
    has_more, is_last, after = False, False, 0
    while not is_last:
        # All of them: a sender's clock may have been anywhere.
        page = await door.replay(token, since_ms=0, after=after, at_most=_REPLAY_MOST)
        is_last, after = page.is_last, page.mail[-1].position if page.mail else after
        told = [_plain_of(mail) for mail in page.mail if mail.envelope_id]
        first += [one for one in told if one.timestamp > since_ms]
        first.sort(key=lambda one: one.timestamp)
        has_more = _cut(first, limit) or has_more
    return first, has_more


def _plain_of(mail: Mail) -> _Plain:
    return _plain(_read(encode_delivery(mail.sender, mail.text, mail.name)))


def _cut(told: list[_Plain], limit: int) -> bool:
    """Leave the first *limit* messages and those of the last one's time; tell if it cut any."""
    end = limit
    while end < len(told) and told[end].timestamp == told[limit - 1].timestamp:
        end += 1
    is_cut = end < len(told)
    del told[end:]
    return is_cut


def encode_plain(told: list[_Plain], *, has_more: bool) -> bytes:
    """Return the answer that has these messages."""
    answer = {"messages": told, "hasMore": has_more}
    try:
        return msgspec.json.encode(answer)
    except UnicodeEncodeError:  # half a surrogate
        return json.dumps(msgspec.to_builtins(answer)).encode()


def _read(text: str) -> _Delivery:
    try:
        return _DELIVERY.decode(text)
    except msgspec.MsgspecError:  # half a surrogate, which is JSON all the same
        return msgspec.convert(json.loads(text), _Delivery)


def _plain(delivery: _Delivery) -> _Plain:
    members = delivery.envelope
    return _Plain(
        members["id"],
        delivery.sender,
        members["type"],
        members.get("payload"),
        members["timestamp"],
        members.get("inReplyTo"),
        delivery.name,
    )
