"""What figures are made of: percentiles, agreement, slopes."""

from __future__ import annotations

from statistics import linear_regression

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.bench.figures import percentile, slope, spread

NUMBERS = st.floats(-1e6, 1e6).map(lambda number: round(number, 3))


@given(st.lists(NUMBERS, min_size=1), st.floats(0.1, 100))
def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed(
    values: list[float], percent: float
) -> None:
    ordered = sorted(values)
    found = percentile(ordered, percent)
    reached = [value for value in ordered if value <= found]
    below = [value for value in ordered if value < found]

    assert len(reached) / len(ordered) * 100 >= percent - 1e-9
    assert len(below) / len(ordered) * 100 < percent


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


@pytest.mark.parametrize(
    ("values", "apart"), [([100.0], 0.0), ([95.0, 105.0], 0.1), ([0.0, 0.0], 0.0)]
)
def test_runs_are_apart_by_a_part_of_their_mean(values: list[float], apart: float) -> None:
    assert spread(values) == pytest.approx(apart)


@given(st.lists(st.tuples(st.integers(0, 1000), NUMBERS), min_size=3, unique_by=lambda one: one[0]))
def test_a_slope_is_that_of_the_library(points: list[tuple[int, float]]) -> None:
    xs, ys = zip(*points, strict=True)

    assert slope(xs, ys).rise == pytest.approx(linear_regression(xs, ys).slope, abs=1e-6)


def test_the_error_of_a_slope_is_what_the_points_are_off_the_line() -> None:
    assert slope([0, 1, 2, 3], [1, 3, 5, 7]).error == 0
    assert slope([0, 1, 2, 3], [0, 1, 0, 1]).error == pytest.approx(0.2828, abs=1e-4)


def test_two_points_have_no_slope_with_an_error() -> None:
    with pytest.raises(ValueError, match="three points"):
        slope([0, 1], [0, 1])
