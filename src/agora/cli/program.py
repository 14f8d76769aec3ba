"""
The command ``agora`` itself: finds the command asked for, and ends with the right exit code.

Whatever the commands raise on purpose comes here and becomes one line and a
code of :data:`~agora.cli.exits.EXIT_CODES`.
"""

from __future__ import annotations

import logging
import os
import sys
from difflib import get_close_matches
from importlib import import_module
from io import TextIOWrapper
from typing import Any

import click

import agora
from agora.build import is_compiled
from agora.cli.exits import StoppedError, exit_code
from agora.cli.options import Asked, common_options
from agora.errors import AgoraError

__all__ = ["main", "program"]

_COMMANDS = {
    "relay": "agora.cli.relay:relay",
    "init": "agora.cli.identity:init",
    "whoami": "agora.cli.identity:whoami",
    "send": "agora.cli.send:send",
    "request": "agora.cli.request:request",
    "listen": "agora.cli.listen:listen",
    "peers": "agora.cli.peers:peers",
    "ignore": "agora.cli.consent:ignore",
    "unignore": "agora.cli.consent:unignore",
    "ignored": "agora.cli.consent:ignored",
    "policy": "agora.cli.consent:policy",
    "keys": "agora.cli.keys:keys",
    "mailbox": "agora.cli.mailbox:mailbox",
    "known-relays": "agora.cli.known_relays:known_relays",
    "top": "agora.cli.top:top",
    "bench": "agora.cli.bench:bench",
}
"""Where each command is; imported when asked for, as a sender needs no relay."""


class _Program(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which one meets them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options before the command; one that belongs behind it is told so."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name not in _BEHIND:
                raise
            advice = f"It goes after the command: agora send {error.option_name} …"
            ctx.fail(f"{error.message} {advice}")

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; for a slip of the fingers say which one was probably meant."""
        if args[0] not in _COMMANDS and (near := get_close_matches(args[0], _COMMANDS)):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what it raises on purpose becomes a line and an exit code."""
        asked = ctx.ensure_object(Asked)
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            _forget_output()
            ctx.exit(exit_code(error))
        except (AgoraError, OSError) as error:
            asked.fail(error)
            ctx.exit(exit_code(error))
        except KeyboardInterrupt as interrupt:
            asked.fail(StoppedError("interrupted"))
            ctx.exit(exit_code(interrupt))


_BEHIND = ("--relay", "--ca-file")
"""Options of the commands that talk to a relay, and of no other."""


@click.group(
    cls=_Program,
    epilog="Options: agora COMMAND --help. Exit codes: 0 done · 2 wrong arguments · "
    "3 no usable key · 4 no such peer · 5 refused · 6 no relay · 7 no answer in time · "
    "8 not taken for now · 9 a part is not installed · 10 the relay cannot listen · "
    "11 another relay · 130 interrupted · 1 all else",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(
    agora.__version__,
    "-V",
    "--version",
    prog_name="agora",
    message=f"%(prog)s, version %(version)s, {'compiled' if is_compiled() else 'pure'} core",
)
@common_options
@click.pass_context
def program(context: click.Context) -> None:
    """Signed messages between agents: a key is the address, a relay carries the envelopes."""
    # https://no-color.org: any value but the empty one. None leaves it to what the output is.
    context.color = False if os.environ.get("NO_COLOR") else None
    # A command says itself what matters; only a relay logs, and sets that up.
    logging.getLogger("agora").addHandler(logging.NullHandler())


def main() -> None:
    """Run the command line on the arguments of the process, and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # never fail on a narrow code page
    program(prog_name="agora")


def _forget_output() -> None:
    """Let the interpreter's last flush go nowhere: its complaint would be the only one heard."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
