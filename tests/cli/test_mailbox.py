"""``agora mailbox``: what a relay keeps, seen and changed while it runs and while it does not."""

from __future__ import annotations

import os
import re
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from agora.cli.mailbox import mailbox as command
from agora.mailbox import MailboxBounds, SqliteMailbox
from agora.mailbox.lock import DirectoryLock
from agora.protocol.relay.actions import Mail
from tests.cli.conftest import ALICE, BOB, Shell
from tools.reference import JSON_OBJECTS

BOUNDS = MailboxBounds(max_messages=100, max_bytes=10_000)
CAROL = "302a300506032b6570032100" + "ca" * 32
HOUR = 3_600_000


def fill(store: SqliteMailbox) -> None:
    """Put two messages for bob, one of them given up, one for carol, and pin alice and bob."""
    now_ms = int(time.time() * 1000)
    texts = ["one", "t\x1bwo\nthree", "for carol"]
    for position, to in enumerate([BOB.peer_id, BOB.peer_id, CAROL], 1):
        mail = Mail(to, ALICE.peer_id, f"id {position}", texts[position - 1], position=position)
        store.put(mail, now_ms=now_ms - 3 * HOUR)
    store.nack(BOB.peer_id, ["id 2"], max_nacks=9)
    store.bury(BOB.peer_id, [2], now_ms=now_ms)
    store.pin(ALICE.peer_id, now_ms=0)
    store.pin(BOB.peer_id, now_ms=0)
    store.commit()


@pytest.fixture
def folder(empty_shell: Shell) -> Path:
    """The folder of a relay that has stopped."""
    path = empty_shell.home / "data" / "agora" / "relay"
    store = SqliteMailbox(path / "mailbox.sqlite3", BOUNDS)
    fill(store)
    store.close()
    return path


# Looking


def test_there_is_a_line_for_each_mailbox_and_one_for_all(empty_shell: Shell, folder: Path) -> None:
    *mailboxes, total = empty_shell.run("mailbox", "list").out.splitlines()

    assert set(mailboxes) == {
        f"@{BOB.peer_id[-8:]}  1 message, 3 bytes, the oldest of 3 h ago, 1 dead letter",
        "@cacacaca  1 message, 9 bytes, the oldest of 3 h ago",
    }
    assert total == "2 mailboxes: 2 messages, 12 bytes, 1 dead letter"


def test_programs_get_an_object_for_each_mailbox_and_one_for_all(
    empty_shell: Shell, folder: Path
) -> None:
    *mailboxes, total = empty_shell.run("mailbox", "list", "--json").objects

    [bob] = [found for found in mailboxes if found["recipient"] == BOB.peer_id]
    assert bob.keys() == {"event", "recipient", "messages", "bytes", "deadLetters", "oldestMs"}
    assert (bob["messages"], bob["bytes"], bob["deadLetters"]) == (1, 3, 1)
    assert total == {
        "event": "total",
        "mailboxes": 2,
        "messages": 2,
        "bytes": 12,
        "deadLetters": 1,
        "pins": 2,
    }


def test_the_full_ids_are_shown_when_asked_for(empty_shell: Shell, folder: Path) -> None:
    shown = empty_shell.run("mailbox", "list", "--long").out

    assert f"{BOB.peer_id}  1 message" in shown


def test_dead_letters_are_listed_and_what_they_say_is_shown_safely_when_asked_for(
    empty_shell: Shell, folder: Path
) -> None:
    line = empty_shell.run("mailbox", "dead").out
    shown = empty_shell.run("mailbox", "dead", BOB.peer_id, "--show").out

    way = f"@{ALICE.peer_id[-8:]} to @{BOB.peer_id[-8:]}, 1 nack: id 2"
    assert line.endswith(f" {way}\n")
    assert shown == f"{line}    two\n    three\n"


def test_programs_get_a_dead_letter_whole(empty_shell: Shell, folder: Path) -> None:
    plain = empty_shell.run("mailbox", "dead", "--json").object
    shown = empty_shell.run("mailbox", "dead", "--show", "--json").object

    assert (plain["from"], plain["to"]) == (ALICE.peer_id, BOB.peer_id)
    assert (plain["id"], plain["nacks"], "envelope" in plain) == ("id 2", 1, False)
    assert (shown["envelope"], shown["damaged"]) == ("t\x1bwo\nthree", False)


def test_a_dead_letter_that_is_damaged_is_called_so(empty_shell: Shell, folder: Path) -> None:
    with closing(sqlite3.connect(folder / "mailbox.sqlite3")) as store, store:
        store.execute("UPDATE dead_letter SET envelope_id = CAST(x'1bff' AS TEXT)")

    line = empty_shell.run("mailbox", "dead").out

    assert line.endswith(f"to @{BOB.peer_id[-8:]}, damaged on the disk: \ufffd\n")
    assert empty_shell.run("mailbox", "dead", "--json").object["damaged"] is True


def test_pins_are_counted_and_listed(empty_shell: Shell, folder: Path) -> None:
    assert empty_shell.run("mailbox", "pins").out == "2 pins\n"
    assert empty_shell.run("mailbox", "pins", "--list").out.split() == sorted(
        [ALICE.peer_id, BOB.peer_id]
    )
    assert empty_shell.run("mailbox", "pins", "--json").object == {"event": "total", "pins": 2}


def test_where_nothing_died_people_are_told_so(empty_shell: Shell, folder: Path) -> None:
    empty_shell.run("mailbox", "purge", BOB.peer_id, "--yes")

    for_people = empty_shell.run("mailbox", "dead")
    for_programs = empty_shell.run("mailbox", "dead", "--json")

    assert (for_people.out, for_people.err) == ("", "no dead letters\n")
    assert (for_programs.out, for_programs.err) == ("", "")


def test_who_is_not_in_the_store_is_not_looked_for_among_contacts(
    empty_shell: Shell, folder: Path
) -> None:
    failed = empty_shell.run("mailbox", "purge", "@12345678", "--json")

    assert (failed.code, failed.object["code"]) == (4, "unknown_peer")
    assert failed.err.endswith("agora mailbox list --long shows who there is\n")


@pytest.mark.parametrize(
    "command",
    [["list"], ["dead", "--show"], ["pins"], ["pins", "--list"], ["purge", CAROL, "--yes"]],
)
def test_the_objects_for_programs_are_those_of_the_page(
    empty_shell: Shell, folder: Path, command: list[str]
) -> None:
    ran = empty_shell.run("mailbox", *command, "--json")

    documented = set(re.findall(r"`(\w+)`", JSON_OBJECTS[f"mailbox {command[0]}"]))
    assert ran.objects
    assert all(each.keys() <= documented for each in ran.objects)


# Changing


def test_purging_asks_and_removes_nothing_unless_told_to(empty_shell: Shell, folder: Path) -> None:
    asked = empty_shell.run("mailbox", "purge", BOB.peer_id, given="n\n")
    silence = empty_shell.run("mailbox", "purge", BOB.peer_id, given="")

    assert (asked.code, silence.code) == (1, 1)
    assert f"Remove all mail and dead letters of {BOB.peer_id}? [y/N]" in asked.err
    assert asked.err.endswith("\nagora: not confirmed: nothing is removed\n")
    assert empty_shell.run("mailbox", "list", "--json").objects[-1]["messages"] == 2


def test_purging_removes_what_is_kept_for_one(empty_shell: Shell, folder: Path) -> None:
    asked = empty_shell.run("mailbox", "purge", BOB.peer_id, given="y\n")
    carol = empty_shell.run("mailbox", "purge", "@cacaca", "--yes", "--json").object

    assert asked.out == f"removed 2 messages of @{BOB.peer_id[-8:]}\n"
    assert carol == {"status": "purged", "publicKey": CAROL, "removed": 1}
    assert empty_shell.run("mailbox", "list", "--json").object["messages"] == 0


def test_purging_dead_letters_leaves_the_mail(empty_shell: Shell, folder: Path) -> None:
    empty_shell.run("mailbox", "purge", "--dead-letters", "--yes", BOB.peer_id)

    total = empty_shell.run("mailbox", "list", "--json").objects[-1]
    assert (total["messages"], total["deadLetters"]) == (2, 0)


def test_unpinning_forgets_one_key(empty_shell: Shell, folder: Path) -> None:
    done = empty_shell.run("mailbox", "unpin", BOB.peer_id, "--json").object
    again = empty_shell.run("mailbox", "unpin", BOB.peer_id)

    assert done == {"status": "unpinned", "publicKey": BOB.peer_id}
    assert (again.code, "no pinned key is" in again.err) == (4, True)
    assert empty_shell.run("mailbox", "pins", "--list").out == f"{ALICE.peer_id}\n"


def test_what_is_retained_is_listed_and_purged_with_the_rest(
    empty_shell: Shell, folder: Path
) -> None:
    with closing(SqliteMailbox(folder / "mailbox.sqlite3", BOUNDS)) as store:
        store.remove(CAROL, [3], acked_ms=0)
        store.commit()

    people = empty_shell.run("mailbox", "list").out
    *_, carol, _ = empty_shell.run("mailbox", "list", "--json").objects
    purged = empty_shell.run("mailbox", "purge", "@cacaca", "--yes", "--json").object

    assert "@cacacaca  0 messages, 0 bytes, 1 acked and retained\n" in people
    assert (carol["recipient"], carol["retained"], carol["messages"]) == (CAROL, 1, 0)
    assert purged["removed"] == 1


# While a relay runs


def test_it_works_while_a_relay_runs_which_sees_the_change(
    empty_shell: Shell, folder: Path
) -> None:
    lock = DirectoryLock(folder)
    relay = SqliteMailbox(folder / "mailbox.sqlite3", BOUNDS, lock=lock)
    relay.put(Mail(CAROL, BOB.peer_id, "new", "new", position=4), now_ms=0)
    relay.commit()

    listed = empty_shell.call("mailbox", "list", "--json").objects[-1]
    purged = empty_shell.call("mailbox", "purge", CAROL, "--yes", "--json").object
    empty_shell.call("mailbox", "unpin", BOB.peer_id)

    assert (listed["messages"], purged["removed"]) == (3, 2)
    assert relay.has_changed()
    assert (relay.count(CAROL), relay.pins()) == ((0, 0), (ALICE.peer_id,))
    relay.close()


# Who is meant


@pytest.mark.parametrize("reference", [CAROL, CAROL[:26], "cac", "@cacacaca", f"@{CAROL}"])
def test_a_peer_may_be_meant_by_either_end_of_its_id(
    empty_shell: Shell, folder: Path, reference: str
) -> None:
    purged = empty_shell.run("mailbox", "purge", reference, "--yes", "--json")

    assert purged.object["publicKey"] == CAROL


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("bob", "nothing is kept for 'bob'"),
        ("@", "nothing is kept for '@'"),
        ("", "nothing is kept for ''"),
        ("302a", "'302a' fits 2 peers: give more digits"),
        (ALICE.peer_id, "nothing is kept for"),
    ],
)
def test_who_is_not_there_or_not_the_only_one_is_not_guessed(
    empty_shell: Shell, folder: Path, reference: str, why: str
) -> None:
    failed = empty_shell.run("mailbox", "purge", reference, "--yes")

    assert (failed.code, why in failed.err) == (4, True), failed.err


# Where it looks


def test_the_folder_is_that_of_the_flag_or_the_environment_or_a_dotenv_file(
    empty_shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = empty_shell.home / "elsewhere"
    folder.rename(elsewhere)
    total = {"event": "total", "pins": 2}
    missing = empty_shell.run("mailbox", "pins")

    before = empty_shell.run("mailbox", "--data-dir", str(elsewhere), "pins", "--json").object
    behind = empty_shell.run("mailbox", "pins", "--data-dir", str(elsewhere), "--json").object
    with monkeypatch.context() as patch:
        patch.setenv("AGORA_STORAGE_DIR", str(elsewhere))
        by_environment = empty_shell.run("mailbox", "pins", "--json").object
    (empty_shell.home / ".env").write_text(f"AGORA_DATA_DIR={elsewhere}\n")
    by_dotenv = empty_shell.call("mailbox", "pins", "--json").object

    assert (before, behind, by_environment, by_dotenv) == (total, total, total, total)
    assert missing.code == 2
    assert "--data-dir names another folder" in missing.err
    assert not folder.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes are POSIX")
def test_a_pipe_in_the_place_of_a_dotenv_file_is_refused_and_not_waited_for(
    empty_shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(empty_shell.home)
    os.mkfifo(".env")

    refused = empty_shell.run("mailbox", "pins")

    assert (refused.code, ".env: not a regular file" in refused.err) == (2, True)


def test_a_damaged_log_is_left_to_the_relay(empty_shell: Shell, folder: Path) -> None:
    DirectoryLock(folder).close()
    log = folder / "mailbox.sqlite3-wal"
    log.write_bytes(os.urandom(10_000))

    failed = empty_shell.run("mailbox", "list")

    assert (failed.code, "the next start of the relay sets it aside" in failed.err) == (2, True)
    assert log.stat().st_size == 10_000


def test_a_file_that_is_no_mailbox_is_said_and_left(empty_shell: Shell, folder: Path) -> None:
    path = folder / "mailbox.sqlite3"
    path.write_text("Dear diary, " * 100)

    failed = empty_shell.run("mailbox", "list")

    assert (failed.code, "is no usable mailbox database" in failed.err) == (2, True)
    assert path.read_text() == "Dear diary, " * 100


def test_every_command_of_the_group_has_help(empty_shell: Shell) -> None:
    for name in command.commands:
        assert empty_shell.run("mailbox", name, "--help").code == 0
