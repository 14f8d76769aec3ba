"""How many files a process may have open: every connection is one."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress

__all__ = ["raise_open_files"]

_log = logging.getLogger("agora.relay")


def raise_open_files(wanted: int) -> None:
    """Raise the soft limit of open files to *wanted*, and warn where the hard one is lower."""
    if sys.platform == "win32":
        return  # which has no such limit on sockets
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    endless = resource.RLIM_INFINITY
    reachable = wanted if hard == endless else min(wanted, hard)
    if soft != endless and soft < reachable:
        with suppress(OSError, ValueError):  # some systems allow less than their hard limit says
            resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
            soft = reachable
    if soft != endless and soft < wanted:
        hint = "raise it with ulimit -n, or lower --max-connections"
        fields = {"wanted": wanted, "limit": soft, "hint": hint}
        _log.warning("too few open files", extra={"fields": fields})
