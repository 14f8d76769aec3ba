"""
What holds for every test: which core it is about, and how hard Hypothesis tries.

``pytest --hypothesis-profile=long`` looks further than the suite has time for.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

import agora
import hatch_build

# The same examples each time, so that a commit is never blamed for another one's fault.
settings.register_profile(
    "ci", max_examples=40, derandomize=True, deadline=None, stateful_step_count=30
)
settings.register_profile("long", max_examples=2_000, deadline=None, stateful_step_count=100)
settings.load_profile("ci")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name tests of raw bytes by their number: frames are masked at random, names must not be."""
    return argname if isinstance(val, bytes) else None


def pytest_configure() -> None:
    """Refuse to test what was compiled from other sources than those that are read here."""
    is_in_tree = hatch_build.SOURCE in Path(agora.__file__).parents
    if is_in_tree and (changed := hatch_build.changed_sources()):
        names = ", ".join(path.name for path in changed)
        pytest.exit(f"compiled before {names} changed: make compiled, or make pure", returncode=2)
