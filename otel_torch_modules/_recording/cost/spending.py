"""What tracing costs in this process, gathered where it is spent, and so how deep each record goes.

Steps and evaluations have a budget each: an evaluation's forwards are compared with the time of one, so a thousand
of them in a row cost no larger share than training does.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns, thread_time_ns
from typing import Final

from otel_torch_modules._events import WIDTH
from otel_torch_modules._recording.cost.account import Account, DoneBeside
from otel_torch_modules._recording.cost.budget import Budget
from otel_torch_modules._recording.cost.calibration import CallCost, calibrate
from otel_torch_modules._records import Record
from otel_torch_modules.schedule import Schedule

_LEAVES_OUT_STEPS: Final = "OTEL_TORCH_MODULES_SCHEDULE leaves out whole steps"
_LEAVES_OUT_FORWARDS: Final = "OTEL_TORCH_MODULES_PHASES=train leaves such forwards out"


class Spending:
    """Keeps the costs of a process under a share of its time.

    Args:
        fraction: the most that tracing may cost, as a share of the time of the same program untraced.
        schedule: which steps are recorded at all.
        measure: returns what a module call costs; told whether a backward follows.
        clock: nanoseconds.
        worker_clock: nanoseconds of processor time of the thread that asks.
    """

    def __init__(
        self,
        fraction: float,
        schedule: Schedule,
        *,
        measure: Callable[[bool], CallCost] = calibrate,
        clock: Callable[[], int] = perf_counter_ns,
        worker_clock: Callable[[], int] = thread_time_ns,
    ) -> None:
        self._schedule = schedule
        self._worker_clock = worker_clock
        self._steps = Account(
            Budget(fraction / schedule.share), "step", _LEAVES_OUT_STEPS, True, measure, clock
        )
        self._evaluations = Account(
            Budget(fraction), "forward outside steps", _LEAVES_OUT_FORWARDS, False, measure, clock
        )
        self._current = self._steps  # whose boundaries are passed now
        # Whose record, whether it has modules, of how many forwards.
        self._worked_on: tuple[Account, bool, int] | None = None
        self._worker_ns = 0

    def step_opens(self) -> None:
        """Take note of the time of the step before, recorded or not."""
        self._current = self._steps
        self._steps.turn()

    def set_depth_of_step(self, step: Record) -> None:
        """Decide whether `step`, which opens and is recorded, has modules."""
        assert step.index is not None
        self._set_depth(step, self._steps, self._schedule.recorded_before(step.index))

    def set_depth_of_evaluation(self, evaluation: Record) -> None:
        """Decide whether the forward that opens in `evaluation` has modules; what it costs is on their account."""
        self._current = self._evaluations
        self._evaluations.turn()
        self._set_depth(evaluation, self._evaluations, self._evaluations.opened)

    def evaluation_closes(self, events: int | None, launched: int = 0) -> None:
        """Take note that a forward of an evaluation is over that holds so many events; None where it has no modules.

        So many collectives were launched meanwhile.
        """
        self._evaluations.take(1, events, DoneBeside(launched))
        self._current = self._steps

    def step_closes(self, step: Record, launched: int = 0) -> None:
        """Take note that `step` is over, in whose time so many collectives were launched."""
        events = None if step.phases_only else len(step.log) // WIDTH
        stamps = step.stamps
        beside = DoneBeside(launched)
        if stamps is not None:
            beside = DoneBeside(launched, stamps.taken_ns, stamps.of_modules)
        self._steps.take(max(step.micro_batches, 1), events, beside)

    def spend(self, ns: int) -> None:
        """Take note of the time that the training thread was busy with where a record begins or ends."""
        self._current.boundary_ns += ns

    def worker_turns_to(self, record: Record) -> None:
        """Take note that the worker has `record` next.

        Whatever that thread did since it had the one before is what that one cost, sending included.
        """
        time = self._worker_clock()
        taken, self._worker_ns = time - self._worker_ns, time
        if self._worked_on is not None and taken >= 0:  # else it is a forked child's thread
            account, modules, forwards = self._worked_on
            account.budget.add_record(taken // forwards, modules=modules)
        account = self._steps if record.kind == "step" else self._evaluations
        self._worked_on = account, not record.phases_only, max(record.forwards, 1)

    def _set_depth(self, record: Record, account: Account, ordinal: int) -> None:
        if record.phases_only:  # by the choice of ranks
            return
        account.keep_calibrated()
        budget = account.budget
        record.phases_only = not budget.records_modules(ordinal)
        record.stride = budget.stride
        account.say_what_is_out_of_reach()
