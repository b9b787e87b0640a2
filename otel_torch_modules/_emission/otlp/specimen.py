"""A span whose ids and times occur nowhere else: encoded once, it shows what lies between them in all spans like it."""

from __future__ import annotations

import os

from otel_torch_modules._emission.otlp.language import Language
from otel_torch_modules._spans.layout import Prototype
from otel_torch_modules._spans.span import Span, Trace


class Specimen:
    """One span that is like others.

    Args:
        like: what it has in common with them.
        has_parent: whether it hangs below another span.
    """

    def __init__(self, like: Prototype, *, has_parent: bool = True) -> None:
        trace_id, span_id, parent_id, start, end = map(os.urandom, (16, 8, 8, 8, 8))
        trace = Trace(int.from_bytes(trace_id, "big"), 0, 0, None, None)
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

    @property
    def root(self) -> Span:
        """The span without a parent."""
        return self.span if self.parent is None else self.parent

    def add_link(self) -> None:
        """Link the span to another one of its trace."""
        self.span.link = Span(self.span.trace, None, "", "", 0, 1, 1, {})
        self.span.link.span_id = int.from_bytes(os.urandom(8), "big")

    def varies(self, language: Language) -> list[bytes]:
        """Return the ids and times as they are written, in this order."""
        span = self.span
        ids = [found.span_id for found in (span, self.parent) if found is not None]
        trace_id = language.trace_id(span.trace.trace_id)
        written = [trace_id, *language.span_ids(ids), *language.times([span.start, span.end])]
        if span.link is not None:
            written += trace_id, *language.span_ids([span.link.span_id])
        return written
