"""What is collected, compiled or saved in an evaluation is told as that, and not as evaluation."""

from __future__ import annotations

from array import array

import pytest

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.diagnose import diagnose
from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._shape import Shape
from otel_torch_modules._trace import Span, Trace
from tests.unit.diagnosis.steps import make_steps, site

NAMES = {"gc": "python.gc", "compile": "compile", "checkpoint": "checkpoint.save"}
PAUSE = 1000  # ms, after two of the steps


def after(step: Span, outer: str, phase: str, ms: int, *, twice: bool) -> Span:
    """Return a span of phase `outer` that takes as long as a pause after `step`, with one of `phase` of so many ms in
    it; `twice` with another one inside that.
    """
    since, ms_in_ns = step.end, 10**6
    sites = [site(outer, outer), *(1 + twice) * [site(NAMES[phase], phase)]]
    trace = Trace(
        f"{(step.step or 0) + 1:x}".ljust(32, "f"),
        Shape(tuple(sites), tuple(range(-1, len(sites) - 1))),
        array("Q", range(1, len(sites) + 1)),
        array("Q", range(len(sites))),
        array("Q", len(sites) * [since]),
        array("Q", [since + PAUSE * ms_in_ns, *(1 + twice) * [since + ms * ms_in_ns]]),
        [step.process] * len(sites),
        {},
        {},
    )
    return Span(trace, 0)


def findings(outer: str, phase: str, ms: int, *, twice: bool = False) -> dict[str, Finding]:
    steps = make_steps(gap=lambda step: PAUSE + 0.1 if step in (20, 50) else 0.1)
    run = Run(steps, [after(steps[at], outer, phase, ms, twice=twice) for at in (20, 50)])
    return {finding.rule: finding for finding in diagnose(run).findings}


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("outer", [semconv.PHASE_EVALUATE, semconv.PHASE_FORWARD])
@pytest.mark.parametrize("phase", NAMES)
def test_each_has_what_is_its_own(outer: str, phase: str, twice: bool) -> None:
    found = findings(outer, phase, 600, twice=twice)
    whole = findings(outer, phase, 0)["evaluation"].cost_ms
    assert found[phase].cost_ms == pytest.approx(0.6 * whole)
    assert found["evaluation"].cost_ms == pytest.approx(0.4 * whole)
    assert "usually 400 ms" in found["evaluation"].sentence
    assert " in 2 pauses between steps: " in found[phase].sentence


@pytest.mark.parametrize("phase", NAMES)
def test_an_evaluation_that_is_little_else_is_not_told_of(phase: str) -> None:
    assert "evaluation" not in findings(semconv.PHASE_EVALUATE, phase, 990)


def test_garbage_in_a_checkpoint_is_no_checkpoint() -> None:
    found = findings(semconv.PHASE_CHECKPOINT, "gc", 600)
    assert found["gc"].cost_ms == pytest.approx(1.5 * found["checkpoint"].cost_ms)
