"""Steps that an exception ended are told of, whatever else there is to say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from otel_torch_modules._diagnosis.diagnose import diagnose
from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._pictures.charts import odd_steps
from otel_torch_modules._shape import Shape
from otel_torch_modules._trace import Remark, Span
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
        ((), "", "Step 55 was ended by an exception, outside any module."),
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


def job(*counts: int) -> list[list[Any]]:
    """Return the steps of ranks, of which each has made so many."""
    return [make_steps(count, rank=rank, noise=0) for rank, count in enumerate(counts)]


def together(ranks: list[list[Any]]) -> Run:
    """Return the run of some ranks."""
    return Run(sorted((step for steps in ranks for step in steps), key=lambda step: step.start))


def ended(step: Any, *, ms: float) -> None:
    """Have a step, and the last of what is in it, end so much later."""
    ends, end = step.trace.ends, step.end + round(ms * 1e6)
    for at in (0, *list(step.shape.children(0))[-1:]):
        ends[at] = end


def without_optimizer(step: Any) -> Any:
    """Return a step that was broken off in its backward."""
    sites = step.shape.sites
    cut = Shape(sites[:-1], step.shape.parents[:-1])
    trace = replace(step.trace, shape=cut)
    trace.ends[0] = trace.ends[len(cut.sites) - 1]
    return Span(trace, 0)


VICTIM = ("backward",)


@pytest.mark.parametrize("first", [0, 1, 2])
def test_of_ranks_that_an_exception_ended_the_one_that_stopped_first_is_told(first: int) -> None:
    ranks = job(20, 20, 20)
    for rank, steps in enumerate(ranks):
        if rank == first:
            fail(steps[19], raised="")
            steps[19].trace.remarks[0] = steps[19].trace.remarks[0]._replace(exception=RAISED)
        else:
            fail(steps[19], *VICTIM, raised="")
            ended(steps[19], ms=1000 + rank)
    (finding,) = found(together(ranks))
    others = ", ".join(str(rank) for rank in range(3) if rank != first)
    assert finding.sentence.endswith(
        f" ended by {RAISED}, outside any module on rank {first}; ranks {others} stopped after it."
    )
    assert finding.rank == first


def test_also_where_the_others_had_begun_the_next_step() -> None:
    ahead, behind = job(20, 19)
    fail(behind[18], raised="")
    fail(ahead[19], *VICTIM, raised="")
    (finding,) = found(together([ahead, behind]))
    assert finding.sentence == (
        "2 steps (18, 19) were ended by exceptions, at the end step 18 by an exception, outside any module on rank 1; "
        "rank 0 stopped after it."
    )
    assert finding.rank == 1


def test_also_where_it_has_told_of_no_exception() -> None:
    waiting, gone = job(20, 20)
    fail(waiting[19], *VICTIM, raised="")
    ended(waiting[19], ms=1000)
    gone[19] = without_optimizer(gone[19])
    (finding,) = found(together([waiting, gone]))
    assert finding.sentence == (
        "Step 19 was ended by an exception, in backward on rank 0; rank 1 had stopped before that, in step 19, "
        "after backward."
    )
    assert finding.rank == 1


@pytest.mark.parametrize("raised", ["", RAISED])
def test_where_it_has_sent_nothing_of_the_step_that_is_said_where_it_may_be_why(
    raised: str,
) -> None:
    waiting, gone = job(20, 19)
    fail(waiting[19], *VICTIM, raised=raised)
    (finding,) = found(together([waiting, gone]))
    said = "; of rank 1 there is nothing after step 18"
    assert (said in finding.sentence) == (not raised)


def test_nothing_is_said_of_others_where_the_rank_went_on_or_they_ended_later() -> None:
    caught, well = job(20, 20)
    fail(caught[10], *VICTIM, raised="")
    (finding,) = found(together([caught, well]))
    assert finding.sentence == "Step 10 was ended by an exception, in backward on rank 0."
