"""Rules about how steps change in the course of a run: warm-up, drift."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import fmean, median

from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.neighbours import noise_of, rolling_median
from otel_torch_modules._diagnosis.places import TimedPlace, guilty
from otel_torch_modules._diagnosis.rules.tracing import steps_beside_no_export
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.series import Series
from otel_torch_modules._diagnosis.steps_made import steps_made
from otel_torch_modules._diagnosis.words import digits, ms, percent

WARM_UP_SHARE = 0.1  # of the run's time
COMPILED = 0.1  # of the warm-up: less is not said
DRIFT = 1.1  # times: the last third of the steps against the first
LEAST_STEPS = 18
_PARTS = 6
_ENOUGH = 10  # steps: of fewer the first is always much


def warm_up(run: Run) -> Iterator[Finding]:
    """The first steps cost much of the run. Threshold: `WARM_UP_SHARE` of its time, beyond what they usually take."""
    first = run.main.ms[: run.warm_up]
    lost = sum(first) - run.usual_ms * len(first)
    made = steps_made(run.main).made  # of those that nobody recorded none is a first one
    whole = run.total_ms + run.usual_ms * (made - len(run.main))
    cost, share = lost / made, min(lost / max(whole, 1e-9), 1.0)
    if share >= WARM_UP_SHARE and len(run.main) >= _ENOUGH:
        steps = run.main.numbers[: run.warm_up]
        said = f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]} to {steps[-1]}"
        which = "Warm-up" if steps[0] == 0 else "What was recorded first"
        compiled = sum(run.main.phase("compile")[: run.warm_up])
        of_it = f", {ms(compiled)} of it compiling" if compiled >= COMPILED * sum(first) else ""
        yield Finding(
            "warm-up",
            f"{which}, {said}, costs {percent(share)} of this run, {ms(sum(first))} in all{of_it}.",
            cost,
            share,
            tuple(steps),
        )


def drift(run: Run) -> Iterator[Finding]:
    """Steps become slower. Threshold: the median of the last third is `DRIFT` times that of the first.

    Steps that an export made slower say nothing of it, where enough others are left.
    """
    series, baseline, noise = run.steady, run.baseline, run.noise
    alone: Sequence[int] = range(len(series))
    fewer = steps_beside_no_export(run)
    if LEAST_STEPS <= len(fewer) < len(series):
        alone = fewer
        series = series.select(alone)
        baseline = rolling_median(series.ms)
        noise = noise_of(a - b for a, b in zip(series.ms, baseline, strict=True))
    count = len(series)
    if count < LEAST_STEPS:
        return
    edges = [part * count // _PARTS for part in range(_PARTS + 1)]
    parts = [median(series.ms[a:b]) for a, b in pairwise(edges)]
    first, last = series.ms[: count // 3], series.ms[-(count // 3) :]
    before, after = median(first), median(last)
    # Every part of the end is slower than any of the beginning, by more than the noise makes them differ.
    if min(parts[-2:]) <= max(parts[:2]) or after < max(DRIFT * before, before + 2 * noise):
        return
    cost = fmean(max(time - before, 0.0) for time in baseline)
    since = _since(baseline)
    place = _where(series, count // 3)
    where = f", most of it {place.whereabouts}" if place else ""
    when = (
        f"Since step {run.called(alone[since])} steps take {ms(after - before)} more"
        if since is not None
        else f"Steps become slower, by {ms(after - before)} from the first third to the last"
    )
    yield Finding(
        "drift",
        f"{when} ({digits(before)} → {digits(after)} ms, +{percent(after / before - 1)}){where}.",
        cost,
        run.share_of_each(cost),
        () if since is None else (series.numbers[since],),
        place=place.name if place else None,
        phase=place.phase if place else None,
    )


def _since(values: Sequence[float]) -> int | None:
    """Return where the values jump; None where they rather climb."""
    count = len(values)
    sums, squares = [0.0], [0.0]
    for value in values:
        sums.append(sums[-1] + value)
        squares.append(squares[-1] + value * value)

    def error(a: int, b: int) -> float:
        return squares[b] - squares[a] - (sums[b] - sums[a]) ** 2 / (b - a)

    jump = min(range(3, count - 3), key=lambda at: error(0, at) + error(at, count))
    middle = (count - 1) / 2
    slope = sum((at - middle) * value for at, value in enumerate(values)) / sum(
        (at - middle) ** 2 for at in range(count)
    )
    climbing = error(0, count) - slope**2 * sum((at - middle) ** 2 for at in range(count))
    return jump if error(0, jump) + error(jump, count) < climbing / 2 else None


def _where(series: Series, third: int) -> TimedPlace | None:
    """Return the place, or equal ones, that became slower most, if it is more than a third of all."""
    equals: defaultdict[TimedPlace, dict[TimedPlace, float]] = defaultdict(dict)
    for place, column in series.own.items():
        equals[place.starred][place] = median(column[-third:]) - median(column[:third])
    more = {starred: sum(of_place.values()) for starred, of_place in equals.items()}
    most = max(more, key=lambda starred: more[starred])
    return guilty(equals[most]) if more[most] > sum(map(abs, more.values())) / 3 else None
