"""Whether a large part of a model was compiled as one, so that a span stands for many modules."""

from __future__ import annotations

from typing import Final

from otel_torch_modules import semconv
from otel_torch_modules._trace import Span

# Fewer are a block, which is what one compiles to see the others.
_MANY: Final = 8


def compiled_as_one(root: Span) -> str | None:
    """Return in a sentence which module below `root` hides the most, and what to do; None where none hides many.

    Not so repeated blocks, which are compiled one by one, nor what graph breaks let see.
    """
    counts = {
        span.site.fqn: span.number(semconv.COMPILED_MODULES) or 0
        for span in root.walk()
        if span.phase == semconv.PHASE_FORWARD
        and not any(part.isdecimal() for part in (span.site.fqn or "").split("."))
        and not any(child.site.fqn for child in span.children)
    }
    fqn = max(counts, key=counts.__getitem__, default=None)
    if fqn is None or counts[fqn] < _MANY:
        return None
    return f"{fqn} is compiled: one span for {counts[fqn]} modules; compile its blocks one by one to see them."
