"""The rule about steps that are slow at a period."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from statistics import median
from typing import NamedTuple

from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.places import TimedPlace
from otel_torch_modules._diagnosis.rules.excess import (
    ALIKE,
    Excess,
    excesses,
    finding_of,
    mean_ms,
    of_longer_kind,
    on_rank,
    part_there,
    place_of,
)
from otel_torch_modules._diagnosis.rules.explained import has_own_rule
from otel_torch_modules._diagnosis.rules.recurrence import FITTING, recurrence
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.words import digits, ms, ordinal
from otel_torch_modules._grammar import first_of

PERIODIC = 1.05  # times: what comes back at a period is told apart from noise earlier


def period(run: Run) -> Iterator[Finding]:
    """Steps are slow at a period. Threshold: `LEAST_TIMES` times, and `FITTING` of them fit."""
    for group in _periods(run):
        yield _finding(run, group.lost, f"Every {ordinal(group.every)} step")
    lost = _in_turn(run)
    if lost:
        kinds = run.steady.in_turn
        assert kinds is not None
        times = f"{digits(kinds.longer_ms)} and {ms(kinds.shorter_ms)}"
        yield _finding(run, lost, f"There are two kinds of steps in turn, {times}: every 2nd step")


def _finding(run: Run, lost: Sequence[Excess], which: str) -> Finding:
    place = place_of(lost)
    steps = [run.steady.numbers[excess.at] for excess in lost]
    where = ", in many places at once"
    if place:
        part = part_there(lost, place)
        where = f"{', ' if part else ' '}{part}{place.whereabouts}{on_rank(lost)}"
    sentence = f"{which} ({first_of(steps)}) takes {ms(mean_ms(lost))} more{where}."
    return finding_of(run, "period", place, lost, sentence)


def is_periodic(run: Run, excess: Excess) -> bool:
    """Return whether that step is slow at a period, and told of so."""
    return any(excess.at == one.at for group in _periods(run) for one in group.lost)


@lru_cache(maxsize=8)
def periodic(run: Run) -> frozenset[int]:
    """Return the numbers, among the steady steps, of those that are told of as slow at a period."""
    groups = [*(group.lost for group in _periods(run)), _in_turn(run)]
    return frozenset(excess.at for lost in groups for excess in lost)


@lru_cache(maxsize=8)
def _in_turn(run: Run) -> Sequence[Excess]:
    """Return what every second step takes more; nothing where a rule of its own tells of most of them."""
    longer = of_longer_kind(run)
    lost = [excess for excess in longer if not has_own_rule(run, excess)]
    return lost if len(lost) >= FITTING * len(longer) else ()


class _Period(NamedTuple):
    every: int
    lost: list[Excess]


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
    found = recurrence(steps, run.steady.numbers)
    if found is None:
        return None
    fitting = [hit for hit, step in zip(hits, steps, strict=True) if found.has(step)]
    most = ALIKE * median(hit.ms for hit in fitting)  # what one lost beyond that is its own
    return _Period(found.every, [hit for hit in fitting if hit.ms <= most])
