"""``agora known-relays``: to see, pin and forget which key each relay has."""

from __future__ import annotations

import re

import pytest

from agora.known_relays import KnownRelays
from tests.cli.conftest import ALICE, BOB, Shell
from tools.reference import JSON_OBJECTS

URL, PLACE = "ws://localhost:9470", "localhost:9470"
KEY, OTHER = ALICE.peer_id, BOB.peer_id


@pytest.fixture
def known(empty_shell: Shell) -> KnownRelays:
    """The file beside the config file, which has no other use here: no identity is needed."""
    return KnownRelays(empty_shell.home / "known-relays.json")


def test_what_a_client_remembers_is_listed(empty_shell: Shell, known: KnownRelays) -> None:
    assert empty_shell.run("known-relays").out == ""
    known.remember(URL, KEY)
    known.remember("wss://a.example", OTHER)

    assert empty_shell.run("known-relays").out == f"a.example:443  {OTHER}\n{PLACE}  {KEY}\n"
    assert empty_shell.run("known-relays", "list", "--json").objects == [
        {"relay": "a.example:443", "publicKey": OTHER},
        {"relay": PLACE, "publicKey": KEY},
    ]


def test_a_key_is_pinned_and_one_that_it_replaces_is_told(
    empty_shell: Shell, known: KnownRelays
) -> None:
    pinned = empty_shell.run("known-relays", "pin", URL, KEY, "--json")
    again = empty_shell.run("known-relays", "pin", URL, KEY)
    replaced = empty_shell.run("known-relays", "pin", URL, OTHER, "--json")

    assert pinned.object == {"status": "pinned", "relay": PLACE, "publicKey": KEY}
    assert (again.out, again.err) == (f"pinned {PLACE}\n", "")
    assert replaced.object == {"status": "replaced", "relay": PLACE, "publicKey": OTHER}
    assert replaced.err == f"it had {KEY}\n"
    assert known.expected(URL) == OTHER


@pytest.mark.parametrize("url", [URL, PLACE, "wss://LOCALHOST:9470/agora"])
def test_a_relay_is_forgotten_by_url_or_as_it_is_listed(
    empty_shell: Shell, known: KnownRelays, url: str
) -> None:
    known.remember(URL, KEY)
    forgotten = empty_shell.run("known-relays", "forget", url, "--json")

    assert forgotten.object == {"status": "forgotten", "relay": PLACE}
    assert known.all() == {}


def test_who_is_not_known_cannot_be_forgotten(empty_shell: Shell, known: KnownRelays) -> None:
    failed = empty_shell.run("known-relays", "forget", URL)

    assert (failed.code, failed.out) == (2, "")
    assert f"{known.path} has no key of {PLACE}" in failed.err


@pytest.mark.parametrize("arguments", [(URL, "x"), (URL, KEY.upper()), ("ftp://a", KEY), ("", KEY)])
def test_what_is_no_relay_or_no_key_is_refused(
    empty_shell: Shell, known: KnownRelays, arguments: tuple[str, str]
) -> None:
    assert empty_shell.run("known-relays", "pin", *arguments).code == 2
    assert not known.path.exists()


def test_a_damaged_file_is_named_and_left_alone(empty_shell: Shell, known: KnownRelays) -> None:
    known.path.write_text("{")
    for words in (["list"], ["pin", URL, KEY], ["forget", URL]):
        failed = empty_shell.run("known-relays", *words)

        assert failed.code != 0
        assert f"{known.path} is damaged" in failed.err
    assert known.path.read_text() == "{"


def test_each_profile_knows_relays_of_its_own(empty_shell: Shell, known: KnownRelays) -> None:
    empty_shell.run("known-relays", "pin", URL, KEY, "--profile", "bob")

    assert known.all() == {}
    assert empty_shell.run("--as", "bob", "known-relays").out == f"{PLACE}  {KEY}\n"


def test_the_environment_may_name_another_file(
    empty_shell: Shell, known: KnownRelays, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = KnownRelays(empty_shell.home / "elsewhere.json")
    monkeypatch.setenv("AGORA_KNOWN_RELAYS", str(other.path))
    empty_shell.run("known-relays", "pin", URL, KEY)

    assert (known.all(), other.expected(URL)) == ({}, KEY)


def test_the_objects_for_programs_are_those_of_the_page(empty_shell: Shell) -> None:
    written = {
        "known-relays pin": empty_shell.run("known-relays", "pin", URL, KEY, "--json"),
        "known-relays": empty_shell.run("known-relays", "--json"),
        "known-relays forget": empty_shell.run("known-relays", "forget", URL, "--json"),
    }

    for command, ran in written.items():
        documented = set(re.findall(r"`(\w+)`", JSON_OBJECTS[command]))
        assert ran.object.keys() <= documented, command
