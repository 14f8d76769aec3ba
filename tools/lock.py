"""
Resolve the dependencies into requirements/*.txt, with hashes and without download addresses.

One file for each way to install: ``client`` (what a client user gets), ``relay``
(with the extra), ``http``, ``otel`` and ``bench`` (with theirs) and ``dev`` (everything
`make check` runs). The resolution is universal: markers keep what belongs to one
platform there.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

WAYS = {
    "client": [],
    "relay": ["--extra", "relay"],
    "bench": ["--extra", "bench"],
    "http": ["--extra", "http"],
    "otel": ["--extra", "otel"],
    "dev": ["--extra", "relay", "--group", "dev"],
}

HEADER = "# Made by `make lock` from pyproject.toml; do not edit.\n"


def lock(name: str, options: list[str]) -> None:
    """Write requirements/NAME.txt."""
    target = ROOT / "requirements" / f"{name}.txt"
    command = [
        sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml",
        "--universal", "--python-version", "3.11", "--generate-hashes",
        "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links",
        "--no-emit-package", "agora-relay", "--quiet", *options,
    ]  # fmt: skip
    resolved = subprocess.run(  # noqa: S603  # a fixed command
        command, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    target.write_text(HEADER + resolved)


if __name__ == "__main__":
    for name, options in WAYS.items():
        lock(name, options)
