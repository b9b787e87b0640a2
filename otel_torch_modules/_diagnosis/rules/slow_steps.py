"""The rule about steps that take longer than their neighbours at no period.

Steps that lost their time in the same place, and for the same cause as far as the trace says one, are one finding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.places import BEFORE_STEP, TimedPlace
from otel_torch_modules._diagnosis.rules.excess import (
    ALIKE,
    SLOW,
    Excess,
    excesses,
    finding_of,
    mean_ms,
    on_rank,
    part_there,
    place_of,
)
from otel_torch_modules._diagnosis.rules.explained import because, cause, has_own_rule
from otel_torch_modules._diagnosis.rules.host import put_aside
from otel_torch_modules._diagnosis.rules.late_ranks import is_late_as_usual
from otel_torch_modules._diagnosis.rules.periods import is_periodic
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.words import digits, ms
from otel_torch_modules._grammar import first_of

_Kind = tuple[TimedPlace | None, int | None, str | None]  # place, rank, cause


def slow_step(run: Run) -> Iterator[Finding]:
    """Some steps are slow, at no period. Threshold: `SLOW` times their neighbours, and `NOISES` times the noise."""
    starved = any(put_aside(run))
    groups: defaultdict[_Kind, list[Excess]] = defaultdict(list)
    for excess in excesses(run, SLOW):
        why = cause(run, excess)
        told = (
            has_own_rule(run, excess)
            or is_periodic(run, excess)
            or is_late_as_usual(run, excess)
            or (why == "host" and starved)
        )
        if not told:
            groups[excess.place and excess.place.starred, excess.rank, why].append(excess)
    for lost in groups.values():
        place = place_of(lost)
        yield finding_of(run, "slow-step", place, lost, _sentence(run, place, lost))


def _sentence(run: Run, place: TimedPlace | None, lost: Sequence[Excess]) -> str:
    steps = [run.steady.numbers[excess.at] for excess in lost]
    if len(lost) == 1:
        (excess,) = lost
        time, base = run.steady.ms[excess.at], run.baseline[excess.at]
        where = (
            f"{ms(excess.ms_there)} of it more {excess.place.whereabouts}{_usually(excess)}{on_rank(lost)}"
            if excess.place
            else "in many places at once"
        ) + because(run, excess)
        step = f"Step {run.called(excess.at)}"
        return f"{step} took {ms(time)}, {digits(time / base)} × the usual {digits(base)}: {where}."
    where = "in many places at once"
    if place:
        where = f"{part_there(lost, place)}{place.whereabouts}{on_rank(lost)}"
    where += because(run, lost[0]) or ("" if place else ", as on a busy host")
    return f"{len(lost)} steps ({first_of(steps)}) took {_how_much(run, lost)}, {where}."


def _how_much(run: Run, lost: Sequence[Excess]) -> str:
    least, most = (pick(lost, key=lambda excess: excess.ms) for pick in (min, max))
    if most.ms <= ALIKE * least.ms:
        return f"{ms(mean_ms(lost))} more each"
    return f"{ms(least.ms)} to {ms(most.ms)} more, step {run.called(most.at)} most"


def _usually(excess: Excess) -> str:
    """Return what is usual there, but for what no step has own time of."""
    return "" if excess.place == BEFORE_STEP else f" (usually {digits(excess.usual)})"
