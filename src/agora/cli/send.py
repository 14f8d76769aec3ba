"""``agora send``: done when the relay has taken the message, and not before."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass

import click

from agora.canonical import Json, parse_json
from agora.cli.exits import NotTakenError
from agora.cli.options import Asked, common_options, relay_options, seconds
from agora.cli.output import styled_peer
from agora.client import Client, Receipt, Status
from agora.codes import ErrorCode
from agora.envelope import EVERYONE
from agora.errors import AgoraError, CanonicalJSONError, InputError, NoAnswerError
from agora.keys import PeerId, is_peer_id
from agora.references import Directory, expand_inline, short_key

__all__ = ["send"]


@dataclass(frozen=True, slots=True)
class _Letter:
    """What to send."""

    peer: str
    payload: Json
    type: str
    in_reply_to: str | None

    async def post(self, client: Client) -> Receipt:
        if self.peer == EVERYONE:
            return await client.broadcast(self.payload, type=self.type)
        return await client.send(
            self.peer, self.payload, type=self.type, in_reply_to=self.in_reply_to
        )


@click.command(
    epilog="Exit codes: 0 taken · 2 wrong arguments · 4 no such peer · 5 refused · 6 no relay · "
    "7 no answer in time · 8 not taken for now, such as unknown_recipient · "
    "all of them: docs/reference/cli.md"
)
@common_options
@relay_options
@click.argument("peer")
@click.argument("text", nargs=-1)
@click.option(
    *("--payload", "payload"),
    metavar="JSON",
    help="send this JSON value instead; - reads it from standard input",
)
@click.option("--type", "kind", metavar="TYPE", default="publish", show_default=True)
@click.option("--in-reply-to", metavar="ID", help="id of the message that this one answers")
@click.option("--wait", is_flag=True, help="wait for the relay, and for the peer, to come")
@click.option(
    *("--timeout", "timeout"),
    type=seconds,
    metavar="SECONDS",
    help="give up after this time  [default: 10; none with --wait]",
)
@click.pass_obj
def send(
    asked: Asked,
    peer: str,
    text: tuple[str, ...],
    payload: str | None,
    kind: str,
    in_reply_to: str | None,
    wait: bool,
    timeout: float | None,
) -> None:
    """
    Send TEXT to PEER, and exit with 0 only when the relay has taken it.

    PEER is a contact's name, a peer id, a short reference such as @125531b8,
    or '*' for everyone who is online. TEXT goes as {"text": TEXT}, and - reads
    it from standard input. The @name of a contact in it becomes @ and the full
    id, since others do not know your names.
    """
    if peer == EVERYONE and in_reply_to is not None:
        raise click.UsageError("an answer goes to one peer: --in-reply-to does not go with '*'")
    config = asked.load()
    letter = _Letter(peer, _content(text, payload, config.contacts), kind, in_reply_to)
    timeout = 10.0 if timeout is None and not wait else timeout
    client = asked.client(config, reconnect=wait, connect_timeout=timeout)
    receipt = asyncio.run(_send(client, letter, wait=wait, timeout=timeout))
    to = EVERYONE if peer == EVERYONE else receipt.to
    shown = "everyone" if to == EVERYONE else styled_peer(PeerId(to), None, config.contacts)
    asked.say(
        f"sent to {shown}", {"status": "sent", "id": receipt.id, "to": to, "type": letter.type}
    )


def _content(text: tuple[str, ...], payload: str | None, contacts: Directory) -> Json:
    if bool(text) is (payload is not None):
        raise click.UsageError("say what to send: either TEXT or --payload JSON")
    if payload is None:
        words = _standard_input() if text == ("-",) else " ".join(text)
        return {"text": expand_inline(words, contacts)}
    try:
        return parse_json(_standard_input() if payload == "-" else payload)
    except CanonicalJSONError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint="'--payload'") from error


def _standard_input() -> str:
    """Read to the end; the line break that ends the last line is not part of the text."""
    content = sys.stdin.buffer.read()
    try:
        return content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise InputError(f"standard input is no UTF-8 text: {error}") from error


async def _send(client: Client, letter: _Letter, *, wait: bool, timeout: float | None) -> Receipt:
    """
    Send the letter, and return its receipt when the relay has taken it.

    Raises:
        AgoraError: Why it has not.
    """
    deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
    receipt = None
    async with client:
        try:
            async with asyncio.timeout_at(deadline) as limit:
                receipt = await letter.post(client)
                if wait or receipt.why in _SOON:
                    await receipt.settled()
        except TimeoutError:
            if not limit.expired():
                raise
    if receipt is None or receipt.status is not Status.SENT:
        raise _why_not(client, letter, receipt)
    return receipt


_SOON = (None, ErrorCode.RATE_LIMITED)
"""What keeps a message waiting for seconds; the rest may take as long as the peer is away."""


def _why_not(client: Client, letter: _Letter, receipt: Receipt | None) -> AgoraError:
    if client.error is not None:
        return client.error
    if receipt is not None and receipt.outgoing.refusal is not None:
        return receipt.outgoing.refusal
    if receipt is not None and receipt.why is not None:
        reason = _REASONS.get(receipt.why, "the relay could not take it")
        peer = short_key(letter.peer) if is_peer_id(letter.peer) else letter.peer
        return NotTakenError(receipt.why, reason.format(peer))
    return NoAnswerError("the relay did not say in time whether it took the message")


_REASONS: dict[str, str] = {
    ErrorCode.UNKNOWN_RECIPIENT: "{} is not there, and has no mailbox at the relay: "
    "try again later, or with --wait",
    ErrorCode.MAILBOX_FULL: "the mailbox of {} is full: try again when its owner has been there",
    ErrorCode.RATE_LIMITED: "the relay limits how often you may send: try again later",
}
