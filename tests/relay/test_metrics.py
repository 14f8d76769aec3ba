"""What is counted over time: an hour in steps, rates over ten seconds, histograms."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agora.relay.metrics import HISTORY_STEPS, Commits, Histogram, History, Rates, Sample

STEP_MS = 10_000


def test_a_value_counts_in_the_first_part_that_it_fits_in() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.observe(value)

    assert histogram.counts == [2, 2, 1]
    assert histogram.sum == 7.5


def test_an_hour_is_there_from_the_beginning_and_empty() -> None:
    assert list(History(0).steps) == [Sample()] * HISTORY_STEPS


def test_a_step_has_what_happened_in_it() -> None:
    history = History(0)
    history.take(Sample(messages=3, errors=1, stored=2, bytes=9, peers=4), STEP_MS)
    history.take(Sample(messages=5, errors=1, stored=2, bytes=10, peers=1), 2 * STEP_MS)

    assert list(history.steps)[-2:] == [Sample(3, 1, 2, 9, 4), Sample(2, 0, 0, 1, 1)]
    assert history.until_ms == 2 * STEP_MS


def test_nothing_is_noted_before_a_step_is_over() -> None:
    history = History(0)
    history.take(Sample(messages=3), STEP_MS - 1)

    assert (history.steps[-1], history.until_ms) == (Sample(), 0)


def test_steps_in_which_nobody_looked_are_empty() -> None:
    history = History(0)
    history.take(Sample(messages=3, peers=2), 3 * STEP_MS)

    assert list(history.steps)[-3:] == [Sample(peers=2), Sample(peers=2), Sample(3, peers=2)]


def test_a_clock_that_is_set_back_starts_a_new_step() -> None:
    history = History(1_000_000)
    history.take(Sample(messages=1), 500_000)
    history.take(Sample(messages=2), 500_000 + STEP_MS)

    assert (history.steps[-1].messages, history.until_ms) == (2, 500_000 + STEP_MS)


@given(st.lists(st.tuples(st.integers(0, 10**8), st.integers(0, 100)), max_size=50))
def test_an_hour_never_has_more_than_its_steps_nor_counts_twice(
    looks: list[tuple[int, int]],
) -> None:
    history, now_ms, total = History(0), 0, 0
    for later, more in looks:
        now_ms, total = now_ms + later, total + more
        history.take(Sample(messages=total), now_ms)

    assert len(history.steps) == HISTORY_STEPS
    assert sum(step.messages for step in history.steps) <= total
    assert now_ms - STEP_MS < history.until_ms <= now_ms or not looks


def test_a_rate_is_taken_over_ten_seconds() -> None:
    rates = Rates()
    for second in range(30):
        rates.take(Sample(messages=second * second), float(second))

    assert rates.until(Sample(messages=29 * 29), 29.0)["messages"] == (29**2 - 19**2) / 10


def test_a_rate_of_the_first_moment_does_not_divide_by_nothing() -> None:
    rates = Rates()

    assert rates.until(Sample(messages=5), 0.0) == {"messages": 0.0, "errors": 0.0, "bytes": 0.0}


def test_a_disk_that_works_again_has_not_failed() -> None:
    commits = Commits()
    commits.failed(OSError())
    failure = commits.failure
    commits.committed(3, started=1.0, ended=1.25)

    assert (failure, commits.failure) == ("OSError", "")
    assert (commits.failures, commits.jobs, commits.seconds.sum) == (1, 3, 0.25)
