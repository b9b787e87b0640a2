"""What was taken for one step that goes on, and turns out to be over, or several steps, or none."""

from __future__ import annotations

from torch import nn

from otel_torch_modules._events import begin_of
from otel_torch_modules._recording.admission import Admission
from otel_torch_modules._recording.loop.border import Border
from otel_torch_modules._recording.loop.current_step import CurrentStep
from otel_torch_modules._recording.loop.iterations import Iterations
from otel_torch_modules._recording.loop.open_step import OpenStep
from otel_torch_modules._recording.loop.root_forwards import (
    first_of_each_iteration,
    micro_batches_of,
)
from otel_torch_modules._recording.modules.mode import in_training


class Hindsight:
    """Ends, parts and undoes the open step.

    Args:
        current: has it.
        border: takes its forwards where it was none.
        admission: where its records go.
        iterations: say what no optimizer does.
    """

    def __init__(
        self, current: CurrentStep, border: Border, admission: Admission, iterations: Iterations
    ) -> None:
        self._current = current
        self._border = border
        self._admission = admission
        self._iterations = iterations

    def may_end(self, step: OpenStep, module: nn.Module) -> bool:
        """Return whether `step` may be over, or have been none, before the forward of `module` that begins now.

        That is in training. It is one of the root, or may be of what takes the place of one that is called no more; how
        many there were in a row of others than the root is counted.
        """
        if step.root is module:
            step.others = 0
            return True
        step.others += 1
        return self._iterations.is_left(step, module)

    def going_on(self, step: OpenStep, module: nn.Module) -> OpenStep | None:
        """Return the step that a forward is of; None where `step`, in which no optimizer stepped, has ended before it.

        Args:
            step: the open one.
            module: its root, or what may take its place.
        """
        if step.raised:
            self._current.break_off(step)
            return None
        if not step.training and step.backwards and in_training(module):
            if not step.is_attack:
                return None  # gradients were asked for in an evaluation
            step.training = True
        if not self._current.optimizers:  # else a closure
            if self._iterations.was_updated(step, module):
                self._current.end_by_update(step)
                return None
            if self._iterations.skips(step):
                step.record.skipped = True
                return None
            if self._iterations.has_no_optimizer(step, module):
                step = self.part(step)
            if self._iterations.ends_by_itself(step):
                return None
        if step.root is not module:
            step.go_on_with(module)
        return step

    def begin_anew(self, step: OpenStep, number: int) -> OpenStep:
        """Let `step` have ended before one of its root forwards; return the step that begins with that.

        Args:
            step: the open one, which is recorded.
            number: which root forward, counted from 0.
        """
        current = self._current
        backwards, training = step.backwards - step.roots[number].backwards, step.training
        log, roots = step.leave_from(number)
        self._admission.context.detach(step.record)
        current.step = None  # from here on it is another's
        self._admission.close(step.record)
        step = current.make(begin_of(log, 0), None, lost=False)
        step.roots, step.backwards, step.training = roots, backwards, training
        step.first_reached = 0 if backwards else None
        step.gradients = backwards > 0
        step.record.micro_batches = micro_batches_of(roots)
        if step.recorded:
            step.record.log = log
            current.recorder.step.turn_to(step.record)
            self._admission.context.attach(step.record)
            current.measures.step_begins(step.record.start)
        return step

    def part(self, step: OpenStep) -> OpenStep:
        """Let each iteration of `step` be a step, as its loop has no optimizer that would end them; return the last."""
        while (
            step.recorded
            and not step.record.truncated
            and (again := first_of_each_iteration(step.roots))
        ):
            step = self.begin_anew(step, again[0])
        if not step.recorded:
            self._current.index += step.record.micro_batches - 1
        return step

    def undo(self, step: OpenStep) -> None:
        """Take back that `step` was opened: its forwards are an evaluation's."""
        current = self._current
        self._admission.context.detach(step.record)  # first: nothing does once the step is gone
        current.drop()
        current.index -= 1
        self._border.give_back(step.all_forwards(), current.last_index)
        if step.root_reference is not None:
            self._border.idles(step.root_reference)

    def undo_unfinished(self) -> None:
        """Undo a step that is open at the end, without a backward and with more forwards than the last ones had."""
        current = self._current
        step = current.step
        if (
            step is not None
            and step.recorded
            and not (step.ended or step.backwards)
            and not (current.by_hand or current.recorder.tasks.any_runs)
            and self._iterations.outgrows(step)
        ):
            self.undo(step)
