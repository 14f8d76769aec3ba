"""``agora mailbox export`` and ``import``: all that is kept, out of one store and into another."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
import stat
import sys
import time
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from agora.envelope import seal
from agora.keys import KeyPair, PeerId
from agora.mailbox import MailboxBounds, SqliteMailbox
from agora.mailbox.archive import ArchiveError, read_archive
from agora.mailbox.backup import kept_at
from agora.mailbox.lock import DirectoryLock
from agora.protocol.relay.actions import Mail
from tests.cli.conftest import ALICE, BOB, Ran, Shell

BOUNDS = MailboxBounds(max_messages=1_000, max_bytes=10_000_000)
CAROL = KeyPair.from_seed(bytes([7]) * 32).peer_id
NOW_MS = int(time.time() * 1000)


def letter(to: str, text: Any, position: int, **members: Any) -> Mail:
    """Make mail that alice has signed."""
    envelope = seal(ALICE, type="publish", payload=text, to=[to], timestamp_ms=NOW_MS)
    return Mail(to, ALICE.peer_id, envelope.id, envelope.wire_text, position=position, **members)


def store_at(folder: Path) -> SqliteMailbox:
    return SqliteMailbox(folder / "mailbox.sqlite3", BOUNDS)


@pytest.fixture
def folder(empty_shell: Shell) -> Path:
    """The folder of a relay that keeps three messages, a dead letter and two pins."""
    path = empty_shell.home / "data" / "agora" / "relay"
    with closing(store_at(path)) as store:
        store.put(letter(BOB.peer_id, "one", 3, name="Älice 👋", confirm=True), now_ms=1_003)
        store.put(letter(BOB.peer_id, "two\n", 5), now_ms=1_005)
        store.put(letter(CAROL, "given up", 6), now_ms=1_006)
        store.put(Mail(CAROL, ALICE.peer_id, "", '{"opaque":1}', position=9), now_ms=1_009)
        store.nack(BOB.peer_id, [letter(BOB.peer_id, "two\n", 5).envelope_id], max_nacks=9)
        store.bury(CAROL, [6], now_ms=2_000)
        store.pin(ALICE.peer_id, now_ms=10)
        store.pin(BOB.peer_id, now_ms=20)
        store.commit()
    return path


def rows(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return all that a store holds, row by row."""
    tables = {"mail": "position", "dead_letter": "position", "pin": "peer", "held": "recipient"}
    with closing(sqlite3.connect(folder / "mailbox.sqlite3")) as database:
        return {
            table: database.execute(f"SELECT * FROM {table} ORDER BY {order}").fetchall()
            for table, order in tables.items()
        }


def exported(shell: Shell, name: str = "mail.jsonl") -> Path:
    path = shell.home / name
    ran = shell.run("mailbox", "export", str(path), "--force")
    assert ran.code == 0, ran.err
    return path


def imported(shell: Shell, archive: Path, into: Path) -> Ran:
    return shell.run("mailbox", "import", str(archive), "--data-dir", str(into), "--json")


# There and back


@pytest.mark.parametrize("name", ["mail.jsonl", "mail.jsonl.gz"])
def test_what_was_exported_is_there_again_row_by_row(
    empty_shell: Shell, folder: Path, name: str
) -> None:
    new = empty_shell.home / "new"

    archive = exported(empty_shell, name)
    done = imported(empty_shell, archive, new)

    assert rows(new) == rows(folder)
    assert done.object == {
        "status": "imported",
        "messages": 3,
        "deadLetters": 1,
        "pins": 2,
        "present": 0,
        "refused": 0,
    }
    assert archive.read_bytes().startswith(b"\x1f\x8b" if name.endswith("gz") else b"{")


def test_it_tells_what_it_did(empty_shell: Shell, folder: Path) -> None:
    path = str(empty_shell.home / "mail.jsonl")

    out = empty_shell.run("mailbox", "export", path).out
    back = empty_shell.run("mailbox", "import", path).out

    assert out == "exported 3 messages, 1 dead letter, 2 pins\n"
    assert back == "imported 0 messages, 0 dead letters, 0 pins; 6 were there already\n"


def test_it_tells_what_is_not_in_it(empty_shell: Shell, folder: Path) -> None:
    with closing(store_at(folder)) as store:
        store.remove(BOB.peer_id, [3], acked_ms=0)
        store.commit()

    ran = empty_shell.run("mailbox", "export", str(empty_shell.home / "mail.jsonl"))

    assert ran.out == "exported 2 messages, 1 dead letter, 2 pins\n"
    assert "not in it: 1 message, acked and retained for a replay" in ran.err


def test_programs_are_told_the_same(empty_shell: Shell, folder: Path) -> None:
    path = str(empty_shell.home / "mail.jsonl")

    done = empty_shell.run("mailbox", "export", path, "--json").object

    assert done == {
        "status": "exported",
        "file": path,
        "messages": 3,
        "deadLetters": 1,
        "pins": 2,
        "damaged": 0,
    }


def test_pipes_carry_it_too(empty_shell: Shell, folder: Path) -> None:
    new = empty_shell.home / "new"

    out = empty_shell.call("mailbox", "export", "-")
    back = empty_shell.run("mailbox", "import", "-", "--data-dir", str(new), given=out.out)

    assert out.err == "exported 3 messages, 1 dead letter, 2 pins\n"
    assert (back.code, rows(new)) == (0, rows(folder))


def test_the_report_has_no_place_in_the_data(empty_shell: Shell, folder: Path) -> None:
    assert empty_shell.run("mailbox", "export", "-", "--json").code == 2


def test_the_file_is_private_and_holds_no_key_of_the_relay(
    empty_shell: Shell, folder: Path
) -> None:
    archive = exported(empty_shell)

    kinds = {json.loads(line)["kind"] for line in archive.read_text().splitlines()}
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    assert kinds == {"begin", "pin", "mail", "deadLetter", "total", "end"}


def test_a_file_that_is_there_is_replaced_when_told_to(empty_shell: Shell, folder: Path) -> None:
    archive = empty_shell.home / "mail.jsonl"
    archive.write_text("yesterday's")

    refused = empty_shell.run("mailbox", "export", str(archive))
    before = archive.read_text()
    exported(empty_shell)

    assert (refused.code, "--force replaces it" in refused.err, before) == (2, True, "yesterday's")
    assert archive.read_text().startswith('{"kind":"begin"')


@pytest.mark.skipif(sys.platform == "win32", reason="links are for the privileged there")
@pytest.mark.parametrize("is_there", [False, True])
def test_where_a_link_leads_nothing_is_written(
    empty_shell: Shell, folder: Path, is_there: bool
) -> None:
    archive, victim = empty_shell.home / "mail.jsonl", empty_shell.home / "victim"
    archive.symlink_to(victim)
    if is_there:
        victim.write_text("mine")

    refused = empty_shell.run("mailbox", "export", str(archive))
    was_link = archive.is_symlink()
    exported(empty_shell)

    assert (refused.code, "--force replaces it" in refused.err, was_link) == (2, True, True)
    assert not archive.is_symlink()
    assert victim.read_text() == "mine" if is_there else not victim.exists()


# While a relay runs


def test_exporting_sees_one_moment_while_a_relay_writes(empty_shell: Shell, folder: Path) -> None:
    with LockOf(folder), closing(store_at(folder)) as relay:
        entries = kept_at(folder / "mailbox.sqlite3")
        first = next(entries)
        relay.put(letter(BOB.peer_id, "later", 12), now_ms=0)
        relay.remove(BOB.peer_id, [3])
        relay.unpin(BOB.peer_id)
        relay.commit()
        seen = [first, *entries]

    positions = [getattr(entry, "position", 0) for entry in seen]
    assert positions == [0, 0, 3, 5, 9, 6]


class LockOf(closing[DirectoryLock]):
    """The lock that a running relay holds."""

    def __init__(self, folder: Path) -> None:
        super().__init__(DirectoryLock(folder))


def test_importing_waits_for_no_relay_to_run(empty_shell: Shell, folder: Path) -> None:
    archive = exported(empty_shell)
    with LockOf(folder):
        running = empty_shell.run("mailbox", "export", "-")
        refused = empty_shell.run("mailbox", "import", str(archive))

    assert running.code == 0
    assert refused.code == 2
    assert f"is in use by a relay (process {os.getpid()}): stop it" in refused.err


# What is there already


def test_the_second_time_nothing_changes(empty_shell: Shell, folder: Path) -> None:
    new = empty_shell.home / "new"
    archive = exported(empty_shell)
    imported(empty_shell, archive, new)
    before = rows(new)

    again = imported(empty_shell, archive, new).object

    assert rows(new) == before
    assert (again["messages"], again["present"]) == (0, 6)


def test_what_was_lost_comes_back_in_its_place(empty_shell: Shell, folder: Path) -> None:
    archive, before = exported(empty_shell), rows(folder)
    with closing(store_at(folder)) as store:
        store.remove(BOB.peer_id, [3])
        store.purge(CAROL, dead_letters_only=True)
        store.unpin(BOB.peer_id)
        store.commit()

    done = imported(empty_shell, archive, folder).object

    assert rows(folder) == before | {"pin": rows(folder)["pin"]}
    assert (done["messages"], done["deadLetters"], done["pins"], done["present"]) == (1, 1, 1, 3)


def test_mail_of_another_relay_goes_behind_what_waits_and_keeps_its_order(
    empty_shell: Shell, folder: Path
) -> None:
    archive, other = exported(empty_shell), empty_shell.home / "other"
    with closing(store_at(other)) as store:
        for position in (2, 5, 40):
            store.put(letter(BOB.peer_id, f"of the other {position}", position), now_ms=0)
        store.commit()

    imported(empty_shell, archive, other)
    again = imported(empty_shell, archive, other).object

    with closing(store_at(other)) as store:
        page = store.page(BOB.peer_id, after=0, max_messages=99, max_bytes=99_999).mail
    said = [json.loads(mail.text)["payload"] for mail in page]
    assert said == ["of the other 2", "one", "of the other 5", "of the other 40", "two\n"]
    assert [mail.position for mail in page] == [2, 3, 5, 40, 41]
    assert (again["messages"], again["deadLetters"], again["present"]) == (0, 0, 6)


def test_more_than_the_bounds_of_today_comes_back_all_the_same(
    empty_shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGORA_MAILBOX_MAX_MESSAGES", "1")
    archive, new = exported(empty_shell), empty_shell.home / "new"

    assert imported(empty_shell, archive, new).object["messages"] == 3


# What is damaged


def test_what_is_damaged_on_the_disk_is_left_out_and_counted(
    empty_shell: Shell, folder: Path
) -> None:
    with closing(sqlite3.connect(folder / "mailbox.sqlite3")) as database, database:
        database.execute("UPDATE mail SET text = 'flipped' WHERE position = 3")

    ran = empty_shell.run("mailbox", "export", str(empty_shell.home / "mail.jsonl"))

    assert ran.out == (
        "exported 2 messages, 1 dead letter, 2 pins; "
        "left out 1 damaged on the disk: agora mailbox dead\n"
    )


def test_mail_that_nobody_signed_is_left_out_and_told(empty_shell: Shell, folder: Path) -> None:
    archive, new = exported(empty_shell), empty_shell.home / "new"

    def forge(lines: list[dict[str, Any]]) -> None:
        lines[3]["envelope"] = lines[3]["envelope"].replace("one", "two")

    rewrite(archive, forge)
    done = empty_shell.run("mailbox", "import", str(archive), "--data-dir", str(new))

    forged = letter(BOB.peer_id, "one", 3).envelope_id
    assert done.err == f"not what its sender signed: {forged}\n"
    assert done.out.endswith("left out 1 message that nobody signed\n")
    assert [row[0] for row in rows(new)["mail"]] == [5, 9]


@pytest.mark.parametrize(
    ("claimed", "kept"), [("\x1b[31m Eve\x07 ", "[31m Eve"), ("...1a2b", None)]
)
def test_names_are_cleaned_as_a_relay_cleans_those_that_peers_come_with(
    empty_shell: Shell, folder: Path, claimed: str, kept: str | None
) -> None:
    archive, new = exported(empty_shell), empty_shell.home / "new"
    rewrite(archive, lambda lines: lines[3].update(name=claimed))

    assert imported(empty_shell, archive, new).code == 0
    with closing(store_at(new)) as store:
        first, _ = store.page(BOB.peer_id, after=0, max_messages=9, max_bytes=1_000_000).mail
    assert first.name == kept


def rewrite(archive: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change the lines of an archive, and let its checksum fit what there is then."""
    lines = [json.loads(line) for line in archive.read_text().splitlines()]
    change(lines)
    *before, end = lines
    content = b"".join(json.dumps(line).encode() + b"\n" for line in before)
    end["sha256"] = sha256(content).hexdigest()
    archive.write_bytes(content + json.dumps(end).encode() + b"\n")


def cut_lines(content: bytes) -> bytes:
    return b"".join(content.splitlines(keepends=True)[:-1])


def flip(content: bytes) -> bytes:
    return content.replace("Älice".encode(), b"Elice", 1)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda content: b"", "it was cut within line 1"),
        (lambda content: b"Dear diary\n", "line 1: "),
        (lambda content: b'{"kind":"pin","peer":"x"}\n', "line 1: "),
        (lambda content: content[:-20], "it was cut within line 9"),
        (cut_lines, "it was cut behind line 8: its end is missing"),
        (flip, "its checksum does not fit: it was changed since it was made"),
        (lambda content: content + b"{}\n", "line 10: there is more behind the end"),
        (lambda content: content.replace(b'"version":1', b'"version":2'), "a newer relay"),
        (lambda content: content.replace(b'"position":5', b'"position":0'), "line 5: "),
        (lambda content: content.replace(b'"kind":"mail"', b'"kind":"begin"'), "line 4: "),
        (lambda content: content.replace(b'"to":"30', b'"to":"??'), "line 4: "),
        (lambda content: b"[" * 100_000 + b"\n", "line 1: "),
        (lambda content: gzip.compress(content)[:-9], "it cannot be unpacked behind line"),
        (lambda content: gzip.compress(content)[:30] + os.urandom(200), "cannot be unpacked"),
    ],
)
def test_a_file_that_was_cut_or_changed_is_refused_and_nothing_changes(
    empty_shell: Shell, folder: Path, damage: Callable[[bytes], bytes], why: str
) -> None:
    archive, new = exported(empty_shell), empty_shell.home / "new"
    archive.write_bytes(damage(archive.read_bytes()))

    failed = imported(empty_shell, archive, new)

    assert (failed.code, failed.object["code"]) == (2, "invalid_archive"), failed.err
    assert why in failed.err
    assert rows(new) == {"mail": [], "dead_letter": [], "pin": [], "held": []}


def test_an_archive_that_has_less_than_it_says_is_refused(empty_shell: Shell, folder: Path) -> None:
    archive, new = exported(empty_shell), empty_shell.home / "new"
    rewrite(archive, lambda lines: lines.remove(lines[3]))

    failed = imported(empty_shell, archive, new)

    assert "its counts do not fit what is in it" in failed.err
    assert rows(new)["mail"] == []


def test_every_byte_that_is_changed_is_noticed(empty_shell: Shell, folder: Path) -> None:
    content = exported(empty_shell).read_bytes()
    for place in range(0, len(content), 5):
        damaged = bytearray(content)
        damaged[place] ^= 1
        with pytest.raises(ArchiveError):
            list(read_archive(BytesIO(damaged)))


def test_a_file_that_is_not_there_is_said(empty_shell: Shell, folder: Path) -> None:
    failed = empty_shell.run("mailbox", "import", "gone.jsonl", "--json")

    assert failed.code == 1
    assert "gone.jsonl" in failed.err


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_what_root_imports_is_the_owners_of_the_folder(empty_shell: Shell, folder: Path) -> None:
    archive, new = exported(empty_shell), empty_shell.home / "new"
    new.mkdir()
    os.chown(new, 12_345, 12_345)

    imported(empty_shell, archive, new)

    assert {path.stat().st_uid for path in new.iterdir()} == {12_345}
    assert {path.name for path in new.iterdir()} >= {"lock", "mailbox.sqlite3"}


def test_pins_that_are_there_keep_their_moment(empty_shell: Shell, folder: Path) -> None:
    archive, new = exported(empty_shell), empty_shell.home / "new"
    with closing(store_at(new)) as store:
        store.pin(PeerId(ALICE.peer_id), now_ms=77)
        store.commit()

    done = imported(empty_shell, archive, new).object

    assert (done["pins"], done["present"]) == (1, 1)
    assert (ALICE.peer_id, 77) in rows(new)["pin"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_what_a_link_in_the_folder_leads_to_stays_with_its_owner(
    empty_shell: Shell, folder: Path
) -> None:
    archive, new = exported(empty_shell), empty_shell.home / "new"
    secret = empty_shell.home / "of-root"
    secret.write_text("not the relay's")
    new.mkdir()
    (new / "mailbox.sqlite3.mine").symlink_to(secret)
    os.chown(new, 12_345, 12_345)

    imported(empty_shell, archive, new)

    assert secret.stat().st_uid == 0


def test_no_archive_takes_the_places_of_mail_that_is_still_to_come(
    empty_shell: Shell, folder: Path
) -> None:
    with closing(store_at(folder)) as store:
        store.put(letter(BOB.peer_id, "the last of all", 2**53 - 1), now_ms=1_010)
        store.commit()
    new = empty_shell.home / "new"

    imported(empty_shell, exported(empty_shell), new)

    with closing(store_at(new)) as store:
        assert store.last_position() == 11  # behind 9, and behind it the dead letter
