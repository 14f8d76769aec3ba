"""
A ``.env`` file, as the relay and what works beside it read it: all at once, and never waiting.

The one rule: a line that would set something of ours, were it well formed, is refused,
for it sets nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from io import StringIO
from pathlib import Path

from agora.errors import ConfigurationError
from agora.files import open_regular

__all__ = ["MAX_ENV_BYTES", "naming_file", "read_env_file"]

MAX_ENV_BYTES = 1_048_576
"""Every setting thousands of times; a longer file is refused rather than read into memory."""


def read_env_file(path: Path, *, must_exist: bool = False) -> dict[str, str]:
    """
    Return what a file sets; nothing if there is none and none *must_exist*.

    Raises:
        ConfigurationError: It is no regular file, cannot be read, or has a line that is none.
        ModuleNotFoundError: What reads it comes with an extra that is not installed.
    """
    with naming_file(path):
        try:
            text = _read(path)
        except FileNotFoundError:
            if must_exist:
                raise
            return {}
        _check_lines(text)
    lines = StringIO(text, newline=None)
    values = import_module("dotenv").dotenv_values(stream=lines, interpolate=False)
    return {name: value for name, value in values.items() if value}


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Let what goes wrong be an error that names the file."""
    try:
        yield
    except (OSError, UnicodeDecodeError, ConfigurationError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"{path}: {reason}") from error


def _read(path: Path) -> str:
    with open_regular(path) as file:
        content = file.read(MAX_ENV_BYTES + 1)
    if len(content) > MAX_ENV_BYTES:
        raise ConfigurationError(f"more than {MAX_ENV_BYTES} bytes")
    return content.decode()


def _check_lines(text: str) -> None:
    for binding in import_module("dotenv.parser").parse_stream(StringIO(text, newline=None)):
        line = binding.original
        if (binding.error or binding.value is None) and "AGORA_" in _uncommented(line.string):
            raise ConfigurationError(
                f"line {line.line}: no NAME=value: a quote is not closed, or the = is missing"
            )


def _uncommented(text: str) -> str:
    return "" if text.lstrip().startswith("#") else text
