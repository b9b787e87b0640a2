"""What slow steps lost, and where: looked for place by place, against what is usual there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.places import BEFORE_STEP, TimedPlace, guilty
from otel_torch_modules._diagnosis.rules.ranks import last_of
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.series import MS, usual
from otel_torch_modules._diagnosis.words import ms

SLOW = 1.3  # times what is usual for its neighbours
NOISES = 5.0  # and so many times the noise above it
IN_ONE_PLACE = 0.35  # of what a step lost: below that it was slower in many places at once
ALL = 0.9  # of it: a place that has so much needs no number of its own
ALIKE = 3.0  # times what others lose usually: a step that loses more is told of by itself
CAUSES = (semconv.PHASE_COMPILE, semconv.PHASE_GC, semconv.PHASE_CHECKPOINT, semconv.PHASE_DATA)
"""Phases that say why a step is slow, each named as the rule about it."""


class Excess(NamedTuple):
    """What a step lost."""

    at: int  # its number among the steady steps
    ms: float
    place: TimedPlace | None  # where most of it was lost; None: in many places at once
    share: float  # of it, there
    usual: float  # ms there, of steps that have as much as it: their modules, or phases only
    rank: int | None = None  # that lost it, where the others only waited for that one
    is_before: bool = False  # it did so at the end of the step before

    @property
    def ms_there(self) -> float:
        """What it lost in its place."""
        return self.share * self.ms


def names_its_cause(excess: Excess) -> bool:
    """Return whether where most was lost says why."""
    return excess.place is not None and excess.place.phase in CAUSES


@lru_cache(maxsize=8)
def excesses(run: Run, threshold: float) -> tuple[Excess, ...]:
    """Return what steps lost that took more than `threshold` times their neighbours' time."""
    found = []
    for at, (time, base) in enumerate(zip(run.steady.ms, run.baseline, strict=True)):
        if time > max(threshold * base, base + NOISES * run.noise):
            found.append(_excess(run, at, time - base))
    return tuple(found)


@lru_cache(maxsize=8)
def of_longer_kind(run: Run) -> tuple[Excess, ...]:
    """Return what steps of the longer of two kinds take more than those of the other one."""
    kinds = run.steady.in_turn
    if kinds is None:
        return ()
    usual_own = run.usual_own_of_shorter
    more = ((at, run.baseline[at] - kinds.shorter_ms) for at in kinds.longer)
    return tuple([_waited(run, at, lost) or _beyond(run, at, lost, usual_own) for at, lost in more])


def _excess(run: Run, at: int, lost: float) -> Excess:
    return _waited(run, at, lost) or _own_excess(run, at, lost)


def _waited(run: Run, at: int, lost: float) -> Excess | None:
    """Return what another rank lost, if that is what this one waited for."""
    last = last_of(run, run.steady.steps[at], run.steady.numbers[at])
    if last is None or last.rank == run.steady.rank:
        return None
    share = last.lost / MS / max(lost, 1e-9)
    if share < IN_ONE_PLACE:
        return None
    series = next(series for series in run.ranks if series.rank == last.rank)
    place = BEFORE_STEP if last.where is None else series.place_of(last.where)
    before = usual(series.own.get(place, ()))
    return Excess(at, lost, place, min(share, 1.0), before, last.rank, last.is_before)


def _own_excess(run: Run, at: int, lost: float) -> Excess:
    return _beyond(run, at, lost, run.usual_own_like(at))


def _beyond(run: Run, at: int, lost: float, usual_own: Mapping[TimedPlace, float]) -> Excess:
    more = {
        place: column[at] - usual_own[place]
        for place, column in run.steady.own.items()
        if column[at] > usual_own[place]
    }
    place = max(more, key=lambda place: more[place], default=None)
    share = more[place] / max(lost, 1e-9) if place else 0.0
    if place is None or share < IN_ONE_PLACE:
        return Excess(at, lost, None, min(share, 1.0), 0.0)
    return Excess(at, lost, place, min(share, 1.0), usual_own[place])


def finding_of(
    run: Run, rule: str, place: TimedPlace | None, lost: Sequence[Excess], sentence: str
) -> Finding:
    """Return what a rule says of steps, by what they lost."""
    cost, share = run.cost(sum(excess.ms for excess in lost))
    steps = tuple([run.steady.numbers[excess.at] for excess in lost])
    ranks = {excess.rank for excess in lost}
    late = ranks.pop() if len(ranks) == 1 else None
    return Finding(
        rule,
        sentence,
        cost,
        share,
        steps,
        run.main.rank if late is None else late,
        place.name if place else None,
        place.phase if place else None,
    )


def place_of(lost: Sequence[Excess]) -> TimedPlace | None:
    """Return where most of some steps lost their time: in one place, or in equal ones; None where they did in none."""
    starred, times = Counter(excess.place and excess.place.starred for excess in lost).most_common(
        1
    )[0]
    if starred is None or times <= len(lost) / 2:
        return None
    return guilty(
        Counter(excess.place for excess in lost if excess.place and excess.place.starred == starred)
    )


def mean_ms(lost: Sequence[Excess]) -> float:
    """Return what each of some steps lost on average."""
    return sum(excess.ms for excess in lost) / len(lost)


def part_there(lost: Sequence[Excess], place: TimedPlace) -> str:
    """Return how much of what steps lost on average was lost in a place, before its name; nothing if it was all."""
    there = [
        excess for excess in lost if excess.place and place in (excess.place, excess.place.starred)
    ]
    mean = sum(excess.ms_there for excess in there) / len(lost)
    return "" if mean >= ALL * mean_ms(lost) else f"{ms(mean)} of it "


def on_rank(lost: Sequence[Excess]) -> str:
    """Return on which other rank steps lost their time, as it ends a place; nothing if on several, or on this one."""
    (rank, *others) = {excess.rank for excess in lost}
    if rank is None or others:
        return ""
    earlier = " at the end of the step before" if all(one.is_before for one in lost) else ""
    return f" on rank {rank}{earlier}; the others waited for it"
