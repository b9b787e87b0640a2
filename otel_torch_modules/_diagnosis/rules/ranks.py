"""Which rank of a run was last in its steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.straggler import Straggler, find_straggler
from otel_torch_modules._trace import Span

_LOOKED_AT = 60  # steps, evenly spaced: each needs its ranks' trees


@lru_cache(maxsize=8)
def stragglers(run: Run) -> Sequence[tuple[int, Straggler]]:
    """Return the last rank of some of the steps, evenly spaced, warm-up left out, with the steps' numbers."""
    steady = set(run.steady.numbers)
    shared = [(number, spans) for (_, number), spans in _shared(run).items() if number in steady]
    stride = max(-(-len(shared) // _LOOKED_AT), 1)
    before = _before(run)
    return [
        (number, find_straggler(spans, before.get((spans[0].trace_id, number), ())))
        for number, spans in shared[::stride]
    ]


def last_of(run: Run, step: Span, number: int) -> Straggler | None:
    """Return the last rank of the step with this number that the span of a rank is of; None where no other has it."""
    key = (step.trace_id, number)
    spans = _shared(run).get(key)
    return None if spans is None else find_straggler(spans, _before(run).get(key, ()))


@lru_cache(maxsize=8)
def _shared(run: Run) -> Mapping[tuple[str, int], Sequence[Span]]:
    """Return the spans of the ranks of each step that several have, by trace and number."""
    of_step: dict[tuple[str, int], list[Span]] = {}
    if len(run.ranks) > 1:
        for series in run.ranks:
            for number, span in zip(series.numbers, series.steps, strict=True):
                of_step.setdefault((span.trace_id, number), []).append(span)
    return {key: spans for key, spans in of_step.items() if len(spans) > 1}


@lru_cache(maxsize=8)
def _before(run: Run) -> Mapping[tuple[str, int], Sequence[Span]]:
    """Return the spans of the same ranks in the step before, of each step that several have."""
    of_step: dict[tuple[str, int], list[Span]] = {}
    for series in run.ranks:
        numbers, steps = series.numbers, series.steps
        for at in range(1, len(series)):
            if numbers[at] == numbers[at - 1] + 1:
                of_step.setdefault((steps[at].trace_id, numbers[at]), []).append(steps[at - 1])
    return of_step
