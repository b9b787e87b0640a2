"""Which step an optimizer's step is of: that before it, or one of its own, to which forwards alone have led.

Zeroth-order optimization, evolution strategies and forward gradients call the model without gradients, write `grad` by
themselves and let an optimizer step: no backward tells that these forwards are training's. What tells it is an
optimizer that steps once more for the same parameters, and a model that was called meanwhile.
"""

from __future__ import annotations

import threading
from collections import deque
from time import perf_counter_ns as now

from torch.optim import Optimizer

from otel_torch_modules._recording.loop.border import Border
from otel_torch_modules._recording.loop.current_step import CurrentStep
from otel_torch_modules._recording.loop.evaluations import Evaluations
from otel_torch_modules._recording.loop.open_step import OpenStep
from otel_torch_modules._recording.loop.root_forwards import micro_batches_of
from otel_torch_modules._recording.loop.step_opening import StepOpening
from otel_torch_modules._recording.torch_private.compilation import compilation_metrics

# Iterations whose numbers of forwards say how many the next may have: an evaluation comes on top of one.
_ITERATIONS_COMPARED = 8

# A step goes on with so many updates of the same parameters for which nothing is called.
_MOST_BARE = 32


class _Thread(threading.local):
    """What there is in a thread. ``__init__`` runs once in each."""

    def __init__(self) -> None:
        self.forwards = 0  # outside any step, before the last update
        self.end = 0  # of that (ns)
        self.index = 0  # the number of the step after that
        self.backwards = 0  # of the step that it was in
        # By their ids, the first of each optimizer since the last backward.
        self.parameters = set[int]()
        # Forwards before each update of the same.
        self.called = deque[int](maxlen=_ITERATIONS_COMPARED)
        self.bare = 0  # updates of the same in a row with none
        self.by_forwards = False  # the last step was of forwards alone
        self.lost = False  # a record is, and may have been a step


class Updates:
    """Told of each optimizer's step that ends.

    Args:
        current: the step, open or ended.
        border: takes forwards into one.
        evaluations: have them until then.
        opening: begins one.
    """

    def __init__(
        self, current: CurrentStep, border: Border, evaluations: Evaluations, opening: StepOpening
    ) -> None:
        self._current = current
        self._border = border
        self._evaluations = evaluations
        self._opening = opening
        self._thread = _Thread()

    def step_of(self, optimizer: Optimizer, step: OpenStep | None) -> OpenStep | None:
        """Return the step that `optimizer`, whose step ends, has stepped in; None for none.

        Args:
            optimizer: what has stepped.
            step: the open one, or one that has ended and may go on.
        """
        current, thread = self._current, self._thread
        forwards, end = current.fetches.evaluations - thread.forwards, thread.end
        thread.forwards, thread.end = current.fetches.evaluations, now()
        self._look_for_gradients(step)
        parameter = _first_parameter(optimizer)
        again = parameter in thread.parameters
        thread.parameters.add(parameter)
        if self._border.unsure is not None and self._border.optimizer_steps():
            if not current.by_hand:  # else it is in an evaluation
                current.index += 1  # of a step that is not recorded
            return self._left(step) if again else step
        if (step is not None and not step.ended) or current.by_hand:
            return step
        if current.is_of_another_thread or current.recorder.local.state.stack:
            return step
        if not (again or (forwards and self._has_no_gradients)):
            return step
        thread.called.append(forwards)
        thread.bare = 0 if forwards else thread.bare + 1
        usual = min(thread.called)
        if forwards and usual:
            step = self._open(usual, forwards, end)
            thread.parameters.add(parameter)
            return step
        return self._left(step) if forwards or thread.bare > _MOST_BARE else step

    def _left(self, step: OpenStep | None) -> OpenStep | None:
        """Let nothing more be of `step`, if that has ended; return what is there then."""
        if step is not None and step.ended:
            self._current.hand_over()
        return self._current.step

    def forget(self) -> None:
        """Know of no update: a record is lost, and what was trained since the last with it."""
        thread = self._thread
        thread.lost = True
        thread.parameters.clear()
        thread.called.clear()

    def called_modules(self) -> bool:
        """Return whether this thread has called any outside steps since the last update."""
        return self._current.fetches.evaluations != self._thread.forwards

    def _look_for_gradients(self, step: OpenStep | None) -> None:
        """Forget whose parameters were updated before a step began or a backward ended since."""
        current, thread = self._current, self._thread
        if current.index != thread.index:
            thread.by_forwards = False
            thread.called.clear()
        elif step is None or step.backwards == thread.backwards:
            return
        thread.index = current.index
        thread.backwards = 0 if step is None else step.backwards
        thread.bare = 0
        thread.parameters.clear()

    @property
    def _has_no_gradients(self) -> bool:
        """Whether none of a backward can have been left for an update of other parameters than before."""
        never = self._current.last_index is None and not self._thread.lost
        return self._thread.by_forwards or (never and not compilation_metrics())

    def _open(self, usual: int, forwards: int, since: int) -> OpenStep:
        current, thread = self._current, self._thread
        taken = self._evaluations.take_last(usual, since)
        begin = current.optimizers.begin_with(taken[0].start if taken else now())
        if usual == forwards:  # nothing else was called since the step before
            current.pauses.straight_on = True
        step = self._opening.open(begin)
        step.roots = self._border.put_before(step, taken)
        if step.roots:
            step.record.micro_batches = micro_batches_of(step.roots)
        thread.index = current.index
        thread.backwards = thread.bare = 0
        thread.parameters.clear()
        thread.by_forwards = True
        return step


def _first_parameter(optimizer: Optimizer) -> int:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            return id(parameter)
    return id(optimizer)
