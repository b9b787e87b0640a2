"""How the spans of a tree lie to each other: where they do not in a record like the one read, it has to be read too.

Assembly stretches and sorts, and what it does depends on the times. Most often the log says that there is nothing to
do: where its times never fall, an event that comes later in it is no earlier. The other times are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import nan
from operator import le, lt
from typing import Any

from otel_torch_modules._assembly.repeating.moment import Moment
from otel_torch_modules._engine.pauses import pause_after
from otel_torch_modules._events import WIDTH
from otel_torch_modules._spans.columns import pick

_START, _END = range(2)

_Pairs = list[tuple[int, int]]
_Pick = Callable[[Any], tuple[Any, ...]]


class Nesting:
    """How those of a record lie that was read with moments.

    Args:
        spans: of its tree, the root first.
        length: of its log.
    """

    def __init__(self, spans: list[Any], length: int) -> None:
        places = {id(span): place for place, span in enumerate(spans)}
        below = [(places[id(span.parent)], place) for place, span in enumerate(spans) if place]
        beside = [
            (places[id(before)], places[id(after)])
            for span in spans
            for before, after in pairwise(span.children)
        ]
        starts = [_in_log(span.start, length) for span in spans]
        ends = [_in_log(span.end, length) for span in spans]
        inside = [(inner, above) for above, inner in below]
        self._in_any_case = _Compared(below, inside, beside)
        self._if_times_rise = _Compared(
            [(first, then) for first, then in below if not starts[first] <= starts[then]],
            [(first, then) for first, then in inside if not ends[first] <= ends[then]],
            [
                (first, then)
                for first, then in beside
                if not (starts[first] <= starts[then] and ends[first] <= ends[then])
            ],
        )

    def holds(self, slots: list[Any], starts: list[int], ends: list[int]) -> bool:
        """Return whether each span lies inside its parent, and comes after those that it followed in the record read.

        Args:
            slots: of the log, and after them the start and the end of the record.
            starts: of the spans.
            ends: of the spans.
        """
        times = [slots[-2], *slots[3:-2:WIDTH], slots[-1]]
        rising = sorted(times) == times
        pause_after(len(times))
        return (self._if_times_rise if rising else self._in_any_case).holds(starts, ends)


class _Compared:
    """Which spans are compared.

    Args:
        starts: a span and one that must not start before it.
        ends: a span and one that must not end before it.
        beside: a span and one that must start after it.
    """

    __slots__ = ("_comparisons",)

    def __init__(self, starts: _Pairs, ends: _Pairs, beside: _Pairs) -> None:
        of_what = (_START, le, starts), (_END, le, ends), (_START, lt, beside)
        # Most often there is nothing to compare where times rise.
        self._comparisons = [
            (of, compare, *_picks(pairs)) for of, compare, pairs in of_what if pairs
        ]

    def holds(self, starts: list[int], ends: list[int]) -> bool:
        """Return whether all are so."""
        for of, compare, first, then in self._comparisons:
            times = (starts, ends)[of]
            earlier = first(times)
            if not all(map(compare, earlier, then(times))):
                return False
            pause_after(len(earlier))
        return True


def _picks(pairs: _Pairs) -> tuple[_Pick, _Pick]:
    return pick([first for first, _ in pairs]), pick([then for _, then in pairs])


def _in_log(time: Moment, length: int) -> float:
    """Return where among the events that `time` stands; not a number, which nothing comes before, where it does not."""
    if time.taken:
        return nan
    (slot,) = time.added
    if slot == length:
        return -1  # the start of the record
    return slot if slot > length or slot % WIDTH == 3 else nan
