"""Steps whose beginning and end the program says."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from time import perf_counter_ns as now
from typing import SupportsIndex

from otel_torch_modules._recording.cost.spending import Spending
from otel_torch_modules._recording.loop.current_step import CurrentStep
from otel_torch_modules._recording.loop.iterations import Iterations
from otel_torch_modules._recording.loop.open_step import OpenStep
from otel_torch_modules._recording.loop.step_number import LEAST, MOST, StepNumbers
from otel_torch_modules._recording.losses import Losses
from otel_torch_modules._recording.torch_private.compilation import dynamo_is_there
from otel_torch_modules._records import Record


class StepsByHand:
    """Opens and ends the current step where it is told to.

    Args:
        current: the step.
        spending: told of the time that this takes; None where there is no budget.
        iterations: know whether a compiled optimizer has stepped.
        losses: knows when to record nothing more.
        open_step: begins a step at a time (ns), with a number or the next.
    """

    def __init__(
        self,
        current: CurrentStep,
        spending: Spending | None,
        iterations: Iterations,
        losses: Losses,
        open_step: Callable[[int, int | None], OpenStep],
    ) -> None:
        self._current = current
        self._spending = spending
        self._iterations = iterations
        self._losses = losses
        self._open_step = open_step
        self._numbers = StepNumbers()

    def open(self, given: SupportsIndex | None) -> None:
        """Begin the step with the number that is `given`."""
        if self._losses.given_up:
            return
        start = now()
        current = self._current
        index = None
        try:
            index = (
                given
                if type(given) is int and LEAST <= given <= MOST
                else self._numbers.read(given)
            )
            step = self._open_step(start, index)
            # What runs inside a compiled function is not seen: that it is a step is known all the same.
            step.record.sent_bare = step.recorded and dynamo_is_there()
        except BaseException:
            if current.recorder.fail("where a step begins that is set by hand"):
                raise
            current.step = OpenStep(Record("step", index, now(), 0, lost=True), recorded=False)
        finally:
            if self._spending is not None:
                self._spending.spend(now() - start)

    def close(self, error: BaseException | None) -> None:
        """End it, by `error` where that leaves it."""
        start = now()
        current = self._current
        try:
            step = current.step
            if step is not None:
                if error is not None:
                    step.left_by(error)
                if self._iterations.looks_for_updates:
                    step.record.optimizer_compiled = self._iterations.was_updated(step, step.root)
            current.end = start
            current.hand_over()
        except BaseException:
            if current.recorder.fail("where a step ends that is set by hand"):
                raise
        finally:
            if self._spending is not None:
                self._spending.spend(now() - start)


class StepByHand(AbstractContextManager[None]):
    """Makes what happens inside one step. No generator: that costs as much as the opening of a step that is left out.

    Args:
        steps: opens and ends it.
        index: its number; None for the next.
    """

    def __init__(self, steps: StepsByHand, index: SupportsIndex | None) -> None:
        self._steps = steps
        self._index = index

    def __enter__(self) -> None:
        self._steps.open(self._index)

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._steps.close(error)
