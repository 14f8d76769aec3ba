"""An identity in its file: made once, kept, and nobody else's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agora.errors import IdentityError
from agora.identity import Identity
from agora.keys import KeyPair, verify

posix_only = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agora" / "config.json"


def test_a_saved_identity_is_loaded_again(path: Path) -> None:
    identity = Identity.generate()

    identity.save(path)
    loaded = Identity.load(path)

    assert type(loaded) is Identity
    assert loaded.private_key == identity.private_key
    assert verify(identity.peer_id, loaded.sign(b"data"), b"data")


@posix_only
def test_a_saved_identity_is_for_its_owner_only(path: Path) -> None:
    Identity.generate().save(path)

    assert path.stat().st_mode & 0o777 == 0o600


def test_saving_keeps_what_else_the_file_says(path: Path) -> None:
    Identity.generate().save(path)
    members = json.loads(path.read_bytes())
    members["identity"]["name"] = "alice"
    path.write_text(json.dumps(members | {"peers": {"bob": {}}, "relay": "ws://r", "more": [1]}))

    identity = Identity.generate()
    identity.save(path)

    assert json.loads(path.read_bytes()) == {
        "identity": {
            "publicKey": identity.public_key,
            "privateKey": identity.private_key,
            "name": "alice",
        },
        "peers": {"bob": {}},
        "relay": "ws://r",
        "more": [1],
    }


def test_saving_over_something_else_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("my diary")

    with pytest.raises(IdentityError, match="Invalid JSON in config file"):
        Identity.generate().save(path)

    assert path.read_text() == "my diary"


@posix_only
def test_saving_closes_a_file_that_others_could_read(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"relay": "ws://r"}')
    path.chmod(0o644)

    identity = Identity.generate()
    identity.save(path)

    assert Identity.load(path).peer_id == identity.peer_id


@posix_only
def test_an_identity_that_others_can_read_is_not_loaded(path: Path) -> None:
    Identity.generate().save(path)
    path.chmod(0o644)

    with pytest.raises(IdentityError, match="chmod 600"):
        Identity.load(path)
    with pytest.raises(IdentityError, match="chmod 600"):
        Identity.load_or_create(path)


def test_loading_where_nothing_is_says_what_to_do(path: Path) -> None:
    with pytest.raises(IdentityError, match="Run 'agora init' first"):
        Identity.load(path)


def test_an_identity_is_created_once(path: Path) -> None:
    first = Identity.load_or_create(path)
    second = Identity.load_or_create(path)

    assert type(first) is type(second) is Identity
    assert first.private_key == second.private_key


def test_a_file_without_an_identity_gets_one(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"relay": "ws://r"}')
    path.chmod(0o600)

    identity = Identity.load_or_create(path)

    assert Identity.load(path).peer_id == identity.peer_id
    assert json.loads(path.read_bytes())["relay"] == "ws://r"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"identity": {}}', '{"identity": null}'])
def test_a_damaged_identity_is_never_overwritten(path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_text(content)
    path.chmod(0o600)

    with pytest.raises(IdentityError, match="Invalid"):
        Identity.load_or_create(path)

    assert path.read_text() == content


def test_processes_that_start_together_share_one_identity(path: Path) -> None:
    program = "import sys; from agora.identity import Identity as I; input(); "
    program += "print(I.load_or_create(sys.argv[1]).peer_id)"
    command = [sys.executable, "-c", program, str(path)]
    pipe = subprocess.PIPE
    started = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(8)]

    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    peer_ids = {process.communicate()[0].strip() for process in started}

    assert peer_ids == {Identity.load(path).peer_id}


def test_what_the_reference_wrote_is_loaded(path: Path) -> None:
    pair = KeyPair.from_seed(bytes(range(32)))
    path.parent.mkdir()
    path.write_text(
        json.dumps(
            {
                "identity": {"publicKey": pair.public_key, "privateKey": pair.private_key},
                "peers": {},
                "relay": {"url": "wss://relay.example", "autoConnect": True},
            },
            indent=2,
        )
        + "\n"
    )
    path.chmod(0o600)

    assert Identity.load(path).peer_id == pair.peer_id
