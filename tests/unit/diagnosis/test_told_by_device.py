"""What a run is told by where its device says what it took: the verdict, the table, rules and comparisons."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from math import nan
from typing import Any

import pytest

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.comparison import compare
from otel_torch_modules._diagnosis.device_times import MODULES, PHASES, own_times_on_device, ran
from otel_torch_modules._diagnosis.diagnose import diagnose
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.table import own_times
from otel_torch_modules._trace import Span
from tests.unit.diagnosis.steps import BLOCKS, Change, Parts, make_steps

MS = 1_000_000
LAG = 0.2  # s


def add(key: str, ms: float) -> Change:
    def change(step: int, parts: Parts) -> None:
        parts[key] = parts.get(key, 0.0) + ms

    return change


Took = Callable[[Span], float]
"""How long the device is at a span (ms)."""


def times(factor: float) -> Took:
    return lambda span: span.duration / MS * factor


def on_device(steps: list[Span], took: Took, *, modules_every: int | None = None) -> list[Span]:
    """Let the device of `steps` say what it took for their phases, and of every so many for their modules too."""
    for number, step in enumerate(steps):
        of_modules = modules_every is not None and number % modules_every == 0
        durations, lags = (array("d", [nan] * len(step.trace)) for _ in range(2))
        for span in step.walk():
            is_phase = step.shape.parents[span.at] == step.at
            if span.phase in ("forward", "backward", "optimizer") and (is_phase or of_modules):
                durations[span.at], lags[span.at] = took(span) / 1e3, LAG
        durations[step.at], lags[step.at] = sum(map(took, step.children)) / 1e3, LAG
        step.trace.measures = {
            **step.trace.measures,
            semconv.DEVICE_DURATION: durations,
            semconv.DEVICE_LAG: lags,
        }
    return steps


def slow_on_the_device(name: str) -> Took:
    """A device that is at everything as long as the program, and at one module 10 ms longer, and so at those around."""

    def took(span: Span) -> float:
        fqn = span.site.fqn
        is_around = span.phase == "forward" and fqn is not None and f"{name}.".startswith(f"{fqn}.")
        return span.duration / MS + 10 * is_around

    return took


def own_ms(step: Span) -> dict[str, float]:
    """Return the own times of a step by the device, of what has any."""
    found: dict[str, float] = {}
    for span, own in zip(step.walk(), own_times_on_device(step), strict=True):
        found[f"{span.phase} {span.site.fqn or span.name}"] = own / MS
    return {name: time for name, time in found.items() if time}


def test_own_times_by_the_device_add_up_to_the_step() -> None:
    steps = make_steps(2, add("gc", 3), noise=0)
    step = on_device(steps, times(2), modules_every=2)[0]
    own = own_ms(step)
    assert own["gc python.gc"] == pytest.approx(3, abs=0.1)  # of the program
    assert own["forward GPT.h.1.mlp"] == pytest.approx(2 * 2 * 1.2, abs=0.1)
    assert own["optimizer optimizer.step SGD"] == pytest.approx(2 * 2, abs=0.1)
    on_it = sum(
        end - start for child in step.children if (found := ran(child)) for start, end in [found]
    )
    others = step.children[0].duration + step.children[1].duration
    assert sum(own.values()) == pytest.approx(max(step.duration, on_it + others) / MS)


def test_of_a_step_whose_modules_say_nothing_the_phases_have_it_all() -> None:
    step = on_device(make_steps(2, noise=0), times(0.5))[1]
    own = own_ms(step)
    forward, backward, optimizer = step.children[1:]
    assert own == pytest.approx(
        {
            "forward GPT": forward.duration / MS / 2,
            "backward backward": backward.duration / MS / 2,
            "optimizer optimizer.step SGD": optimizer.duration / MS / 2,
            "data dataloader.next": step.children[0].duration / MS,
            # The device had nothing to do for half of it.
            "step train.step": step.duration / MS
            - (forward.duration + backward.duration + optimizer.duration) / MS / 2
            - step.children[0].duration / MS,
        }
    )


def test_what_lies_between_in_the_program_is_the_device_s_where_it_works() -> None:
    """The program waits for the device there: for a loss that it looks at."""
    run = Run(on_device(make_steps(60, add("step", 40)), times(2.3)))
    assert "between" not in [finding.rule for finding in diagnose(run).findings]
    told_otherwise = Run(make_steps(60, add("step", 40)))
    assert "between" in [finding.rule for finding in diagnose(told_otherwise).findings]


def test_a_wait_for_data_costs_what_the_device_notices_of_it() -> None:
    waits = add("data", 15)
    rules = [finding.rule for finding in diagnose(Run(make_steps(60, waits))).findings]
    assert "data" in rules
    behind = [
        finding.rule
        for finding in diagnose(Run(on_device(make_steps(60, waits), times(1)))).findings
    ]
    assert "data" not in behind


@pytest.mark.parametrize("modules_every", [None, 16])
def test_a_verdict_says_whose_time_it_is(modules_every: int | None) -> None:
    def took(span: Span) -> float:  # the program waits in forward for what it has scheduled before
        return span.duration / MS * (0.2 if span.phase == "forward" else 1.3)

    steps = make_steps(80, add("forward GPT.h.0.attn", 20))
    assert diagnose(Run(steps)).verdict.startswith("Forward takes")
    run = Run(on_device(steps, took, modules_every=modules_every))
    verdict = diagnose(run).verdict
    assert verdict.startswith("Backward takes")
    assert "of a step, by the time of the device." in verdict
    # Of modules only what the device tells of is said with it.
    assert ("blocks'" in verdict) is (modules_every is not None)
    assert run.told_by == (PHASES if modules_every is None else MODULES)


def test_the_table_and_the_rules_are_told_by_the_steps_whose_modules_say_it() -> None:
    slow = f"GPT.h.{BLOCKS - 1}.mlp"
    plain = make_steps(80)
    assert not [finding for finding in diagnose(Run(plain)).findings if finding.rule == "module"]
    run = Run(on_device(plain, slow_on_the_device(slow), modules_every=16))
    (row,) = [row for row in own_times(run) if row.name == "GPT.h.*.mlp"]
    assert row.phases["forward"] == pytest.approx(BLOCKS * 1.2 + 10, rel=0.05)
    (found,) = [finding for finding in diagnose(run).findings if finding.rule == "module"]
    assert (found.place, found.phase) == (slow, "forward")


@pytest.mark.parametrize(
    ("a", "b", "told_by"),
    [
        (16, 16, MODULES),
        (16, None, PHASES),
        (None, None, PHASES),
        (16, 0, None),  # one of them has no device
        (0, 0, None),
    ],
)
def test_two_runs_are_compared_by_what_both_say(
    a: int | None, b: int | None, told_by: str | None
) -> None:
    def run(every: int | None, took: Took, seed: int) -> Run:
        steps = make_steps(80, seed=seed)
        return Run(steps if every == 0 else on_device(steps, took, modules_every=every))

    slower = slow_on_the_device("GPT.h.1.attn")
    found = compare(run(a, times(1), 1).steady, run(b, slower, 2).steady)
    assert found.told_by == told_by
    assert found.as_json()["told_by"] == told_by
    where = {None: None, PHASES: ("forward", "GPT"), MODULES: ("forward", "GPT.h.*.attn")}[told_by]
    most: Any = found.changes[0].place if found.changes else None
    assert (most and (most.phase, most.pattern)) == where
    if most:
        assert found.changes[0].b_ms - found.changes[0].a_ms == pytest.approx(10, rel=0.1)


def test_steps_that_a_capture_has_hit_are_left_out_of_it() -> None:
    steps = on_device(make_steps(40), times(2))
    for step in steps[10:14]:
        step.trace.measures = {}
    run = Run(steps)
    assert run.told_by == PHASES
    assert len(run.told_phases) == 40 - run.warm_up - 4
    assert not set(run.told_phases.numbers) & {10, 11, 12, 13}
