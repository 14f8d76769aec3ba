"""The command line: ``agora``, for people and, with ``--json``, for programs."""

from agora.cli.program import main

__all__ = ["main"]
