"""What goes on beside its thread: it was launched below what was open there, and may outlast that."""

from __future__ import annotations

from typing import NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._assembly.exposed import Launched
from otel_torch_modules._assembly.reading.shown import span_of
from otel_torch_modules._assembly.reading.stacks import Stacks
from otel_torch_modules._assembly.settling import end_in
from otel_torch_modules._events import Detail, Stretch
from otel_torch_modules._spans.span import Span, Trace


class Beside(NamedTuple):
    """A stretch that is shown when all is known: below the innermost of what was open that has not ended before it."""

    event: Stretch
    thread: int
    above: Span  # the innermost
    begin: int
    end: int
    detail: Detail

    def show(self, trace: Trace, stacks: Stacks, top: Span) -> Launched:
        """Make its span and return it.

        Args:
            trace: of the record.
            stacks: know what spans say that lie below others.
            top: what holds all.
        """
        above, end = self.above, self.end
        while above is not top:
            end = end_in(self.event, self.detail, above.phase, above.end, end)
            if end <= above.end:
                break
            assert above.parent is not None
            above = above.parent
        around = stacks.told_below(above)
        shown = self.event.shown
        span = span_of(self.event, shown, self.detail, trace, above, around, self.begin, end)
        if above.phase != semconv.PHASE_BACKWARD:
            return Launched(span, None)
        modules = (child.end for child in above.children if child.phase == above.phase)
        return Launched(span, max(modules, default=above.start))
