"""``agora relay``: one relay, until it is told to stop."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import click

import agora
from agora.build import is_compiled
from agora.cli.exits import CannotStartError
from agora.cli.open_files import raise_open_files
from agora.cli.settings import default_data_dir, given_settings, setting_options
from agora.cli.signals import stop_signals
from agora.errors import AgoraError, ConfigurationError, IdentityError, MissingExtraError
from agora.relay import Relay
from agora.relay.config import LogConfig, RelayConfig, from_environment, unknown_names
from agora.relay.logs import set_up_logs

__all__ = ["relay"]

_log = logging.getLogger("agora.relay")


@click.command(
    epilog="SIGTERM or Ctrl-C stops a relay gracefully with exit code 0, "
    "a second one at once. Exit code 9: install agora-relay[relay]; 10: it cannot listen there."
)
@setting_options
def relay(**flags: Any) -> None:
    """
    Run a relay until it is told to stop.

    Flags win over the environment, the environment over a .env file in the
    working directory, that over the defaults. Logs go to standard error; the
    event "listening" has the URL.
    """
    dotenv = _read_dotenv()
    settings = _from_dotenv(dotenv) | from_environment(os.environ) | given_settings(flags)
    if settings.get("http") is False:
        settings.pop("http_port", None)
    chosen: dict[str, Any] = {"data_dir": _default_data_dir(), "http": True}
    chosen |= _of(RelayConfig, settings)
    config = RelayConfig(**chosen)
    logs = LogConfig(**_of(LogConfig, settings))
    set_up_logs(as_json=logs.log_json, level=logs.log_level)
    _warn_of_unknown([*dotenv, *os.environ])
    raise_open_files(config.max_connections + _FILES_OF_OUR_OWN)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(config))


def _of(kind: type[RelayConfig | LogConfig], settings: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: settings[field.name] for field in fields(kind) if field.name in settings}


# What comes with the extra


def _read_dotenv() -> dict[str, str]:
    with _naming_dotenv() as path:
        values = _extra("dotenv").dotenv_values(path, interpolate=False)
    return {name: value for name, value in values.items() if value}


def _from_dotenv(values: Mapping[str, str]) -> dict[str, Any]:
    with _naming_dotenv():
        return from_environment(values)


@contextmanager
def _naming_dotenv() -> Iterator[Path]:
    path = Path.cwd() / ".env"
    try:
        yield path
    except (OSError, UnicodeDecodeError, ConfigurationError) as error:
        raise ConfigurationError(f"{path}: {error}") from error


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


async def _serve(config: RelayConfig) -> None:
    with stop_signals() as stop:
        node = Relay(config)
        try:
            await node.start()
        except AgoraError as error:
            raise CannotStartError(_why_refused(error, config)) from error
        except (OSError, ValueError) as error:  # ValueError: a host that no name can be
            raise CannotStartError(_why_not_started(error, config)) from error
        try:
            _log_service(config)
            _log_reach(config)
            await stop.wait()
        finally:
            await node.close()


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
