"""The settings of a relay from Python and from the environment: one table, checked at the door."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.errors import ConfigurationError
from agora.relay.config import (
    SETTINGS,
    LogConfig,
    RelayConfig,
    environment_names,
    from_environment,
    read_setting,
)
from agora.settings import bounds
from tests.cli.conftest import BOB

NUMBERS = [
    declared
    for declared in SETTINGS.values()
    if isinstance(declared.default, int | float) and not isinstance(declared.default, bool)
]


def test_every_setting_is_in_the_table_once_and_says_what_it_is_and_why() -> None:
    declared = [field.name for kind in (RelayConfig, LogConfig) for field in fields(kind)]

    assert sorted(SETTINGS) == sorted(declared)
    assert all(field.metadata["help"] and field.metadata["reason"] for field in SETTINGS.values())


def test_no_two_settings_share_a_variable() -> None:
    names = [name for declared in SETTINGS.values() for name in environment_names(declared)]

    assert len(names) == len(set(names))


@pytest.mark.parametrize("declared", NUMBERS, ids=lambda declared: declared.name)
def test_a_number_is_within_its_bounds_and_finite(declared: Any) -> None:
    smallest, largest = bounds(declared)
    kind = type(declared.default)

    assert smallest <= declared.default <= largest
    for value in (kind(smallest), kind(largest)):
        assert read_setting(declared, str(value)) == value
    for value in (smallest - 1, largest + 1, math.nan, math.inf, -math.inf, "", "ten", "0x10"):
        with pytest.raises(ConfigurationError):
            read_setting(declared, str(value))


@given(st.text(), st.sampled_from(sorted(SETTINGS)))
def test_any_text_is_a_setting_or_a_configuration_error(text: str, name: str) -> None:
    try:
        value = read_setting(SETTINGS[name], text)
    except ConfigurationError:
        return
    assert value == read_setting(SETTINGS[name], text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", True), ("YES", True), ("on", True), ("0", False), ("False", False), (" off ", False)],
)
def test_truths_are_read_as_the_reference_reads_them(text: str, value: bool) -> None:
    assert from_environment({"AGORA_RATE_LIMIT_ENABLED": text}) == {"rate_limit_enabled": value}


def test_an_empty_variable_gives_nothing_and_the_reference_has_names_of_its_own() -> None:
    environ = {"AGORA_PORT": "", "AGORA_STORAGE_DIR": "~/mail", "AGORA_RATE_LIMIT_WINDOW_MS": "5"}

    found = from_environment(environ | {"AGORA_STORAGE_PEERS": f" {BOB.peer_id} ,, "})

    assert found == {
        "data_dir": Path("~/mail").expanduser(),
        "rate_limit_window_ms": 5,
        "storage_peers": (BOB.peer_id,),
    }


def test_names_and_policies_of_a_relay_are_read_from_the_environment() -> None:
    environ = {
        "AGORA_PROOF": "required",
        "AGORA_MAILBOXES": "listed",
        "AGORA_PUBLIC_NAME": "relay.example.org, wss://other.example.org:8443",
    }

    config = RelayConfig(**from_environment(environ))

    assert (config.proof_policy, config.mailbox_policy) == ("required", "listed")
    assert config.public_name == ("relay.example.org", "wss://other.example.org:8443")


@pytest.mark.parametrize("name", ["http//x", "relay.example.org/path", "a b", "[::1", "relay:0"])
def test_a_public_name_that_names_no_host_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError):
        RelayConfig(public_name=(name,))
    with pytest.raises(ConfigurationError, match="AGORA_PUBLIC_NAME"):
        from_environment({"AGORA_PUBLIC_NAME": name})


def test_in_python_a_path_may_be_a_string_and_peers_a_list() -> None:
    as_people_write: dict[str, Any] = {"data_dir": "mail", "storage_peers": [BOB.peer_id]}

    config = RelayConfig(**as_people_write)

    assert (config.data_dir, config.storage_peers) == (Path("mail"), (BOB.peer_id,))


@pytest.mark.parametrize(
    "settings",
    [
        {"port": "9470"},
        {"port": 9470.0},
        {"port": True},
        {"max_peers": 2**53},
        {"register_timeout": math.nan},
        {"mailbox_max_age": math.inf},
        {"mailbox_max_age": None},
        {"envelopes": "lax"},
        {"proof": "perhaps"},
        {"mailboxes": "everyone"},
        {"storage_peers": ("bob",)},
        {"tls_key": "key.pem"},
    ],
)
def test_what_cannot_be_is_refused_in_python_too(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        RelayConfig(**settings)


@pytest.mark.parametrize("logs", [{"log_level": "loud"}, {"log_level": 10}])
def test_what_no_log_can_be_is_refused(logs: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        LogConfig(**logs)
