"""The border between steps and evaluations, which hindsight moves: forwards go from the one side to the other.

A root forward is taken for a step's or an evaluation's when it begins; what follows may show that it was not. Here is
how its events get where they belong, and what is remembered of it for the next time.
"""

from __future__ import annotations

import weakref
from itertools import chain

import torch
from torch import nn

from otel_torch_modules._events import WIDTH
from otel_torch_modules._recording.admission import Admission
from otel_torch_modules._recording.loop.evaluation import Forward
from otel_torch_modules._recording.loop.open_optimizers import OpenOptimizers
from otel_torch_modules._recording.loop.open_step import OpenStep
from otel_torch_modules._recording.loop.root_forwards import RootForward
from otel_torch_modules._recording.modules.mode import in_training
from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._recording.wall_clock import clock_offset
from otel_torch_modules._records import Record
from otel_torch_modules._site import Site


class Border:
    """Takes forwards across, and knows modules that are trained though they are in no training mode.

    Args:
        recorder: goes on where it has written to what is moved.
        admission: whether evaluations are recorded, and where they go.
        optimizers: whose steps run.
    """

    def __init__(
        self, recorder: Recorder, admission: Admission, optimizers: OpenOptimizers
    ) -> None:
        self._recorder = recorder
        self._admission = admission
        self._optimizers = optimizers
        # Modules that backward came to though they were in no training mode, by id.
        self._trained: dict[int, weakref.ref[nn.Module]] = {}
        # Modules that are called in training mode and never trained, by id.
        self._idle: dict[int, weakref.ref[nn.Module]] = {}
        self.unsure: weakref.ref[nn.Module] | None = None
        """The module of the last forward outside any step, if that may have been trained."""

    # What is known of modules.

    def is_trained(self, module: nn.Module) -> bool:
        """Return whether a forward of `module` that begins now is one of training."""
        if not torch.is_grad_enabled():
            return False
        if module.__dict__.get("training") is True or in_training(module):
            return not self._idle or not _is_in(self._idle, module)
        return _is_in(self._trained, module)

    def passes(self, module: nn.Module) -> None:
        """Take note of a forward of `module` outside any step: what follows may show that it was trained."""
        self.unsure = weakref.ref(module) if torch.is_grad_enabled() else None

    def optimizer_steps(self) -> bool:
        """Return whether an optimizer's step shows that the last forward outside any step was trained."""
        if self.unsure is None:
            return False
        self._remember(self.unsure)
        return True

    def idles(self, module: weakref.ref[nn.Module]) -> None:
        """Take note that `module` was called in training mode again and again, and no backward came."""
        self._idle = _with(self._idle, module)

    def _remember(self, module: weakref.ref[nn.Module]) -> None:
        self._trained = _with(self._trained, module)
        self._idle.pop(id(module()), None)
        self.unsure = None

    # From evaluations to a step.

    def put_before(self, step: OpenStep, forwards: list[Forward]) -> list[RootForward]:
        """Let `step` begin with forwards that were outside it, behind the waits for data that it begins with.

        Return them as they are in it. What a closure has called is behind the beginning of its optimizer's step.
        """
        if not forwards:
            return []
        record = step.record
        place, roots = len(record.log), []
        for forward in forwards:
            begun = []
            if step.recorded and self._optimizers:
                thread = self._recorder.local.state.code
                begun = self._optimizers.begun_before(forward.start, thread)
                # The list itself: a call that is open goes on writing to it.
                forward.log[:0] = begun
            roots.append(RootForward(forward.module, forward.start, place + len(begun), 0))
            place += len(forward.log)
        record.start = min(record.start, forwards[0].start)
        if not step.recorded:
            return roots
        *closed, last = [forward.log for forward in forwards]
        last[:0] = [*record.log, *chain.from_iterable(closed)]
        record.log = last  # the list that a call which is open goes on writing to
        self._recorder.step.turn_to(record)
        return roots

    def open_with(self, step: OpenStep, forwards: list[Forward]) -> None:
        """Let `step` begin with forwards that a backward has come to, though nobody expected it to."""
        for root in self.put_before(step, forwards):
            step.roots.append(root)
            module = root.module()
            if module is not None and module is step.root:
                step.record.micro_batches += 1
                step.training = in_training(module)
                self._remember(root.module)

    # From a step to an evaluation.

    def give_back(self, forwards: list[Forward], last_step: int | None) -> None:
        """Record forwards that turned out to be none of a step's.

        Args:
            forwards: with their logs.
            last_step: the number of the step before; None where there has been none.
        """
        forwards = [forward for forward in forwards if forward.log]
        if not forwards or not self._admission.admits_evaluation(last_step):
            return
        if last_step is None:
            for forward in forwards:
                self._send([forward], None)
        else:
            self._send(forwards, last_step)

    def _send(self, forwards: list[Forward], last_step: int | None) -> None:
        record = Record("eval", last_step, forwards[0].start, clock_offset())
        if last_step is None:
            record.site = next(
                (tag for tag in forwards[0].log[::WIDTH] if isinstance(tag, Site)), None
            )
            if record.site is None:
                return
        if not self._admission.open_evaluation(record):
            return
        record.forwards = len(forwards)
        for forward in forwards:
            record.log += forward.log
        record.end = record.log[3 - WIDTH]
        self._admission.close(record)


_Known = dict[int, weakref.ref[nn.Module]]


def _is_in(known: _Known, module: nn.Module) -> bool:
    found = known.get(id(module))
    return found is not None and found() is module


def _with(known: _Known, module: weakref.ref[nn.Module]) -> _Known:
    """Return `known`, of modules that live, with one more."""
    alive = {id(one()): one for one in (*known.values(), module)}
    alive.pop(id(None), None)
    return alive
