"""What the records of one kind cost on the training thread, and the time that they are measured against."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from statistics import fmean, median
from typing import Final, NamedTuple

from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._log import warn
from otel_torch_modules._recording.cost.budget import LARGEST_STRIDE, Budget
from otel_torch_modules._recording.cost.calibration import FALLBACK, CallCost

logger = logging.getLogger("otel_torch_modules")

_CALIBRATIONS: Final = 5  # the last ones count, by their median

# How long a calibration holds (ns): the first, and each later one twice as long as the one before, but no longer than:
_FIRST_HOLDS: Final = 4_000_000_000
_HOLDS: Final = 60_000_000_000


# What a collective costs whoever launches it, as so many events of calls: to pass the kernel that stands before
# torch's, in any record, and to be written down where there are modules. By ``benchmarks/collectives.py``, 10 µs each
# where an event is calibrated at 4, which is twice what it takes where nothing else runs.
_TO_PASS: Final = 5
_TO_NOTE: Final = 5

_FULL_RECORDS: Final = (
    16  # in one of so many by default modules have stamps, so these tell how many do
)


class DoneBeside(NamedTuple):
    """What the program's threads did for a record beside calls of modules.

    Args:
        launched: how many collectives passed us.
        stamps_ns: what putting stamps on the device's streams took.
        stamps_of_modules: whether calls of modules have them.
    """

    launched: int = 0
    stamps_ns: int = 0
    stamps_of_modules: bool = False


_NOTHING: Final = DoneBeside()


class Account:
    """Tells a budget what its records cost.

    Args:
        budget: of steps, or of evaluations.
        name: of what each of them is, for people.
        leaving_out: what leaves more of them out, for people.
        backward: whether a backward belongs to a record.
        measure: returns what a module call costs; told whether a backward follows.
        clock: nanoseconds.
    """

    def __init__(
        self,
        budget: Budget,
        name: str,
        leaving_out: str,
        backward: bool,
        measure: Callable[[bool], CallCost],
        clock: Callable[[], int],
    ) -> None:
        self.budget = budget
        self.opened = 0
        """How many of this kind came before the one that is open."""
        self.boundary_ns = 0
        """What the training thread did where records begin or end, since the last of them opened."""
        self._name = name
        self._leaving_out = leaving_out
        self._warned = False
        self._backward = backward
        self._measure = measure
        self._clock = clock
        self._cost = FALLBACK
        self._calibrations: deque[CallCost] = deque(maxlen=_CALIBRATIONS)
        self._calibrate_at: int | None = None
        self._calibration_holds_ns = _FIRST_HOLDS
        self._opened_at: int | None = None
        self._events = 0  # of the last record in full
        self._roots = 1  # of the last record
        self._beside = _NOTHING  # the last record
        self._module_stamps_ns: deque[int] = deque(maxlen=_FULL_RECORDS)  # of records in full
        self._taken = False  # the record that opened last is over
        self._modules = False  # it had modules

    def turn(self) -> None:
        """Take note that a record opens, and so of the time and the cost of the one before."""
        time = self._clock()
        if self._opened_at is not None:
            own_ns: float = self.boundary_ns
            if self._taken:
                own_ns = self._settle()
            self.budget.add_interval(max(time - self._opened_at - own_ns, 0))
            self.opened += 1
        self._opened_at = time
        self.boundary_ns = 0
        self._taken = False

    def take(self, roots: int, events: int | None, beside: DoneBeside = _NOTHING) -> None:
        """Take note that the record is over which opened last.

        Args:
            roots: how many root forwards it has.
            events: how many it holds; None where it has no modules.
            beside: what was done beside.
        """
        self._roots = roots
        self._beside = beside
        self._taken = True
        self._modules = events is not None
        if events is not None:
            self._events = events
            self._module_stamps_ns.append(beside.stamps_ns if beside.stamps_of_modules else 0)

    def say_what_is_out_of_reach(self) -> None:
        """Say once that phases alone cost more than is allowed, where they have for a while."""
        budget = self.budget
        if self._warned or not budget.out_of_reach:
            return
        self._warned = True
        warn(
            logger,
            "Phases alone cost %s µs a %s, more than the %s that OTEL_TORCH_MODULES_MAX_OVERHEAD allows: one in %d has "
            "modules. %s",
            _microseconds(budget.phases_ns),
            self._name,
            _microseconds(budget.allowed_ns),
            LARGEST_STRIDE,
            self._leaving_out,
        )

    def keep_calibrated(self) -> None:
        """Measure what a call costs if that is not known, or not any more."""
        start = self._clock()
        if self._calibrate_at is not None and start < self._calibrate_at:
            return
        self._calibrate_at = start + self._calibration_holds_ns
        self._calibration_holds_ns = min(2 * self._calibration_holds_ns, _HOLDS)
        try:
            self._calibrations.append(self._measure(self._backward))
            self._cost = CallCost(*map(median, zip(*self._calibrations, strict=True)))
        except BaseException as error:
            if is_interruption(error):
                raise
            warn(logger, "What a module call costs is guessed, not measured: %s", error)
            self._measure = self._known
        self._opened_at = self._clock()
        # That comes up once a minute, and not in what a record costs.
        self.boundary_ns -= self._opened_at - start

    def _settle(self) -> float:
        """Tell the budget what the record cost; return it."""
        cost, beside = self._cost, self._beside
        phases_ns = self.boundary_ns + self._roots * cost.root + self._events * cost.left_out
        phases_ns += beside.launched * _TO_PASS * cost.event
        if not beside.stamps_of_modules:
            phases_ns += beside.stamps_ns
        modules_ns = (self._events + beside.launched * _TO_NOTE) * cost.event
        modules_ns += fmean(self._module_stamps_ns or [0])
        self.budget.add_cost(phases_ns, modules_ns)
        return phases_ns + modules_ns if self._modules else phases_ns

    def _known(self, backward: bool) -> CallCost:
        return self._cost


def _microseconds(ns: float) -> str:
    """Return a time with two digits at least."""
    value = ns / 1e3
    return f"{value:.0f}" if value >= 9.95 else f"{value:.2g}"
