"""The config file: the reference's layout, for its owner's eyes, whole at every moment."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.canonical import Json
from agora.errors import AgoraError, ConfigurationError, IdentityError
from agora.files import (
    MAX_CONFIG_BYTES,
    Config,
    config_path,
    create_config,
    load_config,
    save_config,
)
from agora.keys import KeyPair
from agora.references import Contact

A = KeyPair.from_seed(bytes(range(32)))
B = KeyPair.from_seed(bytes(range(32, 64)))
C = KeyPair.from_seed(bytes(range(64, 96)))

posix_only = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


def identity_of(pair: KeyPair, **others: Json) -> dict[str, Json]:
    return {"publicKey": pair.public_key, "privateKey": pair.private_key, **others}


def write(path: Path, content: Json | bytes) -> None:
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    path.chmod(0o600)


def config_with(**members: Json) -> Config:
    return Config(A, {"identity": identity_of(A), **members})


# Reading


def test_a_config_of_the_reference_is_understood(path: Path) -> None:
    relay: Json = {"url": "wss://relay.example", "autoConnect": True, "name": "ada"}
    peers: Json = {
        B.public_key: {"publicKey": B.public_key, "name": "bob", "token": "t"},
        C.public_key: {"publicKey": C.public_key},
    }
    write(path, {"identity": identity_of(A, name="alice"), "peers": peers, "relay": relay})

    config = load_config(path)

    assert config.identity.private_key == A.private_key
    assert config.name == "ada"
    assert config.relay_url == "wss://relay.example"
    assert config.contacts == (Contact(B.public_key, "bob"), Contact(C.public_key))


def test_a_config_needs_no_more_than_an_identity(path: Path) -> None:
    write(path, {"identity": identity_of(A)})

    config = load_config(path)

    assert (config.name, config.relay_url, config.contacts) == (None, None, ())


def test_a_relay_may_be_a_plain_url() -> None:
    assert config_with(relay="ws://localhost:9470").relay_url == "ws://localhost:9470"


@pytest.mark.parametrize("relay", [None, "", 1, [], {}, {"url": None}, {"url": ""}])
def test_a_relay_that_is_no_url_is_no_relay(relay: Json) -> None:
    assert config_with(relay=relay).relay_url is None


def test_the_name_for_the_relay_comes_before_the_name_of_the_identity() -> None:
    config = config_with().with_name("alice")

    assert config.name == "alice"
    assert Config(A, {**config.members, "relay": {"name": "ada"}}).name == "ada"


def test_older_files_have_the_name_where_newer_ones_have_the_key() -> None:
    peers: Json = {"bob": {"publicKey": B.public_key}, "x": {"publicKey": C.public_key, "name": ""}}

    assert config_with(peers=peers).contacts == (
        Contact(B.public_key, "bob"),
        Contact(C.public_key),
    )


def test_of_two_entries_for_a_key_the_later_counts() -> None:
    peers: Json = {"bob": {"publicKey": B.public_key}, "rob": {"publicKey": B.public_key}}

    assert config_with(peers=peers).contacts == (Contact(B.public_key, "rob"),)


@pytest.mark.parametrize(
    "peers", [None, 1, "x", [], {"b": None}, {"b": {"publicKey": 1}}, {"": {}}]
)
def test_entries_without_a_key_are_no_contacts(peers: Json) -> None:
    assert config_with(peers=peers).contacts == ()


def test_a_byte_order_mark_in_front_is_overlooked(path: Path) -> None:
    write(path, b"\xef\xbb\xbf" + json.dumps({"identity": identity_of(A)}).encode())

    assert load_config(path).identity.peer_id == A.peer_id


def test_a_missing_file_says_how_to_make_one(path: Path) -> None:
    with pytest.raises(IdentityError) as refusal:
        load_config(path)

    assert str(refusal.value) == f"Config file not found at {path}. Run 'agora init' first."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; remove it and run agora init"),
        (b"{", "Invalid JSON in config file"),
        (b"\xff", "Invalid JSON in config file"),
        (b'{"identity": NaN}', "Invalid JSON in config file"),
        (b"[" * 100_000, "Invalid JSON in config file"),
        ([], "not a JSON object"),
        (None, "not a JSON object"),
        ({}, "missing identity.publicKey or identity.privateKey"),
        ({"identity": None}, "missing identity.publicKey or identity.privateKey"),
        ({"identity": {"publicKey": 1, "privateKey": []}}, "missing identity.publicKey"),
        ({"identity": {"publicKey": A.public_key}}, "missing identity.publicKey"),
        ({"identity": {"publicKey": "zz", "privateKey": "zz"}}, "not a private key"),
        ({"identity": identity_of(A) | {"publicKey": B.public_key}}, "does not belong"),
        (b" " * (MAX_CONFIG_BYTES + 1), "more than 4194304 bytes"),
    ],
)
def test_a_damaged_file_is_named_with_its_damage(
    path: Path, content: Json | bytes, message: str
) -> None:
    write(path, content)

    with pytest.raises(IdentityError, match=message) as refusal:
        load_config(path)

    assert str(path) in str(refusal.value)


def test_a_refusal_never_shows_the_private_key(path: Path) -> None:
    write(path, {"identity": {"publicKey": "zz", "privateKey": A.private_key}})

    with pytest.raises(IdentityError) as refusal:
        load_config(path)

    assert A.private_key not in str(refusal.value)
    assert A.private_key not in repr(config_with())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=10,
)
hostile_peers = st.dictionaries(
    st.text(st.characters(), max_size=4),
    st.fixed_dictionaries({}, optional={"publicKey": json_values, "name": json_values}),
)
hostile_members = st.fixed_dictionaries(
    {"identity": json_values | st.just(identity_of(A))},
    optional={"peers": hostile_peers | json_values, "relay": json_values, "more": json_values},
)


@given(content=st.binary() | hostile_members.map(lambda members: json.dumps(members).encode()))
def test_any_file_gives_a_config_or_an_error_that_names_it(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "hostile.json"
    write(path, content)

    match loaded_or_refused(path):
        case Config() as config:
            save_config(path, config)
            assert load_config(path).contacts == config.contacts
            assert load_config(path).relay_url == config.relay_url
        case error:
            assert str(path) in str(error)


def loaded_or_refused(path: Path) -> Config | AgoraError:
    try:
        return load_config(path)
    except AgoraError as error:
        return error


@pytest.mark.parametrize("name", [".", "file/config.json", "null\0character", "long" * 1000])
def test_what_cannot_be_opened_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    write(tmp_path / "file", b"")
    impossible = os.path.join(tmp_path, name)

    with pytest.raises(IdentityError, match="Cannot read config file: ") as refusal:
        load_config(impossible)
    assert impossible in str(refusal.value)
    with pytest.raises(IdentityError, match="Cannot write config file: "):
        save_config(impossible, config_with())


# Who may read it


@posix_only
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601])
def test_a_file_that_others_can_use_is_refused_with_the_remedy(path: Path, mode: int) -> None:
    write(path, {"identity": identity_of(A)})
    path.chmod(mode)

    with pytest.raises(IdentityError, match=f"mode {mode:04o}.*: run chmod 600 {path}"):
        load_config(path)


@posix_only
def test_the_remedy_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    path = tmp_path / "my config.json"
    write(path, {"identity": identity_of(A)})
    path.chmod(0o644)

    with pytest.raises(IdentityError) as refusal:
        load_config(path)
    subprocess.run(str(refusal.value).split("run ")[1], shell=True, check=True)

    assert load_config(path).identity.peer_id == A.peer_id


@posix_only
def test_a_file_that_only_its_owner_can_read_is_read(path: Path) -> None:
    write(path, {"identity": identity_of(A)})
    path.chmod(0o400)

    assert load_config(path).identity.peer_id == A.peer_id


@posix_only
def test_a_saved_file_is_for_its_owner_only_whatever_it_was_before(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "config.json"

    save_config(path, config_with())
    assert mode_of(path) == 0o600
    assert mode_of(path.parent) == 0o700

    path.chmod(0o644)
    save_config(path, config_with())
    assert mode_of(path) == 0o600


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# A process that may write no more than 100 bytes into a file, as on a disk that is full.
SAVE_ON_A_FULL_DISK = """
    import os, resource, signal, sys
    from agora.files import Config, save_config
    from agora.keys import KeyPair

    os.umask(0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    if sys.argv[2] == "die":
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    save_config(sys.argv[1], Config(KeyPair.generate()))
"""


def save_on_a_full_disk(path: Path, then: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", textwrap.dedent(SAVE_ON_A_FULL_DISK), str(path), then]
    return subprocess.run(program, capture_output=True, text=True, check=False)


@posix_only
def test_a_process_that_dies_while_it_writes_leaves_the_old_file_and_shows_nothing(
    path: Path,
) -> None:
    save_config(path, config_with())

    assert save_on_a_full_disk(path, "die").returncode == -signal.SIGXFSZ

    assert load_config(path).identity.peer_id == A.peer_id
    [half_written] = [other for other in path.parent.iterdir() if other != path]
    assert half_written.stat().st_size == 100
    assert mode_of(half_written) == 0o600


@posix_only
def test_a_full_disk_leaves_the_old_file_and_no_other(path: Path) -> None:
    save_config(path, config_with())

    assert f"IdentityError: Cannot write config file: {path}" in (
        save_on_a_full_disk(path, "go on").stderr
    )
    assert load_config(path).identity.peer_id == A.peer_id
    assert list(path.parent.iterdir()) == [path]


# Writing


def test_what_was_saved_is_loaded(path: Path) -> None:
    config = (
        Config(A)
        .with_name("alice")
        .with_relay_url("ws://r")
        .with_contact(Contact(B.public_key, "bob"))
    )

    save_config(path, config)

    assert load_config(path).to_members() == config.to_members()
    assert list(path.parent.iterdir()) == [path]


def test_a_file_is_written_as_the_reference_writes_it(path: Path) -> None:
    save_config(path, Config(A, {"note": "ünï\ud800"}))

    assert path.read_text(encoding="utf-8") == textwrap.dedent(
        f"""\
        {{
          "identity": {{
            "publicKey": "{A.public_key}",
            "privateKey": "{A.private_key}"
          }},
          "peers": {{}},
          "note": "ünï\\ud800"
        }}
        """
    )


def test_unknown_members_stay(path: Path) -> None:
    relay: dict[str, Json] = {"url": "ws://old", "reconnectMaxMs": 5}
    members: dict[str, Json] = {
        "identity": identity_of(A, name="alice", color="red"),
        "peers": {
            B.public_key: {"publicKey": B.public_key, "token": "t", "url": "http://b"},
            "odd": {"note": "no key here"},
        },
        "relay": relay,
        "plugins": [{"a": [1, None, 2.5]}],
    }
    write(path, members)

    save_config(path, load_config(path).with_contact(Contact(B.public_key, "bob")))
    save_config(path, load_config(path).with_relay_url("ws://new"))

    kept = json.loads(path.read_bytes())
    assert kept == {
        **members,
        "peers": {
            "odd": {"note": "no key here"},
            B.public_key: {
                "publicKey": B.public_key,
                "token": "t",
                "url": "http://b",
                "name": "bob",
            },
        },
        "relay": relay | {"url": "ws://new"},
    }


@posix_only
def test_a_new_name_counts_also_where_the_relay_had_one_of_its_own() -> None:
    members: dict[str, Json] = {"relay": {"url": "ws://relay.example", "name": "old"}}

    config = Config(A, members).with_name("new")

    assert (config.name, config.relay_url) == ("new", "ws://relay.example")


def test_a_symbolic_link_stays_and_its_target_is_replaced(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere" / "real.json"
    path.symlink_to(Path("elsewhere", "real.json"))

    save_config(path, config_with())

    assert path.is_symlink()
    assert load_config(target).identity.peer_id == A.peer_id
    assert list(target.parent.iterdir()) == [target]


@posix_only
def test_the_mode_that_counts_is_that_of_the_target(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "real.json"
    write(target, {"identity": identity_of(A)})
    target.chmod(0o644)
    path.symlink_to(target)

    with pytest.raises(IdentityError, match="run chmod 600"):
        load_config(path)


def test_creating_never_overwrites(path: Path) -> None:
    assert create_config(path, Config(A)) is True
    assert create_config(path, Config(B)) is False
    assert load_config(path).identity.peer_id == A.peer_id
    assert list(path.parent.iterdir()) == [path]


def test_a_value_that_is_nested_too_deep_is_refused_and_the_file_stays(path: Path) -> None:
    save_config(path, config_with())
    deep: Json = None
    for _ in range(100_000):
        deep = [deep]

    with pytest.raises(IdentityError, match="Cannot write config file: "):
        save_config(path, config_with(deep=deep))

    assert load_config(path).identity.peer_id == A.peer_id


# Contacts


def test_a_contact_is_kept_under_its_key() -> None:
    config = Config(A).with_contact(Contact(B.public_key, "bob"))

    assert config.contacts == (Contact(B.public_key, "bob"),)
    assert config.to_members()["peers"] == {
        B.public_key: {"publicKey": B.public_key, "name": "bob"}
    }


def test_a_contact_that_is_added_again_has_the_new_name_only() -> None:
    old = config_with(peers={"rob": {"publicKey": B.public_key, "token": "t"}})

    renamed = old.with_contact(Contact(B.public_key, "bob"))
    unnamed = old.with_contact(Contact(B.public_key))

    assert renamed.contacts == (Contact(B.public_key, "bob"),)
    assert unnamed.contacts == (Contact(B.public_key),)
    assert old.contacts == (Contact(B.public_key, "rob"),)


def test_a_removed_contact_is_gone_under_every_key() -> None:
    both: Json = {"rob": {"publicKey": B.public_key}, B.public_key: {"publicKey": B.public_key}}

    assert config_with(peers=both).without_contact(B.public_key).contacts == ()


def test_removing_a_stranger_changes_nothing() -> None:
    config = Config(A).with_contact(Contact(B.public_key, "bob"))

    assert config.without_contact(C.public_key) is config


@pytest.mark.parametrize(
    "public_key", ["", "bob", B.public_key.upper(), B.public_key[:-64] + "00" * 32]
)
def test_a_contact_needs_a_peer_id(public_key: str) -> None:
    with pytest.raises(IdentityError):
        Config(A).with_contact(Contact(public_key, "bob"))


@pytest.mark.parametrize(
    "name",
    ["", " ", " bob", "bob\n", "b\nob", "b\x1bob", "@bob", "...bob", "bob@125531b8", C.public_key],
)
def test_a_name_that_would_not_be_found_or_shown_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="contact name "):
        Config(A).with_contact(Contact(B.public_key, name))


@pytest.mark.parametrize("name", ["bob", "Bob B.", "bob@home", "علی‌رضا", "❤️"])
def test_any_other_name_is_a_name(name: str) -> None:
    assert Config(A).with_contact(Contact(B.public_key, name)).contacts[0].name == name


# Where it is


def test_the_config_is_in_the_home_directory_unless_the_environment_says_otherwise() -> None:
    assert config_path(environ={}) == Path.home() / ".config" / "agora" / "config.json"


def test_the_directory_can_be_given(tmp_path: Path) -> None:
    environ = {"AGORA_CONFIG_DIR": str(tmp_path)}

    assert config_path(environ=environ) == tmp_path / "config.json"
    assert config_path("default", environ) == tmp_path / "config.json"
    assert config_path("work", environ) == tmp_path / "profiles" / "work" / "config.json"


def test_the_file_can_be_given(tmp_path: Path) -> None:
    environ = {"AGORA_CONFIG": str(tmp_path / "my.json"), "AGORA_CONFIG_DIR": "/elsewhere"}

    assert config_path(environ=environ) == tmp_path / "my.json"


def test_empty_variables_say_nothing() -> None:
    assert config_path(environ={"AGORA_CONFIG": "", "AGORA_CONFIG_DIR": ""}) == config_path(
        environ={}
    )


def test_paths_in_the_environment_may_be_relative_or_begin_with_a_tilde() -> None:
    assert config_path(environ={"AGORA_CONFIG": "~/my.json"}) == Path.home() / "my.json"
    assert config_path(environ={"AGORA_CONFIG": "my.json"}) == Path.cwd() / "my.json"


@pytest.mark.parametrize("profile", ["work", "default"])
def test_a_profile_that_was_asked_for_wins_over_the_file_of_the_environment(
    tmp_path: Path, profile: str
) -> None:
    environ = {"AGORA_CONFIG_DIR": str(tmp_path)}

    assert config_path(profile, environ | {"AGORA_CONFIG": "/other.json"}) == config_path(
        profile, environ
    )


@pytest.mark.parametrize("profile", ["a", "work", "my.work-2", "_", "stéfan", "x" * 64])
def test_a_profile_is_one_path_segment(profile: str) -> None:
    assert config_path(profile, {}).parent.name == profile


@pytest.mark.parametrize(
    "profile",
    [
        "",
        " ",
        ".",
        "..",
        "../x",
        "a/b",
        "a\\b",
        "/etc",
        ".hidden",
        "a.",
        "-x",
        "a\0",
        "a\n",
        "c:",
        "x" * 65,
    ],
)
def test_a_profile_that_is_no_path_segment_is_refused(profile: str) -> None:
    with pytest.raises(ConfigurationError, match="profile "):
        config_path(profile, {})


@given(st.text(st.characters()))
def test_no_profile_leaves_the_directory_of_profiles(profile: str) -> None:
    profiles = config_path("x", {}).parent.parent
    try:
        path = config_path(profile, {})
    except ConfigurationError:
        return
    assert profile == "default" or path.resolve().parent.parent == profiles.resolve()
