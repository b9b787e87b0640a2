"""Each rule fires where it must, says where, and is silent where it must be."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, NamedTuple

import pytest

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.diagnose import RULES, diagnose
from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.one_step import sentence
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._shape import Shape
from tests.unit.diagnosis.steps import (
    BLOCKS,
    Change,
    Parts,
    after,
    make_paused_run,
    make_run,
    make_steps,
)


def add(key: str, ms: float, when: Callable[[int], bool] = lambda step: True) -> Change:
    def change(step: int, parts: Parts) -> None:
        if when(step):
            parts[key] = parts.get(key, 0.0) + ms

    return change


def scale(times: Callable[[int], float]) -> Change:
    def change(step: int, parts: Parts) -> None:
        for key in parts:
            parts[key] *= times(step)

    return change


class Fault(NamedTuple):
    rule: str
    run: Callable[[], Run]
    place: str | None
    phase: str | None
    cost_ms: float
    steps: tuple[int, ...] = ()


def recomputing(step: int, parts: Parts) -> None:
    parts["recompute GPT.h.0.attn"], parts["recompute GPT.h.0.mlp"] = 5.0, 3.0


def attributed(key: str, at: tuple[int, ...], value: int) -> Callable[[int], dict[str, Any]]:
    return lambda step: {key: value if step in at else 1 if "switches" in key else 0}


def exported(seconds: Callable[[int], float | None]) -> Callable[[int], dict[str, Any]]:
    def attributes(step: int) -> dict[str, Any]:
        time = seconds(step)
        return {} if time is None else {semconv.STEP_TRACING_TIME: time}

    return attributes


FAULTS = {
    "data in every step": Fault(
        "data", lambda: make_run(change=add("data", 15)), "dataloader.next", "data", 15
    ),
    "data in every other step": Fault(
        "data",
        lambda: make_run(change=add("data", 30, lambda step: step % 2 == 1)),
        "dataloader.next",
        "data",
        15,
    ),
    "one module once": Fault(
        "slow-step",
        lambda: make_run(change=add("backward GPT.h.2.mlp", 60, lambda step: step == 41)),
        "GPT.h.2.mlp",
        "backward",
        0.6,
        (41,),
    ),
    "two modules of the same kind now and then": Fault(
        "slow-step",
        lambda: make_run(
            change=lambda step, parts: add(
                f"forward GPT.h.{step % 4}.attn", 40, lambda step: step in (13, 44, 58)
            )(step, parts)
        ),
        "GPT.h.*.attn",
        "forward",
        1.2,
        (13, 44, 58),
    ),
    "everything slower once": Fault(
        "slow-step",
        lambda: make_run(change=scale(lambda step: 2.5 if step == 50 else 1.0)),
        None,
        None,
        0.4,
        (50,),
    ),
    "one block unlike its equals": Fault(
        "module",
        lambda: make_run(change=add("forward GPT.h.1.mlp", 6)),
        "GPT.h.1.mlp",
        "forward",
        6,
    ),
    "one module that is all": Fault(
        "module", lambda: make_run(change=add("GPT", 60)), "GPT", "forward", 60
    ),
    "every tenth step": Fault(
        "period",
        lambda: make_run(change=add("step", 40, lambda step: step % 10 == 9)),
        "between the spans",
        "between",
        4,
        tuple(range(9, 100, 10)),
    ),
    "every second step": Fault(
        "period",
        lambda: make_run(change=add("GPT", 20, lambda step: step % 2 == 1)),
        "GPT",
        "forward",
        10,
        tuple(range(1, 100, 2)),
    ),
    "every seventh step, and one besides": Fault(
        "period",
        lambda: make_run(change=add("optimizer", 25, lambda step: step % 7 == 3 or step == 50)),
        "optimizer.step SGD",
        "optimizer",
        25 / 7,
        tuple(range(3, 100, 7)),
    ),
    "slower and slower": Fault(
        "drift",
        lambda: make_run(
            change=lambda step, parts: [
                add(f"forward GPT.h.{block}.attn", step * 0.04)(step, parts) for block in range(4)
            ]
        ),
        "GPT.h.*.attn",
        "forward",
        5.5,
    ),
    "slower from a step on": Fault(
        "drift",
        lambda: make_run(change=add("backward GPT.h.3.mlp", 8, lambda step: step >= 60)),
        "GPT.h.3.mlp",
        "backward",
        3.2,
    ),
    "warm-up": Fault(
        "warm-up",
        lambda: make_run(20, change=scale(lambda step: 4.0 if step < 3 else 1.0)),
        None,
        None,
        15,
        (0, 1, 2),
    ),
    "optimizer": Fault(
        "optimizer",
        lambda: make_run(change=add("optimizer", 20)),
        "optimizer.step SGD",
        "optimizer",
        21,
    ),
    "recompute": Fault(
        "recompute", lambda: make_run(change=recomputing), "GPT.h.0.attn", "recompute", 8
    ),
    "between the spans of steps": Fault(
        "between", lambda: make_run(change=add("step", 12)), "in the steps", "between", 12.6
    ),
    "between the steps": Fault(
        "between", lambda: make_run(gap=14), "between the steps", "between", 14.5
    ),
    "a pause now and then": Fault(
        "between",
        lambda: make_run(gap=lambda step: 500 if step in (20, 50) else 0.1),
        "between the steps",
        "between",
        10,
        (20, 50),
    ),
    "evaluations": Fault(
        "evaluation",
        lambda: make_paused_run("evaluate", "evaluate", {20: 3000, 50: 4000}),
        None,
        "evaluate",
        70,
    ),
    "single forward passes outside the steps": Fault(
        "evaluation",
        lambda: make_paused_run("forward GPT", "forward", {20: 3000, 50: 4000}),
        None,
        "evaluate",
        70,
    ),
    "checkpoints between the steps": Fault(
        "checkpoint",
        lambda: make_paused_run("checkpoint.save", "checkpoint", {20: 3000, 50: 4000}),
        "checkpoint.save",
        "checkpoint",
        70,
    ),
    "a span of the program's between the steps": Fault(
        "loop",
        lambda: make_paused_run("generate", None, {20: 3000, 50: 4000}),
        "generate",
        None,
        70,
    ),
    "a span of the program's in the steps": Fault(
        "loop", lambda: make_run(change=add("mine", 12)), "my logging", "between", 12
    ),
    "a call of the loop's own": Fault(
        "loop", lambda: make_run(change=add("clip", 12)), "clip_grad_norm", "loop", 12
    ),
    "a collective": Fault(
        "collective", lambda: make_run(change=add("collective", 12)), "all_reduce", "collective", 12
    ),
    "compilation": Fault(
        "compile",
        lambda: make_run(change=add("compile", 90, lambda step: step in (30, 61))),
        "compile",
        "compile",
        1.8,
        (30, 61),
    ),
    "garbage": Fault(
        "gc",
        lambda: make_run(change=add("gc", 60, lambda step: step in (17, 18, 44, 71))),
        "python.gc",
        "gc",
        2.4,
        (17, 18, 44, 71),
    ),
    "checkpoint": Fault(
        "checkpoint",
        lambda: make_run(change=add("checkpoint", 200, lambda step: step % 50 == 49)),
        "checkpoint.save",
        "checkpoint",
        4,
        (49, 99),
    ),
    "a starved host": Fault(
        "host",
        lambda: make_run(
            change=scale(lambda step: 3.0 if step in (20, 33, 70) else 1.0),
            attributes=attributed("torch.step.involuntary_switches", (20, 33, 70), 40),
        ),
        None,
        None,
        1.7,
        (20, 33, 70),
    ),
    "an exhausted allocator": Fault(
        "memory",
        lambda: make_run(
            change=add("forward GPT.h.0.mlp", 50, lambda step: step == 33),
            attributes=attributed("torch.device.memory.alloc_retries", (33,), 2),
        ),
        None,
        None,
        0.5,
        (33,),
    ),
    "many spans in a short step": Fault(
        "tracing",
        lambda: make_run(change=scale(lambda step: 0.05)),
        None,
        None,
        0.35,
    ),
    "an export during every eighth step": Fault(
        "tracing",
        lambda: make_run(
            change=add("GPT", 16, lambda step: step % 8 == 3),
            attributes=exported(lambda step: 0.017 if step % 8 == 3 else None),
        ),
        None,
        None,
        2.1,
        tuple(range(3, 100, 8)),
    ),
    "exports during most steps, at no period": Fault(
        "tracing",
        lambda: make_run(
            change=scale(lambda step: 1.2 if step * step % 7 < 3 else 1.0),
            attributes=exported(lambda step: 0.006 if step * step % 7 < 3 else None),
        ),
        None,
        None,
        3.3,
        tuple(step for step in range(1, 100) if step * step % 7 < 3),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_and_its_place_and_cost_are_told(name: str) -> None:
    fault = FAULTS[name]
    findings = diagnose(fault.run()).findings
    found = [finding for finding in findings if finding.rule == fault.rule]
    assert len(found) == 1, findings
    (finding,) = found
    assert (finding.place, finding.phase) == (fault.place, fault.phase)
    assert finding.cost_ms == pytest.approx(fault.cost_ms, rel=0.25)
    assert finding.steps == fault.steps or finding.rule == "drift"
    assert findings[0].rule == fault.rule


@pytest.mark.parametrize("name", FAULTS)
def test_no_share_is_more_than_all(name: str) -> None:
    run = FAULTS[name].run()
    for finding in diagnose(run).findings:
        assert finding.cost_share <= 1, finding
        said = [float(share) for share in re.findall(r"([\d.]+) %", finding.sentence)]
        assert all(share <= 100 for share in said), finding
        whole = run.total_ms / len(run.main)
        assert finding.cost_share == pytest.approx(finding.cost_ms / whole, rel=0.02)


def test_a_checkpoint_that_is_written_while_steps_go_on_costs_nothing() -> None:
    steps = make_steps()
    run = Run(steps, [after(steps[20], "checkpoint.save", "checkpoint", 600)])
    assert [finding.rule for finding in diagnose(run).findings] == ["balanced"]


def test_every_rule_is_tried_here() -> None:
    tried = {fault.rule for fault in FAULTS.values()} | {"straggler", "failed", "missing"}
    assert tried == set(RULES)


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("count", [1, 2, 3, 10, 40, 300])
def test_a_healthy_run_is_balanced(noise: float, count: int) -> None:
    findings = diagnose(make_run(count, noise=noise)).findings
    assert [finding for finding in findings if finding.cost_share > 0.05] == []
    assert findings[0].rule == "balanced" or count == 3


def uneven(seed: int, step: int) -> float:
    return 1 + Random(100 * seed + step).random()


EXPORTED = {
    "exports that cost nothing": make_run(
        attributes=exported(lambda step: 0.02 if step % 8 == 3 else None)
    ),
    "an export in every step": make_run(
        change=scale(lambda step: 3.0 if step % 8 == 3 else 1.0),
        attributes=exported(lambda step: 0.02),
    ),
    "steps that are long for another reason, and so meet exports": make_run(
        change=add("step", 300, lambda step: step % 8 == 3),
        attributes=exported(lambda step: 0.02 if step % 8 == 3 else None),
    ),
    "exports that most steps meet, and a step that is slow for its own reason": make_run(
        change=add("GPT", 100, lambda step: step == 40),
        attributes=exported(lambda step: 0.12 if step == 40 else 0.02 if step % 4 else None),
    ),
    "exports that cost nothing, and a slow step that meets one": make_run(
        change=add("GPT", 20, lambda step: step == 43),
        attributes=exported(lambda step: 0.02 if step % 8 == 3 else None),
    ),
    "exports that cost little": make_run(
        change=add("GPT", 1, lambda step: step % 8 == 3),
        noise=0.002,
        attributes=exported(lambda step: 0.02 if step % 8 == 3 else None),
    ),
    **{
        f"steps that are unlike anyway, {seed}": make_run(
            change=scale(partial(uneven, seed)),
            attributes=exported(lambda step: 0.02 if step % 8 == 3 else None),
        )
        for seed in range(6)
    },
    "drift": make_run(
        change=scale(lambda step: 1 + step * 0.01),
        attributes=exported(lambda step: 0.02 if step > 60 and step % 3 == 0 else None),
    ),
}


@pytest.mark.parametrize("name", EXPORTED)
def test_an_export_that_slows_no_step_is_not_told_of(name: str) -> None:
    found = diagnose(EXPORTED[name]).findings
    assert [finding for finding in found if finding.rule == "tracing"] == []


@pytest.mark.parametrize("part", ["gc", "compile", "checkpoint", "data"])
def test_what_has_a_rule_of_its_own_is_not_also_a_starved_host(part: str) -> None:
    hit = tuple(range(3, 100, 5)) if part == "data" else (20, 33, 70)
    run = make_run(
        change=add(part, 60, lambda step: step in hit),
        attributes=attributed("torch.step.involuntary_switches", hit, 40),
    )
    assert {finding.rule for finding in diagnose(run).findings} == {part}


@pytest.mark.parametrize("beside", [None, 0.004], ids=["none else", "most others"])
@pytest.mark.parametrize("hit", [(20,), (20, 33, 70), tuple(range(3, 100, 5))], ids=len)
@pytest.mark.parametrize("part", ["gc", "compile", "checkpoint", "data"])
def test_what_has_a_rule_of_its_own_is_not_also_an_export(
    part: str, hit: tuple[int, ...], beside: float | None
) -> None:
    """While garbage is collected the thread that exports stands still, and while a loop waits it may work."""
    run = make_run(
        change=add(part, 600, lambda step: step in hit),
        attributes=exported(
            lambda step: 0.55 if step in hit else beside if step % 4 == 0 else None
        ),
    )
    rules = {finding.rule for finding in diagnose(run).findings}
    own = {part} if part != "data" or len(hit) > 10 else {"slow-step"}
    assert rules == own


def test_a_step_that_is_slow_beyond_its_export_is_told_of_all_the_same() -> None:
    run = make_run(
        change=lambda step, parts: [
            add("GPT", 16, lambda step: step % 8 == 3)(step, parts),
            add("optimizer", 200, lambda step: step == 43)(step, parts),
        ],
        attributes=exported(lambda step: 0.017 if step % 8 == 3 else None),
    )
    slow = [one.steps for one in diagnose(run).findings if one.rule == "slow-step"]
    assert slow == [(43,)]


@pytest.mark.parametrize(
    ("part", "of_it"), [("compile", r", 60\d\d ms of it compiling"), ("data", "")]
)
def test_of_a_warm_up_it_is_said_what_of_it_was_compiling(part: str, of_it: str) -> None:
    run = make_run(change=add(part, 2000, lambda step: step < 3))
    (found,) = [finding for finding in diagnose(run).findings if finding.rule == "warm-up"]
    assert found.steps == (0, 1, 2)
    assert re.fullmatch(rf".*, \d+ ms in all{of_it}\.", found.sentence), found.sentence


def test_a_model_of_which_no_module_is_recorded_is_none_that_leads() -> None:
    """As with phases only, or one level of modules: its own time is that of all below it."""
    run = make_run(kept=lambda step: None)
    assert {place.name for place in run.usual_own if place.module_class} == {"GPT"}
    assert "module" not in [finding.rule for finding in diagnose(run).findings]


@pytest.mark.parametrize("every", [3, 4, 5])
def test_a_block_that_is_slow_at_times_is_not_unlike_its_equals(every: int) -> None:
    """Be it so in many of the steps that are neither short nor long."""

    def change(step: int, parts: Parts) -> None:
        if step % every == 0:
            parts["backward GPT.h.1.mlp"] += 8
        elif step % every == 1:
            parts["optimizer"] += 16

    findings = diagnose(make_run(60, change)).findings
    assert not any("unlike" in finding.sentence for finding in findings)


@pytest.mark.parametrize(
    ("when", "said"),
    [
        (lambda step: True, r"a step: the"),
        (
            lambda step: step % 10 == 3,
            r"a step, in 10 of 99 steps, every 10th \(3, 13, 23 …\): the",
        ),
        (lambda step: step % 2 == 1, r"a step, in 50 of 99 steps, every 2nd \(1, 3, 5 …\): the"),
        (lambda step: step * step % 7 == 2, r"a step, in 28 of 99 steps: the"),
    ],
    ids=["always", "every tenth", "every second", "at no period"],
)
def test_it_is_said_how_often_training_waits(when: Callable[[int], bool], said: str) -> None:
    run = make_run(change=add("data", 60, when))
    (finding,) = [one for one in diagnose(run).findings if one.rule == "data"]
    assert re.search(said, finding.sentence), finding.sentence


def test_the_verdict_says_where_the_time_goes() -> None:
    assert diagnose(make_run()).verdict == (
        "Backward takes 63 % of a step. The 4 blocks' mlp cost 51 %, attn 43 %; nothing waits for data."
    )


def test_of_threads_that_overlap_no_share_is_more_than_all() -> None:
    steps = make_steps(20)
    for step in steps:
        trace = step.trace
        for at in range(1, len(trace)):  # all begin with the step, and none is inside the other
            trace.starts[at], trace.ends[at] = trace.starts[0], trace.ends[0]
        trace.shape = Shape(trace.shape.sites, (-1, *[0] * (len(trace) - 1)))
    verdict = diagnose(Run(steps)).verdict
    assert all(int(share) <= 100 for share in re.findall(r"(\d+) %", verdict)), verdict


def test_a_step_where_drift_was_a_jump_is_named() -> None:
    jump = make_run(change=add("backward GPT.h.3.mlp", 8, lambda step: step >= 60))
    (finding,) = (found for found in diagnose(jump).findings if found.rule == "drift")
    assert finding.steps == (60,)
    assert finding.sentence.startswith("Since step 60 steps take 8") or " 7.9" in finding.sentence
    climb = make_run(change=lambda step, parts: add("data", step * 0.02)(step, parts))
    assert [found.steps for found in diagnose(climb).findings if found.rule == "drift"] in (
        [],
        [()],
    )


def ranks_of(*changes: Change, count: int = 40) -> list[list[Any]]:
    return [make_steps(count, change, rank=rank, seed=rank) for rank, change in enumerate(changes)]


def in_step(ranks: list[list[Any]]) -> Run:
    """Return a run whose ranks wait for each other at the end of backward."""
    return Run([span for steps in zip(*ranks, strict=True) for span in _together(steps)])


def _together(spans: tuple[Any, ...]) -> tuple[Any, ...]:
    begin = min(span.start for span in spans)
    for span in spans:
        trace = span.trace
        shift = span.start - begin
        for column in (trace.starts, trace.ends):
            for at in range(len(column)):
                column[at] -= shift
    # The gradients are exchanged when the last one is there: who waits, waits in backward.
    backward = next(at for at, s in enumerate(spans[0].shape.sites) if s.name == "backward")
    exchange = max(span.trace.ends[backward] for span in spans)
    for span in spans:
        trace = span.trace
        wait = exchange - trace.ends[backward]
        after = [at for at in range(len(trace)) if trace.starts[at] >= trace.ends[backward]]
        for at in after:
            trace.starts[at] += wait
            trace.ends[at] += wait
        trace.ends[backward] += wait
        trace.ends[0] += wait
    return spans


NOTHING: Change = lambda step, parts: None  # noqa: E731


def test_a_rank_that_is_always_last_is_found() -> None:
    slow = add("forward GPT.h.3.mlp", 12)
    findings = diagnose(in_step(ranks_of(NOTHING, NOTHING, slow, NOTHING))).findings
    first = findings[0]
    assert (first.rule, first.rank, first.place) == ("straggler", 2, "forward GPT.h.3.mlp")
    assert "in nearly every step" in first.sentence
    assert first.cost_ms == pytest.approx(12, rel=0.15)


def test_a_rank_that_is_last_now_and_then_is_found() -> None:
    slow = add("data", 40, lambda step: step in (7, 21, 30))
    findings = diagnose(in_step(ranks_of(NOTHING, slow, NOTHING))).findings
    found = [finding for finding in findings if finding.rule == "straggler"]
    assert [(finding.rank, finding.steps) for finding in found] == [(1, (7, 21, 30))]


@pytest.mark.parametrize("late_ms", [40, 400, 4000])
def test_what_a_rank_that_is_late_costs_is_a_share_of_all_the_time(late_ms: float) -> None:
    run = in_step(ranks_of(NOTHING, add("data", late_ms, lambda step: step in (7, 21, 30))))
    (found,) = [finding for finding in diagnose(run).findings if finding.rule == "straggler"]
    assert found.cost_share == pytest.approx(3 * late_ms / run.total_ms, rel=0.1)


def test_the_place_is_the_one_that_cost_most_not_the_one_that_was_slow_most_often() -> None:
    def slow(step: int, parts: Parts) -> None:
        add("forward GPT.h.0.attn", 10, lambda step: step in (7, 21))(step, parts)
        add("forward GPT.h.2.mlp", 25, lambda step: step == 30)(step, parts)

    findings = diagnose(in_step(ranks_of(NOTHING, slow, NOTHING))).findings
    (found,) = [finding for finding in findings if finding.rule == "straggler"]
    assert (found.steps, found.place) == ((7, 21, 30), "forward GPT.h.2.mlp")


def late_and_once(often: Change, once: Change) -> Change:
    def change(step: int, parts: Parts) -> None:
        often(step, parts)
        once(step, parts)

    return change


MLP = "forward GPT.h.2.mlp"
TOLD_ONCE: dict[str, tuple[Change, dict[str, tuple[int, ...]]]] = {
    "once, among ranks that are last by little": (
        late_and_once(
            add(MLP, 2, lambda step: step in (7, 9, 11, 22, 31)),
            add(MLP, 300, lambda step: step == 25),
        ),
        {"slow-step": (25,)},
    ),
    "twice": (add(MLP, 300, lambda step: step in (9, 25)), {"slow-step": (9, 25)}),
    "now and then": (
        add(MLP, 40, lambda step: step in (7, 12, 21, 30)),
        {"straggler": (7, 12, 21, 30)},
    ),
    "now and then, and once by much more": (
        late_and_once(
            add(MLP, 20, lambda step: step in (7, 12, 21, 30)),
            add(MLP, 900, lambda step: step == 25),
        ),
        {"straggler": (7, 12, 21, 30), "slow-step": (25,)},
    ),
    "always, and once by much more": (
        late_and_once(add(MLP, 12), add(MLP, 25, lambda step: step == 25)),
        {
            "straggler": tuple(step for step in range(1, 40) if step != 25),
            "slow-step": (25,),
        },
    ),
    "at a period": (add(MLP, 40, lambda step: step % 5 == 4), {"period": tuple(range(4, 40, 5))}),
}


@pytest.mark.parametrize("guilty", [0, 1], ids=["the main rank", "another rank"])
@pytest.mark.parametrize("name", TOLD_ONCE)
def test_what_one_rank_loses_is_told_once(name: str, guilty: int) -> None:
    change, expected = TOLD_ONCE[name]
    changes = [NOTHING, NOTHING, NOTHING]
    changes[guilty] = change
    of_steps = ("straggler", "slow-step", "period")
    findings = [
        finding
        for finding in diagnose(in_step(ranks_of(*changes))).findings
        if finding.rule in of_steps
    ]
    assert {finding.rule: finding.steps for finding in findings} == expected
    assert len(findings) == len(expected)
    assert {finding.rank for finding in findings} == {guilty}
    if guilty != 0:
        assert all("ank 1" in finding.sentence for finding in findings)


def test_a_step_of_several_ranks_is_told_with_who_was_late_and_who_waited() -> None:
    slow = add("backward GPT.h.3.mlp", 540, lambda step: step == 21)
    run = in_step(ranks_of(NOTHING, NOTHING, slow, NOTHING))
    said = sentence(run, 21)
    assert re.fullmatch(
        r"Step 21 took 5\d\d ms, \d\d\.\d × the usual [23]\d\.\d: \+5\d\d ms backward GPT\.h\.3\.mlp "
        r"\(usually 2\.\d\d\) on rank 2 alone; the others waited for it in backward\.",
        said,
    ), said


@pytest.mark.parametrize("steps", [(21,), (21, 33)])
def test_steps_that_one_rank_made_slow_are_told_of_that_rank(steps: tuple[int, ...]) -> None:
    slow = add("backward GPT.h.3.mlp", 540, lambda step: step in steps)
    run = in_step(ranks_of(NOTHING, NOTHING, slow, NOTHING))
    (found,) = [one for one in diagnose(run).findings if one.rule == "slow-step"]
    assert (found.rank, found.phase, found.place) == (2, "backward", "GPT.h.3.mlp")
    assert found.steps == steps
    assert found.sentence.endswith("on rank 2; the others waited for it.")


def test_of_a_step_that_was_made_twice_the_last_is_told_on_all_ranks() -> None:
    """A job that starts again goes on from a checkpoint."""
    spans: list[Any] = []
    for start, late in enumerate((1, 2)):
        changes = [NOTHING] * 4
        changes[late] = add("forward GPT.h.0.attn", 300, lambda step: step == 21)
        run = in_step(ranks_of(*changes))
        for span in [span for series in run.ranks for span in series.steps]:
            trace = span.trace
            trace.trace_id = f"{start}{trace.trace_id[1:]}"
            for column in (trace.starts, trace.ends):
                for at in range(len(column)):
                    column[at] += start * 10**12
            spans.append(span)
    assert "on rank 2 alone" in sentence(Run(spans), 21)


def test_of_ranks_that_are_all_alike_none_is_a_straggler() -> None:
    findings = diagnose(in_step(ranks_of(NOTHING, NOTHING, NOTHING))).findings
    assert [finding.rule for finding in findings] == ["balanced"]


@pytest.mark.parametrize(
    ("attribute", "word"),
    [({semconv.STEP_TRUNCATED: True}, "1 truncated"), ({semconv.STEP_DROPPED: 3}, "3 dropped")],
)
def test_from_what_is_missing_nothing_is_concluded(attribute: dict[str, Any], word: str) -> None:
    steps = make_steps(
        20,
        add("data", 500, lambda step: step == 9),
        attributes=lambda step: attribute if step == 9 else {},
    )
    if semconv.STEP_DROPPED in attribute:
        steps = [step for step in steps if step.step != 8]
    findings = diagnose(Run(steps)).findings
    missing = [finding for finding in findings if finding.rule == "missing"]
    assert [finding.sentence for finding in missing] == [
        f"Steps are missing: {word}. Nothing is concluded from them."
    ]
    slow = [finding for finding in findings if finding.rule == "slow-step"]
    assert bool(slow) == (semconv.STEP_DROPPED in attribute)


def test_a_finding_is_plain_values_in_json() -> None:
    finding = Finding("slow-step", "…", 0.08123456, 0.003, (41,), None, "GPT.h.2.mlp", "backward")
    assert finding.as_json() == {
        "rule": "slow-step",
        "sentence": "…",
        "cost_ms": 0.0812,
        "cost_share": 0.003,
        "steps": [41],
        "rank": None,
        "place": "GPT.h.2.mlp",
        "phase": "backward",
    }


def test_own_times_add_up_to_the_steps() -> None:
    run = make_run(5)
    for at, ms in enumerate(run.main.ms):
        assert sum(column[at] for column in run.main.own.values()) == pytest.approx(ms, rel=1e-6)
    assert len({place.name for place in run.main.own if place.name != place.pattern}) == 3 * BLOCKS
