"""Rules about some steps that take longer than their neighbours: now and then, or at a period.

What a slow step lost is looked for place by place, against what is usual there; steps that lost it in the same place
are one finding.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.places import TimedPlace
from otel_torch_modules._diagnosis.rules.ranks import last_of
from otel_torch_modules._diagnosis.rules.tracing import is_by_export
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.series import MS, usual
from otel_torch_modules._diagnosis.words import digits, ms, numbers

SLOW = 1.3  # times what is usual for its neighbours
NOISES = 5.0  # and so many times the noise above it
PERIODIC = 1.05  # times: what comes back at a period is told apart from noise earlier
LEAST_TIMES = 4  # a period is what came back as often
FITTING = 0.7  # of the slow steps are at the period, and of its steps are slow
IN_ONE_PLACE = 0.35  # of what a step lost: below that it was slower in many places at once
CAUSES = ("compile", "gc", "checkpoint")  # phases with rules of their own


class Excess(NamedTuple):
    """What a step lost."""

    at: int  # its number among the steady steps
    ms: float
    place: TimedPlace | None  # where most of it was lost; None: in many places at once
    share: float  # of it, there
    usual: float  # ms there, of steps that have as much as it: their modules, or phases only
    rank: int | None = None  # that lost it, where the others only waited for that one

    @property
    def kind(self) -> tuple[TimedPlace | None, int | None]:
        """What steps have in common that are one finding."""
        return self.place and self.place.starred, self.rank


def slow_step(run: Run) -> Iterator[Finding]:
    """Some steps are slow, at no period. Threshold: `SLOW` times their neighbours, and `NOISES` times the noise."""
    periodic = {at for group in _periods(run) for at in group.found}
    groups: defaultdict[tuple[TimedPlace | None, int | None], list[Excess]] = defaultdict(list)
    for excess in excesses(run, SLOW):
        if excess.at not in periodic and not has_own_rule(run, excess):
            groups[excess.kind].append(excess)
    for (place, _), lost in groups.items():
        yield _finding(run, "slow-step", place, lost, _sentence(run, place, lost))


def period(run: Run) -> Iterator[Finding]:
    """Steps are slow at a period. Threshold: `LEAST_TIMES` times, and `FITTING` of them fit."""
    for group in _periods(run):
        lost = group.lost
        place = _place_of(lost)
        steps = [run.steady.numbers[excess.at] for excess in lost]
        where = f" in {place.said}" if place else ", in many places at once"
        sentence = f"Every {_ordinal(group.every)} step ({numbers(steps)}) takes {ms(_mean(lost))} more{where}."
        yield _finding(run, "period", place, lost, sentence)


class _Period(NamedTuple):
    every: int
    lost: list[Excess]

    @property
    def found(self) -> set[int]:
        return {excess.at for excess in self.lost}


@lru_cache(maxsize=8)
def excesses(run: Run, threshold: float) -> tuple[Excess, ...]:
    """Return what steps lost that took more than `threshold` times their neighbours' time."""
    found = []
    for at, (time, base) in enumerate(zip(run.steady.ms, run.baseline, strict=True)):
        if time > max(threshold * base, base + NOISES * run.noise):
            found.append(_excess(run, at, time - base))
    return tuple(found)


def _excess(run: Run, at: int, lost: float) -> Excess:
    return _waited(run, at, lost) or _own_excess(run, at, lost)


def _waited(run: Run, at: int, lost: float) -> Excess | None:
    """Return what another rank lost, if that is what this one waited for."""
    last = last_of(run, run.steady.steps[at], run.steady.numbers[at])
    if last is None or last.where is None or last.rank == run.steady.rank:
        return None
    share = last.lost / MS / max(lost, 1e-9)
    series = next(series for series in run.ranks if series.rank == last.rank)
    name = last.where.text(semconv.MODULE_FQN) or last.where.name
    place = next((one for one in series.own if (one.phase, one.name) == (last.phase, name)), None)
    if place is None or share < IN_ONE_PLACE:
        return None
    return Excess(at, lost, place, min(share, 1.0), usual(series.own[place]), last.rank)


def _own_excess(run: Run, at: int, lost: float) -> Excess:
    usual_own = run.usual_own if run.steady.in_full[at] else run.usual_own_of_phases
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


def has_own_rule(run: Run, excess: Excess) -> bool:
    """Return whether another rule tells why that step was slow."""
    if is_by_export(run, excess.at, excess.ms):
        return True
    phase = excess.place.phase if excess.place else None
    if phase == semconv.PHASE_DATA:
        from otel_torch_modules._diagnosis.rules.constants import data

        return any(data(run))
    return phase in CAUSES


@lru_cache(maxsize=8)
def _periods(run: Run) -> tuple[_Period, ...]:
    hits = [excess for excess in excesses(run, PERIODIC) if not has_own_rule(run, excess)]
    found = _period_of(run, hits)
    if found is None:  # what is slow in one place may be periodic though other steps are slow too
        groups: defaultdict[TimedPlace | None, list[Excess]] = defaultdict(list)
        for excess in hits:
            groups[excess.place and excess.place.starred].append(excess)
        found_in = [_period_of(run, hits) for hits in groups.values()]
        return tuple([period for period in found_in if period is not None])
    return (found,)


def _period_of(run: Run, hits: Sequence[Excess]) -> _Period | None:
    steps = [run.steady.numbers[excess.at] for excess in hits]
    if len(steps) < LEAST_TIMES:
        return None
    known = set(run.steady.numbers)
    distances = Counter(after - before for before, after in pairwise(steps))
    for every, _ in distances.most_common(3):
        if every < 2:
            continue
        rest, times = Counter(step % every for step in steps).most_common(1)[0]
        at_period = sum(step % every == rest for step in known)
        if (
            times >= max(LEAST_TIMES, FITTING * len(steps), FITTING * at_period)
            and at_period < len(known) / 2 + 1
        ):
            fitting = [hit for hit, step in zip(hits, steps, strict=True) if step % every == rest]
            return _Period(every, fitting)
    return None


def _place_of(lost: Sequence[Excess]) -> TimedPlace | None:
    counts = Counter(excess.place and excess.place.starred for excess in lost)
    place, times = counts.most_common(1)[0]
    return place if times > len(lost) / 2 else None


def _finding(
    run: Run, rule: str, place: TimedPlace | None, lost: Sequence[Excess], sentence: str
) -> Finding:
    cost, share = run.cost(sum(excess.ms for excess in lost))
    steps = tuple([run.steady.numbers[excess.at] for excess in lost])
    exact = {excess.place for excess in lost if excess.place}
    if len(exact) == 1:
        (place,) = exact
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


def _sentence(run: Run, place: TimedPlace | None, lost: Sequence[Excess]) -> str:
    steps = [run.steady.numbers[excess.at] for excess in lost]
    if len(lost) == 1:
        (excess,) = lost
        time, base = run.steady.ms[excess.at], run.baseline[excess.at]
        where = (
            f"{ms(excess.share * excess.ms)} of it more in {excess.place.said} (usually "
            f"{digits(excess.usual)}){_on_rank(excess)}"
            if excess.place
            else "in many places at once"
        )
        return f"Step {steps[0]} took {ms(time)}, {digits(time / base)} × the usual {digits(base)}: {where}."
    where = (
        f"in {place.said}{_on_rank(lost[0])}"
        if place
        else "in many places at once, as on a busy host"
    )
    return f"{len(lost)} steps ({numbers(steps)}) took {ms(_mean(lost))} more each, {where}."


def _on_rank(excess: Excess) -> str:
    return "" if excess.rank is None else f" on rank {excess.rank}; the others waited for it"


def _mean(lost: Sequence[Excess]) -> float:
    return sum(excess.ms for excess in lost) / len(lost)


def _ordinal(number: int) -> str:
    """Return the word for a place in an order.

    Example:
        >>> [_ordinal(number) for number in (2, 3, 10, 11, 21, 112)]
        ['2nd', '3rd', '10th', '11th', '21st', '112th']
    """
    ends = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ends.get(number % 10, 'th')}"
