"""A tree but for its times and ids, and the trees of all records with the same pattern.

One record is read with :class:`Moment` for times, so that each span of its tree says which slots of the log its
times come from. For every record like it they are then looked up, a column at a time, instead of being found anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from operator import le, lt
from typing import Any, NamedTuple

from otel_torch_modules._assembly.repeating.moment import Moment
from otel_torch_modules._assembly.repeating.pattern import pick
from otel_torch_modules._records import DATA, WIDTH, Record
from otel_torch_modules._spans.span import Span

_Shift = tuple[int, int, int]  # a span, a slot to add, a slot to subtract


class Prototype(NamedTuple):
    """What one span has in all records."""

    name: str
    phase: str
    kind: int
    attributes: Mapping[str, Any]


class Layout:
    """What the trees of records with one pattern have in common.

    Args:
        spans: of the tree of one of them, the root first, with moments for times.
        heads: how many of the first of them belong to the process and not to the program: step and rank.
        truncated: whether module spans are missing.
    """

    def __init__(self, spans: list[Span], heads: int, truncated: bool) -> None:
        places = {id(span): place for place, span in enumerate(spans)}
        self.spans = [
            Prototype(span.name, span.phase, span.kind, span.attributes) for span in spans
        ]
        """What each span has; a step's own attributes are those of the record read."""
        self.heads = heads
        self.truncated = truncated
        self.parents = [0, *(places[id(span.parent)] for span in spans[1:])]
        """The place of each span's parent; the root's is its own."""
        self.links = {
            place: places[id(span.link)]
            for place, span in enumerate(spans)
            if span.link is not None
        }
        """The place of the span that each backward span is linked to."""
        self._starts = _Times([span.start for span in spans])
        self._ends = _Times([span.end for span in spans])
        self.phases = [
            place for place in range(heads, len(spans)) if self.parents[place] == heads - 1
        ]
        """The places of the spans right below the heads, in the order of their starts."""
        self._parents = pick(self.parents)
        neighbours = [
            (places[id(before)], places[id(after)])
            for span in spans
            for before, after in pairwise(span.children)
        ]
        self._before = pick([before for before, _ in neighbours])
        self._after = pick([after for _, after in neighbours])

    @classmethod
    def of(cls, root: Span, heads: int, truncated: bool) -> Layout | None:
        """Return the layout of a tree; None where it holds what other records may have otherwise."""
        spans = list(root.walk())
        known = set(map(id, spans))
        for span in spans:
            if span.error is not None or span.notes is not None:
                return None
            if span.link is not None and id(span.link) not in known:
                return None
        return cls(spans, heads, truncated)

    def times(self, record: Record) -> tuple[list[int], list[int]] | None:
        """Return the starts and the ends of all spans for `record`.

        None where a span does not lie inside its parent, or comes before one that it followed in the record read:
        assembly then stretches and sorts, and what it does depends on the times.
        """
        slots = [*record.log, record.start, record.end]
        starts, ends = self._starts.of(slots), self._ends.of(slots)
        if (
            all(map(le, self._parents(starts), starts))
            and all(map(le, ends, self._parents(ends)))
            and all(map(lt, self._before(starts), self._after(starts)))
        ):
            return starts, ends
        return None


class _Times:
    """Where a column of times comes from."""

    __slots__ = ("_pick", "_shifts")

    def __init__(self, moments: list[Any]) -> None:
        terms = [_terms(moment) for moment in moments]
        self._pick = pick([first for (first, *_), _ in terms])
        self._shifts: list[_Shift] = [
            (place, added, taken)
            for place, ((_, *more), less) in enumerate(terms)
            for added, taken in zip(more, less, strict=True)
        ]

    def of(self, slots: list[Any]) -> list[int]:
        """Return the column."""
        times = list(self._pick(slots))
        for place, added, taken in self._shifts:
            times[place] += slots[added] - slots[taken]
        return times


def _terms(moment: Moment) -> tuple[list[int], list[int]]:
    """Return the slots to add and to subtract, without those that are in both: one more to add than to subtract."""
    if not moment.taken:
        return list(moment.added), []
    added, taken = Counter(moment.added), Counter(moment.taken)
    return list((added - taken).elements()), list((taken - added).elements())


def with_moments(record: Record) -> Record:
    """Return a copy of `record` whose times are moments: the start and the end come after the slots of its log."""
    log = record.log.copy()
    length = len(log)
    log[3::WIDTH] = [Moment(log[slot], (slot,)) for slot in range(3, length, WIDTH)]
    for slot in range(0, length, WIDTH):
        if log[slot] is DATA:
            log[slot + 2] = Moment(log[slot + 2], (slot + 2,))
    return replace(
        record,
        log=log,
        start=Moment(record.start, (length,)),
        end=Moment(record.end, (length + 1,)),
    )
