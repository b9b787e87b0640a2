"""A job that was started again makes steps of the same numbers once more: each answer says which of them it means."""

from __future__ import annotations

from typing import Any

import pytest

from otel_torch_modules._diagnosis.diagnose import diagnose
from otel_torch_modules._diagnosis.one_step import sentence
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._pictures.charts import Flames, bars, heat, odd_steps
from tests.unit.diagnosis.steps import Change, Parts, make_steps

STEPS = 40
HOUR = 3_600 * 10**9  # ns


def slow(ms: float, *steps: int) -> Change:
    def change(step: int, parts: Parts) -> None:
        parts["forward GPT.h.3.mlp"] += ms if step in steps else 0.0

    return change


def started(*changes: Change, rank: int | None = None) -> list[Any]:
    """Return the steps of a job that was started as often, each time from its first step on."""
    steps = []
    for times, change in enumerate(changes):
        for step in make_steps(STEPS, change, rank=rank, seed=times):
            trace = step.trace
            trace.trace_id = f"{times + 1:016x}{step.step:016x}"
            for column in (trace.starts, trace.ends):
                for at in range(len(column)):
                    column[at] += times * HOUR
            steps.append(step)
    return steps


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([slow(80, 25)], "Step 25 took "),
        ([slow(80, 25), slow(0)], "Step 25 (the 1st of 2) took "),
        ([slow(0), slow(80, 25)], "Step 25 (the 2nd of 2) took "),
        ([slow(0), slow(0), slow(80, 25)], "Step 25 (the 3rd of 3) took "),
        ([slow(0), slow(12, *range(STEPS))], "Since step 0 (the 2nd of 2) steps take "),
    ],
)
def test_a_finding_says_which_one(changes: list[Change], said: str) -> None:
    findings = diagnose(Run(started(*changes))).findings
    assert any(finding.sentence.startswith(said) for finding in findings), findings


def test_of_one_step_no_cause_is_said_that_another_of_its_number_had() -> None:
    steps = started(slow(80, 25), slow(60, 25))
    first = steps[25]
    assert "exported" not in sentence(Run(steps), 25)
    first.trace.remarks[0].attributes["torch.step.tracing_time"] = 1.0
    assert "exported" not in sentence(Run(steps), 25)


def test_a_report_draws_each_as_its_own() -> None:
    run = Run(started(slow(80, 25), slow(40, 25)))
    odd = odd_steps(run)
    flames = Flames(run, odd).as_json(run)
    drawn = bars(run, odd)
    assert drawn["numbers"] == [*range(STEPS), *range(STEPS)]
    assert (flames["slowest"], flames["steps"][25]["number"]) == (25, 25)
    assert flames["steps"][STEPS + 25]["number"] == 25
    assert flames["steps"][25]["ms"] > flames["steps"][STEPS + 25]["ms"] + 30


def test_ranks_are_compared_start_by_start() -> None:
    ranks = [started(slow(30 * (rank == 1), 25), slow(0), rank=rank) for rank in range(3)]
    found = heat(Run([step for steps in zip(*ranks, strict=True) for step in steps]))
    assert found is not None
    assert found["numbers"] == [*range(STEPS), *range(STEPS)]
    assert found["at"] == [*range(2 * STEPS)]
    assert [at for at, value in enumerate(found["rows"][1]) if value > 50] == [25]
