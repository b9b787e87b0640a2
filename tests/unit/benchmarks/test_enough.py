"""When rounds end, and what is said of those that have to end before."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from benchmarks.enough import Enough, Vague
from benchmarks.figures import Figure, Row


def row(reach: float) -> Row:
    """Return a row that is known to so large a share of its figure."""
    return Row("", 0.1, "x", Figure(10, 10 - 10 * reach, 10))


def rounds_until(reaches: Iterator[float], enough: Enough) -> int:
    """Return how many rounds there are where each look finds the next of `reaches`."""
    return len(list(enough.rounds(lambda: [row(0), row(next(reaches))])))


def test_rounds_go_on_until_the_widest_interval_is_narrow_and_there_are_few_looks() -> None:
    enough = Enough(within=0.1, seconds=math.inf)
    assert rounds_until(iter([0.09]), enough) == 8
    assert rounds_until(iter([0.5, 0.2, 0.09]), enough) == 13


def test_where_the_time_is_over_more_is_asked_for_with_how_wide_it_is() -> None:
    told = []

    def more(vague: Vague) -> float:
        told.append(vague.added)
        return math.inf if len(told) == 2 else 1e-9

    reaches = iter([0.5, 0.5, 0.1])
    assert rounds_until(reaches, Enough(0.1, 0, more)) == 8
    assert told == pytest.approx([5 * 8 / 5, 5 * 8 / 6])


def test_where_there_is_no_more_they_end_but_not_before_an_interval_says_something() -> None:
    assert rounds_until(iter([0.5]), Enough(0.1, 0)) == 5


def test_few_rounds_are_not_enough_however_narrow_their_interval_is() -> None:
    told = []

    def more(vague: Vague) -> float:
        told.append(vague.added)
        return 0

    assert rounds_until(iter([0.0]), Enough(0.1, 0, more)) == 5
    assert told == [8 / 5]


def test_what_is_asked_does_not_say_when_there_have_been_enough() -> None:
    def rounds(bar: float, value: float) -> int:
        figure = Figure(value, value * 0.85, value * 1.15)
        return len(list(Enough(0.1, 0).rounds(lambda: [Row("", bar, "x", figure)])))

    assert {rounds(bar, 1.0) for bar in (0.1, 0.9, 1.0, 1.1, 10.0)} == {5}


def test_of_a_ratio_close_to_one_it_is_said_apart_how_well_what_is_added_is_known() -> None:
    told = []

    def more(vague: Vague) -> float:
        told.append(vague)
        return 0

    close = Row("", 1.02, "x", Figure(1.1, 1.1 * 0.9, 1.1), added=True)
    list(Enough(0.05, 0, more).rounds(lambda: [close, row(0.05)]))
    assert told == [pytest.approx((0.1 / 0.05, 1.1 * 0.1 / 0.1 / 0.05 * 8 / 5))]
