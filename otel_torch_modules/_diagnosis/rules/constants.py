"""Rules about what every step costs: its usual time in a phase, or in one module."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from math import ceil

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.device_times import ToldBy
from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.places import BETWEEN, BETWEEN_SPANS
from otel_torch_modules._diagnosis.rules.excess import ALIKE
from otel_torch_modules._diagnosis.rules.recurrence import recurrence
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.words import ms, ordinal, percent
from otel_torch_modules._grammar import first_of

DATA_SHARE = 0.1  # of the time of all steps
DATA_STEPS = 0.1  # of the steps wait: what is rarer is a slow step, or a period
OPTIMIZER_SHARE = 0.2  # of the usual step
RECOMPUTE_SHARE = 0.1
LOOP_SHARE = 0.1
MODULE_SHARE = 0.5  # a module that is repeated nowhere
LEAST_STEPS = 3  # with modules: what one of fewer says of a module may be its own


def data(run: Run) -> Iterator[Finding]:
    """The loop waits for data. Threshold: `DATA_SHARE` of their time, and `DATA_STEPS` of them wait.

    What a few of them wait beyond what is usual says nothing of the loader: these are left out.
    """
    waits, known = run.steady.phase(semconv.PHASE_DATA), run.steady.numbers
    told = [at for at in range(len(waits)) if waits_as_usual(run, at)]
    time = sum(waits[at] for at in told)
    share = time / max(sum(run.steady.ms[at] for at in told), 1e-9)
    limit = DATA_SHARE * run.usual_ms
    waiting = [known[at] for at in told if waits[at] > limit]
    if share >= DATA_SHARE and _often_reached(run) > limit:
        where = f", in {len(waiting)} of {len(waits)} steps"
        period = recurrence(waiting, known)
        if len(waiting) > 0.9 * len(waits):
            where = ""
        elif period is not None:
            where += f", every {ordinal(period.every)} ({first_of(waiting)})"
        cost = time / len(told)
        yield Finding(
            "data",
            f"Training waits for data for {percent(share)} of its steps' time, {ms(cost)} a step{where}: "
            "the loader is slower than the model.",
            cost,
            run.share_of_each(cost),
            place=semconv.DATA_WAIT,
            phase=semconv.PHASE_DATA,
        )


def waits_as_usual(run: Run, at: int) -> bool:
    """Return whether that steady step waits for data no longer than many do: else it is a slow step."""
    wait = run.steady.phase(semconv.PHASE_DATA)[at]
    return wait <= max(ALIKE * _often_reached(run), DATA_SHARE * run.usual_ms)


@lru_cache(maxsize=8)
def _often_reached(run: Run) -> float:
    """Return how long `DATA_STEPS` of the steady steps wait at least."""
    waits = run.steady.phase(semconv.PHASE_DATA)
    return sorted(waits, reverse=True)[max(ceil(DATA_STEPS * len(waits)), 1) - 1]


def optimizer(run: Run) -> Iterator[Finding]:
    """The optimizer takes long. Threshold: `OPTIMIZER_SHARE` of the usual step."""
    yield from _phase_share(
        run,
        "optimizer",
        semconv.PHASE_OPTIMIZER,
        OPTIMIZER_SHARE,
        "The optimizer takes {share} of a step, {ms}, most of it in {place}.",
    )


def recompute(run: Run) -> Iterator[Finding]:
    """Activation checkpointing has its price. Threshold: `RECOMPUTE_SHARE` of the usual step."""
    whole = run.usual_phases.get(semconv.PHASE_RECOMPUTE, 0.0)
    roots = _recomputed_blocks(run)
    each = f"{ms(whole / roots)} for each of {roots} calls" if roots > 1 else ms(whole)
    yield from _phase_share(
        run,
        "recompute",
        semconv.PHASE_RECOMPUTE,
        RECOMPUTE_SHARE,
        f"Recompute takes {{share}} of a step, {each}: the price of the memory that checkpointing saves.",
    )


def _recomputed_blocks(run: Run) -> int:
    """Return how many calls the usual step computes once more, those below them not counted."""
    steps = run.steady.usual_steps.steps
    step = steps[len(steps) // 2]
    sites, parents = step.shape.sites, step.shape.parents
    return sum(
        sites[at].phase == semconv.PHASE_RECOMPUTE
        and sites[parents[at]].phase != semconv.PHASE_RECOMPUTE
        for at in range(step.at + 1, step.shape.after[step.at])
    )


def _phase_share(
    run: Run, rule: str, phase: str, threshold: float, sentence: str
) -> Iterator[Finding]:
    time = run.usual_phases.get(phase, 0.0)
    share = time / run.usual_whole_ms
    if share >= threshold:
        places = run.usual_own_in(phase)
        most = max(places, key=lambda place: places[place])
        said = sentence.format(share=percent(share), ms=ms(time), place=most.name)
        yield Finding(rule, said, time, run.share_of_each(time), place=most.name, phase=phase)


def loop(run: Run) -> Iterator[Finding]:
    """The loop's own calls take long, and spans of the program's own. Threshold: `LOOP_SHARE` of the usual step."""
    places = {
        place: own
        for place, own in run.usual_own.items()
        if place.phase == semconv.PHASE_LOOP or (place.phase == BETWEEN and place != BETWEEN_SPANS)
    }
    time = sum(places.values())
    share = time / run.usual_whole_ms
    if share >= LOOP_SHARE:
        most = max(places, key=lambda place: places[place])
        yield Finding(
            "loop",
            f"What the loop itself does outside the phases takes {percent(share)} of a step, {ms(time)}, most of it "
            f"in {most.name}.",
            time,
            run.share_of_each(time),
            place=most.name,
            phase=most.phase,
        )


def module(run: Run) -> Iterator[Finding]:
    """One module that is repeated nowhere leads. Threshold: its own time is `MODULE_SHARE` of the usual step.

    A model of which no module is recorded is no news: what it takes of its own is what all of them take.
    """
    times: defaultdict[str, float] = defaultdict(float)
    if run.main.told_by is ToldBy.DEVICE or len(run.steady.usual_steps) < LEAST_STEPS:
        return
    nested = _nested(run)
    for place, own in run.usual_own.items():
        if place.name in nested and place.name == place.pattern:
            times[place.name] += own
    for name, time in times.items():
        share = time / run.usual_whole_ms
        if share >= MODULE_SHARE:
            phase = max(
                (place for place in run.usual_own if place.name == name),
                key=lambda place: run.usual_own[place],
            ).phase
            yield Finding(
                "module",
                f"{name} alone takes {percent(share)} of a step, {ms(time)} of its own.",
                time,
                run.share_of_each(time),
                place=name,
                phase=phase,
            )


def _nested(run: Run) -> set[str]:
    """Return the modules that lie in others, and those that others lie in."""
    found: set[str] = set()
    for shape, first in {(step.shape, step.at) for step in run.steady.usual_steps.steps}:
        sites, parents = shape.sites, shape.parents
        for at in range(first + 1, shape.after[first]):
            inner, outer = sites[at].fqn, sites[parents[at]].fqn
            if inner is not None and outer is not None and inner != outer:
                found |= {inner, outer}
    return found
