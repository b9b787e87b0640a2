"""Where the time of a step went: every instant belongs to the phase of the innermost span open then."""

from __future__ import annotations

from collections.abc import Mapping

from otel_torch_modules import semconv
from otel_torch_modules.cli.trace_file import SpanNode

PHASES = (
    semconv.PHASE_DATA,
    semconv.PHASE_FORWARD,
    semconv.PHASE_BACKWARD,
    semconv.PHASE_RECOMPUTE,
    semconv.PHASE_OPTIMIZER,
)
OTHER = "other"


def phase_shares(step: SpanNode) -> Mapping[str, float]:
    """Return the share of the step's time of each of `PHASES` and of `OTHER`; their sum is 1.

    Recompute inside backward counts as recompute only, and a span of the program's own as what it lies in. Where
    spans of several threads overlap, the one that began first has the time. Of a step of several ranks the shares are
    those of all its ranks' time together.
    """
    times = dict.fromkeys((*PHASES, OTHER), 0)
    spans = step.ranks or [step]
    for span in spans:
        _add_times(times, span, OTHER, span.start, span.end)
    whole = max(sum(span.duration for span in spans), 1)
    return {phase: time / whole for phase, time in times.items()}


def _add_times(times: dict[str, int], span: SpanNode, outer: str, start: int, end: int) -> None:
    phase = span.phase if span.phase in times else outer
    assert phase is not None
    now = start
    for child in span.children:
        child_start, child_end = max(child.start, now), min(child.end, end)
        if child_start < child_end:
            times[phase] += child_start - now
            _add_times(times, child, phase, child_start, child_end)
            now = child_end
    times[phase] += end - now
