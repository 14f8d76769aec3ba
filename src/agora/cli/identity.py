"""``agora init`` and ``agora whoami``: make an identity, once, and show it."""

from __future__ import annotations

from pathlib import Path

import click

from agora.cli.options import Asked, common_options
from agora.cli.output import Members
from agora.client.transport import check_url
from agora.errors import ConfigurationError
from agora.files import Config, create_config, load_config, read_members, save_config
from agora.keys import KeyPair
from agora.limits import Limits
from agora.references import format_display_name
from agora.text import printable_line, sanitize_text

__all__ = ["init", "whoami"]


def _display_name(text: str) -> str:
    """Read a name, which relays clean or refuse where it is not one line of so many characters."""
    most = Limits.max_name_length
    is_shown = sanitize_text(text) == text and len(text.splitlines()) == 1 and text.strip() == text
    if len(text) > most or not is_shown or text.startswith(("@", "...")):
        raise click.BadParameter(
            f"a name is one line of 1 to {most} characters, without control characters, "
            f"and does not begin with a space, '@' or '...'; this has {len(text)} characters"
        )
    return text


@click.command()
@common_options
@click.option("--name", metavar="NAME", type=_display_name, help="what to be called at relays")
@click.option("--relay", "relay_url", metavar="URL", help="relay to use from now on")
@click.pass_obj
def init(asked: Asked, name: str | None, relay_url: str | None) -> None:
    """
    Make a key pair and keep it in the config file.

    The key pair is your identity: its public half is your peer id. The file is
    readable by you alone, and an identity that is there is never overwritten;
    --name and --relay then change these two.
    """
    if relay_url is not None:
        try:
            check_url(relay_url)
        except ConfigurationError as error:
            raise click.BadParameter(str(error), param_hint="'--relay'") from error
    path = asked.path
    status, done = _ensure_identity(path, name, relay_url)
    config = load_config(path)
    asked.say(
        f"{done} {path}\n{config.identity.peer_id}",
        {"status": status, "publicKey": config.identity.peer_id, "configPath": str(path)},
    )


def _ensure_identity(path: Path, name: str | None, relay_url: str | None) -> tuple[str, str]:
    """Make an identity where there is none; return the status, for programs and for people."""
    members = read_members(path)
    config = Config(KeyPair.generate(), members or {})
    if members is None and create_config(path, _with(config, name, relay_url)):
        return _MADE
    if members is not None and "identity" not in members:
        save_config(path, _with(config, name, relay_url))
        return _MADE
    if name is None and relay_url is None:
        return "already_initialized", "there is an identity already in"
    save_config(path, _with(load_config(path), name, relay_url))
    given = {"name": name, "relay": relay_url}
    what = " and ".join(word for word, value in given.items() if value is not None)
    return "updated", f"updated the {what} in"


_MADE = ("initialized", "made a new identity in")


def _with(config: Config, name: str | None, relay_url: str | None) -> Config:
    config = config if name is None else config.with_name(name)
    return config if relay_url is None else config.with_relay_url(relay_url)


@click.command()
@common_options
@click.pass_obj
def whoami(asked: Asked) -> None:
    """Show your identity: short id, peer id, config file and relay."""
    config = asked.load()
    peer_id = config.identity.peer_id
    relay_url = asked.relay_url(config)
    short = printable_line(format_display_name(config.name, peer_id))
    members: Members = {"publicKey": peer_id, "short": short, "configPath": str(asked.path)}
    members |= {"relay": relay_url} | ({"name": config.name} if config.name else {})
    asked.say(
        f"{click.style(short, bold=True)}\n"
        f"peer id  {peer_id}\n"
        f"config   {asked.path}\n"
        f"relay    {printable_line(relay_url)}",
        members,
    )
