"""The rule about what tracing itself costs: in every step, and in those that an export overlaps with."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import sqrt
from statistics import median

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.neighbours import noise_of, rolling_median
from otel_torch_modules._diagnosis.rules.excess import CAUSES, SLOW, excesses, names_its_cause
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.series import usual
from otel_torch_modules._diagnosis.words import ms, percent
from otel_torch_modules._grammar import first_of

SPAN_MS = 0.01  # what a span costs, all threads: docs/cost.md
TRACING_SHARE = 0.05  # of the usual step
EXPORT_SHARE = 0.01  # of the run's time
LEAST_STEPS = 4  # of each kind, to be compared as such
SURE = 4.0  # times the error that noise leaves in what is compared
EXPLAINED = 0.5  # of what a step takes more, at least, is by the export: else it has another reason


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
            run.share_of_each(cost),
        )


def export(run: Run) -> Iterator[Finding]:
    """Steps take longer because earlier ones are exported meanwhile. Threshold: `EXPORT_SHARE` of the time.

    Told of all steps beside an export where these take more than the others, beyond the noise; else of those that are
    slow, be it one.
    """
    times = _tracing_times(run)
    all_beside = _all_beside(run)
    if all_beside is not None:
        slower = {at: all_beside for at, time in enumerate(times) if time > 0}
    else:
        slower = {
            one.at: one.ms
            for one in excesses(run, SLOW)
            if not names_its_cause(one) and is_by_export(run, one.at, one.ms)
        }
    # An export costs no more than it lasts: of what they take more the rest has another reason.
    cost, share = run.cost(sum(min(more, times[at]) for at, more in slower.items()))
    if not slower or share < EXPORT_SHARE:
        return
    more, exported = usual([*slower.values()]), usual([times[at] for at in slower])
    steps = tuple([run.steady.numbers[at] for at in slower])
    which = (
        f"{len(steps)} steps ({first_of(steps)}) take"
        if len(steps) > 1
        else f"Step {run.called(next(iter(slower)))} took"
    )
    each = " each" if len(steps) > 1 else ""
    yield Finding(
        "tracing",
        f"{which} {ms(more)} more{each} than the others: earlier steps were assembled and exported meanwhile, for "
        f"{ms(exported)}. OTEL_TORCH_MODULES_MAX_DEPTH or OTEL_TORCH_MODULES_KEEP leaves less "
        "to export.",
        cost,
        share,
        steps,
    )


def is_by_export(run: Run, at: int, more: float) -> bool:
    """Return whether the steady step with that number took so many ms more because of an export.

    A step that is long for another reason meets exports too, and one whose exporter is always at work is never without.
    So it counts as far as an export makes steps longer in this run.
    """
    return _tracing_times(run)[at] * _price(run) >= EXPLAINED * more


def steps_beside_no_export(run: Run) -> Sequence[int]:
    """Return the steady steps that no export has made slower: all of them where exports slow none."""
    slowed = any(export(run))
    return [at for at, time in enumerate(_tracing_times(run)) if not (slowed and time > 0)]


@lru_cache(maxsize=8)
def _price(run: Run) -> float:
    """Return by how many ms a step is usually longer for each ms of an export beside it: at most 1."""
    beside = [time for time in _tracing_times(run) if time > 0]
    usual_time = usual(beside)
    # The median, by the time of exports: short ones tell little, and one is long where its step is.
    prices = sorted(
        (more / time, min(time, usual_time))
        for more, time in zip(_away(run), _tracing_times(run), strict=True)
        if time > 0
    )
    half = sum(weight for _, weight in prices) / 2
    for price, weight in prices:
        half -= weight
        if half <= 0:
            return min(price, 1.0)
    return 0.0


@lru_cache(maxsize=8)
def _all_beside(run: Run) -> float | None:
    """Return by how many ms steps beside an export are longer than the others; None where noise may be why."""
    times, away = _tracing_times(run), _away(run)
    beside = [more for more, time in zip(away, times, strict=True) if time > 0]
    alone = [more for more, time in zip(away, times, strict=True) if not time > 0]
    if min(len(beside), len(alone)) < LEAST_STEPS:
        return None
    more = median(beside)
    error = noise_of(alone) * sqrt(1 / len(beside) + 1 / len(alone))
    exported = median(time for time in times if time > 0)
    return more if more > SURE * error and exported >= EXPLAINED * more else None


@lru_cache(maxsize=8)
def _tracing_times(run: Run) -> Sequence[float]:
    """Return for how many ms earlier steps were exported beside each steady step.

    While garbage is collected all threads stand still, that one too.
    """
    times = run.steady.attribute(semconv.STEP_TRACING_TIME)
    collecting = run.steady.phase(semconv.PHASE_GC)
    return [
        max((time or 0.0) * 1e3 - still, 0.0) for time, still in zip(times, collecting, strict=True)
    ]


@lru_cache(maxsize=8)
def _away(run: Run) -> Sequence[float]:
    """Return by how many ms each steady step is longer than its neighbours that no export overlaps with.

    What has a cause of its own is left out.
    """
    times, took = _tracing_times(run), list(run.steady.ms)
    for phase in CAUSES:
        took = [whole - part for whole, part in zip(took, run.steady.phase(phase), strict=True)]
    alone = [at for at, time in enumerate(times) if not time > 0]
    if len(alone) < LEAST_STEPS:
        return [time - base for time, base in zip(took, rolling_median(took), strict=True)]
    baseline = rolling_median([took[at] for at in alone])
    nearest = (min(bisect_left(alone, at), len(alone) - 1) for at in range(len(took)))
    return [time - baseline[near] for time, near in zip(took, nearest, strict=True)]
