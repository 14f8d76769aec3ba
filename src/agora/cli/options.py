"""
What every command was asked: whose identity, which relay, for people or for programs.

The options may stand before or behind the command's name; what stands last counts.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import click
from websockets.exceptions import InvalidURI
from websockets.uri import parse_uri

from agora.cli.exits import NoIdentityError, hint_of
from agora.cli.output import Members, error_members, json_line
from agora.cli.recent_peers import RecentPeers, default_recent_peers_path
from agora.client import Client
from agora.client.store import default_store_path
from agora.client.transport import check_url
from agora.errors import AgoraError, ConfigurationError
from agora.files import Config, config_path, load_config, read_members
from agora.known_relays import KnownRelays, default_known_relays_path
from agora.references import Directory, merge_directories
from agora.text import printable_line

__all__ = [
    "DEFAULT_RELAY_URL",
    "Asked",
    "check_websocket_url",
    "common_options",
    "json_option",
    "outbox_options",
    "payload_option",
    "relay_options",
    "seconds",
]

DEFAULT_RELAY_URL = "ws://localhost:9470"

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass
class Asked:
    """The options that commands share."""

    config: str | None = None
    profile: str | None = None
    as_json: bool = False
    relay: str | None = None
    fallback: str | None = None
    ca_file: str | None = None
    outbox: str | None = None
    no_outbox: bool = False

    @property
    def path(self) -> Path:
        """Where the config file is: ``--config``, else as :func:`agora.files.config_path`."""
        return Path(self.config).expanduser() if self.config else config_path(self.profile)

    def load(self) -> Config:
        """Return what the config file says; where there is none, say how to make this very one."""
        if read_members(self.path) is None:
            raise NoIdentityError(
                f"Config file not found at {self.path}. Run '{self.command('init')}' first."
            )
        return load_config(self.path)

    def command(self, words: str) -> str:
        """Return what to type for a command of ours on this very config file."""
        if self.config:
            return f"agora --config {shlex.quote(self.config)} {words}"
        return f"agora --profile {self.profile} {words}" if self.profile else f"agora {words}"

    @property
    def known_relays(self) -> KnownRelays:
        """What remembers the keys of relays: a file beside the config file."""
        return KnownRelays(default_known_relays_path(self.path))

    @cached_property
    def recent_peers(self) -> RecentPeers:
        """What remembers the peers one has to do with: a file beside the config file."""
        return RecentPeers(default_recent_peers_path(self.path), self.remark)

    def directory(self, config: Config) -> Directory:
        """Return whom a reference may mean without asking a relay: contacts, and recent peers."""
        return merge_directories(config.contacts, self.recent_peers.met())

    @property
    def outbox_path(self) -> Path | None:
        """Where messages wait: ``--outbox``, else beside the config file; None keeps none."""
        if self.no_outbox:
            return None
        return Path(self.outbox).expanduser() if self.outbox else default_store_path(self.path)

    def relay_url(self, config: Config) -> str:
        """Return the relay to use: the one asked for, else that of *config*, else the default."""
        return self.relay or config.relay_url or DEFAULT_RELAY_URL

    def client(self, config: Config, **options: Any) -> Client:
        """
        Make a client with the identity, name and contacts of *config*, who knows recent peers.

        Raises:
            ConfigurationError: When its relay's URL is none.
        """
        url = self.relay_url(config)
        check_url(url)  # before anything is kept to go there
        return Client(
            url,
            config.identity,
            name=config.name,
            contacts=self.directory(config),
            known_relays=self.known_relays,
            fallback=False if self.fallback == "none" else self.fallback,
            ca_file=self.ca_file,
            **options,
        )

    def say(self, text: str, members: Members) -> None:
        """Write one thing to standard output: *text* for people, or *members* for programs."""
        if sys.stdout is None:  # closed by who started us; click would drop it without a word
            raise AgoraError("standard output is closed")
        click.echo(json_line(members) if self.as_json else text)

    def remark(self, text: str) -> None:
        """Tell a person something beside the data, on standard error."""
        click.echo(text, err=True)

    def tell(self, text: str, members: Members) -> None:
        """Tell what is no data to a person, but is to a program."""
        if self.as_json:
            self.say(text, members)
        else:
            self.remark(text)

    def advise(self, text: str) -> str:
        """Return *text* with what it says to run for this config file, of which it knew nothing."""
        return text.replace("run agora ", f"run {self.command('')}")

    def fail(self, error: Exception) -> None:
        """Tell why a command has failed: a line on standard error, and with JSON an object too."""
        hint = hint_of(error)
        text = self.advise(printable_line(str(error)))
        click.echo(f"agora: {text}{hint and f' — {hint}'}", err=True)
        if self.as_json:
            members: Members = {"status": "failed", **error_members(error)}
            click.echo(json_line(members | {"message": self.advise(str(error))}))


def common_options(command: _Command) -> _Command:
    """Decorate a command with the options for whose identity, and for people or programs."""
    return _with(
        command,
        _option(
            *("--config", "config"),
            metavar="FILE",
            help="config file with the identity; wins over AGORA_CONFIG and profiles",
        ),
        _option(
            *("--profile", "--as", "profile"),
            metavar="NAME",
            help="use the config file of this profile",
        ),
        json_option,
    )


def json_option(command: _Command) -> _Command:
    """Decorate a command with the option for programs that read what it writes."""
    names = ("--json", "as_json")
    return _option(*names, is_flag=True, help="one JSON object per line on standard output")(
        command
    )


def relay_options(command: _Command) -> _Command:
    """Decorate a command with the options for which relay, and how to trust it."""
    return _with(
        command,
        _option(
            *("--relay", "relay"),
            metavar="URL",
            envvar="AGORA_RELAY_URL",
            show_envvar=True,
            help=f"relay to use, by WebSocket or http(s)://; else that of the config file, "
            f"else {DEFAULT_RELAY_URL}",
        ),
        _option(
            *("--fallback", "fallback"),
            metavar="URL",
            envvar="AGORA_FALLBACK_URL",
            show_envvar=True,
            help="where the relay speaks HTTP, for networks that block its WebSocket; else the "
            "port above, or the same for 80 and 443; 'none' for nowhere",
        ),
        _option(
            *("--ca-file", "ca_file"),
            metavar="FILE",
            help="further certificate authorities (PEM) to trust for wss:// and https://",
        ),
    )


def outbox_options(command: _Command) -> _Command:
    """Decorate a command with the options for where messages wait that cannot go now."""
    return _with(
        command,
        _option(
            *("--outbox", "outbox"),
            metavar="FILE",
            help="where messages wait that cannot go now, and what came is remembered; "
            "else beside the config file",
        ),
        _option(
            *("--no-outbox", "no_outbox"), is_flag=True, help="keep no message for later on disk"
        ),
    )


def payload_option(command: _Command) -> _Command:
    """Decorate a command with the option for what to send that is no plain text."""
    return click.option(
        *("--payload", "payload"),
        metavar="JSON",
        help="send this JSON value instead; - reads it from standard input",
    )(command)


def check_websocket_url(url: str) -> None:
    """Refuse with a ConfigurationError what can be no URL of a WebSocket."""
    try:
        parse_uri(url)
    except InvalidURI as error:
        raise ConfigurationError(f"{url!r} is no WebSocket URL (ws://… or wss://…)") from error


def seconds(text: str) -> float:
    """Read a time from the command line."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= _LONGEST:  # not a number is neither
        raise click.BadParameter(f"{text!r} is no time: give seconds, above 0 and up to {_LONGEST}")
    return value


_LONGEST = 315_360_000  # ten years, which every clock can add to now


def _option(*names: str, **settings: Any) -> Callable[[_Command], _Command]:
    return click.option(*names, callback=_remember, expose_value=False, **settings)


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    asked = context.find_root().ensure_object(Asked)
    if value and parameter.name:
        setattr(asked, parameter.name, value)


def _with(command: _Command, *options: Callable[[_Command], _Command]) -> _Command:
    for option in reversed(options):
        command = option(command)
    return command
