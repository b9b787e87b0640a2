"""What is usual around a step: the median of its neighbours, and how far steps are from that.

Where there are two kinds of steps in turn, as in a loop that trains two models, the neighbours of one are those of its
kind: no step is as long as the median of both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

from otel_torch_modules._diagnosis.words import digits

AROUND = 15  # neighbours on each side
_LONGER = 1.05  # times the other kind, at least
_NOISES = 5.0  # and so many times the noise of both above it
_FITTING = 0.8  # of each kind lie on its side of the middle
_LEAST_TIMES = 4  # that there is a step of each kind


class KindsInTurn(NamedTuple):
    """Two kinds of steps in turn, as numbers of steps in their order. Times are ms."""

    shorter: Sequence[int]
    longer: Sequence[int]
    shorter_ms: float
    longer_ms: float

    @property
    def said(self) -> str:
        """How they stand behind the time of a step."""
        return f"{digits(self.shorter_ms)} and {digits(self.longer_ms)} in turn"

    def of(self, at: int) -> Sequence[int]:
        """Return the kind of a step."""
        return self.shorter if at in self.shorter else self.longer

    def ms_of(self, at: int) -> float:
        """Return how long steps of its kind take."""
        return self.shorter_ms if at in self.shorter else self.longer_ms


def noise_of(away: Iterable[float]) -> float:
    """Return how far values usually are from their baseline, as a standard deviation would be, by how far each is."""
    return 1.4826 * median(map(abs, away))


def rolling_median(values: Sequence[float]) -> list[float]:
    """Return the median of each value and its neighbours."""
    width = 2 * AROUND + 1
    if len(values) <= width:
        return [median(values)] * len(values)
    medians: list[float] = []
    for at in range(len(values)):
        first = min(max(at - AROUND, 0), len(values) - width)
        medians.append(median(values[first : first + width]))
    return medians


def kinds_in_turn(numbers: Sequence[int], times: Sequence[float]) -> KindsInTurn | None:
    """Return the two kinds of steps, where every second one takes longer; None where all are of one kind."""
    even, odd = ([at for at, number in enumerate(numbers) if number % 2 == rest] for rest in (0, 1))
    if min(len(even), len(odd)) < _LEAST_TIMES:
        return None
    sides = [(median(times[at] for at in kind), kind) for kind in (even, odd)]
    (low, shorter), (high, longer) = sorted(sides, key=lambda side: side[0])
    noise = max(_noise([times[at] for at in kind]) for kind in (even, odd))
    if high <= _LONGER * low or high - low <= _NOISES * noise:
        return None
    middle = (low + high) / 2
    fitting = sum(times[at] < middle for at in shorter), sum(times[at] > middle for at in longer)
    if fitting[0] < _FITTING * len(shorter) or fitting[1] < _FITTING * len(longer):
        return None
    return KindsInTurn(shorter, longer, low, high)


def _noise(values: Sequence[float]) -> float:
    return noise_of(a - b for a, b in zip(values, rolling_median(values), strict=True))
