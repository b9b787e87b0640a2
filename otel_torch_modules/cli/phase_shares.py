"""Where the time of a step went: every instant belongs to the phase of the innermost span open then."""

from __future__ import annotations

from collections.abc import Mapping

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.device_times import (
    lasted,
    own_times_on_device,
    says_phases,
    told_by,
)
from otel_torch_modules._diagnosis.nesting import nesting
from otel_torch_modules._trace import Span

PHASES = (
    semconv.PHASE_DATA,
    semconv.PHASE_FORWARD,
    semconv.PHASE_BACKWARD,
    semconv.PHASE_RECOMPUTE,
    semconv.PHASE_OPTIMIZER,
)
BETWEEN = semconv.PHASE_BETWEEN  # what lies in no span of these: the loop's own code


def phase_shares(step: Span) -> Mapping[str, float]:
    """Return the share of the step's time of each of `PHASES` and of `BETWEEN`; their sum is 1.

    Recompute inside backward counts as recompute only, and a span of the program's own as what it lies in. Where
    spans of several threads overlap, the one that began first has the time. Of a step of several ranks the shares are
    those of all its ranks' time together. Where its device tells of them, they are those of its own times.
    """
    times = dict.fromkeys((*PHASES, BETWEEN), 0)
    spans = step.ranks or [step]
    if says_phases(step):
        for span in spans:
            _add_times_on_device(times, span)
        return {phase: time / max(sum(times.values()), 1) for phase, time in times.items()}
    for span in spans:
        _add_times(times, span)
    whole = max(sum(span.duration for span in spans), 1)
    return {phase: time / whole for phase, time in times.items()}


def _add_times_on_device(times: dict[str, int], root: Span) -> None:
    shape, phases = root.shape, list[str]()
    start, end = next(lasted([root]))
    own_times = own_times_on_device(root, end - start, told_by([root]))
    for at, own in enumerate(own_times, root.at):
        phase = shape.sites[at].phase
        if phase is None or phase not in times:
            phase = phases[shape.parents[at] - root.at] if phases else BETWEEN
        phases.append(phase)
        times[phase] += own


def _add_times(times: dict[str, int], root: Span) -> None:
    nested = nesting(root)
    starts, ends, children = nested.starts, nested.ends, nested.children
    stack = [(0, BETWEEN, root.start, root.end)]  # a span, the phase around it, its own stretch
    while stack:
        at, phase, now, end = stack.pop()
        of_span = root.shape.sites[root.at + at].phase
        if of_span is not None and of_span in times:
            phase = of_span
        for child in children[at]:
            child_start, child_end = max(starts[child], now), min(ends[child], end)
            if child_start < child_end:
                times[phase] += child_start - now
                stack.append((child, phase, child_start, child_end))
                now = child_end
        times[phase] += end - now
