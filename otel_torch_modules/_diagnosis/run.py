"""A run as the rules see it: the steps of each rank, which of them are warm-up, and what is usual for the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from statistics import median

from otel_torch_modules._diagnosis.places import TimedPlace
from otel_torch_modules._diagnosis.series import Series, series_of, usual
from otel_torch_modules._trace import Span

_WARM_UP = 1.2  # times the usual step: the first steps that take longer are warm-up
_MOST_WARM_UP = 20
_NEIGHBOURS = 15  # on each side, of whose steps one is compared with


class Run:
    """What the rules are functions of.

    Args:
        steps: the spans of steps, or of ranks whose step is not there, in order of time.
        outside: spans that lie in no step: evaluations, checkpoints.
    """

    def __init__(self, steps: Sequence[Span], outside: Sequence[Span] = ()) -> None:
        whole = [step for step in steps if not step.incomplete and not step.truncated]
        self.outside = outside
        self.incomplete = sum(step.incomplete for step in steps)
        self.truncated = sum(step.truncated for step in steps)
        self.dropped = sum(_dropped(step) for step in (*steps, *outside))
        self.ranks: list[Series] = series_of(whole)

    def __bool__(self) -> bool:
        return bool(self.ranks)

    @cached_property
    def main(self) -> Series:
        """The rank of which most is known."""
        return max(self.ranks, key=lambda series: (len(series), len(series.own)))

    @cached_property
    def warm_up(self) -> int:
        """How many of the first steps are warm-up."""
        times = self.main.ms
        limit = _WARM_UP * median(times)
        most = min(_MOST_WARM_UP, max(len(times) // 4, 1)) if len(times) > 2 else 0
        return next((at for at in range(most) if times[at] <= limit), most)

    @cached_property
    def steady(self) -> Series:
        """The main rank's steps without warm-up."""
        return self.main.select(range(self.warm_up, len(self.main)))

    @cached_property
    def usual_ms(self) -> float:
        return usual(self.steady.ms)

    @cached_property
    def total_ms(self) -> float:
        """The time of all steps of the main rank together."""
        return sum(self.main.ms)

    @cached_property
    def usual_own(self) -> dict[TimedPlace, float]:
        """Own time in each place of the usual step that has its modules."""
        return {place: usual(column) for place, column in self.steady.usual_steps.own.items()}

    @cached_property
    def usual_own_of_phases(self) -> dict[TimedPlace, float]:
        """The same of the usual step that was sent with phases only."""
        steady = self.steady
        outlines = [at for at, in_full in enumerate(steady.in_full) if not in_full]
        return {place: usual(column) for place, column in steady.select(outlines).own.items()}

    @cached_property
    def baseline(self) -> list[float]:
        """For each steady step what is usual for its neighbours."""
        return rolling_median(self.steady.ms)

    @cached_property
    def noise(self) -> float:
        """How far a steady step is usually from its baseline, in ms: as a standard deviation would be."""
        return noise_of(a - b for a, b in zip(self.steady.ms, self.baseline, strict=True))

    def cost(self, ms_of_all: float) -> tuple[float, float]:
        """Return what some ms, of all steps together, are per step and as a share of the run."""
        return ms_of_all / len(self.main), ms_of_all / max(self.total_ms, 1e-9)


def noise_of(away: Iterable[float]) -> float:
    """Return how far values usually are from their baseline, as a standard deviation would be, by how far each is."""
    return 1.4826 * median(map(abs, away))


def rolling_median(values: Sequence[float]) -> list[float]:
    """Return the median of each value and its neighbours."""
    width = 2 * _NEIGHBOURS + 1
    if len(values) <= width:
        return [median(values)] * len(values)
    medians: list[float] = []
    for at in range(len(values)):
        first = min(max(at - _NEIGHBOURS, 0), len(values) - width)
        medians.append(median(values[first : first + width]))
    return medians


def _dropped(step: Span) -> int:
    ranks = step.ranks  # each drops its own; the step's span repeats what one of them says
    return sum(rank.dropped_before for rank in ranks) if ranks else step.dropped_before
