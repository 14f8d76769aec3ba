"""
``/v1/messages/replay``: mail that was acked, for as long as the operator keeps it.

It is read and nothing else: no session is opened, and what is told here is not under way
to anybody.
"""

from __future__ import annotations

from typing import Annotated

from litestar import get
from litestar.params import QueryParameter

from agora.codes import ErrorCode
from agora.frames import encode_delivery
from agora.protocol.relay.actions import Mail
from agora.relay.http import legacy, shapes
from agora.relay.http.answers import Json, json_answer
from agora.relay.http.callers import AnyRequest, ThisDoor, ThisToken
from agora.relay.http.errors import ApiError
from agora.relay.http.moments import read_moment

__all__ = ["replay"]


@get("/v1/messages/replay", before_request=legacy.replay_plain)
async def replay(
    request: AnyRequest,
    door: ThisDoor,
    token: ThisToken,
    since: Annotated[
        str,
        QueryParameter(
            description="Mail that was acked at this moment of the relay's clock or later: a date, "
            "or a date and a time, as ISO 8601 has it; UTC where it has no offset. Left out: all.",
        ),
    ] = "",
    after: Annotated[
        int,
        QueryParameter(
            ge=0, le=2**53 - 1, description="`next` of the page before: what is behind it."
        ),
    ] = 0,
    limit: Annotated[int, QueryParameter(ge=1, le=500, description="Most messages to get.")] = 100,
) -> Json[shapes.Replayed]:
    """
    Get mail that was acked already, in the order of its acks.

    For who has lost what it had. Nothing changes by it: such mail is not brought again, and
    needs no ack. The operator says for how long it is kept (`--retain`); 501 where it is
    not at all. A page may end before `limit`: go on with `next` while `hasMore` is true. It
    stays good, so that whoever asks with it later gets what was acked since.
    """
    since_ms = _since_ms(since) if "since" in request.query_params else 0
    page = await door.replay(token, since_ms=since_ms, after=after, at_most=limit)
    texts = ",".join(map(_text, page.mail))
    more = "true" if not page.is_last else "false"
    last = page.mail[-1].position if page.mail else after
    return json_answer(f'{{"messages":[{texts}],"hasMore":{more},"next":{last}}}'.encode())


def _since_ms(since: str) -> int:
    try:
        return read_moment(since)
    except ValueError as error:
        text = f"Invalid message: `since` is no ISO 8601 time: {error}"
        raise ApiError(ErrorCode.INVALID_MESSAGE, text) from error


def _text(mail: Mail) -> str:
    # It was kept, so that its age says nothing.
    return encode_delivery(mail.sender, mail.text, mail.name, is_stored=True, confirm=mail.confirm)
