"""``agora peers``: contacts, and who is online."""

from __future__ import annotations

import pytest

from agora.references import Contact
from agora.sync import Client
from agora.testing import RelayInThread, relay_in_thread
from tests.cli.conftest import ALICE, BOB, Shell

STRANGER = "302a300506032b6570032100" + "ab" * 32


def test_contacts_are_added_and_removed_by_any_reference(shell: Shell) -> None:
    added = shell.run("peers", "add", "carol", STRANGER, "--json")
    removed = shell.run("peers", "remove", f"@{STRANGER[-8:]}", "--json")

    assert added.object == {"status": "added", "name": "carol", "publicKey": STRANGER}
    assert removed.object == {"status": "removed", "name": "carol", "publicKey": STRANGER}
    assert shell.load().contacts == (Contact(BOB.peer_id, "bob"),)


def test_a_contact_that_is_added_again_is_renamed_and_it_says_so(shell: Shell) -> None:
    renamed = shell.run("peers", "add", "robert", BOB.peer_id)
    again = shell.run("peers", "add", "bob", BOB.peer_id, "--json")

    assert renamed.out == f"renamed bob to robert@{BOB.peer_id[-8:]}\n"
    assert again.object == {"status": "renamed", "name": "bob", "publicKey": BOB.peer_id}
    assert shell.run("peers", "add", "bob", BOB.peer_id, "--json").object["status"] == "added"


def test_no_full_id_is_told_where_to_find_one(shell: Shell) -> None:
    assert "(`agora whoami` prints it)" in shell.run("peers", "add", "carol", "@12345678").err


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("bob", STRANGER),
        ("@bob", STRANGER),
        ("carol", STRANGER[:-1]),
        ("carol", STRANGER.upper()),
    ],
)
def test_a_name_or_id_that_would_mislead_is_refused(shell: Shell, name: str, peer: str) -> None:
    assert shell.run("peers", "add", name, peer).code == 2
    assert shell.load().contacts == (Contact(BOB.peer_id, "bob"),)


def test_who_is_not_known_cannot_be_removed(shell: Shell) -> None:
    failed = shell.run("peers", "remove", "carol", "--json")

    assert (failed.code, failed.object["code"]) == (4, "unknown_peer")


def test_it_tells_who_is_online_and_what_strangers_call_themselves(
    shell: Shell, agora_relay: RelayInThread
) -> None:
    online = ["peers", "--relay", agora_relay.url, "--json"]
    with Client(agora_relay.url, BOB, name="bobby"):
        [bob] = shell.run(*online).objects
        [stranger] = shell.run("--config", _stranger(shell), *online).objects
    [gone] = shell.run(*online).objects

    known = {"publicKey": BOB.peer_id, "name": "bob"}
    assert bob == known | {"claimedName": "bobby", "online": True}
    assert stranger == {"publicKey": BOB.peer_id, "claimedName": "bobby", "online": True}
    assert gone == known | {"online": False}


def test_people_see_a_tilde_before_a_name_that_was_not_given_by_them(
    shell: Shell, agora_relay: RelayInThread
) -> None:
    with Client(agora_relay.url, BOB, name="bob\x1b[31m\u202e"):
        mine = shell.run("peers", "list", "--relay", agora_relay.url).out
        theirs = shell.run("--config", _stranger(shell), "peers", "--relay", agora_relay.url).out

    assert mine == f"online  bob@{BOB.peer_id[-8:]}\n"
    assert theirs == f"online  ~bob[31m@{BOB.peer_id[-8:]}\n"


def test_the_full_ids_are_shown_when_asked_for(shell: Shell) -> None:
    for command in (["peers"], ["peers", "list"]):
        shown = shell.run(*command, "--offline", "--long").out
        assert shown == f"?       bob@{BOB.peer_id[-8:]}  {BOB.peer_id}\n"


def test_without_a_relay_contacts_are_listed_and_the_exit_code_says_that_it_is_not_there(
    shell: Shell,
) -> None:
    with relay_in_thread() as relay:
        url = relay.url
    failed = shell.run("peers", "--relay", url, "--json")
    asked_nobody = shell.run("peers", "--offline", "--json")

    known = {"publicKey": BOB.peer_id, "name": "bob", "online": None}
    assert (failed.code, failed.objects[0]) == (6, known)
    assert failed.objects[1]["code"] == "not_connected"
    assert (asked_nobody.code, asked_nobody.object) == (0, known)


def _stranger(shell: Shell) -> str:
    path = str(shell.home / "stranger.json")
    shell.run("keys", "generate", path)
    return path


def test_our_own_key_is_not_among_the_peers(shell: Shell, agora_relay: RelayInThread) -> None:
    with Client(agora_relay.url, ALICE):
        listed = shell.run("peers", "--relay", agora_relay.url, "--json").objects

    assert ALICE.peer_id not in [peer["publicKey"] for peer in listed]
