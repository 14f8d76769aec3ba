"""Token buckets: bursts, refills, and the promise in `retryAfterMs`."""

from __future__ import annotations

import pytest

from agora.protocol.rates import RateTable, TokenBucket


def test_a_full_bucket_lets_a_burst_through_and_no_more() -> None:
    bucket = TokenBucket(capacity=3, window=30.0, now=0.0)

    assert [bucket.take(now=0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 10.0]


def test_a_refusal_takes_nothing() -> None:
    bucket = TokenBucket(capacity=1, window=10.0, now=0.0)
    bucket.take(now=0.0)

    bucket.take(now=5.0)

    assert bucket.take(now=10.0) == 0.0


def test_looking_takes_nothing() -> None:
    bucket = TokenBucket(capacity=1, window=10.0, now=0.0)

    assert [bucket.wait(now=0.0), bucket.wait(now=0.0), bucket.take(now=0.0)] == [0.0] * 3


def test_no_boundary_lets_a_double_burst_through() -> None:
    bucket = TokenBucket(capacity=10, window=10.0, now=0.0)
    early = [bucket.take(now=9.9) for _ in range(10)]

    late = [bucket.take(now=10.1) for _ in range(10)]

    assert early == [0.0] * 10
    assert late.count(0.0) == 0


def test_more_than_the_capacity_is_paid_by_a_full_bucket_and_owed() -> None:
    bucket = TokenBucket(capacity=5, window=5.0, now=0.0)

    assert bucket.take(now=0.0, cost=10) == 0.0
    assert bucket.take(now=0.0) == 6.0


@pytest.mark.parametrize("capacity", [1, 3, 7, 200])
@pytest.mark.parametrize("start", [0.0, 0.1, 1e6 + 0.7])
def test_whoever_waits_exactly_as_told_is_let_through(capacity: int, start: float) -> None:
    bucket = TokenBucket(capacity=capacity, window=10.0, now=start)
    now = start
    for _ in range(1_000):
        wait = bucket.take(now=now)
        now += wait
        assert wait == 0.0 or bucket.take(now=now) == 0.0


def test_every_key_has_a_bucket_of_its_own() -> None:
    rates = RateTable(capacity=1, window=10.0)

    assert [rates.take(key, now=0.0) for key in ("a", "b", "a")] == [0.0, 0.0, 10.0]


def test_looking_at_a_key_makes_no_bucket() -> None:
    rates = RateTable(capacity=1, window=10.0)

    assert rates.wait("a", now=0.0) == 0.0
    assert len(rates) == 0


def test_only_full_buckets_are_forgotten() -> None:
    rates = RateTable(capacity=2, window=10.0)
    rates.take("early", now=0.0)
    rates.take("late", now=4.0)

    rates.forget_full(now=5.0)

    assert len(rates) == 1
    assert rates.take("late", now=5.0, cost=2) > 0.0


def test_what_was_spent_stays_spent_when_the_rate_changes() -> None:
    bucket = TokenBucket(capacity=10, window=10.0, now=0.0)
    bucket.take(now=0.0, cost=8)

    bucket.change(capacity=20, window=10.0)
    more = bucket.holds(12, now=0.0), bucket.holds(13, now=0.0)
    bucket.change(capacity=4, window=10.0)

    assert more == (True, False)
    assert bucket.take(now=0.0) == 2.5  # a whole one of four in ten seconds: nothing is owed


def test_a_changed_rate_is_that_of_old_keys_and_of_new_ones() -> None:
    rates = RateTable(capacity=1, window=10.0)
    rates.take("old", now=0.0)

    rates.change(capacity=3, window=10.0)

    assert [rates.take("old", now=0.0) for _ in range(3)][:2] == [0.0, 0.0]
    assert [rates.take("new", now=0.0) for _ in range(4)].count(0.0) == 3
