"""A step that was shorter than its neighbours is told as that, with where it took less."""

from __future__ import annotations

import pytest

from otel_torch_modules._diagnosis.one_step import compare_step, sentence
from otel_torch_modules._diagnosis.run import Run
from tests.unit.diagnosis.steps import Parts, make_run, make_steps
from tests.unit.diagnosis.test_failed import fail

STEP = 21
WHERE = "backward GPT.h.2.mlp"


@pytest.mark.parametrize("usually", [5.0, 40.0])
def test_it_is_said_where_it_took_less(usually: float) -> None:
    def change(step: int, parts: Parts) -> None:
        parts[WHERE] = 0.1 if step == STEP else usually

    run = make_run(60, change)
    said = sentence(run, STEP)
    assert f" ms {WHERE} (usually " in said
    assert ": −" in said
    (of_rank,) = compare_step(run, STEP)
    assert of_rank.is_shorter
    assert of_rank.losses[0].place.said == WHERE
    assert of_rank.losses[0].more == pytest.approx(0.1 - usually, rel=0.05)
    assert all(loss.more < 0 for loss in of_rank.losses)


@pytest.mark.parametrize("times", [0.1, 0.5, 0.9])
def test_one_that_was_shorter_all_over_is_not_as_its_neighbours(times: float) -> None:
    def change(step: int, parts: Parts) -> None:
        for key in parts:
            parts[key] *= times if step == STEP else 1

    assert sentence(make_run(60, change), STEP).endswith(
        f"× the usual {make_run(60, change).usual_ms:.1f}: it was shorter in many places at once."
    )


def test_one_that_an_exception_ended_is_told_as_that() -> None:
    steps = make_steps(60)
    fail(steps[STEP], "forward GPT", "forward h.2")
    assert sentence(Run(steps), STEP).endswith(
        ": it was ended by ValueError: bad shapes, in forward GPT.h.2."
    )
