"""Whose time a step is told by: the program's, or its device's where that is known. It is decided here alone.

On an accelerator the program runs ahead, and its spans say when work was scheduled. So forward, backward and optimizer
are told by what the device took for them where it says so of them; modules, where it says so of these too, which it
does in some steps if it is asked (`OTEL_TORCH_MODULES_DEVICE_TIME`). What the device does not see is told by the
program's time: waits for data, compilations. What is left of a step lies between.
"""

from __future__ import annotations

from otel_torch_modules import semconv
from otel_torch_modules._trace import Span, Trace

_AROUND = (semconv.PHASE_STEP, semconv.PHASE_RANK)
_NS = 1e9  # a second

PHASES = (
    "Forward, backward and optimizer are told by the time of the device, modules by that of the program, which says "
    "when their work was scheduled: OTEL_TORCH_MODULES_DEVICE_TIME=modules tells them by the device's too."
)
MODULES = "Modules, forward, backward and optimizer are told by the time of the device."
"""What is to be said of one or several steps that are told so."""


def ran(span: Span) -> tuple[int, int] | None:
    """Return from when to when the device was at a span, in Unix ns; None where it does not say.

    What a step's or a rank's span says of its device is another thing.
    """
    return None if span.phase in _AROUND else _ran(span.trace, span.at)


def _ran(trace: Trace, at: int) -> tuple[int, int] | None:
    took, behind = (
        trace.measures.get(key) for key in (semconv.DEVICE_DURATION, semconv.DEVICE_LAG)
    )
    if took is None or behind is None or took[at] != took[at] or behind[at] != behind[at]:
        return None
    start = trace.starts[at] + round(behind[at] * _NS)
    return start, start + round(took[at] * _NS)


def says_phases(step: Span) -> bool:
    """Return whether a step, or a rank's part of one, is told by its device: a backward or a forward of it."""
    phases = (semconv.PHASE_FORWARD, semconv.PHASE_BACKWARD)
    sites = step.shape.sites
    return any(
        sites[at].phase in phases and _ran(step.trace, at) is not None
        for of_rank in step.ranks or [step]
        for at in step.shape.children(of_rank.at)
    )


def says_modules(step: Span) -> bool:
    """Return whether its modules are: one that is below another."""
    if semconv.DEVICE_DURATION not in step.trace.measures:
        return False
    sites, parents = step.shape.sites, step.shape.parents
    return any(
        sites[at].fqn is not None
        and sites[parents[at]].fqn is not None
        and _ran(step.trace, at) is not None
        for at in range(step.at + 1, step.shape.after[step.at])
    )


def own_times_on_device(step: Span) -> list[int]:
    """Return the own times of a step of one rank and of all spans below it, told by its device; ns, in their order.

    Of what lies in a span that the device tells of, and is not told of itself, the time is that span's own.
    """
    trace, shape, first = step.trace, step.shape, step.at
    own: list[int] = []
    owners: list[int] = []  # whose time each span's is
    told: list[bool] = []
    stretches: list[tuple[int, int]] = []
    for at in range(first, shape.after[first]):
        number = at - first
        on_device = _ran(trace, at) if number else None
        stretch = on_device or (trace.starts[at], trace.ends[at])
        above = owners[shape.parents[at] - first] if number else 0
        is_own = on_device is not None or not number
        if not is_own and not told[above] and shape.sites[at].phase != semconv.PHASE_BETWEEN:
            is_own = True
        owners.append(number if is_own else above)
        told.append(on_device is not None)
        stretches.append(stretch)
        own.append(stretch[1] - stretch[0] if is_own else 0)
        if number and is_own:
            own[above] -= _within(stretch, stretches[above], alike=told[number] == told[above])
    return [max(time, 0) for time in own]


def _within(stretch: tuple[int, int], above: tuple[int, int], *, alike: bool) -> int:
    """Return how much of a stretch is that of the one above it: all, where one is the device's and one is not."""
    if not alike:
        return stretch[1] - stretch[0]
    return max(min(stretch[1], above[1]) - max(stretch[0], above[0]), 0)
