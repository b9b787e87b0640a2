"""Rules about the time between the steps: evaluations, spans of the program's own, and what lies in no span."""

from __future__ import annotations

from collections.abc import Iterator

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.outside import kind_of, length, own_time
from otel_torch_modules._diagnosis.places import BETWEEN
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.series import MS, gaps, usual
from otel_torch_modules._diagnosis.words import ms, numbers, percent

EVALUATION_SHARE = 0.1  # of the run's time
PROGRAM_SHARE = 0.1
PAUSES_SHARE = 0.1


def evaluation(run: Run) -> Iterator[Finding]:
    """Forward passes outside the steps take much of the run. Threshold: `EVALUATION_SHARE` of its time."""
    spans = run.outside_in(semconv.PHASE_EVALUATE)
    time = run.ms_outside(spans)
    cost, share = run.cost(time)
    if share >= EVALUATION_SHARE:
        each = usual([own_time(span) / MS for span in spans])
        yield Finding(
            "evaluation",
            f"Evaluations, forward passes outside the steps, take {ms(time)} in all, {percent(share)} of the time: "
            f"{len(spans)} of them, usually {ms(each)}.",
            cost,
            share,
            phase=semconv.PHASE_EVALUATE,
        )


def program(run: Run) -> Iterator[Finding]:
    """A span of the program's own takes much of the run, between the steps. Threshold: `PROGRAM_SHARE` of its time."""
    names = {kind_of(span) for span in run.outside_of_main if span.phase is None}
    for name in sorted(name for name in names if name is not None):
        time = run.ms_outside(run.outside_in(name))
        cost, share = run.cost(time)
        if share >= PROGRAM_SHARE:
            yield Finding(
                "loop",
                f"{name}, a span of the program's own, takes {ms(time)} in all between the steps, {percent(share)} of "
                "the time.",
                cost,
                share,
                place=name,
            )


def pauses(run: Run) -> Iterator[Finding]:
    """Long times between steps lie in no span. Threshold: `PAUSES_SHARE` of the run's, beyond what is usual."""
    series = run.main
    between = list(gaps(series))
    usually = usual([gap for _, gap in between])
    others = [(span.start, span.end) for span in run.outside_of_main]
    left: dict[int, float] = {}  # by step
    for at, gap in between:
        since, until = series.ends[at], series.starts[at + 1]
        over = length([(max(start, since), min(end, until)) for start, end in others]) / MS
        if gap - over - usually > run.usual_ms:
            left[series.numbers[at]] = gap - over - usually
    time = sum(left.values())
    cost, share = run.cost(time)
    if share >= PAUSES_SHARE:
        yield Finding(
            "between",
            f"{ms(time)} in all, {percent(share)} of the time, lie between steps in no span, after {len(left)} of the "
            f"steps ({numbers([*left])}).",
            cost,
            share,
            tuple(left),
            place="between the steps",
            phase=BETWEEN,
        )
