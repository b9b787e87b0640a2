"""What a run is told by where its device says what it took: the verdict, the table, rules and comparisons."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from math import nan
from typing import Any

import pytest

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.comparison import compare
from otel_torch_modules._diagnosis.device_times import (
    ToldBy,
    lasted,
    own_times_on_device,
    told_by,
)
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
    """Let the device of `steps` say what it took for their phases, and of every so many for their modules too.

    It does one thing after the other, each so far behind the program at least.
    """
    done = 0.0
    for number, step in enumerate(steps):
        of_modules = modules_every is not None and number % modules_every == 0
        durations, lags = (array("d", [nan] * len(step.trace)) for _ in range(2))

        for phase in step.children:
            if phase.phase in ("forward", "backward", "optimizer"):
                start = max(phase.start + LAG * 1e9, done)
                done = start + took(phase) * MS
                for span, began in laid(phase, start, took) if of_modules else [(phase, start)]:
                    durations[span.at] = took(span) / 1e3
                    lags[span.at] = (began - span.start) / 1e9
        step.trace.measures = {
            **step.trace.measures,
            semconv.DEVICE_DURATION: durations,
            semconv.DEVICE_LAG: lags,
        }
    return steps


def laid(span: Span, start: float, took: Took) -> Iterator[tuple[Span, float]]:
    """Yield a span and all below it with where the device begins them: last what is below, one after the other."""
    yield span, start
    now = start + (took(span) - sum(map(took, span.children))) * MS
    for child in span.children:
        yield from laid(child, now, took)
        now += took(child) * MS


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
    own_times = own_times_on_device(step, whole_ns(step), told_by([step]))
    for span, own in zip(step.walk(), own_times, strict=True):
        found[f"{span.phase} {span.site.fqn or span.name}"] = own / MS
    return {name: time for name, time in found.items() if time}


def whole_ns(step: Span) -> int:
    start, end = next(lasted([step]))
    return end - start


def test_own_times_by_the_device_add_up_to_the_step() -> None:
    step = on_device(make_steps(2, add("gc", 3), noise=0), times(0.9), modules_every=2)[0]
    own = own_ms(step)
    assert own["gc python.gc"] == pytest.approx(3, abs=0.1)  # of the program
    # The first step takes twice as long.
    assert own["forward GPT.h.1.mlp"] == pytest.approx(2 * 0.9 * 1.2, abs=0.1)
    assert own["optimizer optimizer.step SGD"] == pytest.approx(2 * 0.9, abs=0.1)
    assert sum(own.values()) == pytest.approx(whole_ns(step) / MS)


def test_of_a_step_whose_modules_say_nothing_the_phases_have_it_all() -> None:
    step = on_device(make_steps(2, noise=0), times(0.5))[1]
    data, forward, backward, optimizer = (child.duration / MS for child in step.children)
    whole = whole_ns(step) / MS
    assert own_ms(step) == pytest.approx(
        {
            "forward GPT": forward / 2,
            "backward backward": backward / 2,
            "optimizer optimizer.step SGD": optimizer / 2,
            "data dataloader.next": data,
            # The device had nothing to do for half of it.
            "step train.step": whole - (forward + backward + optimizer) / 2 - data,
        }
    )


def test_what_the_program_waits_for_counts_as_far_as_the_device_has_nothing_to_do() -> None:
    """Twice as long as the program the device is at its phases: of 15 ms of waiting it notices what is left."""
    idle, busy = (
        on_device(make_steps(2, add("data", 15), noise=0), times(factor))[1] for factor in (0.5, 1)
    )
    (noticed,) = [own for name, own in own_ms(idle).items() if name.startswith("data")]
    assert noticed == pytest.approx(15.05, abs=0.01)
    short = own_times_on_device(busy, whole_ns(busy) - 8 * MS, ToldBy.DEVICE)
    assert sum(short) == pytest.approx(whole_ns(busy) - 8 * MS, abs=10)
    assert short[1] < 8 * MS


def test_a_step_lasts_from_where_the_device_was_through_with_the_one_before() -> None:
    """However the program's steps lie: it is far ahead, and waits for the device in each fifth."""
    steps = make_steps(20, lambda step, parts: parts.update(step=150.0 if step % 5 == 4 else 0.5))
    run = Run(on_device(steps, times(2)))
    usual = [2 * sum(child.duration for child in step.children[1:]) / MS for step in steps]
    fifths = [at % 5 == 4 or not at for at in range(20)]  # in these the device had nothing to do
    for at, (took, phases) in enumerate(zip(run.main.ms, usual, strict=True)):
        if not fifths[at]:
            assert took == pytest.approx(phases, abs=0.1)


def test_what_lies_between_in_the_program_is_the_device_s_where_it_works() -> None:
    """The program waits for the device there: for a loss that it looks at."""
    program = Run(make_steps(60, add("step", 40)))
    assert "between" in [finding.rule for finding in diagnose(program).findings]
    waits = Run(on_device(make_steps(60, add("step", 40)), times(2.3)))
    assert "between" not in [finding.rule for finding in diagnose(waits).findings]


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
    assert run.main.told_by is (ToldBy.DEVICE if modules_every is None else ToldBy.MODULES)


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
    ("a", "b", "by"),
    [
        (16, 16, ToldBy.MODULES),
        (16, None, ToldBy.DEVICE),
        (None, None, ToldBy.DEVICE),
        (16, 0, ToldBy.PROGRAM),  # one of them has no device
        (0, 0, ToldBy.PROGRAM),
    ],
)
def test_two_runs_are_compared_by_what_both_say(a: int | None, b: int | None, by: ToldBy) -> None:
    def run(every: int | None, took: Took, seed: int) -> Run:
        steps = make_steps(80, seed=seed)
        return Run(steps if every == 0 else on_device(steps, took, modules_every=every))

    slower = slow_on_the_device("GPT.h.1.attn")
    found = compare(run(a, times(1), 1).steady, run(b, slower, 2).steady)
    assert found.told_by is by
    assert found.as_json()["told_by"] == by.name.lower()
    places = {
        ToldBy.PROGRAM: None,
        ToldBy.DEVICE: ("forward", "GPT"),
        ToldBy.MODULES: ("forward", "GPT.h.*.attn"),
    }
    most: Any = found.changes[0].place if found.changes else None
    assert (most and (most.phase, most.pattern)) == places[by]
    if most:
        assert found.changes[0].b_ms - found.changes[0].a_ms == pytest.approx(10, rel=0.1)


def test_the_time_between_two_steps_is_the_device_s_too() -> None:
    """The program rests for 20 ms after each step: a device that has work for as long rests less, or not at all."""

    def between(factor: float) -> float:
        run = Run(on_device(make_steps(60, gap=20.0), times(factor)))
        return sum(found.cost_ms for found in diagnose(run).findings if found.rule == "between")

    assert between(1) == pytest.approx(20, abs=1)
    assert between(1.3) == pytest.approx(20 - 0.3 * 28, abs=1.5)
    assert between(1.9) == 0


def test_steps_that_a_capture_has_hit_are_told_by_the_program() -> None:
    steps = on_device(make_steps(40), times(2))
    for step in steps[10:14]:
        step.trace.measures = {}
    run = Run(steps)
    assert run.main.told_by is ToldBy.DEVICE
    told = [run.main.ms[at] == steps[at].duration / MS for at in range(40)]
    assert [at for at in range(40) if told[at]] == [10, 11, 12, 13]
    assert run.main.phase("backward")[11] > 0
