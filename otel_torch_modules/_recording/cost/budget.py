"""Which steps record modules and which only phases, so that recording costs no more than a share of the job's time.

One step in `stride` is recorded in full. Strides are powers of two and so they nest: what the rank with the largest
stride records in full is recorded in full by all, though no rank knows of another. What a step costs without modules
is spent in every step; only what modules add to it is divided by the stride.
"""

from __future__ import annotations

from collections import deque
from statistics import fmean, median, median_low, quantiles
from typing import Final

LARGEST_STRIDE: Final = 1_024

FULL_AT_FIRST: Final = 4
"""So many steps are recorded in full whatever they cost: somebody new sees something at once, and costs are seen."""

_CHOOSE_EVERY: Final = 8  # steps

# Of what is measured the last ones count. The time of a step is their lower quartile: it leaves out an evaluation or a
# checkpoint between two and what others do on the machine, for what is known of costs leaves that out too; where steps
# differ much, too little is spent rather than too much. On the training thread phases count by their median. On the
# worker full records count by a low median, for in the first of them all places are new, and that comes once; records
# of phases count by their mean, for a few of them bear what it takes to send them all.
_INTERVALS: Final = 32
_STEPS: Final = 16
_FULL_RECORDS: Final = 5
_FULL_RECORDS_KNOWN: Final = 3  # fewer say nothing yet
_PHASES_RECORDS: Final = 32

_CLEARLY_UNDER: Final = 0.8  # of the budget: only then does the stride become smaller
_LASTING: Final = 8  # choices

_UNSEEN: Final = 1.25
"""What tracing costs in all, as a multiple of what is measured here.

The rest no clock of ours sees: waits for the interpreter lock while the worker has it, caches that the worker's data
fill, gRPC's own threads. ``benchmarks/budget.py`` found 0.9 to 1.4.
"""


class Budget:
    """Knows what recording costs and how long steps take; says which of them record modules.

    All times are nanoseconds. Until the worker's time for a full record is known, what comes after the first
    steps is recorded as seldom as can be.

    Args:
        fraction: of a step's time without tracing, the most that tracing may cost on average.
    """

    def __init__(self, fraction: float) -> None:
        self.stride = 1
        self._chosen = False  # by what was measured
        self._over = 0  # choices in a row that found phases alone too dear
        self._modules_ns = 0.0
        self._fraction = fraction
        self._asked = 0
        self._intervals: deque[float] = deque(maxlen=_INTERVALS)
        self._phases: deque[float] = deque(maxlen=_STEPS)
        # Appended to by the worker.
        self._worker_full: deque[int] = deque(maxlen=_FULL_RECORDS)
        self._worker_phases: deque[int] = deque(maxlen=_PHASES_RECORDS)

    def records_modules(self, ordinal: int) -> bool:
        """Return whether the step that opens now is recorded in full.

        Args:
            ordinal: how many recorded steps come before it; the same on all ranks.
        """
        self._asked += 1
        if self._asked <= FULL_AT_FIRST:
            return True
        if not self._chosen or self._asked % _CHOOSE_EVERY == 0:
            self.stride = self._choose()
        return ordinal % self.stride == 0

    def add_interval(self, ns: float) -> None:
        """Take note of the time from one step's opening to the next, less what the training thread did for tracing."""
        self._intervals.append(ns)

    def add_cost(self, phases_ns: float, modules_ns: float) -> None:
        """Take note of what a recorded step costs on the training thread.

        Args:
            phases_ns: without modules.
            modules_ns: what is added where it has modules.
        """
        self._phases.append(phases_ns)
        self._modules_ns = modules_ns

    def add_record(self, worker_ns: int, *, modules: bool) -> None:
        """Take note of the worker's processor time for a record."""
        (self._worker_full if modules else self._worker_phases).append(worker_ns)

    @property
    def is_known(self) -> bool:
        """Whether the worker's time for a full record is known."""
        return len(self._worker_full) >= _FULL_RECORDS_KNOWN

    @property
    def out_of_reach(self) -> bool:
        """Whether phases alone have cost more than is allowed for a while."""
        return self._over >= _LASTING

    @property
    def allowed_ns(self) -> float:
        """What tracing a step may cost on average."""
        if len(self._intervals) < 2:
            return 0.0
        return self._fraction * quantiles(self._intervals, n=4, method="inclusive")[0]

    @property
    def phases_ns(self) -> float:
        """What a step costs that is recorded with phases only."""
        thread = median(self._phases) if self._phases else 0.0
        return _UNSEEN * (thread + self._worker_phases_ns)

    def cost_ns(self, stride: int) -> float:
        """Return what a step costs on average where one in `stride` is recorded in full."""
        worker = median_low(list(self._worker_full) or [0]) - self._worker_phases_ns
        return self.phases_ns + _UNSEEN * max(self._modules_ns + worker, 0.0) / stride

    @property
    def _worker_phases_ns(self) -> float:
        return fmean(list(self._worker_phases) or [0])

    def _choose(self) -> int:
        if not self.is_known:
            return LARGEST_STRIDE
        allowed = self.allowed_ns
        held = self.stride if self._chosen else 1
        stride = 1
        while stride < LARGEST_STRIDE and self.cost_ns(stride) > (
            allowed if stride >= held else allowed * _CLEARLY_UNDER
        ):
            stride *= 2
        self._chosen = True
        self._over = self._over + 1 if self.phases_ns > allowed else 0
        return stride
