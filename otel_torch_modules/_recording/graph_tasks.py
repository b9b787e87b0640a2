"""What is recorded of backward: the nodes with a mark that it comes to, and where each graph task begins and ends."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from time import perf_counter_ns as now
from typing import Any

from torch.autograd.graph import Node
from torch.compiler import is_dynamo_compiling

from otel_torch_modules._events import MARK, TASK, TASK_END
from otel_torch_modules._recording.backward_tasks import GraphTask
from otel_torch_modules._recording.boundary import Boundary
from otel_torch_modules._recording.captures import leaves_nodes_out, stops_at
from otel_torch_modules._recording.open_log import OpenLog
from otel_torch_modules._recording.thread_state import Threads
from otel_torch_modules._recording.torch_private.autograd import (
    current_node,
    graph_task_id,
    queue_callback,
    runs_compiled_backward,
)

_NO_TASK = GraphTask(-1, -1, True, OpenLog(), (TASK, -1, -1, 0, None))


class GraphTasks:
    """Writes down graph tasks, each into the log that is open where it begins.

    Args:
        shared: the log of the open step.
        fail: tells of an error of ours.
    """

    local: Threads
    """The state of the thread that asks; to be set before the first mark, as what follows."""

    boundary: Boundary
    """Told of those that begin and end."""

    def __init__(self, shared: OpenLog, fail: Callable[[str], bool]) -> None:
        self._shared = shared
        self.fail = fail  # see `Recorder.fail`
        self.open: dict[int, GraphTask] = {}
        """By the engine's number; those that have not ended, as far as anybody has looked."""
        self._last = _NO_TASK  # that of the last mark
        self._ended = -1  # the engine's number of the last that has; it may not be through with it

    def make_mark(self, thread_code: int) -> Callable[[Any], None]:
        """Return the hook of the nodes that the thread with this code makes."""

        def mark(_: Any) -> None:
            if is_dynamo_compiling():  # compiled autograd traces through hooks
                return
            time = now()
            try:
                number = graph_task_id()
                task = self._last
                if number != task.number:
                    task = self._enter(number, time)
                    time = max(time, task.began)  # where a signal handler was first
                log = task.into.log
                if log is None:
                    return
                node = current_node()  # None in distributed autograd, whose engine does not say
                if node is not None and not (task.selective and stops_at(node)):
                    log.extend((MARK, thread_code, node._sequence_nr(), time, task.code))
            except BaseException:
                if self.fail("in backward"):
                    raise

        return mark

    def running(self, number: int) -> GraphTask:
        """Return the task that runs in this thread, to which the engine has given this number."""
        task = self._last
        return task if task.number == number else self._enter(number, now())

    def _enter(self, number: int, time: int) -> GraphTask:
        if self.open:
            self.settle()
        known = self.open.get(number)
        if known is not None:
            return self._turn_to(known)
        if number == self._ended:
            return _NO_TASK
        state = self.local.state
        if (state.own or self._shared).log is None:
            return _NO_TASK
        self.boundary.task_opens()
        into = state.own or self._shared
        node: Node | None = current_node()  # None while a compiled or distributed backward runs
        code = 0
        if self.open:
            taken = {other.code for other in list(self.open.values()) if other.into is into}
            code = next(code for code in count() if code not in taken)
        accumulates = node is None or not leaves_nodes_out(node)
        begin = (TASK, state.code, code, time, state.code_if_python)
        entered = GraphTask(number, code, accumulates, into, begin)
        # A signal handler that has called a module in here, or another thread, was first.
        known = self._turn_to(self.open.setdefault(number, entered))
        if known is not entered:
            return known
        end = partial(self._ran, entered)
        queue_callback(end)
        log = into.log
        if log is not None and into.stamps is not None and not code:
            into.stamps.put(time, into.stamps.take())
        # Where recompute is all that is left it may be ended early, in the middle of a backward inside
        # it. An error that is one ends the backward around it too.
        early = state.attach is state.attach_in_recompute
        compiled = node is None and runs_compiled_backward()
        entered.watch(end, state.code, log, expected=early or compiled)
        return entered

    def compiled_fails(self, number: int) -> None:
        """Take note that an exception leaves the graph which is all of a backward, or a part of it."""
        task = self.open.get(number)
        if task is not None:
            task.fails()

    def _turn_to(self, task: GraphTask) -> GraphTask:
        log = task.into.log
        if log is not None:
            log.extend(task.begin)
        self._last = task
        return task

    def _ran(self, task: GraphTask) -> None:
        try:
            # Callbacks run in the order in which they were queued, also those queued meanwhile: now
            # the wait of DistributedDataParallel for its all-reduce comes before the end, not after it.
            queue_callback(partial(self._leave, task))
            log = task.into.log
            if log is not None:
                log.extend((TASK_END, self.local.state.code, task.code, now(), None))
        except BaseException:
            if self.fail("at the end of backward"):
                raise

    def _leave(self, task: GraphTask) -> None:
        """Take note that the graph task came to its end."""
        try:
            self._ended = task.number
            known = self.open.pop(task.number, None)
            time = now()
            log = task.into.log
            if log is not None and known is not None:
                log.extend((TASK_END, self.local.state.code, task.code, time, True))
                if task.into.stamps is not None and not task.code:
                    task.into.stamps.backward_ended(time)
            self._end(task, time, failed=False)
        except BaseException:
            if self.fail("at the end of backward"):
                raise

    def settle(self) -> None:
        """Take note of the graph tasks that were given up: that was written down, but nobody told."""
        for number, task in list(self.open.items()):
            if task.given_up and self.open.pop(number, None) is not None:
                self._end(task, task.given_up_at, failed=not task.expected)

    def _end(self, task: GraphTask, time: int, failed: bool) -> None:
        if self._last is task:
            self._last = _NO_TASK
        record = task.into.record
        if record is None or record.kind == "step":  # no evaluation's
            self.boundary.task_closes(time, failed, task.accumulates)

    def forget(self) -> None:
        """Write nothing of the graph tasks that run: what comes is another record's, or another process's."""
        self.open.clear()

    @property
    def any_runs(self) -> bool:
        """Whether a graph task runs, in whatever thread."""
        return any(not task.given_up for task in list(self.open.values()))

    def drop(self, into: OpenLog) -> None:
        """Write nothing of those that write to `into`: what they have written is lost."""
        self._last = _NO_TASK
        self.open = {number: task for number, task in self.open.items() if task.into is not into}
