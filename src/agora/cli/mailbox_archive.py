"""``agora mailbox export`` and ``import``: a relay's mail as a file, and back."""

from __future__ import annotations

import gzip
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import click

from agora.cli.mailbox_store import (
    chosen_folder,
    mailbox_options,
    naming_store,
    opened_store,
)
from agora.cli.options import Asked
from agora.cli.output import Members, some
from agora.errors import AgoraError, InputError
from agora.files import new_file
from agora.mailbox.archive import Total, read_archive, unpacked, write_archive
from agora.mailbox.backup import TAKES_ALL, Restored, kept_at, restore
from agora.mailbox.opening import MAILBOX_FILE, OpenedMailbox, open_mailbox
from agora.text import printable_line

__all__ = ["export", "import_"]


# Out


@click.command()
@mailbox_options
@click.option(
    "--force", is_flag=True, help="replace FILE if it is there; a link itself, not where it leads"
)
@click.argument("file")
@click.pass_obj
def export(asked: Asked, force: bool, file: str) -> None:
    """
    Write mail, dead letters and pins to FILE, as they are at this moment.

    A name that ends with .gz makes it compressed; - is standard output. The relay
    may run. Its key, relay-identity.json, is a secret and not in it: keep a copy apart.
    Nor is mail in it that was acked, and that the relay retains.
    """
    if file == "-" and asked.as_json:
        raise click.UsageError("with --json standard output is for the report: name a FILE")
    with opened_store() as opened, _target(file, force) as target:  # of this version's schema
        store = chosen_folder() / MAILBOX_FILE
        with naming_store(store), closing(cast(Any, kept_at(store))) as kept:
            total = write_archive(kept, target, made_ms=time.time_ns() // 1_000_000)
        retained = opened.totals(largest=0).retained
    if retained:
        asked.remark(f"not in it: {some(retained, 'message')}, acked and retained for a replay")
    _report_export(asked, total, file)


@contextmanager
def _target(file: str, force: bool) -> Iterator[IO[bytes]]:
    """Give what to write to; a file is there when all was written, and not before."""
    if file == "-":
        if sys.stdout is None:
            raise AgoraError("standard output is closed")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(file).expanduser()
    if os.path.lexists(path) and not force:
        raise InputError(f"{path} is there already: --force replaces it")
    # Where a link leads, another may have chosen: it is not followed but replaced.
    with new_file(path, overwrite=force, follows_link=False) as plain:
        if path.suffix != ".gz":
            yield plain
            return
        with gzip.GzipFile(filename="", fileobj=plain, mode="wb") as packed:
            yield cast(BinaryIO, packed)


def _report_export(asked: Asked, total: Total, file: str) -> None:
    line = f"exported {_counted(total.mail, total.dead_letters, total.pins)}"
    if total.damaged:
        line += f"; left out {total.damaged} damaged on the disk: agora mailbox dead"
    if file == "-":
        asked.remark(line)
        return
    members: Members = {
        "status": "exported",
        "file": file,
        "messages": total.mail,
        "deadLetters": total.dead_letters,
        "pins": total.pins,
        "damaged": total.damaged,
    }
    asked.say(line, members)


def _counted(mail: int, dead_letters: int, pins: int) -> str:
    parts = (some(mail, "message"), some(dead_letters, "dead letter"), some(pins, "pin"))
    return ", ".join(parts)


# In


@click.command(name="import")
@mailbox_options
@click.argument("file")
@click.pass_obj
def import_(asked: Asked, file: str) -> None:
    """
    Put back what export wrote to FILE, or to - for standard input.

    The relay must not run. All of it is put back, or nothing where the file was cut or
    changed. What is there already stays, and mail that nobody signed is left out.
    """
    folder = chosen_folder()
    with _source(file) as source, _stopped_store(folder) as opened:
        if opened.accident is not None:
            why, set_aside = opened.accident.why, opened.accident.set_aside
            asked.remark(f"the mailboxes were damaged, and are in {set_aside}: {why}")
        restored = restore(read_archive(source), opened.mailbox)
    _report_import(asked, restored)


@contextmanager
def _source(file: str) -> Iterator[IO[bytes]]:
    if file == "-" and sys.stdin is None:
        raise AgoraError("standard input is closed")
    with sys.stdin.buffer if file == "-" else Path(file).expanduser().open("rb") as source:
        yield unpacked(BufferedReader(cast(Any, source)))


@contextmanager
def _stopped_store(folder: Path) -> Iterator[OpenedMailbox]:
    """Open the mailboxes for this process alone, as a relay does; what is not there is made."""
    path = folder / MAILBOX_FILE
    try:
        with naming_store(path):
            opened = open_mailbox(folder, TAKES_ALL)
            with closing(opened.mailbox):
                yield opened
    finally:
        _give_to_owner(folder)


def _give_to_owner(folder: Path) -> None:
    """Where root has worked in another's folder, let the files be the other's."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or not folder.exists():
        return
    owner = folder.stat()
    for path in (folder / "lock", *folder.glob(f"{MAILBOX_FILE}*")):
        # Its owner may have put a link there, to a file that is not theirs.
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _report_import(asked: Asked, restored: Restored) -> None:
    counted = _counted(restored.mail, restored.dead_letters, restored.pins)
    line = f"imported {counted}; {restored.present} were there already"
    if restored.refused:
        line += f"; left out {some(restored.refused, 'message')} that nobody signed"
        shown = ", ".join(printable_line(one) or "no id" for one in restored.refused_ids)
        asked.remark(f"not what its sender signed: {shown}")
    members: Members = {
        "status": "imported",
        "messages": restored.mail,
        "deadLetters": restored.dead_letters,
        "pins": restored.pins,
        "present": restored.present,
        "refused": restored.refused,
    }
    asked.say(line, members)
