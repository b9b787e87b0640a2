"""Where a record begins and ends.

A step opens at the first root forward made in training (``module.training`` and grad mode on) and ends at the last
``optimizer.step`` before the next one opens, or with its iteration where that is skipped; :meth:`Steps.step` sets both
by hand. A root forward outside a step (evaluation, inference) is a record of its own.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial
from time import perf_counter_ns as now
from typing import Any

from torch import nn

from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._program_end import error_that_ends_the_program
from otel_torch_modules._recording.admission import Admission
from otel_torch_modules._recording.causes.causes import Causes
from otel_torch_modules._recording.contents import wants_gradient
from otel_torch_modules._recording.cost.spending import Spending
from otel_torch_modules._recording.cost.timed_boundary import TimedBoundary
from otel_torch_modules._recording.device_events import DeviceEvents
from otel_torch_modules._recording.loop.border import Border
from otel_torch_modules._recording.loop.by_hand import StepByHand, StepsByHand
from otel_torch_modules._recording.loop.current_step import CurrentStep
from otel_torch_modules._recording.loop.evaluation import Forward
from otel_torch_modules._recording.loop.evaluations import Evaluations
from otel_torch_modules._recording.loop.hindsight import Hindsight
from otel_torch_modules._recording.loop.iterations import Iterations
from otel_torch_modules._recording.loop.live_optimizers import LiveOptimizers
from otel_torch_modules._recording.loop.open_optimizers import OpenOptimizers
from otel_torch_modules._recording.loop.open_step import OpenStep
from otel_torch_modules._recording.loop.running import waits_in_a_module
from otel_torch_modules._recording.loop.step_opening import StepOpening
from otel_torch_modules._recording.loop.training_loop import TrainingLoop
from otel_torch_modules._recording.loop.updates import Updates
from otel_torch_modules._recording.losses import Losses
from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._recording.requests import Requests
from otel_torch_modules._recording.torch_private.autograd import current_number
from otel_torch_modules._recording.torch_private.loop import data_worker
from otel_torch_modules._recording.torch_private.modules import PIPELINE_STAGES, infers_shapes
from otel_torch_modules._records import Record
from otel_torch_modules._step_context import StepContext
from otel_torch_modules.config import Config


class Steps:
    """Decides of each root call and each backward whose they are.

    Args:
        config: which phases and which steps are recorded.
        recorder: records into what is opened here.
        context: makes a record the program's current span.
        submit: takes a finished record; must not block.
        leave_out: takes a step that has ended and was not recorded; must not block.
        losses: told of what an error of ours has cost.
        causes: of what takes time beside modules.
        short_of_room: whether a record that opens should do without its modules, as too much waits to be sent.
        device_events: are taken of each step; None for none.
        spending: decides how deep records go; None where there is no budget and all are full.
        requests: for steps, while the job runs; None where nobody can ask.
        hurry: returns a function in C, to be called back where a thread ends before what it has done was submitted.
    """

    def __init__(
        self,
        config: Config,
        recorder: Recorder,
        context: StepContext,
        submit: Callable[[Record], object],
        leave_out: Callable[[Record], object],
        *,
        losses: Losses,
        causes: Causes,
        hurry: Callable[[], Callable[[object], None]],
        short_of_room: Callable[[], bool] = bool,
        device_events: DeviceEvents | None = None,
        spending: Spending | None = None,
        requests: Requests | None = None,
    ) -> None:
        self._losses = losses
        self._recorder = recorder
        self._admission = Admission(
            config, context, submit, leave_out, short_of_room, losses, spending, causes, requests
        )
        optimizers = OpenOptimizers()
        self._border = Border(recorder, self._admission, optimizers)
        self._current = CurrentStep(
            recorder,
            self._admission,
            self._border,
            optimizers,
            causes.measures,
            hurry,
            device_events,
        )
        self._fetches = self._current.fetches
        self._evaluations = Evaluations(recorder, self._admission, losses, self._fetches, hurry)
        live_optimizers = LiveOptimizers()
        self._iterations = Iterations(live_optimizers)
        self._lock = threading.RLock()
        self._hindsight = Hindsight(self._current, self._border, self._admission, self._iterations)
        self._opening = StepOpening(
            self._current,
            self._admission,
            self._border,
            self._evaluations,
            self._iterations,
            live_optimizers,
            losses,
        )
        self._updates = Updates(self._current, self._border, self._evaluations, self._opening)
        self.loop = TrainingLoop(self._current, self._iterations, self._hindsight, self._updates)
        """What happens outside modules is told there."""
        by_hand = StepsByHand(
            self._current, spending, self._iterations, losses, self._opening.open_by_hand
        )
        self.step = partial(StepByHand, by_hand)
        """Makes what happens inside one step; from then on no step is found automatically."""
        recorder.boundary = self if spending is None else TimedBoundary(self, spending.spend)

    # Root calls and backward passes, from the recorder.

    def root_opens(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """See :class:`Boundary`."""
        current = self._current
        if self._evaluations.threads:
            self._evaluations.forget()
        if self._fetches.at_work:
            return self._dataset_root()
        in_worker = data_worker._worker_info is not None
        if in_worker and not self._admission.admits_worker_processes:
            return False
        if PIPELINE_STAGES in sys.modules and infers_shapes():
            return False
        if current.optimizers.threads:
            current.leave_raised(None)
        step = current.step
        if (
            self._border.is_trained(module)
            and not in_worker
            and not (current.by_hand and step is None)
        ):
            return self._training_root(module, args, kwargs)
        if step is not None and not step.ended and self._is_of(step, module):
            step.root_opens(module)
            return step.recorded
        return self._outside_root(module)

    def root_closes(self, failed: bool) -> None:
        """See :class:`Boundary`."""
        if self._fetches.at_work:
            self._recorder.local.state.own = None
            return
        if self._evaluations.threads and self._evaluations.root_closes(failed):
            return
        current = self._current
        if current.step is not None:
            current.end = now()
            if failed:
                current.break_off(current.step)

    def task_opens(self) -> None:
        """See :class:`Boundary`."""
        current = self._current
        thread = self._recorder.local.state
        if thread.own is not None:
            if self._fetches.at_work or current.is_of_another_thread:
                return  # it is no step's
            forwards = self._reached_forwards()
            if forwards:
                begin = current.optimizers.begin_with(forwards[0].start)
                self._border.open_with(self._opening.open(begin), forwards)
            elif thread.stack:
                return
            thread.own = None
        step = current.step
        if step is not None and step.released:
            step = current.reclaim()
        if step is not None and current.optimizers.threads:
            current.optimizers.log(self._recorder)

    def task_closes(self, time: int, failed: bool, accumulates: bool) -> None:
        """See :class:`Boundary`."""
        current = self._current
        step = current.step
        if step is None:
            return
        current.end = max(current.end, time)
        step.backward_ended(accumulates)
        if self._iterations.looks_closer:
            self._iterations.backward_ended(step)
        if failed:
            current.break_off(step)
        elif step.ended or self._iterations.by_forward:
            current.end_step(step)

    def lose(self, error: BaseException, where: str) -> None:
        """See :class:`Boundary`."""
        lost: bool | None = True
        try:
            lost = self._evaluations.lose()
            if lost is None:
                lost = self._current.lose()
            self._evaluations.end()
            self._updates.forget()
        except BaseException as another:
            if is_interruption(another):
                raise
            self._losses.say(another, "A record could not be dropped in full")
        finally:
            if is_interruption(error):  # it leaves the loop
                self._current.spoiled = False
            if lost is not False:
                self._losses.add(error, where)

    # At the end.

    @property
    def current(self) -> CurrentStep:
        """The step that is open, or the last one: for who looks on from another thread."""
        return self._current

    def finish(self) -> None:
        """Send off what there is, whatever state it is in."""
        self._evaluations.end_all()
        self._recorder.tasks.settle()
        self._hindsight.undo_unfinished()
        self._current.left_by(error_that_ends_the_program())
        self._current.hand_over()

    def hand_over_ended(self) -> None:
        """Send off all with which nobody goes on, as far as that is known; in any thread.

        A step that is open is broken off where its thread is gone.
        """
        step = self._current.step
        if step is None or step.ended or self._recorder.threads.get(step.thread) is not None:
            self._evaluations.end_all()
            self._current.hand_over_ended()
        else:
            self.finish()

    def hand_over_idle(self) -> None:
        """Send off what ended a while ago."""
        self._evaluations.end_idle()
        self._current.hand_over_idle()

    def abandon(self) -> None:
        """Drop what is open, step or evaluation: it is another process's now."""
        self._evaluations.abandon()
        self._current.abandon()
        self._lock = threading.RLock()  # another thread's hands may have been on it

    # Below: whose a root call is.

    def _is_of(self, step: OpenStep, module: nn.Module) -> bool:
        """Return whether a root forward that is not training's is of `step`: a teacher's, a metric's, a replica's."""
        return (
            step.thread == threading.get_ident()
            or vars(module).get("_is_replica")
            or waits_in_a_module(step.thread)
        )

    def _dataset_root(self) -> bool:
        """Return whether the root call that a dataset makes is recorded."""
        current = self._current
        step = current.step
        if step is None or step.ended:
            recorded = current.has_modules and self._admission.admits_step(current.index)
        else:
            recorded = step.recorded and not step.record.phases_only
        recorded = recorded and self._admission.admits_dataset_calls
        calls = self._fetches.open_calls() if recorded else None
        self._recorder.local.state.own = calls
        return calls is not None

    def _outside_root(self, module: nn.Module) -> bool:
        current = self._current
        begin = now()
        if not current.is_of_another_thread:
            begin = current.pauses.before_evaluation(begin, current.end)
            self._border.passes(module)
        return self._evaluations.root_opens(module, current.last_index, begin)

    def _training_root(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> bool:
        current = self._current
        with self._lock:
            step = current.step
            if (
                step is not None
                and not (step.ended or current.by_hand)
                and self._hindsight.may_end(step, module)
            ):
                if not step.raised and self._iterations.was_none(step, module):
                    self._hindsight.undo(step)
                    return self._outside_root(module)
                going_on = self._hindsight.going_on(step, module)
                step.ended = going_on is None
                step = going_on or step
            if step is None and not self._border.is_trained(module):
                return self._outside_root(module)  # as another thread has shown meanwhile
            if step is None or step is not current.step or (step.ended and not current.by_hand):
                step = self._opening.open_at_forward(module)
            elif step.recorded:
                self._admission.context.attach(step.record)
            if step.trained_root_opens(module, step.recorded and wants_gradient(args, kwargs)):
                step.record.micro_batches += 1
                if self._iterations.looks_for_updates and not step.recorded:
                    self._iterations.left_out_root_opens(step)
        if current.optimizers.threads:
            current.optimizers.log(self._recorder)
        return step.recorded

    def _reached_forwards(self) -> list[Forward]:
        current = self._current
        if current.by_hand or not (current.step is None or current.step.ended):
            return []
        return self._evaluations.reached_by(current_number())
