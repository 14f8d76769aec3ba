"""``agora relay``: one relay, until it is told to stop."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import click

import agora
from agora.build import is_compiled
from agora.cli.env_file import naming_file, read_env_file
from agora.cli.exits import CannotStartError
from agora.cli.headings import Headed
from agora.cli.open_files import raise_open_files
from agora.cli.output import json_line
from agora.cli.service_manager import ServiceManager, inherited_socket
from agora.cli.settings import default_data_dir, given_settings, setting_options
from agora.cli.signals import hangups, stop_signals, until_first
from agora.errors import AgoraError, IdentityError, MissingExtraError
from agora.relay import Relay
from agora.relay.config import LogConfig, RelayConfig, from_environment, unknown_names
from agora.relay.logs import set_up_logs
from agora.relay.reloading import changed_settings

__all__ = ["relay"]

_log = logging.getLogger("agora.relay")


@click.command(
    cls=Headed,
    epilog="SIGTERM or Ctrl-C stops a relay gracefully with exit code 0, a second one at once. "
    "SIGHUP has it read its .env file and its certificate again. "
    "Exit code 9: install agora-relay[relay]; 10: it cannot listen there.",
)
@setting_options
@click.option(
    "--env-file",
    metavar="FILE",
    type=click.Path(path_type=Path, resolve_path=True),
    help="read this file in place of .env in the working directory",
)
def relay(env_file: Path | None, **flags: Any) -> None:
    """
    Run a relay until it is told to stop.

    Flags win over the environment, the environment over a .env file in the
    working directory, that over the defaults. Logs go to standard error; the
    event "listening" has the URL.
    """
    sources = _Sources(env_file, Path.cwd() / ".env", given_settings(flags))
    settings = sources.read()
    _set_up(settings)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(settings, sources))


@dataclass(frozen=True)
class _Settings:
    """All that was set: of the relay, of its logs, and by which variables."""

    relay: RelayConfig
    logs: LogConfig
    variables: tuple[str, ...]


@dataclass(frozen=True)
class _Sources:
    """Where settings come from, to be read at the start and at every SIGHUP."""

    env_file: Path | None
    dotenv: Path
    flags: dict[str, Any]

    def read(self) -> _Settings:
        """
        Return what they say now.

        Raises:
            ConfigurationError: When something of it cannot be.
        """
        variables = self._read_file()
        settings = self._from_file(variables) | from_environment(os.environ) | self.flags
        if settings.get("http") is False:
            settings.pop("http_port", None)
        chosen: dict[str, Any] = {"data_dir": _default_data_dir(), "http": True}
        return _Settings(
            RelayConfig(**chosen | _of(RelayConfig, settings)),
            LogConfig(**_of(LogConfig, settings)),
            (*variables, *os.environ),
        )

    @property
    def _file(self) -> Path:
        return self.env_file or self.dotenv

    def _read_file(self) -> dict[str, str]:
        _extra("dotenv")
        # One that was asked for has to be there.
        return read_env_file(self._file, must_exist=self.env_file is not None)

    def _from_file(self, values: Mapping[str, str]) -> dict[str, Any]:
        with naming_file(self._file):
            return from_environment(values)


def _set_up(settings: _Settings) -> None:
    """Do what is to be done around a relay for its settings to hold."""
    set_up_logs(as_json=settings.logs.log_json, level=settings.logs.log_level)
    _warn_of_unknown(settings.variables)
    raise_open_files(settings.relay.max_connections + _FILES_OF_OUR_OWN)


def _of(kind: type[RelayConfig | LogConfig], settings: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: settings[field.name] for field in fields(kind) if field.name in settings}


# What comes with the extra


def _default_data_dir() -> Path:
    _extra("platformdirs")
    return default_data_dir()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] = import_module("uvloop").new_event_loop
    except ModuleNotFoundError:  # Windows has none, and asyncio's own will do
        return None
    return factory


def _extra(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{error.name} is not installed: install agora-relay[relay] to run a relay, "
            "in the clone by pip install '.[relay]'"
        ) from error


# The run


_FILES_OF_OUR_OWN = 64
"""Open files that are no connections: the mailbox, the logs, certificates being read."""


def _warn_of_unknown(names: Iterable[str]) -> None:
    for name, meant in unknown_names(names).items():
        hint = {"hint": f"did you mean {meant}?"} if meant else {}
        _log.warning("unknown variable", extra={"fields": {"name": name, **hint}})


async def _serve(settings: _Settings, sources: _Sources) -> None:
    config, manager = settings.relay, ServiceManager(os.environ)
    with stop_signals() as stop, hangups(stop) as hangup:
        node = Relay(config, listen_on=inherited_socket(os.environ))
        try:
            await node.start()
        except AgoraError as error:
            raise CannotStartError(_why_refused(error, config)) from error
        except (OSError, ValueError) as error:  # ValueError: a host that no name can be
            raise CannotStartError(_why_not_started(error, config)) from error
        try:
            _log_service(config)
            _log_reach(config)
            _tell_admin_token(node, as_json=settings.logs.log_json)
            manager.ready(f"listening on {node.url}")
            await until_first(
                stop.wait(),
                _reload_when_asked(hangup, node, settings, sources, manager),
                manager.stay_alive(lambda: _status(node)),
            )
        finally:
            within = node.config.drain_timeout + _TO_COME_TO_AN_END
            manager.stopping(_status(node), within=within)
            await node.close()


_TO_COME_TO_AN_END = 30.0
"""Seconds beside the drain that a stop may take: the commits of a slow disk."""


def _status(node: Relay) -> str:
    return f"listening on {node.url}, connections: {node.connection_count}"


# New settings while it runs


async def _reload_when_asked(
    asked: asyncio.Event,
    node: Relay,
    settings: _Settings,
    sources: _Sources,
    manager: ServiceManager,
) -> None:
    while True:
        await asked.wait()
        asked.clear()
        manager.reloading()
        settings = await _reload(node, settings, sources)
        manager.ready(_status(node))


async def _reload(node: Relay, before: _Settings, sources: _Sources) -> _Settings:
    """Have *node* go by what the *sources* say now, or by what was before, and tell which."""
    try:
        settings = await asyncio.to_thread(sources.read)
        change = await node.reload(settings.relay)
    except AgoraError as error:
        hint = "all settings and the certificate are as they were"
        fields = {"error": str(error), "hint": hint}
        _log.error("settings not reloaded", extra={"fields": fields})
        return before
    _set_up(settings)
    logs = changed_settings(vars(before.logs), vars(settings.logs))
    fields = {"changed": _listed(*change.changed, *logs)}
    _log.info("settings reloaded", extra={"fields": fields})
    if change.waiting:
        fields = {"settings": _listed(*change.waiting)}
        _log.warning("settings wait for a restart", extra={"fields": fields})
    return settings


def _listed(*names: str) -> str:
    return ", ".join(names) or "none"


def _log_service(config: RelayConfig) -> None:
    fields = {
        "version": agora.__version__,
        "core": "compiled" if is_compiled() else "pure",
        "data_dir": str(config.data_dir),
        "mail": "in memory" if config.memory else "kept",
        "storage_peers": len(config.storage_peers),
        "envelopes": config.envelopes,
    }
    _log.info("serving", extra={"fields": fields})


def _tell_admin_token(node: Relay, *, as_json: bool) -> None:
    """Print what gives access to the relay's figures, if nobody else knows: it is in no log."""
    if node.http_url is None or node.config.admin_token or sys.stdout is None:
        return
    url = f"{node.http_url}/#token={node.admin_token}"  # a browser sends nobody what is behind "#"
    members = {"level": "info", "event": "dashboard", "url": url}
    with suppress(OSError):  # nobody reads it: no reason not to serve
        click.echo(json_line(members) if as_json else f"dashboard {url} (agora top too)")


def _log_reach(config: RelayConfig) -> None:
    """Tell who can connect, where that may be a surprise."""
    if _is_loopback(config.host):
        hint = "--host 0.0.0.0 opens it to the network"
        _log.info("for this machine only", extra={"fields": {"hint": hint}})
    elif config.tls_cert is None:
        hint = "give --tls-cert, or put a proxy in front"
        _log.warning("open to the network without TLS", extra={"fields": {"hint": hint}})


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _why_refused(error: AgoraError, config: RelayConfig) -> str:
    if isinstance(error, IdentityError):
        cause = getattr(error.__cause__, "strerror", None) or error
        return (
            f"cannot use the relay's key in {config.data_dir}: {cause}; "
            "--data-dir names another folder"
        )
    return str(error)


def _why_not_started(error: OSError | ValueError, config: RelayConfig) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"cannot use {error.filename}: {error.strerror}; --data-dir names another folder"
    if isinstance(error, socket.gaierror | ValueError):
        return f"no address is called {config.host!r}: {error}"
    reason = _REASONS.get(error.errno or 0, str(error))
    return f"cannot listen on port {config.port} of {config.host}: {reason}"


_REASONS = {
    errno.EADDRINUSE: "it is in use; stop what listens there, or give another --port",
    errno.EACCES: "not allowed; give a --port above 1023",
    errno.EADDRNOTAVAIL: "that is no address of this machine",
}
