"""In which span each span lies, and from when to when, so that every instant of a step is one span's own.

What the program opens in a step with `start_as_current_span` is sent beside ours, below the same parent, though it may
enclose them, and the spans of what lies between the phases know nothing of it. So here ours lie in the program's that
enclose them, the program's end with what they lie in, and between the phases lies what is in no span of the program's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._trace import Span


class NestedSpans(NamedTuple):
    """A span and all below it, in their order. Times are Unix ns, parents numbers in that order; the first has -1."""

    starts: Sequence[int]
    ends: Sequence[int]
    parents: Sequence[int]

    @property
    def children(self) -> list[list[int]]:
        """The numbers of the spans right in each, in the order in which they began."""
        children: list[list[int]] = [[] for _ in self.parents]
        for at in range(1, len(self.parents)):
            children[self.parents[at]].append(at)
        for below in children:
            below.sort(key=self.starts.__getitem__)
        return children


def nesting(root: Span) -> NestedSpans:
    """Return how a span and those below it lie in each other."""
    shape, first = root.shape, root.at
    last = shape.after[first]
    starts, ends = root.trace.starts[first:last], root.trace.ends[first:last]
    parents = [parent - first for parent in shape.parents[first:last]]
    parents[0] = -1
    known = NestedSpans(starts, ends, parents)
    of_program: dict[int, list[int]] = {}  # by what they lie in
    for at in [at - first for at in shape.of_program if first < at < last]:
        above = parents[at]
        starts[at] = min(max(starts[at], starts[above]), ends[above])
        ends[at] = max(min(ends[at], ends[above]), starts[at])
        of_program.setdefault(above, []).append(at)
    if not of_program:
        return known
    for at in range(1, last - first):
        phase, beside = shape.sites[first + at].phase, of_program.get(parents[at], ())
        if phase == semconv.PHASE_BETWEEN:
            for one in beside:
                if _encloses(known, at, one):
                    parents[one] = at
                elif starts[one] <= starts[at]:
                    starts[at] = min(max(ends[one], starts[at]), ends[at])
                else:
                    ends[at] = min(ends[at], starts[one])
        elif phase is not None:
            while around := [one for one in beside if _encloses(known, one, at)]:
                parents[at] = around[0]
                beside = of_program.get(around[0], ())
    return known


def _encloses(known: NestedSpans, outer: int, inner: int) -> bool:
    return (
        known.starts[outer] <= known.starts[inner]
        and known.ends[inner] <= known.ends[outer]
        and known.starts[outer] < known.ends[outer]
    )
