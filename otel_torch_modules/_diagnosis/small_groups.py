"""Collectives that some of the ranks meet in: who waits there for one that is late comes late itself to the others.

What a rank is late by for that is not its own, but that of the rank it waited for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.covered import Covered
from otel_torch_modules._diagnosis.rank_trees import Compared, Place, is_meeting
from otel_torch_modules._trace import Span

Trees = Sequence[Mapping[Place, Compared]]
_Met = dict[tuple[Place, str | None, int], list[tuple[int, Span]]]
"""Which of the ranks have such a collective, by its place, its group's name and size."""


class GroupWaits:
    """For how long each of some ranks waited for others, in collectives that not all of them meet in.

    Args:
        trees: of the ranks, in one step.
        met: where all of them met.
        tails: for how long each had waited in the step before, since all met there.
    """

    def __init__(self, trees: Trees, met: Sequence[Place], tails: Sequence[int] = ()) -> None:
        self._together = [sorted(tree[place].end for place in met) for tree in trees]
        self._tails = tails or [0] * len(trees)
        of_rank: list[list[tuple[int, int]]] = [[] for _ in trees]
        for waiting in _met(trees).values():
            # An exchange takes as long as for the last one to come. Of one that is alone nothing is known.
            exchange = min(span.duration for _, span in waiting) if len(waiting) > 1 else 0
            for number, span in waiting:
                of_rank[number].append((span.start, span.end - exchange))
        self._of_rank = [Covered(waits) for waits in of_rank]

    def before(self, number: int, time: int) -> int:
        """Return for how many ns the rank with that number here had waited by a time, since all were together."""
        last = bisect_right(self._together[number], time)
        waits = self._of_rank[number]
        if not last:
            return waits.until(time) + self._tails[number]
        return waits.until(time) - waits.until(self._together[number][last - 1])


def met_groups(trees: Trees) -> set[tuple[int, ...]]:
    """Return which of some ranks, by their numbers here, have met without the others, where all of a group are known.

    Groups may have a name in common, as those along one dimension of a mesh have: of these nobody says who is in which.
    """
    return {
        tuple([number for number, _ in met])
        for (_, _, size), met in _met(trees).items()
        if len(met) == size > 1
    }


def less_waits(times: Sequence[int], waited: Sequence[int]) -> list[int]:
    """Return when ranks would have come, had they not waited for one another: none before the first that came."""
    first = min(times)
    return [max(time - less, first) for time, less in zip(times, waited, strict=True)]


def _met(trees: Trees) -> _Met:
    found: _Met = defaultdict(list)
    for number, tree in enumerate(trees):
        for place, compared in tree.items():
            span = compared.span
            if not is_meeting(span):
                continue
            size = span.number(semconv.COLLECTIVE_GROUP_SIZE) or 0
            if size < len(trees):
                key = place, span.text(semconv.COLLECTIVE_GROUP), size
                found[key].append((number, span))
    return found
