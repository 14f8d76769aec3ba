"""``agora known-relays``: which key each relay has, as this client remembers it."""

from __future__ import annotations

import click

from agora.cli.options import Asked, common_options
from agora.cli.output import Members
from agora.errors import ConfigurationError
from agora.keys import PeerId, is_peer_id
from agora.known_relays import place_of

__all__ = ["known_relays"]


@click.group(name="known-relays", invoke_without_command=True)
@common_options
@click.pass_context
def known_relays(context: click.Context) -> None:
    """
    List, pin or forget the keys of relays.

    A relay is believed the first time, and must show the same key ever after.
    The file is known-relays.json beside the config file, or AGORA_KNOWN_RELAYS.
    """
    if context.invoked_subcommand is None:
        _list(context.ensure_object(Asked))


@known_relays.command(name="list")
@common_options
@click.pass_obj
def list_relays(asked: Asked) -> None:
    """Do as `agora known-relays` alone does."""
    _list(asked)


@known_relays.command()
@common_options
@click.argument("url")
@click.argument("key")
@click.pass_obj
def pin(asked: Asked, url: str, key: str) -> None:
    """Demand of the relay at URL that it shows KEY, also in place of another key."""
    if not is_peer_id(key):
        raise click.BadParameter(
            "give the relay's peer id, 88 hex digits (whoever runs it can tell)",
            param_hint="'KEY'",
        )
    place, before = place_of(url), asked.known_relays.pin(url, key)
    is_other = before is not None and before != key
    status: Members = {"status": "replaced" if is_other else "pinned"}
    asked.say(f"pinned {place}", status | _members(place, key))
    if is_other:
        asked.remark(f"it had {before}")


@known_relays.command()
@common_options
@click.argument("url")
@click.pass_obj
def forget(asked: Asked, url: str) -> None:
    """Believe any key that the relay at URL, or at HOST:PORT as listed, shows next time."""
    place, known = place_of(url), asked.known_relays
    if not known.forget(place):
        raise ConfigurationError(f"{known.path} has no key of {place}")
    asked.say(f"forgot {place}", {"status": "forgotten", "relay": place})


def _list(asked: Asked) -> None:
    for place, key in asked.known_relays.all().items():
        asked.say(f"{place}  {key}", _members(place, key))


def _members(place: str, key: PeerId) -> Members:
    return {"relay": place, "publicKey": key}
