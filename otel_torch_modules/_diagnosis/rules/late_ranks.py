"""The rule about a rank that the others wait for, always or now and then.

How late such a rank usually is says what it costs. A step in which it was much later is a slow step, and one that is
slow at a period, or for a cause that has a rule of its own, is told of there.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from functools import lru_cache
from statistics import median
from typing import NamedTuple

from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.rules.excess import ALIKE, SLOW, Excess, excesses
from otel_torch_modules._diagnosis.rules.explained import has_own_rule
from otel_torch_modules._diagnosis.rules.periods import periodic
from otel_torch_modules._diagnosis.rules.ranks import last_of, stragglers
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.series import MS
from otel_torch_modules._diagnosis.straggler import Straggler
from otel_torch_modules._diagnosis.words import ms, percent

BEHIND = 0.05  # of the usual step: less is nobody's fault
ALWAYS = 0.6  # of the steps
COST = 0.02  # of the run's time
LEAST_TIMES = 3  # what happened less often are slow steps


class _Late(NamedTuple):
    """When a rank was last, and each time about as late as usual."""

    usually: float  # ms
    always: bool
    found: list[tuple[int, Straggler]]
    cost: float  # ms a step
    share: float  # of the time


def straggler(run: Run) -> Iterator[Finding]:
    """One rank is last, always or now and then. Threshold: by `BEHIND` of a step, at a `COST` of the time."""
    for rank, late in _late(run).items():
        lost: Counter[str] = Counter()  # by place
        for _, last in late.found:
            lost[last.place] += last.lost
        place, _ = lost.most_common(1)[0]
        of_place = next(last for _, last in late.found if last.place == place)
        often = (
            "is last in nearly every step"
            if late.always
            else f"is last now and then, in {len(late.found)} of {len(stragglers(run))} steps"
        )
        yield Finding(
            "straggler",
            f"Rank {rank} {often}, by {ms(late.usually)}; it loses them {of_place.whereabouts}. All ranks wait "
            f"for it: {percent(late.share)} of the time.",
            late.cost,
            late.share,
            tuple([number for number, _ in late.found]),
            rank,
            place,
            of_place.phase,
        )


def is_late_as_usual(run: Run, excess: Excess) -> bool:
    """Return whether that step was slow because a rank was last by as much as the rule tells of it."""
    last = last_of(run, run.steady.steps[excess.at], run.steady.numbers[excess.at])
    late = None if last is None else _late(run).get(last.rank)
    if last is None or late is None or late.always:  # what it always loses, its neighbours lose too
        return False
    return last.behind / MS <= ALIKE * late.usually


@lru_cache(maxsize=8)
def _late(run: Run) -> Mapping[int, _Late]:
    """Return the ranks that are late often and by enough."""
    looked_at = stragglers(run)
    if not looked_at:
        return {}
    numbers = run.steady.numbers
    slow = {numbers[one.at]: one for one in excesses(run, SLOW)}
    told = {numbers[at] for at in periodic(run)}
    told |= {number for number, one in slow.items() if has_own_rule(run, one)}
    # Who is late for some of the ranks at the end of a step is so in the next one for the others.
    lost = {last.where for _, last in looked_at if last.is_in_step}
    of_rank: defaultdict[int, list[tuple[int, Straggler]]] = defaultdict(list)
    for number, last in looked_at:
        if last.is_before and last.where in lost:
            continue
        if last.behind / MS >= BEHIND * run.usual_ms and number not in told:
            of_rank[last.rank].append((number, last))
    late: dict[int, _Late] = {}
    for rank, behind in of_rank.items():
        usually = median(last.behind for _, last in behind) / MS
        always = len(behind) >= ALWAYS * len(looked_at)
        found = [
            (number, last)
            for number, last in behind
            if last.behind / MS <= ALIKE * usually and not (always and number in slow)
        ]
        cost = sum(last.behind for _, last in found) / MS / len(looked_at)
        share = run.share_of_each(cost)
        if len(found) >= LEAST_TIMES and share >= COST:
            late[rank] = _Late(usually, always, found, cost, share)
    return late
