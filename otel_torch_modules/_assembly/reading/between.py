"""The time of a step that lies between its phases: the loop's own code, and what it waits for that nothing tells of.

Data that no `DataLoader` gives, a copy to the device, a loss that is looked at, an optimizer of the program's own.
"""

from __future__ import annotations

from collections.abc import Iterable

from otel_torch_modules import semconv
from otel_torch_modules._spans.span import INTERNAL, SharedAttributes, Span, in_time

# What is shorter has no span: half a hundredth of the step, and a tenth of a millisecond (ns).
SHARE = 200
SHORTEST = 100_000


def between(above: Span, phases: Iterable[tuple[int, int]]) -> list[Span]:
    """Return a span for each long stretch of `above` in which there is none of its `phases`; put none of them below it.

    Args:
        above: the span of a step, or of a rank.
        phases: starts and ends of the spans below it, in the order of their starts.
    """
    shortest = max((above.end - above.start) // SHARE, SHORTEST)
    found = []
    now = above.start
    for start, end in (*phases, (above.end, above.end)):
        if start - now >= shortest:
            found.append(_span(above, now, start))
        if end > now:
            now = end
    return found


def add_between(above: Span) -> None:
    """Put these spans below `above`, whose children are in order."""
    found = between(above, [(child.start, child.end) for child in above.children])
    if found:
        above.children = sorted([*above.children, *found], key=in_time)


def _span(above: Span, start: int, end: int) -> Span:
    span = Span(
        above.trace,
        None,
        semconv.BETWEEN,
        semconv.PHASE_BETWEEN,
        INTERNAL,
        start,
        end,
        _ATTRIBUTES,
    )
    span.parent = above
    return span


_ATTRIBUTES = SharedAttributes({semconv.PHASE: semconv.PHASE_BETWEEN})
