"""The file of known relays: what it remembers, and that nothing in it is lost or bent."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agora.errors import ConfigurationError, RelayChangedError
from agora.keys import KeyPair, PeerId
from agora.known_relays import KnownRelays, default_known_relays_path

RELAY, OTHER = (KeyPair.from_seed(bytes([number]) * 32).peer_id for number in (1, 2))
URL = "wss://relay.example.org"
PLACE = "relay.example.org:443"


@pytest.fixture
def known(tmp_path: Path) -> KnownRelays:
    """A file that is not there yet, in a folder that is not there yet."""
    return KnownRelays(tmp_path / "agora" / "known-relays.json")


def test_a_relay_that_was_never_met_may_show_any_key(known: KnownRelays) -> None:
    assert known.expected(URL) is None
    assert known.all() == {}
    assert not known.path.parent.exists()


def test_a_relay_is_remembered_by_the_next_process(known: KnownRelays) -> None:
    known.remember(URL, RELAY)

    assert KnownRelays(known.path).expected(URL) == RELAY
    assert KnownRelays(known.path).all() == {PLACE: RELAY}


@pytest.mark.parametrize(
    "url",
    ["ws://relay.example.org:443", "https://Relay.Example.Org./agora", PLACE, "relay.example.org"],
)
def test_a_place_is_one_relay_however_it_is_spoken_to(known: KnownRelays, url: str) -> None:
    known.remember(URL, RELAY)

    assert known.expected(url) == RELAY
    with pytest.raises(RelayChangedError):
        known.remember(url, OTHER)


@pytest.mark.parametrize("url", ["ws://relay.example.org", "wss://other.example.org"])
def test_another_place_is_another_relay(known: KnownRelays, url: str) -> None:
    known.remember(URL, RELAY)
    known.remember(url, OTHER)

    assert (known.expected(URL), known.expected(url)) == (RELAY, OTHER)


def test_a_known_key_is_never_replaced_unasked(known: KnownRelays) -> None:
    known.remember(URL, RELAY)
    with pytest.raises(RelayChangedError) as caught:
        known.remember(URL, OTHER)

    assert f"has the key {OTHER}; known by this URL is {RELAY}" in str(caught.value)
    assert str(caught.value).endswith(f"run agora known-relays forget {URL}")
    assert known.expected(URL) == RELAY


def test_to_remember_what_is_known_writes_nothing(known: KnownRelays) -> None:
    known.remember(URL, RELAY)
    before = known.path.stat()
    known.remember(URL, RELAY)

    assert os.path.samestat(known.path.stat(), before)


def test_a_pin_comes_before_the_first_meeting_and_in_place_of_another(known: KnownRelays) -> None:
    assert known.pin(URL, RELAY) is None
    assert known.pin(URL, RELAY) == RELAY
    assert known.pin(URL, OTHER) == RELAY
    assert known.expected(URL) == OTHER


def test_a_forgotten_relay_is_met_for_the_first_time_again(known: KnownRelays) -> None:
    known.remember(URL, RELAY)

    assert known.forget(PLACE)
    assert not known.forget(URL)
    known.remember(URL, OTHER)
    assert known.expected(URL) == OTHER


def test_to_forget_nothing_makes_no_file(known: KnownRelays) -> None:
    assert not known.forget(URL)
    assert not known.path.parent.exists()


@pytest.mark.parametrize("url", ["", "ftp://a:21", "ws://", "a:0", "a b"])
def test_what_names_no_place_is_refused(known: KnownRelays, url: str) -> None:
    for call in (known.expected, known.forget):
        with pytest.raises(ConfigurationError, match="names no host and port"):
            call(url)
    for change in (known.remember, known.pin):
        with pytest.raises(ConfigurationError, match="names no host and port"):
            change(url, RELAY)


# The file


def test_the_file_is_for_people_too_and_what_others_wrote_in_it_stays(known: KnownRelays) -> None:
    known.path.parent.mkdir()
    known.path.write_text('{"note": "mine", "relays": {}}')
    known.remember("ws://b", OTHER)
    known.remember("ws://a", RELAY)

    assert known.path.read_text() == (
        "{\n"
        '  "note": "mine",\n'
        '  "relays": {\n'
        f'    "a:80": "{RELAY}",\n'
        f'    "b:80": "{OTHER}"\n'
        "  }\n"
        "}\n"
    )


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_the_file_is_closed_to_others_and_leaves_nothing_beside_it(known: KnownRelays) -> None:
    known.remember(URL, RELAY)
    known.path.chmod(0o644)
    known.pin(URL, OTHER)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in known.path.parent.iterdir()}
    assert modes == {"known-relays.json": 0o600, "known-relays.json.lock": 0o600}


@pytest.mark.skipif(os.name != "posix", reason="links are POSIX's")
def test_a_link_stays_a_link(known: KnownRelays, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(known.path)
    KnownRelays(link).remember(URL, RELAY)

    assert link.is_symlink()
    assert known.expected(URL) == RELAY


DAMAGED = {
    "empty": b"",
    "cut off": b'{"relays": {"a:80": ',
    "not UTF-8": b'{"relays": {"\xff": 1}}',
    "not an object": b"[]",
    "null": b"null",
    "relays not an object": b'{"relays": []}',
    "relays null": b'{"relays": null}',
    "no key": b'{"relays": {"a:80": "x"}}',
    "a key of another type": b'{"relays": {"a:80": {}}}',
    "no port": json.dumps({"relays": {"a": RELAY}}).encode(),
    "a URL": json.dumps({"relays": {URL: RELAY}}).encode(),
    "capital letters": json.dumps({"relays": {"A:80": RELAY}}).encode(),
    "no host": json.dumps({"relays": {":80": RELAY}}).encode(),
    "deep": b'{"relays":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    "long": b" " * (1024 * 1024) + b"{}",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_named_and_left_alone(known: KnownRelays, content: bytes) -> None:
    known.path.parent.mkdir()
    known.path.write_bytes(content)

    for call in (
        known.all,
        lambda: known.expected(URL),
        lambda: known.remember(URL, RELAY),
        lambda: known.pin(URL, RELAY),
        lambda: known.forget(URL),
    ):
        with pytest.raises(ConfigurationError) as caught:
            call()
        assert f"known relays: {known.path} is damaged: " in str(caught.value)
    assert known.path.read_bytes() == content


def test_a_file_that_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    folder, beneath = KnownRelays(tmp_path), KnownRelays(tmp_path / "file" / "known-relays.json")
    (tmp_path / "file").write_text("not a folder")

    with pytest.raises(ConfigurationError, match=f"cannot read {tmp_path}"):
        folder.all()
    with pytest.raises(ConfigurationError, match=f"cannot write {beneath.path}"):
        beneath.pin(URL, RELAY)


def test_a_file_never_grows_beyond_what_can_be_read_again(known: KnownRelays) -> None:
    known.path.parent.mkdir()
    known.path.write_text(json.dumps({"note": "x" * (1024 * 1024 - 50)}))
    before = known.path.read_bytes()

    with pytest.raises(ConfigurationError, match="it would have more than 1048576 bytes"):
        known.remember(URL, RELAY)
    assert known.path.read_bytes() == before


def test_a_path_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="cannot read"):
        KnownRelays("a\0b").all()


# Several processes


def run_together(path: Path, *scripts: str) -> list[subprocess.CompletedProcess[str]]:
    """Run scripts that know *known*, each a process, all at the same time."""
    head = (
        "import sys\nfrom agora.errors import RelayChangedError\n"
        "from agora.known_relays import KnownRelays\n"
        f"known = KnownRelays({str(path)!r})\nprint(flush=True)\nsys.stdin.readline()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    started = [
        subprocess.Popen([sys.executable, "-c", head + script], text=True, **pipes)  # type: ignore[call-overload]
        for script in scripts
    ]
    for process in started:
        process.stdout.readline()  # all are ready
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    ends = [process.communicate(timeout=60) for process in started]
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *end)
        for process, end in zip(started, ends, strict=True)
    ]


def test_processes_that_remember_at_once_lose_nothing(known: KnownRelays) -> None:
    script = "for number in range(10): known.remember(f'ws://{name}:{number + 1}', '" + RELAY + "')"
    ended = run_together(known.path, *(f"name = {name!r}; \n{script}" for name in "abcd"))

    assert [process.stderr for process in ended] == [""] * 4
    assert len(known.all()) == 40


def test_of_two_keys_that_a_relay_shows_at_once_one_is_known(known: KnownRelays) -> None:
    def meet(key: PeerId) -> str:
        return (
            f"try: known.remember({URL!r}, {key!r}); print('{key}')\n"
            f"except RelayChangedError: print(known.expected({URL!r}))"
        )

    ended = run_together(known.path, *(meet(key) for key in (RELAY, OTHER, RELAY, OTHER)))

    assert {process.stdout.strip() for process in ended} == {known.expected(URL)}


# Where it is


def test_it_is_beside_the_config_file_unless_the_environment_says_otherwise(tmp_path: Path) -> None:
    config = tmp_path / "profiles" / "bob" / "config.json"
    given = {"AGORA_KNOWN_RELAYS": str(tmp_path / "mine.json")}

    assert default_known_relays_path(config, {}) == config.parent / "known-relays.json"
    assert default_known_relays_path(config, {"AGORA_KNOWN_RELAYS": ""}) == (
        config.parent / "known-relays.json"
    )
    assert default_known_relays_path(config, given) == tmp_path / "mine.json"


def test_the_environment_may_say_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    given = {"AGORA_KNOWN_RELAYS": "~/known.json"}

    assert default_known_relays_path("config.json", given) == tmp_path / "known.json"
