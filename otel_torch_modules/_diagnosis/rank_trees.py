"""A step of one rank as a tree whose places are those of the other ranks, so that they can be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._trace import Span

Place = tuple[tuple[str, int], ...]
"""Names from below the rank's span on, each with its number among equals."""

_MOST_OF = 0.5  # of what is lost, for a span to be where

_MEETINGS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "barrier")


class Compared(NamedTuple):
    """A span, and the times of it that are compared."""

    span: Span
    start: int
    end: int

    @property
    def duration(self) -> int:
        return self.end - self.start


class RankTree(NamedTuple):
    """A rank's span in a step, and what lies below it."""

    span: Span
    tree: Mapping[Place, Compared]

    @classmethod
    def of(cls, span: Span) -> RankTree:
        """Return the tree of a rank's span."""
        return cls(span, dict(_places(span)))


def _places(rank: Span) -> Iterator[tuple[Place, Compared]]:
    """Yield the spans of a rank, but for what only lies between the others."""
    stack: list[tuple[Place, Span]] = [((), rank)]
    while stack:
        place, span = stack.pop()
        yield place, Compared(span, span.start, span.end)
        equals: Counter[str] = Counter()
        for child in span.children:
            if child.phase == semconv.PHASE_BETWEEN:  # the rank's own time, or the program's span's
                continue
            name = _name(child)
            stack.append(((*place, (name, equals[name])), child))
            equals[name] += 1


def _name(span: Span) -> str:
    """Return what a span has in common with its equals on other ranks, of which some meet in groups too."""
    if span.phase != semconv.PHASE_COLLECTIVE:
        return span.name
    return f"{span.name} of {span.number(semconv.COLLECTIVE_GROUP_SIZE)}"


def own_times(tree: Mapping[Place, Compared], common: set[Place]) -> dict[Place, int]:
    """Return the own time of each of the places that are compared, without that in collectives of some ranks."""
    own = {place: tree[place].duration for place in common}
    for place, compared in tree.items():
        if place not in common and compared.span.phase != semconv.PHASE_COLLECTIVE:
            continue
        above = place[:-1]
        while place and above not in own:  # one of which the device says nothing
            above = above[:-1]
        if place:
            own[above] -= compared.duration
    return own


def in_own_span(
    tree: Mapping[Place, Compared], common: set[Place], place: Place, lost: float
) -> Compared | None:
    """Return the span right below `place`, of those that not all ranks have, which explains most of what is `lost`.

    None where none explains half of it: a collection of garbage on one rank alone is in its own time elsewhere.
    """
    own = [
        compared
        for inside, compared in tree.items()
        if inside
        and inside not in common
        and inside[:-1] == place
        and compared.span.phase != semconv.PHASE_COLLECTIVE  # a wait for others
    ]
    longest = max(own, key=lambda compared: compared.duration, default=None)
    return longest if longest is not None and longest.duration >= _MOST_OF * lost else None


def meetings(trees: Sequence[Mapping[Place, Compared]], common: set[Place]) -> list[Place]:
    """Return the places of collectives of all ranks that no one leaves before all have come."""
    return [
        place for place in common if all(_all_meet(tree[place].span, len(trees)) for tree in trees)
    ]


def _all_meet(span: Span, ranks: int) -> bool:
    return is_meeting(span) and span.number(semconv.COLLECTIVE_GROUP_SIZE) == ranks


def is_meeting(span: Span) -> bool:
    """Return whether it is a collective that no rank of its group leaves before all of that have come."""
    return (
        span.phase == semconv.PHASE_COLLECTIVE
        and span.name in _MEETINGS
        and span.flag(semconv.COLLECTIVE_COMPLETED)
    )


def more_than_others(own: Sequence[Mapping[Place, int]], number: int, place: Place) -> float:
    """Return by how much the own time of one tree in a place exceeds the median of the others'."""
    others = median(times[place] for other, times in enumerate(own) if other != number)
    return own[number][place] - others
