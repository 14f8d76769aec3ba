"""``agora send``: done when the relay has taken the message, and not before."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import click

from agora.canonical import Json
from agora.cli.content import addressee, envelope_id, message_type, read_content
from agora.cli.exits import NotTakenError, StoppedError
from agora.cli.options import Asked, common_options, payload_option, relay_options, seconds
from agora.cli.output import styled_peer
from agora.cli.signals import unless_stopped
from agora.client import Client, ClientEvent, ConnectionState, Receipt, StateChanged, Status
from agora.codes import ErrorCode
from agora.envelope import EVERYONE
from agora.errors import AgoraError, NoAnswerError
from agora.keys import PeerId, is_peer_id
from agora.references import short_key
from agora.text import printable_line

__all__ = ["not_taken", "send"]


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
    "130 interrupted before it was taken"
)
@common_options
@relay_options
@click.argument("peer")
@click.argument("text", nargs=-1)
@payload_option
@click.option(
    *("--type", "kind"), metavar="TYPE", type=message_type, default="publish", show_default=True
)
@click.option(
    *("--in-reply-to", "in_reply_to"),
    metavar="ID",
    type=envelope_id,
    help="id of the message that this one answers",
)
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
    Send a message; exit code 0 says that the relay took it.

    PEER is a contact's name, a peer id, a short reference such as @125531b8,
    or '*' for everyone who is online. TEXT goes as {"text": TEXT}, and - reads
    it from standard input. The @name of a contact in it becomes @ and the full
    id, since others do not know your names.
    """
    if peer == EVERYONE and in_reply_to is not None:
        raise click.UsageError("an answer goes to one peer: --in-reply-to does not go with '*'")
    config = asked.load()
    content = read_content(text, payload, config.contacts)
    letter = _Letter(addressee(peer, config.contacts), content, kind, in_reply_to)
    timeout = 10.0 if timeout is None and not wait else timeout
    client = asked.client(config, reconnect=wait, connect_timeout=timeout)
    waiting = _Waiting(asked, client, letter) if wait else None
    receipt = asyncio.run(unless_stopped(_send(client, letter, waiting, timeout)))
    if receipt is None:
        raise StoppedError("interrupted; the relay had not taken it")
    if receipt.to == client.peer_id:
        asked.remark(_TO_ONESELF)
    to = EVERYONE if peer == EVERYONE else receipt.to
    shown = "everyone" if to == EVERYONE else styled_peer(PeerId(to), None, config.contacts)
    asked.say(
        f"sent to {shown}", {"status": "sent", "id": receipt.id, "to": to, "type": letter.type}
    )


_TO_ONESELF = (
    "that is your own id: this command was there to take it, and has not kept it; "
    "agora listen, or a mailbox, of yours has it too"
)


class _Waiting:
    """Tells a person what ``--wait`` waits for: each thing once."""

    def __init__(self, asked: Asked, client: Client, letter: _Letter) -> None:
        self._asked = asked
        self._client = client
        self._letter = letter
        self._told: set[str] = set()
        client.listen(self._hear)

    def tell(self, what: str) -> None:
        """Say that we wait, and why."""
        if what not in self._told:
            self._told.add(what)
            self._asked.remark(f"{what}; waiting, Ctrl-C gives up")

    def tell_why(self, receipt: Receipt) -> None:
        """Say what keeps the message, if anything does."""
        if receipt.why is not None:
            self.tell(_reason(receipt.why, self._letter.peer)[0])

    def _hear(self, event: ClientEvent) -> None:
        if isinstance(event, StateChanged) and event.state is ConnectionState.CONNECTING:
            self.tell(f"no relay at {printable_line(self._client.url)}")


async def _send(
    client: Client, letter: _Letter, waiting: _Waiting | None, timeout: float | None
) -> Receipt:
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
                if waiting:
                    waiting.tell_why(receipt)
                if waiting or receipt.why in _SOON:
                    await receipt.settled()
        except TimeoutError:
            if not limit.expired():
                raise
    if receipt is None or receipt.status is not Status.SENT:
        raise _why_not(client, letter.peer, receipt)
    return receipt


_SOON = (None, ErrorCode.RATE_LIMITED)
"""What keeps a message waiting for seconds; the rest may take as long as the peer is away."""


def _why_not(client: Client, peer: str, receipt: Receipt | None) -> AgoraError:
    """Return what kept a message to *peer* from being taken."""
    if client.error is not None:
        return client.error
    if receipt is not None and receipt.outgoing.refusal is not None:
        return receipt.outgoing.refusal
    if receipt is not None and receipt.why is not None:
        return not_taken(receipt.why, peer)
    return NoAnswerError("the relay did not say in time whether it took the message")


def not_taken(code: str, peer: str) -> NotTakenError:
    """Say what *code* means for a message to *peer*, and what can be done."""
    return NotTakenError(code, ": ".join(_reason(code, peer)))


def _reason(code: str, peer: str) -> tuple[str, str]:
    """Return what keeps a message to *peer*, and what its sender may do."""
    what, advice = _REASONS.get(code, ("the relay could not take it", _LATER))
    return what.format(short_key(peer) if is_peer_id(peer) else peer), advice


_LATER = "try again later, or with --wait"

_REASONS: dict[str, tuple[str, str]] = {
    ErrorCode.UNKNOWN_RECIPIENT: ("{} is not there, and has no mailbox at the relay", _LATER),
    ErrorCode.MAILBOX_FULL: (
        "the mailbox of {} is full",
        "try again when its owner has been there",
    ),
    ErrorCode.RATE_LIMITED: ("the relay limits how often you may send", _LATER),
}
