"""
The reference pages of the command line and the settings, made from the code.

``make pages`` writes them; a test holds the
files equal to what is made here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import Field, fields
from inspect import cleandoc
from pathlib import Path
from typing import Any

import click

from agora.cli.exits import EXIT_CODES
from agora.cli.program import program
from agora.cli.settings import flags_of, shown_default
from agora.codes import CLOSE_ADVICE, ERROR_ADVICE, Advice, CloseCode, ErrorCode
from agora.limits import Limits, bounds
from agora.relay.config import SETTINGS, LogConfig, environment_names

__all__ = ["JSON_OBJECTS", "PAGES", "cli_page", "settings_page"]

_MADE = "<!-- Made by `make pages`; do not edit. -->\n"


# Settings


def settings_page() -> str:
    """Return docs/reference/settings.md."""
    limits, logs = ({field.name for field in fields(kind)} for kind in (Limits, LogConfig))
    rest = SETTINGS.keys() - limits - logs
    sections = {"Place and policy": rest, "Limits": limits, "Logs": logs}
    return "\n".join([_SETTINGS_TEXT, *(_section(*item) for item in sections.items())])


_SETTINGS_TEXT = f"""# Settings of a relay

{_MADE}
Each is a flag of `agora relay`, a variable of the environment or of a `.env` file in the working
directory, and an argument of `agora.Relay` (`--max-peers` is `max_peers`). Flags win over the
environment, the environment over `.env`, that over the default. An empty variable counts as none.

Truths are `1`, `true`, `yes`, `on` and `0`, `false`, `no`, `off`. Numbers are finite; without a
smaller maximum times end at ten years, and all else at 2^53 - 1. What cannot be is refused at the
start with exit code 2, and the message names the flag or the variable.

An embedded relay, `agora.Relay(...)`, reads no environment and no files, leaves the logs alone,
and keeps nothing without a `data_dir`.
"""


def _section(title: str, names: Iterable[str]) -> str:
    head = ("Flag", "Environment", "Default", "Allowed", "What it is", "Why this default")
    wanted = [declared for name, declared in SETTINGS.items() if name in set(names)]
    has_bound = any(declared.metadata["overflow"] for declared in wanted)
    rows = [_setting_row(declared) for declared in wanted]
    if has_bound:
        return f"## {title}\n\n{_table((*head, 'At the bound'), rows)}"
    return f"## {title}\n\n{_table(head, [row[:-1] for row in rows])}"


def _setting_row(declared: Field[Any]) -> tuple[str, ...]:
    about = declared.metadata
    return (
        _codes(flag for flags in flags_of(declared) for flag in flags.split("/")),
        _codes(environment_names(declared)),
        shown_default(declared),
        _allowed(declared),
        about["help"],
        about["reason"],
        about["overflow"],
    )


def _allowed(declared: Field[Any]) -> str:
    if choices := declared.metadata["choices"]:
        return _codes(choices)
    if isinstance(declared.default, bool) or not isinstance(declared.default, int | float):
        return ""
    smallest, largest = bounds(declared)
    if declared.metadata["maximum"] is None:
        return f"from {smallest:g}"
    return f"{smallest:g} to {largest:g}"


# Commands


def cli_page() -> str:
    """Return docs/reference/cli.md."""
    codes = [(str(code), exit_.when) for code, exit_ in EXIT_CODES.items()]
    common = [option for option in program.params if option.name != "version"]
    objects = [(f"`{command}`", members) for command, members in JSON_OBJECTS.items()]
    return "\n".join(
        [
            _CLI_TEXT,
            _table(("Option of every command but relay", "Meaning"), _option_rows(common)),
            "## Exit codes\n",
            _table(("Code", "When"), codes),
            f"## For programs\n\n{_JSON_TEXT}",
            _table(("Command", "Object"), objects),
            *_commands(program, _context()),
        ]
    )


_CLI_TEXT = f"""# The command line

{_MADE}
`agora`, or `python -m agora`. Data goes to standard output, all else to standard error. Peers are
shown as `name@125531b8`: your name for a contact and the last eight digits of its id. A name with
a tilde, `~name@125531b8`, is what a stranger calls itself, and proves nothing. Colours are for
terminals alone, and never where `NO_COLOR` is set.

The identity is that of the config file: `--config`, else `--profile`, else `AGORA_CONFIG`, else
`config.json` in `AGORA_CONFIG_DIR`, else `~/.config/agora/config.json`. Its layout is that of the
reference, whose users keep their keys. Nobody else may be able to read it.
"""

_JSON_TEXT = """With `--json` standard output holds one JSON object per line, in ASCII. A command
that fails writes its reason to standard error and ends with one more object, unless the command
line itself was wrong: `{"status": "failed", "code": …, "message": …}`. `name` is your name for a
peer, `claimedName` what it calls itself. Members that say nothing are left out.
"""

JSON_OBJECTS = {
    "init": "`status` (`initialized`, `already_initialized`), `publicKey`, `configPath`",
    "whoami": "`publicKey`, `short`, `configPath`, `relay`, `name`",
    "send": "`status` (`sent`), `id`, `to`, `type`",
    "listen: message": "`event` (`message`), `id`, `type`, `from`, `name`, `claimedName`, `to`, "
    "`timestamp`, `inReplyTo`, `payload`",
    "listen: presence": "`event` (`peer_online`, `peer_offline`), `publicKey`, `name`, "
    "`claimedName`",
    "listen: connection": "`event` (`connected`, `connecting`, `closed`), `code`, `message`",
    "listen: error": "`event` (`error`), `code`, `reason`, `message`: a forged message, say, or an "
    "error of the relay; it goes on",
    "peers": "`publicKey`, `name`, `claimedName`, `online` (null if nobody was asked)",
    "peers add": "`status` (`added`), `publicKey`, `name`",
    "peers remove": "`status` (`removed`), `publicKey`, `name`",
    "keys": "`publicKey`",
    "keys generate": "`status` (`generated`), `publicKey`, `path`",
    "keys export": "`publicKey` or `privateKey`; with a file `status` (`exported`), `publicKey`, "
    "`path`",
    "keys import": "`status` (`imported`), `publicKey`, `configPath`",
}
"""What each command writes with ``--json``; a test holds the commands to it."""


def _context() -> click.Context:
    return click.Context(program, info_name="agora", **program.context_settings)


def _commands(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None  # it is listed
        inside = click.Context(command, info_name=name, parent=context)
        yield _command(command, inside)
        if isinstance(command, click.Group):
            yield from _commands(command, inside)


def _command(command: click.Command, context: click.Context) -> str:
    path = context.command_path
    usage = command.collect_usage_pieces(context)
    common = {parameter.name for parameter in program.params} | set(SETTINGS)
    own = [parameter for parameter in command.params if parameter.name not in common]
    rows = list(_option_rows(own))
    parts = [
        f"## {path}\n",
        f"```text\n{' '.join([path, *usage])}\n```\n",
        f"{_plain(cleandoc(command.help or ''))}\n",
        _table(("Option", "Meaning"), rows) if rows else "",
        "Every setting is a flag: [settings](settings.md).\n" if path == "agora relay" else "",
        f"{_plain(command.epilog)}\n" if command.epilog else "",
    ]
    return "\n".join(filter(None, parts))


def _option_rows(parameters: Iterable[click.Parameter]) -> Iterator[tuple[str, str]]:
    for parameter in parameters:
        if not isinstance(parameter, click.Option):
            continue
        names = ", ".join(parameter.opts)
        flag = f"{names} {parameter.metavar}" if parameter.metavar else names
        notes = [parameter.help or ""]
        if parameter.show_default:
            notes.append(f"[default: {parameter.default}]")
        if parameter.show_envvar:
            notes.append(f"[{parameter.envvar}]")
        yield _codes([flag]), " ".join(filter(None, notes))


# Markdown


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *(map(_cell, row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _codes(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _plain(text: str) -> str:
    return text.replace("*", "\\*").replace("~", "\\~")


# Codes


def codes_page() -> str:
    """Return docs/reference/codes.md."""
    errors = [_code_row(f"`{code}`", ERROR_ADVICE[code]) for code in ErrorCode]
    closes = [
        _code_row(f"{code:d} `{code.name.lower()}`", CLOSE_ADVICE[code]) for code in CloseCode
    ]
    return "\n".join(
        [
            _CODES_TEXT,
            "## In an `error` frame\n",
            _table(("Code", "When", "What to do", "Sent again by our client"), errors),
            "## When a connection is closed\n",
            _table(("Code", "When", "What to do", "Our client comes back"), closes),
        ]
    )


_CODES_TEXT = f"""# Codes

{_MADE}
A code is for programs and never changes its meaning; the text beside it is for people. An error
answers one frame, which has changed nothing, and names its envelope (`id`) and recipient (`to`)
where it had them. RFC 6455 adds 1002 for what breaks the WebSocket protocol itself. Close codes
from 4500 to 4999 mean that coming back would not help; none of ours is one yet.
"""


def _code_row(code: str, advice: Advice) -> tuple[str, ...]:
    return (code, advice.when, advice.do, "no" if advice.final else "yes")


PAGES = {"cli.md": cli_page, "codes.md": codes_page, "settings.md": settings_page}


def _main(folder: Path) -> None:
    for name, make in PAGES.items():
        (folder / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
