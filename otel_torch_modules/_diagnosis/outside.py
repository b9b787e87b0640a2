"""What a process does in no step: evaluations, checkpoints, spans of the program's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.covered import Covered
from otel_torch_modules._trace import Span

_STEPS = (semconv.PHASE_STEP, semconv.PHASE_RANK)
_EVALUATIONS = (semconv.PHASE_EVALUATE, semconv.PHASE_FORWARD)


def in_no_step(roots: Iterable[Span]) -> Iterator[Span]:
    """Yield the outermost spans that lie in no step, of each rank its own, and what was collected, compiled and saved
    in them. What stalled is told elsewhere.
    """
    for span in outermost(roots):
        if kind_of(span) is not None:
            for of_process in span.ranks or [span]:
                yield of_process
                yield from causes_in(of_process)


def causes_in(span: Span) -> Iterator[Span]:
    """Yield the spans below `span` of what takes time beside modules: they are told of by themselves."""
    after = span.shape.after[span.at]
    return (Span(span.trace, at) for at in span.shape.causes if span.at < at < after)


def own_time(span: Span) -> int:
    """Return how long `span` is without these (ns)."""
    causes = Covered((cause.start, cause.end) for cause in causes_in(span))
    return span.duration - causes.whole


def outermost(roots: Iterable[Span]) -> Iterator[Span]:
    """Yield the outermost spans of ours, and those of the program's that hold none: an epoch only holds them."""
    stack = [*roots]
    while stack:
        span = stack.pop()
        if span.phase is None and _holds_ours(span):
            stack += span.children
        else:
            yield span


def kind_of(span: Span) -> str | None:
    """Return what an outermost span is: a phase, or the name of the program's; None of a step or a stall."""
    if span.is_stall or (span.phase in _STEPS and not span.is_evaluation):
        return None
    if span.is_evaluation or span.phase in _EVALUATIONS:
        return semconv.PHASE_EVALUATE
    return span.name if span.phase is None else span.phase


def _holds_ours(span: Span) -> bool:
    sites = span.shape.sites
    return any(sites[at].phase is not None for at in range(span.at + 1, span.shape.after[span.at]))
