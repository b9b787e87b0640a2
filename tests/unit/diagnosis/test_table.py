"""How many calls the usual step has in a place, whatever single steps have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.table import own_times
from tests.unit.diagnosis.test_own_times import Part, step_of


def step(number: int, calls: int) -> Any:
    """Return a step of 100 ms that runs a module so many times, 5 ms each, with a gap before each of them."""
    parts = [Part("forward a", "forward", 8.0 * at + 2, 8.0 * at + 7) for at in range(calls)]
    parts += [Part("between", "between", 8.0 * at, 8.0 * at + 2) for at in range(calls)]
    return step_of((*parts,), number)


@pytest.mark.parametrize(
    ("calls", "each"),
    [
        (lambda number: 1, ""),
        (lambda number: 8 if number == 19 else 1, ""),
        (lambda number: 1 if number == 19 else 4, "5.00 × 4"),
        (lambda number: 3, "5.00 × 3"),
    ],
    ids=["once", "once, but for one step", "four times, but for one step", "three times"],
)
def test_calls_are_those_of_the_usual_step(calls: Callable[[int], int], each: str) -> None:
    rows = {row.name: row for row in own_times(Run([step(at, calls(at)) for at in range(20)]))}
    assert rows["forward a"].each == each
    usual = sorted(calls(at) for at in range(20))[10]
    # The step's own span is none of the gaps.
    assert rows["between the spans"].calls == pytest.approx(usual, abs=0.5)


def test_each_times_calls_is_what_the_place_takes() -> None:
    run = Run([step(at, at % 4 + 1) for at in range(40)])
    for row in own_times(run):
        if row.each:
            each, _, calls = row.each.partition(" × ")
            assert float(each) * float(calls) == pytest.approx(row.ms, rel=0.05)
