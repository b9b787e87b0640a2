"""A sum that a few steps carry is no habit: these steps are told of by their numbers, and the others as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from otel_torch_modules._diagnosis.diagnose import diagnose
from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.run import Run
from tests.unit.diagnosis.steps import Parts, after, make_paused_run, make_run, make_steps

HIT = (40, 55)
PLACES = ("data", "gc", "compile", "checkpoint", "collective", "clip", "optimizer", "step")


class Small(NamedTuple):
    """What many steps have a little of."""

    ms: float
    when: Callable[[int], bool]


SMALL = {
    "every 5th": Small(3.5, lambda step: step % 5 == 0),
    "many": Small(3.5, lambda step: step * 7 % 10 < 3),
    "all": Small(0.4, lambda step: True),
    "none": Small(0.0, lambda step: False),
}


def run_with(key: str, small: Small, large: float, hit: tuple[int, ...]) -> Run:
    def change(step: int, parts: Parts) -> None:
        more = large if step in hit else small.ms if small.when(step) else 0.0
        if more:
            parts[key] = parts.get(key, 0.0) + more

    return make_run(change=change)


def about(run: Run, step: int) -> list[Finding]:
    """Return what names a step, in its steps or its sentence."""
    return [
        finding
        for finding in diagnose(run).findings
        if finding.steps == (step,) or f"step {step}" in finding.sentence.lower()
    ]


@pytest.mark.parametrize("large", [300, 2_000])
@pytest.mark.parametrize("small", SMALL)
@pytest.mark.parametrize("key", PLACES)
def test_one_step_that_carries_it_is_named(key: str, small: str, large: float) -> None:
    assert len(about(run_with(key, SMALL[small], large, HIT[:1]), HIT[0])) == 1


@pytest.mark.parametrize("small", SMALL)
@pytest.mark.parametrize("hit", [HIT[:1], HIT])
def test_waits_of_a_few_steps_are_no_slow_loader(small: str, hit: tuple[int, ...]) -> None:
    findings = diagnose(run_with("data", SMALL[small], 2_000, hit)).findings
    assert findings[0].rule == "slow-step"
    assert findings[0].steps == hit
    assert "data" not in {finding.rule for finding in findings}


def test_a_slow_loader_is_told_beside_a_step_that_waited_for_another_reason() -> None:
    run = run_with("data", Small(15, lambda step: True), 2_000, HIT[:1])
    slow, data = (
        next(one for one in diagnose(run).findings if one.rule == rule)
        for rule in ("slow-step", "data")
    )
    assert slow.steps == HIT[:1]
    assert data.cost_ms == pytest.approx(15, rel=0.05)
    assert "for 35 % of its steps' time" in data.sentence


@pytest.mark.parametrize("step", [40, 45])
def test_a_step_at_a_period_that_lost_far_more_is_told_by_itself(step: int) -> None:
    small = Small(6, lambda number: number % 5 == 0)
    findings = diagnose(run_with("optimizer", small, 900, (step,))).findings
    slow, period = (
        next(one for one in findings if one.rule == rule) for rule in ("slow-step", "period")
    )
    assert slow.steps == (step,)
    assert step not in period.steps
    assert "takes 6.0" in period.sentence or "takes 5.9" in period.sentence


def test_of_steps_that_lost_unlike_times_no_mean_is_told() -> None:
    def change(step: int, parts: Parts) -> None:
        parts["optimizer"] += {13: 20.0, 44: 25.0, 58: 900.0}.get(step, 0.0)

    (slow,) = (one for one in diagnose(make_run(change=change)).findings if one.steps)
    assert " more, step 58 most, in optimizer.step SGD." in slow.sentence


PAUSES = {
    "evaluation": ("evaluate", "evaluate"),
    "checkpoint": ("checkpoint.save", "checkpoint"),
    "gc": ("python.gc", "gc"),
    "loop": ("publish", None),
}


@pytest.mark.parametrize("rule", PAUSES)
def test_what_lies_in_spans_after_each_step_is_told_once(rule: str) -> None:
    name, phase = PAUSES[rule]
    steps = make_steps(gap=9.1)
    run = Run(steps, [after(step, name, phase, 9) for step in steps])
    assert [finding.rule for finding in diagnose(run).findings] == [rule]


def test_what_is_left_of_the_gaps_is_told_as_it_is() -> None:
    steps = make_steps(gap=20)
    run = Run(steps, [after(step, "publish", None, 9) for step in steps])
    findings = {finding.rule: finding for finding in diagnose(run).findings}
    assert findings["between"].cost_ms == pytest.approx(11.5, rel=0.05)
    assert findings["loop"].cost_ms == pytest.approx(9, rel=0.05)


@pytest.mark.parametrize("everywhere", [0.1, 9.0])
def test_where_ranks_wait_between_the_steps_for_one_that_is_late_that_is_no_loop_of_their_own(
    everywhere: float,
) -> None:
    def late(step: int, parts: Parts) -> None:
        parts["forward GPT.h.1.mlp"] += 20

    ranks = [
        make_steps(40, late, rank=rank, gap=everywhere)
        if rank == 2
        else make_steps(40, rank=rank, gap=20 + everywhere)
        for rank in range(4)
    ]
    run = Run([span for steps in zip(*ranks, strict=True) for span in steps])
    findings = {finding.rule: finding for finding in diagnose(run).findings}
    assert findings["straggler"].rank == 2
    found = findings.get("between")
    assert found is None if everywhere < 1 else found and found.cost_ms < 10


@pytest.mark.parametrize("longest", [0.0, 9_000.0])
def test_one_long_evaluation_is_told_beside_the_usual_ones(longest: float) -> None:
    pauses = dict.fromkeys((10, 30, 50, 70), 500.0)
    pauses[50] += longest
    run = make_paused_run("evaluate", "evaluate", pauses)
    (found,) = (one for one in diagnose(run).findings if one.rule == "evaluation")
    assert "usually 500 ms" in found.sentence
    assert found.sentence.endswith(", the longest 9500 ms.") == bool(longest)
