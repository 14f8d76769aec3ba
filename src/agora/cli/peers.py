"""``agora peers``: whom you know by name, and who is at the relay."""

from __future__ import annotations

import asyncio

import click

from agora.cli.content import addressee
from agora.cli.options import Asked, common_options, relay_options
from agora.cli.output import Members, peer_members, styled_peer
from agora.errors import AgoraError, ConfigurationError
from agora.files import Config, save_config
from agora.frames import ListedPeer
from agora.keys import PeerId, is_peer_id
from agora.references import Contact, resolve, resolve_display_name, shorten
from agora.text import printable_line

__all__ = ["peers"]


@click.group(invoke_without_command=True)
@common_options
@relay_options
@click.option("--offline", is_flag=True, help="do not ask the relay: contacts alone")
@click.option("--long", is_flag=True, help="the full ids too")
@click.pass_context
def peers(context: click.Context, offline: bool, long: bool) -> None:
    """
    List your contacts, and who is online at the relay.

    A name with a tilde, as in ~bob@125531b8, is what a stranger calls itself.
    """
    if context.invoked_subcommand is None:
        _list(context.ensure_object(Asked), offline, long)


@peers.command(name="list")
@common_options
@relay_options
@click.option("--offline", is_flag=True, help="do not ask the relay: contacts alone")
@click.option("--long", is_flag=True, help="the full ids too")
@click.pass_obj
def list_peers(asked: Asked, offline: bool, long: bool) -> None:
    """Do as `agora peers` alone does."""
    _list(asked, offline, long)


@peers.command()
@common_options
@click.argument("name")
@click.argument("peer")
@click.pass_obj
def add(asked: Asked, name: str, peer: str) -> None:
    """Call the peer with the full id PEER by NAME from now on."""
    if not is_peer_id(peer):
        raise click.BadParameter(
            "give the full id, 88 hex digits (`agora whoami` prints it)", param_hint="'PEER'"
        )
    config = asked.load()
    contact = Contact(peer, name)
    _refuse_second_owner(contact, config)
    save_config(asked.path, config.with_contact(contact))
    before = resolve_display_name(peer, config.contacts)
    is_renamed = before is not None and before != name
    done = f"renamed {printable_line(before or '')} to" if is_renamed else "added"
    status = "renamed" if is_renamed else "added"
    asked.say(
        f"{done} {styled_peer(peer, None, [contact])}",
        {"status": status, "name": name, "publicKey": peer},
    )


@peers.command()
@common_options
@click.argument("reference")
@click.pass_obj
def remove(asked: Asked, reference: str) -> None:
    """Forget a contact, meant by name, short reference or full id."""
    config = asked.load()
    key = PeerId(resolve(addressee(reference, config.contacts), config.contacts))
    save_config(asked.path, config.without_contact(key))
    asked.say(
        f"removed {styled_peer(key, None, config.contacts)}",
        {"status": "removed", "publicKey": key, **peer_members(key, None, config.contacts)},
    )


def _refuse_second_owner(contact: Contact, config: Config) -> None:
    for known in config.contacts:
        if known.name == contact.name and known.public_key != contact.public_key:
            raise ConfigurationError(
                f"{contact.name} is {shorten(known.public_key)} already: take another name, "
                f"or run agora peers remove {contact.name} first"
            )


def _list(asked: Asked, offline: bool, long: bool) -> None:
    config = asked.load()
    online: dict[PeerId, ListedPeer] | None = None
    failure: AgoraError | None = None
    if not offline:
        try:
            online = asyncio.run(_ask_relay(asked, config))
        except AgoraError as error:
            failure = error
    _show(asked, config, online, long)
    if failure:  # behind the contacts, which are known all the same
        raise failure


async def _ask_relay(asked: Asked, config: Config) -> dict[PeerId, ListedPeer]:
    async with asked.client(config, reconnect=False, receive=False) as client:
        return client.peers


def _show(
    asked: Asked, config: Config, online: dict[PeerId, ListedPeer] | None, long: bool
) -> None:
    known = [contact.public_key for contact in config.contacts]
    for peer in filter(is_peer_id, dict.fromkeys([*known, *(online or {})])):
        listed = (online or {}).get(peer)
        claimed = listed.name if listed else None
        is_online = None if online is None else listed is not None and listed.is_online
        shown = styled_peer(peer, claimed, config.contacts)
        members: Members = peer_members(peer, claimed, config.contacts)
        line = f"{_presence(is_online)} {shown}" + (f"  {peer}" if long else "")
        asked.say(line, members | {"online": is_online})


def _presence(is_online: bool | None) -> str:
    if is_online is None:
        return "?      "
    return click.style("online ", fg="green") if is_online else "offline"
