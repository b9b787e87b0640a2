"""For how long a step went on beside the worker's own work."""

from __future__ import annotations

import pytest

from otel_torch_modules._engine.working_time import WorkingTime
from otel_torch_modules._records import STEP_TRACING_TIME, Record

MS = 1_000_000


class Clock:
    now = 0

    def __call__(self) -> int:
        return self.now


def said(
    stretches: list[tuple[float, float]], step: tuple[int, int], goes_on_since: float | None = None
) -> float | None:
    """Return what is said of a step that began and ended then (ms), when it is handled after all these stretches."""
    clock = Clock()
    work = WorkingTime(clock)
    for began, ended in stretches:
        clock.now = round(began * MS)
        work.begins()
        clock.now = round(ended * MS)
        work.ends()
    clock.now = round((1e6 if goes_on_since is None else goes_on_since) * MS)
    work.begins()
    record = Record("step", 0, step[0] * MS, 0, step[1] * MS, measured={})
    work.say(record)
    value = record.measured.get(STEP_TRACING_TIME)
    return None if value is None else value * 1e3


@pytest.mark.parametrize(
    ("stretches", "expected"),
    [
        ([(0, 90)], None),
        ([(210, 250)], None),
        ([(90, 110)], 10),
        ([(120, 150)], 30),
        ([(190, 300)], 10),
        ([(90, 310)], 100),
        ([(0, 110), (120, 130), (150, 151), (199, 220), (230, 300)], 22),
        ([(120, 120.9)], None),  # less than a hundredth of it
        ([(100 + at, 100.09 + at) for at in range(100)], None),  # looks at an empty queue
    ],
)
def test_what_overlaps_with_the_step_counts(
    stretches: list[tuple[float, float]], expected: float | None
) -> None:
    assert said(stretches, (100, 200)) == (None if expected is None else pytest.approx(expected))


def test_what_goes_on_while_the_record_is_handled_counts_until_its_end() -> None:
    assert said([(120, 130)], (100, 200), goes_on_since=170) == pytest.approx(40)


def test_of_a_step_that_lasts_for_very_long_the_last_stretches_count() -> None:
    many = [(at * 10.0, at * 10.0 + 1) for at in range(5_000)]
    assert said(many, (0, 50_000)) == pytest.approx(1_024)


def test_what_was_measured_of_the_step_stays() -> None:
    clock = Clock()
    work = WorkingTime(clock)
    clock.now = 50 * MS
    other = object()
    record = Record("step", 0, 0, 0, 50 * MS, measured={other: 1})  # type: ignore[dict-item]
    work.say(record)
    assert record.measured == {other: 1, STEP_TRACING_TIME: 0.05}
