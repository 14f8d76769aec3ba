"""
What holds for every test: how hard Hypothesis tries.

``pytest --hypothesis-profile=long`` looks further than the suite has time for.
"""

from __future__ import annotations

from hypothesis import settings

# The same examples each time, so that a commit is never blamed for another one's fault.
settings.register_profile("ci", derandomize=True, deadline=None, stateful_step_count=30)
settings.register_profile("long", max_examples=2_000, deadline=None, stateful_step_count=100)
settings.load_profile("ci")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name tests of raw bytes by their number: frames are masked at random, names must not be."""
    return argname if isinstance(val, bytes) else None
