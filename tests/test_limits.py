"""Every bound of a relay says what it is, and cannot be set to nonsense."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest

from agora.errors import ConfigurationError
from agora.limits import Limits
from agora.settings import bounds, check_setting

NUMBERS = [declared for declared in fields(Limits) if not isinstance(declared.default, bool)]


def names_of(declared: Any) -> str:
    return str(declared.name)


@pytest.mark.parametrize("declared", fields(Limits), ids=names_of)
def test_every_bound_says_what_it_is_and_why(declared: Any) -> None:
    metadata = declared.metadata

    assert metadata["help"]
    assert metadata["reason"]
    assert not metadata["help"].endswith(".")
    assert isinstance(declared.default, bool) == (metadata["unit"] == "")


@pytest.mark.parametrize("declared", NUMBERS, ids=names_of)
def test_every_number_is_taken_at_its_bounds_and_refused_beyond(declared: Any) -> None:
    smallest, largest = bounds(declared)
    is_whole = isinstance(declared.default, int)
    step = 1 if is_whole else 0.001

    for value in (smallest, largest):
        check_setting(declared, int(value) if is_whole else float(value))
    for value, why in ((smallest - step, "below its minimum"), (largest + 1, "above its maximum")):
        with pytest.raises(ConfigurationError, match=f"{declared.name} of .* is {why}"):
            check_setting(declared, value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_time_is_finite(value: float) -> None:
    with pytest.raises(ConfigurationError, match=r"register_timeout of .* is not finite"):
        Limits(register_timeout=value)


@pytest.mark.parametrize("value", ["10", None, True, 1.5])
def test_a_count_is_a_whole_number(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"max_peers of .* is no whole number"):
        Limits(max_peers=value)


def test_the_defaults_suit_agents_that_really_talk() -> None:
    limits = Limits()

    assert limits.max_connections == limits.max_peers == 10_000
    assert limits.rate_limit_max_messages == 200
    assert limits.rate_limit_window_ms == 10_000
    assert limits.max_frame_bytes == 262_144


def test_mail_alone_never_makes_a_session_a_slow_one() -> None:
    limits = Limits()

    assert limits.window_bytes + limits.max_frame_bytes <= limits.max_unsent_bytes
