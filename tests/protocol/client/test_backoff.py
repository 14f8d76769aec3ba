"""How long to wait before coming back."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from agora.protocol.client.backoff import reconnect_delays


def test_the_ceiling_doubles_up_to_its_cap() -> None:
    delays = reconnect_delays(first=0.5, cap=3.0, random=lambda: 1.0)

    assert list(islice(delays, 5)) == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_each_delay_is_drawn_between_nothing_and_the_ceiling() -> None:
    draws = iter([0.0, 0.5, 0.25])

    delays = reconnect_delays(first=1.0, cap=60.0, random=lambda: next(draws))

    assert list(islice(delays, 3)) == [0.0, 1.0, 1.0]


def test_delays_never_end_and_never_grow_beyond_the_cap() -> None:
    delays = list(islice(reconnect_delays(first=0.5, cap=60.0, random=random.random), 2_000))

    assert len(delays) == 2_000
    assert 50.0 < max(delays) < 60.0
    assert min(delays) >= 0.0


@pytest.mark.parametrize(("first", "cap"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0)])
def test_ceilings_that_cannot_be_are_refused(first: float, cap: float) -> None:
    with pytest.raises(ValueError, match="must be above 0 and at most cap"):
        next(reconnect_delays(first=first, cap=cap, random=random.random))
