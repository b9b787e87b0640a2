"""How long a run takes from the start of one step to that of the next, on average: what all it does adds up to.

The median step knows nothing of what lies between the steps, nor of what is in every tenth of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import hypot, sqrt
from statistics import fmean, stdev
from typing import NamedTuple

from otel_torch_modules._diagnosis.series import MS, Series, gaps

_LEAST_PACES = 6  # of each run: what fewer say of the others is too little
_LEAST_SHARE = 0.005  # a difference that is smaller is none: of large runs the interval is narrow
_MOST_STRETCHES = 10
_NORMAL = 1.96  # standard deviations hold 95 %
_MOST_OF_IT = 0.8


class PaceChange(NamedTuple):
    """What B's time from start to start is beside A's: means, in ms. The interval holds 95 %, of few steps it is None.

    `between_ms` is how much of the difference lies between the steps; the rest lies in them.
    """

    a_ms: float
    b_ms: float
    relative: float
    interval: tuple[float, float] | None
    between_ms: float

    @property
    def differs(self) -> bool:
        """Whether the interval leaves out 0, and the difference is worth a word."""
        if self.interval is None or abs(self.relative) < _LEAST_SHARE:
            return False
        return self.interval[0] > 0 or self.interval[1] < 0

    @property
    def where(self) -> str:
        """Where most of the difference lies."""
        difference = self.b_ms - self.a_ms
        share = self.between_ms / difference if difference else 0.0
        if share > _MOST_OF_IT:
            return "between the steps"
        return "in some of the steps" if share < 1 - _MOST_OF_IT else "between and in the steps"


class _Paces(NamedTuple):
    """Of each step that is followed by the next one: the time to that one's start, and what of it lies between; ms."""

    ms: Sequence[float]
    between: Sequence[float]

    @classmethod
    def of(cls, series: Series) -> _Paces:
        followed = list(gaps(series))
        starts = series.starts
        return cls(
            [max(starts[at + 1] - starts[at], 0) / MS for at, _ in followed],
            [between for _, between in followed],
        )

    @property
    def stretches(self) -> int:
        return min(len(self.ms), _MOST_STRETCHES)

    @property
    def error(self) -> float:
        """The standard error of the mean, from the means of stretches: what is slow is slow for several steps."""
        count, stretches = len(self.ms), self.stretches
        bounds = [count * at // stretches for at in range(stretches + 1)]
        means = [fmean(self.ms[start:end]) for start, end in pairwise(bounds)]
        return stdev(means) / sqrt(stretches)


def compare_paces(a: Series, b: Series) -> PaceChange | None:
    """Return how the paces of two series differ; None where no step of one is followed by the next."""
    paces_a, paces_b = _Paces.of(a), _Paces.of(b)
    if not paces_a.ms or not paces_b.ms:
        return None
    a_ms, b_ms = fmean(paces_a.ms), fmean(paces_b.ms)
    relative = b_ms / max(a_ms, 1e-9) - 1
    between = fmean(paces_b.between) - fmean(paces_a.between)
    return PaceChange(a_ms, b_ms, relative, _interval(paces_a, paces_b), between)


def _interval(a: _Paces, b: _Paces) -> tuple[float, float] | None:
    """Return the bounds that hold 95 % of what B's mean may be beside A's."""
    if min(len(a.ms), len(b.ms)) < _LEAST_PACES:
        return None
    a_ms, b_ms = max(fmean(a.ms), 1e-9), fmean(b.ms)
    # What happened in A alone makes B's share of it small, and must not make it sure.
    error = hypot(b.error, max(b_ms / a_ms, 1.0) * a.error) / a_ms
    away = _student(min(a.stretches, b.stretches) - 1) * error
    relative = b_ms / a_ms - 1
    return max(relative - away, -1.0), relative + away  # no step takes less than nothing


def _student(freedom: int) -> float:
    """Return how many standard errors from a mean hold 95 % where these are estimated with so many degrees of freedom.

    Example:
        >>> round(_student(5), 1), round(_student(19), 2)
        (2.5, 2.09)
    """
    z = _NORMAL
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
