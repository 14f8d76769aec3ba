"""``agora listen``: every message, coming, going and error, as it happens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import click

from agora.cli.connecting import connect
from agora.cli.options import Asked, common_options, outbox_options, relay_options, seconds
from agora.cli.output import (
    Members,
    event_line,
    event_members,
    message_lines,
    message_members,
    receipt_line,
    receipt_members,
    some,
)
from agora.cli.recent_peers import RecentPeers
from agora.cli.signals import stop_signals, until_first
from agora.client import (
    Client,
    ClientEvent,
    ConnectionState,
    ConsentRules,
    ContactRequest,
    Guard,
    Message,
    PresenceChanged,
    Receipt,
    StateChanged,
    Trouble,
    Withheld,
)
from agora.errors import AgoraError, NoAnswerError
from agora.files import Config, ignored_path, load_ignored
from agora.text import printable_line

__all__ = ["listen"]


@click.command(
    epilog="Ctrl-C or SIGTERM ends it with exit code 0. A lost connection comes back by itself; "
    "exit code 6 is for no relay at the start, 5 for a relay that refuses us, 11 for another relay."
)
@common_options
@relay_options
@outbox_options
@click.option(
    *("--type", "kinds"),
    metavar="TYPE",
    multiple=True,
    help="show messages of this type alone; the others are taken and not shown",
)
@click.option(
    *("--count", "count"),
    type=click.IntRange(min=1),
    metavar="N",
    help="end after N messages; what is behind them waits in the mailbox",
)
@click.option(
    *("--timeout", "timeout"),
    type=seconds,
    metavar="SECONDS",
    help="end after this time; exit code 7 if --count was not reached",
)
@click.option("--no-presence", is_flag=True, help="not who comes and goes")
@click.option("--ids", is_flag=True, help="show the id of each message, for --in-reply-to")
@click.pass_obj
def listen(
    asked: Asked,
    kinds: tuple[str, ...],
    count: int | None,
    timeout: float | None,
    no_presence: bool,
    ids: bool,
) -> None:
    """
    Print every message, presence change and error.

    Messages are verified, and everything is printed as it happens. A message is
    taken from the mailbox when it is printed: what was not comes again next
    time. What a payload has beside its text follows the text as JSON.

    A message shows as name@125531b8, from a contact, or ~name@125531b8, a name
    that a stranger gave itself. What waited in the outbox goes out. Who is heard
    is up to agora policy and agora ignore. With --json each object has "event":
    message, peer_online, peer_offline, connected, connecting, closed, receipt,
    bounced, withheld, contact_request or error.
    """
    config = asked.load()
    wanted = _Wanted(set(kinds), count, presence=not no_presence, ids=ids)
    asyncio.run(_Listener(asked, config, wanted).listen(timeout))


_PATIENCE = 10.0
"""Seconds until a relay must be there at the start: both may just have been started."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is to be printed: messages of these types (empty: all), how many, and what with them."""

    kinds: set[str]
    count: int | None
    presence: bool
    ids: bool


class _Listener:
    """Prints what comes to one client."""

    def __init__(self, asked: Asked, config: Config, wanted: _Wanted) -> None:
        self._asked = asked
        self._config = config
        self._contacts = config.contacts
        self._wanted = wanted
        self._recent = asked.recent_peers
        self._news: asyncio.Queue[ClientEvent | Receipt] = asyncio.Queue()
        self._shown = 0

    async def listen(self, timeout: float | None) -> None:
        """Print until the count is reached, the time is over, or a signal asks to stop."""
        with stop_signals() as stop:
            await until_first(stop.wait(), self._converse(timeout))

    async def _converse(self, timeout: float | None) -> None:
        self._asked.remark(f"connecting to {printable_line(self._asked.relay_url(self._config))}")
        client, in_use = await connect(
            self._asked,
            self._config,
            hear=self._news.put_nowait,
            patience=_PATIENCE,
            connect_timeout=min(timeout or _PATIENCE, _PATIENCE),
            presence="all" if self._wanted.presence else "none",
            guard=_guard(self._asked, self._config, self._recent),
        )
        if in_use is not None:
            self._asked.remark(f"without an outbox: {in_use}")
        async with client:
            try:
                async with asyncio.timeout(timeout):
                    await until_first(
                        self._show_news(), self._show_messages(client), self._follow(client.outbox)
                    )
            except TimeoutError as late:
                if self._wanted.count:
                    came = f"{self._shown} of {some(self._wanted.count, 'message')} came"
                    raise NoAnswerError(f"{came} within {timeout:g} s") from late

    # Messages

    async def _show_messages(self, client: Client) -> None:
        async for message in client:
            if not self._wanted.kinds or message.type in self._wanted.kinds:
                self._show_message(message)
                await message.ack()  # it is printed and flushed: all that is ever done with it
                if self._shown == self._wanted.count:
                    return

    def _show_message(self, message: Message) -> None:
        self._asked.say(
            message_lines(message, self._contacts, show_id=self._wanted.ids),
            message_members(message, self._contacts),
        )
        self._recent.note("heard_from", message.sender)
        self._shown += 1

    # All else

    async def _show_news(self) -> None:
        while True:
            news = await self._news.get()
            if isinstance(news, Receipt):
                self._asked.tell(
                    receipt_line(news, self._contacts), receipt_members(news, self._contacts)
                )
            else:
                self._show_event(news)

    def _show_event(self, event: ClientEvent) -> None:
        line = self._asked.advise(event_line(event, self._contacts))
        members = self._advised(event_members(event, self._contacts))
        if isinstance(event, PresenceChanged):
            self._asked.say(line, members)
        elif self._asked.as_json or not (_is_of_ignored(event) or _is_the_end(event)):
            self._asked.tell(line, members)
        if isinstance(event, ContactRequest) and not self._asked.as_json:
            self._asked.remark(self._advice(event))

    def _advised(self, members: Members) -> Members:
        match members:
            case {"message": str(text)}:
                return members | {"message": self._asked.advise(text)}
        return members

    def _advice(self, request: ContactRequest) -> str:
        peer = request.envelope.sender
        allow = self._asked.command(f"peers add NAME {peer}")
        ignore = self._asked.command(f"ignore {peer}")
        return f"    {allow}\n    lets it, {ignore}\n    does not; then start agora listen anew"

    # What waited in the outbox

    async def _follow(self, receipts: Sequence[Receipt]) -> None:
        """Tell what becomes of what an earlier command left in the outbox."""
        for receipt in receipts:
            try:
                await receipt.settled()
            except AgoraError as error:
                self._news.put_nowait(Trouble(error))
            else:
                self._news.put_nowait(receipt)
        await asyncio.Event().wait()  # the others go on


class _Known:
    """Whom one knows: the contacts, and whom any command wrote to, also meanwhile."""

    def __init__(self, config: Config, recent: RecentPeers) -> None:
        self._contacts = {contact.public_key for contact in config.contacts}
        self._recent = recent

    def __contains__(self, peer: object) -> bool:
        return peer in self._contacts or self._recent.wrote_to(str(peer))


def _guard(asked: Asked, config: Config, recent: RecentPeers) -> Guard:
    """
    Return who is heard, as the config file and the list beside it say.

    No rate and no repeat is held back: who listens wants to see what there is, and
    what is put off ten times the relay gives up.
    """
    return Guard(
        config.contact_policy,
        contacts=_Known(config, recent),
        ignored=load_ignored(ignored_path(asked.path)),
        rules=ConsentRules(sender_messages=0, stranger_messages=0, repeat_window=0.0),
    )


def _is_of_ignored(event: ClientEvent) -> bool:
    return isinstance(event, Withheld) and event.reason == "ignored"


def _is_the_end(event: ClientEvent) -> bool:
    """Tell whether the command itself ends with it, and says why."""
    return isinstance(event, StateChanged) and event.state is ConnectionState.CLOSED
