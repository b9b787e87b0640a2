"""How well a row of the table is known."""

from __future__ import annotations

import math
import random

import pytest

from benchmarks.figures import Figure, Row, exact, median

FIGURE = Figure(1.3, 1.2, 1.33)


@pytest.mark.parametrize(
    ("row", "reach"),
    [
        (Row("a ratio", 0.5, "x", FIGURE), 0.1 / 1.3),
        (Row("an amount", 0.5, "µs", FIGURE), 0.1 / 1.3),
        (Row("a ratio close to one, more than asked", 1.02, "x", FIGURE, added=True), 0.1 / 0.3),
        (Row("the same, less than asked", 1.5, "x", FIGURE, added=True), 0.1 / 0.5),
        (Row("one that is all but one", 1.02, "x", Figure(1.01, 0.99, 1.02), added=True), 0.2),
        (Row("a difference, less than asked", 2, "µs", FIGURE, added=True), 0.1 / 2),
        (Row("a difference, more than asked", 1, "µs", FIGURE, added=True), 0.1 / 1.3),
        (Row("a difference below zero", 1, "µs", Figure(-0.1, -0.3, 0.1), added=True), 0.2),
        (Row("nothing, for certain", 1, "bytes", exact(0)), 0),
        (Row("nothing, or something", 1, "bytes", Figure(0, 0, 1)), math.inf),
    ],
    ids=lambda value: value.what if isinstance(value, Row) else "",
)
def test_a_row_is_known_to_a_share_of_its_figure_or_of_what_may_be_added(
    row: Row, reach: float
) -> None:
    assert row.reach_of_added == pytest.approx(reach)


@pytest.mark.parametrize("value", [0.5, 1.0, 1.013, 7.0])
def test_a_ratio_is_known_to_a_share_of_itself_whether_or_not_what_is_added_counts(
    value: float,
) -> None:
    for added in (False, True):
        row = Row("", 1.02, "x", Figure(value, 0.8 * value, 1.1 * value), added=added)
        assert row.reach == pytest.approx(0.2)
        assert row.reach_of_added >= row.reach


def test_intervals_of_few_rounds_are_wide_enough() -> None:
    draw = random.Random(0)
    samples = [[draw.gauss(10, 1) for _ in range(8)] for _ in range(200)]
    missed = sum(not figure.low <= 10 <= figure.high for figure in map(median, samples))
    assert missed <= 0.1 * len(samples)
