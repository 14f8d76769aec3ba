"""``agora send``: done when the relay has taken the message; what it cannot take now is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from agora.canonical import Json
from agora.cli.connecting import connect, registered
from agora.cli.content import addressee, envelope_id, message_type, read_content
from agora.cli.exits import NotTakenError, StoppedError
from agora.cli.options import (
    Asked,
    common_options,
    outbox_options,
    payload_option,
    relay_options,
    seconds,
)
from agora.cli.output import Members, error_line, outgoing_text, some, styled_peer
from agora.cli.signals import unless_stopped
from agora.client import (
    Client,
    ClientEvent,
    ConnectionState,
    Receipt,
    StateChanged,
    Status,
    Trouble,
)
from agora.client.store import StoreDamagedError, StoreInUseError
from agora.codes import ErrorCode
from agora.envelope import EVERYONE
from agora.errors import AgoraError, NoAnswerError, NotConnectedError, RefusedError
from agora.files import Config
from agora.keys import PeerId, is_peer_id
from agora.references import Directory, expand, short_key
from agora.text import printable_line

__all__ = ["not_taken", "send"]


@dataclass(frozen=True, slots=True)
class _Letter:
    """
    What to send.

    Attributes:
        peer: Its recipient as asked for.
        to: Its recipient's id; None where only a relay can tell it, and for everyone.
    """

    peer: str
    to: PeerId | None
    payload: Json
    type: str
    in_reply_to: str | None
    confirm: bool

    async def post(self, client: Client) -> Receipt:
        """Put it into the outbox; a broadcast, which nothing keeps, goes out at once."""
        if self.peer == EVERYONE:
            return await client.broadcast(self.payload, type=self.type)
        receipt = client.post(
            self.to or self.peer,
            self.payload,
            type=self.type,
            in_reply_to=self.in_reply_to,
            confirm=self.confirm,
        )
        await receipt.kept()
        return receipt


@click.command(
    epilog="Exit codes: 0 taken · 2 wrong arguments · 4 no such peer · 5 refused · 6 no relay · "
    "7 no answer in time · 8 not taken for now, such as unknown_recipient · 11 another relay · "
    "130 interrupted. Where it says that the message is kept in the outbox, it goes out later."
)
@common_options
@relay_options
@outbox_options
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
@click.option("--confirm", is_flag=True, help="wait until the peer has signed that it is done")
@click.option("--wait", is_flag=True, help="wait for the relay, and for the peer, to come")
@click.option(
    *("--timeout", "timeout"),
    type=seconds,
    metavar="SECONDS",
    help="give up after this time  [default: 10, 30 with --confirm; none with --wait]",
)
@click.pass_obj
def send(
    asked: Asked,
    peer: str,
    text: tuple[str, ...],
    payload: str | None,
    kind: str,
    in_reply_to: str | None,
    confirm: bool,
    wait: bool,
    timeout: float | None,
) -> None:
    """
    Send a message; exit code 0 says that the relay took it.

    PEER is a contact's name, a peer id, '*' for everyone who is online, or a
    short reference such as @125531b8: of a contact, of who is online, or of whom
    agora listen has shown a message. TEXT goes as {"text": TEXT}, and - reads it
    from standard input. The @name of a contact in it becomes @ and the full id,
    since others do not know your names.

    It says what the relay said: delivered, the peer has it; stored, it waits in
    the peer's mailbox; sent, no more is known; duplicate, it was taken before.
    What cannot be taken now is queued: it stays in the outbox, and goes out with
    the next agora send or agora listen. A broadcast is never kept.
    """
    if peer == EVERYONE and (in_reply_to is not None or confirm):
        raise click.UsageError("--in-reply-to and --confirm are for one peer, and not for '*'")
    config = asked.load()
    content = read_content(text, payload, config.contacts)
    peer = addressee(peer, config.contacts)
    to = _found(peer, asked.directory(config))
    letter = _Letter(peer, to, content, kind, in_reply_to, confirm)
    if timeout is None and not wait:
        timeout = 30.0 if confirm else 10.0
    sending = _Sending(asked, config, letter, wait=wait)
    try:
        is_done = asyncio.run(unless_stopped(sending.run(timeout)))
    finally:
        sending.say_if_kept()
    if not is_done:
        sending.refuse_to_stop()


def _found(reference: str, directory: Directory) -> PeerId | None:
    """Return who is meant, if that can be told without a relay."""
    if is_peer_id(reference):
        return reference
    found = expand(reference, directory)
    return PeerId(found) if found else None


class _Sending:
    """
    One letter on its way.

    Attributes:
        receipt: What is known of it; None until it is in the outbox.
    """

    def __init__(self, asked: Asked, config: Config, letter: _Letter, *, wait: bool) -> None:
        self.receipt: Receipt | None = None
        self._asked = asked
        self._config = config
        self._letter = letter
        self._wait = wait
        self._in_use: StoreInUseError | None = None
        self._has_outbox = False
        self._has_met_relay = False
        self._is_asking_who = False
        self._told: set[str] = set()

    # On its way

    async def run(self, timeout: float | None) -> bool:
        """
        Send the letter, and tell what the relay said of it.

        Raises:
            AgoraError: Why it was not taken, or not confirmed.
        """
        self._began = asyncio.get_running_loop().time()
        deadline = None if timeout is None else self._began + timeout
        client, self._in_use = await connect(
            self._asked, self._config, hear=self._hear, **self._how_to_connect()
        )
        self._has_outbox = self._in_use is None and self._asked.outbox_path is not None
        async with client:
            await self._converse(client, deadline)
        return True

    async def _converse(self, client: Client, deadline: float | None) -> None:
        waited = client.outbox
        try:
            async with asyncio.timeout_at(deadline) as limit:
                await self._find_out_who(client)
                self.receipt = await self._letter.post(client)
                self._remember(self.receipt.to)
                await self._settled(self.receipt)
                await _first_words(waited)
        except TimeoutError:
            if not limit.expired():
                raise
        finally:  # also when a signal comes
            if self._is_taken:
                self._say_taken(client)
            self._tell_of(waited)
        if not self._is_taken:
            raise self._why_not(client)
        if self._letter.confirm:
            await self._confirmed(client, deadline)

    def _how_to_connect(self) -> dict[str, Any]:
        """
        Return what a client needs for the letter.

        Mail is what ``agora listen`` takes; here it is for an acknowledgement alone, which
        may come after the connection was lost. Whoever is known without the relay is
        written to also without it.
        """
        return {
            "receive": self._letter.confirm,
            "presence": [self._letter.to] if self._letter.to else "all",
            "connect_timeout": 0,
            "reconnect": self._wait or self._letter.confirm,
        }

    async def _find_out_who(self, client: Client) -> None:
        """Wait for the relay where only that can tell who is meant."""
        if self._letter.to is None:
            self._is_asking_who = True
            await registered(client, is_patient=self._wait)
            self._is_asking_who = False

    def _remember(self, to: str) -> None:
        """Remember whom we wrote to, who may answer whatever the policy is."""
        if is_peer_id(to):
            self._asked.recent_peers.note("wrote_to", to)

    async def _settled(self, receipt: Receipt) -> None:
        """Wait for the relay's word; for more than the first one only where it may soon come."""
        await receipt.first_word()
        if self._wait and receipt.why is not None:
            self._tell_wait(_reason(receipt.why, self._letter.peer))
        if self._wait or (self._has_met_relay and receipt.why in _SOON):
            await receipt.settled()

    async def _confirmed(self, client: Client, deadline: float | None) -> None:
        assert self.receipt is not None, "it was taken"
        if not client.protocol:
            raise NoAnswerError("this relay speaks the reference dialect: nobody confirms there")
        now = asyncio.get_running_loop().time
        try:
            outcome = await self.receipt.confirmed(None if deadline is None else deadline - now())
        except NoAnswerError as late:
            away = f" ({client.error})" if client.error else ""
            raise NoAnswerError(
                f"no acknowledgement came within {now() - self._began:.1f} s{away}; the message "
                f"itself is {_HAS[self.receipt.status]}, and need not be sent again"
            ) from late
        if outcome == "failed":
            raise RefusedError(
                "failed", "the peer gave the message up", envelope_id=self.receipt.id
            )
        self._say(self.receipt, "processed by {}", outcome)

    @property
    def _is_taken(self) -> bool:
        return self.receipt is not None and self.receipt.status in _TAKEN

    def _why_not(self, client: Client) -> AgoraError:
        """Return what kept the letter from being taken."""
        if client.error is not None:
            return client.error
        if self._is_asking_who:
            return NotConnectedError("no relay has registered us in time")
        if self.receipt is None or self.receipt.why is None:
            return NoAnswerError("the relay did not say in time whether it took the message")
        advice = "" if self._keeps else _LATER
        return not_taken(self.receipt.why, self._letter.peer, advice)

    # What is told

    def _say_taken(self, client: Client) -> None:
        assert self.receipt is not None, "it was taken"
        if self.receipt.to == client.peer_id and not client.protocol:
            self._asked.remark(_TO_ONESELF)
        self._say(self.receipt, _TAKEN[self.receipt.status], self.receipt.status)

    def _say(self, receipt: Receipt, text: str, status: str) -> None:
        is_broadcast = self._letter.peer == EVERYONE
        shown = _heard_by(receipt.count) if is_broadcast else self._shown(receipt.to)
        members: Members = {"status": str(status), **self._members(receipt)}
        if receipt.count is not None:
            members["count"] = receipt.count
        self._asked.say(text.format(shown), members)

    def _members(self, receipt: Receipt | None) -> Members:
        kind: Members = {"type": self._letter.type}
        if receipt is None:
            return kind
        to = EVERYONE if self._letter.peer == EVERYONE else receipt.to
        return {"id": receipt.id, "to": to} | kind

    def _shown(self, peer: str) -> str:
        return styled_peer(PeerId(peer), None, self._config.contacts)

    @property
    def _keeps(self) -> bool:
        """Whether what is not taken stays in the outbox."""
        is_for_one = self._letter.peer != EVERYONE and not self._is_asking_who
        return self._has_outbox and is_for_one

    def say_if_kept(self) -> None:
        """Say that it is in the outbox and goes out later; or why it is not, if it should be."""
        receipt = self.receipt
        if self._letter.peer == EVERYONE or (receipt and receipt.status is not Status.QUEUED):
            return
        if receipt and self._keeps and receipt.outgoing.is_kept:
            self._say(receipt, _KEPT, Status.QUEUED)
        elif why := self._why_not_kept():
            members: Members = {"status": "not_kept", **self._members(receipt), "message": why}
            self._asked.tell(f"not kept: {why}", members)

    def _why_not_kept(self) -> str | None:
        if self._is_asking_who and self._has_outbox:
            peer = printable_line(self._letter.peer)
            return f"only a relay can tell who {peer} is: with a full id it would be kept"
        return str(self._in_use) if self._in_use else None

    def refuse_to_stop(self) -> None:
        """
        Say what a signal has interrupted.

        Raises:
            StoppedError: When the letter was not taken, or not confirmed.
        """
        if not self._is_taken:
            raise StoppedError("interrupted; the relay had not taken it")
        if self._letter.confirm:
            raise StoppedError("interrupted; it was not confirmed yet")

    def _hear(self, event: ClientEvent) -> None:
        match event:
            case StateChanged(ConnectionState.CONNECTED):
                self._has_met_relay = True
            case StateChanged(ConnectionState.CONNECTING) if self._wait:
                url = printable_line(self._asked.relay_url(self._config))
                self._tell_wait(f"no relay at {url}")
            case Trouble(StoreDamagedError() as damage):
                self._asked.remark(error_line(damage))

    def _tell_wait(self, what: str) -> None:
        """Say what ``--wait`` waits for: each thing once."""
        if what not in self._told:
            self._told.add(what)
            end = "leaves it in the outbox" if self._keeps else "gives up"
            self._asked.remark(f"{what}; waiting, Ctrl-C {end}")

    def _tell_of(self, waited: Sequence[Receipt]) -> None:
        """Tell what became of what was in the outbox before."""
        for receipt in waited:
            refusal = receipt.outgoing.refusal
            if receipt.status in _TAKEN:
                text = _TAKEN[receipt.status].format(self._shown(receipt.to))
                self._asked.remark(f"from the outbox: {text}: {outgoing_text(receipt)}")
            elif refusal is not None:
                text = f"refused to {self._shown(receipt.to)}: {outgoing_text(receipt)}"
                self._asked.remark(f"from the outbox: {text}: {printable_line(str(refusal))}")


async def _first_words(receipts: Sequence[Receipt]) -> None:
    for receipt in receipts:
        await receipt.first_word()


_TAKEN = {
    Status.DELIVERED: "delivered to {}",
    Status.STORED: "stored for {}",
    Status.SENT: "sent to {}",
    Status.DUPLICATE: "taken before, for {}",
}
"""What the relay said of what it took."""

_HAS = {status: status.value for status in _TAKEN} | {Status.DUPLICATE: "there already"}
"""How the relay has what it took."""

_KEPT = "kept in the outbox for {}; goes out with the next agora send or agora listen"

_TO_ONESELF = (
    "that is your own id: this command was there to take it, and has not kept it; "
    "agora listen, or a mailbox, of yours has it too"
)
"""In the reference dialect, where a session cannot say that it only sends."""

_SOON = (None, ErrorCode.RATE_LIMITED)
"""What keeps a message waiting for seconds; the rest may take as long as the peer is away."""


def _heard_by(count: int | None) -> str:
    """Return to whom a broadcast went, as far as the relay tells."""
    match count:
        case None:
            return "everyone"
        case 0:
            return "nobody: no one else is online"
    return some(count, "session")


def not_taken(code: str, peer: str, advice: str) -> NotTakenError:
    """Say what *code* means for a message to *peer*, and what can be done."""
    what = _reason(code, peer)
    return NotTakenError(code, f"{what}: {advice}" if advice else what)


def _reason(code: str, peer: str) -> str:
    """Return what keeps a message to *peer*."""
    what = _REASONS.get(code, "the relay could not take it")
    return what.format(short_key(peer) if is_peer_id(peer) else peer)


_LATER = "try again later, or with --wait"

_REASONS: dict[str, str] = {
    ErrorCode.UNKNOWN_RECIPIENT: "{} is not there, and has no mailbox at the relay",
    ErrorCode.MAILBOX_FULL: "the mailbox of {} is full",
    ErrorCode.RATE_LIMITED: "the relay limits how often you may send",
}
