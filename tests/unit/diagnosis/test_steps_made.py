"""How many steps a second a job made: of all that it made, whichever of them are in the file."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.diagnose import diagnose
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.steps_made import steps_made
from otel_torch_modules._pictures.charts import odd_steps
from otel_torch_modules._trace import Remark, Span
from otel_torch_modules.cli.overview import overview
from tests.unit.diagnosis.steps import Parts, make_steps

HOUR = 3_600 * 10**9  # ns
STEPS = 200


def rate(steps: list[Span]) -> float:
    found = steps_made(Run(steps).main).per_second
    assert found is not None
    return found


def numbered(steps: list[Span], number: Callable[[int], int]) -> list[Span]:
    for at, step in enumerate(steps):
        step.trace.remarks[0] = Remark({semconv.STEP_INDEX: number(at)})  # type: ignore[index]
    return steps


def started_again(step: Span, process: str, later: int) -> Span:
    trace = step.trace
    trace.trace_id = process + trace.trace_id[len(process) :]
    trace.processes = [process] * len(trace)
    for column in (trace.starts, trace.ends):
        for at in range(len(column)):
            column[at] += later
    return step


RECORDED: dict[str, Callable[[int], bool]] = {
    "a schedule": lambda step: step % 20 < 5,
    "one in seven": lambda step: step % 7 == 0,
    "all but a few": lambda step: step not in (50, 51, 120),
    "few that lie far apart": lambda step: step in (3, 90, 91, 180),
}


@pytest.mark.parametrize("gap", [0.1, 12.0])
@pytest.mark.parametrize("recorded", RECORDED)
def test_steps_that_nobody_recorded_count(recorded: str, gap: float) -> None:
    whole = rate(make_steps(STEPS, gap=gap))
    found = [step for step in make_steps(STEPS, gap=gap) if RECORDED[recorded](step.step or 0)]
    assert rate(found) == pytest.approx(whole, rel=0.05)


@pytest.mark.parametrize("again", [20, 0, 60])
def test_the_time_until_a_job_is_started_again_does_not_count(again: int) -> None:
    first = [started_again(step, "a", 0) for step in make_steps(40)]
    second = [started_again(step, "b", HOUR) for step in make_steps(40)]
    numbered(second, lambda at: again + at)
    assert rate([*first, *second]) == pytest.approx(rate(make_steps(80)), rel=0.05)


@pytest.mark.parametrize("number", [lambda at: 32 * at, lambda at: 1_000 * (at // 20) + at % 20])
def test_numbers_that_count_something_else_are_no_steps(number: Callable[[int], int]) -> None:
    steps = numbered(make_steps(80), number)
    assert rate(steps) == pytest.approx(rate(make_steps(80)), rel=0.05)


def test_of_steps_without_a_length_there_is_none() -> None:
    steps = make_steps(3, gap=0)
    for step in steps:
        for column in (step.trace.starts, step.trace.ends):
            for at in range(len(column)):
                column[at] = 0
    assert steps_made(Run(steps).main).per_second is None


@pytest.mark.parametrize("first", [0, 20])
def test_what_was_recorded_first_is_warm_up_where_it_is_the_first(first: int) -> None:
    def slow(step: int, parts: Parts) -> None:
        for key in parts:
            parts[key] *= 10 if step < 3 else 1

    steps = numbered(make_steps(40, slow), lambda at: first + at)
    (found,) = (one for one in diagnose(Run(steps)).findings if one.rule == "warm-up")
    assert found.sentence.startswith("Warm-up, " if first == 0 else "What was recorded first, ")


def test_what_was_slow_first_is_a_share_of_all_that_was_made() -> None:
    def slow(step: int, parts: Parts) -> None:
        for key in parts:
            parts[key] *= 5 if step < 3 else 1

    whole = {one.rule: one for one in diagnose(Run(make_steps(65, slow))).findings}
    recorded = [step for step in make_steps(65, slow) if (step.step or 0) % 20 < 5]
    found = {one.rule: one for one in diagnose(Run(recorded)).findings}
    assert found["warm-up"].cost_share == pytest.approx(whole["warm-up"].cost_share, rel=0.15)


@pytest.mark.parametrize(("first", "said"), [(0, "warm-up"), (20, "the first recorded")])
def test_it_is_called_the_same_everywhere(first: int, said: str) -> None:
    run = Run(numbered(make_steps(40), lambda at: first + at))
    assert run.warm_up == 1
    assert odd_steps(run)[0].words == f"{said}, not counted"
    shown = [line.plain for line in overview(run, None, 100)]
    assert any(line.split()[0] == str(first) and line.endswith(said) for line in shown if line)
