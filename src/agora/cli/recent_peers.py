"""
Recent peers: whom one has written to, and who has written, from one command to the next.

So that ``agora listen`` hears an answer to ``agora send``, and ``agora send`` knows
whom the short reference means that ``agora listen`` has shown. It is a convenience:
without it both go on, and several processes may use the file at once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final, Literal, TypeVar

from agora.files import FilePath
from agora.references import Contact

__all__ = ["MAX_PEERS", "RecentPeers", "default_recent_peers_path"]

MAX_PEERS: Final = 10_000
"""Peers that are remembered each way, in 3 MB; who was met longest ago is forgotten."""

_Way = Literal["wrote_to", "heard_from"]
_Found = TypeVar("_Found")

_TABLE = """
CREATE TABLE IF NOT EXISTS met (
    number INTEGER PRIMARY KEY,  -- in the order of meeting
    way    TEXT NOT NULL,
    peer   TEXT NOT NULL,
    UNIQUE (way, peer)
)"""


class RecentPeers:
    """
    The recent peers in the file at *path*, which is made when there is one to remember.

    Args:
        path: The file, readable by its owner alone.
        complain: Called, once, with what is wrong with the file.
    """

    def __init__(self, path: FilePath, complain: Callable[[str], None]) -> None:
        self._path = Path(path)
        self._complain = complain
        self._is_usable = True
        self._noted: set[tuple[_Way, str]] = set()

    def note(self, way: _Way, peer: str) -> None:
        """Remember a peer as the latest one."""
        if (way, peer) in self._noted:
            return  # by this very process: late enough
        self._noted.add((way, peer))
        self._use(lambda database: _note(database, way, peer), None)

    def wrote_to(self, peer: str) -> bool:
        """Tell whether we wrote to a peer."""
        query = "SELECT 1 FROM met WHERE way = 'wrote_to' AND peer = ?"
        found = self._read(lambda database: database.execute(query, (peer,)).fetchone(), None)
        return found is not None

    def met(self) -> list[Contact]:
        """Return whom we wrote to and who wrote to us, as contacts without a name."""
        query = "SELECT DISTINCT peer FROM met"
        return self._read(
            lambda database: [Contact(peer) for (peer,) in database.execute(query)], []
        )

    def _read(self, look: Callable[[sqlite3.Connection], _Found], otherwise: _Found) -> _Found:
        return self._use(look, otherwise) if self._path.exists() else otherwise

    def _use(self, work: Callable[[sqlite3.Connection], _Found], otherwise: _Found) -> _Found:
        """Do *work* with the file, which may be in nobody's way: what fails is told, and left."""
        if not self._is_usable:
            return otherwise
        try:
            self._path.touch(mode=0o600)
            with closing(sqlite3.connect(self._path)) as database, database:
                database.execute(_TABLE)
                return work(database)
        except (OSError, sqlite3.Error) as error:
            self._is_usable = False
            self._complain(f"recent peers are not remembered: {self._path}: {error}")
            return otherwise


def default_recent_peers_path(config_path: FilePath) -> Path:
    """
    Return where the recent peers of an identity are: beside its config file.

    >>> default_recent_peers_path("agora/config.json").as_posix()
    'agora/config.recent.sqlite3'
    """
    path = Path(config_path)
    return path.with_name(f"{path.stem}.recent.sqlite3")


def _note(database: sqlite3.Connection, way: _Way, peer: str) -> None:
    database.execute("INSERT OR REPLACE INTO met (way, peer) VALUES (?, ?)", (way, peer))
    database.execute(
        "DELETE FROM met WHERE way = ? AND number <= "
        "(SELECT number FROM met WHERE way = ? ORDER BY number DESC LIMIT 1 OFFSET ?)",
        (way, way, MAX_PEERS),
    )
