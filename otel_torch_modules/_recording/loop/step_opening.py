"""How a step opens: what came before leaves, and what belongs to it already is put into it."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns as now

from torch import nn

from otel_torch_modules._recording.admission import Admission
from otel_torch_modules._recording.loop.border import Border
from otel_torch_modules._recording.loop.current_step import CurrentStep
from otel_torch_modules._recording.loop.evaluations import Evaluations
from otel_torch_modules._recording.loop.iterations import Iterations
from otel_torch_modules._recording.loop.live_optimizers import LiveOptimizers
from otel_torch_modules._recording.loop.open_step import OpenStep
from otel_torch_modules._recording.losses import Losses


class StepOpening:
    """Opens the current step.

    Args:
        current: the step.
        admission: makes it the program's current span.
        border: told that it opens.
        evaluations: end with it.
        iterations: told of the step before.
        optimizers: know what they train.
        losses: knows when to record nothing more.
    """

    def __init__(
        self,
        current: CurrentStep,
        admission: Admission,
        border: Border,
        evaluations: Evaluations,
        iterations: Iterations,
        optimizers: LiveOptimizers,
        losses: Losses,
    ) -> None:
        self._current = current
        self._admission = admission
        self._border = border
        self._evaluations = evaluations
        self._iterations = iterations
        self._optimizers = optimizers
        self._losses = losses

    def open(self, start: int) -> OpenStep:
        """Begin a step that is found, after what there is has been handed over.

        Args:
            start: when its first root is called (ns).
        """
        current = self._current
        spoiled, current.spoiled = current.spoiled, True
        if current.step is not None:
            self._iterations.step_left(current.step)
        evaluations = self._evaluations
        evaluation_end = evaluations.last_end if evaluations.threads else 0
        after = current.pauses.before_step(
            start, current.end, evaluation_end, first=current.index == 0
        )
        waits = current.take_waits()
        if current.fetches.last_end:
            waits += current.fetches.take()
        if waits:
            start = min(start, waits[0].start)
        step = self._begin(start, None, lost=spoiled)
        if not step.record.parent:
            step.record.start = min(step.record.start, after)
        if step.recorded:
            current.measures.step_begins(step.record.start)
            current.log_waits(waits)
        return step

    def open_by_hand(self, start: int, index: int | None) -> OpenStep:
        """Begin a step where the program says so: it has waited for nothing yet.

        Args:
            start: when that is (ns).
            index: its number; None for the next.
        """
        current = self._current
        spoiled, current.spoiled = current.spoiled, True
        current.by_hand = True
        current.pauses.straight_on = False
        if current.fetches.last_end:
            current.fetches.take()
        step = self._begin(start, index, lost=spoiled)
        if step.recorded:
            current.measures.step_begins(step.record.start)
        return step

    def _begin(self, start: int, index: int | None, *, lost: bool) -> OpenStep:
        current = self._current
        self._border.unsure = None  # what follows says nothing of the forwards before
        if current.step is not None or current.recorder.tasks.open:
            self._leave(current.hand_over)
        if self._evaluations.threads:
            self._leave(self._evaluations.end)
        # After the last of too many errors nothing would ever end it.
        step = current.make(start, index, lost=lost or self._losses.given_up)
        current.end = start
        if step.recorded:
            self._admission.context.attach(step.record)
        return step

    def _leave(self, hand_over: Callable[[], None]) -> None:
        try:
            hand_over()
        except BaseException:  # what that costs is not the step that opens
            if self._current.recorder.fail("where a record is handed over"):
                raise

    def open_at_forward(self, module: nn.Module) -> OpenStep:
        """Begin a step with a forward of `module`, and with those before it that lead to it."""
        current = self._current
        begin = now()
        if current.optimizers.threads:
            begin = current.optimizers.begin_with(begin)
        evaluations = self._evaluations
        if not evaluations.threads:
            return self.open(begin)
        leading = evaluations.leading_to(module, current.fetches.last_end, self._optimizers.train)
        step = self.open(begin)
        step.leading = self._border.put_before(step, leading)
        return step
