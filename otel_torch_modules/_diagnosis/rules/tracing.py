"""The rule about what tracing itself costs: in every step, and in those that an export overlaps with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from math import sqrt
from statistics import median
from typing import NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.series import usual
from otel_torch_modules._diagnosis.words import ms, numbers, percent

SPAN_MS = 0.0055  # what a span costs, all threads: docs/cost.md
TRACING_SHARE = 0.05  # of the usual step
EXPORT_SHARE = 0.01  # of the run's time
LEAST_STEPS = 4  # of each kind, to be compared
SURE = 4.0  # times the error that noise leaves in what is compared
EXPLAINED = (
    0.5  # of what they take more, at least, is as long as the export: else it has another reason
)


def tracing(run: Run) -> Iterator[Finding]:
    """Tracing itself costs too much in every step. Threshold: `TRACING_SHARE`, at `SPAN_MS` a span."""
    spans = usual(run.steady.spans)
    cost = spans * SPAN_MS
    share = cost / max(run.usual_ms, 1e-9)
    if share >= TRACING_SHARE and run.usual_ms > 0:
        yield Finding(
            "tracing",
            f"Tracing costs about {percent(share)} of a step here, {ms(cost)} for {spans:.0f} spans: set "
            "OTEL_TORCH_MODULES_MAX_DEPTH or OTEL_TORCH_MODULES_MAX_OVERHEAD.",
            cost,
            share,
        )


def export(run: Run) -> Iterator[Finding]:
    """Steps that an export overlaps with take longer. Threshold: `EXPORT_SHARE` of the time, and beyond the noise."""
    slowed = _slowed(run)
    if slowed is None:
        return
    cost, share = run.cost(slowed.more * len(slowed.beside))
    steps = tuple([run.steady.numbers[at] for at in slowed.beside])
    yield Finding(
        "tracing",
        f"{len(steps)} steps ({numbers(steps)}) take {ms(slowed.more)} more each than the others: earlier steps were "
        f"assembled and exported meanwhile, for {ms(median(slowed.beside.values()))}. "
        "OTEL_TORCH_MODULES_MAX_DEPTH or OTEL_TORCH_MODULES_KEEP leaves less to export.",
        cost,
        share,
        steps,
    )


def is_by_export(run: Run, at: int, more: float) -> bool:
    """Return whether `export` tells why the steady step with that number took so many ms more."""
    slowed = _slowed(run)
    return slowed is not None and slowed.beside.get(at, 0.0) >= EXPLAINED * more


class _Slowed(NamedTuple):
    """Steps that take longer because spans were exported meanwhile."""

    more: float  # ms, the median
    beside: Mapping[
        int, float
    ]  # by their number among the steady steps: ms for which the export went on


@lru_cache(maxsize=8)
def _slowed(run: Run) -> _Slowed | None:
    """Return the steps that an export overlaps with, if they take longer than the others.

    A long step is more likely to meet an export, whatever it is long for. So what steps take more counts only if the
    export went on for about as long.
    """
    series = run.steady
    times = [(value or 0.0) * 1e3 for value in series.attribute(semconv.STEP_TRACING_TIME)]
    away = [time - base for time, base in zip(series.ms, run.baseline, strict=True)]
    beside = {at: time for at, time in enumerate(times) if time > 0}
    alone = [away[at] for at, time in enumerate(times) if not time > 0]
    if min(len(beside), len(alone)) < LEAST_STEPS:
        return None
    more = median(away[at] for at in beside) - median(alone)
    noise = 1.4826 * median(abs(time - median(alone)) for time in alone)
    error = noise * sqrt(1 / len(beside) + 1 / len(alone))
    if more <= SURE * error or median(beside.values()) < EXPLAINED * more:
        return None
    _, share = run.cost(more * len(beside))
    return _Slowed(more, beside) if share >= EXPORT_SHARE else None
