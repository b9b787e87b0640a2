"""Steps that an exception ended are told of, whatever else there is to say."""

from __future__ import annotations

from typing import Any

import pytest

from otel_torch_modules._diagnosis.diagnose import diagnose
from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._pictures.charts import odd_steps
from otel_torch_modules._trace import Remark
from tests.unit.diagnosis.steps import make_steps

RAISED = "ValueError: bad shapes"


def fail(step: Any, *names: str, raised: str = RAISED) -> None:
    """Have an exception leave the step and spans of these names, which was raised in the last of them."""
    shape, remarks = step.shape, step.trace.remarks
    remarks[0] = remarks[0]._replace(failed=True)
    for at, site in enumerate(shape.sites):
        if site.name in names:
            innermost = site.name == names[-1]
            remarks[at] = Remark({}, failed=True, exception=raised if innermost else "")


def found(run: Run) -> list[Finding]:
    return [finding for finding in diagnose(run).findings if finding.rule == "failed"]


@pytest.mark.parametrize(
    ("names", "raised", "said"),
    [
        (
            ("forward GPT", "forward h.2", "forward mlp"),
            RAISED,
            "Step 55 was ended by ValueError: bad shapes, in forward GPT.h.0.mlp.",
        ),
        (
            ("backward", "backward GPT"),
            "",
            "Step 55 was ended by an exception, in backward GPT.",
        ),
        ((), "", "Step 55 was ended by an exception, in train.step."),
        (
            ("dataloader.next",),
            "E" * 400,
            f"Step 55 was ended by {'E' * 199}…, in dataloader.next.",
        ),
    ],
    ids=["in a module", "in backward", "in the loop", "with many letters"],
)
def test_it_is_said_which_and_where(names: tuple[str, ...], raised: str, said: str) -> None:
    steps = make_steps(56)
    fail(steps[55], *names, raised=raised)
    (finding,) = found(Run(steps))
    assert (finding.sentence, finding.steps) == (said, (55,))


def test_of_several_the_last_is_told() -> None:
    steps = make_steps(60)
    for number in (7, 20, 21, 44):
        fail(steps[number], "forward GPT", raised=f"E{number}: no")
    (finding,) = found(Run(steps))
    assert finding.sentence == (
        "4 steps (7, 20, 21 …) were ended by exceptions, the last by E44: no, in forward GPT."
    )
    assert finding.steps == (7, 20, 21, 44)


def test_it_is_told_of_a_run_that_has_but_that_step_and_of_one_that_lost_spans() -> None:
    steps = make_steps(1)
    fail(steps[0], "forward GPT")
    assert len(found(Run(steps))) == 1
    steps[0].trace.incomplete.add(0)
    run = Run([*steps, *make_steps(9)[1:]])
    assert found(run)[0].steps == (0,)


@pytest.mark.parametrize("slow", [False, True])
def test_a_report_marks_it(slow: bool) -> None:
    steps = make_steps(
        60, lambda step, parts: parts.update(step=90.0 if slow and step == 44 else 0.5)
    )
    fail(steps[44], "forward GPT")
    words = dict(odd_steps(Run(steps)))[44]
    assert words.endswith(f"✗ {RAISED}")
    assert words.startswith("+") == slow


def test_steps_of_one_trace_are_told_apart_and_another_ranks_failure_is_of_the_step() -> None:
    ranks = [make_steps(20, rank=rank, seed=rank) for rank in range(2)]
    fail(ranks[1][13], "forward GPT")
    run = Run([step for steps in zip(*ranks, strict=True) for step in steps])
    (finding,) = found(run)
    assert finding.rank == 1
    assert finding.sentence.endswith("in forward GPT on rank 1.")
    assert [odd.at for odd in odd_steps(run) if "✗" in odd.words] == [13]
