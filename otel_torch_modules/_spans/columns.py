"""A tree as columns of numbers: what is the same in every step stays in its layout."""

from __future__ import annotations

from itertools import pairwise

from otel_torch_modules._assembly.repeating.layout import Layout
from otel_torch_modules._spans.span import Span


class SpanColumns:
    """The tree of one record.

    Args:
        layout: all but times and ids.
        heads: its first spans, as of this record.
        starts: perf_counter_ns, for each span of the layout.
        ends: the same.
    """

    __slots__ = ("between", "ends", "heads", "layout", "span_ids", "starts")

    def __init__(
        self, layout: Layout, heads: list[Span], starts: list[int], ends: list[int]
    ) -> None:
        self.layout = layout
        self.heads = heads
        self.starts = starts
        self.ends = ends
        self.between: list[Span] = []
        """The long stretches between its phases: they come and go from record to record."""
        self.span_ids: list[int] | None = None
        """Of each span of the layout, once it is sent."""

    @property
    def root(self) -> Span:
        """The root span."""
        return self.heads[0]

    def tree(self) -> Span:
        """Return the root of the same tree made of spans."""
        layout = self.layout
        trace = self.root.trace
        spans = [*self.heads]
        for above, below in pairwise(spans):
            above.children = [below]
        for place in range(len(spans), len(layout.spans)):
            like = layout.spans[place]
            span = Span(
                trace,
                spans[layout.parents[place]],
                like.name,
                like.phase,
                like.kind,
                self.starts[place],
                self.ends[place],
                like.attributes,
            )
            spans.append(span)
        for place, linked in layout.links.items():
            spans[place].link = spans[linked]
        if self.between:
            top = self.heads[-1]
            top.children = sorted([*top.children, *self.between], key=_times)
        return self.root

    def release(self) -> None:
        """Let go of what `tree` made: see :meth:`Span.release`."""
        self.root.release()


def _times(span: Span) -> tuple[int, int]:
    return span.start, span.end
