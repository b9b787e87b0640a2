"""Puts a wrapper around ``nn.Module.__call__``, and calls the modules that no other calls.

Why a wrapper and not torch's global forward hooks: a hook costs five times as much, does not see
``KeyboardInterrupt`` or a module that was compiled in place, and makes ``torch.compile`` warn. The wrapper returns
at once while Dynamo traces, so compiled graphs hold nothing of it.

A call that is made from no other module's call is a *root*: the :class:`Boundary` decides whether it is recorded.
Everything below a root only extends a list: `module_call.py`. What backward does is `graph_tasks.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import count
from os import urandom
from time import perf_counter_ns as now
from types import CodeType
from typing import Any

from torch import nn

from otel_torch_modules._events import NOTE, SPAN_ID, WIDTH
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._notes import Notes
from otel_torch_modules._recording.boundary import Boundary
from otel_torch_modules._recording.dynamo import made_by_compiler
from otel_torch_modules._recording.graph_tasks import GraphTasks
from otel_torch_modules._recording.module_call import wrapper_around
from otel_torch_modules._recording.modules.fqn import ModuleSites
from otel_torch_modules._recording.modules.mode import is_made
from otel_torch_modules._recording.open_log import OpenLog
from otel_torch_modules._recording.own_frames import leave_out
from otel_torch_modules._recording.root_call import call_root
from otel_torch_modules._recording.thread_state import KnownThreads, Threads, ThreadState
from otel_torch_modules._recording.torch_private.autograd import RECOMPUTED, graph_task_id
from otel_torch_modules._records import Record
from otel_torch_modules._site import Site
from otel_torch_modules.config import Config

_ROOT = Site("", "")  # at the bottom of a thread's stack while a root call runs


class Recorder:
    """Extends the log of the current record by what modules and autograd do.

    Args:
        config: which modules are recorded, how deep, how many.
    """

    record_shapes: Callable[[bool], None]
    """Record shapes from now on, or no more, whatever the options say; there is one when it is installed."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._original: Callable[..., Any] | None = None
        self._names: list[str] = []  # of what is wrapped
        self._codes: frozenset[CodeType] = frozenset()  # of our frames around each call
        self._wrapper: Callable[..., Any] | None = None
        self.sites = ModuleSites(config.records_module)
        self.step = OpenLog()
        """What is recorded of the open step."""
        self.tasks = GraphTasks(self.step, self.fail)
        """The backward passes that run."""
        self.threads = KnownThreads()
        """What is known of each thread that has called a module."""
        self._codes_of_threads = count()
        self.local = self.tasks.local = Threads(self._new_thread)
        """The state of the thread that asks."""

    @property
    def boundary(self) -> Boundary:
        """Told of root calls and backward passes; to be set before `install`."""
        return self._boundary

    @boundary.setter
    def boundary(self, boundary: Boundary) -> None:
        self._boundary = self.tasks.boundary = boundary

    def thread_code(self) -> int:
        """Return the code of the thread that asks."""
        return self.local.state.code

    def code_of_thread(self, identifier: int) -> int:
        """Return the code of the thread with this identifier; -1 where it has called no module."""
        state = self.threads.get(identifier)
        return -1 if state is None else state.code

    def _new_thread(self) -> ThreadState:
        code = next(self._codes_of_threads)
        state = ThreadState(code, self.tasks.make_mark(code), self.step, self.fail)
        self.threads.add(state)
        return state

    def install(self) -> None:
        """Wrap ``nn.Module.__call__``, by all of its names: pickle looks a function up by the one that it was given."""
        self._original = original = nn.Module.__call__
        self._names = [name for name, value in vars(nn.Module).items() if value is original]
        wrapper = self.wrapper_of(original)
        for name in self._names:
            setattr(nn.Module, name, wrapper)

    def wrapper_of(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Return `original`, which calls a module, with recording around it. One only is at work."""
        self._wrapper, codes, self.record_shapes = wrapper_around(
            original,
            self._config,
            self.local,
            self.sites,
            self._root_call,
            self.part_fails,
            self.part_call_fails,
        )
        self._codes = codes | {call_root.__code__}
        return self._wrapper

    def uninstall(self) -> None:
        """Undo `install`. Where somebody has wrapped our wrapper since, it stays and only passes calls on."""
        for name in self._names:
            if getattr(nn.Module, name) is self._wrapper:
                setattr(nn.Module, name, self._original)
        self._wrapper = None
        self.step.turn_to(None)
        self.tasks.settle()
        self.tasks.forget()
        self.sites.clear()

    def _root_call(
        self,
        wrapper: Callable[..., Any],
        original: Callable[..., Any],
        module: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        if self._wrapper is None:  # taken off, where somebody had wrapped it since
            return original(module, *args, **kwargs)
        tasks = self.tasks
        state = self.local.state
        task, graph = -1, False
        opened = around = site = begun = None
        try:
            if tasks.open:
                tasks.settle()
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
                    recorded = self._boundary.root_opens(module, args, kwargs)
                    into = state.own or self.step
                    if recorded and into.phases_only:
                        site = self.sites.root(module)
                    elif recorded:
                        opened = self.sites.open(module)
                        opened.callers[state.code] = into
                    if into.stamps is not None and into.log is not None and recorded:
                        begun = into.stamps.forward_begins(into.log)
                state.into = into
            else:  # a forward inside a backward: recompute
                state.into = into = tasks.running(task).into
                recorded = into.log is not None and not into.phases_only
                recorded = recorded and not graph  # else a compiled backward
        except BaseException:
            if self.call_fails(module, "at the start of a root module's call"):
                raise
            if not is_made(module):
                return original(module, *args, **kwargs)
            recorded = False
        state.stack = [_ROOT] if recorded and site is None else None
        state.attach = state.attach_mark if task == -1 else state.attach_in_recompute
        failed = True
        try:
            if site is not None:
                output = call_root(state, site, original, module, args, kwargs)
            else:
                output = (wrapper if recorded else original)(module, *args, **kwargs)
            failed = False
            return output
        except BaseException as error:
            if graph:
                tasks.compiled_fails(task)
            self._leave_us_out(error)
            raise
        finally:
            state.stack = []
            state.attach = state.attach_mark
            state.raised = 0
            if opened is not None:
                opened.callers.pop(state.code, None)
            if state.minted:
                state.minted.clear()
            if state.marked:
                state.marked.clear()
            if task == -1 and not graph and around is None:
                try:
                    if tasks.open:
                        tasks.settle()
                    if begun is not None and state.into.stamps is not None:
                        state.into.stamps.forward_ended(begun, state.code)
                    self._boundary.root_closes(failed)
                except BaseException:
                    if self.fail("at the end of a root module's call"):
                        raise

    def _leave_us_out(self, error: BaseException) -> None:
        try:
            if not isinstance(error, RECOMPUTED):  # torch takes that one, and nobody sees it
                leave_out(self._codes, error)
        except BaseException:
            if self.fail("where a root module's call raised"):
                raise

    def region_log(self) -> tuple[list[Any] | None, int, bool, bool]:
        """Return the log into which a compiled region is written that runs now in this thread, None where it is not,
        the code of the thread, whether it is in a backward, and whether it is in a module's call or a backward.
        """
        state = self.local.state
        task = graph_task_id()
        in_backward, in_call = task != -1, task != -1 or bool(state.stack)
        into = self.tasks.running(task).into if in_backward else state.into
        if not in_call:  # a compiled function, unless it is in a root call that is left out
            into = self.step
        log = into.log
        if log is None or into.phases_only or (not in_call and state.stack is None):
            return None, state.code, in_backward, in_call
        if len(log) > self._config.max_spans_per_step * WIDTH:
            into.truncate()
            return None, state.code, in_backward, in_call
        return log, state.code, in_backward, in_call

    def span_id(self, record: Record) -> int:
        """Return the id of the innermost open span of `record` in this thread: see :class:`OpenSpan`."""
        state = self.local.state
        depth = 2 if state.root_only else len(state.stack or ())
        log = state.into.log
        if record is not state.into.record or log is None or depth < 2:  # the bottom is not a call
            return record.span_id
        minted = state.minted.get(depth)
        if minted is None:
            minted = state.minted[depth] = int.from_bytes(urandom(8), "big") or 1
            log.extend((SPAN_ID, state.code, minted, now(), None))
        return minted

    def note(self, record: Record, method: str, arguments: tuple[Any, ...]) -> None:
        """Keep what the program says of the innermost open span: see :class:`OpenSpan`."""
        state = self.local.state
        log = state.into.log
        if record is not state.into.record or log is None:
            log = record.log
        time = now()
        last = log[-WIDTH:]
        if last[:2] != [NOTE, state.code]:
            log.extend((NOTE, state.code, method, time, arguments))
            return
        if type(last[-1]) is Notes:
            last[-1].add(method, arguments, time)
            return
        notes = Notes()
        notes.add(method, arguments, time)
        log.extend((NOTE, state.code, None, time, notes))

    def call_fails(self, module: object, where: str) -> bool:
        """See `fail`: but that somebody calls what is no module, or not made yet, is the program's error."""
        return _is_no_error_of(module) and self.fail(where)

    def part_fails(self, where: str) -> bool:
        """See `fail`: but where the program's stack is full a span may be missing, and no more."""
        error = sys.exc_info()[1]
        if not isinstance(error, RecursionError) or is_interruption(error):
            return self.fail(where)
        self.local.state.into.truncate()
        self.sites.clear()  # some may be half known
        return False

    def part_call_fails(self, module: object, where: str) -> bool:
        """See `call_fails` and `part_fails`."""
        return _is_no_error_of(module) and self.part_fails(where)

    def fail(self, where: str) -> bool:
        """Drop the record that is open in this thread for the exception that is being handled, and return whether to
        raise it: it is the program's where it came from a signal handler that struck in here, else it is ours.
        """
        error = sys.exc_info()[1]
        assert error is not None
        try:
            state = self.local.state
            into = state.own or self.step
            into.record = into.log = into.stamps = None
            into.in_full = False
            self.tasks.drop(into)
            state.last_input = state.last_output = state.returned_at = -1
            self.sites.clear()  # some may be half known
            self._boundary.lose(error, where)
        except BaseException as another:
            if is_interruption(another):
                raise
        return is_interruption(error)


def _is_no_error_of(module: object) -> bool:
    """Return whether the exception that is being handled came up though `module` may be called."""
    error = sys.exc_info()[1]
    assert error is not None
    return is_made(module) or is_interruption(error)
