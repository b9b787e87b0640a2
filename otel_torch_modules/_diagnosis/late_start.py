"""Where a rank that began a step late lost its time: in the step before, after the last place where all ranks met.

Steps touch each other, so what a rank does after that, an optimizer that is slow there alone, is what it comes late by.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.rank_trees import (
    Compared,
    RankTree,
    in_own_span,
    meetings,
    more_than_others,
    own_times,
)
from otel_torch_modules._trace import Span


class LostAtEnd(NamedTuple):
    """A span of the step before, and by how many ns more than the other ranks' it went on after they had met."""

    where: Span
    lost: int


def lost_at_end(ranks: Sequence[RankTree], rank: int) -> LostAtEnd | None:
    """Return where that one of the ranks of a step lost most, after they had met; None where nothing says so.

    Where no meeting was recorded, backward is one: ranks wait there for the last gradients.
    """
    numbers = [one.span.rank for one in ranks]
    if rank not in numbers or len(ranks) < 2:
        return None
    trees = [one.tree for one in ranks]
    common = set(trees[0]).intersection(*trees)
    met = meetings(trees, common) or [
        place
        for place in common
        if len(place) == 1 and trees[0][place].span.phase == semconv.PHASE_BACKWARD
    ]
    if not met:
        return None
    rests = []
    for tree in trees:
        since = max(tree[place].end for place in met)
        rests.append(
            {
                place: Compared(span, max(start, since), max(end, since))
                for place, (span, start, end) in tree.items()
            }
        )
    own = [own_times(rest, common) for rest in rests]
    number = numbers.index(rank)
    excess = {place: more_than_others(own, number, place) for place in common}
    where = max(excess, key=lambda place: (excess[place], place))
    found = in_own_span(rests[number], common, where, excess[where]) or trees[number][where]
    return LostAtEnd(found.span, round(excess[where]))


def with_those_before(
    steps: Sequence[Sequence[Span]],
) -> Iterator[tuple[Sequence[Span], Sequence[Span]]]:
    """Yield the ranks of each step, in order of time, with those of the step before it, as far as that is there."""
    by_number: dict[int, Sequence[Span]] = {}  # a job that was started again has some twice
    for ranks in sorted(steps, key=lambda ranks: ranks[0].start):
        number = ranks[0].step
        yield ranks, () if number is None else by_number.get(number - 1, ())
        if number is not None:
            by_number[number] = ranks
