"""What a benchmark found, against what is asked: medians, their intervals and the rows of the table."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_RESAMPLES = 1_000

_OF_ONE = 0.1  # of a ratio close to one: a fifth of that is two hundredths


@dataclass(frozen=True)
class Figure:
    """A value and the interval in which it is expected nine times out of ten, were all measured again."""

    value: float
    low: float
    high: float

    @property
    def reach(self) -> float:
        """How far the interval reaches from the value, to the side where it is further."""
        return max(self.high - self.value, self.value - self.low)

    def __str__(self) -> str:
        digits = 0 if abs(self.value) >= 100 else 1 if abs(self.value) >= 20 else 3
        return f"{self.value:.{digits}f}  ({self.low:.{digits}f} - {self.high:.{digits}f})"


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Args:
        what: what was measured.
        bar: what is asked, in `unit`.
        unit: of the bar and of the figure: `x` for a ratio.
        figure: what was found.
        at_least: the figure has to reach the bar; otherwise it has to stay at or below it.
        added: what counts is what is added: the figure is a difference, or a ratio close to one.
        note: what else a reader should know.
    """

    what: str
    bar: float
    unit: str
    figure: Figure
    at_least: bool = False
    added: bool = False
    note: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the value itself, not its interval, is on the right side of the bar."""
        return self.figure.value >= self.bar if self.at_least else self.figure.value <= self.bar

    @property
    def reach(self) -> float:
        """How far the interval reaches to a side, as a share of the figure.

        Of a difference it is a share of what may be added, where that is more: nothing is no share of itself.
        """
        is_difference = self.added and self.unit != "x"
        return self._share(max(abs(self.figure.value), self.bar if is_difference else 0))

    @property
    def reach_of_added(self) -> float:
        """The same where what counts is what is added: of a ratio close to one, as a share of that.

        Or of what may be added, or of a tenth, where that is more.
        """
        if not self.added or self.unit != "x":
            return self.reach
        return self._share(max(self.figure.value - 1, self.bar - 1, _OF_ONE))

    def _share(self, of: float) -> float:
        if not self.figure.reach:
            return 0.0
        return self.figure.reach / of if of else math.inf

    def __str__(self) -> str:
        bar = f"{'>=' if self.at_least else '<='} {self.bar:g} {self.unit}"
        met = "met" if self.is_met else "NOT MET"
        return f"{self.what:<76}{bar:>13}  {self.figure!s:<28}{met:<9}{self.note}".rstrip()


@dataclass(frozen=True)
class LeftOut:
    """A line of the table for what was not measured.

    Args:
        what: what was not.
        why: what is missing.
        failed: it could have been.
    """

    what: str
    why: str
    failed: bool = False

    def __str__(self) -> str:
        return f"{self.what:<76}{'left out':>13}  {self.why}"


def median(values: Sequence[float]) -> Figure:
    """Return the median of `values`, which were measured one after the other."""
    return _resampled(len(values), lambda chosen: statistics.median(values[i] for i in chosen))


def ratio_of_medians(above: Sequence[float], below: Sequence[float]) -> Figure:
    """Return how many times the median of `below` that of `above` is; values of one place are of one round."""
    if len(above) != len(below):
        raise ValueError(f"{len(above)} and {len(below)} rounds")
    return _resampled(
        len(above),
        lambda chosen: (
            statistics.median(above[i] for i in chosen)
            / statistics.median(below[i] for i in chosen)
        ),
    )


def spread(values: Sequence[float]) -> Figure:
    """Return the median of `values` between the least and the most: for a handful of rounds."""
    return Figure(statistics.median(values), min(values), max(values))


def exact(value: float) -> Figure:
    """Return a figure that is the same each time."""
    return Figure(value, value, value)


def _resampled(count: int, estimate: Callable[[Sequence[int]], float]) -> Figure:
    """Bootstrap: the 5th and the 95th percentile of `estimate` over rounds drawn with replacement.

    One less is drawn than there are: with all, intervals of few rounds are too narrow.
    """
    draw = random.Random(0)
    drawn = max(1, count - 1)
    found = sorted(estimate(draw.choices(range(count), k=drawn)) for _ in range(_RESAMPLES))
    return Figure(
        estimate(range(count)), found[_RESAMPLES // 20], found[_RESAMPLES - 1 - _RESAMPLES // 20]
    )
