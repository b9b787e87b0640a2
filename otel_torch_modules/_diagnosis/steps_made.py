"""How many steps a rank made in which time, those counted too that nobody recorded.

A schedule, a sampler or a list of ranks leaves steps out, and some are lost: their numbers say how many they were. Of a
job that was started again the time between its processes is nobody's.
"""

from __future__ import annotations

from typing import NamedTuple

from otel_torch_modules._diagnosis.series import MS, Series, usual

# Times the usual step: in less time no step was made, and numbers count something else.
_QUICK = 0.5


class StepsMade(NamedTuple):
    """So many steps in so many ns."""

    made: int
    ns: int

    @property
    def per_second(self) -> float | None:
        """Steps a second; None where none has a length."""
        return self.made * 1e9 / self.ns if self.ns > 0 else None


def steps_made(series: Series) -> StepsMade:
    """Return how many steps the rank made from the first that is known of each of its processes to the last."""
    quick = _QUICK * usual(series.ms) * MS
    steps, ns = 0, 0
    following: dict[str, int] = {}  # of each process the step after
    for at in reversed(range(len(series))):
        process = series.steps[at].process
        after = following.get(process)
        following[process] = at
        if after is None or series.numbers[after] <= series.numbers[at]:
            steps += 1
            ns += series.ends[at] - series.starts[at]
            continue
        missing = series.numbers[after] - series.numbers[at] - 1
        gap = series.starts[after] - series.ends[at]
        steps += 1 + (missing if gap >= missing * quick else 0)
        ns += series.starts[after] - series.starts[at]
    return StepsMade(steps, ns)
