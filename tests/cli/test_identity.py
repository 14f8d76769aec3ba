"""``agora init``, ``whoami`` and ``keys``: one identity, kept, and its private half private."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
)

from agora.cli.keys import install
from agora.errors import IdentityError
from agora.files import load_config
from agora.keys import KeyPair
from agora.references import Contact
from tests.cli.conftest import ALICE, BOB, Shell

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="pipes and modes are POSIX")


def test_init_makes_an_identity_that_only_its_owner_can_read(empty_shell: Shell) -> None:
    made = empty_shell.run("init", "--json")

    config = empty_shell.load()
    assert made.object == {
        "status": "initialized",
        "publicKey": config.identity.peer_id,
        "configPath": str(empty_shell.config),
    }
    if sys.platform != "win32":
        assert stat.S_IMODE(empty_shell.config.stat().st_mode) == 0o600


def test_init_writes_name_and_relay(empty_shell: Shell) -> None:
    empty_shell.run("init", "--name", "alice", "--relay", "wss://relay.example")

    config = empty_shell.load()
    assert (config.name, config.relay_url) == ("alice", "wss://relay.example")


def test_init_never_overwrites(shell: Shell) -> None:
    before = shell.config.read_bytes()

    again = shell.run("init", "--json")

    assert (again.code, again.object["status"]) == (0, "already_initialized")
    assert shell.config.read_bytes() == before


def test_init_gives_an_identity_another_name_and_relay_and_keeps_its_key(shell: Shell) -> None:
    updated = shell.run("init", "--name", "other", "--relay", "wss://relay.example", "--json")

    config = shell.load()
    assert updated.object["status"] == "updated"
    assert (config.name, config.relay_url) == ("other", "wss://relay.example")
    assert (config.identity.peer_id, len(config.contacts)) == (ALICE.peer_id, 1)


@pytest.mark.parametrize("name", ["", " ", "x" * 65, "a\nb", "a\x1b[2J", "@alice", "...alice"])
def test_init_refuses_a_name_that_no_relay_would_show(empty_shell: Shell, name: str) -> None:
    refused = empty_shell.run("init", "--name", name)

    assert (refused.code, empty_shell.config.exists()) == (2, False)
    assert "'--name'" in refused.err


def test_init_adds_an_identity_to_a_config_without_one(empty_shell: Shell) -> None:
    empty_shell.config.write_text('{"relay": "ws://relay.example", "theme": "dark"}')
    empty_shell.config.chmod(0o600)

    empty_shell.run("init")

    assert empty_shell.load().members["theme"] == "dark"


def test_init_refuses_what_is_no_relay(empty_shell: Shell) -> None:
    refused = empty_shell.run("init", "--relay", "ftp://relay.example")

    assert (refused.code, empty_shell.config.exists()) == (2, False)
    assert "no URL of a relay" in refused.err


def test_whoami_says_who_where_and_which_relay(shell: Shell) -> None:
    told = shell.run("--profile", "bob", "whoami")

    assert told.out.splitlines() == [
        f"bob@{BOB.peer_id[-8:]}",
        f"peer id  {BOB.peer_id}",
        f"config   {shell.home / 'profiles' / 'bob' / 'config.json'}",
        "relay    ws://localhost:9470",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--as", "bob", "whoami", "--json"],
        ["whoami", "--json", "--profile", "bob"],
        ["--json", "--config", "profiles/bob/config.json", "whoami", "--profile", "other"],
    ],
)
def test_shared_options_may_stand_before_the_command_or_behind_it(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(shell.home)

    assert shell.run(*arguments).object["publicKey"] == BOB.peer_id


def test_without_an_identity_it_says_what_to_do(empty_shell: Shell) -> None:
    failed = empty_shell.run("whoami", "--json")

    assert failed.code == 3
    assert "Run 'agora init' first" in failed.err
    assert (failed.object["status"], failed.object["code"]) == ("failed", "no_identity")


def test_without_an_identity_what_to_do_names_the_profile_or_file(empty_shell: Shell) -> None:
    no_profile = empty_shell.run("--profile", "nosuch", "whoami")
    no_file = empty_shell.run("whoami", "--config", "no.json")

    assert "Run 'agora --profile nosuch init' first" in no_profile.err
    assert "Run 'agora --config no.json init' first" in no_file.err


@posix_only
def test_a_config_must_be_a_regular_file(shell: Shell) -> None:
    os.mkfifo(shell.home / "pipe", 0o600)

    refused = shell.call("--config", "pipe", "whoami")

    assert (refused.code, "not a regular file" in refused.err) == (3, True)


@posix_only
def test_what_cannot_be_written_is_not_done(shell: Shell) -> None:
    command = [sys.executable, "-m", "agora", "keys"]

    closed = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *command], capture_output=True)

    assert closed.returncode == 1
    assert closed.stderr == b"agora: standard output is closed\n"


@pytest.mark.skipif(sys.platform == "win32", reason="file modes are POSIX")
def test_a_config_that_others_can_read_is_refused(shell: Shell) -> None:
    shell.config.chmod(0o644)

    refused = shell.run("whoami")

    assert refused.code == 3
    assert "chmod 600" in refused.err


# Keys


def test_keys_shows_the_public_key_alone(shell: Shell) -> None:
    assert shell.run("keys").out == f"{ALICE.peer_id}\n"
    assert shell.run("keys", "show", "--json").object == {"publicKey": ALICE.peer_id}


def test_keys_generate_makes_a_new_file_and_never_overwrites(shell: Shell) -> None:
    path = shell.home / "new.json"

    made = shell.run("keys", "generate", str(path))
    again = shell.run("keys", "generate", str(path))

    assert made.out == shell.run("--config", str(path), "keys").out
    assert (again.code, shell.run("keys", "generate").code) == (3, 3)
    assert "is there already" in again.err


def test_a_private_key_is_shown_only_when_asked_for(shell: Shell) -> None:
    commands = [["init"], ["whoami"], ["keys"], ["keys", "export"], ["peers", "--offline"]]
    commands += [[*command, "--json"] for command in commands]
    for command in commands:
        ran = shell.run(*command)
        assert ALICE.private_key[-64:] not in ran.out + ran.err, command

    assert shell.run("keys", "export", "--private-key").out == f"{ALICE.private_key}\n"


def test_exported_pem_is_what_openssl_reads(shell: Shell) -> None:
    public = shell.run("keys", "export", "--format", "pem").out
    private = shell.run("keys", "export", "--format", "pem", "--private-key").out

    key = load_pem_private_key(private.encode(), None)
    assert key.public_key() == load_pem_public_key(public.encode())


@pytest.mark.parametrize("style", ["hex", "pem"])
def test_an_exported_key_can_be_imported_elsewhere(shell: Shell, style: str) -> None:
    path, elsewhere = shell.home / "key", str(shell.home / "elsewhere.json")
    shell.run("keys", "export", "--private-key", "--format", style, str(path))

    imported = shell.run("--config", elsewhere, "keys", "import", str(path))

    assert imported.out == f"{ALICE.peer_id}\n"
    assert shell.run("--config", elsewhere, "keys").out == f"{ALICE.peer_id}\n"
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_export_never_overwrites(shell: Shell) -> None:
    refused = shell.run("keys", "export", str(shell.config))

    assert refused.code == 3
    assert shell.load().identity.peer_id == ALICE.peer_id


def test_import_replaces_an_identity_only_when_told_and_keeps_the_rest(shell: Shell) -> None:
    key = BOB.private_key + "\n"

    refused = shell.run("keys", "import", "-", given=key)
    kept = shell.load().identity.peer_id
    replaced = shell.run("keys", "import", "--replace", "-", given=key)

    assert (refused.code, kept) == (3, ALICE.peer_id)
    assert "--replace" in refused.err
    assert (replaced.code, shell.load().identity.peer_id) == (0, BOB.peer_id)
    assert shell.load().contacts == (Contact(BOB.peer_id, "bob"),)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        ALICE.peer_id.encode(),
        ALICE.private_key[:-2].encode(),
        b"-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----",
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----",
    ],
)
def test_what_is_no_private_key_is_refused(shell: Shell, content: bytes) -> None:
    refused = shell.run("keys", "import", "--replace", "-", given=content)

    assert refused.code == 3
    assert shell.load().identity.peer_id == ALICE.peer_id


@posix_only
def test_importing_a_file_that_others_can_read_warns(shell: Shell) -> None:
    path = shell.home / "key"
    path.write_text(ALICE.private_key)
    path.chmod(0o644)
    warned = shell.run("keys", "import", str(path))
    path.chmod(0o600)
    quiet = shell.run("keys", "import", str(path))

    assert (warned.code, quiet.code, quiet.err) == (0, 0, "")
    assert "others can use it (mode 0644): the key may be known" in warned.err


@posix_only
def test_importing_from_a_closed_standard_input_is_refused(shell: Shell) -> None:
    refused = shell.call_closed("keys", "import", "-")

    assert (refused.code, refused.err) == (2, "agora: standard input is closed\n")


def test_no_private_key_is_told_with_its_length(shell: Shell) -> None:
    refused = shell.run("keys", "import", "-", given=ALICE.private_key[:-2])

    assert "96 hex digits, or PEM; this has 94 characters" in refused.err


def test_of_two_imports_at_once_one_says_that_it_did_it(shell: Shell) -> None:
    pairs = [KeyPair.generate() for _ in range(8)]
    for turn in range(20):
        path = shell.home / f"{turn}.json"

        def is_installed(pair: KeyPair, path: Path = path) -> bool:
            try:
                install(path, pair, replace=False)
            except IdentityError:
                return False
            return True

        with ThreadPoolExecutor(len(pairs)) as pool:
            done = [
                pair for pair, ok in zip(pairs, pool.map(is_installed, pairs), strict=True) if ok
            ]
        assert [pair.peer_id for pair in done] == [load_config(path).identity.peer_id]


def test_every_key_pair_is_a_new_one(shell: Shell) -> None:
    made = {shell.run("keys", "generate", f"{shell.home}/{number}").out for number in range(3)}

    assert len(made) == 3
