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
from collections.abc import Callable
from time import perf_counter_ns as now

from torch import nn

from otel_torch_modules._events import EXIT, WIDTH
from otel_torch_modules._recording.admission import Admission
from otel_torch_modules._recording.loop.evaluation import Evaluation, Forward
from otel_torch_modules._recording.loop.fetches import Fetches, Waits
from otel_torch_modules._recording.loop.held_evaluations import PAUSE, HeldEvaluations
from otel_torch_modules._recording.losses import Losses
from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._recording.wall_clock import clock_offset
from otel_torch_modules._records import Record

MOST_SPANS = 10_000
"""After so many module spans an evaluation has root forwards only, and after as many of these it counts them."""

_SLOTS_PER_SPAN = 2 * WIDTH


class _Thread(threading.local):
    """What there is in a thread. ``__init__`` runs once in each."""

    def __init__(self) -> None:
        self.open: Evaluation | None = None  # the last of its forwards runs
        self.outside = False  # the root call that runs is outside any step
        self.last: Evaluation | None = None  # the next forward may go on with it


class Evaluations:
    """Opens and closes records of root forwards outside any step.

    Args:
        recorder: records into what is opened here.
        admission: whether evaluations are recorded, and where they go.
        losses: told of what an error of ours has cost.
        fetches: the waits for data of each thread.
        hurry: returns what to call, in C, where the thread of one ends that has not been sent off.
    """

    def __init__(
        self,
        recorder: Recorder,
        admission: Admission,
        losses: Losses,
        fetches: Fetches,
        hurry: Callable[[], Callable[[object], None]],
    ) -> None:
        self._hurry = hurry
        self._recorder = recorder
        self._admission = admission
        self._fetches = fetches
        self._thread = _Thread()
        self.threads: set[int] = set()
        """Those with a forward outside any step since they opened one last: elsewhere there is nothing to ask for."""
        self._held = HeldEvaluations(admission, losses)

    def root_opens(self, module: nn.Module, last_step: int | None, begin: int) -> bool:
        """Return whether the root call of `module` that begins now is recorded.

        Args:
            module: what is called.
            last_step: the number of the last step; None where there has been none.
            begin: when an evaluation begins that this is the first forward of (ns).
        """
        self.threads.add(threading.get_ident())
        thread = self._thread
        thread.outside = True
        forwards_before = self._fetches.evaluation_begins()
        admission = self._admission
        admitted = admission.admits_evaluation(last_step)
        # Before the first step that is asked of it; after one they may turn out to lead to the next.
        if not admitted and (last_step is None or not admission.admits_evaluation(last_step + 1)):
            return False
        evaluation = self._last_that_goes_on()
        if evaluation is None:
            waits = self._fetches.begin_evaluation(forwards_before)
            evaluation = self._begin(module, last_step, begin, waits)
            evaluation.leads_only = not admitted
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
        admission.open_forward(record)
        into = evaluation.into
        into.turn_to(record)
        into.phases_only |= record.truncated
        self._recorder.local.state.own = into
        if not evaluation.leads_only:  # else what is current may never be sent
            admission.context.attach(record)
        return True

    def _begin(
        self, module: nn.Module, last_step: int | None, begin: int, waits: Waits
    ) -> Evaluation:
        record = Record("eval", last_step, begin, clock_offset())
        if last_step is None:
            record.site = self._recorder.sites.root(module)
        recorded = self._admission.open_evaluation(record)
        if record.parent is not None:  # a span of the program's, which has begun since
            record.start = now()
        # A thread that serves one request, and ends, is no end of a job.
        hurry = None if last_step is None else self._hurry()
        thread = weakref.ref(self._recorder.local.state, hurry)
        return Evaluation(record, recorded, waits, thread)

    def _last_that_goes_on(self) -> Evaluation | None:
        evaluation, self._thread.last = self._thread.last, None
        if evaluation is None:
            return None
        if evaluation.is_one_forward:
            self._held.put_last(evaluation)  # behind those that others have held meanwhile
            return None
        if evaluation.recorded and not self._held.take_back(evaluation):
            return None
        record = evaluation.record
        if now() - record.end <= PAUSE and self._admission.context.goes_on(record):
            return evaluation
        self._held.send(evaluation)
        return None

    @property
    def last_end(self) -> int:
        """When the last forward of this thread's last evaluation ended (ns); 0 where a step has come since."""
        last = self._thread.last
        return 0 if last is None else last.record.end

    def root_closes(self, failed: bool) -> bool:
        """Return whether the root call that ends now in this thread is outside any step."""
        thread = self._thread
        evaluation = thread.open
        if evaluation is None:
            return thread.outside
        record = evaluation.record
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
            self._recorder.local.state.own = None
        if record.lost or not evaluation.recorded:
            thread.open = None
            if not (evaluation.is_one_forward or record.lost):
                thread.last = evaluation
            return True
        self._admission.context.detach(record)
        events = 0 if forward is None else (len(log) - forward.place) // WIDTH
        self._admission.close_forward(None if evaluation.into.phases_only else events)
        thread.open = None  # from here on it is another's
        thread.last = evaluation
        self._held.hold(evaluation)
        return True

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
            taken = [evaluation.take_last()]
            thread.open = None
            thread.outside = False
            if evaluation.record.log:
                self._held.hold(evaluation)
        return self._held.take_forwards(lambda forward: forward.trainable) + taken

    def leading_to(
        self, module: nn.Module, since: int, is_trained: Callable[[nn.Module], bool]
    ) -> list[Forward]:
        """Return the last forwards of other modules that lead to that of `module`, and give them up.

        Args:
            module: whose forward opens a step.
            since: when the loop had the batch for it. Where that is not known, 0, none was called twice, for an
                evaluation calls one module again and again; and none that made no graph is trained itself, as the value
                network is that a rollout asks at its end.
            is_trained: says so of a module.
        """
        held = self._held.of_thread()
        if not held:
            return []
        called = [forward for one in held for forward in one.forwards]

        def leads(forward: Forward) -> bool:
            other = forward.module()
            if other is module or forward.start < since:
                return False
            if other is None and forward.calls_one_like(module):
                return False  # the model before this one
            graphs = [one for one in called if one.trainable or not forward.trainable]
            once = sum(forward.calls_the_same(one) for one in graphs) == 1
            trained = other is not None and not forward.trainable and is_trained(other)
            return since > 0 or (once and not trained)

        if held[0].has_earlier and all(leads(one) for one in called):
            return []  # so many lead nowhere
        return self._held.take_forwards(leads)

    def take_last(self, count: int, since: int) -> list[Forward]:
        """Return the last `count` forwards of this thread, of those since a time (ns), and give them up."""
        called = [forward for one in self._held.of_thread() for forward in one.forwards]
        wanted = [forward for forward in called[-count:] if forward.start >= since]
        return self._held.take_forwards(lambda forward: forward in wanted)

    # What stays here.

    def end(self) -> None:
        """End the evaluation of this thread: it opens a step, or an error of ours has cost a record."""
        self._recorder.local.state.own = None
        self._thread.last = None
        self._held.end_those_of_thread()
        if not self._thread.outside:  # else its root call may run, and ends as one that is outside
            self.threads.discard(threading.get_ident())

    def end_all(self) -> None:
        """Send off those between two forwards, of all threads."""
        self._held.end_all()

    def end_idle(self) -> None:
        """Send off those that have waited for a while, or whose thread is gone."""
        self._held.end_idle()

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
        self._admission.context.detach(record)
        return not known

    def forget(self) -> None:
        """A root call begins in this thread: none is open, whatever became of the last."""
        self._thread.open = None
        self._thread.outside = False

    def abandon(self) -> None:
        """Drop what there is: it is another process's."""
        self._held.abandon()
        self._thread.open = self._thread.last = None
