"""How much of a run's time its steps cover, and what fills the rest.

A loop that generates, evaluates or saves for most of its time has steps that are fast and a run that is slow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.covered import Covered, Stretch
from otel_torch_modules._diagnosis.outside import causes_in, outermost
from otel_torch_modules._trace import Span

_STEPS = "steps"
_GARBAGE = "garbage collection"
_COMPILATION = "compilation"
_EVALUATION = "evaluation"
_CHECKPOINTS = "checkpoints"
_WAITS = "waits for data"
_STALLS = "stalls"
_UNRECORDED = "steps that are not here"
_OTHERS = "other spans"
_BETWEEN = "between steps"
_KINDS = {
    semconv.PHASE_STEP: _STEPS,
    semconv.PHASE_RANK: _STEPS,
    semconv.PHASE_GC: _GARBAGE,
    semconv.PHASE_COMPILE: _COMPILATION,
    semconv.PHASE_EVALUATE: _EVALUATION,
    semconv.PHASE_FORWARD: _EVALUATION,
    semconv.PHASE_CHECKPOINT: _CHECKPOINTS,
    semconv.PHASE_DATA: _WAITS,
    semconv.PHASE_STALL: _STALLS,
}
_OUTSIDE = (_GARBAGE, _COMPILATION, _EVALUATION, _CHECKPOINTS, _WAITS, _STALLS)  # in this order
_MOST_NAMES = 3  # of the program's own spans
_ENOUGH = 0.95  # of the time: no more is said where the steps cover as much
_LEAST = 0.001


@dataclass
class _Process:
    """What one process did when. Times are Unix ns."""

    stretches: dict[str, list[Stretch]] = field(default_factory=dict)
    causes: dict[str, list[Stretch]] = field(default_factory=dict)  # in what is no step
    own: dict[str, list[Stretch]] = field(default_factory=dict)  # of the program's spans, by name
    steps: list[Span] = field(default_factory=list)

    @property
    def bounds(self) -> Stretch:
        """From its first to its last span."""
        known = [one for found in (self.stretches, self.own) for of in found.values() for one in of]
        return min(start for start, _ in known), max(end for _, end in known)

    def take_causes(self, span: Span) -> None:
        """Count what was collected, compiled and saved in `span` as that."""
        for cause in causes_in(span):
            stretches = self.causes.setdefault(_kind(cause) or _OTHERS, [])
            stretches.append((cause.start, cause.end))


def coverage(roots: Iterable[Span]) -> str | None:
    """Return in a sentence what the run's time went to; None where its steps cover it, or there are none.

    Each instant counts once: for a step if there is one, else for what was collected, compiled or saved in what else
    there is, for an evaluation, a checkpoint, a wait for data, a stall, a span of
    the program's. Where steps are missing between two (a schedule left them out, or they were dropped), what time is
    left between these is theirs. The shares are those of all processes together.
    """
    processes: dict[str, _Process] = {}
    for span in outermost(roots):
        kind = _kind(span)
        for of_process in {span, *span.ranks}:
            process = processes.setdefault(of_process.process, _Process())
            found = process.own if kind is None else process.stretches
            found.setdefault(kind or span.name, []).append((of_process.start, of_process.end))
            if kind == _STEPS:
                process.steps.append(of_process)
        if kind not in (_STEPS, _STALLS):
            for of_process in span.ranks or [span]:
                processes[of_process.process].take_causes(of_process)
    times: Counter[str] = Counter()
    for process in processes.values():
        times.update(_times(process))
    whole = times.total()
    if not times[_STEPS] or times[_STEPS] >= _ENOUGH * whole:
        return None
    rest = [(kind, time / whole) for kind, time in times.most_common() if kind != _STEPS]
    said = ", ".join(f"{kind} {share:.1%}" for kind, share in rest if share >= _LEAST)
    return f"The steps cover {times[_STEPS] / whole:.1%} of {whole / 1e9:.2f} s; the rest: {said}."


def _kind(span: Span) -> str | None:
    """Return what a span of ours is, a rank's what it has a part in; None of the program's."""
    if span.is_stall:
        return _STALLS
    if span.is_evaluation:
        return _EVALUATION
    return None if span.phase is None else _KINDS.get(span.phase, _OTHERS)


def _times(process: _Process) -> Counter[str]:
    """Return how long the process did what, the stretches of a kind in none of the kinds before it."""
    names = sorted(process.own, key=lambda name: -Covered(process.own[name]).whole)
    in_order = [
        (_STEPS, process.stretches.get(_STEPS, [])),
        *process.causes.items(),
        *((kind, process.stretches.get(kind, [])) for kind in _OUTSIDE),
    ]
    in_order += [(name, process.own[name]) for name in names[:_MOST_NAMES]]
    others = [one for name in names[_MOST_NAMES:] for one in process.own[name]]
    in_order.append((_OTHERS, [*process.stretches.get(_OTHERS, []), *others]))
    in_order.append((_UNRECORDED, list(_gaps_in_numbers(process.steps))))
    in_order.append((_BETWEEN, [process.bounds]))
    times: Counter[str] = Counter()
    so_far: list[Stretch] = []
    covered = 0
    for kind, stretches in in_order:
        so_far += stretches
        before, covered = covered, Covered(so_far).whole
        times[kind] += covered - before
    return times


def _gaps_in_numbers(steps: Iterable[Span]) -> Iterator[Stretch]:
    numbered = [(step.step, step) for step in steps if step.step is not None]
    numbered.sort(key=lambda entry: entry[1].start)
    for (number, step), (following, next_step) in pairwise(numbered):
        if following > number + 1 and next_step.start > step.end:
            yield step.end, next_step.start
