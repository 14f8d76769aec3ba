"""Whom one has written to, and who has written, is known from one command to the next."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from agora.cli.recent_peers import RecentPeers
from agora.references import Contact
from tests.cli.conftest import ALICE, BOB


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.recent.sqlite3"


def recent(path: Path) -> RecentPeers:
    """Return the recent peers as a process knows them that has just begun."""
    return RecentPeers(path, complain=pytest.fail)


def test_both_ways_are_remembered_and_only_whom_one_wrote_to_is_called_so(path: Path) -> None:
    recent(path).note("wrote_to", ALICE.peer_id)
    recent(path).note("heard_from", BOB.peer_id)

    known = [recent(path).wrote_to(peer) for peer in (ALICE.peer_id, BOB.peer_id)]

    assert known == [True, False]
    assert set(recent(path).met()) == {Contact(ALICE.peer_id), Contact(BOB.peer_id)}


def test_who_was_met_longest_ago_is_forgotten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agora.cli.recent_peers.MAX_PEERS", 1)
    for peer in (ALICE.peer_id, BOB.peer_id):
        recent(path).note("heard_from", peer)

    assert recent(path).met() == [Contact(BOB.peer_id)]


def test_nothing_is_made_to_look_up_and_what_is_made_nobody_else_can_read(path: Path) -> None:
    assert (recent(path).met(), path.exists()) == ([], False)

    recent(path).note("wrote_to", BOB.peer_id)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_damaged_file_is_told_once_and_is_in_nobodys_way(path: Path) -> None:
    path.write_bytes(b"this is no database" * 100)
    complaints: list[str] = []
    damaged = RecentPeers(path, complain=complaints.append)

    damaged.note("wrote_to", BOB.peer_id)

    assert (damaged.wrote_to(BOB.peer_id), damaged.met()) == (False, [])
    assert complaints == [f"recent peers are not remembered: {path}: file is not a database"]
