"""``agora request``: ask one peer, and print what it answers."""

from __future__ import annotations

import asyncio

import click

from agora.canonical import Json
from agora.cli.connecting import registered
from agora.cli.content import addressee, message_type, read_content
from agora.cli.exits import StoppedError
from agora.cli.options import Asked, common_options, payload_option, relay_options, seconds
from agora.cli.output import message_members, message_text
from agora.cli.recent_peers import RecentPeers
from agora.cli.send import not_taken
from agora.cli.signals import unless_stopped
from agora.client import Client, Message
from agora.errors import NoAnswerError, NotConnectedError

__all__ = ["request"]


@click.command(
    epilog="Exit codes: as of agora send; 7 no answer in time · 8 the relay could not hand it over"
)
@common_options
@relay_options
@click.argument("peer")
@click.argument("text", nargs=-1)
@payload_option
@click.option(
    *("--type", "kind"), metavar="TYPE", type=message_type, default="request", show_default=True
)
@click.option(
    *("--timeout", "timeout"),
    type=seconds,
    metavar="SECONDS",
    default="30",
    show_default=True,
    help="give up after this time",
)
@click.pass_obj
def request(
    asked: Asked, peer: str, text: tuple[str, ...], payload: str | None, kind: str, timeout: float
) -> None:
    """
    Send a request to a peer, and print its answer.

    PEER and TEXT are as for `agora send`. The answer is the first message from
    PEER that names the request in inReplyTo. A request is not kept: it goes out
    now or never. Other mail is left to agora listen.
    """
    config = asked.load()
    peer = addressee(peer, config.contacts)
    content = read_content(text, payload, config.contacts)
    client = asked.client(config, connect_timeout=0)
    recent = asked.recent_peers
    answer = asyncio.run(unless_stopped(_ask(client, recent, peer, content, kind, timeout)))
    if answer is None:
        raise StoppedError("interrupted; there was no answer yet")
    asked.say(message_text(answer, config.contacts), message_members(answer, config.contacts))


async def _ask(
    client: Client, recent: RecentPeers, peer: str, content: Json, kind: str, timeout: float
) -> Message:
    async with client:
        await _met(client, timeout)
        recent.note("wrote_to", client.resolve(peer))
        try:
            return await client.request(peer, content, type=kind, timeout=timeout)
        except NoAnswerError as late:
            if late.why is None:
                raise
            raise not_taken(late.why, peer, "try again later") from late


async def _met(client: Client, timeout: float) -> None:
    """Fail at once where no relay is there at first; one that goes away later may come back."""
    try:
        async with asyncio.timeout(timeout) as limit:
            await registered(client, is_patient=False)
    except TimeoutError as late:
        if not limit.expired():
            raise
        raise NotConnectedError(f"no relay has registered us within {timeout:g} s") from late
