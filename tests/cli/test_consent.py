"""``agora ignore``, ``unignore``, ``ignored``, ``policy``, on files that the reference reads."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from agora.files import load_ignored
from agora.protocol.client.consent import ContactPolicy
from tests.cli.conftest import ALICE, BOB, Shell

STRANGER = "302a300506032b6570032100" + "ab" * 32
OTHER = "302a300506032b6570032100" + "cd" * 32


def list_of(shell: Shell) -> Path:
    return shell.home / "IGNORED_PEERS.md"


def test_who_is_ignored_is_on_the_list_of_the_reference(shell: Shell) -> None:
    ran = shell.run("ignore", STRANGER, "bob", "--json")

    assert ran.objects == [
        {"status": "ignored", "changed": True, "publicKey": STRANGER},
        {"status": "ignored", "changed": True, "publicKey": BOB.peer_id, "name": "bob"},
    ]
    first, second = sorted([STRANGER, BOB.peer_id])
    assert list_of(shell).read_text() == (
        f"# Ignored peers\n# One public key per line\n{first}\n{second}\n"
    )


def test_the_list_of_the_reference_is_understood_and_kept(shell: Shell) -> None:
    list_of(shell).write_text(f"# Mine\n\n  {STRANGER}\t\r\nold friend\n{STRANGER}")

    shell.run("ignore", OTHER)

    assert load_ignored(list_of(shell)) == tuple(sorted([STRANGER, OTHER, "old friend"]))


def test_who_is_ignored_is_listed_for_people_and_programs(shell: Shell) -> None:
    list_of(shell).write_text(f"{BOB.peer_id}\n{STRANGER}\nold\x1b[31m friend\n")

    shown = shell.run("ignored")
    listed = shell.run("ignored", "--json").objects

    lines = [f"bob@{BOB.peer_id[-8:]}", f"@{STRANGER[-8:]}", "old[31m friend"]
    assert sorted(shown.out.splitlines()) == sorted(lines)
    assert {"publicKey": BOB.peer_id, "name": "bob"} in listed


def test_who_ignores_nobody_is_told_so(shell: Shell) -> None:
    for_people, for_programs = shell.run("ignored"), shell.run("ignored", "--json")

    assert (for_people.out, for_people.err) == ("", "you ignore nobody\n")
    assert (for_programs.out, for_programs.err) == ("", "")


@pytest.mark.parametrize("reference", [STRANGER, f"@{STRANGER[-8:]}"])
def test_a_peer_is_heard_again_by_any_reference(shell: Shell, reference: str) -> None:
    shell.run("ignore", STRANGER, OTHER)

    ran = shell.run("unignore", reference, "--json")

    assert ran.object == {"status": "unignored", "changed": True, "publicKey": STRANGER}
    assert load_ignored(list_of(shell)) == (OTHER,)


def test_what_is_no_peer_id_can_be_taken_off_the_list(shell: Shell) -> None:
    list_of(shell).write_text("old friend\n")

    shell.run("unignore", "old friend")

    assert load_ignored(list_of(shell)) == ()


def test_what_changes_nothing_says_so(shell: Shell) -> None:
    shell.run("ignore", "bob")

    assert shell.run("ignore", "bob").out == f"already ignored bob@{BOB.peer_id[-8:]}\n"
    assert shell.run("unignore", STRANGER, "--json").object["changed"] is False


def test_one_unknown_reference_changes_nothing(shell: Shell) -> None:
    failed = shell.run("ignore", "bob", "nobody", "--json")

    assert (failed.code, failed.object["code"]) == (4, "unknown_peer")
    assert shell.run("ignored").out == ""


def test_nobody_ignores_oneself(shell: Shell) -> None:
    failed = shell.run("ignore", ALICE.peer_id)

    assert (failed.code, failed.err) == (2, "agora: that is you: ignore others\n")


def test_each_profile_has_a_list_of_its_own(shell: Shell) -> None:
    shell.run("--as", "bob", "ignore", STRANGER)

    assert shell.run("ignored").out == ""
    assert shell.run("--as", "bob", "ignored").out == f"@{STRANGER[-8:]}\n"


def test_a_list_that_cannot_be_read_is_no_empty_list(shell: Shell) -> None:
    list_of(shell).mkdir()

    failed = shell.run("ignored", "--json")

    assert (failed.code, failed.object["code"]) == (2, "invalid_configuration")
    assert str(list_of(shell)) in failed.err


def test_nobody_else_can_read_the_list(shell: Shell) -> None:
    shell.run("ignore", STRANGER)

    assert stat.S_IMODE(list_of(shell).stat().st_mode) == 0o600


def test_everybody_may_write_until_it_is_said_otherwise(shell: Shell) -> None:
    assert shell.run("policy").out == "open: everybody but those you ignore\n"


@pytest.mark.parametrize("policy", ["open", "contacts", "ask"])
def test_the_policy_is_kept_in_the_config_file(shell: Shell, policy: str) -> None:
    said = shell.run("policy", policy, "--json")

    assert said.object == {"policy": policy}
    assert shell.run("policy", "--json").object == {"policy": policy}
    assert shell.load().contact_policy is ContactPolicy(policy)
    assert shell.load().contacts != ()


def test_a_policy_that_there_is_not_is_refused(shell: Shell) -> None:
    assert shell.run("policy", "closed").code == 2
    assert shell.load().contact_policy is ContactPolicy.OPEN


@pytest.mark.parametrize("written", ['"contacs"', "null", "7", "[]", "{}"])
def test_a_policy_in_the_file_that_there_is_not_is_not_taken_for_an_open_door(
    shell: Shell, written: str
) -> None:
    text = shell.config.read_text()
    shell.config.write_text(text.replace("{", f'{{"contactPolicy": {written},', 1))

    failed = shell.run("policy", "--json")

    assert (failed.code, failed.object["code"]) == (2, "invalid_configuration")
    assert "open · contacts · ask" in failed.err
