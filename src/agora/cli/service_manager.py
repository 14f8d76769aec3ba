"""
What passes between a service manager and a process: a socket to listen on, and how it is.

The protocols of systemd: ``sd_listen_fds(3)``, a socket that listens before the
process is there and goes on when it has ended; and ``sd_notify(3)``, lines of
``NAME=value`` in a datagram to the socket that ``NOTIFY_SOCKET`` names. Where nobody
listens, nothing is said. The one rule: a service manager that does not take it is no
reason to stop serving.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping

from agora.errors import ConfigurationError

__all__ = ["ServiceManager", "inherited_socket"]

_log = logging.getLogger("agora.relay")


class ServiceManager:
    """
    Tells whoever started this process how it is.

    Args:
        environ: Where to look for whom to tell, and how often: ``NOTIFY_SOCKET``,
            ``WATCHDOG_USEC`` and ``WATCHDOG_PID``.

    Attributes:
        watchdog_interval: Seconds between two signs of life; None where nobody counts them.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_interval = _watchdog_interval(environ) if self._address else None

    def ready(self, status: str) -> None:
        """Say that it serves, for the first time or again after :meth:`reloading`."""
        self._tell("READY=1", _status(status))

    def reloading(self) -> None:
        """Say that it takes over new settings."""
        # The moment tells this reload from one that was asked for just before.
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str, *, within: float) -> None:
        """Say that it ends, and how many seconds that may take."""
        self._tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(within * 1e6)}", _status(status))

    async def stay_alive(self, status: Callable[[], str]) -> None:
        """Say again and again that the event loop goes round, for as long as it is waited for."""
        while self.watchdog_interval is not None:
            self._tell("WATCHDOG=1", _status(status()))
            await asyncio.sleep(self.watchdog_interval)
        await asyncio.Event().wait()  # nobody asked: only who waits ends this

    def _tell(self, *lines: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
                to.setblocking(False)
                to.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            fields = {"error": error.strerror or str(error)}
            _log.warning("service manager not told", extra={"fields": fields})


def inherited_socket(environ: Mapping[str, str]) -> socket.socket | None:
    """
    Return the socket to listen on that the service manager has opened for us, if it has.

    Raises:
        ConfigurationError: When there are several, or it is none that listens.
    """
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or count in ("", "0"):
        return None
    if count != "1":
        raise ConfigurationError(f"LISTEN_FDS is {count}: one socket is what a relay listens on")
    try:
        given = socket.socket(fileno=_FIRST_INHERITED)
        if not given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise ConfigurationError("the socket of LISTEN_FDS does not listen")
    except OSError as error:
        raise ConfigurationError(f"the socket of LISTEN_FDS is none: {error.strerror}") from error
    given.set_inheritable(False)  # else the process that verifies would keep it open
    return given


_FIRST_INHERITED = 3
"""The first file descriptor behind the standard ones."""


def _address(name: str) -> str | None:
    """Return the socket's address: a path, or a name in the abstract namespace behind a ``@``."""
    if not hasattr(socket, "AF_UNIX"):
        return None
    if name.startswith("@"):
        return f"\0{name[1:]}"
    return name if name.startswith("/") else None


def _watchdog_interval(environ: Mapping[str, str]) -> float | None:
    """Return half of what a sign of life is good for, as sd_watchdog_enabled(3) advises."""
    microseconds, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or int(microseconds) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(microseconds) / 2e6


def _status(text: str) -> str:
    return "STATUS=" + " ".join(text.split())  # one line, or it would be another word
