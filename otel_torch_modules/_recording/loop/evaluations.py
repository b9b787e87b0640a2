"""Root forwards outside any step: evaluation, sampling, serving.

Those in a row of one thread are one record, an evaluation, which ends where that thread opens a step, after a pause or
where the program's own span changes. In a process that has never trained there is no telling what belongs together:
there each is a record by itself.

A forward may turn out to be training's: a backward comes to it though its module is not in training mode, or it is a
target network's, and the forward that is trained follows. So nothing is sent at once, and the last few can be taken
back.
"""

from __future__ import annotations

import threading
import weakref
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter_ns as now
from time import time_ns
from typing import Any

import torch
from torch import nn

from otel_torch_modules._recording.cost.spending import Spending
from otel_torch_modules._recording.interruption import is_interruption
from otel_torch_modules._recording.loop.fetches import Fetches, Wait, Waits
from otel_torch_modules._recording.losses import Losses
from otel_torch_modules._recording.open_log import OpenLog
from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._records import EXIT, WIDTH, Record, Site, StepContext
from otel_torch_modules.config import Config

PAUSE = 500_000_000
"""An evaluation ends when no forward has begun for so long (ns)."""

MOST_SPANS = 10_000
"""After so many module spans an evaluation has root forwards only, and after as many of these it counts them."""

_SLOTS_PER_SPAN = 2 * WIDTH


# How many forwards of a thread can be taken back, and how many that are records by themselves wait for that.
_MOST_HELD = 4


class Forward:
    """A root forward outside any step.

    Args:
        module: what was called.
        start: when.
        log: what it holds; filled in where it is taken back.
    """

    __slots__ = ("log", "module", "place", "start", "trainable")

    def __init__(self, module: weakref.ref[nn.Module], start: int, log: list[Any]) -> None:
        self.module = module
        self.start = start
        self.log = log
        self.place = 0
        """Where it begins in the log of its evaluation."""
        self.trainable = torch.is_grad_enabled()
        """A backward may come to it."""


class _Evaluation:
    """Root forwards in a row.

    Args:
        record: what is recorded of them.
        recorded: whether that is anything.
        waits: of the thread's loop for data, those that may be its own.
    """

    __slots__ = ("forwards", "into", "phases_only", "record", "recorded", "thread", "waits")

    def __init__(self, record: Record, recorded: bool, waits: Waits) -> None:
        self.record = record
        self.recorded = recorded
        self.phases_only = record.phases_only  # by the choice of ranks
        self.waits = waits
        self.into = OpenLog()
        self.thread = threading.get_ident()
        self.forwards: deque[Forward] = deque(maxlen=_MOST_HELD)  # the last ones


class _Thread(threading.local):
    """What there is in a thread. ``__init__`` runs once in each."""

    def __init__(self) -> None:
        self.open: _Evaluation | None = None  # the last of its forwards runs
        self.outside = False  # the root call that runs is outside any step
        self.last: _Evaluation | None = None  # the next forward may go on with it


class Evaluations:
    """Opens and closes records of root forwards outside any step.

    Args:
        config: whether evaluations are recorded, and beside which steps.
        recorder: records into what is opened here.
        context: makes a record the program's current span.
        submit: takes a finished record; must not block.
        losses: told of what an error of ours has cost.
        spending: decides how deep records go; None where there is no budget and all are full.
        fetches: the waits for data of each thread.
    """

    def __init__(
        self,
        config: Config,
        recorder: Recorder,
        context: StepContext,
        submit: Callable[[Record], object],
        losses: Losses,
        spending: Spending | None,
        fetches: Fetches,
    ) -> None:
        self._config = config
        self._recorder = recorder
        self._context = context
        self._submit = submit
        self._losses = losses
        self._spending = spending
        self._fetches = fetches
        self._thread = _Thread()
        # Those between two forwards, of all threads, the one that has waited longest first. Who removes one owns it.
        self._waiting: deque[_Evaluation] = deque()

    def root_opens(self, module: nn.Module, last_step: int | None) -> bool:
        """Return whether the root call of `module` that begins now is recorded.

        Args:
            module: what is called.
            last_step: the number of the last step; None where there has been none.
        """
        thread = self._thread
        thread.outside = True
        self._fetches.evaluation_begins()
        if not self._records(last_step):
            return False
        evaluation = self._last_that_goes_on()
        if evaluation is None:
            evaluation = self._begin(module, last_step)
        thread.open = evaluation
        record = evaluation.record
        record.forwards += 1
        if not evaluation.recorded:
            return False
        forward = Forward(weakref.ref(module), now(), [])
        forward.place = len(record.log)
        evaluation.forwards.append(forward)
        spans = forward.place // _SLOTS_PER_SPAN
        if spans >= MOST_SPANS:
            record.truncated = True
            if spans >= 2 * MOST_SPANS:
                forward.trainable = False
                return False
        record.phases_only = evaluation.phases_only
        if self._spending is not None:
            self._spending.set_depth_of_evaluation(record)
        into = evaluation.into
        into.turn_to(record)
        into.phases_only |= record.truncated
        self._recorder.thread.own = into
        self._context.attach(record)
        return True

    def _begin(self, module: nn.Module, last_step: int | None) -> _Evaluation:
        record = Record("eval", last_step, now(), time_ns() - now())
        if last_step is None:
            record.site = self._recorder.sites.root(module)
        recorded = self._context.open(record)
        return _Evaluation(record, recorded, self._fetches.begin_evaluation())

    def _records(self, last_step: int | None) -> bool:
        return "eval" in self._config.phases and self._config.schedule.records(last_step or 0)

    def _last_that_goes_on(self) -> _Evaluation | None:
        evaluation = self._reclaim()
        if evaluation is None:
            return None
        record = evaluation.record
        if record.site is not None:
            self._waiting.append(evaluation)
            return None
        if now() - record.end <= PAUSE and self._context.goes_on(record):
            return evaluation
        self._send(evaluation)
        return None

    def _reclaim(self) -> _Evaluation | None:
        """Return the last evaluation of this thread, unless it has been sent."""
        evaluation, self._thread.last = self._thread.last, None
        if evaluation is not None and evaluation.recorded:
            try:
                self._waiting.remove(evaluation)
            except ValueError:  # the worker has it
                return None
        return evaluation

    def root_closes(self, failed: bool) -> bool:
        """Return whether the root call that ends now in this thread is outside any step."""
        thread = self._thread
        evaluation = thread.open
        if evaluation is None:
            return thread.outside
        record, into = evaluation.record, evaluation.into
        record.end = now()
        record.failed |= failed
        log = record.log
        forward = evaluation.forwards[-1] if evaluation.forwards else None
        trainable = (
            forward is not None
            and forward.trainable
            and len(log) > forward.place
            and log[-WIDTH] is EXIT  # it made a graph
        )
        if forward is not None:
            forward.trainable = trainable
        if not trainable:
            self._recorder.thread.own = None
        if record.lost or not evaluation.recorded:
            thread.open = None
            if record.site is None and not record.lost:
                thread.last = evaluation
            return True
        self._context.detach(record)
        if self._spending is not None:
            events = 0 if forward is None else (len(log) - forward.place) // WIDTH
            self._spending.evaluation_closes(None if into.phases_only else events)
        thread.open = None  # from here on it is another's
        thread.last = evaluation
        self._waiting.append(evaluation)
        if record.site is not None:
            self._hold_few()
        return True

    def _hold_few(self) -> None:
        held = [one for one in list(self._waiting) if one.record.site is not None]
        for evaluation in held[:-_MOST_HELD]:
            with suppress(ValueError):
                self._waiting.remove(evaluation)
                self._send(evaluation)

    # What turns out to be a step's.

    def reached_by(self, number: int) -> list[Forward]:
        """Return the forwards that a backward which begins at this sequence number trains, and give them up.

        They are the last ones in a row that have a graph, the open one included.
        """
        thread = self._thread
        evaluation = thread.open or thread.last
        if evaluation is None or not evaluation.forwards:
            return []
        last = evaluation.forwards[-1]
        log = evaluation.record.log
        if not last.trainable or len(log) <= last.place or number < log[last.place + 2]:
            return []
        taken: list[Forward] = []
        if thread.open is not None:
            taken = [self._take_last(thread.open)]
            thread.open = None
            thread.outside = False
            if thread.last is not evaluation:
                self._keep(evaluation)
        return self._take(lambda forward: forward.trainable) + taken

    def leading_to(self, module: nn.Module, since: int) -> list[Forward]:
        """Return the last forwards of other modules that lead to that of `module`, and give them up.

        Args:
            module: whose forward opens a step.
            since: when the loop had the batch for it. Where that is not known, 0, none was called twice: an evaluation
                calls one module again and again.
        """
        called = [forward.module() for one in self._of_thread() for forward in one.forwards]

        def leads(forward: Forward) -> bool:
            other = forward.module()
            once = sum(one is other for one in called) == 1
            return other is not module and forward.start >= since and (once or since > 0)

        return self._take(leads)

    def _of_thread(self) -> list[_Evaluation]:
        return [one for one in list(self._waiting) if one.thread == threading.get_ident()]

    def _take(self, wanted: Callable[[Forward], bool]) -> list[Forward]:
        """Take the last forwards of this thread back, as long as they are `wanted`; return them in order."""
        taken: list[Forward] = []
        for evaluation in reversed(self._of_thread()):
            if not evaluation.forwards or not wanted(evaluation.forwards[-1]):
                break
            try:
                self._waiting.remove(evaluation)
            except ValueError:  # the worker has it
                break
            while evaluation.forwards and wanted(evaluation.forwards[-1]):
                taken.insert(0, self._take_last(evaluation))
            if self._keep(evaluation):
                break
        return taken

    def _take_last(self, evaluation: _Evaluation) -> Forward:
        forward = evaluation.forwards.pop()
        record = evaluation.record
        # The list itself: a call that is open goes on writing to it.
        forward.log, record.log = record.log, record.log[: forward.place]
        del forward.log[: forward.place]
        record.forwards -= 1
        record.end = min(record.end or forward.start, forward.start)
        evaluation.into = OpenLog()
        return forward

    def _keep(self, evaluation: _Evaluation) -> bool:
        """Let `evaluation`, of which forwards were taken, wait again; return whether there is anything left of it."""
        if evaluation.record.log:
            self._waiting.append(evaluation)
        elif self._thread.last is evaluation:
            self._thread.last = None
        return bool(evaluation.record.log)

    def adopt(self, forwards: list[Forward], last_step: int | None) -> None:
        """Record forwards that turned out to be none of a step's."""
        forwards = [forward for forward in forwards if forward.log]
        if not forwards or not self._records(last_step):
            return
        if last_step is None:
            for forward in forwards:
                self._adopt([forward], None)
        else:
            self._adopt(forwards, last_step)

    def _adopt(self, forwards: list[Forward], last_step: int | None) -> None:
        record = Record("eval", last_step, forwards[0].start, time_ns() - now())
        if last_step is None:
            record.site = next(
                (tag for tag in forwards[0].log[::WIDTH] if isinstance(tag, Site)), None
            )
            if record.site is None:
                return
        if not self._context.open(record):
            return
        record.forwards = len(forwards)
        for forward in forwards:
            record.log += forward.log
        record.end = record.log[3 - WIDTH]
        self._submit(record)

    # What stays here.

    def end(self) -> None:
        """End the evaluation of this thread: it opens a step, or an error of ours has cost a record."""
        self._recorder.thread.own = None
        self._thread.last = None
        for evaluation in self._of_thread():
            with suppress(ValueError):
                self._waiting.remove(evaluation)
                self._send(evaluation)

    def release(self) -> None:
        """Send off those between two forwards, of all threads."""
        with suppress(IndexError):
            while True:
                self._send(self._waiting.popleft())

    def release_idle(self) -> None:
        """Send off those that have waited for a while. Runs on the worker thread."""
        with suppress(IndexError, ValueError):  # a thread goes on with one meanwhile
            while now() - (evaluation := self._waiting[0]).record.end > PAUSE:
                self._waiting.remove(evaluation)
                self._send(evaluation)

    def _send(self, evaluation: _Evaluation) -> None:
        try:
            self._hand_over(evaluation)
        except BaseException as error:  # it costs no other record, such as the step that opens
            self._losses.add(error, "where an evaluation is handed over")
            if is_interruption(error):
                raise

    def _hand_over(self, evaluation: _Evaluation) -> None:
        evaluation.into.turn_to(None)
        record = evaluation.record
        if not evaluation.recorded or not record.log:
            return
        if record.site is None:
            waits = evaluation.waits.settled()
            if waits:
                record.start = min(record.start, waits[0].start)
                record.log = _with(waits, record)
        self._submit(record)

    def lose(self) -> bool | None:
        """Drop the record that is open in this thread; return whether it was not lost before, None where none is open.

        It stays open until its root call ends, so that nothing else is recorded inside.
        """
        thread = self._thread
        thread.last = None  # nothing goes on with it
        if thread.open is None:
            return None
        record = thread.open.record
        if not thread.open.recorded:
            return None
        known, record.lost = record.lost, True
        record.log = []
        self._context.detach(record)
        return not known

    def forget(self) -> None:
        """A root call begins in this thread: none is open, whatever became of the last."""
        self._thread.open = None
        self._thread.outside = False

    def abandon(self) -> None:
        """Drop what there is: it is another process's."""
        self._waiting.clear()
        self._thread.open = self._thread.last = None


def _with(waits: list[Wait], record: Record) -> list[Any]:
    """Return the log of `record` with `waits`, all in the order of time."""
    log = record.log
    times = log[3::WIDTH]
    merged: list[Any] = []
    place = 0
    for wait in waits:
        until = WIDTH * bisect_left(times, wait.start)
        merged += log[place:until]
        merged += wait.events(record)
        place = until
    return merged + log[place:]
