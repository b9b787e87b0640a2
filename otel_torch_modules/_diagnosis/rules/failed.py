"""The rule about steps that an exception ended: of a run that did not end well they are the last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.last_parts import LastPart, last_parts
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._grammar import first_of
from otel_torch_modules._trace import Span

_HEADS = (semconv.PHASE_STEP, semconv.PHASE_RANK)
_MOST_LETTERS = 200  # of what was raised


class Failure(NamedTuple):
    """How a step ended."""

    head: Span  # of the step, or of the rank's part of it
    where: Span  # the innermost span that the exception left

    @property
    def number(self) -> int | None:
        """The step's."""
        return self.head.step

    @property
    def rank(self) -> int | None:
        """Where it was raised; None in a job of one process."""
        return self.head.rank

    @property
    def raised(self) -> str:
        """Its type and the first line of its message; of one in backward nobody knows them."""
        said = self.where.exception or "an exception"
        return said if len(said) <= _MOST_LETTERS else f"{said[: _MOST_LETTERS - 1]}…"

    @property
    def place(self) -> str:
        """Where it was raised, as it stands in a sentence."""
        if self.where.phase in _HEADS:
            return "outside any module"
        fqn = self.where.site.fqn
        return f"in {self.where.name}" if fqn is None else f"in {self.where.phase} {fqn}"

    @property
    def on_rank(self) -> str:
        """The rank, as it stands behind that; nothing in a job of one process."""
        return "" if self.rank is None else f" on rank {self.rank}"


def failed(run: Run) -> Iterator[Finding]:
    """Steps were ended by an exception. Threshold: any."""
    failures = [*failures_of(run).values()]
    if not failures:
        return
    last = failures[-1]
    beside = _beside(run, last.head)
    stopped = [one for one in beside if not one.is_whole]
    first = stopped[0].part if stopped else last.head
    told = last if first == last.head or not first.failed else _failure(first)
    steps = [one.number for one in failures if one.number is not None]
    which = "A step was ended" if told.number is None else f"Step {told.number} was ended"
    if len(failures) > 1:
        named = f" ({first_of(steps)})" if steps else ""
        at_end = "the last" if told is last else f"at the end step {told.number}"
        which = f"{len(failures)} steps{named} were ended by exceptions, {at_end}"
    yield Finding(
        "failed",
        f"{which} by {told.raised}, {told.place}{told.on_rank}{_of_others(told, beside)}.",
        steps=tuple(steps),
        rank=first.rank,
        place=told.where.site.fqn or told.where.name,
        phase=told.where.phase,
    )


def _beside(run: Run, head: Span) -> Sequence[LastPart]:
    """Return what the processes have last that were there when that of `head` stopped there; none where it went on."""
    found = last_parts(run.all)
    own = next((one for one in found if one.part == head), None)
    if own is None:
        return ()
    return [one for one in found if one.since < own.part.end and one.part.end > own.since]


def _of_others(told: Failure, beside: Sequence[LastPart]) -> str:
    """Return what is said of the other processes: which stopped first, or who with the one that is told of."""
    stopped = [one for one in beside if not one.is_whole]
    if stopped and stopped[0].part != told.head:
        part, done = stopped[0].part, stopped[0].last_done
        after = "" if done is None else f", after {done.name}"
        return f"; rank {part.rank} had stopped before that, in step {part.step}{after}"
    if len(stopped) > 1:
        return f"; {_ranks(stopped[1:])} stopped after it"
    ended = [one for one in beside if one.is_whole and _is_before(one.part, told.head)]
    if ended and not told.where.exception:  # it may be that these have gone
        return f"; of {_ranks(ended)} there is nothing after step {ended[-1].part.step}"
    return ""


def _is_before(part: Span, other: Span) -> bool:
    return part.step is not None and other.step is not None and part.step < other.step


def _ranks(parts: Sequence[LastPart]) -> str:
    if len(parts) == 1:
        return f"rank {parts[0].part.rank}"
    return f"ranks {first_of(sorted(one.part.rank or 0 for one in parts))}"


@lru_cache(maxsize=8)
def failures_of(run: Run) -> Mapping[tuple[str, int | None], Failure]:
    """Return how steps ended that did not end well, by trace and number, in order of time."""
    found: dict[tuple[str, int | None], Failure] = {}
    for step in run.failed:
        key = step.trace_id, step.step
        for head in [rank for rank in step.ranks if rank.failed] or [step]:
            known = found.get(key)
            if known is None or head.end < known.head.end:  # who has waited for it fails later
                found[key] = _failure(head)
    return found


def _failure(head: Span) -> Failure:
    inside = [span for span in head.walk() if span.failed]
    where = next((span for span in inside if span.exception), inside[-1])
    return Failure(head, where)


def failures_of_main(run: Run) -> Mapping[int, Failure]:
    """Return the same by the places of the steps in the main rank's series."""
    found = failures_of(run)
    keys = ((step.trace_id, step.step) for step in run.main.steps)
    return {at: found[key] for at, key in enumerate(keys) if key in found}
