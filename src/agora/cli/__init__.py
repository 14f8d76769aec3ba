"""The command line: ``agora``, for people and, with ``--json``, for programs."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line on the arguments of the process, and exit."""
    try:
        from agora.cli import program  # here, as Ctrl-C may come while all of it is imported
    except KeyboardInterrupt:
        sys.exit(130)
    program.main()
