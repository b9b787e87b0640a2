"""How each process of a job stopped: one that ends in the midst of a step has exceptions end the others' steps.

What these exceptions say, that a connection was closed, leads to the wrong rank: each of the others says it, and the
one that is to blame may have said nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._trace import Span


class LastPart(NamedTuple):
    """What a process of a job has last."""

    part: Span  # the span of the rank, in a step
    since: int  # when the first step of the process began
    is_whole: bool

    @property
    def last_done(self) -> Span | None:
        """The last of its phases; None where it had come to none."""
        phases = [span for span in self.part.children if span.phase != semconv.PHASE_BETWEEN]
        return max(phases, key=lambda span: span.end, default=None)


def last_parts(steps: Iterable[Span]) -> list[LastPart]:
    """Return the last part of a step of each process of a job of several, the one that ended first first.

    It is not whole where an exception ended it, nor where it has no optimizer, as the one before has: who ends a
    process in the midst of a step by an exit tells of no exception.
    """
    of_processes: dict[tuple[str, int], list[Span]] = {}
    for step in steps:
        for part in step.ranks:
            if part.rank is not None:
                of_processes.setdefault((part.process, part.rank), []).append(part)
    found = []
    for parts in of_processes.values():
        parts.sort(key=lambda part: part.start)
        last = parts[-1]
        breaks_off = len(parts) > 1 and _steps(parts[-2]) and not _ends_well(last)
        found.append(LastPart(last, parts[0].start, not (last.failed or breaks_off)))
    return sorted(found, key=lambda one: one.part.end)


def _ends_well(part: Span) -> bool:
    says_so = (semconv.STEP_SKIPPED, semconv.OPTIMIZER_COMPILED)
    return _steps(part) or any(map(part.flag, says_so))


def _steps(part: Span) -> bool:
    return any(span.phase == semconv.PHASE_OPTIMIZER for span in part.children)
