"""``agora ignore``, ``unignore``, ``ignored`` and ``policy``: who may write to you."""

from __future__ import annotations

import click

from agora.cli.content import addressee
from agora.cli.options import Asked, common_options
from agora.cli.output import Members, peer_members, styled_peer
from agora.errors import InputError
from agora.files import Config, ignored_path, load_ignored, save_config, save_ignored
from agora.keys import PeerId, is_peer_id
from agora.protocol.client.consent import ContactPolicy
from agora.references import Contact, merge_directories, resolve
from agora.text import printable_line

__all__ = ["ignore", "ignored", "policy", "unignore"]

_MEANINGS = {
    ContactPolicy.OPEN: "everybody but those you ignore",
    ContactPolicy.CONTACTS: "your contacts",
    ContactPolicy.ASK: "your contacts, and you are asked about everybody else",
}


@click.command()
@common_options
@click.argument("references", nargs=-1, required=True, metavar="PEER…")
@click.pass_obj
def ignore(asked: Asked, references: tuple[str, ...]) -> None:
    """
    Hear nothing more from a peer, whatever the policy is.

    The list is IGNORED_PEERS.md beside the config file, where the reference has it. A
    client that runs reads it when it is started anew.
    """
    config, listed = asked.load(), load_ignored(ignored_path(asked.path))
    meant = [_meant(reference, config, listed) for reference in references]
    if config.identity.peer_id in meant:
        raise InputError("that is you: ignore others")
    save_ignored(ignored_path(asked.path), {*listed, *meant})
    for peer in meant:
        _say(asked, config, peer, "ignored", is_new=peer not in listed)


@click.command()
@common_options
@click.argument("references", nargs=-1, required=True, metavar="PEER…")
@click.pass_obj
def unignore(asked: Asked, references: tuple[str, ...]) -> None:
    """Hear a peer again, as the policy says."""
    config, listed = asked.load(), load_ignored(ignored_path(asked.path))
    meant = [_meant(reference, config, listed) for reference in references]
    save_ignored(ignored_path(asked.path), set(listed) - set(meant))
    for peer in meant:
        _say(asked, config, peer, "unignored", is_new=peer in listed)


@click.command()
@common_options
@click.pass_obj
def ignored(asked: Asked) -> None:
    """List whom you ignore."""
    config, listed = asked.load(), load_ignored(ignored_path(asked.path))
    for peer in listed:
        asked.say(_shown(peer, config), _members(peer, config))
    if not listed and not asked.as_json:
        asked.remark("you ignore nobody")


@click.command()
@common_options
@click.argument(
    "policy", required=False, type=click.Choice([policy.value for policy in ContactPolicy])
)
@click.pass_obj
def policy(asked: Asked, policy: str | None) -> None:
    """
    Show who may write to you, or say it.

    open: everybody but those you ignore. contacts: your contacts. ask: your contacts,
    and you are asked about everybody else. Whom you wrote to may always answer.
    A client that runs reads the policy when it is started anew.
    """
    config = asked.load()
    if policy is not None:
        config = config.with_contact_policy(ContactPolicy(policy))
        save_config(asked.path, config)
    chosen = config.contact_policy
    asked.say(f"{chosen}: {_MEANINGS[chosen]}", {"policy": str(chosen)})


def _meant(reference: str, config: Config, listed: tuple[str, ...]) -> str:
    """Return the peer that is meant; one that is ignored can be meant by its short reference."""
    if is_peer_id(reference) or reference in listed:
        return reference
    known = merge_directories(config.contacts, [Contact(peer) for peer in listed])
    return resolve(addressee(reference, known), known)


def _say(asked: Asked, config: Config, peer: str, status: str, *, is_new: bool) -> None:
    already = "" if is_new else "already "
    members: Members = {"status": status, "changed": is_new}
    asked.say(f"{already}{status} {_shown(peer, config)}", members | _members(peer, config))


def _members(peer: str, config: Config) -> Members:
    return peer_members(PeerId(peer), None, config.contacts)


def _shown(peer: str, config: Config) -> str:
    """Return how a peer is shown; a line of the list that is none is shown as it is."""
    is_peer = is_peer_id(peer)
    return styled_peer(PeerId(peer), None, config.contacts) if is_peer else printable_line(peer)
