"""Whose time a step is told by: the program's, or its device's where that is known. It is decided here alone.

On an accelerator the program runs ahead, and its spans say when work was scheduled. So a step lasts from when its
device was through with the one before it until it is through with this one; its forward, backward and optimizer are
told by what the device took for them, and modules, where it says that of these too, which it does in some steps if it
is asked (`OTEL_TORCH_MODULES_DEVICE_TIME`). What the device does not see, as waits for data, counts as far as the
device had nothing to do meanwhile. What is left of a step lies between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum

from otel_torch_modules import semconv
from otel_torch_modules._trace import Span, Trace

_AROUND = (semconv.PHASE_STEP, semconv.PHASE_RANK)
_NS = 1e9  # a second


class ToldBy(IntEnum):
    """Whose time steps are told by, and how far."""

    PROGRAM = 0
    DEVICE = 1  # forward, backward and optimizer
    MODULES = 2  # by the device too

    @property
    def sentence(self) -> str:
        """What is to be said of it; nothing of the program's."""
        return _SENTENCES[self]


_SENTENCES = {
    ToldBy.PROGRAM: "",
    ToldBy.DEVICE: "Steps, forward, backward and optimizer are told by the time of the device. Of modules it says "
    "nothing here, and the program's time says when their work was scheduled: "
    "OTEL_TORCH_MODULES_DEVICE_TIME=modules has the device tell of them too.",
    ToldBy.MODULES: "Steps, phases and modules are told by the time of the device.",
}


def told_by(steps: Sequence[Span]) -> ToldBy:
    """Return by whose time steps can be told. Of several of which the device tells of a few that are these few's."""
    if any(map(says_modules, steps)):
        return ToldBy.MODULES
    return ToldBy.DEVICE if any(map(says_phases, steps)) else ToldBy.PROGRAM


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
    """Return whether its device tells of a step, or of a rank's part of one."""
    return any(_phases(part) for part in step.ranks or [step])


def says_modules(step: Span) -> bool:
    """Return whether it tells of modules: of one that is below another."""
    if semconv.DEVICE_DURATION not in step.trace.measures:
        return False
    sites, parents = step.shape.sites, step.shape.parents
    return any(
        sites[at].fqn is not None
        and sites[parents[at]].fqn is not None
        and _ran(step.trace, at) is not None
        for at in range(step.at + 1, step.shape.after[step.at])
    )


def _phases(step: Span) -> list[tuple[int, tuple[int, int]]]:
    """Return what the device tells of right below a step: when the program began it, and when the device was at it."""
    trace = step.trace
    if semconv.DEVICE_DURATION not in trace.measures:
        return []
    return [
        (trace.starts[at], times)
        for at in step.shape.children(step.at)
        if (times := _ran(trace, at)) is not None
    ]


def lasted(steps: Iterable[Span]) -> Iterator[tuple[int, int]]:
    """Yield from when to when each of the steps of one rank lasted, which are in order of time, in Unix ns."""
    before = 0  # when the device was through with the last one
    for step in steps:
        phases = _phases(step)
        start, end = step.start, step.end
        if phases:
            begun, (on_device, _) = min(phases, key=lambda phase: phase[1])
            end = max(ended for _, (_, ended) in phases)
            # As much as the program did in the step before it came to that, the device may have waited for.
            start = min(max(on_device - (begun - start), before), end)
        yield start, end
        before = end


def own_times_on_device(step: Span, whole: int, by: ToldBy) -> list[int]:
    """Return the own times of a step of one rank and of all spans below it, told by its device; ns, in their order.

    Of what lies in a span that the device tells of, and is not told of itself, the time is that span's own.

    Args:
        whole: how long the step lasted.
        by: how far it is told by the device.
    """
    trace, shape, first = step.trace, step.shape, step.at
    own = [0]
    owners = [0]  # whose time each span's is: its own, or that of one around it
    stretches: list[tuple[int, int] | None] = [None]  # of what the device tells of
    beside: list[int] = []  # what it does not, and does not lie in that
    for at in range(first + 1, shape.after[first]):
        number, parent = at - first, shape.parents[at] - first
        above = owners[parent]
        around = stretches[above]
        times = None if parent and by is not ToldBy.MODULES else _ran(trace, at)
        time, owner = 0, above
        if times is not None:
            time, owner = times[1] - times[0], number
            if around is not None:
                own[above] -= max(min(times[1], around[1]) - max(times[0], around[0]), 0)
        elif around is None and shape.sites[at].phase != semconv.PHASE_BETWEEN:
            time, owner = trace.ends[at] - trace.starts[at], number
            beside.append(number)
            if above:
                own[above] -= time
        own.append(time)
        owners.append(owner)
        stretches.append(times)
    own = [max(time, 0) for time in own]
    told = sum(time for time, stretch in zip(own, stretches, strict=True) if stretch is not None)
    room, taken = max(whole - told, 0), sum(own[number] for number in beside)
    if taken > room:
        for number in beside:
            own[number] = own[number] * room // taken
    own[0] = max(room - taken, 0)
    return own
