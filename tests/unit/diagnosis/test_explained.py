"""A slow step of which the trace says the cause: that cause is named, however few such steps there are."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle, product
from typing import Any, NamedTuple

import pytest

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.diagnose import diagnose
from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.one_step import sentence
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._pictures.charts import odd_steps
from tests.unit.diagnosis.steps import Parts, make_run

USUAL_MS = 29
HIT = (20, 33, 47, 52, 70, 81, 90)  # at no period
Said = Callable[[float], dict[str, Any]]  # of a step that took so many ms more


class Cause(NamedTuple):
    part: str | None  # where the time is lost; None: everywhere
    said: Said
    words: str = ""  # of the sentence about a slow step
    phase: str | None = None  # else the place has it


CAUSES = {
    "gc": Cause("gc", lambda more: {}, phase="gc"),
    "compile": Cause("compile", lambda more: {}, phase="compile"),
    "checkpoint": Cause("checkpoint", lambda more: {}, phase="checkpoint"),
    "memory": Cause(
        "forward GPT.h.0.mlp",
        lambda more: {semconv.MEMORY_ALLOC_RETRIES: 2},
        "memory was exhausted",
    ),
    "tracing": Cause(
        None,
        lambda more: {semconv.STEP_TRACING_TIME: more / 1e3},
        "steps were assembled and exported",
    ),
    "host": Cause(None, lambda more: {semconv.STEP_SWITCHES: 40}, "was put aside by other work"),
}


def slowed(cause: Cause, times: int, more: float) -> Run:
    """Return a run some of whose steps take so many ms more, for that cause."""
    hit = HIT[:times]

    def change(step: int, parts: Parts) -> None:
        if step in hit and cause.part:
            parts[cause.part] = parts.get(cause.part, 0.0) + more
        elif step in hit:
            for part in parts:
                parts[part] *= 1 + more / USUAL_MS

    return make_run(change=change, attributes=lambda step: cause.said(more) if step in hit else {})


@pytest.mark.parametrize("more", [14, 40, 200, 2_000])
@pytest.mark.parametrize("times", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("name", CAUSES)
def test_the_cause_is_named_first_and_the_steps_are_told_of_once(
    name: str, times: int, more: float
) -> None:
    cause = CAUSES[name]
    findings = diagnose(slowed(cause, times, more)).findings
    about = [finding for finding in findings if set(finding.steps) & set(HIT)]
    assert [set(finding.steps) for finding in about] == [set(HIT[:times])], findings
    assert findings[0] == about[0]
    assert _names(about[0], name, cause), about[0]


@pytest.mark.parametrize("name", ["memory", "tracing", "host"])
def test_the_cause_of_one_step_is_named_beside_it(name: str) -> None:
    cause = CAUSES[name]
    run = slowed(cause, 1, 200)
    assert cause.words in sentence(run, HIT[0])
    (odd,) = [odd.words for odd in odd_steps(run) if run.main.numbers[odd.at] == HIT[0]]
    assert cause.words in odd


@pytest.mark.parametrize(
    ("part", "switches", "more"),
    [("collective", 40, 200), (None, 8, 7_000), (None, 2, 500)],
    ids=["for other ranks", "for seconds", "at once"],
)
def test_a_thread_that_waits_is_not_put_aside_by_other_work(
    part: str | None, switches: int, more: float
) -> None:
    """A long step is put aside more often than a short one, by its length alone."""

    def change(step: int, parts: Parts) -> None:
        parts["collective"] = 60.0  # most of a step, so that it says little where most is lost
        for slower in ([part] if part else list(parts)) if step in HIT[:1] else []:
            parts[slower] += more if part else parts[slower] * more / USUAL_MS

    def said(step: int) -> dict[str, Any]:
        return {semconv.STEP_SWITCHES: switches if step in HIT[:1] else 0}

    run = make_run(change=change, attributes=said)
    findings = diagnose(run).findings
    assert any(set(finding.steps) & set(HIT[:1]) for finding in findings)
    assert not any(
        "put aside" in text for text in (*[f.sentence for f in findings], sentence(run, HIT[0]))
    )


def _names(finding: Finding, name: str, cause: Cause) -> bool:
    """A cause that costs too little for a rule of its own is named by the one about slow steps."""
    if finding.rule != "slow-step":
        return finding.rule == name
    return cause.words in finding.sentence and finding.phase == (cause.phase or finding.phase)


OWN = ("GPT", "step", "optimizer", "forward GPT.h.1.attn")
BESIDE: list[Callable[[int, float], float | None]] = [
    lambda step, took: took,  # the exporter is always at work
    lambda step, took: 0.6 * took,
    lambda step, took: 0.9 * took if step % 10 else None,
    lambda step, took: 12.0,  # and in each step for as long
    lambda step, took: 12.0 if took > USUAL_MS or step % 2 else None,
    lambda step, took: 12.0 if took > USUAL_MS else None,  # a long step meets a short export
    lambda step, took: took if step % 3 == 0 or took > USUAL_MS else None,
]
# Where the time is lost changes only the place that is named: each meets each way of exporting, number and excess.
SLOW = [
    (beside, times, more, part)
    for (beside, times, more), part in zip(
        product(BESIDE, [1, 2, 3], [30, 90, 500]), cycle(OWN), strict=False
    )
]


@pytest.mark.parametrize(("beside", "times", "more", "part"), SLOW)
def test_a_step_that_is_slow_for_its_own_reason_is_not_by_an_export(
    beside: Callable[[int, float], float | None], times: int, more: float, part: str
) -> None:
    hit = HIT[:times]

    def change(step: int, parts: Parts) -> None:
        if step in hit:
            parts[part] = parts.get(part, 0.0) + more

    def said(step: int) -> dict[str, Any]:
        time = beside(step, USUAL_MS + more if step in hit else USUAL_MS)
        return {} if time is None else {semconv.STEP_TRACING_TIME: time / 1e3}

    findings = diagnose(make_run(change=change, attributes=said)).findings
    assert "tracing" not in {finding.rule for finding in findings}
    slow = [finding for finding in findings if finding.rule == "slow-step"]
    assert [finding.steps for finding in slow] == [hit]
    assert not any("exported" in finding.sentence for finding in slow)


@pytest.mark.parametrize("since", [35, 50, 70])
def test_exports_that_begin_late_are_no_drift(since: int) -> None:
    """Steps beside exports say nothing of the run's course, though they are the most from some step on."""

    def hit(step: int) -> bool:
        return step >= since and step % 10 < 7

    def change(step: int, parts: Parts) -> None:
        for part in parts:
            parts[part] *= 4 if hit(step) else 1

    run = make_run(
        change=change,
        attributes=lambda step: {semconv.STEP_TRACING_TIME: 0.09} if hit(step) else {},
    )
    assert [finding.rule for finding in diagnose(run).findings] == ["tracing"]
