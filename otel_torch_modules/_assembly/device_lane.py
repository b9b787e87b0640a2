"""The lane of a step: where its phases ran on the time line of the device.

It is a span below that of the step, or of the rank, with a span for each forward, backward and optimizer whose times
the device has told. All of them begin and end by the device's times, so they lie as far behind the step as the device
was, and nothing that adds up the time of a step may count them: their phase is one of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from otel_torch_modules import semconv
from otel_torch_modules._records import DEVICE_DURATION, DEVICE_LAG
from otel_torch_modules._spans.columns import SpanColumns
from otel_torch_modules._spans.span import INTERNAL, SECOND, SharedAttributes, Span

Ran = tuple[str, int, int]
"""A phase, and from when to when the device was at it."""

_PHASES = (semconv.PHASE_FORWARD, semconv.PHASE_BACKWARD, semconv.PHASE_OPTIMIZER)


def add_lane(above: Span) -> None:
    """Put the lane below `above`, the span of a step or of a rank, whose children say what the device took."""
    found = lane(above, _ran(above))
    if found is not None:
        above.adopt(found)


def lane_of(columns: SpanColumns) -> Span | None:
    """Return the lane of a tree; None where the device says nothing of its phases."""
    return lane(columns.heads[-1], _ran_in(columns))


def lane(above: Span, ran: Iterable[Ran]) -> Span | None:
    """Return the lane of `above`, which is not put below it; None where nothing `ran`."""
    in_order = sorted(ran, key=lambda entry: entry[1:])
    if not in_order:
        return None
    ends = max(end for _, _, end in in_order)
    found = _span(above, semconv.DEVICE, in_order[0][1], ends)
    found.parent = above
    for phase, start, end in in_order:
        found.take(_span(above, phase, start, end))
    return found


def _ran(above: Span) -> Iterator[Ran]:
    for span in above.children:
        said = span.said
        duration, lag = said.get(DEVICE_DURATION), said.get(DEVICE_LAG)
        if span.phase in _PHASES and duration is not None and lag is not None:
            yield span.phase, *_times(span.start, duration, lag)


def _ran_in(columns: SpanColumns) -> Iterator[Ran]:
    durations, lags = columns.values.get(DEVICE_DURATION), columns.values.get(DEVICE_LAG)
    if durations is None or lags is None:
        return
    for place in columns.layout.phases:
        phase = columns.layout.spans[place].phase
        if phase in _PHASES and durations[place] is not None:
            yield phase, *_times(columns.starts[place], durations[place], lags[place])


def _times(start: int, duration: float, lag: float) -> tuple[int, int]:
    """Return when the device began and ended what the program began at `start`."""
    began = start + round(lag * SECOND)
    return began, began + round(duration * SECOND)


def _span(above: Span, name: str, start: int, end: int) -> Span:
    return Span(above.trace, None, name, semconv.PHASE_DEVICE, INTERNAL, start, end, _ATTRIBUTES)


_ATTRIBUTES = SharedAttributes({semconv.PHASE: semconv.PHASE_DEVICE})
