"""
How many instructions the core needs for one message, counted by callgrind.

    python -m benchmarks.instructions            print them, beside those on record
    python -m benchmarks.instructions --check    fail where they have grown by more than a tenth
    python -m benchmarks.instructions --record   put them on record

On a shared machine a clock tells little of a tenth; a count is the same every time. Two
runs are counted, with few messages and with more, and what lies between them is
divided: starting the interpreter falls out. What is on record holds for one version of
Python, and for the core compiled or not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from agora.build import is_compiled
from benchmarks.message import DIALECTS, Relay

RECORD = Path(__file__).with_name("instructions.json")

FEW, MANY = 100, 400
"""Messages in the two runs: the difference is what counts, and callgrind is slow."""

MAX_GROWTH = 0.1
"""How much more is no accident any more."""


def kind() -> str:
    """Return what a count holds for."""
    version = ".".join(platform.python_version_tuple()[:2])
    return f"{platform.python_implementation()} {version}{', compiled' if is_compiled() else ''}"


def count(dialect: str) -> int:
    """Return the instructions for one message."""
    with ThreadPoolExecutor(2) as both:
        few, many = both.map(lambda messages: _run(dialect, messages), (FEW, MANY))
    return round((many - few) / (MANY - FEW))


def _run(dialect: str, messages: int) -> int:
    """Return the instructions of a process that brings so many messages."""
    said = subprocess.run(  # noqa: S603  # our own words
        [
            *("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"),
            *(sys.executable, "-m", "benchmarks.instructions"),
            *("--bring", dialect, str(messages)),
        ],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        check=True,
        capture_output=True,
        text=True,
    ).stderr
    found = re.search(r"Collected : (\d+)", said)
    assert found, said
    return int(found[1])


def _bring(dialect: str, messages: int) -> None:
    relay = Relay(dialect)
    # As many are sealed in both runs: only the bringing differs.
    relay.bring(relay.letters(MANY)[:messages])


def _recorded() -> dict[str, dict[str, int]]:
    record: dict[str, dict[str, int]] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    return record


def _compare(counts: dict[str, int], known: dict[str, int]) -> bool:
    """Print both, and tell whether none has grown too much."""
    is_good = True
    for dialect, counted in counts.items():
        before = known.get(dialect)
        growth = counted / before - 1 if before else 0.0
        is_good = is_good and growth <= MAX_GROWTH
        beside = f", on record {before:,}: {growth:+.1%}" if before else ", none on record"
        print(f"{dialect:10} {counted:9,} instructions a message{beside}")
    return is_good


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="fail when they have grown")
    parser.add_argument("--record", action="store_true", help="put them on record")
    parser.add_argument("--bring", nargs=2, metavar=("DIALECT", "MESSAGES"), help="be counted")
    given = parser.parse_args(arguments)
    if given.bring:
        _bring(given.bring[0], int(given.bring[1]))
        return 0
    if not shutil.which("valgrind"):
        print("instructions are not counted: valgrind is not installed")
        return 0
    known = _recorded()
    if given.check and kind() not in known:
        print(f"instructions are not counted: none are on record for {kind()}")
        return 0
    counts = {dialect: count(dialect) for dialect in DIALECTS}
    is_good = _compare(counts, known.get(kind(), {}))
    if given.record:
        RECORD.write_text(json.dumps({**known, kind(): counts}, indent=2, sort_keys=True) + "\n")
        return 0
    if given.check and not is_good:
        print(f"more than {MAX_GROWTH:.0%} more: make it cheaper, or say why, and --record")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
