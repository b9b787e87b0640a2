"""Runs of which `KEEP` has sent most steps with phases only: of modules is said what is said of the whole run."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import pytest

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.comparison import compare
from otel_torch_modules._diagnosis.diagnose import diagnose
from otel_torch_modules._diagnosis.one_step import compare_step, sentence
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.table import own_times
from otel_torch_modules.cli.overview import usual_step
from tests.unit.diagnosis.steps import Change, Parts, make_run, usual_parts

SLOW = (60, 130)
WHERE = "forward GPT.h.3.attn"


def slow(step: int, parts: Parts) -> None:
    if step in SLOW:
        parts[WHERE] += 20.0


def why(step: int) -> str | None:
    if step in SLOW:
        return "slow"
    return "first" if step < 3 else "every" if step % 50 == 0 else None


def kept_run(change: Change = slow, kept: Callable[[int], str | None] = why) -> Run:
    return make_run(200, change, kept=kept)


def test_modules_take_what_they_take_in_the_whole_run() -> None:
    whole, run = make_run(200, slow), kept_run()
    assert run.usual_own.keys() == whole.usual_own.keys()
    for place, own in whole.usual_own.items():
        assert run.usual_own[place] == pytest.approx(own, rel=0.1), place
    assert run.usual_ms == pytest.approx(whole.usual_ms, rel=0.01)
    assert len(run.main) == 200
    assert {row.name for row in own_times(run)} == {row.name for row in own_times(whole)}


def test_the_same_is_found() -> None:
    whole, found = diagnose(make_run(200, slow)), diagnose(kept_run())
    assert [finding.rule for finding in found.findings] == [
        finding.rule for finding in whole.findings
    ]
    (slow_steps,) = [finding for finding in found.findings if finding.rule == "slow-step"]
    assert (slow_steps.steps, slow_steps.place, slow_steps.phase) == (
        SLOW,
        "GPT.h.3.attn",
        "forward",
    )
    assert found.verdict.partition(".")[0] == whole.verdict.partition(".")[0]


def test_nothing_is_missing() -> None:
    run = kept_run()
    assert (run.incomplete, run.truncated, run.dropped) == (0, 0, 0)


def test_a_slow_step_without_its_modules_is_compared_with_others_without() -> None:
    run = kept_run(kept=lambda step: None if step in SLOW else why(step))
    (slow_steps,) = [finding for finding in diagnose(run).findings if finding.rule == "slow-step"]
    assert (slow_steps.steps, slow_steps.place) == (SLOW, "GPT")
    step = compare_step(run, SLOW[0])[0]
    assert step.worst is not None
    assert step.worst.place.said == "forward GPT"
    assert step.worst.usual == pytest.approx(4 * 2.2, rel=0.1)


def test_a_slow_step_with_its_modules_is_compared_with_others_that_have_them() -> None:
    run = kept_run()
    step = compare_step(run, SLOW[1])[0]
    assert step.usual == pytest.approx(run.usual_ms, rel=0.05)
    assert step.worst is not None
    assert step.worst.place.said == WHERE
    assert step.worst.usual == pytest.approx(usual_parts()[WHERE], rel=0.1)
    assert "+20" in sentence(run, SLOW[1])
    assert WHERE in sentence(run, SLOW[1])


def test_where_only_the_slow_ones_have_modules_it_is_they_that_are_looked_at() -> None:
    run = kept_run(kept=lambda step: "slow" if step in SLOW else None)
    assert len(run.steady.usual_steps) == len(SLOW)
    assert median(run.main.ms) == pytest.approx(make_run(200, slow).usual_ms, rel=0.01)


def test_a_run_with_few_modules_differs_in_no_place_from_the_whole_one() -> None:
    found = compare(make_run(200).steady, make_run(200, kept=why, seed=1).steady)
    assert (found.new, found.gone) == ([], [])
    assert not found.differs


def test_with_a_budget_the_steps_that_have_modules_are_told_by_their_spans() -> None:
    strides = {semconv.STEP_STRIDE: 8, semconv.STEP_KEPT: None}
    run = make_run(
        200,
        slow,
        kept=lambda step: "every" if step % 8 == 0 else None,
        attributes=lambda _: strides,
    )
    assert [step for step, in_full in enumerate(run.main.in_full) if in_full] == list(
        range(0, 200, 8)
    )
    whole = make_run(200, slow)
    for place, own in whole.usual_own.items():
        assert run.usual_own[place] == pytest.approx(own, rel=0.1), place


def test_steps_that_were_asked_for_do_not_make_the_others_less() -> None:
    asked = {semconv.STEP_KEPT: semconv.KEPT_REQUESTED}
    run = make_run(20, attributes=lambda step: asked if step == 5 else {})
    assert all(run.main.in_full)


def test_a_step_that_was_asked_for_is_in_full_where_it_has_modules() -> None:
    reasons = {5: "requested", 10: "every", 15: "slow"}
    run = make_run(20, kept=reasons.get)
    assert [step for step, in_full in enumerate(run.main.in_full) if in_full] == [5, 10, 15]
    assert [*run.main.usual_steps.numbers] == [5, 10]


def test_the_spans_of_the_usual_step_are_those_of_one_with_modules() -> None:
    step = usual_step(kept_run())
    assert any(span.site.fqn == "GPT.h.3.attn" for span in step.walk())


@pytest.mark.parametrize("with_modules", [(100,), (100, 150)])
@pytest.mark.parametrize("key", ["forward GPT.h.3.attn", "backward GPT", "GPT"])
def test_what_one_step_with_modules_lost_is_not_said_of_the_run(
    key: str, with_modules: tuple[int, ...]
) -> None:
    def hiccup(step: int, parts: Parts) -> None:
        parts[key] = parts.get(key, 0.0) + (60.0 if step == 100 else 0.0)

    whole = make_run(200, hiccup)
    run = make_run(200, hiccup, kept=lambda step: "every" if step in with_modules else None)
    assert len(run.steady.usual_steps) == len(with_modules)
    for phase, time in whole.usual_phases.items():
        assert run.usual_phases[phase] == pytest.approx(time, rel=0.1, abs=0.02), phase
    found = diagnose(run)
    assert found.verdict.partition(".")[0] == diagnose(whole).verdict.partition(".")[0]
    assert "module" not in {finding.rule for finding in found.findings}


def test_what_is_recomputed_is_of_backward_where_no_modules_are_sent() -> None:
    def recomputing(step: int, parts: Parts) -> None:
        parts["recompute GPT.h.0.attn"], parts["recompute GPT.h.0.mlp"] = 5.0, 3.0

    def folded(step: int, parts: Parts) -> None:
        if why(step) is None:
            parts["engine"] += 8.0
        else:
            recomputing(step, parts)

    whole, run = make_run(200, recomputing), make_run(200, folded, kept=why)
    for phase, time in whole.usual_phases.items():
        assert run.usual_phases[phase] == pytest.approx(time, rel=0.1, abs=0.02), phase
