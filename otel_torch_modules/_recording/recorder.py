"""What sees modules and autograd: a wrapper around ``nn.Module.__call__`` and a hook of autograd nodes.

Why a wrapper and not torch's global forward hooks: a hook costs five times as much, does not see
``KeyboardInterrupt`` or a module that was compiled in place, and makes ``torch.compile`` warn. The wrapper returns
at once while Dynamo traces, so compiled graphs hold nothing of it.

A call that is made from no other module's call is a *root*: the :class:`Boundary` decides whether it is recorded.
Everything below a root only extends a list.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import update_wrapper
from itertools import count
from time import perf_counter_ns as now
from types import CodeType
from typing import Any

from torch import Tensor, nn
from torch import is_grad_enabled as grad_enabled
from torch.autograd.graph import Node
from torch.compiler import is_compiling, is_dynamo_compiling

from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._recording.backward_tasks import GraphTask, TaskEnd
from otel_torch_modules._recording.boundary import Boundary
from otel_torch_modules._recording.captures import attach_in_recompute, leaves_nodes_out, stops_at
from otel_torch_modules._recording.contents import lone_input, lone_result
from otel_torch_modules._recording.descriptions import describe_tensors
from otel_torch_modules._recording.dynamo import made_by_compiler
from otel_torch_modules._recording.marks import (
    input_nodes,
    is_view_of,
    node_before,
    output_nodes,
    view_node,
)
from otel_torch_modules._recording.modules.fqn import ModuleSites
from otel_torch_modules._recording.open_log import SLOTS_PER_MARK, OpenLog
from otel_torch_modules._recording.own_frames import leave_out
from otel_torch_modules._recording.root_call import call_root
from otel_torch_modules._recording.thread_state import KnownThreads, Threads, ThreadState
from otel_torch_modules._recording.torch_private import (
    attach_mark,
    current_node,
    graph_task_id,
    is_torch_call,
    queue_callback,
    sequence_number,
    torch_function_modes,
)
from otel_torch_modules._records import (
    EXIT,
    EXIT_BARE,
    MARK,
    NOTE,
    SPAN_ID,
    TASK,
    TASK_END,
    Detail,
    Record,
    Site,
)
from otel_torch_modules.config import Config

# Slots of a log that one span takes at least: half of the two events and the mark of a call.
_SLOTS_PER_SPAN = 8

_ROOT = Site("", "")  # at the bottom of a thread's stack while a root call runs


_NO_TASK = GraphTask(-1, -1, selective=False, into=OpenLog())


class Recorder:
    """Extends the log of the current record by what modules and autograd do.

    Args:
        config: which modules are recorded, how deep, how many.
    """

    boundary: Boundary
    """Told of root calls and backward passes; to be set before `install`."""

    record_shapes: Callable[[bool], None]
    """Record shapes from now on, or no more, whatever the options say; there is one when it is installed."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._log_limit = config.max_spans_per_step * _SLOTS_PER_SPAN
        self._original: Callable[..., Any] | None = None
        self._names: list[str] = []  # of what is wrapped
        self._codes: frozenset[CodeType] = frozenset()  # of our frames around each call
        self._wrapper: Callable[..., Any] | None = None
        self.sites = ModuleSites(config.records_module)
        self._shared = OpenLog()  # of the open step
        self._tasks: dict[int, GraphTask] = {}  # by the engine's number; those that have not ended
        self._task = _NO_TASK  # that of the last mark
        self.threads = KnownThreads()
        """What is known of each thread that has called a module."""
        self._codes_of_threads = count()
        self._threads = Threads(self._new_thread)

    @property
    def thread(self) -> ThreadState:
        """The state of the thread that asks."""
        return self._threads.state

    def thread_code(self) -> int:
        """Return the code of the thread that asks."""
        return self._threads.state.code

    def code_of_thread(self, identifier: int) -> int:
        """Return the code of the thread with this identifier; -1 where it has called no module."""
        state = self.threads.get(identifier)
        return -1 if state is None else state.code

    @property
    def record(self) -> Record | None:
        """The step that is recorded."""
        return self._shared.record

    @property
    def log(self) -> list[Any] | None:
        """Its log."""
        return self._shared.log

    def _new_thread(self) -> ThreadState:
        code = next(self._codes_of_threads)
        state = ThreadState(code, self.make_mark(code), self._shared, self.fail)
        self.threads.add(state)
        return state

    def write_to(self, record: Record | None) -> None:
        """Record into the step `record` from now on, or nothing where it is None: what no thread has as its own."""
        self._shared.turn_to(record)

    def install(self) -> None:
        """Wrap ``nn.Module.__call__``, by all of its names: pickle looks a function up by the one that it was given."""
        self._original = original = nn.Module.__call__
        self._names = [name for name, value in vars(nn.Module).items() if value is original]
        wrapper = self.wrapper_of(original)
        for name in self._names:
            setattr(nn.Module, name, wrapper)

    def wrapper_of(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Return `original`, which calls a module, with recording around it. One only is at work."""
        self._wrapper = self._wrap(original)
        return self._wrapper

    def uninstall(self) -> None:
        """Undo `install`. Where somebody has wrapped our wrapper since, it stays and only passes calls on."""
        for name in self._names:
            if getattr(nn.Module, name) is self._wrapper:
                setattr(nn.Module, name, self._original)
        self._wrapper = None
        self.write_to(None)
        self.settle()
        self.forget_tasks()
        self.sites.clear()

    def _wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        # The hot path, in two functions: a frame takes time for each name in it, and the calls of a step that is left
        # out come no further than to the first one. Names are bound here so that each is one load; the order is that
        # of the cost.
        threads = self._threads
        site_of = self.sites.by_id.get
        add_site = self.sites.add
        died = self.sites.died
        bury = self.sites.bury
        calls_impl = is_torch_call(original)
        log_limit = self._log_limit
        max_depth = self._config.max_depth or sys.maxsize
        record_shapes = self._config.record_shapes

        def turn_shapes(on: bool) -> None:
            nonlocal record_shapes  # what a call looks at is as near as it can be
            record_shapes = on or self._config.record_shapes

        self.record_shapes = turn_shapes

        def __call__(module: nn.Module, /, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
            if is_dynamo_compiling():
                return original(module, *args, **kwargs)
            state = threads.state
            if state.stack is None:
                if calls_impl and module._compiled_call_impl is None:
                    if kwargs:
                        return module._call_impl(*args, **kwargs)  # type: ignore[no-untyped-call]
                    return module._call_impl(*args)  # type: ignore[no-untyped-call]
                return original(module, *args, **kwargs)
            if is_compiling():
                return original(module, *args, **kwargs)
            if state.stack:
                return record_call(state, state.stack, module, args, kwargs)
            if self._wrapper is None:
                return original(module, *args, **kwargs)
            return self._root_call(__call__, original, module, args, kwargs)

        def record_call(
            state: ThreadState,
            stack: list[Site],
            module: nn.Module,
            args: tuple[Any, ...],
            kwargs: dict[str, Any],
        ) -> Any:
            into = state.into
            log = into.log
            try:
                if died:
                    bury()
                site = site_of(id(module)) or add_site(module, stack[-1])
                length = 0 if log is None else len(log)
                left_out = (
                    (not site.recorded and site.wrapper in (None, stack[-1]))
                    or log is None
                    or len(stack) > max_depth
                    or (length > log_limit and into.truncate())
                )
                if log is not None and not left_out:
                    first = sequence_number()
                    marking = length < into.marks_end or into.has_room()
                    if marking and grad_enabled():
                        alone = len(args) == 1 and not kwargs
                        given = args[0] if alone else lone_input(args, kwargs, site)
                        if type(given) is Tensor and not torch_function_modes():
                            # The last call's output may be a view made right after the node that was marked for it.
                            if first - state.last_output != 2 or not is_view_of(
                                given, state.last_output
                            ):
                                try:
                                    node = given.grad_fn
                                except RuntimeError as error:  # see `node_of`, a call more
                                    if is_interruption(error):
                                        raise
                                    node = None
                                if node is not None:
                                    number = node._sequence_nr()
                                    if number != state.last_input:
                                        state.last_input = number
                                        if number != state.last_output:
                                            state.attach(node, state.carrier)
                        else:
                            nodes = input_nodes(args, kwargs, site)
                            into.marks_end -= SLOTS_PER_MARK * len(nodes)
                            for node in nodes:
                                if node._sequence_nr() != state.last_output:
                                    state.attach(node, state.carrier)
                    stack.append(site)
                    training: Any = module.training
                    if record_shapes:
                        training = Detail(training, describe_tensors((args, kwargs)))
                    log.extend((site, state.code, first, now(), training))
            except BaseException:
                if self._call_fails(module, "at the start of a module's call"):
                    raise
                left_out = True
            if log is None or left_out:  # not above: the program's errors are none of ours
                return original(module, *args, **kwargs)

            try:
                if calls_impl and module._compiled_call_impl is None:
                    output = module._call_impl(*args, **kwargs)  # type: ignore[no-untyped-call]
                else:
                    output = original(module, *args, **kwargs)
            except BaseException as error:
                state.leave_by_exception(log, stack, error)
                raise

            try:
                end = now()
                tag = EXIT_BARE
                last = sequence_number()
                if not marking:
                    tag = EXIT
                    into.truncate()
                elif last != first:  # else no node was made in here: there is nothing to mark
                    result = output if type(output) is Tensor else lone_result(output, site)
                    if type(result) is Tensor and not torch_function_modes():
                        is_view = result._is_view()
                        node = view_node(result, first, site) if is_view else result.grad_fn
                        if node is not None:
                            tag = EXIT
                            # An input that went through an operation in place, unless it is such a view.
                            if (
                                is_view
                                and args
                                and result is args[0]
                                and first - state.last_output > 2
                            ):
                                into.marks_end -= SLOTS_PER_MARK
                                before = node_before(node, first)
                                if before is not None:
                                    attach_mark(before, state.carrier)
                            number = node._sequence_nr()
                            if number != state.last_output:
                                state.last_output = number
                                state.attach(node, state.carrier)
                    else:
                        nodes = output_nodes(output, first, site)
                        into.marks_end -= SLOTS_PER_MARK * len(nodes)
                        for node in nodes:
                            tag = EXIT
                            state.attach(node, state.carrier)
                            state.last_output = node._sequence_nr()
                log.extend(
                    (
                        tag,
                        state.code,
                        last,
                        end,
                        Detail(None, describe_tensors(output)) if record_shapes else None,
                    )
                )
                if state.minted:
                    state.minted.pop(len(stack), None)
                stack.pop()
            except BaseException:
                if self.fail("at the end of a module's call"):
                    raise
            return output

        self._codes = frozenset({__call__.__code__, record_call.__code__, call_root.__code__})
        update_wrapper(__call__, original)
        return __call__

    def make_mark(self, thread_code: int) -> Callable[[Any], None]:
        """Return the hook of the nodes that the thread with this code makes."""

        def mark(_: Any) -> None:
            if is_compiling():  # compiled autograd traces through hooks
                return
            time = now()
            try:
                number = graph_task_id()
                task = self._task
                if number != task.number:
                    task = self._enter_task(number, time)
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

    def _root_call(
        self,
        wrapper: Callable[..., Any],
        original: Callable[..., Any],
        module: nn.Module,
        args: Any,
        kwargs: Any,
    ) -> Any:
        state = self._threads.state
        task, graph = -1, False
        opened = around = site = None
        try:
            if self._tasks:
                self.settle()
            task = graph_task_id()
            graph = made_by_compiler(module)
            if graph and task == -1:
                recorded = False
            elif task == -1:
                state.own = None
                around = self.sites.running(module)
                if around is not None:  # a part of what another thread calls
                    into = around
                    recorded = into.log is not None and not into.phases_only
                else:
                    recorded = self.boundary.root_opens(module)
                    into = state.own or self._shared
                    if recorded and into.phases_only:
                        site = self.sites.root(module)
                    elif recorded:
                        opened = self.sites.open(module)
                        opened.callers[state.code] = into
                state.into = into
            else:  # a forward inside a backward: recompute
                entered = self._task
                if task != entered.number:
                    entered = self._enter_task(task, now())
                state.into = into = entered.into
                recorded = into.log is not None and not into.phases_only
                recorded = recorded and not graph  # else a compiled backward
        except BaseException:
            if self._call_fails(module, "at the start of a root module's call"):
                raise
            if not _is_made(module):
                return original(module, *args, **kwargs)
            recorded = False
        state.stack = [_ROOT] if recorded and site is None else None
        state.attach = attach_mark if task == -1 else attach_in_recompute
        failed = True
        try:
            if site is not None:
                output = call_root(state, site, original, module, args, kwargs)
            else:
                output = (wrapper if recorded else original)(module, *args, **kwargs)
            failed = False
            return output
        except BaseException as error:
            self._leave_us_out(error)
            raise
        finally:
            state.stack = []
            state.attach = attach_mark
            state.raised = 0
            if opened is not None:
                opened.callers.pop(state.code, None)
            if state.minted:
                state.minted.clear()
            if task == -1 and not graph and around is None:
                try:
                    if self._tasks:
                        self.settle()
                    self.boundary.root_closes(failed)
                except BaseException:
                    if self.fail("at the end of a root module's call"):
                        raise

    def _leave_us_out(self, error: BaseException) -> None:
        try:
            leave_out(self._codes, error)
        except BaseException:
            if self.fail("where a root module's call raised"):
                raise

    def _enter_task(self, number: int, time: int) -> GraphTask:
        if self._tasks:
            self.settle()
        known = self._tasks.get(number)
        if known is not None:
            self._task = known
            return known
        state = self._threads.state
        if (state.own or self._shared).log is None:
            return _NO_TASK
        self.boundary.task_opens()
        into = state.own or self._shared
        node: Node | None = current_node()  # None while a compiled or distributed backward runs
        code = 0
        if self._tasks:
            taken = {other.code for other in list(self._tasks.values()) if other.into is into}
            code = next(code for code in count() if code not in taken)
        # With phases only there are so few marks that each is asked for itself.
        selective = node is not None and (into.phases_only or leaves_nodes_out(node))
        self._task = self._tasks[number] = entered = GraphTask(number, code, selective, into)
        end = TaskEnd(
            lambda: self._task_ran(entered),
            lambda: self._leave_task(entered),
            lambda: self.fail("at the end of backward"),
        )
        queue_callback(end)
        log = into.log
        if log is not None:
            log.extend((TASK, state.code, code, time, state.code_if_python))
        # Where recompute is all that is left it may be ended early, in the middle of a backward inside
        # it. An error that is one ends the backward around it too.
        entered.watch(end, state.code, log, expected=state.attach is attach_in_recompute)
        return entered

    def _task_ran(self, task: GraphTask) -> None:
        log = task.into.log
        if log is not None:
            log.extend((TASK_END, self._threads.state.code, task.code, now(), None))

    def _leave_task(self, task: GraphTask) -> None:
        """Take note that the graph task came to its end."""
        known = self._tasks.pop(task.number, None)
        time = now()
        log = task.into.log
        if log is not None and known is not None:
            log.extend((TASK_END, self._threads.state.code, task.code, time, True))
        self._end_task(task, time, failed=False)

    def settle(self) -> None:
        """Take note of the graph tasks that were given up: that was written down, but nobody told."""
        for number, task in list(self._tasks.items()):
            if task.given_up and self._tasks.pop(number, None) is not None:
                self._end_task(task, task.given_up_at, failed=not task.expected)

    def _end_task(self, task: GraphTask, time: int, failed: bool) -> None:
        if self._task is task:
            self._task = _NO_TASK
        if task.into.of_step:
            self.boundary.task_closes(time, failed=failed)

    def forget_tasks(self) -> None:
        """Write nothing of the graph tasks that run: what comes is another record's, or another process's."""
        self._tasks.clear()

    @property
    def runs_backward(self) -> bool:
        """Whether a graph task runs, in whatever thread."""
        return any(not task.given_up for task in list(self._tasks.values()))

    def span_id(self, record: Record) -> int:
        """Return the id of the innermost open span of `record` in this thread: see :class:`OpenSpan`."""
        state = self._threads.state
        depth = 2 if state.root_only else len(state.stack or ())
        log = state.into.log
        if record is not state.into.record or log is None or depth < 2:  # the bottom is not a call
            return record.span_id
        minted = state.minted.get(depth)
        if minted is None:
            minted = state.minted[depth] = int.from_bytes(os.urandom(8), "big") or 1
            log.extend((SPAN_ID, state.code, minted, now(), None))
        return minted

    def note(self, record: Record, method: str, arguments: tuple[Any, ...]) -> None:
        """Keep what the program says of the innermost open span: see :class:`OpenSpan`."""
        state = self._threads.state
        log = state.into.log
        if record is not state.into.record or log is None:
            log = record.log
        log.extend((NOTE, state.code, method, now(), arguments))

    def _call_fails(self, module: object, where: str) -> bool:
        """See `fail`: but that somebody calls what is no module, or not made yet, is the program's error."""
        error = sys.exc_info()[1]
        assert error is not None
        return (_is_made(module) or is_interruption(error)) and self.fail(where)

    def fail(self, where: str) -> bool:
        """Drop the record that is open in this thread for the exception that is being handled, and return whether to
        raise it: it is the program's where it came from a signal handler that struck in here, else it is ours.
        """
        error = sys.exc_info()[1]
        assert error is not None
        try:
            state = self._threads.state
            into = state.own or self._shared
            into.record = into.log = None
            self._task = _NO_TASK
            self._tasks = {n: task for n, task in self._tasks.items() if task.into is not into}
            state.last_input = state.last_output = -1
            self.sites.clear()  # some may be half known
            self.boundary.lose(error, where)
        except Exception as another:
            if is_interruption(another):
                raise
        return is_interruption(error)


def _is_made(module: object) -> bool:
    """Return whether `module` is a module whose ``nn.Module.__init__`` ran; calling another is the program's error."""
    return isinstance(module, nn.Module) and hasattr(module, "training")
