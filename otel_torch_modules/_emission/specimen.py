"""A span whose ids and times occur nowhere else: encoded once, it shows what lies between them in all spans like it."""

from __future__ import annotations

import os

from otel_torch_modules._assembly.layout import Prototype
from otel_torch_modules._assembly.span import Span, Trace


class Specimen:
    """One span that is like others.

    Args:
        like: what it has in common with them.
        has_parent: whether it hangs below another span.
    """

    def __init__(self, like: Prototype, *, has_parent: bool = True) -> None:
        self.trace_id, span_id, parent_id, start, end = map(os.urandom, (16, 8, 8, 8, 8))
        trace = Trace(int.from_bytes(self.trace_id, "big"), 0, 0, None, None)
        self.parent: Span | None = None
        if has_parent:
            self.parent = Span(trace, None, "", "", 0, 1, 1, {})
            self.parent.span_id = int.from_bytes(parent_id, "big")
        self.span = Span(
            trace,
            self.parent,
            like.name,
            like.phase,
            like.kind,
            int.from_bytes(start, "little"),
            int.from_bytes(end, "little"),
            like.attributes,
        )
        self.span.span_id = int.from_bytes(span_id, "big")
        self.varies = [self.trace_id, span_id, *([parent_id] if has_parent else []), start, end]
        """The ids and times as they are written, in this order."""

    @property
    def root(self) -> Span:
        """The span without a parent."""
        return self.span if self.parent is None else self.parent

    def add_link(self) -> None:
        """Link the span to another one of its trace."""
        link_id = os.urandom(8)
        self.span.link = Span(self.span.trace, None, "", "", 0, 1, 1, {})
        self.span.link.span_id = int.from_bytes(link_id, "big")
        self.varies += self.trace_id, link_id
