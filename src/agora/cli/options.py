"""
What every command was asked: whose identity, which relay, for people or for programs.

The options may stand before or behind the command's name; what stands last counts.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from agora.canonical import Json
from agora.cli.exits import EXIT_CODES, NoIdentityError, exit_code
from agora.cli.output import Members, error_members, json_line
from agora.client import Client
from agora.errors import AgoraError
from agora.files import Config, config_path, load_config, read_members
from agora.text import printable_line

__all__ = [
    "DEFAULT_RELAY_URL",
    "Asked",
    "common_options",
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
    ca_file: str | None = None

    @property
    def path(self) -> Path:
        """Where the config file is: ``--config``, else as :func:`agora.files.config_path`."""
        return Path(self.config).expanduser() if self.config else config_path(self.profile)

    def load(self) -> Config:
        """Return what the config file says; where there is none, say how to make this very one."""
        if read_members(self.path) is None:
            raise NoIdentityError(
                f"Config file not found at {self.path}. Run '{self._init}' first."
            )
        return load_config(self.path)

    @property
    def _init(self) -> str:
        if self.config:
            return f"agora --config {shlex.quote(self.config)} init"
        return f"agora --profile {self.profile} init" if self.profile else "agora init"

    def relay_url(self, config: Config) -> str:
        """Return the relay to use: the one asked for, else that of *config*, else the default."""
        return self.relay or config.relay_url or DEFAULT_RELAY_URL

    def client(self, config: Config, **options: Any) -> Client:
        """Make a client with the identity, name and contacts of *config*."""
        return Client(
            self.relay_url(config),
            config.identity,
            name=config.name,
            contacts=config.contacts,
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

    def fail(self, error: Exception) -> None:
        """Tell why a command has failed: a line on standard error, and with JSON an object too."""
        hint = EXIT_CODES[exit_code(error)].hint
        click.echo(f"agora: {printable_line(str(error))}{hint and f' — {hint}'}", err=True)
        if self.as_json:
            status: dict[str, Json] = {"status": "failed"}
            click.echo(json_line(status | error_members(error)))


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
        _option(
            *("--json", "as_json"), is_flag=True, help="one JSON object per line on standard output"
        ),
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
            help=f"relay to use; else that of the config file, else {DEFAULT_RELAY_URL}",
        ),
        _option(
            *("--ca-file", "ca_file"),
            metavar="FILE",
            help="further certificate authorities (PEM) to trust for wss://",
        ),
    )


def payload_option(command: _Command) -> _Command:
    """Decorate a command with the option for what to send that is no plain text."""
    return click.option(
        *("--payload", "payload"),
        metavar="JSON",
        help="send this JSON value instead; - reads it from standard input",
    )(command)


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
