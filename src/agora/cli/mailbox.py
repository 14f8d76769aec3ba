"""``agora mailbox``: what a relay keeps, for its operator, also while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import click

from agora.cli.exits import NotConfirmedError, NotInStoreError
from agora.cli.mailbox_archive import export, import_
from agora.cli.mailbox_store import mailbox_options, opened_store
from agora.cli.options import Asked
from agora.cli.output import Members, some
from agora.keys import PUBLIC_KEY_PREFIX, PeerId
from agora.mailbox import DeadLetter, Mailbox, MailboxSummary
from agora.references import short_key
from agora.text import printable

__all__ = ["mailbox"]

_long_option = click.option("--long", is_flag=True, help="the full ids")


@click.group()
@mailbox_options
def mailbox() -> None:
    """
    See and change what a relay keeps, also while it runs.

    PEER is a full id, the beginning of one, or @ and its last digits, of those
    that are in the store. Nothing here shows or changes what is only in memory.
    """


mailbox.add_command(export)
mailbox.add_command(import_)


# What is there


@mailbox.command(name="list")
@mailbox_options
@_long_option
@click.pass_obj
def list_mailboxes(asked: Asked, long: bool) -> None:
    """List of whom mail is kept, how much, and since when."""
    with opened_store() as store:
        found, pins = store.summaries(), len(store.pins())
    for summary in found:
        asked.say(_summary_line(summary, long), _summary_members(summary))
    total: Members = {
        "event": "total",
        "mailboxes": len(found),
        "messages": sum(summary.messages for summary in found),
        "bytes": sum(summary.bytes for summary in found),
        "deadLetters": sum(summary.dead_letters for summary in found),
        "pins": pins,
    }
    asked.say(_total_line(found), total)


def _total_line(found: Sequence[MailboxSummary]) -> str:
    messages = some(sum(summary.messages for summary in found), "message")
    size = some(sum(summary.bytes for summary in found), "byte")
    dead = some(sum(summary.dead_letters for summary in found), "dead letter")
    return f"{some(len(found), 'mailbox', 'es')}: {messages}, {size}, {dead}"


def _summary_line(summary: MailboxSummary, long: bool) -> str:
    waiting = f"{some(summary.messages, 'message')}, {some(summary.bytes, 'byte')}"
    if summary.messages:
        waiting += f", the oldest of {_ago(summary.oldest_ms)} ago"
    dead = f", {some(summary.dead_letters, 'dead letter')}" if summary.dead_letters else ""
    retained = f", {summary.retained} acked and retained" if summary.retained else ""
    return f"{_shown(summary.recipient, long)}  {waiting}{dead}{retained}"


def _summary_members(summary: MailboxSummary) -> Members:
    members: Members = {
        "event": "mailbox",
        "recipient": summary.recipient,
        "messages": summary.messages,
        "bytes": summary.bytes,
        "deadLetters": summary.dead_letters,
    }
    if summary.retained:
        members["retained"] = summary.retained
    return members | ({"oldestMs": summary.oldest_ms} if summary.messages else {})


@mailbox.command()
@mailbox_options
@_long_option
@click.option("--show", is_flag=True, help="what they say too; it is for their recipients' eyes")
@click.argument("peer", required=False)
@click.pass_obj
def dead(asked: Asked, long: bool, show: bool, peer: str | None) -> None:
    """List the mail that was given up, of all or of one recipient PEER."""
    with opened_store() as store:
        recipient = None if peer is None else _with_mail(peer, store)
        letters = store.dead_letters(recipient)
    for letter in letters:
        asked.say(_letter_lines(letter, long, show), _letter_members(letter, show))
    if not letters and not asked.as_json:
        asked.remark("no dead letters")


def _letter_lines(letter: DeadLetter, long: bool, show: bool) -> str:
    mail = letter.mail
    when = datetime.fromtimestamp(letter.died_ms / 1000, UTC).astimezone()
    way = f"{_shown(mail.sender, long)} to {_shown(mail.recipient, long)}"
    why = "damaged on the disk" if letter.is_damaged else some(letter.nacks, "nack")
    # Printable: where it is damaged, anything can be in it.
    line = printable(f"{when:%Y-%m-%d %H:%M:%S} {way}, {why}: {mail.envelope_id or 'no id'}")
    if not show:
        return line
    # Further lines are set in, so that no text can look like a line of ours.
    return line + "\n    " + printable(mail.text).replace("\n", "\n    ")


def _letter_members(letter: DeadLetter, show: bool) -> Members:
    mail = letter.mail
    members: Members = {
        "event": "dead_letter",
        "id": mail.envelope_id,
        "from": mail.sender,
        "to": mail.recipient,
        "nacks": letter.nacks,
        "storedMs": mail.stored_ms,
        "diedMs": letter.died_ms,
        "damaged": letter.is_damaged,
    }
    return members | ({"envelope": mail.text} if show else {})


@mailbox.command()
@mailbox_options
@click.option("--list", "each", is_flag=True, help="the keys themselves")
@click.pass_obj
def pins(asked: Asked, each: bool) -> None:
    """Count the keys that have proven themselves here, or list them."""
    with opened_store() as store:
        found = store.pins()
    if not each:
        asked.say(some(len(found), "pin"), {"event": "total", "pins": len(found)})
        return
    for peer in found:
        asked.say(peer, {"event": "pin", "publicKey": peer})


# What can be done


@mailbox.command()
@mailbox_options
@click.option("--dead-letters", is_flag=True, help="what was given up alone")
@click.option("--yes", is_flag=True, help="do not ask")
@click.argument("peer")
@click.pass_obj
def purge(asked: Asked, dead_letters: bool, yes: bool, peer: str) -> None:
    """Remove all that is kept for PEER, for good. No sender is told."""
    with opened_store() as store:
        recipient = _with_mail(peer, store)
        what = "dead letters" if dead_letters else "mail and dead letters"
        if not yes and not _confirms(f"Remove all {what} of {recipient}?"):
            raise NotConfirmedError("not confirmed: nothing is removed")
        removed = store.purge(recipient, dead_letters_only=dead_letters)
        store.commit()
    asked.say(
        f"removed {some(removed, 'message')} of {short_key(recipient)}",
        {"status": "purged", "publicKey": recipient, "removed": removed},
    )


def _confirms(question: str) -> bool:
    """Ask; silence is no yes."""
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)  # the question's own line is not ended
        return False


@mailbox.command()
@mailbox_options
@click.argument("peer")
@click.pass_obj
def unpin(asked: Asked, peer: str) -> None:
    """
    Let PEER register without proof again, until it next proves its key.

    Until then it has no mailbox, unless it is listed as a storage peer: what is in it
    stays, and nothing new is stored.
    """
    with opened_store() as store:
        known = _meant(peer, store.pins(), "no pinned key is {}: agora mailbox pins --list")
        store.unpin(PeerId(known))
        store.commit()
    asked.say(f"unpinned {short_key(known)}", {"status": "unpinned", "publicKey": known})


# Who is meant


def _with_mail(reference: str, store: Mailbox) -> str:
    recipients = [summary.recipient for summary in store.summaries()]
    return _meant(reference, recipients, "nothing is kept for {}: agora mailbox list --long")


def _meant(reference: str, peers: Iterable[str], otherwise: str) -> str:
    """Return the one of *peers* that is meant by its id, the beginning of it, or @ and its end."""
    if reference.startswith("@"):
        fitting = [peer for peer in peers if peer.endswith(reference[1:])]
    else:
        # All ids begin alike, so the beginning may be that of the key in them.
        begins = (reference, PUBLIC_KEY_PREFIX + reference)
        fitting = [peer for peer in peers if peer.startswith(begins)]
    if reference in ("", "@") or not fitting:
        raise NotInStoreError(otherwise.format(repr(reference)) + " shows who there is")
    if len(fitting) > 1:
        raise NotInStoreError(f"{reference!r} fits {len(fitting)} peers: give more digits")
    return fitting[0]


def _shown(peer: str, long: bool) -> str:
    return peer if long else short_key(peer)


def _ago(moment_ms: int) -> str:
    """Return how long ago that was, in the largest unit that fits."""
    seconds = max(0, int(time.time() - moment_ms / 1000))
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"
