"""Which store ``agora mailbox`` works on, and how it is opened beside a relay."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import click

from agora.cli.env_file import read_env_file
from agora.cli.options import common_options
from agora.cli.settings import default_data_dir, flags_of
from agora.errors import AgoraError, ConfigurationError, MissingExtraError
from agora.mailbox import SqliteMailbox
from agora.mailbox.base import NO_BOUNDS
from agora.mailbox.lock import DirectoryLock
from agora.mailbox.opening import MAILBOX_FILE
from agora.mailbox.wal import read_log
from agora.relay.config import SETTINGS, environment_names

__all__ = ["chosen_folder", "mailbox_options", "naming_store", "opened_store"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_DATA_DIR = "agora.data_dir"
"""Where click keeps what --data-dir said; it may stand before or behind the command's name."""


def _remember(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value:
        context.find_root().meta[_DATA_DIR] = value


_data_dir_option = click.option(
    *flags_of(SETTINGS["data_dir"]),
    "data_dir",
    metavar="FOLDER",
    callback=_remember,
    expose_value=False,
    help="where the relay keeps its mail; else what agora relay would take",
)


def mailbox_options(command: _Command) -> _Command:
    """Decorate a command with the options of all commands, and with the folder."""
    return common_options(_data_dir_option(command))


@contextmanager
def opened_store() -> Iterator[SqliteMailbox]:
    """
    Open the store of a relay, which may be running.

    Raises:
        ConfigurationError: When there is none, or it is damaged.
    """
    path = chosen_folder() / MAILBOX_FILE
    if not path.exists():
        raise ConfigurationError(
            f"no mailboxes at {path}: has a relay run there? --data-dir names another folder; "
            "of a relay with --memory there is no file"
        )
    _refuse_damaged(path)
    with naming_store(path):
        store = SqliteMailbox(path, NO_BOUNDS)
        try:
            yield store
        finally:
            store.close()


@contextmanager
def naming_store(path: Path) -> Iterator[None]:
    """Let what SQLite finds wrong be an error that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise AgoraError(f"cannot use {path}: {error}") from error


def _refuse_damaged(path: Path) -> None:
    """Leave a damaged log to the relay: who closes a file last removes its log for good."""
    if not (path.parent / "lock").exists():
        return  # not made here: it might be closed to the user that the relay runs as
    try:
        lock = DirectoryLock(path.parent)
    except ConfigurationError:
        return  # a relay runs, and has looked already
    try:
        if why := read_log(path).damage:
            raise ConfigurationError(
                f"{path}: {why}; the next start of the relay sets it aside and keeps what it can"
            )
    finally:
        lock.close()


def chosen_folder() -> Path:
    """Return the data directory that was asked for, else the one ``agora relay`` would take."""
    given = click.get_current_context().find_root().meta.get(_DATA_DIR)
    for value in (given, *_from_environment()):
        if value:
            return Path(value).expanduser()
    try:
        return default_data_dir()
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{error.name} is not installed: install agora-relay[relay], or give --data-dir"
        ) from error


def _from_environment() -> Iterator[str | None]:
    names = environment_names(SETTINGS["data_dir"])
    yield from (os.environ.get(name) for name in names)
    with suppress(ModuleNotFoundError):  # then no relay here has read the file either
        dotenv = read_env_file(Path.cwd() / ".env")
        yield from (dotenv.get(name) for name in names)
