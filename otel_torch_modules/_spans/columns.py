"""A tree as columns of numbers and values: what is the same in every step stays in its layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Any

from otel_torch_modules._events import Varying
from otel_torch_modules._spans.layout import Layout
from otel_torch_modules._spans.span import Happening, Span, in_time

INSIDE = -1
"""No place: see `SpanColumns.passing`."""


class SpanColumns:
    """The tree of one record.

    Args:
        layout: all but times and ids.
        heads: its first spans, as of this record.
        starts: perf_counter_ns, for each span of the layout.
        ends: the same.
    """

    __slots__ = (
        "between",
        "ends",
        "heads",
        "lane",
        "layout",
        "passing",
        "points",
        "span_ids",
        "starts",
        "values",
    )

    def __init__(
        self, layout: Layout, heads: list[Span], starts: list[int], ends: list[int]
    ) -> None:
        self.layout = layout
        self.heads = heads
        self.starts = starts
        self.ends = ends
        self.values: dict[Varying, list[Any]] = {}
        """What differs from record to record, for each span of the layout; None where it has no such value."""
        self.points: dict[int, list[Happening]] = {}
        """The events of spans that have any, by the span's place."""
        self.between: list[Span] = []
        """The long stretches between its phases: they come and go from record to record."""
        self.passing: list[tuple[int, Span]] = []
        """What comes and goes inside its phases, or beside them: the place of the span of the layout that each is
        below, `INSIDE` where it is below another of these."""
        self.lane: Span | None = None
        """Where its phases ran on the device, where that is known."""
        self.span_ids: list[int] | None = None
        """Of each span of the layout, once it is sent."""

    @property
    def root(self) -> Span:
        """The root span."""
        return self.heads[0]

    def tree(self) -> Span:
        """Return the root of the same tree made of spans."""
        layout = self.layout
        spans = [*self.heads]
        for above, below in pairwise(spans):
            above.children = [below]
        for place in range(len(spans), len(layout.spans)):
            span = self._span(place)
            span.parent = spans[layout.parents[place]]
            span.parent.adopt(span)
            spans.append(span)
        for place, linked in layout.links.items():
            spans[place].link = spans[linked]
        if self.between:
            top = self.heads[-1]
            top.children = sorted([*top.children, *self.between], key=in_time)
        for place, span in self.passing:
            parent = span.parent if place == INSIDE else spans[place]
            assert parent is not None
            span.parent = parent
            parent.children = sorted([*parent.children, span], key=in_time)
        if self.lane is not None:
            self.heads[-1].adopt(self.lane)
        return self.root

    def _span(self, place: int) -> Span:
        like = self.layout.spans[place]
        start, end = self.starts[place], self.ends[place]
        span = Span(
            self.root.trace, None, like.name, like.phase, like.kind, start, end, like.attributes
        )
        span.keys, span.values = like.keys, self.values_at(place)
        span.points = self.points.get(place)
        return span

    def values_at(self, place: int) -> tuple[Any, ...]:
        """Return the values of the span there."""
        columns = {**self.layout.values, **self.values}
        return tuple([columns[key][place] for key in self.layout.spans[place].keys])

    def spans_apart(self, span_ids: list[int]) -> list[Span]:
        """Return the spans that are encoded one by one, without the tree around them.

        Args:
            span_ids: of all spans of the layout.
        """
        layout = self.layout
        spans = []
        for place in layout.apart:
            span = self._span(place)
            span.span_id = span_ids[place]
            parent = layout.parents[place]
            is_head = parent < len(self.heads)
            span.parent = self.heads[parent] if is_head else self._stub(span_ids[parent])
            linked = layout.links.get(place)
            if linked is not None:
                span.link = self._stub(span_ids[linked])
            spans.append(span)
        for place, span in self.passing:
            if place != INSIDE:
                is_head = place < len(self.heads)
                span.parent = self.heads[place] if is_head else self._stub(span_ids[place])
            spans.append(span)
        return spans

    def _stub(self, span_id: int) -> Span:
        """Return what stands for a span where another one points at it."""
        stub = Span(self.root.trace, None, "", "", 0, 0, 0, {})
        stub.span_id = span_id
        return stub

    @property
    def derived(self) -> list[Span]:
        """What follows from the times of its phases: the stretches between them, and the device's lane."""
        return self.between if self.lane is None else [*self.between, *self.lane.walk()]

    @property
    def beside_phases(self) -> list[Span]:
        """Those of `passing` that lie right below the heads."""
        top = len(self.heads) - 1
        return [span for place, span in self.passing if place == top]

    @property
    def unlaid(self) -> list[Span]:
        """The spans that no layout knows of."""
        return [*self.derived, *[span for _, span in self.passing]]

    def take_ids(self, spans: Sequence[Span]) -> None:
        """Keep the ids that were given to the spans of `tree`, in its order."""
        unlaid = set(map(id, self.unlaid))
        self.span_ids = [span.span_id for span in spans if id(span) not in unlaid]

    def release(self) -> None:
        """Let go of what `tree` made: see :meth:`Span.release`."""
        self.root.release()
        if self.lane is not None:
            self.lane.release()


def pick(places: list[int]) -> Callable[[Any], tuple[Any, ...]]:
    """Return what takes the entries at `places` out of a list."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda entries: tuple([entries[place] for place in places])
