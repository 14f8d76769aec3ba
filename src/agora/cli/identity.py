"""``agora init`` and ``agora whoami``: make an identity, once, and show it."""

from __future__ import annotations

import click
from websockets.exceptions import InvalidURI
from websockets.uri import parse_uri

from agora.cli.options import Asked, common_options
from agora.cli.output import Members
from agora.files import Config, create_config, load_config, read_members, save_config
from agora.keys import KeyPair
from agora.references import format_display_name
from agora.text import printable_line

__all__ = ["init", "whoami"]


@click.command()
@common_options
@click.option("--name", metavar="NAME", help="what to be called at relays")
@click.option("--relay", "relay_url", metavar="URL", help="relay to use from now on")
@click.pass_obj
def init(asked: Asked, name: str | None, relay_url: str | None) -> None:
    """
    Make a key pair and keep it in the config file.

    The key pair is your identity: its public half is your peer id. The file is
    readable by you alone, and an identity that is there is never overwritten.
    """
    if relay_url is not None:
        _check_url(relay_url)
    path = asked.path
    is_new = _ensure_identity(asked, name, relay_url)
    config = load_config(path)
    status = "initialized" if is_new else "already_initialized"
    done = "made a new identity in" if is_new else "there is an identity already in"
    asked.say(
        f"{done} {path}\n{config.identity.peer_id}",
        {"status": status, "publicKey": config.identity.peer_id, "configPath": str(path)},
    )
    if not is_new and (name or relay_url):
        asked.remark(f"left as it was: edit {path} to change its name or relay")


def _check_url(url: str) -> None:
    try:
        parse_uri(url)
    except InvalidURI as error:
        raise click.BadParameter(
            f"{url!r} is no WebSocket URL (ws://… or wss://…)", param_hint="'--relay'"
        ) from error


def _ensure_identity(asked: Asked, name: str | None, relay_url: str | None) -> bool:
    """Make an identity where there is none; tell whether that was so."""
    members = read_members(asked.path)
    if members is not None and "identity" in members:
        return False
    config = Config(KeyPair.generate(), members or {})
    config = config.with_name(name) if name else config
    config = config.with_relay_url(relay_url) if relay_url else config
    if members is None:
        return create_config(asked.path, config)
    save_config(asked.path, config)
    return True


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
