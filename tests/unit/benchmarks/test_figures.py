"""How well a row of the table is known."""

from __future__ import annotations

import math

import pytest

from benchmarks.figures import Figure, Row, exact

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
    assert row.reach == pytest.approx(reach)
