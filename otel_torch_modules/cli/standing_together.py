"""Which ranks stood still at the same time, be they in different steps.

Each rank says by itself that it gets on with nothing, in the trace of the step that it is in. One that has met the
others for the last time in a step, and waits for one of a smaller group, is a step behind those that have gone on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from otel_torch_modules import semconv
from otel_torch_modules.cli.stall import Said

_APART = 1  # steps, at most: of killed ranks nobody knows when they stood where


def together(said: Iterable[Said]) -> list[list[Said]]:
    """Return what was said of each stall: all of one trace and step, and of others what other ranks said meanwhile."""
    traces: dict[tuple[str, int | None], list[Said]] = {}
    for one in said:
        traces.setdefault((one.trace_id, one.step), []).append(one)
    stalls: list[list[Said]] = []
    for of_trace in sorted(traces.values(), key=_first):
        if stalls and _is_one(stalls[-1], of_trace):
            stalls[-1] += of_trace
        else:
            stalls.append(of_trace)
    return stalls


def _first(said: Sequence[Said]) -> float:
    return min(one.at_s for one in said)


def _is_one(a: Sequence[Said], b: Sequence[Said]) -> bool:
    """Return whether two stalls are one, of which no rank has spoken twice."""
    both = [*a, *b]
    ranks = {one.rank for one in both}
    if None in ranks or len(ranks) < len(both) or len({one.reason for one in both}) > 1:
        return False
    if both[0].reason == semconv.STALL_KILLED:
        steps = [one.step for one in both if one.step is not None]
        return max(steps) - min(steps) <= _APART if steps else True
    return max(one.at_s - one.seconds for one in both) < _first(both)
