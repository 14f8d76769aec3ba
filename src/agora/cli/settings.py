"""The flags of ``agora relay``, made from the table of settings in :mod:`agora.relay.config`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import Field
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import click

from agora.errors import ConfigurationError
from agora.relay.config import SETTINGS, environment_names, read_setting

__all__ = ["default_data_dir", "flags_of", "given_settings", "setting_options", "shown_default"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_DEFAULTS_OF_THE_COMMAND: Mapping[str, Any] = {
    "data_dir": "agora/relay in the user's data directory",
    "http": True,
    "http_port": "one above the port",
    "admin_token": "a new one at every start",
}
"""What the command puts in the place of None; an embedded relay keeps nothing, serves no HTTP."""

_ALIASES = {"data_dir": ["--storage-dir"]}
"""The reference's flags for what has another name here."""

_METAVARS = {"host": "ADDRESS", "port": "PORT", "data_dir": "FOLDER", "storage_peers": "PEER,…"}
_METAVARS |= {"admin_token": "TOKEN"}
_METAVARS |= {"http_port": "PORT", "allowed_origins": "ORIGIN,…", "trusted_proxies": "ADDRESS,…"}
_METAVARS |= {"jwt_secret": "SECRET,…"}
_METAVARS |= {"tls_cert": "FILE", "tls_key": "FILE", "public_name": "NAME,…"}

_LISTS = {"storage_peers", "public_name", "allowed_origins", "trusted_proxies", "jwt_secret"}
"""Settings whose flag may be given several times."""


def setting_options(command: _Command) -> _Command:
    """Decorate a command with a flag for every setting, each None (or empty) unless given."""
    for declared in reversed(SETTINGS.values()):
        command = _option(declared)(command)
    return command


def given_settings(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the *flags* made by :func:`setting_options` say, by the names of settings."""
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    for name in _LISTS.intersection(given):
        given[name] = tuple(one for several in given[name] for one in several)
    return given


def flags_of(declared: Field[Any]) -> list[str]:
    """
    Return the flags of a setting.

    >>> flags_of(SETTINGS["dedup_enabled"])
    ['--dedup-enabled/--no-dedup-enabled']
    """
    name = declared.name.replace("_", "-")
    flag = f"--{name}/--no-{name}" if isinstance(declared.default, bool) else f"--{name}"
    return [flag, *_ALIASES.get(declared.name, [])]


def shown_default(declared: Field[Any]) -> str:
    """Return the default of a setting as people write it, with its unit."""
    default = _DEFAULTS_OF_THE_COMMAND.get(declared.name, declared.default)
    if isinstance(default, bool):
        return "yes" if default else "no"
    if default is None or default == ():
        return "none"
    if isinstance(default, float) and default.is_integer():
        default = int(default)
    if isinstance(default, tuple):
        default = ", ".join(default)
    return f"{default} {declared.metadata['unit']}".strip()


def default_data_dir() -> Path:
    """
    Return where the relay of this user keeps its mail.

    Raises:
        ModuleNotFoundError: What knows that comes with an extra that is not installed.
    """
    folder: Path = import_module("platformdirs").user_data_path("agora", appauthor=False)
    return folder / "relay"


def _default_here(declared: Field[Any]) -> str:
    """Return the default of a setting on this machine, as far as that can be known."""
    if declared.name == "data_dir":
        with suppress(ModuleNotFoundError):
            return str(default_data_dir())
    return shown_default(declared)


def _reader(declared: Field[Any]) -> Callable[[str], Any]:
    """Return how click reads a flag: what cannot be is a usage error, which names the flag."""

    def read(text: str) -> Any:
        try:
            return read_setting(declared, text)
        except ConfigurationError as error:
            raise click.BadParameter(str(error)) from error

    return read


def _option(declared: Field[Any]) -> Callable[[_Command], _Command]:
    names = " or ".join(environment_names(declared))
    kind: dict[str, Any] = {"default": None}
    if not isinstance(declared.default, bool):
        kind |= {"type": _reader(declared), "metavar": _metavar(declared)}
    if declared.name in _LISTS:
        kind |= {"multiple": True}
    return click.option(
        *flags_of(declared),
        declared.name,
        help=f"{declared.metadata['help']}  [default: {_default_here(declared)}; {names}]",
        **kind,
    )


def _metavar(declared: Field[Any]) -> str:
    if choices := declared.metadata["choices"]:
        return f"[{'|'.join(choices)}]"
    unit: str = declared.metadata["unit"]
    spelled = {"s": "seconds", "ms": "milliseconds"}.get(unit, unit)
    return _METAVARS.get(declared.name, spelled.upper())
