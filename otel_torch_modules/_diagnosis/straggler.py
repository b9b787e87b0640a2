"""Which rank the others waited for in a step, and where it lost its time.

In a step that ends with an exchange of gradients all ranks end together, for the early ones wait for the late one. So
what counts is not how long a rank's step took, but how far behind the others it was at its worst. Spans of the
same place in the tree are compared, each rank with the median of the others; times are the hosts' own, so a rank of
a host whose clock is slow seems to be early. Where a rank fell behind is the span whose own time, without that of the
spans below it, exceeds the others' most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._trace import Span

_Place = tuple[
    tuple[str, int], ...
]  # names from below the rank's span on, each with its number among equals


class Straggler(NamedTuple):
    """The last rank of a step. Times are nanoseconds."""

    rank: int
    behind: int  # at its worst
    lost: int  # of that, in `where`
    where: Span | None  # None: the rank began the step late

    @property
    def place(self) -> str:
        """Where the time was lost: the phase and the module's full name, the span's name, or outside them all."""
        if self.where is None:
            return "before the step"
        if self.where.phase == semconv.PHASE_RANK:
            return "between its phases"
        fqn = self.where.text(semconv.MODULE_FQN)
        return self.where.name if fqn is None else f"{self.where.phase} {fqn}"

    @property
    def whereabouts(self) -> str:
        """The place, as it stands in a sentence."""
        is_span = self.where is not None and self.where.phase != semconv.PHASE_RANK
        return f"in {self.place}" if is_span else self.place

    @property
    def phase(self) -> str | None:
        """The phase of the span in which the time was lost; None outside them all."""
        is_span = self.where is not None and self.where.phase != semconv.PHASE_RANK
        return self.where.phase if self.where is not None and is_span else None

    @property
    def sentence(self) -> str:
        """All of it."""
        last = f"Rank {self.rank} was last, {self.behind / 1e6:.2f} ms behind"
        lost = self.lost / 1e6
        if self.where is None:
            return f"{last}: it began the step {lost:.2f} ms late."
        if abs(self.lost - self.behind) <= 0.1 * self.behind:  # it is told once
            return f"{last}: it lost them {self.whereabouts}."
        return f"{last}: it lost {lost:.2f} ms {self.whereabouts}."


def find_straggler(ranks: Sequence[Span]) -> Straggler:
    """Return the last of `ranks`, the rank spans of one step, at least two.

    Only places that all ranks have are compared: where some record phases only, phases are.
    """
    trees = [dict(_places(rank)) for rank in ranks]
    common = set(trees[0]).intersection(*trees)
    own = [_own_times(tree, common) for tree in trees]
    worst = {
        number: max((tree[place].end - _of_others(trees, number, place), place) for place in common)
        for number, tree in enumerate(trees)
    }
    number = max(worst, key=lambda number: worst[number][0])
    behind, place = worst[number]
    tree = trees[number]
    excess = {
        earlier: own[number][earlier] - _median(own, number, earlier)
        for earlier in common
        if tree[earlier].end <= tree[place].end or place[: len(earlier)] == earlier
    }
    where = max(excess, key=lambda earlier: (excess[earlier], earlier))
    started = ranks[number].start - round(
        median(rank.start for other, rank in enumerate(ranks) if other != number)
    )
    rank = ranks[number].rank
    assert rank is not None
    if started >= excess[where]:
        return Straggler(rank, behind, started, None)
    return Straggler(rank, behind, round(excess[where]), tree[where])


def _places(rank: Span) -> Iterator[tuple[_Place, Span]]:
    stack: list[tuple[_Place, Span]] = [((), rank)]
    while stack:
        place, span = stack.pop()
        yield place, span
        equals: Counter[str] = Counter()
        for child in span.children:
            stack.append(((*place, (child.name, equals[child.name])), child))
            equals[child.name] += 1


def _own_times(tree: Mapping[_Place, Span], common: set[_Place]) -> dict[_Place, int]:
    own = {place: tree[place].duration for place in common}
    for place in common:
        if place:
            own[place[:-1]] -= tree[place].duration
    return own


def _of_others(trees: Sequence[Mapping[_Place, Span]], number: int, place: _Place) -> int:
    return round(median(tree[place].end for other, tree in enumerate(trees) if other != number))


def _median(own: Sequence[Mapping[_Place, int]], number: int, place: _Place) -> float:
    return median(times[place] for other, times in enumerate(own) if other != number)
