"""Parents enclose their children, and children stand in the order in which they began."""

from __future__ import annotations

from otel_torch_modules._engine.pauses import slices
from otel_torch_modules._spans.span import Span, in_time

_SPANS_AT_ONCE = 4096  # about a millisecond


def enclose(root: Span) -> bool:
    """Stretch all spans below `root` to hold what is below them, and sort; return whether any was stretched."""
    stretched = False
    spans = list(root.walk())
    for last in slices(spans[::-1], _SPANS_AT_ONCE):
        for span in last:
            parent = span.parent
            if parent is not None:
                if span.start < parent.start:
                    parent.start = span.start
                    stretched = True
                if span.end > parent.end:
                    parent.end = span.end
                    stretched = True
    for first in slices(spans, _SPANS_AT_ONCE):
        for span in first:
            if len(span.children) > 1:
                span.children = sorted(span.children, key=in_time)
    return stretched
