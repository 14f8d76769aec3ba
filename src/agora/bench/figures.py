"""What is made of many measurements: percentiles, agreement of runs, and slopes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt

__all__ = ["Slope", "percentile", "slope", "spread"]


def percentile(ordered: Sequence[float], percent: float) -> float:
    """
    Return the least of the values, which are in order, that *percent* of them do not exceed.

    One of the values, and never a mean of two: the nearest rank.

    >>> percentile([1, 2, 3, 4], 50), percentile([1, 2, 3, 4], 99.9)
    (2, 4)
    """
    if not ordered:
        raise ValueError("no values, no percentile")
    return ordered[max(0, ceil(percent / 100 * len(ordered)) - 1)]


def spread(values: Sequence[float]) -> float:
    """
    Return how far values are apart, as a part of their mean; 0 for one alone.

    >>> spread([95, 105])
    0.1
    """
    mean = sum(values) / len(values)
    return (max(values) - min(values)) / abs(mean) if mean else 0.0


@dataclass(frozen=True, slots=True)
class Slope:
    """A straight line's rise per step of x, and its standard error."""

    rise: float
    error: float


def slope(xs: Sequence[float], ys: Sequence[float]) -> Slope:
    """
    Return the slope of the line through the points that fits best (least squares).

    >>> slope([0, 1, 2, 3], [1, 3, 5, 7])
    Slope(rise=2.0, error=0.0)
    """
    count = len(xs)
    if count < 3:
        raise ValueError("a slope with an error needs three points")
    mean_x, mean_y = sum(xs) / count, sum(ys) / count
    width = sum((x - mean_x) ** 2 for x in xs)
    rise = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / width
    off = sum((y - mean_y - rise * (x - mean_x)) ** 2 for x, y in zip(xs, ys, strict=True))
    return Slope(rise, sqrt(off / (count - 2) / width))
