"""Rules about the time between the steps: evaluations, spans of the program's own, and what lies in no span."""

from __future__ import annotations

from collections.abc import Iterator

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.outside import kind_of, own_time
from otel_torch_modules._diagnosis.places import BETWEEN, BETWEEN_SPANS
from otel_torch_modules._diagnosis.rules.excess import ALIKE
from otel_torch_modules._diagnosis.rules.late_ranks import straggler
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.series import MS, gaps, usual
from otel_torch_modules._diagnosis.words import ms, percent
from otel_torch_modules._grammar import first_of

EVALUATION_SHARE = 0.1  # of the run's time
PROGRAM_SHARE = 0.1
PAUSES_SHARE = 0.1
BETWEEN_SHARE = 0.1  # of the usual step and the time to the next


def evaluation(run: Run) -> Iterator[Finding]:
    """Forward passes outside the steps take much of the run. Threshold: `EVALUATION_SHARE` of its time."""
    spans = run.outside_in(semconv.PHASE_EVALUATE)
    time = run.ms_outside(spans)
    cost, share = run.cost(time)
    if share >= EVALUATION_SHARE:
        times = [own_time(span) / MS for span in spans]
        longest = max(times)
        most = f", the longest {ms(longest)}" if longest > ALIKE * usual(times) else ""
        yield Finding(
            "evaluation",
            f"Evaluations, forward passes outside the steps, take {ms(time)} in all, {percent(share)} of the time: "
            f"{len(spans)} of them, usually {ms(usual(times))}{most}.",
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


def between(run: Run) -> Iterator[Finding]:
    """Time that lies in no span, in steps or between them. Threshold: `BETWEEN_SHARE` of a step with its gap."""
    inside = run.usual_own.get(BETWEEN_SPANS, 0.0)
    after = _usual_gap(run)
    share = (inside + after) / (run.usual_whole_ms + after)
    if share >= BETWEEN_SHARE:
        where = "in the steps" if inside >= after else "between the steps"
        yield Finding(
            "between",
            f"{ms(inside + after)} a step, {percent(share)}, lie in no span, most of it {where}: the loop's own "
            "code (logging, moving data, reading a loss back).",
            inside + after,
            run.cost(inside * len(run.main) + after * (len(run.main) - 1))[1],
            place=where,
            phase=BETWEEN,
        )


def _usual_gap(run: Run) -> float:
    """Return how long it usually is to the next step, in no span.

    Where the ranks wait for one that is late, they may do so there: the loop's own is then what the shortest has.
    """
    of_ranks = run.ranks if any(straggler(run)) else [run.steady]
    return min(usual([gap for _, gap in run.gaps_in_no_span(series)]) for series in of_ranks)


def pauses(run: Run) -> Iterator[Finding]:
    """Long times between steps lie in no span. Threshold: `PAUSES_SHARE` of the run's, beyond what is usual."""
    series = run.main
    usually = usual([gap for _, gap in gaps(series)])
    left = {
        series.numbers[at]: gap - usually
        for at, gap in run.gaps_in_no_span(series)
        if gap - usually > run.usual_ms
    }
    time = sum(left.values())
    cost, share = run.cost(time)
    if share >= PAUSES_SHARE:
        yield Finding(
            "between",
            f"{ms(time)} in all, {percent(share)} of the time, lie between steps in no span, after {len(left)} of the "
            f"steps ({first_of([*left])}).",
            cost,
            share,
            tuple(left),
            place="between the steps",
            phase=BETWEEN,
        )
