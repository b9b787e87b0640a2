"""Which times are slow, in series that are made for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain, repeat
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_torch_modules._engine.slowness import LEAST, MOST, Slowness


def slow_ones(times: Iterable[float], threshold: float = 1.3) -> list[int]:
    """Return the places of the times that are slow."""
    slowness = Slowness(threshold)
    return [place for place, time in enumerate(times) if slowness.of(time) is not None]


def noisy(count: int, usual: Callable[[int], float], noise: float = 0.03) -> list[float]:
    random = Random(0)
    return [usual(place) * random.gauss(1.0, noise) for place in range(count)]


def test_steps_that_are_alike_are_not_slow() -> None:
    assert slow_ones(noisy(2_000, lambda _: 100.0)) == []


def test_one_that_is_slow_is_told_with_its_factor() -> None:
    slowness = Slowness(1.3)
    factors = [slowness.of(300.0 if place == 500 else 100.0) for place in range(1_000)]
    assert {place: factor for place, factor in enumerate(factors) if factor} == {500: 3.0}


def test_a_warm_up_with_compilation_is_not_what_is_usual() -> None:
    times = [30_000.0, 8_000.0, 130.0, 120.0, *noisy(200, lambda _: 100.0)]
    assert slow_ones(times) == []
    again = [*times[:100], 9_000.0, *times[100:]]  # compiled again, for another shape
    assert slow_ones(again) == [100]


def test_the_first_ones_are_compared_with_nothing() -> None:
    assert slow_ones([*repeat(1.0, LEAST - 1), 5.0, 1.0]) == []
    assert slow_ones([*repeat(1.0, LEAST), 5.0, 1.0]) == [LEAST]


def test_a_drift_is_no_exception() -> None:
    """A step in a thousand more each time: four times as long in the end."""
    assert slow_ones(noisy(1_400, lambda place: 100.0 * 1.001**place)) == []


def test_a_job_that_is_slow_from_now_on_keeps_the_first_ten() -> None:
    times = [*repeat(100.0, 200), *repeat(150.0, 400)]
    assert slow_ones(times) == list(range(200, 200 + MOST))


def test_what_is_slow_on_the_new_level_is_told_at_once() -> None:
    times = [*repeat(100.0, 200), *repeat(150.0, 20), 225.0, *repeat(150.0, 100)]
    assert slow_ones(times) == [*range(200, 200 + MOST), 220]


def test_there_and_back_and_there_again() -> None:
    times = [*repeat(100.0, 200), *repeat(150.0, 100), *repeat(100.0, 100), *repeat(150.0, 100)]
    assert slow_ones(times) == [*range(200, 200 + MOST), *range(400, 400 + MOST)]


@pytest.mark.parametrize("every", [2, 3, 4, 10, 50])
def test_a_period_does_not_flood(every: int) -> None:
    slow = slow_ones(noisy(1_000, lambda place: 200.0 if place % every == 0 else 100.0))
    assert all(place % every == 0 for place in slow)
    if every == 2:  # what comes every second time is usual
        assert slow == []
    elif every >= 10:
        first = -(-LEAST // every) * every
        assert slow == list(range(first, 1_000, every))
    else:
        assert 100 < len(slow) < 200


def test_on_a_machine_with_other_work_few_are_kept_and_the_slow_one_among_them() -> None:
    random = Random(0)
    times = [100.0 * random.lognormvariate(0.0, 0.5) for _ in range(2_000)]
    for place in range(100, 2_000, 100):
        times[place] = 2_000.0
    slow = slow_ones(times)
    assert set(range(100, 2_000, 100)) <= set(slow)
    assert len(slow) < 0.25 * len(times)


@given(
    st.lists(st.floats(0.0, 1e15) | st.sampled_from([1.0, 2.0, 5.0]), max_size=300),
    st.floats(1.01, 10.0),
)
def test_whatever_happens_none_is_slow_that_is_not_by_the_threshold(
    times: list[float], threshold: float
) -> None:
    slowness = Slowness(threshold)
    factors = [slowness.of(time) for time in times]
    assert all(factor >= threshold for factor in factors if factor is not None)


def test_a_job_that_alternates_between_levels_is_not_forgotten() -> None:
    times = chain.from_iterable([*repeat(100.0, 100), *repeat(200.0, 9)] for _ in range(20))
    slow = slow_ones(times)
    assert len(slow) == 20 * 9
