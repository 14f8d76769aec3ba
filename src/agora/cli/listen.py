"""``agora listen``: every message, coming, going and error, as it happens."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import click

from agora.cli.options import Asked, common_options, relay_options, seconds
from agora.cli.output import event_line, event_members, message_lines, message_members
from agora.cli.signals import stop_signals, until_first
from agora.client import Client, ClientEvent, Message, PresenceChanged
from agora.errors import NoAnswerError
from agora.references import Directory
from agora.text import printable_line

__all__ = ["listen"]


@click.command(
    epilog="Ctrl-C or SIGTERM ends it with exit code 0. A lost connection comes back by itself; "
    "exit code 6 is for no relay at the start, 5 for a relay that refuses us."
)
@common_options
@relay_options
@click.option("--type", "kinds", metavar="TYPE", multiple=True, help="messages of this type alone")
@click.option(
    *("--count", "count"),
    type=click.IntRange(min=1),
    metavar="N",
    help="end after N messages; what the relay hands over behind them is not kept",
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

    Messages are verified, and everything is printed as it happens. What a
    payload has beside its text follows the text as JSON.

    A message shows as name@125531b8, from a contact, or ~name@125531b8, a name
    that a stranger gave itself. With --json each object has "event": message,
    peer_online, peer_offline, connected, connecting, closed or error.
    """
    config = asked.load()
    wanted = _Wanted(set(kinds), count, presence=not no_presence, ids=ids)
    listener = _Listener(asked, config.contacts, wanted)
    client = asked.client(config, connect_timeout=min(timeout or _PATIENCE, _PATIENCE))
    asyncio.run(listener.listen(client, timeout))


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

    def __init__(self, asked: Asked, contacts: Directory, wanted: _Wanted) -> None:
        self._asked = asked
        self._contacts = contacts
        self._wanted = wanted
        self._shown = 0

    async def listen(self, client: Client, timeout: float | None) -> None:
        """Print until the count is reached, the time is over, or a signal asks to stop."""
        with stop_signals() as stop:
            await until_first(stop.wait(), self._converse(client, timeout))

    async def _converse(self, client: Client, timeout: float | None) -> None:
        events: asyncio.Queue[ClientEvent] = asyncio.Queue()
        client.listen(events.put_nowait)
        self._asked.remark(f"connecting to {printable_line(client.url)}")
        async with client:
            try:
                async with asyncio.timeout(timeout):
                    await until_first(self._show_events(events), self._show_messages(client))
            except TimeoutError as late:
                if self._wanted.count:
                    came = f"{self._shown} of {self._wanted.count} messages came"
                    raise NoAnswerError(f"{came} within {timeout:g} s") from late

    async def _show_events(self, events: asyncio.Queue[ClientEvent]) -> None:
        while True:
            self._show_event(await events.get())

    def _show_event(self, event: ClientEvent) -> None:
        if isinstance(event, PresenceChanged) and not self._wanted.presence:
            return
        line = event_line(event, self._contacts)
        if self._asked.as_json or isinstance(event, PresenceChanged):
            self._asked.say(line, event_members(event, self._contacts))
        else:
            self._asked.remark(line)

    async def _show_messages(self, client: Client) -> None:
        async for message in client:
            if not self._wanted.kinds or message.type in self._wanted.kinds:
                self._show_message(message)
                if self._shown == self._wanted.count:
                    return

    def _show_message(self, message: Message) -> None:
        self._asked.say(
            message_lines(message, self._contacts, show_id=self._wanted.ids),
            message_members(message, self._contacts),
        )
        self._shown += 1
