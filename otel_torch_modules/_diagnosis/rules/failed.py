"""The rule about steps that an exception ended: of a run that did not end well they are the last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.words import numbers
from otel_torch_modules._trace import Span

_MOST_LETTERS = 200  # of what was raised


class Failure(NamedTuple):
    """How a step ended."""

    number: int | None
    rank: int | None
    where: Span  # the innermost span that the exception left

    @property
    def raised(self) -> str:
        """Its type and the first line of its message; of one in backward nobody knows them."""
        said = self.where.exception or "an exception"
        return said if len(said) <= _MOST_LETTERS else f"{said[: _MOST_LETTERS - 1]}…"

    @property
    def place(self) -> str:
        """Where it was raised, as it stands in a sentence."""
        fqn = self.where.site.fqn
        return self.where.name if fqn is None else f"{self.where.phase} {fqn}"

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
    steps = [one.number for one in failures if one.number is not None]
    which = "A step was ended" if last.number is None else f"Step {last.number} was ended"
    if len(failures) > 1:
        named = f" ({numbers(steps)})" if steps else ""
        which = f"{len(failures)} steps{named} were ended by exceptions, the last"
    yield Finding(
        "failed",
        f"{which} by {last.raised}, in {last.place}{last.on_rank}.",
        steps=tuple(steps),
        rank=last.rank,
        place=last.where.site.fqn or last.where.name,
        phase=last.where.phase,
    )


@lru_cache(maxsize=8)
def failures_of(run: Run) -> Mapping[tuple[str, int | None], Failure]:
    """Return how steps ended that did not end well, by trace and number, in order of time."""
    found: dict[tuple[str, int | None], Failure] = {}
    for step in run.failed:
        head = next((rank for rank in step.ranks if rank.failed), step)
        inside = [span for span in head.walk() if span.failed]
        where = next((span for span in inside if span.exception), inside[-1])
        found[step.trace_id, step.step] = Failure(step.step, head.rank, where)
    return found


def failures_of_main(run: Run) -> Mapping[int, Failure]:
    """Return the same by the places of the steps in the main rank's series."""
    found = failures_of(run)
    keys = ((step.trace_id, step.step) for step in run.main.steps)
    return {at: found[key] for at, key in enumerate(keys) if key in found}
